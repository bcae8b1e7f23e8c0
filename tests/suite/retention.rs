//! Retention against a model that shares nothing with it: its own calendar, its own buckets. Clocks that stand still,
//! run backwards or leap by decades; leap days, summer time, the ends of 32-bit time; ten years of nights.

use crate::shelf::Random;
use snapkeep::clock::{Reach, Timestamp, Zone};
use snapkeep::retention::{Count, Decision, Period, Point, Policy, decide, span};

const DAY: i64 = 86_400;
const HOUR: i64 = 3_600;

/// A snapshot as the simulated repository remembers it; their order is the order of the vector.
#[derive(Clone, Debug, PartialEq)]
struct Made {
    number: usize,
    time: i64,
    clocked: bool,
    tags: Vec<String>,
}

fn made(number: usize, time: i64) -> Made {
    Made { number, time, clocked: true, tags: Vec::new() }
}

fn at(secs: i64) -> Timestamp {
    Timestamp { secs, nanos: 0 }
}

fn decided(list: &[Made], policy: &Policy, now: i64, zone: &Zone) -> Decision {
    let points: Vec<Point<'_>> =
        list.iter().map(|m| Point { time: Some(at(m.time)), clocked: m.clocked, tags: &m.tags }).collect();
    decide(&points, policy, at(now), zone)
}

fn kept(list: &[Made], policy: &Policy, now: i64, zone: &Zone) -> Vec<usize> {
    let decision = decided(list, policy, now, zone);
    let keeps = list.iter().zip(decision.reasons).filter(|(_, reasons)| !reasons.is_empty());
    keeps.map(|(m, _)| m.number).collect()
}

fn counts(of: &[(Period, u32)]) -> Policy {
    Policy { counts: of.iter().map(|(p, n)| (*p, Count::Most(*n))).collect(), ..Policy::default() }
}

/// Seconds since 1970 of a civil day.
fn civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let of_era = y - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    (era * 146_097 + days - 719_468) * DAY
}

/// The other way round, from days since 1970: year, month, day.
fn date(days: i64) -> (i64, i64, i64) {
    // Slow and plain: years, then months, counted off.
    let mut year = 1969 + days.div_euclid(366).min(days.div_euclid(365));
    while civil(year + 1, 1, 1) / DAY <= days {
        year += 1;
    }
    let month = (1..=12).rev().find(|m| civil(year, *m, 1) / DAY <= days).expect("a month");
    (year, month, days - civil(year, month, 1) / DAY + 1)
}

/// Central European time by its law: summer from the last Sunday of March to that of October, 01:00 UTC.
fn central(time: i64) -> i64 {
    let last_sunday = |year, month| {
        let last = civil(year, month, 31) / DAY;
        (last - (last + 4).rem_euclid(7)) * DAY + HOUR
    };
    let (year, ..) = date(time.div_euclid(DAY));
    let summer = last_sunday(year, 3) <= time && time < last_sunday(year, 10);
    if summer { 2 * HOUR } else { HOUR }
}

fn utc(_: i64) -> i64 {
    0
}

/// What a period calls a moment; equal names, same hour, day, …
fn name(period: Period, time: i64, offset: fn(i64) -> i64) -> (i64, i64, i64, i64) {
    let shift = offset(time);
    let wall = time + shift;
    let days = wall.div_euclid(DAY);
    let (year, month, day) = date(days);
    match period {
        Period::Last => unreachable!("every snapshot is one"),
        // Offsets here are whole hours: the hour that comes twice in autumn differs as an hour of UTC.
        Period::Minutely => (time.div_euclid(60), 0, 0, 0),
        Period::Hourly => (time.div_euclid(HOUR), 0, 0, 0),
        Period::Daily => (year, month, day, 0),
        Period::Weekly => ((days + 3).div_euclid(7), 0, 0, 0),
        Period::Monthly => (year, month, 0, 0),
        Period::QuarterYearly => (year, (month + 2) / 3, 0, 0),
        Period::HalfYearly => (year, (month + 5) / 6, 0, 0),
        Period::Yearly => (year, 0, 0, 0),
    }
}

