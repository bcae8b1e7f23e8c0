//! One file for each command: parse, call one function, print.

pub mod backup;
pub mod check;
pub mod completions;
pub mod copy;
pub mod diff;
pub mod dump;
pub mod find;
pub mod forget;
pub mod history;
pub mod init;
pub mod key;
pub mod ls;
pub mod man;
pub mod pin;
pub mod prune;
pub mod repair;
pub mod restore;
pub mod session;
pub mod show_config;
pub mod snapshots;
pub mod sql;
pub mod stats;
pub mod tag;
pub mod undelete;
pub mod verify;
pub mod version;
