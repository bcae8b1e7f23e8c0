//! The keys of a profile besides the options of commands: their names, what they take, and what they mean.
//!
//! The check of a profile and its published schema both read these tables, so that neither can know a key that the other
//! does not.

use super::keys_told;

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Text,
    /// A text or a list of texts.
    Texts,
    Truth,
    /// A whole number from one to the other.
    Whole(i64, i64),
    /// A number, not below zero.
    Number,
    /// A text such as `90s` or `2h`.
    Span,
    /// A text such as `500K`, or a number of bytes.
    Size,
    /// A text such as `15%`, or a number.
    Share,
    /// One of these words.
    Word(&'static [&'static str]),
    /// When: a text or a list of texts.
    Schedule,
    /// Commands: texts or tables with `command`.
    Hooks,
    /// A table with exactly one of `file`, `command`, `env`, `credential`.
    Secret,
    Table(Group),
    /// Any number of tables.
    Tables(Group),
    /// Names of any kind, all with values of one kind.
    Map(&'static Kind),
    /// Any of these.
    Either(&'static [Kind]),
}

/// The keys of a table, and the command whose options it may hold as well.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    pub keys: &'static [Key],
    pub options_of: Option<&'static str>,
}

#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// A sentence for whoever writes a profile.
    pub about: &'static str,
}

pub(super) const fn key(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, kind, about }
}

pub(super) const fn group(keys: &'static [Key], options_of: Option<&'static str>) -> Group {
    Group { keys, options_of }
}

const HOOKS: Kind = Kind::Table(group(HOOK_KEYS, None));

const HOOK_KEYS: &[Key] = &[
    key("run-before", Kind::Hooks, "Commands before a job"),
    key("run-after", Kind::Hooks, "Commands after a job that went well"),
    key("run-failed", Kind::Hooks, "Commands after a job that did not go well"),
    key("run-finally", Kind::Hooks, "Commands after any job, last"),
];

/// The keys of a hook that is written as a table.
pub const HOOK: &[Key] = &[
    key("command", Kind::Text, "The command: for a shell, or with `args` a program"),
    key("args", Kind::Texts, "Arguments of the program; no shell reads them"),
    key("timeout", Kind::Span, "It is ended, with all it started, when it takes longer (1h)"),
    key(
        "on-failure",
        Kind::Word(&["fail", "warn", "ignore"]),
        "What its failure means; `fail` only before a job",
    ),
];

/// The ways to a secret; one of them is given.
pub const SECRET: &[Key] = &[
    key("file", Kind::Text, "A file that holds it"),
    key("command", Kind::Text, "A command for a shell that writes it"),
    key("env", Kind::Text, "A variable that holds it"),
    key("credential", Kind::Text, "A file of this name in $CREDENTIALS_DIRECTORY"),
];

const NAME: Key = key("name", Kind::Text, "The target's name");
const REPO: Key = key("repository", Kind::Text, "The repository: a directory; `repo` means the same");
const INIT: Key = key("init", Kind::Truth, "Make the repository when there is none");
const OPTIONAL: Key = key("optional", Kind::Truth, "That it is not there is no failure");
const FROM: Key =
    key("from", Kind::Text, "The target whose snapshots are copied here, instead of another backup");

pub(super) const SCHEDULE: Key = key(
    "schedule",
    Kind::Schedule,
    "When: `hourly`, `every 6h`, a cron line or systemd's OnCalendar form; or a list of these",
);
const TARGETS: Key = key("targets", Kind::Texts, "Names of targets; all without it");
pub(super) const HOOKS_KEY: Key = key("hooks", HOOKS, "Commands around the job");

const WATCH: &[Key] = &[
    key("debounce", Kind::Span, "Back up when nothing has changed for this long (5s)"),
    key("max-delay", Kind::Span, "or when the first change is this old (60s)"),
];

const SET: &[Key] = &[
    key("name", Kind::Text, "The set's name: a-z, 0-9, `.`, `_`, `-`"),
    key("sources", Kind::Texts, "Paths, or databases as sqlite:///file.db (relative) and sqlite:////file.db"),
    key(
        "class",
        Kind::Word(&["critical", "high", "medium"]),
        "How much it matters; health judges by it (high)",
    ),
    SCHEDULE,
    TARGETS,
    key(
        "watch",
        Kind::Either(&[Kind::Truth, Kind::Table(group(WATCH, None))]),
        "Back up whenever something has changed",
    ),
    key("after", Kind::Texts, "Names of sets to back up before this one"),
    key("min-files", Kind::Whole(0, i64::MAX), "Fewer files in a snapshot are a finding of health"),
    key("min-bytes", Kind::Size, "Fewer bytes in a snapshot are a finding of health"),
    key(
        "min-rows",
        Kind::Map(&Kind::Whole(0, i64::MAX)),
        "Fewer rows in a table of a database are a finding of health",
    ),
    key("max-age", Kind::Span, "The newest good snapshot is overdue when it is older than this"),
    key("forget", Kind::Table(group(&[], Some("forget"))), "What to keep of this set, in place of [forget]"),
    HOOKS_KEY,
];

