//! Options that several commands share.

use super::failure::{Failure, usage};
use crate::clock::Timestamp;
use crate::compress::Level;
use crate::error::Result;
use crate::format::limit;
use crate::repository::schema;
use crate::repository::segment::SegmentPolicy;
use crate::repository::snapshots::{Listed, Listing, SnapshotFilter, decode_path, encode_path, resolve};
use crate::repository::trash;
use crate::source::roots::Root;
use crate::units;
use clap::Args;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// Options that every command takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The repository: a directory
    #[arg(short, long, global = true, value_name = "URL")]
    pub repo: Option<OsString>,
    /// A file that holds the password
    #[arg(short, long, global = true, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// A command that writes the password
    #[arg(long, global = true, value_name = "COMMAND")]
    pub password_command: Option<String>,
    /// Take what is not said here from the profile NAME, or from a file: a path, or a name that ends in .toml
    #[arg(short = 'P', long, global = true, value_name = "NAME")]
    pub use_profile: Option<String>,
    /// Work with the profile's target NAME [default: the first]
    #[arg(long, global = true, value_name = "NAME")]
    pub to: Option<String>,
    /// Write JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,
    /// Say only what went wrong
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more; may be repeated
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Show no progress
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// Append what happens to FILE
    #[arg(long, global = true, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Where caches are kept [default: snapkeep in the user's cache directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Keep no cache
    #[arg(long, global = true)]
    pub no_cache: bool,
    /// Where the journal and the states of jobs are kept [default: snapkeep in the user's state directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Write nothing into the journal
    #[arg(long, global = true)]
    pub no_journal: bool,
    /// Say what would be done and change nothing
    #[arg(short = 'n', long, global = true)]
    pub dry_run: bool,
    /// How long to try again while somebody else is at work, for example 5m
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    pub retry_lock: Option<Duration>,
    /// off, fastest, auto, better, max or a zstd level
    #[arg(long, global = true, value_name = "LEVEL", default_value = "auto", value_parser = level)]
    pub compression: Level,
    /// When copies of pack footers are stored as index segments, which make opening a repository far away take few
    /// requests: auto (where it lies on a network file system), always or never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", value_parser = segments)]
    pub segments: SegmentPolicy,
}

/// A span such as 90s, 10m or 1d12h.
pub fn duration(text: &str) -> Result<Duration> {
    units::parse_duration(text)
}

fn level(text: &str) -> Result<Level> {
    Level::parse(text)
}

fn segments(text: &str) -> Result<SegmentPolicy> {
    SegmentPolicy::parse(text)
}

/// A size such as 500K or 1.5G.
pub fn size(text: &str) -> Result<u64> {
    units::parse_bytes(text)
}

/// A share of a whole, with or without the sign.
pub fn per_cent(text: &str) -> Result<f64> {
    let number = text.trim().trim_end_matches('%').trim_end().parse::<f64>();
    number.ok().filter(|n| (0.0..=100.0).contains(n)).ok_or_else(|| {
        crate::error::Error::invalid(format!("`{text}` is no share; use a number from 0 to 100"))
    })
}

/// A share of parity in whole per cent; `off` for none.
pub fn parity(text: &str) -> Result<u32> {
    let number = match text.trim().trim_end_matches('%') {
        "off" => Some(0),
        digits => digits.parse().ok(),
    };
    number.filter(|n| *n <= limit::PARITY_PERCENT_MAX).ok_or_else(|| {
        let what = format!("`{text}` is no share of parity; use a whole number from 1 to 100, or off");
        crate::error::Error::invalid(what)
    })
}

/// Which snapshots are looked at.
#[derive(Args, Clone, Debug, Default)]
pub struct FilterArgs {
    /// Only snapshots of this host
    #[arg(short = 'H', long, value_name = "HOST")]
    host: Vec<String>,
    /// Only snapshots with all of these tags; `''` for those without any
    #[arg(long, value_name = "TAG[,TAG…]")]
    tag: Vec<String>,
    /// Only snapshots of this path
    #[arg(long, value_name = "PATH")]
    path: Vec<PathBuf>,
    /// Only snapshots of this set of a profile
    #[arg(long, value_name = "[PROFILE/]SET")]
    of_set: Vec<String>,
}

impl FilterArgs {
    pub fn filter(&self) -> Result<SnapshotFilter> {
        let filter = filter(&self.host, &self.tag, &self.path)?;
        Ok(SnapshotFilter { sets: self.of_set.clone(), ..filter })
    }
}

/// The filter that lets through what has one of the hosts, one of the sets of tags, and all of the paths.
pub fn filter(hosts: &[String], tags: &[String], paths: &[PathBuf]) -> Result<SnapshotFilter> {
    let mut encoded = Vec::new();
    for path in paths {
        let mut absolute = vec![b'/'];
        absolute.extend(Root::new(path)?.stored);
        encoded.push(encode_path(&absolute));
    }
    Ok(SnapshotFilter {
        hosts: hosts.to_vec(),
        tags: tag_sets(tags),
        paths: encoded,
        ..SnapshotFilter::default()
    })
}

/// Each text is a set of tags, separated by commas; an empty one means that there are none.
pub fn tag_sets(texts: &[String]) -> Vec<Vec<String>> {
    texts.iter().map(|list| list.split(',').map(str::to_owned).collect()).collect()
}

/// How long forgotten snapshots can be brought back.
#[derive(Args, Clone, Copy, Debug)]
pub struct TrashArgs {
    /// Days that forgotten snapshots stay in the trash before `prune` deletes them
    #[arg(long, value_name = "DAYS", default_value_t = trash::DAYS)]
    trash_days: u32,
}

