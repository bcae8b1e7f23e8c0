//! The map of the format: what is stored, under which names and limits. Bytes: `format-spec/`.

pub mod entry;
