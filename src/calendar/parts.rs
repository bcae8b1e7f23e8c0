//! Values of one field of a schedule: lists, ranges and steps, as sets of bits.

use crate::error::{Error, Result};

/// What a field may hold.
#[derive(Clone, Copy)]
pub(super) struct Field {
    pub name: &'static str,
    pub least: u32,
    pub most: u32,
}

pub(super) const SECOND: Field = Field { name: "second", least: 0, most: 59 };
pub(super) const MINUTE: Field = Field { name: "minute", least: 0, most: 59 };
pub(super) const HOUR: Field = Field { name: "hour", least: 0, most: 23 };
pub(super) const DAY: Field = Field { name: "day", least: 1, most: 31 };
pub(super) const MONTH: Field = Field { name: "month", least: 1, most: 12 };

/// Sets of values, bit n for value n.
pub(super) type Bits = u64;

impl Field {
    /// Every value there is.
    pub fn all(self) -> Bits {
        (self.least..=self.most).fold(0, |bits, value| bits | 1 << value)
    }

    pub fn number(self, text: &str) -> Result<u32> {
        let value = if text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit()) {
            text.parse().ok()
        } else {
            None
        };
        let fits = value.filter(|value| (self.least..=self.most).contains(value));
        fits.ok_or_else(|| {
            Error::invalid(format!("`{text}` is no {} from {} to {}", self.name, self.least, self.most))
        })
    }

    /// Values from `start` to `stop`, each `step` after the one before.
    pub fn range(self, start: u32, stop: u32, step: u32) -> Result<Bits> {
        if start > stop {
            return Err(Error::invalid(format!(
                "the {}s {start} to {stop} run backwards; write them as two ranges",
                self.name
            )));
        }
        if step == 0 {
            return Err(Error::invalid("a step of 0 leads nowhere"));
        }
        let steps = (start..=stop).step_by(usize::try_from(step).unwrap_or(usize::MAX));
        Ok(steps.fold(0, |bits, value| bits | 1 << value))
    }
}

/// The number of a step.
pub(super) fn step(text: &str) -> Result<u32> {
    let bad = || Error::invalid(format!("`{text}` is no step; use a number from 1 on"));
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    text.parse().ok().filter(|n| *n > 0).ok_or_else(bad)
}

/// The lowest value of the set at or above `from`.
pub(super) fn lowest(bits: Bits, from: u32) -> Option<u32> {
    let rest = bits.checked_shr(from).unwrap_or(0);
    (rest != 0).then(|| from + rest.trailing_zeros())
}

pub(super) fn holds(bits: Bits, value: u32) -> bool {
    bits.checked_shr(value).unwrap_or(0) & 1 == 1
}

/// `*` for a set of all, else its values.
pub(super) fn shown(bits: Bits, field: Field) -> String {
    if bits == field.all() {
        return "*".to_owned();
    }
    let values = (field.least..=field.most).filter(|value| holds(bits, *value));
    values.map(|value| format!("{value:02}")).collect::<Vec<_>>().join(",")
}

pub(super) const WEEKDAYS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
pub(super) const EVERY_WEEKDAY: Bits = 0b111_1111;

/// The number of a weekday, 0 for Monday, from its name or the first three letters of that.
pub(super) fn weekday(text: &str) -> Result<u32> {
    let lower = text.to_ascii_lowercase();
    let found = WEEKDAYS.iter().position(|name| *name == lower || name[..3] == lower);
    let found = found.and_then(|at| u32::try_from(at).ok());
    found.ok_or_else(|| {
        Error::invalid(format!("`{text}` is no weekday; use Mon, Tue, Wed, Thu, Fri, Sat or Sun"))
    })
}

/// As systemd writes a set of weekdays: `Mon,Wed`.
pub(super) fn shown_weekdays(bits: Bits) -> String {
    let names = (0u32..7).zip(WEEKDAYS).filter(|(n, _)| holds(bits, *n));
    let short = |name: &str| name[..1].to_ascii_uppercase() + &name[1..3];
    names.map(|(_, name)| short(name)).collect::<Vec<_>>().join(",")
}
