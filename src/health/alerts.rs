//! A judgement as JSON, as it stands in the status file, and what has changed since the one before.

use super::{Figures, Finding, Space, Status, Verdict};
use crate::clock::Timestamp;
use crate::codes::Code;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::os::aside;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;

/// Who may read what is written: nobody but the user, and whoever the user's directory lets in.
const MODE: u32 = 0o600;

/// One line of the alert log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// RFC 3339.
    pub time: String,
    /// `new`, `worse`, `better` or `gone`.
    pub change: String,
    pub code: String,
    pub subject: String,
    pub severity: Verdict,
    pub cause: String,
    /// The verdict of everything.
    pub verdict: Verdict,
}

/// What of a status file the next judgement needs.
#[derive(Deserialize)]
struct Before {
    #[serde(default)]
    findings: Vec<Told>,
}

#[derive(Deserialize)]
struct Told {
    code: String,
    subject: String,
    severity: Verdict,
    #[serde(default)]
    cause: String,
}

/// The whole judgement, one object.
pub fn json(status: &Status) -> Value {
    let finding = |f: &Finding| {
        json!({ "code": f.code.word(), "severity": f.severity, "subject": f.subject, "cause": f.cause,
            "consequence": f.consequence, "next": f.next })
    };
    let series = |s: &Figures| {
        json!({ "name": s.name, "host": s.host, "set": s.set, "snapshots": s.snapshots, "age_seconds": s.age_seconds,
            "good_age_seconds": s.good_age_seconds, "max_age_seconds": s.max_age_seconds, "files": s.files,
            "bytes": s.bytes, "added_bytes": s.added })
    };
    json!({
        "message_type": "health",
        "verdict": status.verdict,
        "seen": status.seen,
        "time": status.now.rfc3339(),
        "host": status.host,
        "repository": status.place,
        "profile": status.profile,
        "target": status.target,
        "findings": status.findings.iter().map(finding).collect::<Vec<_>>(),
        "series": status.series.iter().map(series).collect::<Vec<_>>(),
        "snapshots": status.snapshots,
        "free_bytes": status.space.map(|s| s.free),
        "total_bytes": status.space.map(|s| s.total),
        "days_left": status.days_left,
        "check_age_seconds": status.check_age_seconds,
        "read_age_seconds": status.read_age_seconds,
        "drill_age_seconds": status.drill_age_seconds,
        "databases_looked_at": status.live,
        "unknown": status.unknown,
    })
}

/// A judgement from what another process wrote as `json`; what it lacks is not known.
pub fn parse(value: &Value) -> Option<Status> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let some = |value: &Value| value.as_str().map(str::to_owned);
    let finding = |f: &Value| {
        let code = Code::ALL.iter().find(|code| f["code"] == code.word())?;
        let severity = serde_json::from_value(f["severity"].clone()).ok()?;
        let mut finding = Finding::new(*code, severity, text(&f["subject"]), text(&f["cause"]));
        (finding.consequence, finding.next) = (text(&f["consequence"]), text(&f["next"]));
        Some(finding)
    };
    let series = |s: &Value| Figures {
        name: text(&s["name"]),
        host: text(&s["host"]),
        set: some(&s["set"]),
        snapshots: s["snapshots"].as_u64().unwrap_or(0),
        age_seconds: s["age_seconds"].as_u64(),
        good_age_seconds: s["good_age_seconds"].as_u64(),
        max_age_seconds: s["max_age_seconds"].as_u64(),
        files: s["files"].as_u64().unwrap_or(0),
        bytes: s["bytes"].as_u64().unwrap_or(0),
        added: s["added_bytes"].as_u64().unwrap_or(0),
    };
    let list = |name: &str| value[name].as_array().cloned().unwrap_or_default();
    let space = value["free_bytes"].as_u64().zip(value["total_bytes"].as_u64());
    Some(Status {
        now: Timestamp::parse_rfc3339(value["time"].as_str()?)?,
        host: text(&value["host"]),
        place: text(&value["repository"]),
        profile: some(&value["profile"]),
        target: some(&value["target"]),
        verdict: serde_json::from_value(value["verdict"].clone()).ok()?,
        seen: value["seen"].as_bool().unwrap_or(false),
        findings: list("findings").iter().map(finding).collect::<Option<_>>()?,
        series: list("series").iter().map(series).collect(),
        snapshots: value["snapshots"].as_u64().unwrap_or(0),
        space: space.map(|(free, total)| Space { free, total }),
        days_left: value["days_left"].as_f64(),
        check_age_seconds: value["check_age_seconds"].as_u64(),
        read_age_seconds: value["read_age_seconds"].as_u64(),
        drill_age_seconds: value["drill_age_seconds"].as_u64(),
        live: value["databases_looked_at"].as_u64().unwrap_or(0),
        unknown: list("unknown").iter().map(text).collect(),
    })
}

