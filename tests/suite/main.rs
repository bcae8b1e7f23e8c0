//! Every integration test, in one program: one link, one place to look.

mod chunker;
mod format;
mod os;
mod source;
mod source_filter;
