//! A judgement as text, JSON, a line for Nagios, or figures for Prometheus.

use super::context::Context;
use super::failure::Failure;
use super::json::Message;
use super::names::escape;
use super::output::{Paint, Paper, one_line};
use super::table::{Column, Table};
use crate::health::{Figures, Finding, Status, Verdict, alerts};
use crate::metrics;
use crate::units::{bytes, count, counted};
use serde_json::{Value, json};

/// How a judgement is written.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
    Nagios,
    Prometheus,
}

pub fn tell(context: &Context, format: Format, statuses: &[Status]) -> Result<(), Failure> {
    let mut paper = context.output.paper();
    match format {
        Format::Text => {
            for status in statuses {
                text(context, &mut paper, status)?;
            }
        }
        Format::Json => {
            for status in statuses {
                paper.json(&alerts::json(status))?;
            }
            if statuses.len() > 1 {
                paper.json(&summary(statuses))?;
            }
        }
        Format::Nagios => paper.line(&nagios(statuses))?,
        Format::Prometheus => {
            let mut page = metrics::Page::default();
            statuses.iter().for_each(|status| page.join(metrics::of_health(status)));
            paper.bytes(page.text().as_bytes())?;
        }
    }
    paper.finish()
}

/// Of several judgements: the worst verdict, and the findings of all, the worst first.
fn summary(statuses: &[Status]) -> Message {
    let mut all: Vec<(&Status, &Finding)> =
        statuses.iter().flat_map(|status| status.findings.iter().map(move |f| (status, f))).collect();
    all.sort_by_key(|(_, finding)| std::cmp::Reverse(finding.severity));
    let finding = |(status, f): (&Status, &Finding)| {
        json!({ "profile": status.profile, "target": status.target, "code": f.code.word(), "severity": f.severity,
            "subject": f.subject, "cause": f.cause })
    };
    let verdict = statuses.iter().map(|s| s.verdict).max().unwrap_or_default();
    Message::new("summary")
        .with("verdict", verdict.to_string())
        .with("judgements", statuses.len())
        .with("findings", all.into_iter().map(finding).collect::<Vec<Value>>())
}

/// For Nagios: nobody could look.
pub fn unknown(context: &Context, why: &str) -> Result<(), Failure> {
    let mut paper = context.output.paper();
    paper.line(&format!("SNAPKEEP UNKNOWN: {}", one_line(why).replace('|', "/")))?;
    paper.finish()
}

fn word(verdict: Verdict) -> String {
    verdict.to_string().to_uppercase()
}

fn text(context: &Context, paper: &mut Paper, status: &Status) -> Result<(), Failure> {
    let colours = context.output.colours();
    let paint = |verdict: Verdict, text: &str| match verdict {
        Verdict::Critical if colours => Paint::Red.on(text),
        Verdict::Warning if colours => Paint::Yellow.on(text),
        _ => text.to_owned(),
    };
    let target = status.target.as_ref().map(|t| format!(" ({t})")).unwrap_or_default();
    let head = format!("{}: {}{target}", word(status.verdict), escape(status.place.as_bytes()));
    paper.line(&paint(status.verdict, &head))?;
    for finding in &status.findings {
        let subject = escape(finding.subject.as_bytes());
        let line =
            format!("{}: {subject}: {} [{}]", word(finding.severity), one_line(&finding.cause), finding.code);
        paper.line(&format!("  {}", paint(finding.severity, &line)))?;
        paper.line(&format!("      {}", one_line(&finding.consequence)))?;
        paper.line(&format!("      next: {}", one_line(&finding.next)))?;
    }
    if context.output.quiet {
        return Ok(());
    }
    if !status.series.is_empty() {
        let mut table = Table::new(vec![
            Column::shrinking("Backup"),
            Column::right("Age"),
            Column::right("Allowed"),
            Column::right("Snapshots"),
            Column::right("Files"),
            Column::right("Size"),
        ]);
        status.series.iter().for_each(|series| table.row(row(series)));
        for line in table.lines(context.output.width(), colours) {
            paper.line(&line)?;
        }
    }
    if !status.seen {
        return Ok(());
    }
    for line in figures(status) {
        paper.line(&line)?;
    }
    Ok(())
}

fn row(series: &Figures) -> Vec<Vec<String>> {
    let age = |seconds: Option<u64>| seconds.map_or_else(|| "-".to_owned(), ago);
    [
        escape(series.name.as_bytes()),
        age(series.good_age_seconds),
        age(series.max_age_seconds),
        count(series.snapshots),
        count(series.files),
        bytes(series.bytes),
    ]
    .into_iter()
    .map(|cell| vec![cell])
    .collect()
}

/// `35 s`, `12 min`, `26 h`, `9 days`.
fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn figures(status: &Status) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(space) = status.space {
        let full = status.days_left.map(|days| format!(", full in {} days at this pace", count(days as u64)));
        let full = full.unwrap_or_default();
        out.push(format!("Room: {} of {} free{full}", bytes(space.free), bytes(space.total)));
    }
    let since =
        |seconds: Option<u64>| seconds.map_or_else(|| "never".to_owned(), |s| format!("{} ago", ago(s)));
    out.push(format!(
        "Checked: {}, every byte: {}; proven restorable: {}",
        since(status.check_age_seconds),
        since(status.read_age_seconds),
        since(status.drill_age_seconds)
    ));
    if status.live > 0 {
        out.push(format!("Looked at {}", counted(status.live, "database in use", "databases in use")));
    }
    out.extend(status.unknown.iter().map(|what| format!("Not known: {}", one_line(what))));
    out
}

/// One line, and figures behind a bar: `label=value;warning;critical`.
fn nagios(statuses: &[Status]) -> String {
    let verdict = statuses.iter().map(|s| s.verdict).max().unwrap_or_default();
    let all: Vec<&Finding> = statuses.iter().flat_map(|s| &s.findings).collect();
    let mut line = format!("SNAPKEEP {}: ", word(verdict));
    let worst = all.iter().max_by(|a, b| a.severity.cmp(&b.severity).then(b.code.cmp(&a.code)));
    match worst {
        None => line.push_str("all is well"),
        Some(first) => {
            line.push_str(&format!(
                "{} {}: {}",
                first.code,
                one_line(&first.subject),
                one_line(&first.cause)
            ));
            if all.len() > 1 {
                line.push_str(&format!("; {} more", all.len() - 1));
            }
        }
    }
    let mut out = line.replace('|', "/") + " |";
    for status in statuses {
        let target = status.target.as_ref().map(|t| format!("_{t}")).unwrap_or_default();
        let label = |name: &str| {
            let name: String = format!("{name}{target}").chars().filter(|c| !"'=|\n".contains(*c)).collect();
            format!("'{name}'")
        };
        for series in &status.series {
            if let Some(age) = series.good_age_seconds {
                let limit = series.max_age_seconds.map(|s| s.to_string()).unwrap_or_default();
                out.push_str(&format!(" {}={age}s;{limit};;0", label(&format!("age_{}", series.name))));
            }
        }
        if let Some(space) = status.space {
            out.push_str(&format!(" {}={}B;;;0;{}", label("free"), space.free, space.total));
        }
        out.push_str(&format!(" {}={};;;0", label("snapshots"), status.snapshots));
        out.push_str(&format!(" {}={};;;0", label("findings"), status.findings.len()));
    }
    out
}
