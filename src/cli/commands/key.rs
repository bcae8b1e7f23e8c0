//! `key`: the passwords of a repository.

use super::init::owner;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome, REFUSED};
use crate::cli::json::Message;
use crate::cli::names::escape;
use crate::cli::password;
use crate::cli::table::{Column, Table};
use crate::clock::Timestamp;
use crate::codes::Code;
use crate::error::Error;
use crate::format::key::KeySlot;
use crate::repository::Repository;
use crate::repository::keys::find_slot;
use std::path::PathBuf;

/// List, add, remove or replace passwords
#[derive(clap::Subcommand, Debug)]
pub enum Word {
    /// List the keys: one for each password
    List,
    /// Add a password
    Add(New),
    /// Remove a password
    Remove(Remove),
    /// Replace the password in use by another
    Passwd(New),
}

/// A new password.
#[derive(clap::Args, Debug)]
pub struct New {
    /// A file that holds the new password
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
    /// A few words to know the key by
    #[arg(long, value_name = "TEXT", default_value = "")]
    label: String,
}

/// A password to remove.
#[derive(clap::Args, Debug)]
pub struct Remove {
    /// The key's id, or its first digits
    #[arg(value_name = "ID")]
    id: String,
}

pub fn run(context: &Context, word: &Word) -> Outcome {
    let repository = context.open()?;
    if !repository.is_encrypted() {
        if let Word::List = word {
            context.output.warn(Code::Unencrypted, "the repository is not encrypted and has no keys");
            return print(context, &repository, &[]);
        }
        return Err(Error::invalid("the repository is not encrypted and has no passwords").into());
    }
    match word {
        Word::List => print(context, &repository, &repository.key_slots()?.slots),
        Word::Add(new) => add(context, &repository, new),
        Word::Remove(remove) => take_away(context, &repository, &remove.id),
        Word::Passwd(new) => replace(context, &repository, new),
    }
}

fn print(context: &Context, repository: &Repository, slots: &[KeySlot]) -> Outcome {
    let mut paper = context.output.paper();
    if context.output.json {
        let shape = |s: &KeySlot| {
            Message::default()
                .with("current", s.id == repository.slot)
                .with("id", s.id.as_str())
                .with("userName", s.user.as_str())
                .with("hostName", s.host.as_str())
                .with("created", s.created.as_str())
                .with("label", s.label.as_str())
        };
        paper.json(&slots.iter().map(shape).collect::<Vec<_>>())?;
        paper.finish()?;
        return Ok(0);
    }
    let mut table = Table::new(vec![
        Column::left("ID"),
        Column::shrinking("User"),
        Column::shrinking("Host"),
        Column::left("Created"),
        Column::shrinking("Label"),
    ]);
    let cell = |text: &str| vec![escape(text.as_bytes())];
    for slot in slots {
        let mark = if slot.id == repository.slot { "*" } else { " " };
        let id = format!("{mark}{}", slot.id.get(..8).unwrap_or(&slot.id));
        let created = Timestamp::parse(&slot.created, context.now()).map(Timestamp::local);
        let created = created.unwrap_or_else(|_| slot.created.clone());
        table.row(vec![cell(&id), cell(&slot.user), cell(&slot.host), cell(&created), cell(&slot.label)]);
    }
    for line in table.lines(context.output.width(), context.output.colours()) {
        paper.line(&line)?;
    }
    paper.finish()?;
    Ok(0)
}

fn add(context: &Context, repository: &Repository, new: &New) -> Outcome {
    let password = password::another(context, new.new_password_file.as_deref())?;
    if context.global.dry_run {
        return told(context, "", "would add a key");
    }
    let owner = owner(new.label.clone());
    let id = context.patiently(|| repository.add_key(&password, &owner, context.now()))?;
    told(context, &id, "added key")
}

fn replace(context: &Context, repository: &Repository, new: &New) -> Outcome {
    let password = password::another(context, new.new_password_file.as_deref())?;
    if context.global.dry_run {
        return told(context, "", "would replace the password in use");
    }
    let owner = owner(new.label.clone());
    let id = context.patiently(|| repository.change_password(&password, &owner, context.now()))?;
    told(context, &id, "the old password no longer opens the repository; the new one is key")
}

fn take_away(context: &Context, repository: &Repository, prefix: &str) -> Outcome {
    let id = find_slot(&repository.key_slots()?, prefix)?.id.clone();
    if id == repository.slot {
        let what = "this key is the one in use; open the repository with another password to remove it";
        return Err(Failure::new(REFUSED, what));
    }
    if context.global.dry_run {
        return told(context, &id, "would remove key");
    }
    context.patiently(|| repository.remove_key(&id))?;
    told(context, &id, "removed key")
}

fn told(context: &Context, id: &str, what: &str) -> Outcome {
    let told = if context.output.json {
        context.output.result(&Message::new("key").with("id", id).with("message", what))
    } else {
        context.output.say(format!("{what} {}", id.get(..8).unwrap_or(id)).trim_end())
    };
    Ok(context.output.told(told, 0))
}
