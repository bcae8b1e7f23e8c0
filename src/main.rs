//! Arguments in, exit code out.

use std::process::ExitCode;

/// Gives memory back to other threads evenly; the usual one keeps what each thread once needed.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    snapkeep::cli::run(std::env::args_os().collect())
}
