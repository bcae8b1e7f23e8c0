//! snapkeep: a content-addressed, deduplicating, encrypted backup store.
//!
//! The rooms of the house, from the ground up, in reading order. A room imports only from lower floors
//! (`tests/architecture.rs` holds the walls); `ARCHITECTURE.md` tells the story.

// Floor 0: ground
pub mod clock;
pub mod codes;
pub mod error;
pub mod id;
pub mod progress;
pub mod units;

// Floor 1: bytes
pub mod format;
pub mod chunker;
pub mod compress;
pub mod crypto;
pub mod retention;
pub mod erasure;
pub mod json;
pub mod calendar;
pub mod job;

// Floor 2: world
pub mod os;
pub mod backend;
pub mod sqlite;
pub mod web;

// Floor 3: store
pub mod repository;

// Floor 4: trees
pub mod source;
pub mod manifest;
pub mod rules;

// Floor 5: work
pub mod backup;
pub mod compare;
pub mod copy;
pub mod forget;
pub mod check;
pub mod gc;
pub mod repair;
pub mod stats;
pub mod restore;
pub mod archive;
pub mod verify;
pub mod audit;

// Floor 6: jobs made of several
pub mod in_place;
pub mod drill;
pub mod guard;
pub mod health;

// Floor 7: settings
pub mod settings;

// Floor 8: voices; none knows the others
pub mod journal;
pub mod hooks;
pub mod metrics;
pub mod notifications;

// Floor 9: service
pub mod service;

// Floor 10: door
pub mod cli;
