//! Manifests: every path of a snapshot in one sorted order, in groups of about 2,000.

pub mod build;
pub mod content;
pub mod database;
pub mod walk;
