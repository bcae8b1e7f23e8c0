//! Schedules: what systemd answers for the same texts, every minute of a year tried one by one, clocks that are set, cron.

use crate::shelf::Random;
use snapkeep::calendar::{Expression, gaps, next};
use snapkeep::clock::{Timestamp, Zone};
use std::process::Command;

/// Summer time begins on the last Sunday of March at 2 o'clock, and ends on the last one of October at 3.
const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
const BASE: &str = "2026-11-21T03:30:00Z";

/// What `systemd-analyze calendar` (252) answers in UTC after `BASE`.
const TABLE: &[(&str, &[&str])] = &[
    (
        "minutely",
        &["2026-11-21T03:31:00", "2026-11-21T03:32:00", "2026-11-21T03:33:00", "2026-11-21T03:34:00"],
    ),
    ("hourly", &["2026-11-21T04:00:00", "2026-11-21T05:00:00", "2026-11-21T06:00:00", "2026-11-21T07:00:00"]),
    ("daily", &["2026-11-22T00:00:00", "2026-11-23T00:00:00", "2026-11-24T00:00:00", "2026-11-25T00:00:00"]),
    ("weekly", &["2026-11-23T00:00:00", "2026-11-30T00:00:00", "2026-12-07T00:00:00", "2026-12-14T00:00:00"]),
    (
        "monthly",
        &["2026-12-01T00:00:00", "2027-01-01T00:00:00", "2027-02-01T00:00:00", "2027-03-01T00:00:00"],
    ),
    (
        "quarterly",
        &["2027-01-01T00:00:00", "2027-04-01T00:00:00", "2027-07-01T00:00:00", "2027-10-01T00:00:00"],
    ),
    (
        "semiannually",
        &["2027-01-01T00:00:00", "2027-07-01T00:00:00", "2028-01-01T00:00:00", "2028-07-01T00:00:00"],
    ),
    ("yearly", &["2027-01-01T00:00:00", "2028-01-01T00:00:00", "2029-01-01T00:00:00", "2030-01-01T00:00:00"]),
    (
        "Annually",
        &["2027-01-01T00:00:00", "2028-01-01T00:00:00", "2029-01-01T00:00:00", "2030-01-01T00:00:00"],
    ),
    (
        "Wed, 17:48",
        &["2026-11-25T17:48:00", "2026-12-02T17:48:00", "2026-12-09T17:48:00", "2026-12-16T17:48:00"],
    ),
    (
        "Sat,Thu,Mon..Wed,Sat..Sun",
        &["2026-11-22T00:00:00", "2026-11-23T00:00:00", "2026-11-24T00:00:00", "2026-11-25T00:00:00"],
    ),
    ("Mon,Sun 12-*-* 2,1:23", &[]),
    (
        "Wed *-1",
        &["2027-09-01T00:00:00", "2027-12-01T00:00:00", "2028-03-01T00:00:00", "2028-11-01T00:00:00"],
    ),
    (
        "monday *-12-* 17:00",
        &["2026-12-07T17:00:00", "2026-12-14T17:00:00", "2026-12-21T17:00:00", "2026-12-28T17:00:00"],
    ),
    (
        "Mon,Fri *-*-3,1,2 *:30:45",
        &["2027-01-01T00:30:45", "2027-01-01T01:30:45", "2027-01-01T02:30:45", "2027-01-01T03:30:45"],
    ),
    (
        "12,14,13,12:20,10,30",
        &["2026-11-21T12:10:00", "2026-11-21T12:20:00", "2026-11-21T12:30:00", "2026-11-21T13:10:00"],
    ),
    (
        "mon,fri *-1/2-1,3 *:30:45",
        &["2027-01-01T00:30:45", "2027-01-01T01:30:45", "2027-01-01T02:30:45", "2027-01-01T03:30:45"],
    ),
    ("2027-03-05 05:40", &["2027-03-05T05:40:00"]),
    ("2027-02..04-05", &["2027-02-05T00:00:00", "2027-03-05T00:00:00", "2027-04-05T00:00:00"]),
    ("*:2/3", &["2026-11-21T03:32:00", "2026-11-21T03:35:00", "2026-11-21T03:38:00", "2026-11-21T03:41:00"]),
    ("*-*~1", &["2026-11-30T00:00:00", "2026-12-31T00:00:00", "2027-01-31T00:00:00", "2027-02-28T00:00:00"]),
    (
        "*-02~03",
        &["2027-02-26T00:00:00", "2028-02-27T00:00:00", "2029-02-26T00:00:00", "2030-02-26T00:00:00"],
    ),
    (
        "Mon *-05~07/1",
        &["2027-05-31T00:00:00", "2028-05-29T00:00:00", "2029-05-28T00:00:00", "2030-05-27T00:00:00"],
    ),
    (
        "*-*~1..7 04:00",
        &["2026-11-24T04:00:00", "2026-11-25T04:00:00", "2026-11-26T04:00:00", "2026-11-27T04:00:00"],
    ),
    (
        "*-*~3/2",
        &["2026-11-28T00:00:00", "2026-11-30T00:00:00", "2026-12-29T00:00:00", "2026-12-31T00:00:00"],
    ),
    (
        "*-1~1,3",
        &["2027-01-29T00:00:00", "2027-01-31T00:00:00", "2028-01-29T00:00:00", "2028-01-31T00:00:00"],
    ),
    ("*-*-31", &["2026-12-31T00:00:00", "2027-01-31T00:00:00", "2027-03-31T00:00:00", "2027-05-31T00:00:00"]),
    (
        "*-*-1..5/2",
        &["2026-12-01T00:00:00", "2026-12-03T00:00:00", "2026-12-05T00:00:00", "2027-01-01T00:00:00"],
    ),
    (
        "*-*-7/5",
        &["2026-11-22T00:00:00", "2026-11-27T00:00:00", "2026-12-07T00:00:00", "2026-12-12T00:00:00"],
    ),
    (
        "*-02-29 3:00",
        &["2028-02-29T03:00:00", "2032-02-29T03:00:00", "2036-02-29T03:00:00", "2040-02-29T03:00:00"],
    ),
    (
        "Sun *-02-29",
        &["2032-02-29T00:00:00", "2060-02-29T00:00:00", "2088-02-29T00:00:00", "2128-02-29T00:00:00"],
    ),
    (
        "Mon..Fri *-*-1..7 18:00",
        &["2026-12-01T18:00:00", "2026-12-02T18:00:00", "2026-12-03T18:00:00", "2026-12-04T18:00:00"],
    ),
    (
        "6/8,1:5",
        &["2026-11-21T06:05:00", "2026-11-21T14:05:00", "2026-11-21T22:05:00", "2026-11-22T01:05:00"],
    ),
    (
        "*:*:0/25",
        &["2026-11-21T03:30:25", "2026-11-21T03:30:50", "2026-11-21T03:31:00", "2026-11-21T03:31:25"],
    ),
    (
        "22..23:50/5:59",
        &["2026-11-21T22:50:59", "2026-11-21T22:55:59", "2026-11-21T23:50:59", "2026-11-21T23:55:59"],
    ),
    (
        "2027/3-12-31 23:59:59",
        &["2027-12-31T23:59:59", "2030-12-31T23:59:59", "2033-12-31T23:59:59", "2036-12-31T23:59:59"],
    ),
    ("2028..2032/2-1-1", &["2028-01-01T00:00:00", "2030-01-01T00:00:00", "2032-01-01T00:00:00"]),
    (
        "*-* 5:00",
        &["2026-11-21T05:00:00", "2026-11-22T05:00:00", "2026-11-23T05:00:00", "2026-11-24T05:00:00"],
    ),
    (
        "20/1:00",
        &["2026-11-21T20:00:00", "2026-11-21T21:00:00", "2026-11-21T22:00:00", "2026-11-21T23:00:00"],
    ),
    (
        "Mon-Wed",
        &["2026-11-23T00:00:00", "2026-11-24T00:00:00", "2026-11-25T00:00:00", "2026-11-30T00:00:00"],
    ),
    (
        "daily Europe/Berlin",
        &["2026-11-21T23:00:00", "2026-11-22T23:00:00", "2026-11-23T23:00:00", "2026-11-24T23:00:00"],
    ),
    (
        "hourly UTC",
        &["2026-11-21T04:00:00", "2026-11-21T05:00:00", "2026-11-21T06:00:00", "2026-11-21T07:00:00"],
    ),
    ("2003-03-05", &[]),
];

