//! Every integration test, in one program: one link, one place to look.

mod chunker;
