//! Every integration test, in one program: one link, one place to look.

mod backup;
mod check;
mod chunker;
mod compare;
mod compare_live;
mod format;
mod copy;
mod os;
mod shelf;
mod source;
mod source_filter;
