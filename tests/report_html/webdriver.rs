//! A browser without a window, driven over the WebDriver protocol on the loopback interface.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// A driver and its browser. Both end when this value is dropped, also after a failed assertion.
pub(crate) struct Browser {
    driver: Child,
    /// Kept open, because the driver writes to it.
    out: BufReader<ChildStdout>,
    port: u16,
    session: String,
}

impl Browser {
    /// Returns `None` if there is no chromedriver.
    pub(crate) fn start() -> Option<Self> {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let out = BufReader::new(driver.stdout.take().expect("the output is piped"));
        let mut browser = Self {
            driver,
            out,
            port: 0,
            session: String::new(),
        };
        while browser.port == 0 {
            let mut line = String::new();
            let read = browser.out.read_line(&mut line).unwrap_or_default();
            assert!(read > 0, "chromedriver ends without a port");
            if let Some((_, port)) = line.trim().split_once("started successfully on port ") {
                let port = port.trim_end_matches('.').parse();
                browser.port = port.unwrap_or_else(|_| panic!("no port: {line}"));
            }
        }
        let options = json!({
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        });
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = browser.call("POST", "/session", &wanted);
        let id = session["sessionId"].as_str();
        browser.session = id.unwrap_or_else(|| panic!("no session: {session}")).into();
        Some(browser)
    }

    /// Sends a command of the session to the driver, and returns the result.
    pub(crate) fn command(&self, path: &str, body: &Value) -> Value {
        self.call("POST", &format!("/session/{}{path}", self.session), body)
    }

    /// The value of a JavaScript expression.
    pub(crate) fn eval(&self, expression: &str) -> Value {
        let script = format!("return ({expression})");
        self.command("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Sends a command of the DevTools protocol to the browser.
    pub(crate) fn devtools(&self, command: &str, params: &Value) {
        let body = json!({"cmd": command, "params": params});
        self.command("/goog/cdp/execute", &body);
    }

    /// Presses keys.
    pub(crate) fn press(&self, keys: &str) {
        let actions = keys.chars().flat_map(|key| {
            let key = key.to_string();
            [
                json!({"type": "keyDown", "value": key}),
                json!({"type": "keyUp", "value": key}),
            ]
        });
        let actions: Vec<Value> = actions.collect();
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": actions});
        self.command("/actions", &json!({"actions": [keyboard]}));
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.request(method, path, body);
        let answer = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let value = answer["value"].clone();
        assert!(value["error"].is_null(), "{method} {path}: {value}");
        value
    }

    fn request(&self, method: &str, path: &str, body: &Value) -> std::io::Result<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let body = body.to_string();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
        }
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes)?;
        serde_json::from_slice(&bytes).map_err(std::io::Error::other)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            // Ends the browser. If there is no session, there is no browser.
            let path = format!("/session/{}", self.session);
            let _ = self.request("DELETE", &path, &json!({}));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
