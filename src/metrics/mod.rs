//! Figures for Prometheus and its kin: as a file for node_exporter, pushed to a gateway, or served over HTTP.
//!
//! Whoever has figures makes a `Page` (`of_health`, `of_jobs`), joins pages, and hands them to `write`, `push` or `Server`. The
//! text is valid as Prometheus' own format and as OpenMetrics; units stand in names: `_seconds`, `_bytes`, `_ratio`.

mod push;
mod serve;

pub use push::push;
pub use serve::Server;

use crate::clock::Timestamp;
use crate::error::{Context, Result};
use crate::health::{Figures, Status, Verdict};
use crate::os::aside;
use std::collections::BTreeMap;
use std::path::Path;

/// Samples by family, each with its labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    families: BTreeMap<&'static str, Family>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Family {
    help: &'static str,
    samples: Vec<(Vec<(&'static str, String)>, f64)>,
}

/// What is known of a job on one target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobFigures {
    pub profile: String,
    pub job: String,
    pub target: String,
    pub last_start: Option<Timestamp>,
    pub last_success: Option<Timestamp>,
    pub last_code: Option<u8>,
    pub last_seconds: Option<f64>,
    /// Read, and stored anew.
    pub last_bytes: Option<u64>,
    pub last_added: Option<u64>,
    pub consecutive_failures: u64,
    pub next: Option<Timestamp>,
}

impl Page {
    /// Adds one sample. A family has one name and one help text; all of them are gauges.
    pub fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: f64,
    ) {
        let family = self.families.entry(name).or_insert_with(|| Family { help, samples: Vec::new() });
        let labels = labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        family.samples.push((labels, value));
    }

    /// Takes in another page's samples. What has the same name and labels is there once: this page's.
    pub fn join(&mut self, other: Page) {
        for (name, family) in other.families {
            let ours = self
                .families
                .entry(name)
                .or_insert_with(|| Family { help: family.help, samples: Vec::new() });
            for (labels, value) in family.samples {
                if !ours.samples.iter().any(|(known, _)| *known == labels) {
                    ours.samples.push((labels, value));
                }
            }
        }
    }

    /// Names of all families.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.families.keys().copied()
    }

    /// The page as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (name, family) in &self.families {
            out.push_str(&format!("# TYPE {name} gauge\n"));
            if let Some(unit) = ["seconds", "bytes", "ratio"].iter().find(|u| name.ends_with(*u)) {
                out.push_str(&format!("# UNIT {name} {unit}\n"));
            }
            out.push_str(&format!("# HELP {name} {}\n", escaped(family.help)));
            for (labels, value) in &family.samples {
                let shown: Vec<String> =
                    labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
                match shown.is_empty() {
                    true => out.push_str(&format!("{name} {value}\n")),
                    false => out.push_str(&format!("{name}{{{}}} {value}\n", shown.join(","))),
                }
            }
        }
        out.push_str("# EOF\n");
        out
    }
}

/// Backslash, quote and line end as the formats have them.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// What a judgement says, in figures.
pub fn of_health(status: &Status) -> Page {
    let mut page = Page::default();
    let profile = status.profile.clone().unwrap_or_default();
    let target = status.target.clone().unwrap_or_default();
    let here =
        [("profile", profile.as_str()), ("target", target.as_str()), ("repository", status.place.as_str())];
    let mut one = |name, help, value: Option<f64>| {
        if let Some(value) = value {
            page.add(name, help, &here, value);
        }
    };
    let level = |verdict: Verdict| {
        f64::from(u8::from(verdict > Verdict::Ok) + u8::from(verdict == Verdict::Critical))
    };
    let ago = |seconds: Option<u64>| seconds.map(|s| s as f64);
    one("snapkeep_health_status", "0 all is well, 1 warning, 2 critical", Some(level(status.verdict)));
    one("snapkeep_health_time_seconds", "When this was judged, since 1970", Some(status.now.secs as f64));
    one(
        "snapkeep_repository_reachable",
        "1 when the repository could be opened",
        Some(f64::from(u8::from(status.seen))),
    );
    let snapshots = status.seen.then_some(status.snapshots as f64);
    one("snapkeep_snapshots", "Snapshots in the repository", snapshots);
    one("snapkeep_disk_free_bytes", "Free on the repository's disk", status.space.map(|s| s.free as f64));
    one("snapkeep_disk_size_bytes", "Size of the repository's disk", status.space.map(|s| s.total as f64));
    let full = status.days_left.map(|days| days * 86_400.0);
    one("snapkeep_disk_full_in_seconds", "Until the disk is full at the pace of the last weeks", full);
    one("snapkeep_check_age_seconds", "Since the last check", ago(status.check_age_seconds));
    one(
        "snapkeep_check_read_age_seconds",
        "Since the last check that read everything",
        ago(status.read_age_seconds),
    );
    one(
        "snapkeep_drill_age_seconds",
        "Since a whole snapshot was last proven restorable",
        ago(status.drill_age_seconds),
    );
    for (severity, verdict) in [("warning", Verdict::Warning), ("critical", Verdict::Critical)] {
        let count = status.findings.iter().filter(|f| f.severity == verdict).count();
        let labels = [here[0], here[1], here[2], ("severity", severity)];
        page.add("snapkeep_health_findings", "Findings of this severity", &labels, count as f64);
    }
    for series in &status.series {
        of_series(&mut page, &here, series);
    }
    page
}