/// What it refuses, and so do we.
const REFUSED: &[&str] = &[
    "Fri..Mon",
    "12",
    "12..8:00",
    "*-02~03..01",
    "*-*~31",
    "24:00",
    "*:60",
    "*-0-1",
    "*-13-1",
    "*:0/0",
    "2200-1-1",
    "mond",
    "*-*-~1",
    "",
];

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text, Timestamp::default()).expect("a time")
}

fn parsed(text: &str) -> Expression {
    Expression::parse(text).unwrap_or_else(|e| panic!("{e}"))
}

/// The next so many moments, as the table writes them.
fn coming(text: &str, from: Timestamp, count: usize) -> Vec<String> {
    let (expression, mut now) = (parsed(text), from);
    let mut found = Vec::new();
    while found.len() < count {
        let Some(then) = expression.next(now, &Zone::UTC) else { break };
        found.push(then.rfc3339().trim_end_matches('Z').to_owned());
        now = then;
    }
    found
}

/// What systemd says; `None` where there is none.
fn systemd(text: &str, count: usize) -> Option<Vec<String>> {
    let base = BASE.replace('T', " ").replace('Z', "");
    let mut tool = Command::new("systemd-analyze");
    tool.env("TZ", "UTC").args([
        "calendar",
        &format!("--iterations={count}"),
        &format!("--base-time={base}"),
        "--",
        text,
    ]);
    let output = tool.output().ok().filter(|output| output.status.success())?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let times = told.lines().filter(|line| line.contains("Next elapse:") || line.contains("Iter. #"));
    let time = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // `… Sat 2026-11-21 04:00:00 UTC`
        let [.., day, time, "UTC"] = words.as_slice() else { return None };
        Some(format!("{day}T{time}"))
    };
    Some(times.filter_map(time).collect())
}

