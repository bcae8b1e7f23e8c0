//! Calendar events as systemd.time(7) writes them, and the search for the next one.

use super::days::{Civil, Day, YEAR_LAST};
use super::parts::{
    Bits, DAY, EVERY_WEEKDAY, Field, HOUR, MINUTE, MONTH, SECOND, holds, lowest, shown, shown_weekdays, step,
    weekday,
};
use crate::error::{Error, Result};

/// When something is due on the wall of some zone.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    /// Any year when empty.
    pub years: Vec<Years>,
    pub months: Bits,
    pub days: Days,
    pub hours: Bits,
    pub minutes: Bits,
    pub seconds: Bits,
}

/// `2026`, `2026..2030`, `2026/2`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Years {
    start: i64,
    stop: i64,
    step: i64,
}

/// Which days of a month.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Days {
    /// These days, if they are one of these weekdays; counted from the month's end, its last day being 1, if so said.
    Both { weekdays: Bits, days: Bits, from_end: bool },
    /// cron's: where both are restricted, either is enough.
    Cron(CronDays),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct CronDays {
    pub days: Bits,
    /// `L`: the last day of the month.
    pub last: bool,
    /// 0 for Monday.
    pub weekdays: Bits,
    /// `5L`: the last such weekday of the month.
    pub last_weekdays: Bits,
    /// `1#2`: the nth such weekday of the month.
    pub nth: Vec<(u32, u32)>,
    /// Both fields are restricted.
    pub either: bool,
}

impl CronDays {
    fn by_day(&self, day: Day) -> bool {
        holds(self.days, day.day) || (self.last && day.day == day.of_month())
    }

    fn by_weekday(&self, day: Day) -> bool {
        let weekday = day.weekday();
        let nth = (day.day - 1) / 7 + 1;
        holds(self.weekdays, weekday)
            || (holds(self.last_weekdays, weekday) && day.day + 7 > day.of_month())
            || self.nth.contains(&(weekday, nth))
    }
}

impl Event {
    /// Whether it is due in every hour of the day.
    pub fn is_hourly(&self) -> bool {
        self.hours == HOUR.all()
    }

    fn has_year(&self, year: i64) -> bool {
        let within = |y: &Years| (y.start..=y.stop).contains(&year) && (year - y.start) % y.step == 0;
        self.years.is_empty() || self.years.iter().any(within)
    }

    fn has_day(&self, day: Day) -> bool {
        match &self.days {
            Days::Both { weekdays, days, from_end } => {
                let number = if *from_end { day.of_month() - day.day + 1 } else { day.day };
                holds(*days, number) && holds(*weekdays, day.weekday())
            }
            Days::Cron(cron) if cron.either => cron.by_day(day) || cron.by_weekday(day),
            Days::Cron(cron) => cron.by_day(day) && cron.by_weekday(day),
        }
    }

    /// The first moment at or after `from`; the search ends with the last year there is.
    pub fn next(&self, from: Civil) -> Option<Civil> {
        let (first, second) = from.parts();
        let first_year = first.year;
        for year in (first_year..=YEAR_LAST).filter(|year| self.has_year(*year)) {
            let month = if year == first_year { first.month } else { 1 };
            for month in (month..=12).filter(|month| holds(self.months, *month)) {
                let is_first = (year, month) == (first.year, first.month);
                let begin = Day { year, month, day: if is_first { first.day } else { 1 } };
                for day in begin.day..=begin.of_month() {
                    let day = Day { day, ..begin };
                    let least = if day == first { second } else { 0 };
                    if let Some(second) = self.has_day(day).then(|| self.time_from(least)).flatten() {
                        return Some(Civil::of(day, second));
                    }
                }
            }
        }
        None
    }

