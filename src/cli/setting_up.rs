//! The steps of `setup`: answers, a password, repositories, a profile, a first backup. Each step leaves what is there as it is.

use super::commands::setup::Args;
use super::context::{Context, directory, located_at};
use super::failure::{FAILED, Failure, NO_REPOSITORY, Outcome, REFUSED, usage};
use super::json::Message;
use super::layers::base_directory;
use super::{picker, written};
use crate::calendar::Expression;
use crate::error::{Context as _, Error};
use crate::os::process;
use crate::repository::random;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use zeroize::Zeroizing;

/// Letters of passwords made by chance: none that looks like another.
const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
/// 32 letters of 5 bits each.
const PASSWORD_LETTERS: usize = 32;
const GROUP: usize = 4;

/// The variable that holds a password for everything.
const PASSWORD: &str = "SNAPKEEP_PASSWORD";

/// What is to be set up.
pub struct Wish {
    pub name: String,
    pub sources: Vec<String>,
    /// The first target, and the second if there is to be one.
    pub repositories: Vec<PathBuf>,
    pub schedule: Option<Expression>,
    pub password_file: PathBuf,
    pub profile: PathBuf,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let wish = wish(context, args)?;
    if context.global.dry_run {
        let what = format!(
            "would write {}, make {} with the password in {}, and back up {}",
            wish.profile.display(),
            shown(&wish.repositories),
            wish.password_file.display(),
            wish.sources.join(", ")
        );
        let told = context.output.say(&what);
        return Ok(context.output.told(told, 0));
    }
    let made = password(&wish)?;
    if made {
        loud(context, &wish)?;
    }
    for place in &wish.repositories {
        repository(context, &wish, place)?;
    }
    written::profile(&wish, args.force)?;
    let mut places: Vec<&Path> = wish.repositories.iter().map(PathBuf::as_path).collect();
    places.push(&wish.password_file);
    let ignored = places.into_iter().map(written::git_ignore).collect::<Result<Vec<_>, _>>()?;
    let ignored: Vec<PathBuf> = ignored.into_iter().flatten().collect();
    let profile = wish.profile.as_os_str();
    let (code, lines) = child(context, &[OsStr::new("-P"), profile, OsStr::new("backup")])?;
    let summary = lines.last().cloned().unwrap_or_default();
    if code != 0 && code != 3 {
        let what =
            format!("the profile {} is written, but its first backup failed; ", wish.profile.display());
        return Err(Failure::new(code, what + &format!("try again by `snapkeep -P {} backup`", wish.name)));
    }
    let installed = install(context, args, &wish);
    let done = Done { made, ignored, summary, installed: matches!(installed, Ok(true)) };
    let told = tell(context, &wish, &done);
    installed?;
    Ok(context.output.told(told, code))
}

/// What came of it.
struct Done {
    /// The password was made by chance.
    made: bool,
    /// `.gitignore` files that name something more now.
    ignored: Vec<PathBuf>,
    summary: Value,
    installed: bool,
}

/// Everything that must be known, from options or by asking; nothing is touched before all of it is.
fn wish(context: &Context, args: &Args) -> Result<Wish, Failure> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if args.name.is_empty() || args.name.starts_with('.') || !args.name.chars().all(fits) {
        let what =
            format!("`{}` is no name for a profile; use a-z, 0-9, `_`, `-` and `.` (not first)", args.name);
        return Err(Failure::usage(what));
    }
    let Some(home) = base_directory("XDG_CONFIG_HOME", ".config").map(|home| home.join("snapkeep")) else {
        return Err(Failure::usage("neither XDG_CONFIG_HOME nor HOME names a place for profiles"));
    };
    let profile = home.join(format!("{}.toml", args.name));
    if profile.exists() && !args.force {
        let what =
            format!("{} is there already; choose another name, or replace it by --force", profile.display());
        return Err(Failure::new(REFUSED, what));
    }
    let asks = !args.yes && picker::can_ask();
    let sources = match (args.source.is_empty(), asks) {
        (false, _) => args.source.clone(),
        (true, true) => answers("What to back up (paths, separated by `,`):")?,
        (true, false) => return Err(Failure::usage("nothing to back up is named; give --source PATH")),
    };
    let sources = sources.iter().map(|text| written::source(text)).collect::<Result<Vec<_>, _>>()?;
    let mut repositories = vec![match (&context.global.repo, asks) {
        (Some(url), _) => directory(url)?,
        (None, true) => one("Where backups go (a directory, best on another disk):")?
            .ok_or_else(|| Failure::usage("no place for backups was named"))?
            .into(),
        (None, false) => return Err(Failure::usage("no place for backups is named; give --repo DIR")),
    }];
    match (&args.second, asks && args.repo_was_asked(context)) {
        (Some(place), _) => repositories.push(place.clone()),
        (None, true) => {
            repositories.extend(one("A second place (a directory; empty for none):")?.map(PathBuf::from))
        }
        (None, false) => {}
    }
    for place in &mut repositories {
        *place =
            std::path::absolute(&*place).map_err(|e| Error::io("cannot find the place for backups", &e))?;
    }
    if repositories.len() == 2 && repositories[0] == repositories[1] {
        return Err(Failure::usage("the second place is the same as the first"));
    }
    let schedule = match (&args.schedule, asks) {
        (Some(text), _) => Some(text.clone()),
        (None, true) => one("When (hourly, daily, `every 6h`, …; empty for only by hand):")?,
        (None, false) => None,
    };
    let schedule = schedule.map(|text| Expression::parse(&text)).transpose().map_err(usage)?;
    let usual = home.join(format!("{}.password", args.name));
    let password_file = context.global.password_file.clone().unwrap_or(usual);
    let password_file =
        std::path::absolute(&password_file).map_err(|e| Error::io("cannot find the password file", &e))?;
    Ok(Wish { name: args.name.clone(), sources, repositories, schedule, password_file, profile })
}

