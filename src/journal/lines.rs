//! The journal's files: records appended, read back newest first, and thinned out by the month.

use super::{Journal, Record, files};
use crate::clock::Timestamp;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::job::Outcome;
use std::path::PathBuf;
use std::time::Duration;

const FOLDER: &str = "journal";
const ENDING: &str = ".jsonl";

/// Which records are wanted; what is not set lets everything through.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub profile: Option<String>,
    /// `backup:app`, or only `backup` for all of these; commands run by hand have theirs as name.
    pub job: Option<String>,
    pub outcome: Option<Outcome>,
    /// Only what began at or after this.
    pub since: Option<Timestamp>,
    /// The newest so many.
    pub limit: Option<usize>,
}

/// Records, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    pub records: Vec<Record>,
    /// Lines that are no record: torn by a crash, or damaged.
    pub skipped: u64,
}

impl Filter {
    fn lets(&self, record: &Record) -> bool {
        let job = |wanted: &String| {
            let name = record.job.as_deref().unwrap_or(&record.command);
            name == wanted || name.split_once(':').is_some_and(|(kind, _)| kind == wanted)
        };
        let since = |since: Timestamp| Timestamp::parse_rfc3339(&record.time).is_some_and(|t| t >= since);
        self.profile.as_ref().is_none_or(|p| record.profile.as_ref() == Some(p))
            && self.job.as_ref().is_none_or(job)
            && self.outcome.is_none_or(|o| record.outcome == o)
            && self.since.is_none_or(since)
    }
}

impl Journal {
    /// Writes a record down. It is in the file when this returns; a power cut may still take it.
    pub fn append(&self, record: &Record) -> Result<()> {
        let wrong =
            |e: serde_json::Error| Error::new(ErrorKind::Invalid, format!("a record cannot be written: {e}"));
        let line = serde_json::to_string(record).map_err(wrong)?;
        // RFC 3339 in UTC begins with year and month.
        let month = record.time.get(..7).unwrap_or("unknown");
        files::append(&self.folder(FOLDER)?.join(format!("{month}{ENDING}")), &line)
    }

    /// The records that the filter lets through. No journal is an empty one.
    pub fn read(&self, filter: &Filter) -> Result<Reading> {
        let mut reading = Reading::default();
        let limit = filter.limit.unwrap_or(usize::MAX);
        let since = filter.since.map(|t| t.rfc3339());
        for (month, path) in self.months()?.into_iter().rev() {
            let before = since.as_deref().and_then(|s| s.get(..7)).is_some_and(|s| month.as_str() < s);
            if reading.records.len() >= limit || before {
                break;
            }
            let bytes = std::fs::read(&path).context(|| format!("cannot read {}", path.display()))?;
            for line in bytes.split(|b| *b == b'\n').rev().filter(|line| !line.is_empty()) {
                match serde_json::from_slice::<Record>(line) {
                    Ok(record) if reading.records.len() < limit && filter.lets(&record) => {
                        reading.records.push(record);
                    }
                    Ok(_) => {}
                    Err(_) => reading.skipped += 1,
                }
            }
        }
        reading.records.reverse();
        Ok(reading)
    }

    /// Deletes the months of which nothing is younger than `keep`; answers how many.
    pub fn thin(&self, keep: Duration, now: Timestamp) -> Result<usize> {
        let span = i64::try_from(keep.as_secs()).unwrap_or(i64::MAX);
        let Some(edge) = now.secs.checked_sub(span) else { return Ok(0) };
        let edge = Timestamp { secs: edge, nanos: 0 }.rfc3339();
        let old = |month: &String| edge.get(..7).is_some_and(|edge| month.as_str() < edge);
        let mut gone = 0;
        for (_, path) in self.months()?.into_iter().filter(|(month, _)| old(month)) {
            std::fs::remove_file(&path).context(|| format!("cannot remove {}", path.display()))?;
            gone += 1;
        }
        Ok(gone)
    }

    /// Months and their files, the oldest first.
    fn months(&self) -> Result<Vec<(String, PathBuf)>> {
        let dir = self.dir().join(FOLDER);
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io(format!("cannot read {}", dir.display()), &e)),
        };
        let mut months = Vec::new();
        for entry in entries {
            let entry = entry.context(|| format!("cannot read {}", dir.display()))?;
            let name = entry.file_name();
            if let Some(month) = name.to_str().and_then(|name| name.strip_suffix(ENDING)) {
                months.push((month.to_owned(), entry.path()));
            }
        }
        months.sort();
        Ok(months)
    }
}
