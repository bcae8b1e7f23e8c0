//! `run`: a source to a committed snapshot.
