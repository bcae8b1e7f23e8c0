//! Reaches such as `2y5m7d3h`: years, months, weeks, days and hours by the calendar.

use crate::clock::Reach;
use crate::error::{Error, Result};
use std::fmt;

/// Longer is a slip of the finger: no calendar goes so far.
const YEARS_MAX: u64 = 9_999;

/// `2y5m7d3h`, as restic writes it: `m` are months. Weeks (`w`) are seven days. Each unit once, in any order.
pub fn parse(text: &str) -> Result<Reach> {
    let bad = |why: &str| {
        Error::invalid(format!("`{text}` is no span to keep: {why}; use for example 2y5m7d3h (m are months)"))
    };
    let mut rest = text.trim();
    let mut seen = Vec::new();
    let (mut years, mut months, mut days, mut hours) = (0u64, 0u64, 0u64, 0u64);
    while !rest.is_empty() {
        let digits =
            rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(|| bad("a number without a unit"))?;
        let number: u64 = rest[..digits].parse().map_err(|_| bad("a unit without a number"))?;
        let mut letters = rest[digits..].chars();
        let unit = letters.next().ok_or_else(|| bad("a number without a unit"))?;
        rest = letters.as_str();
        if seen.contains(&unit) {
            return Err(bad(&format!("`{unit}` comes twice")));
        }
        seen.push(unit);
        match unit {
            'y' => years = number,
            'm' => months = number,
            'w' => {
                days =
                    number.checked_mul(7).and_then(|n| n.checked_add(days)).ok_or_else(|| bad("too long"))?
            }
            'd' => days = days.checked_add(number).ok_or_else(|| bad("too long"))?,
            'h' => hours = number,
            _ => return Err(bad(&format!("`{unit}` is no unit, only y, m, w, d and h are"))),
        }
    }
    if (years, months, days, hours) == (0, 0, 0, 0) {
        return Err(bad("it is empty"));
    }
    let long = years > YEARS_MAX
        || months > YEARS_MAX * 12
        || days > YEARS_MAX * 366
        || hours > YEARS_MAX * 366 * 24;
    if long {
        return Err(bad("too long"));
    }
    let narrow = |n: u64| u32::try_from(n).map_err(|_| bad("too long"));
    Ok(Reach {
        years: u16::try_from(years).map_err(|_| bad("too long"))?,
        months: narrow(months)?,
        days: narrow(days)?,
        hours: narrow(hours)?,
    })
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [(u32::from(self.years), 'y'), (self.months, 'm'), (self.days, 'd'), (self.hours, 'h')];
        parts.iter().filter(|(n, _)| *n > 0).try_for_each(|(n, unit)| write!(f, "{n}{unit}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_restic_reads_them_and_nothing_else_is() {
        assert_eq!(parse("2y5m7d3h").expect("valid"), Reach { years: 2, months: 5, days: 7, hours: 3 });
        assert_eq!(parse("1w1d").expect("valid").days, 8);
        assert_eq!(parse("3h2d").expect("any order").to_string(), "2d3h");
        for wrong in [
            "",
            "7",
            "d",
            "5x",
            "5m5m",
            "-1d",
            "1.5d",
            "1d 2h",
            "0d",
            "99999y",
            "5min",
            "18446744073709551616d",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
