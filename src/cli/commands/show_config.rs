//! `show-config`: every value that holds, and where it came from; or the schema of profiles.

use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::layers::{GLOBAL, on_command_line};
use crate::cli::names::escape;
use crate::settings::document::{Data, Node, Table};
use crate::settings::{Origin, Setting};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Show every value that holds and where it came from
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Write the schema of profiles (JSON Schema), for editors
    #[arg(long)]
    schema: bool,
}

/// Stands for what may be a secret.
const HIDDEN: &str = "(hidden)";

/// Where a value came from.
#[derive(Clone)]
enum From {
    Word(&'static str),
    Layer(Origin),
}

/// Values and their origin, by section and option.
type Held = BTreeMap<String, BTreeMap<String, (Vec<String>, From)>>;

pub fn run(context: &Context, args: &Args) -> Outcome {
    let mut paper = context.output.paper();
    if args.schema {
        let text = serde_json::to_string_pretty(&crate::cli::schema()).unwrap_or_default();
        paper.line(&text)?;
        paper.finish()?;
        return Ok(0);
    }
    let held = gather(context);
    let written = written_down(context);
    if context.output.json {
        let option = |(name, (values, from)): (&String, &(Vec<String>, From))| {
            let value = if let [one] = values.as_slice() { json!(one) } else { json!(values) };
            (name.clone(), described(value, from))
        };
        let section = |(name, options): (&String, &BTreeMap<_, _>)| {
            (name.clone(), Value::Object(options.iter().map(option).collect::<Map<_, _>>()))
        };
        let mut all: Map<String, Value> = held.iter().map(section).collect();
        if let Some(profile) = &context.parsed.profile {
            let keys = written.iter().map(|(key, node)| {
                let mut about = described(open(key, node), &From::Layer(Origin::Profile(node.place.clone())));
                about["key"] = key.as_str().into();
                about
            });
            let files: Vec<_> = profile.plan.files.iter().map(|file| file.to_string_lossy()).collect();
            all.insert("profile".to_owned(), json!({"files": files, "keys": keys.collect::<Vec<_>>()}));
        }
        paper.json(&Value::Object(all))?;
        paper.finish()?;
        return Ok(0);
    }
    for (section, options) in &held {
        paper.line(&format!("[{section}]"))?;
        for (name, (values, from)) in options {
            paper.line(&format!("{name} = {}  # {}", shown(values), from.shown()))?;
        }
    }
    if !written.is_empty() {
        paper.line("# the profile, key by key")?;
    }
    for (key, node) in &written {
        let value = escape(open(key, node).to_string().as_bytes()).replace("\\\\", "\\");
        paper.line(&format!("{key} = {value}  # {}", node.place))?;
    }
    paper.finish()?;
    Ok(0)
}

impl From {
    fn shown(&self) -> String {
        match self {
            From::Word(word) => (*word).to_owned(),
            From::Layer(origin) => escape(origin.to_string().as_bytes()),
        }
    }
}

fn described(value: Value, from: &From) -> Value {
    match from {
        From::Layer(origin) => match origin.place() {
            Some(place) => {
                json!({"value": value, "source": place.file.to_string_lossy(), "line": place.line})
            }
            None => json!({"value": value, "source": origin.to_string()}),
        },
        From::Word(word) => json!({"value": value, "source": word}),
    }
}

/// As a profile would hold it.
fn shown(values: &[String]) -> String {
    let quoted = |text: &String| match text.as_str() {
        "true" | "false" => text.clone(),
        _ => format!("\"{}\"", escape(text.as_bytes()).replace('"', "\\\"")),
    };
    match values {
        [one] => quoted(one),
        _ => format!("[{}]", values.iter().map(quoted).collect::<Vec<_>>().join(", ")),
    }
}

/// Everything the profile's files say, one key a line, in lists of tables by their names.
fn written_down(context: &Context) -> Vec<(String, &Node)> {
    let mut all = Vec::new();
    if let Some(profile) = &context.parsed.profile {
        gather_written(&profile.document.table, "", &mut all);
    }
    all
}

/// The value, unless it may be a secret: people show others what this prints.
fn open(key: &str, node: &Node) -> Value {
    let told = key.starts_with("notify.") || key.starts_with("metrics.push");
    let last = key.rsplit('.').next().unwrap_or_default();
    let secret = ["url", "token", "password", "topic", "push"].contains(&last) || key.contains(".headers.");
    if told && secret { Value::from(HIDDEN) } else { node.to_json() }
}

fn gather_written<'a>(table: &'a Table, above: &str, all: &mut Vec<(String, &'a Node)>) {
    for (key, node) in table {
        let name = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        let tables = node.tables();
        match &node.data {
            Data::Table(inner) => gather_written(inner, &name, all),
            Data::List(list) if !list.is_empty() && tables.len() == list.len() => {
                for (at, (inner, _)) in tables.iter().enumerate() {
                    let called = inner.get("name").and_then(Node::text).map(str::to_owned);
                    let called = called.unwrap_or_else(|| at.to_string());
                    gather_written(inner, &format!("{name}[{called}]"), all);
                }
            }
            _ => all.push((name, node)),
        }
    }
}

fn gather(context: &Context) -> Held {
    let mut held = Held::new();
    for (section, option, Setting { values, origin }) in context.parsed.settings.iter() {
        let from = From::Layer(origin.clone());
        let values = values.iter().map(|v| v.to_string_lossy().into_owned()).collect();
        held.entry(section.to_owned()).or_default().insert(option.to_owned(), (values, from));
    }
    let matches = &context.parsed.matches;
    let globals = held.entry(GLOBAL.to_owned()).or_default();
    for option in crate::cli::global_options() {
        let id = option.replace('-', "_");
        let given = on_command_line(matches, &id);
        if !given && globals.contains_key(&option) {
            continue;
        }
        let raw = matches.get_raw(&id).into_iter().flatten();
        let values: Vec<String> = raw.map(|v| v.to_string_lossy().into_owned()).collect();
        if !values.is_empty()
            && (given || !matches!(values.as_slice(), [one] if one == "false" || one == "0"))
        {
            let from = From::Word(if given { "command line" } else { "built in" });
            globals.insert(option, (values, from));
        }
    }
    if let (false, Some(dir)) = (globals.contains_key("cache-dir"), context.cache()) {
        let built_in = From::Word("built in");
        globals.insert("cache-dir".to_owned(), (vec![dir.display().to_string()], built_in));
    }
    held
}
