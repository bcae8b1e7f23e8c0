//! Spans, counts and zones as people type them, and policies over any times.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snapkeep::clock::{Timestamp, Zone};
use snapkeep::retention::{Count, Period, Point, Policy, decide, span};

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

fuzz_target!(|data: &[u8]| {
    let (text, rest) = data.split_at(data.len().min(24));
    let text = String::from_utf8_lossy(text);
    let reach = span::parse(&text).ok();
    if let Some(reach) = reach {
        assert_eq!(span::parse(&reach.to_string()).expect("our own words"), reach);
    }
    let _ = Count::parse(&text);
    let zone = Zone::parse(&text).unwrap_or(Zone::UTC);
    let times: Vec<Timestamp> = rest
        .chunks_exact(8)
        .take(200)
        .map(|b| Timestamp { secs: i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]), nanos: 0 })
        .collect();
    let points: Vec<Point<'_>> = times
        .iter()
        .map(|t| Point { time: (t.secs % 7 != 0).then_some(*t), clocked: t.secs % 5 != 0, tags: &[] })
        .collect();
    for (i, period) in PERIODS.into_iter().enumerate() {
        let policy = Policy {
            counts: vec![(period, Count::Most(i as u32 + 1))],
            within: reach.map(|reach| (period, reach)).into_iter().collect(),
            ..Policy::default()
        };
        let now = times.first().copied().unwrap_or_default();
        let decision = decide(&points, &policy, now, &zone);
        assert_eq!(decision.reasons.len(), points.len());
        // The newest of any list is the newest of some bucket.
        assert!(decision.reasons.last().is_none_or(|reasons| !reasons.is_empty()));
    }
});
