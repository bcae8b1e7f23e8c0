//! Every integration test, in one program: one link, one place to look.

mod check;
mod check_findings;
mod check_stand;
mod chunker;
mod os;
mod source;
mod source_filter;