/// The judgement as it would be at a later moment, as far as time alone changes it: what is old has become older.
pub fn aged(mut status: Status, now: Timestamp) -> Status {
    let later = u64::try_from(now.secs - status.now.secs).unwrap_or(0);
    let older = |seconds: &mut Option<u64>| *seconds = seconds.map(|s| s.saturating_add(later));
    older(&mut status.check_age_seconds);
    older(&mut status.read_age_seconds);
    older(&mut status.drill_age_seconds);
    for series in &mut status.series {
        older(&mut series.age_seconds);
        older(&mut series.good_age_seconds);
    }
    status
}

/// What is new, worse, better or gone since the judgement that `before` is the file of.
pub fn changes(before: Option<&[u8]>, status: &Status) -> Vec<Alert> {
    // A file that cannot be read is as none: everything is new then.
    let before = before.and_then(|bytes| serde_json::from_slice::<Before>(bytes).ok());
    let before = before.map(|b| b.findings).unwrap_or_default();
    let alert = |change: &str, code: &str, subject: &str, severity, cause: &str| Alert {
        time: status.now.rfc3339(),
        change: change.to_owned(),
        code: code.to_owned(),
        subject: subject.to_owned(),
        severity,
        cause: cause.to_owned(),
        verdict: status.verdict,
    };
    let mut out = Vec::new();
    for finding in worst_of_each(&status.findings) {
        let code = finding.code.word();
        let known = before.iter().filter(|t| t.code == code && t.subject == finding.subject);
        let change = match known.map(|t| t.severity).max() {
            None => "new",
            Some(was) if was < finding.severity => "worse",
            Some(was) if was > finding.severity => "better",
            Some(_) => continue,
        };
        out.push(alert(change, code, &finding.subject, finding.severity, &finding.cause));
    }
    let mut told: Vec<(&str, &str)> = Vec::new();
    for gone in &before {
        let there = |f: &Finding| f.code.word() == gone.code && f.subject == gone.subject;
        let key = (gone.code.as_str(), gone.subject.as_str());
        if !status.findings.iter().any(there) && !told.contains(&key) {
            told.push(key);
            out.push(alert("gone", &gone.code, &gone.subject, Verdict::Ok, &gone.cause));
        }
    }
    out
}

/// One thing may be told twice, of two measures: the worse counts.
fn worst_of_each(findings: &[Finding]) -> Vec<&Finding> {
    let mut out: Vec<&Finding> = Vec::new();
    for finding in findings {
        match out.iter_mut().find(|f| f.code == finding.code && f.subject == finding.subject) {
            Some(known) if known.severity < finding.severity => *known = finding,
            Some(_) => {}
            None => out.push(finding),
        }
    }
    out
}

/// Puts the judgement into the status file and what has changed into the alert log; returns the changes.
pub fn keep(status: &Status, file: &Path, log: Option<&Path>) -> Result<Vec<Alert>> {
    let before = match std::fs::read(file) {
        Ok(bytes) => Some(bytes),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(Error::io(format!("cannot read {}", file.display()), &e)),
    };
    let changes = changes(before.as_deref(), status);
    let line = |alert: &Alert| serde_json::to_string(alert).unwrap_or_default() + "\n";
    let lines: String = changes.iter().map(line).collect();
    // The log first: a change that was not written down is seen again at the next judgement.
    if let Some(log) = log.filter(|_| !lines.is_empty()) {
        aside::append(log, lines.as_bytes(), MODE).context(|| format!("cannot write {}", log.display()))?;
    }
    let text = serde_json::to_string_pretty(&json(status))
        .map_err(|e| Error::new(ErrorKind::Io, format!("the status cannot be written down: {e}")))?;
    let written = aside::replace(file, (text + "\n").as_bytes(), 0o644);
    written.context(|| format!("cannot write {}", file.display()))?;
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(findings: &[(Code, Verdict, &str)]) -> Status {
        let one = |(code, severity, subject): &(Code, Verdict, &str)| {
            Finding::new(*code, *severity, *subject, "why")
        };
        Status { findings: findings.iter().map(one).collect(), ..Status::default() }
    }

    #[test]
    fn only_what_changed_is_an_alert() {
        let first =
            status(&[(Code::SpaceLow, Verdict::Warning, "a"), (Code::LiveGone, Verdict::Warning, "b")]);
        let told = |before: Option<&Status>, now: &Status| {
            let bytes = before.map(|s| serde_json::to_vec(&json(s)).expect("JSON"));
            let all = changes(bytes.as_deref(), now);
            all.iter().map(|a| format!("{} {} {}", a.change, a.code, a.subject)).collect::<Vec<_>>()
        };
        assert_eq!(told(None, &first), ["new space-low a", "new live-gone b"]);
        assert!(told(Some(&first), &first).is_empty());
        let second = status(&[(Code::SpaceLow, Verdict::Critical, "a")]);
        let again = parse(&json(&first)).expect("as it was");
        assert_eq!((again.findings.as_slice(), again.verdict), (first.findings.as_slice(), first.verdict));
        assert_eq!(told(Some(&first), &second), ["worse space-low a", "gone live-gone b"]);
        assert_eq!(told(Some(&second), &first), ["better space-low a", "new live-gone b"]);
        assert_eq!(changes(Some(b"{ torn"), &second).len(), 1);
    }
}
