//! Lays environment and profile beneath the command line: what they say becomes the options' defaults.

use super::failure::Failure;
use crate::error::Result;
use crate::os::process::is_root;
use crate::settings::profile::{self, Choice, Profile};
use crate::settings::{Known, Section, Setting, Settings, Takes};
use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// The section of options that every command takes.
pub const GLOBAL: &str = "global";

/// Commands that can be about one set of a profile.
pub const WITH_SETS: [&str; 2] = ["backup", "forget"];

/// Paths that name nothing on this machine.
const STORED_PATHS: [&str; 2] = ["as-path", "stdin-filename"];

/// The command line, parsed upon everything beneath it.
pub struct Parsed {
    pub matches: ArgMatches,
    pub settings: Settings,
    pub profile: Option<Profile>,
}

/// What parsing can end with besides a command to run: words of clap's, or a failure of ours.
pub enum Trouble {
    /// clap's complaint, and which layer the value came from if not from the command line.
    Clap(clap::Error, Option<String>),
    Failure(Failure),
}

/// Reads the environment, then the command line, then the profile they ask for, then the command line again.
pub fn parse(command: &Command, arguments: &[OsString]) -> std::result::Result<Parsed, Trouble> {
    let known = known(command);
    let failed = |e: crate::error::Error| Trouble::Failure(Failure::usage(e.message()));
    let environment = |name: &str| std::env::var_os(name);
    let mut settings = Settings::from_environment(&known, &environment).map_err(failed)?;
    let first = matches(command, &settings, arguments)?;
    let Some(name) = first.get_one::<String>("use_profile") else {
        return Ok(Parsed { matches: first, settings, profile: None });
    };
    let profile = profile(name, &known).map_err(failed)?;
    settings.add_profile(&profile, &known, &choice(&first)).map_err(failed)?;
    let matches = matches(command, &settings, arguments)?;
    Ok(Parsed { matches, settings, profile: Some(profile) })
}

/// The profile of this name, read and checked as it is now.
pub fn profile(name: &str, known: &[Section]) -> Result<Profile> {
    let homes = base_directory("XDG_CONFIG_HOME", ".config").into_iter();
    let for_all = is_root().then(|| PathBuf::from("/etc"));
    let file = profile::path(&homes.chain(for_all).collect::<Vec<_>>(), name)?;
    Profile::load(&file, known, &|name| std::env::var_os(name))
}

/// What the command line chooses in a profile.
fn choice(matches: &ArgMatches) -> Choice {
    let sub = matches.subcommand().filter(|(word, _)| WITH_SETS.contains(word)).map(|(_, sub)| sub);
    let names: Vec<&String> = sub.and_then(|sub| sub.get_many("name")).into_iter().flatten().collect();
    Choice {
        to: matches.get_one::<String>("to").cloned(),
        set: if let [one] = names.as_slice() { Some((*one).clone()) } else { None },
        password_in_environment: std::env::var_os("SNAPKEEP_PASSWORD").is_some(),
    }
}

fn matches(
    command: &Command,
    settings: &Settings,
    arguments: &[OsString],
) -> std::result::Result<ArgMatches, Trouble> {
    lay(command.clone(), settings).try_get_matches_from(arguments).map_err(|e| {
        let from = origin(&e, settings);
        Trouble::Clap(e, from)
    })
}

/// Which layer beneath the command line an invalid value came from.
fn origin(e: &clap::Error, settings: &Settings) -> Option<String> {
    let ContextValue::String(arg) = e.get(ContextKind::InvalidArg)? else { return None };
    let ContextValue::String(value) = e.get(ContextKind::InvalidValue)? else { return None };
    let name = arg.strip_prefix("--")?.split([' ', '=']).next()?;
    let found = settings.iter().find(|(_, option, setting)| {
        *option == name && setting.values.iter().any(|v| v.to_string_lossy() == *value)
    });
    found.map(|(_, _, setting)| setting.origin.to_string())
}