    /// The first second of a day at or after `least`.
    fn time_from(&self, least: u32) -> Option<u32> {
        let (hour, minute, second) = (least / 3600, least / 60 % 60, least % 60);
        let mut h = lowest(self.hours, hour)?;
        let (mut m, mut s) = if h == hour { (minute, second) } else { (0, 0) };
        loop {
            let found = lowest(self.minutes, m);
            if let Some(at) = found {
                let from = if at == m { s } else { 0 };
                if let Some(second) = lowest(self.seconds, from) {
                    return Some(h * 3600 + at * 60 + second);
                }
                (m, s) = (at + 1, 0);
                if m <= MINUTE.most {
                    continue;
                }
            }
            h = lowest(self.hours, h + 1)?;
            (m, s) = (0, 0);
        }
    }

    /// The same in systemd's words; more than one line where any of them is enough.
    pub fn on_calendar(&self) -> Vec<String> {
        let time = [(self.hours, HOUR), (self.minutes, MINUTE), (self.seconds, SECOND)];
        let time = time.map(|(bits, field)| shown(bits, field)).join(":");
        let years = self.years.iter().map(Years::shown).collect::<Vec<_>>().join(",");
        let years = if years.is_empty() { "*".to_owned() } else { years };
        let months = shown(self.months, MONTH);
        let line = |weekdays: Bits, sign: char, days: &str| {
            let weekdays =
                if weekdays == EVERY_WEEKDAY { String::new() } else { shown_weekdays(weekdays) + " " };
            format!("{weekdays}{years}-{months}{sign}{days} {time}")
        };
        let cron = match &self.days {
            Days::Both { weekdays, days, from_end } => {
                let sign = if *from_end { '~' } else { '-' };
                return vec![line(*weekdays, sign, &shown(*days, DAY))];
            }
            Days::Cron(cron) => cron,
        };
        let parts = (cron.day_words(), cron.weekday_words());
        let lines = |days: &[(char, String)]| -> Vec<String> {
            days.iter().map(|(sign, days)| line(EVERY_WEEKDAY, *sign, days)).collect()
        };
        let by_weekday = |days: &dyn Fn(Bits) -> Bits| -> Vec<String> {
            let one = |(weekdays, within): &(Bits, Option<Bits>)| match within {
                Some(within) => line(*weekdays, '-', &shown(days(*within), DAY)),
                None => line(*weekdays, '~', "07/1"),
            };
            parts.1.iter().map(one).collect()
        };
        if cron.either {
            return lines(&parts.0).into_iter().chain(by_weekday(&|within| within)).collect();
        }
        if cron.weekdays == EVERY_WEEKDAY {
            return lines(&parts.0);
        }
        // Both at once, one of them by steps such as `*/2`.
        let both_ends = cron.last && cron.days != DAY.all();
        let last_some_days = cron.last_weekdays != 0 && cron.days != DAY.all();
        if both_ends || last_some_days { Vec::new() } else { by_weekday(&|within| within & cron.days) }
    }
}

impl CronDays {
    /// Days of the month, with the sign before them.
    fn day_words(&self) -> Vec<(char, String)> {
        let days = (self.days != 0).then(|| ('-', shown(self.days, DAY)));
        days.into_iter().chain(self.last.then(|| ('~', "01".to_owned()))).collect()
    }

    /// Weekdays, and the days among which they count; none for the last seven of a month.
    fn weekday_words(&self) -> Vec<(Bits, Option<Bits>)> {
        let plain = (self.weekdays != 0).then_some((self.weekdays, Some(DAY.all())));
        let last = (self.last_weekdays != 0).then_some((self.last_weekdays, None));
        let week = |nth: u32| {
            (1..=DAY.most).filter(|day| (day - 1) / 7 + 1 == nth).fold(0, |bits, day| bits | 1 << day)
        };
        let nth = self.nth.iter().map(|(weekday, nth)| (1 << weekday, Some(week(*nth))));
        plain.into_iter().chain(last).chain(nth).collect()
    }
}

