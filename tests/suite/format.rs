//! The vectors of `format-spec/vectors`: each decodes to its text, encodes to its bytes, and the refused are refused.

use serde_json::Value;
use snapkeep::clock::Timestamp;
use snapkeep::compress::{Decompressor, decompress_with_prefix};
use snapkeep::crypto::password::{Password, unwrap, wrap};
use snapkeep::crypto::{ChunkSort, Keyring, hash};
use snapkeep::error::ErrorKind;
use snapkeep::format::codec::{Reader, put_signed, put_string, put_varint};
use snapkeep::format::config::{Config, Encryption, decode_plain_record, encode_plain_record};
use snapkeep::format::entry::{Content, Entry, Extent, Flags, Kind, Metadata, Owner, Stat};
use snapkeep::format::extents::{decode_list, encode_list};
use snapkeep::format::frame::{Body, ChunkInfo, Coding, FrameKind, FrameTable, Prefix};
use snapkeep::format::group::{GroupEncoder, decode_group, decode_stats, encode_stats};
use snapkeep::format::key::{KdfCost, KeySlots};
use snapkeep::format::pack::{Footer, FrameEntry, TRAILER_LEN, Trailer};
use snapkeep::format::root::{Root, RootItem};
use snapkeep::format::segment::Segment;
use snapkeep::format::snapshot::{self, Note, SessionInfo, Snapshot};
use snapkeep::format::{FileName, Folder, HEADER_LEN, decode_header, encode_header};
use snapkeep::id::{ChunkId, Name, hex, unhex};
use snapkeep::repository::frames::assemble_frame;
use snapkeep::repository::snapshots::encode_path;
use std::sync::Arc;

pub fn load(file: &str) -> Value {
    let path = format!("{}/format-spec/vectors/{file}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).expect("vectors")).expect("JSON")
}

pub fn list<'v>(v: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    v[key].as_array().unwrap_or_else(|| panic!("no {key} in {v}")).iter()
}

pub fn text<'v>(v: &'v Value, key: &str) -> &'v str {
    v[key].as_str().unwrap_or_else(|| panic!("no text {key} in {v}"))
}

pub fn number(v: &Value, key: &str) -> u64 {
    v[key].as_u64().unwrap_or_else(|| panic!("no number {key} in {v}"))
}

pub fn bytes(v: &Value, key: &str) -> Vec<u8> {
    unhex(text(v, key)).expect("hex")
}

pub fn array<const N: usize>(v: &Value, key: &str) -> [u8; N] {
    bytes(v, key).try_into().expect("length")
}

fn id(v: &Value) -> ChunkId {
    ChunkId::from_slice(&unhex(v.as_str().expect("text")).expect("hex")).expect("24 bytes")
}

pub fn repository(file: &Value) -> Name {
    Name(array(file, "repository"))
}

pub fn encryption(v: &Value) -> Encryption {
    if text(v, "encryption") == "none" { Encryption::None } else { Encryption::Aes256Gcm }
}