impl Args {
    /// A second place is asked for only when the first one was.
    fn repo_was_asked(&self, context: &Context) -> bool {
        context.global.repo.is_none()
    }
}

fn one(question: &str) -> Result<Option<String>, Failure> {
    picker::line(question)
}

fn answers(question: &str) -> Result<Vec<String>, Failure> {
    let line = one(question)?.unwrap_or_default();
    let all: Vec<String> =
        line.split(',').map(|text| text.trim().to_owned()).filter(|t| !t.is_empty()).collect();
    if all.is_empty() { Err(Failure::usage("nothing to back up was named")) } else { Ok(all) }
}

/// Makes the password file if there is none; answers whether its password was made by chance.
fn password(wish: &Wish) -> Result<bool, Failure> {
    let file = &wish.password_file;
    if file.exists() {
        return Ok(false);
    }
    let given = std::env::var(PASSWORD).ok().filter(|text| !text.is_empty()).map(Zeroizing::new);
    let made = given.is_none();
    let text = match given {
        Some(text) => text,
        None => by_chance()?,
    };
    let failed = || format!("cannot write the password file {}", file.display());
    if let Some(dir) = file.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).context(failed)?;
    }
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).context(failed)?;
    out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).context(failed)?;
    // A repository whose password was lost in a power cut could never be read.
    out.sync_all().context(failed)?;
    let dir = file.parent().unwrap_or(Path::new("/"));
    File::open(dir).and_then(|dir| dir.sync_all()).context(failed)?;
    Ok(made)
}

/// Letters in groups, fit to be written on paper.
fn by_chance() -> Result<Zeroizing<String>, Failure> {
    let mut bytes = Zeroizing::new([0u8; PASSWORD_LETTERS]);
    random::fill(&mut bytes[..])?;
    let mut text = Zeroizing::new(String::with_capacity(PASSWORD_LETTERS * 2));
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 && at % GROUP == 0 {
            text.push('-');
        }
        text.push(char::from(LETTERS[usize::from(byte % 32)]));
    }
    Ok(text)
}

fn loud(context: &Context, wish: &Wish) -> Result<(), Failure> {
    context.output.say(&format!(
        "A PASSWORD WAS MADE: {}\nWITHOUT IT NOTHING CAN EVER BE RESTORED. Keep a copy of that file somewhere else, now:\n\
         on paper, in a password manager, on another machine. A copy inside the backup is no copy.",
        wish.password_file.display()
    ))
}

/// Makes the repository, or makes sure that the password opens the one that is there.
fn repository(context: &Context, wish: &Wish, place: &Path) -> Result<(), Failure> {
    let mut words = vec![
        OsStr::new("--repo"),
        place.as_os_str(),
        OsStr::new("--password-file"),
        wish.password_file.as_os_str(),
    ];
    words.push(OsStr::new(match located_at(place) {
        Ok(_) => "snapshots",
        Err(failure) if failure.code == NO_REPOSITORY => "init",
        Err(failure) => return Err(failure),
    }));
    match child(context, &words)? {
        (0, _) => Ok(()),
        (code, _) => {
            Err(Failure::new(code, format!("{} cannot be used; no profile was written", place.display())))
        }
    }
}