impl Years {
    fn shown(&self) -> String {
        match (self.start == self.stop, self.step) {
            (true, _) => format!("{:04}", self.start),
            (false, 1) => format!("{:04}..{:04}", self.start, self.stop),
            (false, step) => format!("{:04}..{:04}/{step}", self.start, self.stop),
        }
    }
}

/// Words that stand for whole events.
const WORDS: [(&str, &str, &str); 9] = [
    ("minutely", "*-*-*", "*:*:00"),
    ("hourly", "*-*-*", "*:00:00"),
    ("daily", "*-*-*", "00:00:00"),
    ("weekly", "Mon", "00:00:00"),
    ("monthly", "*-*-01", "00:00:00"),
    ("quarterly", "*-01,04,07,10-01", "00:00:00"),
    ("semiannually", "*-01,07-01", "00:00:00"),
    ("yearly", "*-01-01", "00:00:00"),
    ("annually", "*-01-01", "00:00:00"),
];

/// An event from its words, the zone taken off.
pub(super) fn parse(words: &[&str]) -> Result<Event> {
    if let [word] = words
        && let Some((_, date, time)) = WORDS.iter().find(|(name, _, _)| *name == word.to_ascii_lowercase())
    {
        return parse(&[date, time]);
    }
    let mut rest = words;
    let mut weekdays = EVERY_WEEKDAY;
    if let Some((first, others)) = rest.split_first()
        && first.starts_with(|c: char| c.is_ascii_alphabetic())
    {
        weekdays = parse_weekdays(first)?;
        rest = others;
    }
    let (date, time) = match rest {
        [] => ("*-*-*", "00:00:00"),
        [time] if time.contains(':') => ("*-*-*", *time),
        [date] => (*date, "00:00:00"),
        [date, time] => (*date, *time),
        _ => {
            let what = "use for example `daily`, `Mon..Fri 18:00`, `*-*-01 03:30`, `*:0/15`, `every 6h`, or five fields of cron's";
            return Err(Error::invalid(what));
        }
    };
    let (years, months, days, from_end) = parse_date(date)?;
    let [hours, minutes, seconds] = parse_time(time)?;
    Ok(Event { years, months, days: Days::Both { weekdays, days, from_end }, hours, minutes, seconds })
}

fn parse_weekdays(text: &str) -> Result<Bits> {
    let mut bits = 0;
    for part in text.split(',').filter(|part| !part.is_empty()) {
        // Older systems wrote ranges with a dash.
        let (first, last) = part.split_once("..").or_else(|| part.split_once('-')).unwrap_or((part, part));
        let (first, last) = (weekday(first)?, weekday(last)?);
        if first > last {
            let what =
                format!("the weekdays {part} run backwards; weeks begin on Monday, so write two ranges");
            return Err(Error::invalid(what));
        }
        (first..=last).for_each(|day| bits |= 1 << day);
    }
    Ok(bits)
}

/// Years, months, days, and whether these are counted from the month's end.
fn parse_date(text: &str) -> Result<(Vec<Years>, Bits, Bits, bool)> {
    let bad = || {
        let what =
            format!("`{text}` is no date; use for example 2026-11-20, *-*-01, 12-24 or *-*~1 for last days");
        Error::invalid(what)
    };
    let (before, day, from_end) = match text.split_once('~') {
        Some((before, day)) => (before, day, true),
        None => text.rsplit_once('-').map(|(before, day)| (before, day, false)).ok_or_else(bad)?,
    };
    let (year, month) = before.split_once('-').unwrap_or(("*", before));
    if [year, month, day].iter().any(|part| part.contains(['-', '~'])) {
        return Err(bad());
    }
    let days = if from_end { parse_days_from_end(day)? } else { parse_list(day, DAY)? };
    Ok((parse_years(year)?, parse_list(month, MONTH)?, days, from_end))
}

