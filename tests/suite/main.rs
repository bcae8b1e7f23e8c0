//! Every integration test, in one program: one link, one place to look.

mod backup;
mod check;
mod check_findings;
mod check_stand;
mod chunker;
mod cli;
mod cli_ends;
mod compare;
mod compare_live;
mod counters;
mod fence;
mod format;
mod format_limits;
mod copy;
mod loop_disk;
mod os;
mod power;
mod protocol;
mod shelf;
mod restore;
mod restore_target;
mod source;
mod source_filter;
mod yard;
