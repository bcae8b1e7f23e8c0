//! A map from its TOML text, every mistake in it named together with what it may have meant.

use super::form::{As, Form, NULLS, Nulls, PRECISIONS, SORTS, WRITINGS, Writing};
use super::map::{Children, Column, Field, From, Map, NAME, Pair, Place, Table};
use crate::error::{Context, Error, Result};
use crate::json::pointer::Pointer;
use crate::json::records::Shape;
use crate::sqlite::schema::closest;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The largest map.
pub const BYTES_MAX: usize = 4 << 20;
/// Tables, fields of one table, parts of a pointer.
const TABLES_MAX: usize = 1000;
const FIELDS_MAX: usize = 2000;
const PARTS_MAX: usize = 64;

/// The words for shapes.
pub const SHAPES: [(&str, Shape); 4] = [
    ("array", Shape::Elements),
    ("members", Shape::Members),
    ("record", Shape::Whole),
    ("lines", Shape::Lines),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(default)]
    table: Vec<TableText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableText {
    name: Option<String>,
    from: Option<String>,
    select: Option<String>,
    #[serde(default)]
    at: String,
    file: Option<String>,
    shape: Option<String>,
    #[serde(default)]
    key: Vec<String>,
    #[serde(default)]
    fields: Vec<FieldText>,
    #[serde(default)]
    children: Vec<ChildrenText>,
    #[serde(default)]
    ignore_columns: Vec<String>,
    #[serde(default)]
    ignore_fields: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldText {
    column: Option<String>,
    lookup: Option<LookupText>,
    field: String,
    #[serde(rename = "as")]
    sort: Option<String>,
    stored: Option<String>,
    exported: Option<String>,
    null: Option<String>,
    precision: Option<String>,
    values: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LookupText {
    table: String,
    by: BTreeMap<String, String>,
    column: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChildrenText {
    field: String,
    from: Option<String>,
    select: Option<String>,
    by: BTreeMap<String, String>,
    #[serde(default)]
    order: Vec<String>,
    #[serde(default)]
    may_be_absent: bool,
    fields: Vec<FieldText>,
    #[serde(default)]
    ignore_columns: Vec<String>,
    #[serde(default)]
    ignore_fields: Vec<String>,
}

/// Reads a map.
pub fn parse(bytes: &[u8]) -> Result<Map> {
    if bytes.len() > BYTES_MAX {
        return Err(Error::invalid("it is larger than 4 MiB"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Error::invalid("it is not UTF-8"))?;
    let parsed: Text = toml::from_str(text).map_err(|e| {
        let line = e.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        Error::invalid(format!("{place}{}", said(e.message())))
    })?;
    if parsed.table.is_empty() {
        return Err(Error::invalid("it has no [[table]], so nothing would be compared"));
    }
    if parsed.table.len() > TABLES_MAX {
        return Err(Error::invalid(format!("it has more than {TABLES_MAX} tables")));
    }
    let mut map = Map::default();
    for (number, one) in parsed.table.into_iter().enumerate() {
        let named = one.name.clone().or(one.from.clone());
        let shown = named.map_or(format!("table {}", number + 1), |name| format!("table `{name}`"));
        let table = table(one).context(|| &shown)?;
        if map.tables.iter().any(|other| other.name == table.name) {
            return Err(Error::invalid(format!(
                "{shown}: another table has this name; give it a `name` of its own"
            )));
        }
        map.tables.push(table);
    }
    Ok(map)
}

/// The parser's words; of an unknown key, with the known one that is most like it.
fn said(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let ticked: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
    match ticked.split_first() {
        Some((wrong, known)) if line.starts_with("unknown field") => {
            let near = closest(known.iter().copied(), wrong).map(|near| format!("; did you mean `{near}`?"));
            format!("`{wrong}` means nothing here{}", near.unwrap_or_default())
        }
        _ => line.to_owned(),
    }
}

fn table(text: TableText) -> Result<Table> {
    let from = source(text.from, text.select)?;
    let name = match (&text.name, &from) {
        (Some(name), _) | (None, From::Table(name)) => name.clone(),
        (None, From::Select(_)) => return Err(Error::invalid("a `select` needs a `name`")),
    };
    if name.trim().is_empty() {
        return Err(Error::invalid("its name is empty"));
    }
    let fields = fields(text.fields)?;
    if text.key.is_empty() {
        return Err(Error::invalid("it needs a `key`: the columns by which records are told apart"));
    }
    let own = |column: &String| fields.iter().position(|f| f.column == Column::Own(column.clone()));
    let key = text.key.iter().map(|column| {
        own(column).ok_or_else(|| {
            let what = format!("the key column `{column}` has no entry in `fields`");
            let all = fields.iter().map(|f| f.column.shown()).collect::<Vec<_>>();
            did_you_mean(what, all.iter().map(String::as_str), column)
        })
    });
    let key = key.collect::<Result<Vec<_>>>()?;
    let children: Result<Vec<_>> = text.children.into_iter().map(|c| children(c, &from)).collect();
    Ok(Table {
        name,
        at: pointer(&text.at)?,
        file: text.file,
        shape: text.shape.map(|word| one_of(&SHAPES, "shape", &word)).transpose()?,
        key,
        children: children?,
        from,
        fields,
        ignored_columns: text.ignore_columns,
        ignored_fields: text.ignore_fields.iter().map(|p| pointer(p)).collect::<Result<_>>()?,
    })
}

fn source(from: Option<String>, select: Option<String>) -> Result<From> {
    match (from, select) {
        (Some(table), None) => Ok(From::Table(table)),
        (None, Some(sql)) => Ok(From::Select(sql.trim().trim_end_matches(';').to_owned())),
        _ => Err(Error::invalid("it needs either `from`, a table or view, or `select`")),
    }
}

fn children(text: ChildrenText, above: &From) -> Result<Children> {
    let shown = format!("children `{}`", text.field);
    let work = || {
        if text.by.is_empty() {
            return Err(Error::invalid("`by` is empty: { their_column = \"column of the record\" }"));
        }
        if let (From::Table(above), Some(from)) = (above, &text.from)
            && above == from
            && text.by.iter().any(|(a, b)| a == b)
        {
            return Err(Error::invalid("a row would be its own child; `by` names two columns"));
        }
        let order = text.order.iter().map(|column| match column.strip_prefix('-') {
            Some(column) => (column.to_owned(), true),
            None => (column.clone(), false),
        });
        let at = pointer(&text.field)?;
        if at.parts().is_empty() {
            return Err(Error::invalid("`field` is the pointer to their array, such as /items"));
        }
        Ok(Children {
            at,
            from: source(text.from, text.select)?,
            by: pairs(text.by),
            order: order.collect(),
            may_be_absent: text.may_be_absent,
            fields: fields(text.fields)?,
            ignored_columns: text.ignore_columns,
            ignored_fields: text.ignore_fields.iter().map(|p| pointer(p)).collect::<Result<_>>()?,
        })
    };
    work().context(|| shown)
}

fn pairs(by: BTreeMap<String, String>) -> Vec<Pair> {
    by.into_iter().collect()
}

fn fields(texts: Vec<FieldText>) -> Result<Vec<Field>> {
    if texts.is_empty() {
        return Err(Error::invalid("it has no `fields`, so nothing would be compared"));
    }
    if texts.len() > FIELDS_MAX {
        return Err(Error::invalid(format!("it has more than {FIELDS_MAX} fields")));
    }
    texts
        .into_iter()
        .map(|text| {
            let shown = format!("field `{}`", text.field);
            field(text).context(|| shown)
        })
        .collect()
}

fn field(text: FieldText) -> Result<Field> {
    let form = form(&text)?;
    let at = match text.field.as_str() {
        NAME => Place::Name,
        other => Place::At(pointer(other)?),
    };
    let column = match (text.column, text.lookup) {
        (Some(column), None) => Column::Own(column),
        (None, Some(lookup)) if !lookup.by.is_empty() => {
            Column::Looked { table: lookup.table, by: pairs(lookup.by), column: lookup.column }
        }
        (None, Some(_)) => {
            return Err(Error::invalid(
                "`by` of its lookup is empty: { their_column = \"column of the record\" }",
            ));
        }
        _ => return Err(Error::invalid("it needs either `column` or `lookup`")),
    };
    Ok(Field { column, at, form })
}

fn form(text: &FieldText) -> Result<Form> {
    let word =
        |word: &Option<String>| word.as_deref().map(|w| one_of(&WRITINGS, "way of writing", w)).transpose();
    let sort = match (&text.sort, &text.values) {
        (Some(sort), _) => one_of(&SORTS, "`as`", sort)?,
        (None, Some(_)) => As::Text,
        (None, None) => As::Value,
    };
    let form = Form {
        sort,
        stored: word(&text.stored)?.unwrap_or(Writing::Usual),
        exported: word(&text.exported)?.unwrap_or(Writing::Usual),
        nulls: text.null.as_deref().map(|w| one_of(&NULLS, "`null`", w)).transpose()?.unwrap_or(Nulls::Null),
        precision: text
            .precision
            .as_deref()
            .map(|w| one_of(&PRECISIONS, "`precision`", w))
            .transpose()?
            .unwrap_or(1),
        values: text.values.clone(),
    };
    let may = |writing: Writing| match (form.sort, writing) {
        (As::Time, writing) => matches!(writing, Writing::Epoch(_) | Writing::Rfc3339 | Writing::Civil),
        (_, Writing::Usual) => true,
        (As::Integer | As::Real, writing) => writing == Writing::Text,
        (As::Boolean, writing) => matches!(writing, Writing::Text | Writing::Integer),
        _ => false,
    };
    if form.sort == As::Time && (form.stored == Writing::Usual || form.exported == Writing::Usual) {
        let what = "a time needs `stored` and `exported`: epoch_seconds, epoch_millis, epoch_micros, epoch_nanos, rfc3339 or \
                    civil";
        return Err(Error::invalid(what));
    }
    if !may(form.stored) || !may(form.exported) {
        return Err(Error::invalid("its `stored` or `exported` is not for this `as`"));
    }
    if form.precision != 1 && form.sort != As::Time {
        return Err(Error::invalid("`precision` is for times"));
    }
    if let Some(values) = &form.values {
        let mut names: Vec<&String> = values.values().collect();
        names.sort();
        if form.sort != As::Text || names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::invalid("`values` give each stored value a text of its own"));
        }
    }
    Ok(form)
}

fn pointer(text: &str) -> Result<Pointer> {
    let pointer = Pointer::parse(text)?;
    if pointer.parts().len() > PARTS_MAX {
        return Err(Error::invalid(format!("a pointer has more than {PARTS_MAX} parts")));
    }
    Ok(pointer)
}

fn one_of<T: Copy>(all: &[(&'static str, T)], what: &str, word: &str) -> Result<T> {
    if let Some((_, found)) = all.iter().find(|(known, _)| *known == word) {
        return Ok(*found);
    }
    let known: Vec<&str> = all.iter().map(|(known, _)| *known).collect();
    let what = format!("`{word}` is no {what} ({})", known.join(", "));
    Err(did_you_mean(what, known.iter().copied(), word))
}

/// An error about a name that is not known, with the known one that is most like it.
pub fn did_you_mean<'a>(what: String, known: impl Iterator<Item = &'a str>, name: &str) -> Error {
    match closest(known, name) {
        Some(near) => Error::invalid(format!("{what}; did you mean `{near}`?")),
        None => Error::invalid(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named_with_what_was_meant() {
        let one = "[[table]]\nfrom=\"users\"\nkey=[\"id\"]\nfields=[{column=\"id\",field=\"/id\"}";
        let told = |text: &str| match parse(text.as_bytes()) {
            Ok(_) => "fine".to_owned(),
            Err(e) => e.message().to_owned(),
        };
        assert_eq!(told(&format!("{one}]")), "fine");
        for (text, part) in [
            ("", "no [[table]]"),
            ("[[tabel]]", "line 1: `tabel` means nothing here; did you mean `table`?"),
            (&format!("{one}]\nignore_colums=[]"), "did you mean `ignore_columns`?"),
            (&format!("{one},{{colum=\"a\",field=\"/a\"}}]"), "did you mean `column`?"),
            (&format!("{one},{{column=\"a\",field=\"a\"}}]"), "begins with a slash"),
            (&format!("{one},{{column=\"a\",field=\"/a\",as=\"boolan\"}}]"), "did you mean `boolean`?"),
            (&format!("{one},{{column=\"a\",field=\"/a\",as=\"time\"}}]"), "needs `stored` and `exported`"),
            (
                &format!("{one},{{column=\"a\",field=\"/a\",as=\"text\",stored=\"string\"}}]"),
                "not for this `as`",
            ),
            (&format!("{one},{{field=\"/a\"}}]"), "either `column` or `lookup`"),
            (&format!("{one}]").replace("[\"id\"]", "[\"id2\"]"), "did you mean `id`?"),
            (&format!("{one}]\n{one}]"), "another table has this name"),
            (&format!("{one}]\nshape=\"arry\""), "did you mean `array`?"),
            ("\u{0}", "line 1"),
        ] {
            assert!(told(text).contains(part), "{text}: {}", told(text));
        }
    }
}