/// The buckets of a list, oldest first: numbers of places in the list.
fn buckets(list: &[Made], period: Period, offset: fn(i64) -> i64) -> Vec<Vec<usize>> {
    let mut found: Vec<Vec<usize>> = Vec::new();
    for (i, m) in list.iter().enumerate() {
        let same = i > 0 && period != Period::Last && {
            let before = &list[i - 1];
            let goes_on = !(before.clocked && m.clocked) || m.time > before.time;
            goes_on && name(period, before.time, offset) == name(period, m.time, offset)
        };
        match found.last_mut() {
            Some(bucket) if same => bucket.push(i),
            _ => found.push(vec![i]),
        }
    }
    found
}

fn back_from(time: i64, reach: &Reach) -> i64 {
    // In UTC. Years and months first, a missing day becoming the last of its month; then days, then hours.
    let (days, seconds) = (time.div_euclid(DAY), time.rem_euclid(DAY));
    let (year, month, day) = date(days);
    let months = year * 12 + month - 1 - i64::from(reach.years) * 12 - i64::from(reach.months);
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
    let next = if month == 12 { civil(year + 1, 1, 1) } else { civil(year, month + 1, 1) };
    let length = (next - civil(year, month, 1)) / DAY;
    civil(year, month, day.min(length)) + seconds
        - i64::from(reach.days) * DAY
        - i64::from(reach.hours) * HOUR
}

fn model(list: &[Made], policy: &Policy, now: i64, offset: fn(i64) -> i64) -> Vec<usize> {
    let mut keep = vec![false; list.len()];
    for (period, count) in &policy.counts {
        let found = buckets(list, *period, offset);
        let wanted = match count {
            Count::Most(n) => *n as usize,
            Count::Unlimited => usize::MAX,
        };
        for bucket in found.iter().rev().take(wanted) {
            keep[*bucket.last().expect("not empty")] = true;
        }
        if found.len() < wanted && !list.is_empty() {
            keep[0] = true;
        }
    }
    for (period, reach) in &policy.within {
        let Some(newest) = list.last() else { continue };
        let horizon = back_from(newest.time.min(now), reach);
        for bucket in buckets(list, *period, offset) {
            let newest = *bucket.last().expect("not empty");
            keep[newest] |= list[newest].time > horizon;
            keep[0] |= bucket[0] == 0 && list[0].time > horizon;
        }
    }
    for (i, m) in list.iter().enumerate() {
        keep[i] |= policy.tags.iter().any(|set| set.iter().all(|tag| m.tags.contains(tag)));
    }
    list.iter().zip(keep).filter(|(_, keep)| *keep).map(|(m, _)| m.number).collect()
}

const PERIODS: [Period; 9] = [
    Period::Last,
    Period::Minutely,
    Period::Hourly,
    Period::Daily,
    Period::Weekly,
    Period::Monthly,
    Period::QuarterYearly,
    Period::HalfYearly,
    Period::Yearly,
];

fn random_policy(random: &mut Random) -> Policy {
    let mut policy = Policy::default();
    for period in PERIODS {
        match random.below(12) {
            0..4 => policy.counts.push((period, Count::Most(random.below(9) as u32))),
            4 => policy.counts.push((period, Count::Unlimited)),
            5 | 6 => {
                let mut part = |n: usize| if random.below(2) == 0 { random.below(n) as u32 } else { 0 };
                let (years, months, days, hours) = (part(3) as u16, part(20), part(60), part(80) + 1);
                policy.within.push((period, Reach { years, months, days, hours }));
            }
            _ => {}
        }
    }
    if random.below(4) == 0 {
        policy.tags.push(vec!["a".into()]);
    }
    policy
}