/// Runs one of our own commands; its messages go where ours go, and a password in the environment does not reach it.
fn child(context: &Context, words: &[&OsStr]) -> Result<(u8, Vec<Value>), Failure> {
    let program = std::env::current_exe().map_err(|e| Error::io("cannot find this program itself", &e))?;
    let mut command = process::command(program.as_os_str());
    for name in ["SNAPKEEP_REPOSITORY", "SNAPKEEP_USE_PROFILE", "SNAPKEEP_DRY_RUN"] {
        command.env_remove(name);
    }
    if let Some(dir) = &context.global.cache_dir {
        command.arg("--cache-dir").arg(dir);
    }
    if let Some(dir) = &context.global.state_dir {
        command.arg("--state-dir").arg(dir);
    }
    // A person sees what a backup says; what else is done is told here.
    let shows = !context.output.json && words.ends_with(&[OsStr::new("backup")]);
    if context.output.json {
        command.arg("--json");
    }
    let out = if shows { Stdio::inherit() } else { Stdio::piped() };
    command.args(words).stdin(Stdio::null()).stdout(out).stderr(Stdio::inherit());
    let output = command.output().map_err(|e| Error::io("cannot run this program itself", &e))?;
    let lines = String::from_utf8_lossy(&output.stdout);
    let lines = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    Ok((crate::os::child::code(output.status), lines))
}

/// Installs the schedule where that is wanted; answers whether it was.
fn install(context: &Context, args: &Args, wish: &Wish) -> Result<bool, Failure> {
    let there = super::command().find_subcommand("schedule").is_some();
    if wish.schedule.is_none() || !there {
        if args.install {
            let why =
                if there { "--install needs a --schedule" } else { "this build cannot install schedules" };
            return Err(Failure::new(
                FAILED,
                format!("the backup is made, but nothing was installed: {why}"),
            ));
        }
        return Ok(false);
    }
    let asks = !args.install && !args.yes && picker::can_ask();
    let wanted =
        args.install || (asks && one("Install the schedule now? (y/N)")?.is_some_and(|a| a.starts_with('y')));
    if !wanted {
        return Ok(false);
    }
    let name = OsStr::new(&wish.name);
    let words = [OsStr::new("-P"), name, OsStr::new("schedule"), OsStr::new("install")];
    match child(context, &words)? {
        (0, _) => Ok(true),
        (code, _) => Err(Failure::new(code, "the backup is made, but its schedule could not be installed")),
    }
}

fn tell(context: &Context, wish: &Wish, done: &Done) -> Result<(), Failure> {
    let output = &context.output;
    if output.json {
        let paths =
            |all: &[PathBuf]| all.iter().map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>();
        return output.result(
            &Message::new("summary")
                .with("profile", wish.profile.to_string_lossy())
                .with("password_file", wish.password_file.to_string_lossy())
                .with("password_made", done.made)
                .with("repositories", paths(&wish.repositories))
                .with("git_ignored_in", paths(&done.ignored))
                .with("schedule_installed", done.installed)
                .with("snapshot_ids", done.summary["snapshot_ids"].clone()),
        );
    }
    let name = &wish.name;
    let mut lines = vec![format!(
        "profile {} written; first backup made in {}",
        wish.profile.display(),
        shown(&wish.repositories)
    )];
    lines.extend(done.ignored.iter().map(|file| format!("added to {}", file.display())));
    match (&wish.schedule, done.installed) {
        (Some(schedule), true) => lines.push(format!("it runs {schedule} from now on")),
        (Some(schedule), false) => {
            lines.push(format!(
                "to run it {schedule}: `snapkeep -P {name} schedule install`, or `snapkeep -P {name} daemon`"
            ));
        }
        (None, _) => lines.push(format!("the next backup: `snapkeep -P {name} backup`")),
    }
    let place = written::quoted(&wish.repositories[0]);
    lines.push("When something is lost:".to_owned());
    lines.push(format!(
        "  some files:   snapkeep -P {name} restore latest --in-place   (`undo` takes it back)"
    ));
    lines.push(format!(
        "  this machine: snapkeep -r {place} -p COPY-OF-THE-PASSWORD restore latest --target DIR"
    ));
    lines.push("  the password: nothing. Keep a copy of its file elsewhere.".to_owned());
    output.say(&lines.join("\n"))
}

fn shown(places: &[PathBuf]) -> String {
    places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(" and ")
}
