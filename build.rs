//! Says how SQLite is being built: functions that it lacks must not even be named.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(sqlite_snapshot)");
    println!("cargo::rerun-if-env-changed=LIBSQLITE3_FLAGS");
    println!("cargo::rerun-if-changed=build.rs");
    let flags = std::env::var("LIBSQLITE3_FLAGS").unwrap_or_default();
    if flags.split_whitespace().any(|flag| flag.contains("SQLITE_ENABLE_SNAPSHOT")) {
        println!("cargo::rustc-cfg=sqlite_snapshot");
    }
}
