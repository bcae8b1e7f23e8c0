//! `init-rules`: a first rules file, from a look at a directory.

use super::verify::directory;
use crate::cli::context::Context;
use crate::cli::failure::{FAILED, Failure, Outcome};
use crate::cli::json::Message;
use crate::cli::names::escape;
use crate::cli::terminal::Watch;
use crate::codes::Code;
use crate::error::Context as _;
use crate::rules::{DIRECTORY, FILE};
use crate::verify::infer;
use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

/// Write a first `.snapkeep/rules.toml` for a directory of JSON files and databases, from what is there
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub fn run(context: &Context, args: &Args) -> Outcome {
    let dir = directory(&args.dir)?;
    let file = dir.join(DIRECTORY).join(FILE);
    let name = escape(file.as_os_str().as_encoded_bytes());
    if file.symlink_metadata().is_ok() {
        return Err(Failure::new(FAILED, format!("{name} is there already and is left alone")));
    }
    let mut watch = Watch::beside_results(context);
    let scratch = context.cache().unwrap_or_else(std::env::temp_dir);
    let looked = infer(dir, &scratch, &watch.progress);
    watch.finish();
    let (text, remarks) = looked?;
    for remark in &remarks {
        context.output.warn(Code::RulesGuessed, remark);
    }
    let rules = text.matches("[[rule]]").count();
    if rules == 0 {
        return Err(Failure::new(
            FAILED,
            format!("{} holds no JSON and no database to make rules of", args.dir.display()),
        ));
    }
    if !context.global.dry_run {
        let cannot = || format!("cannot write {name}");
        let made = match DirBuilder::new().create(dir.join(DIRECTORY)) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            other => other,
        };
        made.context(cannot)?;
        let mut out = File::create_new(&file).context(cannot)?;
        out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).context(cannot)?;
    }
    if context.output.json {
        let message =
            Message::new("summary").with_path("path", "path_b64", file.as_os_str().as_encoded_bytes());
        context.output.result(&message.with("rules", rules).with("text", text))?;
        return Ok(0);
    }
    let told = match context.global.dry_run {
        true => text,
        false => format!("{name}: {rules} rules, from what is there today; look through them"),
    };
    context.output.say(&told)?;
    Ok(0)
}
