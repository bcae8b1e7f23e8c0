//! SQLite databases: know one by its first bytes, hold one state of it still, read that state, check it.
//!
//! A database in use is never copied as a file: main file and write-ahead log belong together only at one instant. It is
//! **pinned** (`pin`): a state is chosen that nobody can take away while we read it, by SQLite's own read transaction, by
//! the proof that nobody wrote, or by a copy made under a lock. What was pinned is an `Image`: pages 1 to n, exactly as
//! SQLite would read them. Nothing in a capture ever writes to a source, runs a checkpoint, or leaves a file beside one.
//!
//! The way back (`replace`) exchanges pages in one transaction, or proves that nobody has the database open.
//!
//! This is the only room that knows SQLite's C interface, and `ffi` the only file that calls it unsafely.

pub mod check;
mod copies;
pub mod difference;
pub mod dump;
pub mod ffi;
pub mod header;
pub mod image;
mod order;
pub mod layout;
pub mod live;
pub mod pin;
pub mod place;
pub mod query;
pub mod replace;
pub mod rows;
pub mod salvage;
pub mod schema;
pub mod scope;
pub mod scratch;
pub mod tree;
pub mod tables;
pub mod taking;
pub mod wal;

pub use header::{Header, MAGIC};
pub use image::Image;

/// What SQLite writes beside a database, after the database's own name.
pub const COMPANIONS: [&str; 3] = ["-journal", "-shm", "-wal"];

/// SQLite's version, as `3.51.3`.
pub fn version() -> &'static str {
    rusqlite::version()
}
