//! Every integration test, in one program: one link, one place to look.

mod chunker;
mod os;
mod restore;
mod restore_target;
mod source;
mod source_filter;
