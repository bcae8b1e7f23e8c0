//! A profile's jobs: carried out one at a time, each in processes of its own, so that none costs another.

mod after;
mod child;
pub mod cycle;
pub mod daemon;
pub mod gate;
pub mod guards;
pub mod install;
pub mod keeper;
pub mod watch;
mod steps;
pub mod voices;
pub mod report;
