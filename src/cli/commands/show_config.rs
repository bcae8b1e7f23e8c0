//! `show-config`: every value that holds, and where it came from.

use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::layers::{GLOBAL, on_command_line};
use crate::cli::names::escape;
use crate::settings::Setting;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Show every value that holds and where it came from
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Values and their origin, by section and option.
type Held = BTreeMap<String, BTreeMap<String, (Vec<String>, String)>>;

pub fn run(context: &Context) -> Outcome {
    let held = gather(context);
    let mut paper = context.output.paper();
    if context.output.json {
        let option = |(name, (values, from)): (&String, &(Vec<String>, String))| {
            let value = if let [one] = values.as_slice() { json!(one) } else { json!(values) };
            (name.clone(), json!({"value": value, "source": from}))
        };
        let section = |(name, options): (&String, &BTreeMap<_, _>)| {
            (name.clone(), Value::Object(options.iter().map(option).collect::<Map<_, _>>()))
        };
        paper.json(&Value::Object(held.iter().map(section).collect()))?;
        paper.finish()?;
        return Ok(0);
    }
    for (section, options) in &held {
        paper.line(&format!("[{section}]"))?;
        for (name, (values, from)) in options {
            paper.line(&format!("{name} = {}  # {from}", written(values)))?;
        }
    }
    paper.finish()?;
    Ok(0)
}

/// As a profile would hold it.
fn written(values: &[String]) -> String {
    let quoted = |text: &String| match text.as_str() {
        "true" | "false" => text.clone(),
        _ => format!("\"{}\"", escape(text.as_bytes()).replace('"', "\\\"")),
    };
    match values {
        [one] => quoted(one),
        _ => format!("[{}]", values.iter().map(quoted).collect::<Vec<_>>().join(", ")),
    }
}

fn gather(context: &Context) -> Held {
    let mut held = Held::new();
    for (section, option, Setting { values, origin }) in context.parsed.settings.iter() {
        let from = origin.to_string();
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
            let from = if given { "command line" } else { "built in" };
            globals.insert(option, (values, from.to_owned()));
        }
    }
    if let (false, Some(dir)) = (globals.contains_key("cache-dir"), context.cache()) {
        globals.insert("cache-dir".to_owned(), (vec![dir.display().to_string()], "built in".to_owned()));
    }
    held
}
