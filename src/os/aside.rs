//! Small files that readers find whole, the old or the new: written aside, made durable, renamed.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// Puts `bytes` in the place of what `path` holds, if anything. A new file gets `mode`.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut aside = std::ffi::OsString::from(".");
    aside.push(name);
    aside.push(format!(".{}-{number}.new", std::process::id()));
    let aside = dir.join(aside);
    let written = || -> io::Result<()> {
        let mut file = File::options().write(true).create(true).truncate(true).mode(mode).open(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&aside, path)?;
        File::open(dir)?.sync_all()
    };
    let done = written();
    if done.is_err() {
        // There only when something failed, and then of no use.
        let _ = std::fs::remove_file(&aside);
    }
    done
}

/// Appends lines to a file, all of them in one write; a new one gets `mode`.
pub fn append(path: &Path, lines: &[u8], mode: u32) -> io::Result<()> {
    File::options().append(true).create(true).mode(mode).open(path)?.write_all(lines)
}
