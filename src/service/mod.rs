//! A profile's jobs: carried out one at a time, each in processes of its own, so that none costs another.

mod after;
mod child;
pub mod cycle;
mod steps;
pub mod voices;
pub mod report;