#[test]
fn calendar_events_are_those_of_systemd() {
    for (text, wanted) in TABLE {
        assert_eq!(&coming(text, at(BASE), 4), wanted, "{text}");
    }
    for text in REFUSED {
        Expression::parse(text).expect_err(text);
    }
    for text in
        ["1:2:3.5", "@123", "every 0s", "every moon", "0 0 31 2 *", "*-2-30", "0 0 15W * *", "61 * * * *"]
    {
        let told = Expression::parse(text).expect_err(text);
        assert!(!told.message().contains('\n'), "{told}");
    }
    if systemd("daily", 1).is_none() {
        println!("NOT TRIED: there is no systemd-analyze to compare schedules with");
        return;
    }
    for (text, wanted) in TABLE {
        assert_eq!(&systemd(text, 4).expect(text), wanted, "systemd has changed its mind about {text}");
    }
    let mut random = Random(20);
    for _ in 0..60 {
        let text = invented(&mut random);
        assert_eq!(coming(&text, at(BASE), 6), systemd(&text, 6).expect("understood"), "{text}");
    }
}

/// What units are written with means what the profile says.
#[test]
fn units_say_the_same_as_the_profile() {
    let texts = TABLE.iter().map(|(text, _)| *text).chain([
        "30 2 * * *",
        "0 4 L * *",
        "0 4 * * 1#2",
        "0 4 * * 5L",
        "15 3 1,15 * MON",
        "*/20 8-18/2 * JAN-mar 1-5",
        "0 0 */2 * */3",
    ]);
    for text in texts {
        let expression = parsed(text);
        let lines: Vec<Expression> = expression.on_calendar().iter().map(|line| parsed(line)).collect();
        assert!(!lines.is_empty(), "{text}");
        let (mut a, mut b) = (at(BASE), at(BASE));
        for _ in 0..50 {
            let both = (expression.next(a, &Zone::UTC), next(&lines, b, &Zone::UTC));
            assert_eq!(both.0, both.1, "{text} as {:?}", expression.on_calendar());
            let (Some(x), Some(y)) = both else { break };
            (a, b) = (x, y);
        }
    }
    assert!(parsed("0 4 */2,L * 5L").on_calendar().is_empty(), "there is no word for this");
    assert!(parsed("every 90m").on_calendar().is_empty());
}

