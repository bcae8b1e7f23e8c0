//! What we ask of the machine: directory handles, metadata in both directions, safe paths, the process itself.
//!
//! Everything here works relative to directory handles and never follows a symbolic link at the name it is
//! given. Functions answer with `std::io::Result`: only the caller knows the whole path and what it was doing.

pub mod apply;
pub mod aside;
pub mod beneath;
pub mod child;
pub mod group;
pub mod dir;
pub mod fault;
pub mod held;
pub mod metadata;
pub mod owners;
pub mod process;
pub mod scratch;
pub mod spool;
pub mod signals;
pub mod storage;
pub mod xattr;