/// A base directory as XDG defines them: the variable if it is absolute, else the usual place below HOME.
pub fn base_directory(variable: &str, below_home: &str) -> Option<PathBuf> {
    let set = std::env::var_os(variable).map(PathBuf::from).filter(|p| p.is_absolute());
    let home = || std::env::var_os("HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    set.or_else(|| Some(home()?.join(below_home)))
}

/// Every option that may be set, by section.
pub fn known(command: &Command) -> Vec<Section> {
    let globals = command.get_arguments().filter(|arg| arg.is_global_set());
    let options = globals.filter_map(|arg| option(None, arg)).collect();
    let mut sections = vec![Section { name: GLOBAL.to_owned(), options }];
    for sub in command.get_subcommands() {
        gather(sub, "", &mut sections);
    }
    sections
}

fn gather(command: &Command, above: &str, sections: &mut Vec<Section>) {
    let name = section_name(above, command.get_name());
    for sub in command.get_subcommands() {
        gather(sub, &name, sections);
    }
    let own = command.get_arguments().filter(|arg| !arg.is_global_set());
    let options = own.filter_map(|arg| option(Some(&name), arg)).collect();
    sections.push(Section { name, options });
}

/// `repair index` has the section `repair-index`.
fn section_name(above: &str, name: &str) -> String {
    if above.is_empty() { name.to_owned() } else { format!("{above}-{name}") }
}

fn takes(arg: &Arg) -> Option<Takes> {
    match arg.get_action() {
        ArgAction::SetTrue => Some(Takes::Nothing),
        ArgAction::Set | ArgAction::Count => Some(Takes::One),
        ArgAction::Append => Some(Takes::Many),
        _ => None,
    }
}

fn option(section: Option<&str>, arg: &Arg) -> Option<Known> {
    let name = arg.get_long()?.to_owned();
    let takes = takes(arg)?;
    let upper = |text: &str| text.replace('-', "_").to_ascii_uppercase();
    let mut variables = Vec::new();
    match (section, name.as_str()) {
        (None, "repo") => variables.push("SNAPKEEP_REPOSITORY".to_owned()),
        (None, _) => variables.push(format!("SNAPKEEP_{}", upper(&name))),
        (Some(section), _) => {
            variables.push(format!("SNAPKEEP_{}_{}", upper(section), upper(&name)));
            if name == "from-repo" {
                variables.push("SNAPKEEP_FROM_REPOSITORY".to_owned());
            }
            // The same for every command that has them.
            if matches!(
                name.as_str(),
                "host"
                    | "new-password-file"
                    | "from-password-file"
                    | "from-password-command"
                    | "trash-days"
                    | "time-zone"
            ) {
                variables.push(format!("SNAPKEEP_{}", upper(&name)));
            }
        }
    }
    let is_path = arg.get_value_parser().type_id() == ValueParser::path_buf().type_id();
    let is_path = is_path && !STORED_PATHS.contains(&name.as_str());
    let about = arg.get_help().map(ToString::to_string).unwrap_or_default();
    Some(Known { name, takes, variables, is_path, about })
}

/// The command with what `settings` say as its defaults, and the variables' names in its help.
pub fn lay(command: Command, settings: &Settings) -> Command {
    let command = command.mut_args(|arg| if arg.is_global_set() { with(arg, None, settings) } else { arg });
    command.mut_subcommands(|sub| lay_sub(sub, "", settings))
}

fn lay_sub(command: Command, above: &str, settings: &Settings) -> Command {
    let name = section_name(above, command.get_name());
    let command = command.mut_subcommands(|sub| lay_sub(sub, &name, settings));
    command.mut_args(|arg| if arg.is_global_set() { arg } else { with(arg, Some(&name), settings) })
}

fn with(mut arg: Arg, section: Option<&str>, settings: &Settings) -> Arg {
    let Some(option) = option(section, &arg) else { return arg };
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    arg = arg.help(format!("{help} [env: {}]", option.variables.join(", ")));
    match settings.get(section.unwrap_or(GLOBAL), &option.name) {
        Some(setting) if !setting.values.is_empty() => arg.default_values(for_ever(setting)),
        _ => arg,
    }
}

/// clap keeps defaults for as long as the program runs, and so do these few words.
fn for_ever(setting: &Setting) -> Vec<&'static OsStr> {
    let keep = |value: &OsString| -> &'static OsStr { Box::leak(value.clone().into_boxed_os_str()) };
    setting.values.iter().map(keep).collect()
}

/// Whether the option `id` stands on the command line itself.
pub fn on_command_line(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id) == Some(ValueSource::CommandLine)
}
