//! Days, weekdays and seconds of a calendar without zones: plain arithmetic.

/// A moment on a wall: the seconds since 1970-01-01T00:00:00 there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Civil(i64);

/// The last year of any schedule, as systemd has it.
pub(super) const YEAR_LAST: i64 = 2199;
const DAY: i64 = 86_400;

/// A day of the calendar: year, month from 1, day from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Day {
    pub year: i64,
    pub month: u32,
    pub day: u32,
}

impl Civil {
    pub const FIRST: Civil = Civil(0);

    /// Whatever lies before 1970 counts as its first second.
    pub fn at(seconds: i64) -> Self {
        Civil(seconds.max(0))
    }

    pub fn seconds(self) -> i64 {
        self.0
    }

    /// The day, and the seconds since it began.
    pub fn parts(self) -> (Day, u32) {
        let second = u32::try_from(self.0.rem_euclid(DAY)).unwrap_or(0);
        (Day::of_number(self.0.div_euclid(DAY)), second)
    }

    pub fn of(day: Day, second: u32) -> Self {
        Civil(day.number() * DAY + i64::from(second))
    }
}

impl Day {
    /// Days since 1970-01-01. Years are counted from March, so that the leap day is the last one of its year.
    pub fn number(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let month = i64::from((self.month + 9) % 12);
        let of_year = (153 * month + 2) / 5 + i64::from(self.day) - 1;
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
    }

    pub fn of_number(number: i64) -> Self {
        let shifted = number + 719_468;
        let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let of_year = day - (365 * of_era + of_era / 4 - of_era / 100);
        let month = (5 * of_year + 2) / 153;
        let small = |n: i64| u32::try_from(n).unwrap_or(1);
        let day = small(of_year - (153 * month + 2) / 5 + 1);
        let month = small(if month < 10 { month + 3 } else { month - 9 });
        Day { year: era * 400 + of_era + i64::from(month <= 2), month, day }
    }

    /// 0 for Monday.
    pub fn weekday(self) -> u32 {
        u32::try_from((self.number() + 3).rem_euclid(7)).unwrap_or(0)
    }

    pub fn of_month(self) -> u32 {
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        match self.month {
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            _ => 31,
        }
    }
}