fn of_series(page: &mut Page, here: &[(&'static str, &str); 3], series: &Figures) {
    let labels = [here[0], here[1], here[2], ("set", series.name.as_str()), ("host", series.host.as_str())];
    let mut one = |name, help, value: Option<u64>| {
        if let Some(value) = value {
            page.add(name, help, &labels, value as f64);
        }
    };
    one("snapkeep_backup_age_seconds", "Since the newest snapshot", series.age_seconds);
    one("snapkeep_backup_good_age_seconds", "Since the newest good snapshot", series.good_age_seconds);
    one("snapkeep_backup_max_age_seconds", "How old the newest good snapshot may be", series.max_age_seconds);
    one("snapkeep_backup_snapshots", "Snapshots of this set", Some(series.snapshots));
    one("snapkeep_backup_files", "Files in the newest snapshot", Some(series.files));
    one("snapkeep_backup_content_bytes", "Content of the newest snapshot", Some(series.bytes));
    one("snapkeep_backup_added_bytes", "What the newest snapshot added to the disk", Some(series.added));
}

/// What is remembered of jobs, in figures.
pub fn of_jobs(jobs: &[JobFigures]) -> Page {
    let mut page = Page::default();
    for job in jobs {
        let labels =
            [("profile", job.profile.as_str()), ("job", job.job.as_str()), ("target", job.target.as_str())];
        let mut one = |name, help, value: Option<f64>| {
            if let Some(value) = value {
                page.add(name, help, &labels, value);
            }
        };
        let time = |t: Option<Timestamp>| t.map(|t| t.secs as f64);
        one("snapkeep_job_start_time_seconds", "When the job last began, since 1970", time(job.last_start));
        one(
            "snapkeep_job_success_time_seconds",
            "When the job last succeeded, since 1970",
            time(job.last_success),
        );
        one("snapkeep_job_next_time_seconds", "When the job is to run next, since 1970", time(job.next));
        one("snapkeep_job_exit_code", "Exit code of the last run", job.last_code.map(f64::from));
        one("snapkeep_job_duration_seconds", "How long the last run took", job.last_seconds);
        one("snapkeep_job_read_bytes", "What the last run read", job.last_bytes.map(|n| n as f64));
        one(
            "snapkeep_job_added_bytes",
            "What the last run added to the disk",
            job.last_added.map(|n| n as f64),
        );
        let failures = Some(job.consecutive_failures as f64);
        one("snapkeep_job_failures", "Failures in a row", failures);
    }
    page
}

/// Puts a page where node_exporter's textfile collector looks; a reader never sees half of it.
pub fn write(file: &Path, page: &Page) -> Result<()> {
    aside::replace(file, page.text().as_bytes(), 0o644).context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_as_the_formats_want_them() {
        let mut page = Page::default();
        page.add("a_bytes", "All \\ of it", &[("set", "a\"b\\c\nd")], 1.5);
        page.add("b", "B", &[], 2.0);
        let expected = "# TYPE a_bytes gauge\n# UNIT a_bytes bytes\n# HELP a_bytes All \\\\ of it\n\
                        a_bytes{set=\"a\\\"b\\\\c\\nd\"} 1.5\n# TYPE b gauge\n# HELP b B\nb 2\n# EOF\n";
        assert_eq!(page.text(), expected);
        let mut joined = page.clone();
        joined.join(page.clone());
        assert_eq!(joined, page);
    }
}
