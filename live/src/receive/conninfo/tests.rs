//! Connection strings: parsing and errors.

use super::*;

fn info(host: &str, port: u16, user: &str, application_name: &str, timeout_ms: u32) -> ConnInfo {
    ConnInfo {
        host: host.into(),
        port,
        user: user.into(),
        application_name: application_name.into(),
        connect_timeout_ms: timeout_ms,
        has_password: false,
    }
}

#[test]
fn both_forms_are_parsed() {
    for (text, expected) in [
        (
            "host=a port=1 user=b application_name=c connect_timeout=5",
            info("a", 1, "b", "c", 5000),
        ),
        (
            " host = '/tmp/with space'  port=1 user='it\\'s' connect_timeout=1 ",
            info("/tmp/with space", 1, "it's", "prog", 2000),
        ),
        (
            "host=a\\ b port=1 user=c dbname=ignored password=kept sslmode=prefer",
            info("a b", 1, "c", "prog", 0),
        ),
        (
            "host=a hostaddr=127.0.0.1 port=1 user=b connect_timeout=-3 application_name=''",
            info("127.0.0.1", 1, "b", "prog", 0),
        ),
        (
            "postgresql://b:secret@a:1/db?application_name=c&connect_timeout=7",
            info("a", 1, "b", "c", 7000),
        ),
        (
            "postgres://b@[::1]:1?fallback_application_name=c",
            info("::1", 1, "b", "c", 0),
        ),
        (
            "postgresql://b%40x@%2Ftmp:1",
            info("/tmp", 1, "b@x", "prog", 0),
        ),
    ] {
        let found = parse(text, "prog");
        let has_password = text.contains("password=") || text.contains(":secret@");
        let expected = ConnInfo {
            has_password,
            ..expected
        };
        assert_eq!(found, Ok(expected), "{text}");
    }
}

/// As in pg_receivewal, -h, -p and -U override the connection string. With these options the
/// connection string can be omitted.
#[test]
fn options_override_the_connection_string() {
    let options = [("host", "x"), ("port", "2"), ("user", "y")];
    for text in ["", "host=a port=1 user=b", "postgresql://b@a:1"] {
        let expected = Ok(info("x", 2, "y", "prog", 0));
        assert_eq!(parse_with(text, options, "prog"), expected, "{text}");
    }
    let error = parse_with("", [("port", "x")], "prog").expect_err("no number");
    let complaint = "invalid integer value \"x\" for connection option \"port\"";
    assert_eq!(error.to_string(), complaint);
}

#[test]
fn errors_are_those_of_libpq() {
    for (text, complaint) in [
        (
            "db1",
            "missing \"=\" after \"db1\" in connection info string",
        ),
        (
            "host a",
            "missing \"=\" after \"host\" in connection info string",
        ),
        (
            "host='a",
            "unterminated quoted string in connection info string",
        ),
        ("hots=a", "invalid connection option \"hots\""),
        (
            "port=x",
            "invalid integer value \"x\" for connection option \"port\"",
        ),
        ("port=70000", "invalid port number: \"70000\""),
        ("port=0", "invalid port number: \"0\""),
        (
            "connect_timeout=soon",
            "invalid integer value \"soon\" for connection option \"connect_timeout\"",
        ),
        ("sslmode=maybe", "invalid sslmode value: \"maybe\""),
        (
            "sslmode=require",
            "sslmode=require is not supported: encryption is not supported",
        ),
        (
            "postgres://a?ssl=true",
            "sslmode=require is not supported: encryption is not supported",
        ),
        (
            "options=-cx=y",
            "connection option \"options\" is not supported",
        ),
        (
            "service=s",
            "connection option \"service\" is not supported",
        ),
        ("host=a,b", "more than one host is not supported"),
        (
            "postgres://a?b",
            "missing key/value separator \"=\" in URI query parameter: \"b\"",
        ),
        (
            "postgres://a?b=c=d",
            "extra key/value separator \"=\" in URI query parameter: \"b\"",
        ),
        ("postgres://a?b=c", "invalid URI query parameter: \"b\""),
        ("postgres://a%zz", "invalid percent-encoded token: \"a%zz\""),
        ("postgres://a%00", "invalid percent-encoded token: \"a%00\""),
        (
            "postgres://[::1",
            "end of string reached when looking for matching \"]\" in IPv6 host address in URI: \"postgres://[::1\"",
        ),
    ] {
        let error = parse(text, "prog").expect_err(text);
        assert_eq!(error.to_string(), complaint, "{text}");
    }
}
