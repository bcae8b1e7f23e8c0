//! Points in time, and the one place that reads the wall clock.

use crate::error::{Error, Result};

/// Seconds and nanoseconds since 1970-01-01T00:00:00Z; seconds may be negative, nanoseconds count upward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    pub secs: i64,
    pub nanos: u32,
}

/// The clock handed to everything that needs the time.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = jiff::Timestamp::now();
        Timestamp::from_jiff(now)
    }
}

/// A clock that stands still, for tests.
pub struct FixedClock(pub Timestamp);

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}

impl Timestamp {
    fn from_jiff(t: jiff::Timestamp) -> Self {
        // jiff counts both parts away from zero; ours counts nanoseconds upward always.
        let (mut secs, mut nanos) = (t.as_second(), t.subsec_nanosecond());
        if nanos < 0 {
            secs -= 1;
            nanos += 1_000_000_000;
        }
        Timestamp { secs, nanos: nanos.unsigned_abs() }
    }

    fn to_jiff(self) -> Option<jiff::Timestamp> {
        let nanos = i128::from(self.secs) * 1_000_000_000 + i128::from(self.nanos);
        jiff::Timestamp::from_nanosecond(nanos).ok()
    }

    /// Nanoseconds since 1970, as far as 64 bits go (the years 1678 to 2261).
    pub fn nanoseconds(self) -> i64 {
        self.secs.saturating_mul(1_000_000_000).saturating_add(i64::from(self.nanos))
    }

    /// RFC 3339 in UTC, as many digits after the point as are not zero. Years beyond 9999 print as `@seconds`.
    pub fn rfc3339(self) -> String {
        self.to_jiff().map_or_else(|| format!("@{}", self.secs), |t| t.to_string())
    }

    /// `2026-11-20 11:30:05` in the machine's time zone, for people.
    pub fn local(self) -> String {
        match self.to_jiff() {
            Some(t) => t.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
            None => format!("@{}", self.secs),
        }
    }

    /// RFC 3339, `2026-11-20 11:30[:05]` or `2026-11-20` in the machine's zone, `now`, or a span before `now`
    /// such as `2h ago`.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self> {
        let text = text.trim();
        let bad = || {
            Error::invalid(format!(
                "`{text}` is not a time; use 2026-11-20T11:30:00Z, \"2026-11-20 11:30\" or \"2h ago\""
            ))
        };
        if text == "now" {
            return Ok(now);
        }
        if let Some(span) = text.strip_suffix("ago") {
            let seconds = crate::units::parse_duration(span.trim())?.as_secs();
            let seconds = i64::try_from(seconds).map_err(|_| bad())?;
            let secs = now.secs.checked_sub(seconds).ok_or_else(bad)?;
            return Ok(Timestamp { secs, nanos: now.nanos });
        }
        if let Ok(t) = text.parse::<jiff::Timestamp>() {
            return Ok(Timestamp::from_jiff(t));
        }
        let civil: jiff::civil::DateTime = text
            .parse()
            .or_else(|_| jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M", text))
            .or_else(|_| text.parse::<jiff::civil::Date>().map(|d| d.at(0, 0, 0, 0)))
            .map_err(|_| bad())?;
        let zoned = civil.to_zoned(jiff::tz::TimeZone::system()).map_err(|_| bad())?;
        Ok(Timestamp::from_jiff(zoned.timestamp()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_keep_nanoseconds_counting_upward() {
        let now = Timestamp { secs: 100_000, nanos: 0 };
        let t = Timestamp::parse("1969-12-31T23:59:59.25Z", now).expect("valid");
        assert_eq!(t, Timestamp { secs: -1, nanos: 250_000_000 });
        assert_eq!(t.rfc3339(), "1969-12-31T23:59:59.25Z");
        assert_eq!(Timestamp::parse("2h ago", now).expect("valid").secs, 100_000 - 7200);
        assert!(Timestamp::parse("yesterdayish", now).is_err());
    }
}
