//! Arguments in, exit code out.

use std::process::ExitCode;

// What one thread allocates another often frees; this allocator does that without one lock for all, and gives
// memory back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    snapkeep::cli::run(std::env::args_os().collect())
}
