//! Byte sizes and durations: parse and print.

use crate::error::{Error, Result};
use std::time::Duration;

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;

/// `1.2 GiB`, `17.0 KiB`, `512 B`: at most four digits.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < KIB {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A whole number with thin groups of three: `1 234 567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

/// `1 file`, `2 files`, `1 234 files`.
pub fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// `4.2 s`, `3 min 10 s`, `2 h 5 min`.
pub fn duration(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0..60 => format!("{:.1} s", d.as_secs_f64()),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

/// A size such as `512`, `10K`, `1.5 GiB`, `2m`; units are powers of 1024.
pub fn parse_bytes(text: &str) -> Result<u64> {
    let bad = || Error::invalid(format!("`{text}` is not a size; use for example 500K, 10M or 1.5G"));
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let number: f64 = trimmed[..split].parse().map_err(|_| bad())?;
    let factor = match trimmed[split..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => KIB,
        "m" | "mb" | "mib" => MIB,
        "g" | "gb" | "gib" => GIB,
        "t" | "tb" | "tib" => GIB << 10,
        _ => return Err(bad()),
    };
    let value = number * factor as f64;
    if !value.is_finite() || value > 9e18 {
        return Err(bad());
    }
    Ok(value as u64)
}

/// A span such as `90s`, `10m`, `2h`, `1d12h`, `2w`, `1y6mo`; a month counts 30 days, a year 365.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let bad = || Error::invalid(format!("`{text}` is not a duration; use for example 90s, 10m, 2h or 1d12h"));
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit: u64 = match &rest[..letters] {
            "s" | "sec" | "second" | "seconds" => 1,
            "m" | "min" | "minute" | "minutes" => 60,
            "h" | "hour" | "hours" => 3600,
            "d" | "day" | "days" => 86_400,
            "w" | "week" | "weeks" => 7 * 86_400,
            "mo" | "month" | "months" => 30 * 86_400,
            "y" | "year" | "years" => 365 * 86_400,
            _ => return Err(bad()),
        };
        rest = rest[letters..].trim_start();
        total = number.checked_mul(unit).and_then(|n| total.checked_add(n)).ok_or_else(bad)?;
    }
    Ok(Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_parse_and_print() {
        assert_eq!(parse_bytes("1.5 GiB").expect("valid"), 3 * GIB / 2);
        assert_eq!(parse_bytes("10k").expect("valid"), 10 * KIB);
        assert!(parse_bytes("10 parsecs").is_err());
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(MIB - 1), "1.0 MiB");
        assert_eq!(count(1_234_567), "1 234 567");
        assert_eq!(parse_duration("1d12h").expect("valid").as_secs(), 129_600);
        assert!(parse_duration("5 fortnights").is_err());
        assert!(parse_duration("7").is_err());
    }
}