impl TrashArgs {
    pub fn keep(&self) -> Duration {
        trash::span(self.trash_days)
    }
}

/// The snapshots that are named, or all that the filter lets through; oldest first.
pub fn snapshots_named(
    listing: &Listing,
    names: &[String],
    filter: &SnapshotFilter,
    now: Timestamp,
) -> Result<Vec<Listed>> {
    let mut named = Vec::new();
    for name in names {
        named.push(resolve(listing, name, filter, now)?.id);
    }
    let wanted =
        |s: &&Listed| if names.is_empty() { filter.matches(&s.record) } else { named.contains(&s.id) };
    Ok(listing.snapshots.iter().filter(wanted).cloned().collect())
}

/// How one snapshot, or something in it, is named.
#[derive(Args, Clone, Debug, Default)]
pub struct AtArgs {
    /// The newest snapshot at or before TIME; for `:PATH` without a snapshot's name
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// What `SNAP:PATH` means.
#[derive(Clone, Debug)]
pub struct Target {
    pub snapshot: Listed,
    /// Without a leading slash; empty for everything. `None` when no path was given.
    pub path: Option<Vec<u8>>,
    /// The user asked for the newest, whichever that is.
    pub by_latest: bool,
}

impl AtArgs {
    /// What narrows the choice of snapshots.
    pub fn filter(&self) -> Result<SnapshotFilter> {
        self.filter.filter()
    }

    /// Whether `--at` names the snapshot.
    pub fn has_time(&self) -> bool {
        self.at.is_some()
    }

    /// `SNAP`, `SNAP:PATH`, or `:PATH` together with `--at`; without any text the snapshot meant by `--at`.
    pub fn target(
        &self,
        listing: &Listing,
        text: Option<&OsStr>,
        now: Timestamp,
    ) -> std::result::Result<Target, Failure> {
        let (name, path) = split(text.unwrap_or_default(), self.at.is_some())?;
        let name = match &self.at {
            Some(time) => format!("@{time}"),
            None if name.is_empty() => {
                return Err(Failure::usage("no snapshot is named; use an id, latest, or --at TIME"));
            }
            None => name,
        };
        let filter = self.filter.filter().map_err(usage)?;
        // A database that is named is the one whose version counts.
        let database = path.as_ref().map(|path| format!("/{}", encode_path(path)));
        let is_one = |path: &&String| schema::is_database(listing, path);
        let snapshot = match (schema::parse_before(&name), database.as_ref().filter(is_one)) {
            (Some(version), Some(path)) if listing.damaged.is_empty() => {
                schema::before(listing, version?, Some(path), &filter)?
            }
            _ => resolve(listing, &name, &filter, now)?,
        };
        Ok(Target { snapshot, path, by_latest: name == "latest" })
    }
}

/// Name and path; everything after the first colon is the path, except that times hold colons themselves.
fn split(text: &OsStr, has_time: bool) -> std::result::Result<(String, Option<Vec<u8>>), Failure> {
    let bytes = text.as_bytes();
    // One kind of name has a colon of its own.
    let start = if bytes.starts_with(schema::BEFORE.as_bytes()) { schema::BEFORE.len() } else { 0 };
    let colon = bytes.iter().skip(start).position(|b| *b == b':').map(|at| start + at);
    let colon = colon.filter(|_| !bytes.starts_with(b"@"));
    let (name, path) = match colon {
        Some(at) => (&bytes[..at], Some(stored(&bytes[at + 1..])?)),
        None => (bytes, None),
    };
    if has_time && !name.is_empty() {
        let hint = "--at TIME names the snapshot already; give only `:PATH` beside it";
        return Err(Failure::usage(hint));
    }
    Ok((String::from_utf8_lossy(name).into_owned(), path))
}

/// The stored path, without a leading slash, of one in a snapshot's record.
pub fn decoded(recorded: &str) -> Vec<u8> {
    let path = decode_path(recorded);
    path.strip_prefix(b"/").map(<[u8]>::to_vec).unwrap_or(path)
}

/// A path as snapshots hold it: absolute, but without the leading slash.
pub fn stored(path: &[u8]) -> std::result::Result<Vec<u8>, Failure> {
    let parts = || path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".");
    if parts().any(|p| p == b"..") {
        let shown = OsString::from(OsStr::from_bytes(path));
        let what = format!("`{}` goes through `..`; write the path as it was backed up", shown.display());
        return Err(Failure::usage(what));
    }
    Ok(parts().collect::<Vec<_>>().join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_split_at_the_first_colon_unless_it_is_a_time() {
        let parts = |text: &str| split(OsStr::new(text), false).expect("valid");
        assert_eq!(parts("latest"), ("latest".to_owned(), None));
        assert_eq!(parts("latest:/a//b:c/"), ("latest".to_owned(), Some(b"a/b:c".to_vec())));
        assert_eq!(parts("@2026-11-20 11:30").0, "@2026-11-20 11:30");
        assert_eq!(parts("before-schema:42").0, "before-schema:42");
        assert_eq!(parts("before-schema:-1:/a:b"), ("before-schema:-1".to_owned(), Some(b"a:b".to_vec())));
        assert_eq!(parts("abcd:/"), ("abcd".to_owned(), Some(Vec::new())));
        assert!(split(OsStr::new("latest:/a"), true).is_err());
        assert!(split(OsStr::new(":/a"), true).is_ok());
        assert!(split(OsStr::new("latest:/a/../b"), false).is_err());
    }
}
