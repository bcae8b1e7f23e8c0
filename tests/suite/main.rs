//! Every integration test, in one program: one link, one place to look.

mod backup;
mod check;
mod check_findings;
mod check_stand;
mod chunker;
mod cli;
mod cli_ends;
mod cli_prune;
mod cli_sqlite;
mod compare;
mod compare_live;
mod format;
mod format_limits;
mod copy;
mod os;
mod prune;
mod shelf;
mod restore;
mod restore_target;
mod source;
mod source_filter;
mod sqlite;
mod sqlite_growth;
mod sqlite_live;
