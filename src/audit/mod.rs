//! A database against its export as JSON: do both say the same, record by record and field by field?
//!
//! A `map` says which table is where in the export, which column is which field, and how their values are to be read. Each side
//! is read once, from front to back. A record becomes a key, and hashes of what its fields say (`form`, `canon`), which an
//! external sort (`sorter`) brings side by side with the other's; nothing holds all records. When something differs, both
//! sides are read a second time, for the values of what is going to be told.

pub mod canon;
pub mod database;
pub mod describe;
pub mod export;
pub mod form;
pub mod infer;
pub mod map;
pub mod matching;
pub mod passes;
pub mod paths;
pub mod place;
pub mod plan;
pub mod reduced;
pub mod report;
pub mod run;
pub mod sorter;
pub mod text;
