//! libpq's defaults for values that are missing in a connection string.

use std::path::Path;

/// `DEFAULT_PGSOCKET_DIR` of Debian's packages, and of PostgreSQL itself.
const SOCKET_DIRS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// The value of a keyword from its environment variable.
pub(super) fn from_environment(keyword: &str) -> Option<String> {
    let variable = match keyword {
        "host" => "PGHOST",
        "hostaddr" => "PGHOSTADDR",
        "port" => "PGPORT",
        "user" => "PGUSER",
        "password" => "PGPASSWORD",
        "passfile" => "PGPASSFILE",
        "application_name" => "PGAPPNAME",
        "connect_timeout" => "PGCONNECT_TIMEOUT",
        "sslmode" => "PGSSLMODE",
        "gssencmode" => "PGGSSENCMODE",
        "channel_binding" => "PGCHANNELBINDING",
        _ => return None,
    };
    self::variable(variable)
}

/// The value of an environment variable, if it is not empty.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The default directory of Unix sockets.
pub(super) fn socket_dir() -> String {
    let [first, last] = SOCKET_DIRS;
    let dir = if Path::new(first).is_dir() {
        first
    } else {
        last
    };
    dir.into()
}

/// The name of the current user (`pg_fe_getusername`).
pub(super) fn user() -> Option<String> {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut users = passwd.lines().map(|line| line.split(':'));
    users.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.into())
    })
}
