//! One file for each command: parse, call one function, print.

pub mod backup;
pub mod completions;
pub mod dump;
pub mod init;
pub mod key;
pub mod ls;
pub mod man;
pub mod show_config;
pub mod snapshots;
pub mod tag;
pub mod version;
