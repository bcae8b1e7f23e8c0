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
        self.in_zone(&Zone::system())
    }

    /// As `local`, in a zone of choice.
    pub fn in_zone(self, zone: &Zone) -> String {
        match self.to_jiff() {
            Some(t) => t.to_zoned(zone.0.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
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

    /// A moment with its offset, such as `2026-11-20T11:30:00+01:00`.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(Timestamp::from_jiff)
    }

    /// A day, or a day and a time, without an offset: in UTC, as SQLite takes it.
    pub fn parse_civil(text: &str) -> Option<Self> {
        let civil: jiff::civil::DateTime = text.parse().ok()?;
        let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        // What has an offset would lose it.
        let has_zone = text.parse::<jiff::Timestamp>().is_ok();
        (!has_zone).then(|| Timestamp::from_jiff(zoned.timestamp()))
    }
}

/// A time zone: whose calendar says which hour, day and week a moment belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(jiff::tz::TimeZone);

/// A moment on the wall of some zone. Two moments are in the same hour, day, … when those parts are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Calendar {
    pub year: i16,
    pub month: i8,
    pub day: i8,
    pub hour: i8,
    pub minute: i8,
    /// Seconds east of Greenwich: tells the two hours apart that bear one name when summer time ends.
    pub offset: i32,
    /// The ISO 8601 week and the year it is counted in.
    pub week: (i16, i8),
}

/// Years, months, … before a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reach {
    pub years: u16,
    pub months: u32,
    pub days: u32,
    pub hours: u32,
}

impl Zone {
    pub const UTC: Zone = Zone(jiff::tz::TimeZone::UTC);

    pub fn system() -> Self {
        Zone(jiff::tz::TimeZone::system())
    }

    /// `system`, a name such as `Europe/Berlin`, or a POSIX rule such as `CET-1CEST,M3.5.0,M10.5.0/3`.
    pub fn parse(text: &str) -> Result<Self> {
        match text.trim() {
            "system" => Ok(Zone::system()),
            "UTC" | "utc" | "Z" => Ok(Zone::UTC),
            name => jiff::tz::TimeZone::get(name)
                .or_else(|_| jiff::tz::TimeZone::posix(name))
                .map(Zone)
                .map_err(|_| {
                    Error::invalid(format!(
                        "`{text}` is no time zone this machine knows; use UTC, system, a name such as \
                         Europe/Berlin, or a rule such as CET-1CEST,M3.5.0,M10.5.0/3"
                    ))
                }),
        }
    }

    /// Moments beyond the years -9999 and 9999 count as the first and the last one within.
    fn zoned(&self, t: Timestamp) -> jiff::Zoned {
        let limit = if t.secs < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        t.to_jiff().unwrap_or(limit).to_zoned(self.0.clone())
    }

    /// Seconds that clocks of the zone are ahead of UTC at `t`.
    pub fn offset(&self, t: Timestamp) -> i32 {
        self.zoned(t).offset().seconds()
    }

    /// The first time after `t` at which clocks are set, and how far ahead they are from then on.
    pub fn change_after(&self, t: Timestamp) -> Option<(Timestamp, i32)> {
        let change = self.0.following(t.to_jiff()?).next()?;
        Some((Timestamp::from_jiff(change.timestamp()), change.offset().seconds()))
    }

    /// The last time until `t`, that second included, at which clocks were set, and how far ahead they were before it.
    pub fn change_until(&self, t: Timestamp) -> Option<(Timestamp, i32)> {
        let after = Timestamp { secs: t.secs.checked_add(1)?, nanos: t.nanos };
        let when = Timestamp::from_jiff(self.0.preceding(after.to_jiff()?).next()?.timestamp());
        let before = Timestamp { secs: when.secs.checked_sub(1)?, nanos: 0 };
        Some((when, self.offset(before)))
    }

    pub fn calendar(&self, t: Timestamp) -> Calendar {
        let there = self.zoned(t);
        let week = there.date().iso_week_date();
        Calendar {
            year: there.year(),
            month: there.month(),
            day: there.day(),
            hour: there.hour(),
            minute: there.minute(),
            offset: there.offset().seconds(),
            week: (week.year(), week.week()),
        }
    }

    /// The moment `reach` before `t`: years, months and days by the calendar (a day that a month does not have is its
    /// last one), then hours by the clock. The beginning of time when there is none so early.
    pub fn before(&self, t: Timestamp, reach: &Reach) -> Timestamp {
        let span = jiff::Span::new()
            .try_years(reach.years)
            .and_then(|s| s.try_months(reach.months))
            .and_then(|s| s.try_days(reach.days));
        let hours = jiff::Span::new().try_hours(reach.hours);
        let then = span.and_then(|span| self.zoned(t).checked_sub(span));
        let then = then.and_then(|then| then.checked_sub(hours?));
        match then {
            // A moment out of jiff's years was moved into them; what lies before it is out of reach, too.
            Ok(then) if t.to_jiff().is_some() => Timestamp::from_jiff(then.timestamp()),
            _ => Timestamp { secs: i64::MIN, nanos: 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_has_its_own_days_and_two_hours_of_one_name_in_autumn() {
        let zone = Zone::parse("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule");
        let at = |text: &str| {
            let t = Timestamp::parse(text, Timestamp::default()).expect("a time");
            zone.calendar(t)
        };
        let (first, second) = (at("2026-10-25T00:30:00Z"), at("2026-10-25T01:30:00Z"));
        assert_eq!((first.hour, second.hour), (2, 2));
        assert_ne!(first.offset, second.offset);
        assert_eq!(at("2026-12-31T23:30:00Z").year, 2027);
        assert_eq!(at("2027-01-01T12:00:00Z").week, (2026, 53), "a Friday of the last week of 2026");
        assert!(Zone::parse("Middle/Earth").is_err());
    }

    #[test]
    fn reaching_back_follows_the_calendar() {
        let at = |text: &str| Timestamp::parse(text, Timestamp::default()).expect("a time");
        let back = |text, reach| Zone::UTC.before(at(text), &reach).rfc3339();
        let months = |months| Reach { months, ..Reach::default() };
        assert_eq!(back("2028-03-31T10:00:00Z", months(1)), "2028-02-29T10:00:00Z");
        assert_eq!(
            back("2028-02-29T10:00:00Z", Reach { years: 1, ..Reach::default() }),
            "2027-02-28T10:00:00Z"
        );
        let zone = Zone::parse("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule");
        let day = Reach { days: 1, ..Reach::default() };
        let spring = zone.before(at("2026-03-29T12:00:00+02:00"), &day);
        assert_eq!(spring, at("2026-03-28T12:00:00+01:00"), "a day of 23 hours");
        let ever = Reach { years: u16::MAX, ..Reach::default() };
        assert_eq!(Zone::UTC.before(at("2026-01-01T00:00:00Z"), &ever).secs, i64::MIN);
    }

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
