//! A part of a snapshot as a tar stream, with PAX records for what plain headers cannot hold.

use crate::error::{Context, Result};
use crate::format::entry::{Entry, Kind};
use crate::id::ChunkId;
use crate::manifest::content::for_each_piece;
use crate::manifest::walk::Walk;
use crate::progress::{Problem, Progress, Report};
use crate::repository::reader::Reader;
use std::collections::HashMap;
use std::io::{Error, Result as IoResult, Write};
use tar::{EntryType, Header};

const BLOCK: u64 = 512;
/// The largest number in eleven octal digits.
const OCTAL_MAX: u64 = 0o77_777_777_777;
/// The largest number in seven octal digits.
const ID_MAX: u64 = 0o7_777_777;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Writes everything at or below `below`; names lose `below` and the slash after it when `relative`.
///
/// Sockets have no place in such a stream and are reported; everything else that cannot be read is an error.
pub fn write_tar(
    reader: &Reader,
    root: &ChunkId,
    below: &[u8],
    relative: bool,
    out: &mut dyn Write,
    progress: &Progress,
    report: &dyn Report,
) -> Result<()> {
    let base = if relative && !below.is_empty() { below.len() + 1 } else { 0 };
    let mut links: HashMap<u64, Vec<u8>> = HashMap::new();
    let failed = || "cannot write the archive";
    for entry in Walk::new(reader, root, below)? {
        progress.keep_going()?;
        let entry = entry?;
        progress.set_current(&entry.path);
        let name = match entry.path.get(base..) {
            Some(name) if !name.is_empty() => name.to_vec(),
            _ => b".".to_vec(),
        };
        if entry.kind == Kind::Socket {
            report.warning(&socket(&entry));
            continue;
        }
        if let Some(first) = links.get(&entry.link).filter(|_| entry.link != 0) {
            write_header(out, &entry, &name, EntryType::Link, first).context(failed)?;
            continue;
        }
        if entry.link != 0 {
            links.insert(entry.link, name.clone());
        }
        let target: &[u8] = if let Kind::Symlink(target) = &entry.kind { target } else { b"" };
        write_header(out, &entry, &name, entry_type(&entry.kind), target).context(failed)?;
        if entry.is_file() {
            write_content(reader, &entry, out)?;
            pad(out, entry.content.size).context(failed)?;
            progress.add_file(entry.content.size);
        }
    }
    out.write_all(&ZEROS[..2 * BLOCK as usize]).context(failed)
}

/// Writes a file's bytes; holes become zeros.
pub fn write_content(reader: &Reader, entry: &Entry, out: &mut dyn Write) -> Result<()> {
    let cannot = || format!("cannot write the content of /{}", String::from_utf8_lossy(&entry.path));
    let out = std::cell::RefCell::new(out);
    let data = &mut |bytes: &[u8]| out.borrow_mut().write_all(bytes).context(cannot);
    let hole = &mut |mut len: u64| {
        while len > 0 {
            let n = len.min(ZEROS.len() as u64);
            out.borrow_mut().write_all(&ZEROS[..n as usize]).context(cannot)?;
            len -= n;
        }
        Ok(())
    };
    for_each_piece(reader, &entry.content, data, hole)
}

fn socket(entry: &Entry) -> Problem {
    let message = format!("/{} is a socket and is left out", String::from_utf8_lossy(&entry.path));
    Problem { item: entry.path.clone(), during: "dump", message }
}

fn entry_type(kind: &Kind) -> EntryType {
    match kind {
        Kind::File | Kind::Socket => EntryType::Regular,
        Kind::Directory => EntryType::Directory,
        Kind::Symlink(_) => EntryType::Symlink,
        Kind::Fifo => EntryType::Fifo,
        Kind::CharDevice(..) => EntryType::Char,
        Kind::BlockDevice(..) => EntryType::Block,
    }
}

fn pad(out: &mut dyn Write, size: u64) -> IoResult<()> {
    let over = size % BLOCK;
    out.write_all(&ZEROS[..if over == 0 { 0 } else { (BLOCK - over) as usize }])
}

/// The PAX records of one entry: `length key=value\n`.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
}