const JOB: &[Key] = &[SCHEDULE, TARGETS, HOOKS_KEY];

const JOBS: &[Key] = &[
    key("jitter", Kind::Span, "Begin up to this much later than planned (5m)"),
    key("retries", Kind::Whole(0, 100), "Further attempts at what may go better the next time (3)"),
    key("retry-delay", Kind::Span, "Before the first of them; doubled before each later one (30s)"),
    key("retry-max", Kind::Span, "The longest such pause (15m)"),
    key("nice", Kind::Whole(0, 19), "How far jobs give way at the processor (10)"),
    key("io", Kind::Word(&["idle", "best-effort", "none"]), "Whose turn it is at the disk (best-effort)"),
    key("battery", Kind::Word(&["skip", "run"]), "On battery power (run)"),
    key("min-battery", Kind::Whole(0, 100), "No job begins on battery power with less left, per cent (30)"),
    key("max-load", Kind::Number, "Jobs wait while the machine's load is higher"),
    key("load-wait", Kind::Span, "for this long at most (30m)"),
    key("timeout", Kind::Span, "A job that takes longer is ended"),
    key("time-zone", Kind::Text, "Whose hours schedules mean that name no zone; the machine's without it"),
];

/// The sections that are more than the options of a command.
pub const SECTIONS: &[Key] = &[
    key("include", Kind::Texts, "Files read before this one, relative to it; what stands here beats them"),
    key(
        "repository",
        Kind::Table(group(&[NAME, REPO, INIT, OPTIONAL], Some("global"))),
        "The first target, and options for every command",
    ),
    key(
        "target",
        Kind::Tables(group(&[NAME, REPO, INIT, OPTIONAL, FROM], Some("global"))),
        "More places for backups",
    ),
    key("global", Kind::Table(group(&[REPO, HOOKS_KEY], Some("global"))), "Options for every command"),
    key("backup", Kind::Table(group(BACKUP, Some("backup"))), "Options for every backup, and the sets"),
    key("forget", Kind::Table(group(JOB, Some("forget"))), "What to keep"),
    key("prune", Kind::Table(group(JOB, Some("prune"))), "Free what no snapshot needs"),
    key("check", Kind::Table(group(JOB, Some("check"))), "Look for damage"),
    key("drill", Kind::Table(group(JOB, Some("drill"))), "Try a restore"),
    key("copy", Kind::Table(group(JOB, Some("copy"))), "Copies to the targets with `from`"),
    key(
        "health",
        Kind::Table(group(keys_told::HEALTH, Some("health"))),
        "Whether all is well, and beyond which it is not",
    ),
    key("report", Kind::Table(group(keys_told::REPORT, Some("report"))), "What the last days brought"),
    key("notify", Kind::Table(group(keys_told::NOTIFY, None)), "Who is told of what"),
    key("metrics", Kind::Table(group(keys_told::METRICS, None)), "Figures for Prometheus"),
    key("jobs", Kind::Table(group(JOBS, None)), "How jobs run that nobody waits for"),
    key(
        "journal",
        Kind::Table(group(&[key("keep", Kind::Span, "How long what happened is kept (400d)")], None)),
        "What was done and what came of it",
    ),
];

const BACKUP: &[Key] = &[
    SCHEDULE,
    TARGETS,
    HOOKS_KEY,
    key("snapshots", Kind::Tables(group(SET, Some("backup"))), "What becomes a snapshot together: a set"),
];

/// Options that make no sense in a profile, by command.
pub const NOT_HERE: &[(&str, &[&str])] = &[
    ("global", &["use-profile", "to"]),
    ("backup", &["name", "explain", "stdin", "stdin-from-command", "dry-run"]),
    ("forget", &["name", "except-set"]),
    ("show-config", &["schema"]),
    ("setup", &["source", "second", "schedule", "install", "yes", "force"]),
];
