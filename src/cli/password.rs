//! Passwords: which place they come from, and asking a person.

use super::context::Context;
use super::failure::{Failure, USAGE, WRONG_KEY};
use super::layers::on_command_line;
use crate::codes::Code;
use crate::crypto::password::Password;
use crate::settings::Origin;
use crate::settings::secrets::{self, Source};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

const VARIABLE: &str = "SNAPKEEP_PASSWORD";
const FROM_VARIABLE: &str = "SNAPKEEP_FROM_PASSWORD";
const NEW_VARIABLE: &str = "SNAPKEEP_NEW_PASSWORD";

/// The password that opens the repository.
pub fn existing(context: &Context) -> Result<Password, Failure> {
    match source(context)? {
        Some(source) => read(context, &source),
        None => {
            let places = "set SNAPKEEP_PASSWORD, or give --password-file or --password-command";
            need_terminal(WRONG_KEY, "password", places)?;
            ask("Password of the repository: ")
        }
    }
}

/// The password of a second repository, whose places are named by options of its own.
pub fn other(context: &Context, file: Option<PathBuf>, command: Option<String>) -> Result<Password, Failure> {
    match (file, command) {
        (Some(_), Some(_)) => {
            Err(Failure::usage("give either --from-password-file or --from-password-command"))
        }
        (Some(file), None) => read(context, &Source::File(file)),
        (None, Some(command)) => read(context, &Source::Command(command)),
        (None, None) if is_set(FROM_VARIABLE) => read(context, &Source::Variable(FROM_VARIABLE)),
        (None, None) => {
            let places =
                "set SNAPKEEP_FROM_PASSWORD, or give --from-password-file or --from-password-command";
            need_terminal(WRONG_KEY, "password", places)?;
            ask("Password of the repository to copy from: ")
        }
    }
}

/// The password of a profile's target that has no way of its own to one: from the environment.
pub fn of_profile(context: &Context) -> Result<Password, Failure> {
    match [FROM_VARIABLE, VARIABLE].into_iter().find(|name| is_set(name)) {
        Some(name) => read(context, &Source::Variable(name)),
        None => other(context, None, None),
    }
}

/// The password of a repository that is being made: from the same places, asked for twice at a terminal.
pub fn first(context: &Context) -> Result<Password, Failure> {
    match source(context)? {
        Some(source) => read(context, &source),
        None => {
            let places = "set SNAPKEEP_PASSWORD, or give --password-file or --password-command";
            need_terminal(USAGE, "password", places)?;
            ask_twice()
        }
    }
}

/// A password that joins or replaces another.
pub fn another(context: &Context, file: Option<&Path>) -> Result<Password, Failure> {
    match file {
        Some(path) => read(context, &Source::File(path.to_owned())),
        None if is_set(NEW_VARIABLE) => read(context, &Source::Variable(NEW_VARIABLE)),
        None => {
            let places = "set SNAPKEEP_NEW_PASSWORD, or give --new-password-file";
            need_terminal(USAGE, "new password", places)?;
            ask_twice()
        }
    }
}

fn read(context: &Context, source: &Source) -> Result<Password, Failure> {
    Ok(secrets::read(source, &mut |text| context.output.warn(Code::PasswordFileReadable, &text))?)
}

/// Also when it is empty, which is no password and will be told.
fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some()
}

/// The strongest place: command line, the target chosen by name, environment, profile.
fn source(context: &Context) -> Result<Option<Source>, Failure> {
    let file = context.global.password_file.clone().map(Source::File);
    let command = context.global.password_command.clone().map(Source::Command);
    let rank = |option: &str, id: &str| {
        if on_command_line(&context.parsed.matches, id) {
            return 0;
        }
        match context.parsed.settings.get(super::layers::GLOBAL, option).map(|s| &s.origin) {
            Some(Origin::Target(_)) => 1,
            Some(Origin::Variable(_)) => 3,
            _ => 4,
        }
    };
    let mut places = Vec::new();
    places.extend(file.map(|s| (rank("password-file", "password_file"), s)));
    places.extend(command.map(|s| (rank("password-command", "password_command"), s)));
    if places.len() == 2 && places.iter().all(|(rank, _)| *rank == 0) {
        return Err(Failure::usage("give either --password-file or --password-command"));
    }
    if is_set(VARIABLE) {
        places.push((2, Source::Variable(VARIABLE)));
    }
    places.sort_by_key(|(rank, _)| *rank);
    Ok(places.into_iter().next().map(|(_, source)| source))
}

fn need_terminal(code: u8, what: &str, places: &str) -> Result<(), Failure> {
    if std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Failure::new(code, format!("there is no {what} and no terminal to ask for one; {places}")))
}

fn ask(prompt: &str) -> Result<Password, Failure> {
    let typed = rpassword::prompt_password(prompt)
        .map_err(|e| crate::error::Error::io("cannot read a password from the terminal", &e))?;
    Ok(Password::new(typed.into_bytes())?)
}

fn ask_twice() -> Result<Password, Failure> {
    let first = ask("New password: ")?;
    if ask("The same again: ")? != first {
        return Err(Failure::usage("the two passwords differ; nothing was changed"));
    }
    Ok(first)
}