impl Records {
    fn add(&mut self, key: &str, value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        // The length counts its own digits.
        let mut len = rest + 1;
        while len != rest + len.to_string().len() {
            len = rest + len.to_string().len();
        }
        self.bytes.extend_from_slice(format!("{len} {key}=").as_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.push(b'\n');
    }
}

fn write_header(
    out: &mut dyn Write,
    entry: &Entry,
    name: &[u8],
    kind: EntryType,
    link: &[u8],
) -> IoResult<()> {
    let mut name = name.to_vec();
    if kind == EntryType::Directory {
        name.push(b'/');
    }
    let size = if kind == EntryType::Regular { entry.content.size } else { 0 };
    let records = records(entry, &name, link, size);
    let mut header = Header::new_ustar();
    put(&mut header, &name, link);
    header.set_entry_type(kind);
    header.set_mode(entry.meta.mode);
    header.set_uid(u64::from(entry.meta.owner.uid).min(ID_MAX));
    header.set_gid(u64::from(entry.meta.owner.gid).min(ID_MAX));
    header.set_size(size.min(OCTAL_MAX));
    header.set_mtime(u64::try_from(entry.meta.mtime.secs).unwrap_or(0).min(OCTAL_MAX));
    // Names that do not fit are left out: the numbers stand.
    let _ = header.set_username(&entry.meta.owner.user);
    let _ = header.set_groupname(&entry.meta.owner.group);
    if let Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) = entry.kind {
        header.set_device_major(major).and_then(|()| header.set_device_minor(minor)).map_err(Error::other)?;
    }
    header.set_cksum();
    if !records.is_empty() {
        let mut pax = Header::new_ustar();
        put(&mut pax, b"././@PaxHeader", b"");
        pax.set_entry_type(EntryType::XHeader);
        pax.set_mode(0o644);
        pax.set_size(records.len() as u64);
        pax.set_mtime(0);
        pax.set_uid(0);
        pax.set_gid(0);
        pax.set_cksum();
        out.write_all(pax.as_bytes())?;
        out.write_all(&records)?;
        pad(out, records.len() as u64)?;
    }
    out.write_all(header.as_bytes())
}

/// The first hundred bytes of name and link: whole, or what PAX records replace.
fn put(header: &mut Header, name: &[u8], link: &[u8]) {
    if let Some(ustar) = header.as_ustar_mut() {
        for (field, value) in [(&mut ustar.name, name), (&mut ustar.linkname, link)] {
            let len = value.len().min(field.len());
            field[..len].copy_from_slice(&value[..len]);
        }
    }
}

fn records(entry: &Entry, name: &[u8], link: &[u8], size: u64) -> Vec<u8> {
    let mut records = Records::default();
    // Raw bytes whatever their encoding, as GNU tar writes and reads them.
    let odd = |bytes: &[u8]| bytes.len() > 100 || !bytes.is_ascii();
    if odd(name) {
        records.add("path", name);
    }
    if odd(link) {
        records.add("linkpath", link);
    }
    if size > OCTAL_MAX {
        records.add("size", size.to_string().as_bytes());
    }
    let owner = &entry.meta.owner;
    for (key, id) in [("uid", owner.uid), ("gid", owner.gid)] {
        if u64::from(id) > ID_MAX {
            records.add(key, id.to_string().as_bytes());
        }
    }
    let mtime = entry.meta.mtime;
    if mtime.nanos != 0 || mtime.secs < 0 || mtime.secs.unsigned_abs() > OCTAL_MAX {
        records.add("mtime", seconds(mtime.secs, mtime.nanos).as_bytes());
    }
    for (key, value) in entry.meta.xattrs.iter().flat_map(|list| list.iter()) {
        if let Ok(key) = std::str::from_utf8(key) {
            records.add(&format!("SCHILY.xattr.{key}"), value);
        }
    }
    records.bytes
}

/// Decimal seconds; the nanoseconds of times before 1970 count upward with us and away from zero there.
fn seconds(secs: i64, nanos: u32) -> String {
    if secs >= 0 || nanos == 0 {
        return format!("{secs}.{nanos:09}");
    }
    format!("-{}.{:09}", (secs + 1).unsigned_abs(), 1_000_000_000 - nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_record_counts_itself() {
        for len in 0..1200 {
            let mut records = Records::default();
            records.add("path", &vec![b'x'; len]);
            let digits = records.bytes.iter().position(|b| *b == b' ').expect("a space");
            let stated: usize = String::from_utf8_lossy(&records.bytes[..digits]).parse().expect("a number");
            assert_eq!(stated, records.bytes.len());
        }
    }

    #[test]
    fn times_before_1970_count_away_from_zero() {
        assert_eq!(seconds(-1, 250_000_000), "-0.750000000");
        assert_eq!(seconds(-3, 0), "-3.000000000");
        assert_eq!(seconds(5, 1), "5.000000001");
    }
}
