//! Every integration test, in one program: one link, one place to look.

mod chunker;
mod compare;
mod compare_live;
mod copy;
mod os;
mod shelf;
mod source;
mod source_filter;
