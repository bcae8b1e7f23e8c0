//! Memory and time of a collection on an index of many chunks, without the bytes of the chunks: packs are sparse files
//! with real footers. `SCALE_CHUNKS` says how many (one million unless it is set); the slope between two sizes tells
//! what a hundred million would take.
//!
//! Not a criterion benchmark: each size runs once, in a process of its own, so that peak memory means something.

use snapkeep::backend::local::LocalBackend;
use snapkeep::clock::{Clock, SystemClock, Timestamp};
use snapkeep::compress::Level;
use snapkeep::crypto::hash;
use snapkeep::format::entry::{Content, Entry, Extent, Flags, Kind, Metadata, Owner, Stat};
use snapkeep::format::frame::{
    Body, ChunkInfo, Coding, FRAME_OVERHEAD, FrameKind, FrameTable, encode_frame_header,
};
use snapkeep::format::pack::{Footer, FrameEntry, TRAILER_LEN, Trailer};
use snapkeep::format::snapshot::{SessionInfo, Snapshot};
use snapkeep::format::{FileName, HEADER_LEN, encode_header};
use snapkeep::id::{ChunkId, Name, hex};
use snapkeep::manifest::build::Builder;
use snapkeep::manifest::walk::Groups;
use snapkeep::repository::keys::SlotOwner;
use snapkeep::repository::writer::Writer;
use snapkeep::repository::{NewRepository, Repository, create, random};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Chunks of one pack, and of one body.
const PACK_CHUNKS: u64 = 4096;
const BODY_CHUNKS: u64 = 128;
/// Plain and stored bytes of one chunk.
const PLAIN: u32 = 8192;
const STORED: u32 = 4096;
/// Chunks of one file.
const FILE_CHUNKS: u64 = 1000;

fn id(number: u64) -> ChunkId {
    ChunkId::from_slice(&hash::plain(&number.to_le_bytes())[..24]).expect("24 bytes")
}

/// A pack as its ends show it; its bodies are a hole.
fn pack(repository: &Repository, root: &Path, first: u64) {
    let keyring = repository.keyring();
    let mut footer = Footer::default();
    let mut offset = HEADER_LEN as u64;
    for body in 0..PACK_CHUNKS / BODY_CHUNKS {
        let start = first + body * BODY_CHUNKS;
        let chunk = |n| ChunkInfo { id: id(n), len: PLAIN, version: 0 };
        let stored_len = STORED * BODY_CHUNKS as u32;
        let chunks = (start..start + BODY_CHUNKS).map(chunk).collect();
        let table = FrameTable { bodies: vec![Body { coding: Coding::Zstd, stored_len, chunks }] };
        let len = stored_len + FRAME_OVERHEAD as u32;
        footer.frames.push(FrameEntry { offset: offset as u32, len, table });
        offset += u64::from(len);
    }
    let name = FileName::Pack(random::name().expect("random"));
    let sealed = keyring.seal(FrameKind::Footer, &footer.encode(), &[7; 16]).expect("sealed");
    let file = std::fs::File::create(root.join(name.path())).expect("a file");
    file.write_all_at(&encode_header(&name, repository.id()), 0).expect("written");
    file.write_all_at(&encode_frame_header(FrameKind::Data, 100), HEADER_LEN as u64).expect("written");
    file.write_all_at(&sealed, offset).expect("written");
    let end = offset + sealed.len() as u64;
    let trailer = Trailer { footer_offset: offset, file_len: end + TRAILER_LEN as u64, hash: [0; 32] };
    file.write_all_at(&trailer.encode(), end).expect("written");
}