/// A clock that mostly runs and sometimes does not.
fn next_time(random: &mut Random, time: i64) -> i64 {
    const DECADES: i64 = 50 * 365 * DAY;
    match random.below(40) {
        0 => time,
        1 => time - random.below(5 * DAY as usize) as i64,
        2 => time + DECADES,
        3 => time - DECADES,
        4 => -(random.below(DAY as usize) as i64),
        5 => (1 << 31) - 1 + random.below(3) as i64,
        6 => (1 << 32) - 1 + random.below(3) as i64,
        7 => civil(2028, 2, 28) + random.below(2 * DAY as usize) as i64,
        8 => civil(2026, 3, 28) + random.below(2 * DAY as usize) as i64,
        9 => civil(2026, 10, 24) + random.below(3 * DAY as usize) as i64,
        10..20 => time + random.below(HOUR as usize) as i64,
        20..34 => time + random.below(2 * DAY as usize) as i64,
        _ => time + random.below(60 * DAY as usize) as i64,
    }
}

fn rounds(ci: usize, night: usize) -> usize {
    if std::env::var_os("SNAPKEEP_NIGHT").is_some_and(|v| v == "1") { night } else { ci }
}

fn seed() -> u64 {
    let given = std::env::var("SNAPKEEP_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| std::process::id().into());
    println!("SNAPKEEP_SEED={seed}");
    seed
}

#[test]
fn every_decision_is_that_of_the_model_whatever_the_clock_does() {
    let mut random = Random(seed());
    let rule = Zone::parse("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule");
    for round in 0..rounds(2_000, 200_000) {
        let (mut list, mut time) = (Vec::new(), civil(2026, 1, 1));
        for number in 0..random.below(70) {
            time = next_time(&mut random, time);
            let tags = if random.below(9) == 0 { vec!["a".to_owned()] } else { Vec::new() };
            list.push(Made { number, time, clocked: random.below(9) > 0, tags });
        }
        let policy = random_policy(&mut random);
        let now = next_time(&mut random, time);
        // Reaching back by the calendar is modelled in UTC only.
        let (zone, offset): (&Zone, fn(i64) -> i64) = match policy.within.is_empty() && round % 2 == 0 {
            true => (&rule, central),
            false => (&Zone::UTC, utc),
        };
        let expected = model(&list, &policy, now, offset);
        assert_eq!(
            kept(&list, &policy, now, zone),
            expected,
            "round {round}: {policy:?}\n{list:?}\nnow {now}"
        );
    }
}

/// Nights one after the other: each adds a snapshot, then forgets.
fn simulate(
    times: impl Iterator<Item = i64>,
    policy: &Policy,
    zone: &Zone,
    offset: fn(i64) -> i64,
    each: &mut dyn FnMut(i64, &[Made]),
) {
    let mut list: Vec<Made> = Vec::new();
    for (number, time) in times.enumerate() {
        list.push(made(number, time));
        let decision = kept(&list, policy, time, zone);
        assert_eq!(decision, model(&list, policy, time, offset), "at {time}");
        list.retain(|m| decision.contains(&m.number));
        each(time, &list);
    }
}

#[test]
fn ten_years_of_nights_keep_seven_days_four_weeks_twelve_months() {
    let policy = counts(&[(Period::Daily, 7), (Period::Weekly, 4), (Period::Monthly, 12)]);
    let zone = Zone::parse("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule");
    for run in 0..rounds(1, 100) as i64 {
        let first = civil(2026, 1, 1) / DAY + run * 37;
        // 23:30 of the wall clock, summer and winter.
        let nights = (first..first + 3_650).map(|day| day * DAY + 23 * HOUR + HOUR / 2);
        let nights = nights.map(|wall| wall - central(wall - HOUR));
        simulate(nights, &policy, &zone, central, &mut |time, list| {
            let today = (time + central(time)).div_euclid(DAY);
            if today - first < 400 {
                return;
            }
            // By hand: the last seven days, the Sundays of the three weeks before, the last days of eleven months.
            let mut expected: Vec<i64> = (today - 6..=today).collect();
            let sunday = today - (today + 4).rem_euclid(7);
            let ended = if sunday == today { today - 7 } else { sunday };
            expected.extend([ended, ended - 7, ended - 14]);
            let (year, month, _) = date(today);
            for back in 0..11 {
                let months = year * 12 + month - 1 - back;
                expected.push(civil(months.div_euclid(12), months.rem_euclid(12) + 1, 1) / DAY - 1);
            }
            expected.sort_unstable();
            expected.dedup();
            let days: Vec<i64> = list.iter().map(|m| (m.time + central(m.time)).div_euclid(DAY)).collect();
            assert_eq!(days, expected, "on {:?}", date(today));
        });
    }
}

#[test]
fn ten_years_of_hours_keep_what_the_long_policy_says() {
    let wanted = [
        (Period::Hourly, 24),
        (Period::Daily, 30),
        (Period::Weekly, 12),
        (Period::Monthly, 24),
        (Period::Yearly, 10),
    ];
    let policy = counts(&wanted);
    let start = civil(2026, 1, 1) + HOUR / 2;
    let zone = Zone::parse("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule");
    // By day every 31st hour, so that ten years are a few thousand steps; at night every hour.
    let step = rounds(31, 1) as i64;
    let hours = (0..10 * 365 * 24 / step).map(|n| start + n * step * HOUR);
    let mut most = 0;
    simulate(hours, &policy, &zone, central, &mut |_, list| most = most.max(list.len()));
    assert!((60..=100).contains(&most), "{most} snapshots");
}

#[test]
fn a_clock_that_stands_still_keeps_as_many_as_one_that_runs() {
    let policy = counts(&[(Period::Daily, 7), (Period::Weekly, 4), (Period::Monthly, 12)]);
    let still: Vec<Made> = (0..100).map(|n| made(n, 0)).collect();
    assert_eq!(kept(&still, &policy, 0, &Zone::UTC), (88..100).collect::<Vec<_>>());
    let back: Vec<Made> = (0..100).map(|n| made(n, -(n as i64) * HOUR)).collect();
    assert_eq!(kept(&back, &policy, 0, &Zone::UTC), (88..100).collect::<Vec<_>>());
    // Times that the user gave are meant as they are.
    let given: Vec<Made> = (0..100).map(|n| Made { clocked: false, ..made(n, 0) }).collect();
    assert_eq!(kept(&given, &policy, 0, &Zone::UTC), [0, 99], "one day, and the oldest");
}

#[test]
fn one_leap_of_the_clock_moves_nothing_out_of_reach() {
    let year = 365 * DAY;
    for leap in [-56 * year, -year, year, 50 * year, 500 * year, i64::MAX / 2, i64::MIN / 2] {
        let start = civil(2026, 1, 1);
        let mut list: Vec<Made> = (0..60).map(|n| made(n, start + n as i64 * DAY)).collect();
        list.push(made(60, start + leap));
        let now = start + 60 * DAY;
        let within =
            Policy { within: vec![(Period::Last, span::parse("30d").expect("a span"))], ..Policy::default() };
        let keeps = kept(&list, &within, now, &Zone::UTC);
        assert!((31..60).all(|n| keeps.contains(&n)), "{leap}: {keeps:?}");
        let seven = counts(&[(Period::Daily, 7)]);
        let keeps = kept(&list, &seven, now, &Zone::UTC);
        assert_eq!(keeps, [54, 55, 56, 57, 58, 59, 60], "{leap}");
        // And back again: the days after go on counting.
        list.push(made(61, now));
        list.push(made(62, now + DAY));
        let keeps = kept(&list, &seven, now + DAY, &Zone::UTC);
        assert_eq!(keeps, [56, 57, 58, 59, 60, 61, 62], "{leap}");
    }
}

#[test]
fn the_ends_of_calendars_are_days_like_others() {
    let daily = counts(&[(Period::Daily, 3)]);
    for middle in
        [0, (1 << 31) - 1, (1 << 32) - 1, civil(2028, 2, 29), civil(2100, 3, 1), civil(1969, 12, 31)]
    {
        let list: Vec<Made> = (0..40).map(|n| made(n as usize, middle + (n - 20) * DAY / 4)).collect();
        let keeps = kept(&list, &daily, middle + 6 * DAY, &Zone::UTC);
        assert_eq!(keeps, model(&list, &daily, middle + 6 * DAY, utc));
        assert_eq!(keeps.len(), 3);
    }
    // Far beyond any calendar: nothing breaks, and order decides.
    let far: Vec<Made> = (0..9).map(|n| made(n, i64::MAX - 9 + n as i64)).collect();
    assert_eq!(kept(&far, &counts(&[(Period::Last, 2)]), i64::MAX, &Zone::UTC), [7, 8]);
    let far: Vec<Made> = (0..9).map(|n| made(n, i64::MIN + n as i64)).collect();
    assert_eq!(kept(&far, &counts(&[(Period::Last, 2)]), i64::MIN, &Zone::UTC), [7, 8]);
}

#[test]
fn hours_that_come_twice_or_never_are_told_apart() {
    let zone = Zone::parse("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule");
    for (night, hours) in [(civil(2026, 10, 25), 25), (civil(2026, 3, 29), 23), (civil(2026, 7, 1), 24)] {
        // Every quarter of an hour of one local day.
        let midnight = night - central(night - HOUR);
        let list: Vec<Made> = (0..hours * 4).map(|n| made(n as usize, midnight + n * HOUR / 4)).collect();
        let of = |period| kept(&list, &counts(&[(period, 1000)]), midnight, &zone);
        // The oldest stays as well: there is room.
        assert_eq!(of(Period::Hourly).len() as i64, hours + 1);
        assert_eq!(of(Period::Daily), [0, list.len() - 1]);
        let policy = counts(&[(Period::Hourly, 7)]);
        assert_eq!(kept(&list, &policy, midnight, &zone), model(&list, &policy, midnight, central));
    }
}

#[test]
fn reasons_are_told_in_the_words_people_know() {
    let start = civil(2026, 3, 1);
    let mut list: Vec<Made> = (0..10).map(|n| made(n, start + n as i64 * DAY)).collect();
    list[4].tags = vec!["a".into(), "b".into()];
    let policy = Policy {
        counts: vec![(Period::Last, Count::Most(1)), (Period::Monthly, Count::Most(3))],
        within: vec![
            (Period::Last, span::parse("2d").expect("a span")),
            (Period::Weekly, span::parse("9d").expect("a span")),
        ],
        tags: vec![vec!["b".into(), "a".into()]],
        floor: 0,
    };
    let reasons = decided(&list, &policy, start + 20 * DAY, &Zone::UTC).reasons;
    assert_eq!(reasons[0], ["oldest monthly snapshot"]);
    assert_eq!(reasons[4], ["has tags b,a"]);
    assert_eq!(reasons[7], ["weekly within 9d"], "a Sunday");
    assert_eq!(reasons[8], ["within 2d"]);
    assert_eq!(reasons[9], ["within 2d", "weekly within 9d", "last snapshot", "monthly snapshot"]);
    assert!(reasons[3].is_empty());
    let unreadable = [Point { time: None, clocked: true, tags: &[] }; 3];
    let decision = decide(&unreadable, &counts(&[(Period::Last, 1)]), at(0), &Zone::UTC);
    assert!(decision.reasons.iter().all(|r| !r.is_empty()), "what cannot be dated stays");
}

#[test]
fn a_policy_is_filled_only_by_buckets_it_has_found() {
    let day = |n: usize| made(n, civil(2026, 1, 1) + n as i64 * DAY);
    let hours: Vec<Made> = (0..20).map(|n| made(n, civil(2026, 1, 1) + n as i64 * HOUR)).collect();
    let seven = counts(&[(Period::Daily, 7)]);
    assert!(decided(&(0..400).map(day).collect::<Vec<_>>(), &seven, 0, &Zone::UTC).filled);
    assert!(!decided(&hours, &seven, 0, &Zone::UTC).filled, "one day only");
    assert!(
        !decided(&hours, &counts(&[(Period::Daily, 2)]), 0, &Zone::UTC).filled,
        "the oldest is no second day"
    );
    assert!(decided(&hours, &counts(&[(Period::Last, 1)]), 0, &Zone::UTC).filled);
    assert!(Policy { floor: 5, ..counts(&[(Period::Daily, 0)]) }.is_empty(), "a floor is no policy");
    for wrong in ["", "-2", "many", "1.5", "4294967296"] {
        assert!(Count::parse(wrong).is_err(), "{wrong}");
    }
    assert_eq!(Count::parse("-1").expect("all"), Count::Unlimited);
}
