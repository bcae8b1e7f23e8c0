//! cron's five fields: minute, hour, day of the month, month, weekday.
//!
//! Our own, although there are libraries for it: the one nearest to what is needed never finds the last day of a December, and
//! knows nothing of clocks that are put forward.

use super::event::{CronDays, Days, Event};
use super::parts::{Bits, DAY, EVERY_WEEKDAY, Field, HOUR, MINUTE, MONTH, WEEKDAYS, holds, step, weekday};
use crate::error::{Error, Result};

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
/// 0 and 7 are Sunday.
const CRON_WEEKDAY: Field = Field { name: "weekday", least: 0, most: 7 };
const NTH: Field = Field { name: "week of a month", least: 1, most: 5 };

/// `@daily` and its like.
pub(super) fn parse_nickname(text: &str) -> Result<Event> {
    let fields = match text.to_ascii_lowercase().as_str() {
        "@hourly" => ["0", "*", "*", "*", "*"],
        "@daily" | "@midnight" => ["0", "0", "*", "*", "*"],
        "@weekly" => ["0", "0", "*", "*", "0"],
        "@monthly" => ["0", "0", "1", "*", "*"],
        "@yearly" | "@annually" => ["0", "0", "1", "1", "*"],
        _ => {
            let what =
                format!("`{text}` is no schedule; there are @hourly, @daily, @weekly, @monthly and @yearly");
            return Err(Error::invalid(what));
        }
    };
    parse(&fields)
}

pub(super) fn parse(fields: &[&str]) -> Result<Event> {
    let [minute, hour, day, month, week] = fields else {
        return Err(Error::invalid("cron has five fields: minute, hour, day of the month, month, weekday"));
    };
    let mut days = CronDays::default();
    for part in day.split(',') {
        match part {
            "L" | "l" => days.last = true,
            _ => days.days |= values(part, DAY, &|text| DAY.number(text))?,
        }
    }
    for part in week.split(',') {
        add_weekday(part, &mut days)?;
    }
    let is_any = |field: &str| field.starts_with(['*', '?']);
    days.either = !is_any(day) && !is_any(week);
    Ok(Event {
        years: Vec::new(),
        months: list(month, MONTH, &month_number)?,
        days: Days::Cron(days),
        hours: list(hour, HOUR, &|text| HOUR.number(text))?,
        minutes: list(minute, MINUTE, &|text| MINUTE.number(text))?,
        seconds: 1,
    })
}

fn month_number(text: &str) -> Result<u32> {
    let lower = text.to_ascii_lowercase();
    match (1..).zip(MONTHS).find(|(_, name)| *name == lower) {
        Some((number, _)) => Ok(number),
        None => MONTH.number(text),
    }
}

/// As cron counts them: Sunday is 0, and 7 where a range ends.
fn weekday_number(text: &str) -> Result<u32> {
    let is_name =
        |text: &str| text.len() >= 3 && WEEKDAYS.iter().any(|n| n[..3] == text.to_ascii_lowercase()[..3]);
    if text.is_ascii() && is_name(text) { Ok((weekday(text)? + 1) % 7) } else { CRON_WEEKDAY.number(text) }
}

/// From cron's numbers to ours, Monday being 0.
fn from_monday(day: u32) -> u32 {
    (day + 6) % 7
}

fn add_weekday(part: &str, days: &mut CronDays) -> Result<()> {
    if let Some((day, nth)) = part.split_once('#') {
        days.nth.push((from_monday(weekday_number(day)?), NTH.number(nth)?));
        return Ok(());
    }
    if let Some(day) = part.strip_suffix(['L', 'l']).filter(|day| !day.is_empty()) {
        days.last_weekdays |= 1 << from_monday(weekday_number(day)?);
        return Ok(());
    }
    if part == "*" || part == "?" {
        days.weekdays = EVERY_WEEKDAY;
        return Ok(());
    }
    let bits = values(part, CRON_WEEKDAY, &weekday_number)?;
    (0..=7).filter(|day| holds(bits, *day)).for_each(|day| days.weekdays |= 1 << from_monday(day));
    Ok(())
}

fn list(text: &str, field: Field, number: &dyn Fn(&str) -> Result<u32>) -> Result<Bits> {
    text.split(',').try_fold(0, |bits, part| Ok(bits | values(part, field, number)?))
}

/// `*`, `5`, `1-5`, `*/15`, `10-50/5`, `10/5`.
fn values(part: &str, field: Field, number: &dyn Fn(&str) -> Result<u32>) -> Result<Bits> {
    if part.contains(['W', 'w']) && field.name == DAY.name {
        return Err(Error::invalid("the nearest workday (`W`) is not supported; name a day"));
    }
    let (span, each) = part.split_once('/').map_or((part, None), |(span, each)| (span, Some(each)));
    let each = each.map(step).transpose()?;
    let (start, stop) = match (span, span.split_once('-')) {
        ("*" | "?", _) => (field.least, field.most),
        (_, Some((start, stop))) => {
            let (start, stop) = (number(start)?, number(stop)?);
            // `FRI-SUN`: the Sunday at a week's end.
            let sunday = field.name == CRON_WEEKDAY.name && stop == 0 && start > 0;
            (start, if sunday { CRON_WEEKDAY.most } else { stop })
        }
        (one, None) => {
            let start = number(one)?;
            (start, if each.is_some() { field.most } else { start })
        }
    };
    field.range(start, stop, each.unwrap_or(1))
}
