//! A map as documentation.

use super::form::{As, Form, NULLS, Nulls, PRECISIONS, SORTS, WRITINGS, Writing};
use super::map::{Children, Column, Field, From, Map, Table};
use super::text::SHAPES;
use crate::json::pointer::Pointer;
use crate::json::records::Shape;

/// The map in Markdown: for each table where its records are, and a row for each field.
pub fn markdown(map: &Map) -> String {
    let mut out = String::from("# How the database and its export belong together\n");
    for table in &map.tables {
        out.push_str(&of_table(table));
    }
    out
}

fn of_table(table: &Table) -> String {
    let keys = table.key.iter().filter_map(|k| table.fields.get(*k));
    let keys: Vec<String> =
        keys.map(|f| format!("{} = {}", code(&f.column.shown()), code(&f.at.shown()))).collect();
    let mut out = format!(
        "\n## {}\n\nRecords come from {} and are {}.\n",
        plain(&table.name),
        source(&table.from),
        place(table)
    );
    out.push_str(&format!("A record is the one with the same key: {}.\n", keys.join(", ")));
    out.push_str(&fields(&table.fields, &table.key));
    out.push_str(&ignored(&table.ignored_columns, &table.ignored_fields));
    for children in &table.children {
        out.push_str(&of_children(table, children));
    }
    out
}

fn of_children(table: &Table, children: &Children) -> String {
    let by = children.by.iter().map(|(theirs, own)| format!("{} = {}", code(theirs), code(own)));
    let by = by.collect::<Vec<_>>().join(" and ");
    let order = match children.order.as_slice() {
        [] => "Their order says nothing".to_owned(),
        all => {
            let word =
                |(c, down): &(String, bool)| format!("{}{}", code(c), if *down { " downwards" } else { "" });
            format!("They stand in the order of {}", all.iter().map(word).collect::<Vec<_>>().join(", "))
        }
    };
    let absent = if children.may_be_absent { "; without any, the array may be missing" } else { "" };
    let mut out = format!(
        "\n### {}\n\nThe array {} holds the rows of {} with {by}. {order}{absent}.\n",
        plain(&children.name(&table.name)),
        code(&children.at.to_string()),
        source(&children.from)
    );
    out.push_str(&fields(&children.fields, &[]));
    out.push_str(&ignored(&children.ignored_columns, &children.ignored_fields));
    out
}

fn source(from: &From) -> String {
    match from {
        From::Table(name) => format!("the table {}", code(name)),
        From::Select(sql) => {
            format!("the query {}", code(&sql.split_whitespace().collect::<Vec<_>>().join(" ")))
        }
    }
}

fn place(table: &Table) -> String {
    let at = match table.at.parts() {
        [] => "the top".to_owned(),
        _ => code(&table.at.to_string()),
    };
    let file = match &table.file {
        Some(pattern) => format!("of each file {}", code(pattern)),
        None => "of the export".to_owned(),
    };
    let word = SHAPES.iter().find(|(_, shape)| Some(*shape) == table.shape).map(|(word, _)| *word);
    match (table.shape, &table.file) {
        (Some(Shape::Lines), _) => format!("the lines {file}"),
        (Some(Shape::Members), _) => format!("the members of the object at {at} {file}"),
        (Some(Shape::Elements), _) | (None, None) => format!("the elements of the array at {at} {file}"),
        (Some(Shape::Whole), _) | (None, Some(_)) => {
            format!(
                "the value at {at} {file}{}",
                if word.is_none() { " (lines where its name says so)" } else { "" }
            )
        }
    }
}

fn fields(fields: &[Field], key: &[usize]) -> String {
    let mut out = String::from("\n| column | field | is | when NULL |\n| --- | --- | --- | --- |\n");
    for (number, field) in fields.iter().enumerate() {
        let column = match &field.column {
            Column::Own(name) => code(name),
            Column::Looked { table, by, column } => {
                let by = by.iter().map(|(theirs, own)| format!("{} = {}", code(theirs), code(own)));
                let by = by.collect::<Vec<_>>().join(" and ");
                format!("{} of {} where {by}", code(column), code(table))
            }
        };
        let at = match field.at.shown().as_str() {
            "" => "the element itself".to_owned(),
            at => code(at),
        };
        let mark = if key.contains(&number) { " (key)" } else { "" };
        out.push_str(&format!(
            "| {column}{mark} | {at} | {} | {} |\n",
            sort(&field.form),
            nulls(field.form.nulls)
        ));
    }
    out
}

fn nulls(nulls: Nulls) -> &'static str {
    match nulls {
        Nulls::Null => "null",
        Nulls::Absent => "not there",
        Nulls::Either => "null or not there",
        Nulls::Empty => "an empty string",
    }
}

fn sort(form: &Form) -> String {
    if let Some(values) = &form.values {
        let all = values.iter().map(|(stored, name)| format!("{} is {}", code(stored), code(name)));
        return all.collect::<Vec<_>>().join(", ");
    }
    let name = word(&SORTS, form.sort);
    let writing = |w| word(&WRITINGS, w).replace('_', " ");
    match form.sort {
        As::Time => {
            let precision = match form.precision {
                1 => String::new(),
                nanos => format!(", to {}", word(&PRECISIONS, nanos)),
            };
            format!(
                "time: {} in the database, {} in the export{precision}",
                writing(form.stored),
                writing(form.exported)
            )
        }
        As::Hex | As::Base64 | As::Base64Url => format!("blob, in {name}"),
        As::Json => "JSON text, as the value it says".to_owned(),
        As::Value => "the same value".to_owned(),
        _ => {
            let part = |side, w| match w {
                Writing::Usual => String::new(),
                w => format!(", as {} in the {side}", writing(w)),
            };
            format!("{name}{}{}", part("database", form.stored), part("export", form.exported))
        }
    }
}

fn ignored(columns: &[String], fields: &[Pointer]) -> String {
    let mut out = String::new();
    let mut line = |what: &str, all: Vec<String>| {
        if !all.is_empty() {
            out.push_str(&format!("\nNot compared: {what} {}.\n", all.join(", ")));
        }
    };
    line("the columns", columns.iter().map(|c| code(c)).collect());
    line("the fields", fields.iter().map(|f| code(&f.to_string())).collect());
    out
}

fn word<T: PartialEq>(all: &[(&'static str, T)], wanted: T) -> &'static str {
    all.iter().find(|(_, one)| *one == wanted).map_or("", |(word, _)| word)
}

/// As code, fit for a cell of a table.
fn code(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let clean = clean.replace('|', "\\|");
    if clean.contains('`') { format!("`` {clean} ``") } else { format!("`{clean}`") }
}

fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The words of a map for a form, those that are not the usual ones.
pub fn words(form: &Form) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![("as", word(&SORTS, form.sort))];
    if form.stored != Writing::Usual {
        all.push(("stored", word(&WRITINGS, form.stored)));
    }
    if form.exported != Writing::Usual {
        all.push(("exported", word(&WRITINGS, form.exported)));
    }
    if form.precision != 1 {
        all.push(("precision", word(&PRECISIONS, form.precision)));
    }
    if form.nulls != Nulls::Null {
        all.push(("null", word(&NULLS, form.nulls)));
    }
    all
}
