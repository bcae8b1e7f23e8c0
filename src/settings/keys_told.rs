//! The keys of `[health]`, `[report]`, `[notify]` and `[metrics]`: what is judged by, and who is told.

use super::keys::{Key, Kind, group, key};

const EVENTS: Kind = Kind::Texts;
const ON: Key = key("on", EVENTS, "What is told: success, failure, health, report");
/// A URL that may be all the secret there is.
const PLACE: Kind = Kind::Either(&[Kind::Text, Kind::Secret]);

const AGES: &[Key] = &[
    key("critical", Kind::Span, "of critical sets (3h)"),
    key("high", Kind::Span, "of sets of class high (26h)"),
    key("medium", Kind::Span, "of medium sets (8d)"),
];

/// Limits of health; the job's own keys come with them.
pub const HEALTH: &[Key] = &[
    super::keys::SCHEDULE,
    super::keys::HOOKS_KEY,
    key(
        "max-age",
        Kind::Table(group(AGES, None)),
        "How old the newest good snapshot may be where no schedule says it",
    ),
    key("check-age", Kind::Span, "How long ago the last check may be (35d)"),
    key("drill-age", Kind::Span, "How long ago a snapshot may have been proven restorable (35d)"),
    key("free-warn", Kind::Share, "Less of the disk free than this is a warning (15%)"),
    key("free-critical", Kind::Share, "and than this is critical (5%)"),
    key("full-within", Kind::Span, "A disk that is going to be full within this is a warning (14d)"),
    key("shrink-warn", Kind::Share, "A snapshot that is so much smaller than usual is a warning (30%)"),
    key("grow-warn", Kind::Share, "and one that is so much larger (200%)"),
];

/// Reports: when, and what runs around them.
pub const REPORT: &[Key] = &[super::keys::SCHEDULE, super::keys::HOOKS_KEY];

/// Who is told.
pub const NOTIFY: &[Key] = &[
    key("on", EVENTS, "What is told where a place says nothing else (failure, health)"),
    key("min-interval", Kind::Span, "The same thing is not told again within this time (1h)"),
    key("ntfy", Kind::Table(group(NTFY, None)), "A topic of ntfy.sh or of a server of one's own"),
    key("mail", Kind::Table(group(MAIL, None)), "Mail by SMTP"),
    key("slack", Kind::Table(group(SLACK, None)), "What takes Slack's messages"),
    key("webhook", Kind::Tables(group(WEBHOOK, None)), "Anything that takes a POST"),
    key("ping", Kind::Table(group(PING, None)), "A dead man's switch such as healthchecks.io"),
    key("desktop", Kind::Table(group(DESKTOP, None)), "A command that shows it on the desktop"),
];

const NTFY: &[Key] = &[
    key("url", PLACE, "The server (https://ntfy.sh)"),
    key("topic", PLACE, "The topic"),
    key("token", Kind::Secret, "The access token"),
    key("priority", Kind::Whole(1, 5), "1 to 5; failures have 4 at least (3)"),
    ON,
];

const MAIL: &[Key] = &[
    key("host", Kind::Text, "The mail server"),
    key("port", Kind::Whole(1, 65_535), "Its port (587, with tls 465, with none 25)"),
    key("tls", Kind::Word(&["tls", "starttls", "none"]), "How the way there is kept secret (starttls)"),
    key("user", Kind::Text, "The user there"),
    key("password", Kind::Secret, "and the password"),
    key("from", Kind::Text, "The sender's address"),
    key("to", Kind::Texts, "Addresses"),
    ON,
];

const SLACK: &[Key] = &[key("url", PLACE, "The incoming webhook"), ON];

const WEBHOOK: &[Key] = &[
    key("url", PLACE, "Where to"),
    key("headers", Kind::Map(&PLACE), "Headers, by name"),
    key(
        "template",
        Kind::Text,
        "The body, with {title}, {text} and their like; JSON with all fields without it",
    ),
    ON,
];

const PING: &[Key] = &[
    key("url", PLACE, "The check's URL; `{job}` in it stands for the job"),
    key("jobs", Kind::Texts, "Only these jobs (all backups)"),
];

const DESKTOP: &[Key] =
    &[key("command", Kind::Text, "A program that gets title and text as arguments (notify-send)"), ON];

/// Figures.
pub const METRICS: &[Key] = &[
    key("file", Kind::Text, "A file for node_exporter's textfile collector, `….prom`"),
    key("push", PLACE, "A push gateway"),
    key("listen", Kind::Text, "Where the daemon answers Prometheus: `127.0.0.1:9105`"),
];