/// An event that comes often enough.
fn invented(random: &mut Random) -> String {
    let pick = |random: &mut Random, choices: &[&str]| choices[random.below(choices.len())].to_owned();
    let days = ["", "", "Mon ", "Tue..Thu ", "Sat,Sun "];
    let dates = ["*-*-*", "*-*-1..20", "*-*-3/4", "*-2,4..11-*", "*-*~1..9/2", "*-1/3-5,25", "*-02-28,29"];
    let hours = ["*", "3", "0/5", "8..18/3", "23,1"];
    let minutes = ["*", "0/7", "59", "5,10,15", "30..40/4"];
    let seconds = ["", ":0/20", ":59", ":5,6"];
    let day = pick(random, &days);
    let date = pick(random, &dates);
    let time = format!("{}:{}{}", pick(random, &hours), pick(random, &minutes), pick(random, &seconds));
    format!("{day}{date} {time}")
}

/// Every minute of two years, one after the other, by the calendar of the zone.
#[test]
fn each_minute_of_the_year_agrees_where_clocks_are_set() {
    let zone = Zone::parse(BERLIN).expect("a rule");
    type IsDue = fn(i8, i8) -> bool;
    let texts: &[(&str, IsDue)] = &[
        ("30 2 * * *", |h, m| (h, m) == (2, 30)),
        ("*/20 1-4 * * *", |h, m| (1..=4).contains(&h) && m % 20 == 0),
        ("0/2:15", |h, m| h % 2 == 0 && m == 15),
        ("*:45", |_, m| m == 45),
        ("02:00", |h, m| (h, m) == (2, 0)),
        ("03:00", |h, m| (h, m) == (3, 0)),
    ];
    for (text, is_due) in texts {
        let expression = parsed(text);
        let hourly = text.starts_with('*') && text.contains(':');
        let (begin, end) = (at("2026-01-01T00:00:00Z").secs, at("2028-01-01T00:00:00Z").secs);
        let mut wanted = Vec::new();
        for minute in (begin..end).step_by(60) {
            let t = |secs| Timestamp { secs, nanos: 0 };
            let now = zone.calendar(t(minute));
            let before = zone.calendar(t(minute - 60));
            let skipped = !hourly && now.offset > before.offset && (0..60).any(|m| is_due(2, m));
            let earlier = zone.calendar(t(minute - 3600));
            let second_time = !hourly && earlier.offset > now.offset && earlier.hour == now.hour;
            if skipped || (is_due(now.hour, now.minute) && !second_time) {
                wanted.push(minute);
            }
        }
        let mut now = Timestamp { secs: begin - 1, nanos: 0 };
        let mut found = Vec::new();
        while let Some(then) = expression.next(now, &zone).filter(|then| then.secs < end) {
            found.push(then.secs);
            now = then;
        }
        assert_eq!(found, wanted, "{text}");
        // Asked from any moment, the answer is the same.
        for from in (begin..end).step_by(7 * 3600 + 1234) {
            let asked = expression.next(Timestamp { secs: from, nanos: 5 }, &zone).expect("another");
            let least = wanted.iter().find(|secs| **secs > from);
            assert!(least.is_none_or(|least| *least == asked.secs), "{text} from {from}");
        }
    }
}