/// A snapshot of files that name the first `chunks` chunks.
fn snapshot(repository: &Arc<Repository>, chunks: u64) {
    let mut writer = Writer::open(repository, Level::AUTO, &SessionInfo::default()).expect("a session");
    let mut builder = Builder::new(&writer, Groups::default()).expect("a builder");
    let owner = Arc::new(Owner { uid: 0, gid: 0, user: "root".into(), group: "root".into() });
    for file in 0..chunks / FILE_CHUNKS {
        let extent = |n| Extent::Chunk { id: id(n), len: PLAIN, repeat: 1 };
        let extents = (file * FILE_CHUNKS..(file + 1) * FILE_CHUNKS).map(extent).collect();
        let content =
            Content { size: FILE_CHUNKS * u64::from(PLAIN), extents, lists: Vec::new(), hash: Some([1; 32]) };
        let mtime = Timestamp { secs: 1, nanos: 0 };
        let meta = Metadata { mode: 0o644, owner: Arc::clone(&owner), mtime, xattrs: None };
        let path = format!("f{file:09}").into_bytes();
        let entry = Entry { path, kind: Kind::File, meta, flags: Flags::default(), link: 0, content };
        builder.push(entry, Stat { inode: file, ctime: mtime, racy: false, sound: false }).expect("pushed");
    }
    let built = builder.finish().expect("a root");
    let packed = writer.flush().expect("flushed");
    let record = Snapshot {
        id: writer.session.to_string(),
        root: hex(&built.root.0),
        time: SystemClock.now().rfc3339(),
        backup_start: SystemClock.now().rfc3339(),
        backup_end: SystemClock.now().rfc3339(),
        program_version: "bench".into(),
        ..Snapshot::default()
    };
    writer.commit(&record, packed).expect("committed");
}

/// Peak resident memory of a process in KiB, as far as it has come.
fn peak(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// User and system time of our children that have ended, in seconds.
fn children_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> =
        stat.rsplit(") ").next().unwrap_or_default().split(' ').filter_map(|f| f.parse().ok()).collect();
    // Fields 16 and 17 of the line; the first after the name is the third, a letter. A tick is a hundredth of a second.
    fields.get(12).zip(fields.get(13)).map_or(0.0, |(user, system)| (user + system) / 100.0)
}

fn run(dir: &Path, root: &Path, arguments: &[&str]) -> (f64, Duration, u64) {
    let (begun, cpu) = (Instant::now(), children_cpu());
    let mut child = Command::new(env!("CARGO_BIN_EXE_snapkeep"))
        .arg("-r")
        .arg(root)
        .args(arguments)
        .env("SNAPKEEP_CACHE_DIR", dir.join("cache"))
        .env("SNAPKEEP_NO_JOURNAL", "1")
        .spawn()
        .expect("started");
    let mut most = 0;
    while child.try_wait().expect("waited").is_none() {
        most = most.max(peak(child.id()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(10));
    }
    (children_cpu() - cpu, begun.elapsed(), most)
}

fn main() {
    // Started by `cargo test` to see that it builds.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let chunks: u64 = std::env::var("SCALE_CHUNKS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("repository");
    let backend = Arc::new(LocalBackend::create(&root, false).expect("made"));
    let now = SystemClock.now();
    let new =
        NewRepository { password: None, owner: SlotOwner::default(), group_readable: false, like: None, now };
    let repository = Arc::new(create(backend, &new).expect("a repository"));
    let _: &Name = repository.id();
    for first in (0..chunks).step_by(PACK_CHUNKS as usize) {
        pack(&repository, &root, first);
    }
    // A third of the chunks is garbage.
    snapshot(&repository, chunks / 3 * 2);
    for (what, arguments) in [
        ("prune --dry-run", &["prune", "--dry-run"][..]),
        // With what the first has read of the manifest in the cache.
        ("prune --dry-run again", &["prune", "--dry-run"][..]),
        ("first open", &["snapshots"][..]),
        ("index from footers", &["repair", "index"][..]),
        ("stats", &["stats"][..]),
    ] {
        let (cpu, wall, peak) = run(dir.path(), &root, arguments);
        println!(
            "{what}: {chunks} chunks, {cpu:.2} CPU s, {:.2} s, peak {:.1} MiB",
            wall.as_secs_f64(),
            peak as f64 / 1024.0
        );
    }
}