fn parse_time(text: &str) -> Result<[Bits; 3]> {
    let bad = || Error::invalid(format!("`{text}` is no time; use for example 03:30, 03:30:15 or *:0/15"));
    let parts: Vec<&str> = text.split(':').collect();
    if parts.iter().any(|part| part.split(['/', ',']).any(|p| p.replace("..", "").contains('.'))) {
        return Err(Error::invalid("fractions of seconds are not kept; use whole ones"));
    }
    match parts.as_slice() {
        [hour, minute] => Ok([parse_list(hour, HOUR)?, parse_list(minute, MINUTE)?, 1]),
        [hour, minute, second] => {
            Ok([parse_list(hour, HOUR)?, parse_list(minute, MINUTE)?, parse_list(second, SECOND)?])
        }
        _ => Err(bad()),
    }
}

/// `*`, `5`, `1..5`, `0/15`, `8..18/2`, and lists of these.
fn parse_list(text: &str, field: Field) -> Result<Bits> {
    let mut bits = 0;
    for part in text.split(',') {
        let (span, each) = part.split_once('/').map_or((part, None), |(span, each)| (span, Some(each)));
        let each = each.map(step).transpose()?;
        bits |= match (span, span.split_once("..")) {
            ("*", _) => field.range(field.least, field.most, each.unwrap_or(1))?,
            (_, Some((start, stop))) => {
                field.range(field.number(start)?, field.number(stop)?, each.unwrap_or(1))?
            }
            (one, None) => {
                let start = field.number(one)?;
                field.range(start, if each.is_some() { field.most } else { start }, each.unwrap_or(1))?
            }
        };
    }
    Ok(bits)
}

/// Days of which the last one is 1; a step goes towards the end of the month.
fn parse_days_from_end(text: &str) -> Result<Bits> {
    // What every month has.
    const FROM_END: Field = Field { name: "day before a month's end", least: 1, most: 28 };
    let mut bits = 0;
    for part in text.split(',') {
        let (span, each) = part.split_once('/').map_or((part, None), |(span, each)| (span, Some(each)));
        let each = each.map(step).transpose()?;
        let (near, far) = match span.split_once("..") {
            Some((near, far)) => (FROM_END.number(near)?, FROM_END.number(far)?),
            None => {
                let far = FROM_END.number(span)?;
                (if each.is_some() { FROM_END.least } else { far }, far)
            }
        };
        FROM_END.range(near, far, 1)?;
        let steps = (near..=far).rev().step_by(usize::try_from(each.unwrap_or(1)).unwrap_or(usize::MAX));
        steps.for_each(|day| bits |= 1 << day);
    }
    Ok(bits)
}

fn parse_years(text: &str) -> Result<Vec<Years>> {
    if text == "*" {
        return Ok(Vec::new());
    }
    let mut years = Vec::new();
    for part in text.split(',') {
        let (span, each) = part.split_once('/').map_or((part, None), |(span, each)| (span, Some(each)));
        let each = each.map(step).transpose()?;
        let (start, stop) = match span.split_once("..") {
            Some((start, stop)) => (parse_year(start)?, parse_year(stop)?),
            None => (parse_year(span)?, if each.is_some() { YEAR_LAST } else { parse_year(span)? }),
        };
        if start > stop {
            return Err(Error::invalid(format!("the years {start} to {stop} run backwards")));
        }
        years.push(Years { start, stop, step: i64::from(each.unwrap_or(1)) });
    }
    Ok(years)
}

fn parse_year(text: &str) -> Result<i64> {
    let bad = || Error::invalid(format!("`{text}` is no year from 1970 to {YEAR_LAST}"));
    if text.is_empty() || text.len() > 4 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let year: i64 = text.parse().map_err(|_| bad())?;
    let year = match year {
        0..70 => 2000 + year,
        70..100 => 1900 + year,
        _ => year,
    };
    (1970..=YEAR_LAST).contains(&year).then_some(year).ok_or_else(bad)
}
