//! The door: the commands and their words. The only home of clap.

mod audits;
mod changes;
mod commands;
mod context;
mod databases;
mod db_change;
mod db_check;
mod db_recover;
mod documents;
mod drills;
mod dumped;
mod failure;
mod groups;
mod guard;
mod guard_told;
mod guided;
mod health_told;
mod health_wanted;
mod healths;
mod in_place;
mod installing;
mod jobs;
mod json;
mod layers;
mod names;
mod notices;
mod options;
mod output;
mod password;
mod picker;
mod policy;
mod recording;
mod repairs;
mod rules;
mod restore_key;
mod rows;
mod rows_diff;
mod rows_history;
mod rows_verify;
mod scheduled;
mod seen;
mod sets;
mod setting_up;
mod sources;
mod staging;
mod stop;
mod stored;
mod table;
mod tables;
mod terminal;
mod unattended;
mod written;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use commands as c;
use context::Context;
use failure::{Failure, Outcome};
use layers::{Parsed, Trouble};
use options::Global;
use output::Output;
use std::ffi::OsString;
use std::process::ExitCode;

const AFTER_HELP: &str = "\
Every option can be set by the variable named beside it (lists: one value a line) or in a profile.
The password comes from SNAPKEEP_PASSWORD, --password-file, --password-command or the terminal.
SNAP is an id (4 or more digits), latest, latest~N, @TIME or before-schema:N.";

/// Encrypted, deduplicating, verified backups
#[derive(Parser, Debug)]
#[command(name = "snapkeep", version, after_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Word,
}

/// The commands.
#[derive(Subcommand, Debug)]
enum Word {
    Init(c::init::Args),
    #[command(visible_alias = "create")]
    Backup(Box<c::backup::Args>),
    #[command(visible_alias = "list")]
    Snapshots(c::snapshots::Args),
    Ls(c::ls::Args),
    Find(c::find::Args),
    Diff(Box<c::diff::Args>),
    History(c::history::Args),
    #[command(visible_alias = "extract")]
    Restore(Box<c::restore::Args>),
    Dump(c::dump::Args),
    Sql(Box<c::sql::Args>),
    #[command(visible_alias = "gc")]
    Prune(c::prune::Args),
    #[command(subcommand)]
    Session(c::session::Word),
    Check(c::check::Args),
    Verify(c::verify::Args),
    Drill(Box<c::drill::Args>),
    Health(c::health::Args),
    Report(c::report::Args),
    #[command(subcommand)]
    Notify(c::notify::Word),
    #[command(subcommand)]
    Repair(c::repair::Word),
    Stats(c::stats::Args),
    Copy(c::copy::Args),
    Forget(Box<c::forget::Args>),
    Undelete(c::undelete::Args),
    Undo(c::undo::Args),
    Run(Box<c::run::Args>),
    #[command(subcommand)]
    Db(c::db::Word),
    Pin(c::pin::Args),
    Tag(c::tag::Args),
    #[command(subcommand)]
    Key(c::key::Word),
    ShowConfig(c::show_config::Args),
    Setup(c::setup::Args),
    Completions(c::completions::Args),
    Man(c::man::Args),
    Version(c::version::Args),
    InitRules(c::init_rules::Args),
    Audit(Box<c::audit::Args>),
    Log(c::log::Args),
    #[command(subcommand)]
    Schedule(c::schedule::Word),
    Daemon(c::daemon::Args),
    Watch(c::watch::Args),
}

/// Runs the program with these arguments, its own name first.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let command = Cli::command();
    let parsed = match layers::parse(&command, &arguments) {
        Ok(parsed) => parsed,
        Err(trouble) => return ExitCode::from(not_understood(trouble, &arguments)),
    };
    let cli = match Cli::from_arg_matches(&parsed.matches) {
        Ok(cli) => cli,
        Err(e) => return ExitCode::from(not_understood(Trouble::Clap(e, None), &arguments)),
    };
    let output = match Output::new(&cli.global) {
        Ok(output) => output,
        Err(e) => return ExitCode::from(not_understood(Trouble::Failure(e.into()), &arguments)),
    };
    let context = Context::new(cli.global, output, parsed);
    context.output.log("info", &format!("begin: {}", word_of(&context.parsed)));
    let recording = recording::Recording::begin(&context);
    let outcome = dispatch(&context, &cli.command);
    let code = match outcome {
        Ok(code) => code,
        Err(Failure { code, message: None }) => code,
        Err(Failure { code, message: Some(message) }) => {
            context.facts(|facts| facts.message = Some(message.clone()));
            context.output.exit_error(code, &message);
            code
        }
    };
    recording.end(&context, code);
    context.output.log("info", &format!("end: exit code {code}"));
    ExitCode::from(code)
}