/// A path as text back to bytes.
fn path(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let digits = std::str::from_utf8(&tail[..2]).expect("two digits");
            out.push(u8::from_str_radix(digits, 16).expect("hex"));
            rest = &tail[2..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

pub fn file_name(text: &str) -> FileName {
    let (folder, name) = (text.split('/').next().expect("folder"), text.rsplit('/').next().expect("name"));
    let folder = Folder::ALL.into_iter().find(|f| f.dir() == folder).expect("a folder");
    let name = folder.parse(name).expect("a name");
    assert_eq!(name.path(), text);
    name
}

#[test]
fn primitives() {
    let file = load("primitives");
    for v in list(&file, "vectors") {
        let stored = bytes(v, "bytes");
        let mut r = Reader::new(&stored, "a vector");
        let mut out = Vec::new();
        match text(v, "type") {
            "varint" => {
                let n = r.varint().expect("a number");
                assert_eq!(n, number(v, "decoded"));
                put_varint(&mut out, n);
            }
            "signed" => {
                let n = r.signed().expect("a number");
                assert_eq!(Some(n), v["decoded"].as_i64());
                put_signed(&mut out, n);
            }
            _ => {
                let s = r.string(100).expect("a string");
                assert_eq!(s, text(v, "decoded").as_bytes());
                put_string(&mut out, s);
            }
        }
        r.end().expect("all read");
        assert_eq!(out, stored, "{}", v["name"]);
    }
    for v in list(&file, "refused") {
        let stored = bytes(v, "bytes");
        let mut r = Reader::new(&stored, "a vector");
        let read =
            if text(v, "type") == "string" { r.string(100).map(|_| ()) } else { r.varint().map(|_| ()) };
        assert!(read.and_then(|()| r.end()).is_err(), "{}", v["name"]);
    }
}

#[test]
fn headers() {
    let file = load("headers");
    let owner = repository(&file);
    for v in list(&file, "vectors") {
        let d = &v["decoded"];
        let name = file_name(text(d, "file"));
        assert_eq!(decode_header(&bytes(v, "bytes"), &name, Some(&owner)).expect("a header"), owner);
        assert_eq!(hex(&encode_header(&name, &owner)), text(v, "bytes"));
        assert_eq!(name.kind() as u64, number(d, "kind"));
    }
    for (key, kind) in [("refused", ErrorKind::Corrupt), ("newer", ErrorKind::Unsupported)] {
        for v in list(&file, key) {
            let e = decode_header(&bytes(v, "bytes"), &file_name(text(v, "file")), Some(&owner));
            assert_eq!(e.expect_err(text(v, "name")).kind(), kind, "{}", v["name"]);
        }
    }
}

fn body(v: &Value) -> Body {
    let chunk = |c: &Value| ChunkInfo {
        id: id(&c["id"]),
        len: number(c, "len") as u32,
        version: c["version"].as_u64().unwrap_or(0) as u8,
    };
    let coding = match text(v, "coding") {
        "raw" => Coding::Raw,
        "zstd" => Coding::Zstd,
        _ => Coding::Prefix(Prefix {
            bases: list(v, "bases").map(id).collect(),
            len: number(v, "history") as u32,
            depth: number(v, "depth") as u8,
            closure: number(v, "closure"),
        }),
    };
    Body { coding, stored_len: number(v, "stored") as u32, chunks: list(v, "chunks").map(chunk).collect() }
}

fn read_table(stored: &[u8]) -> snapkeep::error::Result<FrameTable> {
    let mut r = Reader::new(stored, "a vector");
    let table = FrameTable::decode(&mut r)?;
    r.end()?;
    Ok(table)
}

#[test]
fn frame_tables() {
    let file = load("frame-tables");
    for v in list(&file, "vectors") {
        let table = FrameTable { bodies: list(v, "decoded").map(body).collect() };
        assert_eq!(read_table(&bytes(v, "bytes")).expect("a table"), table);
        let mut out = Vec::new();
        table.encode(&mut out);
        assert_eq!(hex(&out), text(v, "bytes"));
    }
    for v in list(&file, "refused") {
        assert!(read_table(&bytes(v, "bytes")).is_err(), "{}", v["name"]);
    }
}

#[test]
fn frames() {
    let file = load("frames");
    let ring = |v: &Value| Keyring::new(repository(&file), encryption(v), &array(&file, "master"));
    let kind = |v: &Value| FrameKind::from_byte(number(v, "kind") as u8).expect("a kind");
    for v in list(&file, "vectors") {
        let d = &v["decoded"];
        let plain = bytes(d, "plain");
        assert_eq!(ring(d).unseal(kind(d), &bytes(v, "bytes")).expect("opens"), plain);
        assert_eq!(ring(d).seal(kind(d), &plain, &array(d, "salt")).expect("seals"), bytes(v, "bytes"));
    }
    for v in list(&file, "refused") {
        assert!(ring(v).unseal(kind(v), &bytes(v, "bytes")).is_err(), "{}", v["name"]);
    }
}

#[test]
fn chunk_ids_and_keys() {
    let file = load("chunk-ids");
    let ring = Keyring::new(repository(&file), Encryption::Aes256Gcm, &array(&file, "master"));
    for v in list(&file, "vectors") {
        let content = text(&v["decoded"], "sort") == "content";
        let sort = if content { ChunkSort::Content } else { ChunkSort::Manifest };
        assert_eq!(ring.chunk_id(sort, &bytes(v, "bytes")), id(&v["decoded"]["id"]));
    }
    assert_eq!(ring.gear_bytes()[..24], bytes(&file, "gear"));
    let mut material = bytes(&file, "master");
    material.extend(bytes(&file, "repository"));
    for (key, context) in [
        ("content id", "snapkeep v1 content chunk id"),
        ("manifest id", "snapkeep v1 manifest chunk id"),
        ("frame", "snapkeep v1 frame key"),
        ("synthetic", "snapkeep v1 frame synthetic value"),
        ("config", "snapkeep v1 config"),
        ("gear", "snapkeep v1 gear table"),
    ] {
        assert_eq!(hex(&hash::derive(context, &material)), text(&file["keys"], key));
    }
}

/// A plain record, closed by its hash as the repository does it.
fn record(name: &FileName, owner: &Name, body: &[u8], mac: &[u8; 32]) -> Vec<u8> {
    let mut out = encode_plain_record(name, owner, body, mac);
    let sum = hash::plain(&out);
    out.extend_from_slice(&sum);
    out
}

#[test]
fn configs() {
    let file = load("config");
    let (name, owner) = (FileName::Config(1), repository(&file));
    for v in list(&file, "vectors") {
        let stored = bytes(v, "bytes");
        let read = decode_plain_record(&stored, &name).expect("a record");
        assert_eq!((read.repository, hash::plain(read.hashed)), (owner, read.hash));
        let config = Config::decode(read.body).expect("a config");
        assert_eq!(serde_json::to_value(&config).expect("JSON"), v["decoded"]);
        let ring = Keyring::new(owner, config.encryption, &array(&file, "master"));
        assert_eq!(record(&name, &owner, &config.encode(), &ring.config_mac(&config.encode())), stored);
    }
    for v in list(&file, "refused") {
        let stored = bytes(v, "bytes");
        let good = decode_plain_record(&stored, &name).is_ok_and(|read| {
            let config = Config::decode(read.body);
            hash::plain(read.hashed) == read.hash && config.is_ok_and(|c| c.id == read.repository.to_string())
        });
        assert!(!good, "{}", v["name"]);
    }
}

#[test]
fn key_slots() {
    let file = load("key-slot");
    let (name, owner) = (FileName::Keys(1), repository(&file));
    let password = Password::new(text(&file, "password").as_bytes().to_vec()).expect("a password");
    let wrong = Password::new(b"another".to_vec()).expect("a password");
    for v in list(&file, "vectors") {
        let stored = bytes(v, "bytes");
        let read = decode_plain_record(&stored, &name).expect("a record");
        assert_eq!((read.mac, hash::plain(read.hashed)), ([0; 32], read.hash));
        let slots = KeySlots::decode(read.body).expect("slots");
        assert_eq!(serde_json::to_value(&slots).expect("JSON"), v["decoded"]);
        assert_eq!(record(&name, &owner, &slots.encode(), &[0; 32]), stored);
        let slot = &slots.slots[0];
        let master = unwrap(slot, &owner, &password).expect("opens").expect("the right password");
        assert_eq!(*master, array::<32>(&file, "master"));
        assert!(unwrap(slot, &owner, &wrong).expect("no error").is_none());
        assert!(unwrap(slot, &Name([0; 16]), &password).expect("no error").is_none());
        let mut other = slot.clone();
        other.cost = KdfCost { m_kib: 16, ..slot.cost };
        assert!(unwrap(&other, &owner, &password).expect("no error").is_none());
        let mut again = slot.clone();
        let random: Vec<u8> =
            [&slot.salt, &slot.nonce].into_iter().flat_map(|t| unhex(t).expect("hex")).collect();
        wrap(&mut again, &owner, &password, &master, &random.try_into().expect("40 bytes")).expect("wraps");
        assert_eq!(again, *slot);
    }
    for v in list(&file, "refused") {
        let stored = bytes(v, "bytes");
        let read = decode_plain_record(&stored, &name).expect("a record");
        assert!(read.mac != [0; 32] || KeySlots::decode(read.body).is_err(), "{}", v["name"]);
    }
}

fn extent(v: &Value) -> Extent {
    match v["hole"].as_u64() {
        Some(len) => Extent::Hole { len },
        None => {
            let repeat = v["repeat"].as_u64().unwrap_or(1);
            Extent::Chunk { id: id(&v["id"]), len: number(v, "len") as u32, repeat }
        }
    }
}

fn timestamp(v: &Value) -> Timestamp {
    let part = |i: usize| v[i].as_i64().expect("a number");
    Timestamp { secs: part(0), nanos: part(1) as u32 }
}

fn content(v: &Value) -> Content {
    let size = v["size"].as_u64().unwrap_or(0);
    let hash = v["hash"].is_string().then(|| array(v, "hash"));
    let mut content = Content { size, extents: Vec::new(), lists: Vec::new(), hash };
    if v["lists"].is_array() {
        content.lists = list(v, "lists").map(id).collect();
    } else if v["extents"].is_array() {
        content.extents = list(v, "extents").map(extent).collect();
    } else if size > 0 {
        content.extents.push(Extent::Chunk { id: id(&v["id"]), len: size as u32, repeat: 1 });
    }
    content
}

fn entry(v: &Value) -> (Entry, Stat) {
    let device = |i: usize| v["device"][i].as_u64().expect("a number") as u32;
    let kind = match text(v, "kind") {
        "file" => Kind::File,
        "directory" => Kind::Directory,
        "symlink" => Kind::Symlink(path(text(v, "target"))),
        "fifo" => Kind::Fifo,
        "socket" => Kind::Socket,
        "char" => Kind::CharDevice(device(0), device(1)),
        _ => Kind::BlockDevice(device(0), device(1)),
    };
    let owner = Owner {
        uid: number(v, "uid") as u32,
        gid: number(v, "gid") as u32,
        user: v["user"].as_str().unwrap_or_default().to_owned(),
        group: v["group"].as_str().unwrap_or_default().to_owned(),
    };
    let pair = |p: &Value| {
        let part = |i: usize| p[i].as_str().expect("text");
        (path(part(0)), unhex(part(1)).expect("hex"))
    };
    let meta = Metadata {
        mode: u32::from_str_radix(text(v, "mode"), 8).expect("octal"),
        owner: Arc::new(owner),
        mtime: timestamp(&v["mtime"]),
        xattrs: v["xattrs"].is_array().then(|| Arc::new(list(v, "xattrs").map(pair).collect())),
    };
    let stored = path(text(v, "path"));
    assert_eq!(encode_path(&stored), text(v, "path"));
    let entry = Entry {
        path: stored,
        kind,
        meta,
        flags: Flags(v["flags"].as_u64().unwrap_or(0) as u8),
        link: v["link"].as_u64().unwrap_or(0),
        content: content(v),
    };
    let stat = &v["stat"];
    let racy = stat["racy"].as_bool().unwrap_or(false);
    let sound = stat["sound"].as_bool().unwrap_or(false);
    (entry, Stat { inode: number(stat, "inode"), ctime: timestamp(&stat["ctime"]), racy, sound })
}

#[test]
fn groups_and_stat_columns() {
    let file = load("groups");
    let mut fifo = Vec::new();
    for v in list(&file, "vectors") {
        let (entries, stats): (Vec<Entry>, Vec<Stat>) = list(v, "decoded").map(entry).unzip();
        assert_eq!(decode_group(&bytes(v, "bytes")).expect("a group"), entries);
        let mut encoder = GroupEncoder::default();
        for entry in &entries {
            encoder.push(entry);
        }
        assert_eq!(hex(&encoder.finish()), text(v, "bytes"));
        assert_eq!(decode_stats(&bytes(v, "stat_bytes"), &entries).expect("a stat column"), stats);
        assert_eq!(hex(&encode_stats(&entries, &stats)), text(v, "stat_bytes"));
        if text(v, "name") == "one fifo" {
            fifo = entries;
        }
    }
    for v in list(&file, "refused") {
        assert!(decode_group(&bytes(v, "bytes")).is_err(), "{}", v["name"]);
    }
    for v in list(&file, "refused_stats") {
        assert!(decode_stats(&bytes(v, "bytes"), &fifo).is_err(), "{}", v["name"]);
    }
}

#[test]
fn content_lists() {
    let file = load("content-lists");
    for v in list(&file, "vectors") {
        let extents: Vec<Extent> = list(v, "decoded").map(extent).collect();
        assert_eq!(decode_list(&bytes(v, "bytes")).expect("a list"), extents);
        assert_eq!(hex(&encode_list(&extents)), text(v, "bytes"));
    }
    for v in list(&file, "refused") {
        assert!(decode_list(&bytes(v, "bytes")).is_err(), "{}", v["name"]);
    }
}

#[test]
fn roots() {
    let file = load("roots");
    for v in list(&file, "vectors") {
        let d = &v["decoded"];
        let item = |i: &Value| RootItem {
            first: path(text(i, "first")),
            id: id(&i["id"]),
            stat: i["stat"].is_string().then(|| id(&i["stat"])),
            entries: number(i, "entries"),
            bytes: number(i, "bytes"),
        };
        let root = Root { level: number(d, "level") as u8, items: list(d, "items").map(item).collect() };
        assert_eq!(Root::decode(&bytes(v, "bytes")).expect("a root"), root);
        assert_eq!(hex(&root.encode()), text(v, "bytes"));
    }
    for v in list(&file, "refused") {
        assert!(Root::decode(&bytes(v, "bytes")).is_err(), "{}", v["name"]);
    }
}

#[test]
fn packs() {
    let file = load("footer");
    for v in list(&file, "vectors") {
        let (stored, d) = (bytes(v, "bytes"), &v["decoded"]);
        let ring = Keyring::new(repository(&file), encryption(d), &array(&file, "master"));
        let name = file_name(text(d, "file"));
        decode_header(&stored, &name, Some(ring.repository())).expect("a header");
        let (before, end) = stored.split_at(stored.len() - TRAILER_LEN);
        let trailer = Trailer::decode(end, stored.len() as u64).expect("a trailer");
        assert_eq!((trailer.footer_offset, trailer.hash), (number(d, "footer_offset"), hash::plain(before)));
        let frame = |f: &Value| FrameEntry {
            offset: number(f, "offset") as u32,
            len: number(f, "length") as u32,
            table: FrameTable { bodies: list(f, "bodies").map(body).collect() },
        };
        let footer = Footer { frames: list(d, "frames").map(frame).collect() };
        let sealed = &before[trailer.footer_offset as usize..];
        let plain = ring.unseal(FrameKind::Footer, sealed).expect("opens");
        assert_eq!(Footer::decode(&plain).expect("a footer"), footer);
        assert_eq!(footer.end(), trailer.footer_offset);

        let raw = |s: &Value| unhex(s.as_str().expect("text")).expect("hex");
        let salts: Vec<[u8; 16]> = list(d, "salts").map(|s| raw(s).try_into().expect("16")).collect();
        let mut again = encode_header(&name, ring.repository()).to_vec();
        for ((frame, f), salt) in footer.frames.iter().zip(list(d, "frames")).zip(&salts) {
            let bodies: Vec<u8> = list(f, "stored").flat_map(raw).collect();
            again.extend(
                ring.seal(FrameKind::Data, &assemble_frame(&frame.table, &bodies), salt).expect("seals"),
            );
        }
        again.extend(ring.seal(FrameKind::Footer, &footer.encode(), &salts[2]).expect("seals"));
        let hash = hash::plain(&again);
        let file_len = (again.len() + TRAILER_LEN) as u64;
        again.extend(Trailer { footer_offset: footer.end(), file_len, hash }.encode());
        assert_eq!(again, stored);
        bodies_decode(&ring, d, &footer);
    }
}

#[test]
fn segments() {
    let file = load("segments");
    for v in list(&file, "vectors") {
        let (stored, d) = (bytes(v, "bytes"), &v["decoded"]);
        let ring = Keyring::new(repository(&file), encryption(d), &array(&file, "master"));
        let name = file_name(text(d, "file"));
        decode_header(&stored, &name, Some(ring.repository())).expect("a header");
        let plain = ring.unseal(FrameKind::Segment, &stored[HEADER_LEN..]).expect("opens");
        let segment = Segment::decode(&plain).expect("a segment");
        let names: Vec<String> = segment.supersedes.iter().map(Name::to_string).collect();
        let wanted: Vec<&str> = list(d, "supersedes").map(|n| n.as_str().expect("text")).collect();
        assert_eq!(names, wanted);
        assert_eq!(segment.packs.len(), list(d, "packs").count());
        for (entry, p) in segment.packs.iter().zip(list(d, "packs")) {
            assert_eq!(entry.pack.to_string(), text(p, "pack"));
            assert_eq!((entry.kind as u64, entry.pack_size()), (number(p, "kind"), number(p, "size")));
            assert_eq!(entry.footer, Footer::decode(&bytes(p, "footer")).expect("a footer"));
        }
        let mut again = encode_header(&name, ring.repository()).to_vec();
        again.extend(ring.seal(FrameKind::Segment, &segment.encode(), &array(d, "salt")).expect("seals"));
        assert_eq!(again, stored);
    }
    for v in list(&file, "refused") {
        assert!(Segment::decode(&bytes(v, "plain")).is_err(), "{}", text(v, "name"));
    }
}

/// The pack's three bodies: one compressed, one as it is, one against the first.
fn bodies_decode(ring: &Keyring, d: &Value, footer: &Footer) {
    let part = |frame: usize, key: &str, i: usize| {
        unhex(d["frames"][frame][key][i].as_str().expect("text")).expect("hex")
    };
    let mut decompressor = Decompressor::new().expect("a decompressor");
    let first = part(0, "plain", 0);
    assert_eq!(decompressor.decompress(&part(0, "stored", 0), first.len()).expect("expands"), first);
    assert_eq!(part(0, "stored", 1), part(0, "plain", 1));
    let third = part(1, "plain", 0);
    let expanded = decompress_with_prefix(&part(1, "stored", 0), &first, third.len());
    assert_eq!(expanded.expect("expands"), third);
    let (one, two) = (&footer.frames[0].table.bodies, &footer.frames[1].table.bodies);
    for (body, plain) in [(&one[0], &first), (&one[1], &part(0, "plain", 1)), (&two[0], &third)] {
        assert_eq!(body.chunks[0].id, ring.chunk_id(ChunkSort::Content, plain));
    }
}

#[test]
fn records() {
    fn round<T: serde::Serialize + for<'d> serde::Deserialize<'d>>(
        stored: &[u8],
    ) -> Option<(Value, Vec<u8>)> {
        let read: T = snapshot::decode(stored, "a vector").ok()?;
        Some((serde_json::to_value(&read).expect("JSON"), snapshot::encode(&read)))
    }
    let read = |v: &Value| match text(v, "type") {
        "session" => round::<SessionInfo>(&bytes(v, "bytes")),
        "snapshot" => round::<Snapshot>(&bytes(v, "bytes")),
        _ => round::<Note>(&bytes(v, "bytes")),
    };
    let file = load("records");
    for v in list(&file, "vectors") {
        let (decoded, encoded) = read(v).expect("a record");
        assert_eq!(decoded, v["decoded"]);
        assert_eq!(hex(&encoded), text(v, "bytes"));
    }
    for v in list(&file, "refused") {
        assert!(read(v).is_none(), "{}", v["name"]);
    }
}
