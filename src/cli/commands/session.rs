//! `session`: backups that are under way, or died on the way.

use crate::cli::context::Context;
use crate::cli::failure::{FAILED, Failure, Outcome};
use crate::cli::json::Message;
use crate::cli::names::escape;
use crate::cli::table::{Column, Table};
use crate::codes::Code;
use crate::error::{Error, ErrorKind};
use crate::repository::sessions::{self, Open};

/// Look at open sessions, or stop one
#[derive(clap::Subcommand, Debug)]
pub enum Word {
    /// List backups that are under way, and those that died without saying so
    List,
    /// Stop sessions: their backups commit nothing, and a prune need not wait for them. Costs work, never data
    Evict(Evict),
}

#[derive(clap::Args, Debug)]
pub struct Evict {
    /// The session's id, or enough of its first digits
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

pub fn run(context: &Context, word: &Word) -> Outcome {
    let repository = context.open()?;
    let open = sessions::list(&repository)?;
    let chosen = match word {
        Word::List => {
            let told = list(context, &open);
            return Ok(context.output.told(told, 0));
        }
        Word::Evict(args) => args.ids.iter().map(|id| named(&open, id)).collect::<Result<Vec<_>, _>>()?,
    };
    let mut code = 0;
    for session in chosen {
        if context.global.dry_run {
            context.output.say(&format!("would evict {}", session.describe()))?;
        } else if sessions::evict(&repository, session.session)? {
            context.output.say(&format!("evicted {}", session.describe()))?;
        } else {
            code = FAILED;
            context.output.warn(Code::SessionEnded, &format!("{} has ended by itself", session.describe()));
        }
    }
    Ok(code)
}

fn named<'o>(open: &'o [Open], text: &str) -> Result<&'o Open, Failure> {
    let text = text.to_ascii_lowercase();
    if text.len() < 4 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Failure::usage(format!("`{text}` is no session's id; give 4 or more hex digits")));
    }
    let mut found = open.iter().filter(|o| o.session.to_string().starts_with(&text));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => {
            Err(Error::new(ErrorKind::NotFound, format!("no open session begins with `{text}`")).into())
        }
        (Some(_), Some(_)) => Err(Failure::usage(format!("`{text}` fits several sessions; use more digits"))),
    }
}

fn state(open: &Open) -> &'static str {
    match open.alive {
        Some(true) => "running",
        Some(false) => "dead",
        None => "unknown",
    }
}

fn list(context: &Context, open: &[Open]) -> Result<(), Failure> {
    if context.output.json {
        let all = open.iter().map(|o| {
            let info = o.info.clone().unwrap_or_default();
            Message::default()
                .with("id", o.session.to_string())
                .with("hostname", info.host)
                .with("pid", info.pid)
                .with("started", info.started)
                .with("program_version", info.program)
                .with("state", state(o))
                .value()
        });
        return context.output.result(&all.collect::<Vec<_>>());
    }
    if open.is_empty() {
        return context.output.say("no backup is under way");
    }
    let mut table = Table::new(vec![
        Column::left("ID"),
        Column::shrinking("Host"),
        Column::right("Process"),
        Column::left("Since"),
        Column::left("State"),
    ]);
    for o in open {
        let info = o.info.clone().unwrap_or_default();
        let host = escape(info.host.as_bytes());
        let since = escape(info.started.as_bytes());
        let cells = [o.session.short(), host, info.pid.to_string(), since, state(o).to_owned()];
        table.row(cells.into_iter().map(|cell| vec![cell]).collect());
    }
    let mut paper = context.output.paper();
    for line in table.lines(context.output.width(), context.output.colours()) {
        paper.line(&line)?;
    }
    paper.finish()
}