fn word_of(parsed: &Parsed) -> &str {
    parsed.matches.subcommand_name().unwrap_or_default()
}

fn dispatch(context: &Context, word: &Word) -> Outcome {
    match word {
        Word::Init(args) => c::init::run(context, args),
        Word::Backup(args) => c::backup::run(context, args),
        Word::Snapshots(args) => c::snapshots::run(context, args),
        Word::Ls(args) => c::ls::run(context, args),
        Word::Find(args) => c::find::run(context, args),
        Word::Diff(args) => c::diff::run(context, args),
        Word::History(args) => c::history::run(context, args),
        Word::Restore(args) => c::restore::run(context, args),
        Word::Prune(args) => c::prune::run(context, args),
        Word::Session(word) => c::session::run(context, word),
        Word::Check(args) => c::check::run(context, args),
        Word::Verify(args) => c::verify::run(context, args),
        Word::Drill(args) => c::drill::run(context, args),
        Word::Health(args) => c::health::run(context, args),
        Word::Report(args) => c::report::run(context, args),
        Word::Notify(word) => c::notify::run(context, word),
        Word::Repair(word) => c::repair::run(context, word),
        Word::Stats(args) => c::stats::run(context, args),
        Word::Copy(args) => c::copy::run(context, args),
        Word::Forget(args) => c::forget::run(context, args),
        Word::Undelete(args) => c::undelete::run(context, args),
        Word::Undo(args) => c::undo::run(context, args),
        Word::Run(args) => c::run::run(context, args),
        Word::Db(word) => c::db::run(context, word),
        Word::Pin(args) => c::pin::run(context, args),
        Word::Dump(args) => c::dump::run(context, args),
        Word::Sql(args) => c::sql::run(context, args),
        Word::Tag(args) => c::tag::run(context, args),
        Word::Key(word) => c::key::run(context, word),
        Word::Setup(args) => c::setup::run(context, args),
        Word::ShowConfig(args) => c::show_config::run(context, args),
        Word::Completions(args) => c::completions::run(args),
        Word::Man(args) => c::man::run(context, args),
        Word::Version(_) => c::version::run(context),
        Word::InitRules(args) => c::init_rules::run(context, args),
        Word::Audit(args) => c::audit::run(context, args),
        Word::Log(args) => c::log::run(context, args),
        Word::Schedule(word) => c::schedule::run(context, word),
        Word::Daemon(args) => c::daemon::run(context, args),
        Word::Watch(args) => c::watch::run(context, args),
    }
}

/// Long names of the options every command takes.
fn global_options() -> Vec<String> {
    let command = Cli::command();
    command
        .get_arguments()
        .filter(|a| a.is_global_set())
        .filter_map(|a| a.get_long().map(str::to_owned))
        .collect()
}

/// The command line as it is written.
fn command() -> clap::Command {
    Cli::command()
}

/// The schema of profiles.
fn schema() -> serde_json::Value {
    crate::settings::schema::schema(&layers::known(&Cli::command()))
}

/// The whole command line for completions and manual pages.
fn whole() -> clap::Command {
    layers::lay(Cli::command(), &crate::settings::Settings::default())
}

/// Says why the command line cannot be carried out, or prints the help that was asked for.
fn not_understood(trouble: Trouble, arguments: &[OsString]) -> u8 {
    let json = arguments.iter().any(|a| a == "--json")
        || std::env::var_os("SNAPKEEP_JSON").is_some_and(|v| v == "1" || v == "true");
    let (code, message) = match trouble {
        Trouble::Clap(e, _) if !e.use_stderr() => {
            // Help or version; a closed pipe is none of our business.
            let _ = e.print();
            return 0;
        }
        Trouble::Clap(e, None) if !json => {
            let _ = e.print();
            return failure::USAGE;
        }
        Trouble::Clap(e, from) => {
            let from = from.map(|from| format!(" (set by {from})")).unwrap_or_default();
            (failure::USAGE, first_line(&e) + &from)
        }
        Trouble::Failure(f) => (f.code, f.message.unwrap_or_default()),
    };
    output::exit_error_bare(json, code, &message);
    code
}

fn first_line(e: &clap::Error) -> String {
    let text = e.to_string();
    let words = text.lines().next().unwrap_or_default();
    words.strip_prefix("error: ").unwrap_or(words).trim_end_matches(':').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_fit_together() {
        whole().debug_assert();
    }
}
