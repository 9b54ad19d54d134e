//! Time stamps in pg_waldump's output. Mirrors timestamptz_to_str of pg_waldump's compat.c.

use super::text::Text;
use crate::base::{TimestampTz, UnixTime};
use core::fmt::Write as _;

impl Text {
    /// Adds a time stamp, such as `2026-11-21 15:30:00.123456 UTC`. The time zone is always UTC,
    /// whatever the environment variable TZ is.
    pub fn timestamp(&mut self, time: TimestampTz) -> &mut Self {
        // In C a quotient is rounded towards zero. For times before 2000 the microseconds are
        // therefore negative.
        let unix = time.0 / 1_000_000 + TimestampTz::UNIX_OFFSET_S;
        let micros = time.0 % 1_000_000;
        let second = UnixTime(unix);
        write!(self, "{second}.{micros:06} UTC").expect("text takes all");
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn text(us: i64) -> String {
        let bytes = Text::default().timestamp(TimestampTz(us)).bytes.clone();
        String::from_utf8(bytes).expect("digits")
    }

    /// The expected texts are the output of glibc's strftime. They include days around all kinds of
    /// leap years, and a microsecond before 2000.
    #[test]
    fn dates_are_those_of_c() {
        const DAY: i64 = 86_400_000_000;
        for (us, expected) in [
            (0, "2000-01-01 00:00:00.000000 UTC"),
            (59 * DAY, "2000-02-29 00:00:00.000000 UTC"),
            (60 * DAY - 1, "2000-02-29 23:59:59.999999 UTC"),
            (366 * DAY, "2001-01-01 00:00:00.000000 UTC"),
            (36_583 * DAY, "2100-02-28 00:00:00.000000 UTC"),
            (36_584 * DAY, "2100-03-01 00:00:00.000000 UTC"),
            (848_676_607_123_456, "2026-11-22 15:30:07.123456 UTC"),
            (-1, "2000-01-01 00:00:00.-00001 UTC"),
            (-10_957 * DAY, "1970-01-01 00:00:00.000000 UTC"),
            (i64::MAX, "294277-01-09 04:00:54.775807 UTC"),
        ] {
            assert_eq!(text(us), expected);
        }
    }
}