#[test]
fn clocks_that_are_set_run_nothing_twice_and_leave_nothing_out() {
    let zone = Zone::parse(BERLIN).expect("a rule");
    let ten_years = at("2026-01-01T00:00:00+01:00")..at("2036-01-01T00:00:00+01:00");
    let count = |text: &str| {
        let (expression, mut now, mut runs) =
            (parsed(text), Timestamp { secs: ten_years.start.secs - 1, nanos: 0 }, 0);
        while let Some(then) = expression.next(now, &zone).filter(|then| *then < ten_years.end) {
            assert!(then > now, "{text}");
            (now, runs) = (then, runs + 1);
        }
        runs
    };
    let days = 3652;
    for daily in ["02:30", "30 2 * * *", "daily", "02:00", "03:00", "@daily"] {
        assert_eq!(count(daily), days, "{daily}");
    }
    for hourly in ["hourly", "*:30", "30 * * * *"] {
        assert_eq!(count(hourly), days * 24, "{hourly}");
    }
    assert_eq!(count("*-02-29"), 2, "2028 and 2032");
    assert_eq!(count("0 0 L * *"), 120, "the last day of each month, Decembers included");
    assert_eq!(count("0 0 * * 5L"), 120);
    let gap = parsed("02:30").next(at("2026-03-29T00:30:00+01:00"), &zone).expect("a moment");
    assert_eq!(gap, at("2026-03-29T03:00:00+02:00"), "when the gap ends");
    let twice = parsed("02:30").next(at("2026-10-25T02:30:00+02:00"), &zone).expect("a moment");
    assert_eq!(twice, at("2026-10-26T02:30:00+01:00"), "not a second time");
    let own = parsed("18:00 UTC").next(at("2026-07-01T00:00:00Z"), &zone).expect("a moment");
    assert_eq!(own, at("2026-07-01T18:00:00Z"), "its own zone");
}

#[test]
fn cron_fields_mean_what_cron_means() {
    let first = |text: &str| parsed(text).next(at(BASE), &Zone::UTC).expect("a moment").rfc3339();
    assert_eq!(first("*/15 * * * *"), "2026-11-21T03:45:00Z");
    assert_eq!(first("0 9 1,15 * 1"), "2026-11-23T09:00:00Z", "either is enough");
    assert_eq!(first("0 9 15 * *"), "2026-12-15T09:00:00Z");
    assert_eq!(first("0 9 */2 * 1"), "2026-11-23T09:00:00Z", "both, as one begins with a star");
    assert_eq!(first("0 9 * * 0"), first("0 9 * * 7"));
    assert_eq!(first("0 9 * * SUN"), "2026-11-22T09:00:00Z");
    assert_eq!(first("0 9 * * sat-sun"), "2026-11-21T09:00:00Z");
    assert_eq!(first("0 0 1 JAN *"), "2027-01-01T00:00:00Z");
    assert_eq!(first("0 4 * * 1#2"), "2026-12-14T04:00:00Z");
    assert_eq!(first("@weekly"), "2026-11-22T00:00:00Z", "cron's weeks begin on Sunday");
    assert_eq!(first("every 6h"), "2026-11-21T09:30:00Z");
    let list = [parsed("daily"), parsed("12:00")];
    assert_eq!(next(&list, at(BASE), &Zone::UTC), Some(at("2026-11-21T12:00:00Z")));
    let hours = |(longest, shortest): (std::time::Duration, std::time::Duration)| {
        (longest.as_secs() / 3600, shortest.as_secs() / 3600)
    };
    assert_eq!(gaps(&[parsed("Mon..Fri 18:00")], at(BASE), &Zone::UTC).map(hours), Some((72, 24)));
    assert_eq!(gaps(&[parsed("2027-01-01")], at(BASE), &Zone::UTC), None);
}
