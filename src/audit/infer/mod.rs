//! A first map, from a look at both sides: names that are alike, and rules under which looked-at values are equal.
//!
//! What it proposes is right for the records that were looked at, and somebody has to look through it.

mod columns;
mod fit;
mod look;
mod write;

use super::export::Export;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::sqlite::query::Reading;
use crate::sqlite::schema::{Table, objects, table};
use columns::Proposal;
use look::Location;

/// The map as TOML; and what to look at in it.
pub fn map(reading: &Reading, export: &mut dyn Export, progress: &Progress) -> Result<(String, Vec<String>)> {
    let mut locations = look::locations(export, progress)?;
    if locations.is_empty() {
        let what = format!(
            "{} holds no records to make a map of: no array of objects, no files of records",
            export.name()
        );
        return Err(Error::invalid(what));
    }
    let all = objects(reading)?;
    let mut tables = Vec::new();
    for object in all.iter().filter(|o| o.holds_rows() && !o.is_internal()) {
        let one = table(reading, object)?;
        if !one.shadow {
            tables.push(one);
        }
    }
    let (mut remarks, mut proposals) = (Vec::new(), Vec::new());
    // The surest pairs first: no table is taken twice.
    let mut pairs: Vec<(usize, usize, usize)> = Vec::new();
    for (l, location) in locations.iter().enumerate() {
        pairs.extend(tables.iter().enumerate().map(|(t, table)| (likeness(location, table), l, t)));
    }
    pairs.sort_by_key(|(score, l, t)| (std::cmp::Reverse(*score), *l, *t));
    let (mut taken, mut placed) = (vec![false; tables.len()], vec![false; locations.len()]);
    for (score, l, t) in pairs {
        if score == 0 || taken[t] || placed[l] {
            continue;
        }
        match Proposal::new(reading, &tables[t], &tables, &locations[l], &mut remarks)? {
            Some(proposal) => {
                taken[t] = true;
                placed[l] = true;
                proposals.push((l, proposal));
            }
            None => remarks.push(format!(
                "`{}` and {} are alike, but no key was found that both have",
                tables[t].name,
                locations[l].shown()
            )),
        }
    }
    for (location, _) in locations.iter().zip(&placed).filter(|(_, placed)| !**placed) {
        remarks.push(format!("no table was found for {}", location.shown()));
    }
    let in_arrays = |name: &str| proposals.iter().any(|(_, p)| p.uses(name));
    let left = tables.iter().zip(&taken).filter(|(t, taken)| !**taken && !in_arrays(&t.name));
    remarks.extend(left.map(|(table, _)| format!("the table `{}` is not in the map", table.name)));
    if proposals.is_empty() {
        return Err(Error::invalid(
            "no table of the database and no place in the export belong together, as far as names and \
                                   values tell",
        ));
    }
    proposals.sort_by_key(|(l, _)| *l);
    let text = write::map(proposals.iter().map(|(l, proposal)| (&locations[*l], proposal)));
    locations.clear();
    Ok((text, remarks))
}

/// How much a place and a table are like each other: names of columns, and the table's own.
fn likeness(location: &Location, table: &Table) -> usize {
    let names: Vec<String> = location.fields().into_iter().map(|(path, _)| plain(&path)).collect();
    let ends: Vec<String> = location.fields().into_iter().map(|(path, _)| plain(last(&path))).collect();
    let has = |column: &str| names.contains(&plain(column)) || ends.contains(&plain(column));
    let shared = table.columns.iter().filter(|c| has(&c.name)).count();
    let own = plain(&table.name);
    let stem = |name: &str| name.trim_end_matches('s').to_owned();
    match stem(&own) == stem(&plain(&location.name)) {
        true => 1000 + shared,
        false if shared >= 2 => shared,
        false => 0,
    }
}

/// A name without what people write in different ways.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The last part of a pointer.
fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
