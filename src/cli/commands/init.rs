//! `init`: make a repository.

use crate::backend::local;
use crate::cli::context::{Context, directory, located_at};
use crate::cli::failure::{FAILED, Failure, NO_REPOSITORY, Outcome};
use crate::cli::json::Message;
use crate::cli::options::parity;
use crate::cli::password;
use crate::cli::seen;
use crate::os::process;
use crate::repository::keys::SlotOwner;
use crate::repository::parity::PERCENT_DEFAULT;
use crate::repository::{NewRepository, Repository, create_with_parity, reserve};
use std::ffi::OsString;

/// Make a repository; encrypted unless told otherwise
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Make a repository that anybody who has its files can read
    #[arg(long)]
    no_encryption: bool,
    /// Let the group of the files read them
    #[arg(long)]
    group_readable: bool,
    /// Cut files as the repository at URL does, so that copies between the two take no more room
    #[arg(long, value_name = "URL")]
    copy_chunker_from: Option<OsString>,
    /// Parity stored with the data, by which damage of about as much can be mended: per cent, or off
    #[arg(long, value_name = "PERCENT", default_value = "3", value_parser = parity)]
    parity: u32,
}

impl Default for Args {
    fn default() -> Self {
        Args { no_encryption: false, group_readable: false, copy_chunker_from: None, parity: PERCENT_DEFAULT }
    }
}

impl Args {
    /// As the repository at `url` cuts.
    pub fn like(url: OsString) -> Self {
        Args { copy_chunker_from: Some(url), ..Args::default() }
    }
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let place = context.place()?;
    match located_at(&place) {
        Err(Failure { code: NO_REPOSITORY, .. }) => {}
        Ok(there) => {
            let what = format!("{} holds the repository {} already", place.display(), there.id().short());
            return Err(Failure::new(FAILED, what));
        }
        Err(failure) => return Err(failure),
    }
    if context.global.dry_run {
        context.output.say(&format!("would make a repository in {}", place.display()))?;
        return Ok(0);
    }
    let made = make(context, args)?;
    let id = made.id().to_string();
    if context.output.json {
        let location = made.backend().location();
        let message = Message::new("initialized").with("id", id).with("repository", location);
        return Ok(context.output.told(context.output.result(&message), 0));
    }
    let advice = match made.is_encrypted() {
        true => "Keep its password safe: without it nothing in the repository can ever be read again.",
        false => "It is not encrypted: whoever has its files can read everything in it.",
    };
    let told =
        context.output.say(&format!("made repository {id} in {}\n{advice}", made.backend().location()));
    Ok(context.output.told(told, 0))
}

/// Makes the repository that `--repo` names.
pub fn make(context: &Context, args: &Args) -> Result<Repository, Failure> {
    let place = context.place()?;
    let like = match &args.copy_chunker_from {
        Some(url) => Some(located_at(&directory(url)?)?.config().clone()),
        None => None,
    };
    let password = if args.no_encryption { None } else { Some(password::first(context)?) };
    let backend = local::create(&place, args.group_readable)?;
    let new = NewRepository {
        password: password.as_ref(),
        owner: owner(String::new()),
        group_readable: args.group_readable,
        like: like.as_ref(),
        now: context.now(),
    };
    let mut repository = create_with_parity(backend, &new, args.parity)?;
    // From now on it is one that was seen: should its disk be missing one day, no other is made in its place.
    if repository.is_encrypted() {
        seen::check(context.cache().as_deref(), &place, true)?;
    }
    repository.set_cache(context.cache().as_deref());
    repository.set_segments(context.global.segments);
    reserve::fill(repository.backend().as_ref(), repository.id());
    Ok(repository)
}

/// Who makes a key, for its label.
pub fn owner(label: String) -> SlotOwner {
    SlotOwner { label, user: process::user_name(), host: process::host_name() }
}
