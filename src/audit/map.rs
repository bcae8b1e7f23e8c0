//! The map: which table is where in the export, and which column is which field. Values, as the TOML text (`text`) gave them.

use super::form::Form;
use crate::json::pointer::Pointer;
use crate::json::records::Shape;

/// How the two sides belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    pub tables: Vec<Table>,
}

/// Records of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    pub from: From,
    pub at: Pointer,
    /// For exports that are directories: a pattern of files in it.
    pub file: Option<String>,
    pub shape: Option<Shape>,
    /// Fields by which records are told apart.
    pub key: Vec<usize>,
    pub fields: Vec<Field>,
    pub children: Vec<Children>,
    pub ignored_columns: Vec<String>,
    pub ignored_fields: Vec<Pointer>,
}

/// What rows are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// A table or a view.
    Table(String),
    Select(String),
}

/// A column and its field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub column: Column,
    pub at: Place,
    pub form: Form,
}

/// Where a value is in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    Own(String),
    /// In another table, in the row whose columns have the values of ours.
    Looked {
        table: String,
        by: Vec<Pair>,
        column: String,
    },
}

/// A column of another table, and the one of ours that has the same value.
pub type Pair = (String, String);

/// Where a value is in the export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The name of the member that the record is, or of its file without the ending.
    Name,
    At(Pointer),
}

/// Rows of another table that stand in an array of the record they belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Children {
    pub at: Pointer,
    pub from: From,
    /// Their column, and the column of the record that has the same value.
    pub by: Vec<Pair>,
    /// Columns that say in which order they stand, and whether downwards; without any, the order says nothing.
    pub order: Vec<(String, bool)>,
    /// Where there are none, the array may be missing.
    pub may_be_absent: bool,
    pub fields: Vec<Field>,
    pub ignored_columns: Vec<String>,
    pub ignored_fields: Vec<Pointer>,
}

impl Column {
    /// For people.
    pub fn shown(&self) -> String {
        match self {
            Column::Own(name) => name.clone(),
            Column::Looked { table, column, .. } => format!("{table}.{column}"),
        }
    }
}

impl Place {
    pub fn shown(&self) -> String {
        match self {
            Place::Name => NAME.to_owned(),
            Place::At(pointer) => pointer.to_string(),
        }
    }
}

/// How `Place::Name` is written.
pub const NAME: &str = "@name";

impl Children {
    /// What reports call them: the table they belong to and the array.
    pub fn name(&self, table: &str) -> String {
        format!("{table}{}", self.at)
    }
}
