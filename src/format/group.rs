//! Manifest groups: about 2,000 sorted entries as columns, and the stat column that goes beside them.
//!
//! Bytes: `format-spec/5-manifest.md`.

use super::codec::{Reader, put_signed, put_string, put_varint};
use super::entry::{
    Content, Entry, Extent, Flags, Kind, Metadata, Owner, Stat, Xattrs, check_path, path_order,
};
use super::extents::{extents_len, put_extents, take_extents};
use super::limit;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::ChunkId;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

const TAG_GROUP: u8 = b'G';
const TAG_STAT: u8 = b'S';
const HAS_XATTRS: u8 = 1 << 3;
const HAS_LINK: u8 = 1 << 4;
/// The content is a list, not one whole chunk.
const HAS_LIST: u8 = 1 << 5;
const FLAGS_SHIFT: u8 = 6;
const RACY: u32 = 1 << 31;
const SOUND: u32 = 1 << 30;

/// Collects entries into columns.
#[derive(Default)]
pub struct GroupEncoder {
    count: u64,
    last: Vec<u8>,
    last_secs: i64,
    names: Vec<u8>,
    kinds: Vec<u8>,
    owners: Vec<u8>,
    owner_index: HashMap<(u32, Arc<Owner>), u64>,
    last_owner: Option<(u32, Arc<Owner>, u64)>,
    owner_column: Vec<u8>,
    secs: Vec<u8>,
    nanos: Vec<u8>,
    sizes: Vec<u8>,
    extras: Vec<u8>,
    xattrs: Vec<u8>,
    xattr_index: HashMap<Arc<Xattrs>, u64>,
    hashes: Vec<u8>,
    ids: Vec<u8>,
}

impl GroupEncoder {
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Bytes so far, within a few.
    pub fn len(&self) -> usize {
        self.names.len()
            + self.kinds.len()
            + self.owners.len()
            + self.owner_column.len()
            + self.secs.len()
            + self.nanos.len()
            + self.sizes.len()
            + self.extras.len()
            + self.xattrs.len()
            + self.hashes.len()
            + self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Appends an entry; paths must come in `path_order`.
    pub fn push(&mut self, entry: &Entry) {
        let shared = entry.path.iter().zip(&self.last).take_while(|(a, b)| a == b).count();
        put_varint(&mut self.names, shared as u64);
        put_string(&mut self.names, &entry.path[shared..]);
        self.last.truncate(shared);
        self.last.extend_from_slice(&entry.path[shared..]);
        self.push_owner(&entry.meta);
        put_signed(&mut self.secs, entry.meta.mtime.secs.wrapping_sub(self.last_secs));
        self.last_secs = entry.meta.mtime.secs;
        self.nanos.extend_from_slice(&entry.meta.mtime.nanos.to_le_bytes());
        let mut kind = match &entry.kind {
            Kind::File => 0,
            Kind::Directory => 1,
            Kind::Symlink(target) => {
                put_string(&mut self.extras, target);
                2
            }
            Kind::Fifo => 3,
            Kind::Socket => 4,
            Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                put_varint(&mut self.extras, u64::from(*major));
                put_varint(&mut self.extras, u64::from(*minor));
                if matches!(entry.kind, Kind::CharDevice(..)) { 5 } else { 6 }
            }
        };
        if entry.link != 0 {
            kind |= HAS_LINK;
            put_varint(&mut self.extras, entry.link);
        }
        if let Some(xattrs) = &entry.meta.xattrs {
            kind |= HAS_XATTRS;
            self.push_xattrs(xattrs);
        }
        if entry.is_file() {
            put_varint(&mut self.sizes, entry.content.size);
            kind |= self.push_content(&entry.content);
        }
        self.kinds.push(kind | entry.flags.0 << FLAGS_SHIFT);
        self.count += 1;
    }

    fn push_owner(&mut self, meta: &Metadata) {
        // Neighbours mostly have the same owner and mode.
        if let Some((mode, owner, index)) = &self.last_owner
            && *mode == meta.mode
            && *owner == meta.owner
        {
            put_varint(&mut self.owner_column, *index);
            return;
        }
        let next = self.owner_index.len() as u64;
        let key = (meta.mode, Arc::clone(&meta.owner));
        let index = *self.owner_index.entry(key).or_insert(next);
        self.last_owner = Some((meta.mode, Arc::clone(&meta.owner), index));
        if index == next {
            put_varint(&mut self.owners, u64::from(meta.mode));
            put_varint(&mut self.owners, u64::from(meta.owner.uid));
            put_varint(&mut self.owners, u64::from(meta.owner.gid));
            put_string(&mut self.owners, meta.owner.user.as_bytes());
            put_string(&mut self.owners, meta.owner.group.as_bytes());
        }
        put_varint(&mut self.owner_column, index);
    }

    fn push_xattrs(&mut self, xattrs: &Arc<Xattrs>) {
        let next = self.xattr_index.len() as u64;
        let index = *self.xattr_index.entry(Arc::clone(xattrs)).or_insert(next);
        if index == next {
            put_varint(&mut self.xattrs, xattrs.len() as u64);
            for (name, value) in xattrs.iter() {
                put_string(&mut self.xattrs, name);
                put_string(&mut self.xattrs, value);
            }
        }
        put_varint(&mut self.extras, index);
    }

    /// Returns the kind bits the content asks for.
    fn push_content(&mut self, content: &Content) -> u8 {
        match (content.size, content.extents.as_slice()) {
            (0, _) => return 0,
            (size, [Extent::Chunk { id, len, repeat: 1 }]) if u64::from(*len) == size => {
                self.ids.extend_from_slice(&id.0);
                return 0;
            }
            _ => {}
        }
        debug_assert!(content.hash.is_some(), "a file of several pieces has a hash");
        self.hashes.extend_from_slice(&content.hash.unwrap_or_default());
        put_varint(&mut self.extras, content.lists.len() as u64);
        if content.lists.is_empty() {
            put_extents(&mut self.extras, &mut self.ids, &content.extents);
        } else {
            for id in &content.lists {
                self.ids.extend_from_slice(&id.0);
            }
        }
        HAS_LIST
    }

    /// The group's bytes.
    pub fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len() + 128);
        out.push(TAG_GROUP);
        put_varint(&mut out, self.count);
        put_varint(&mut out, self.owner_index.len() as u64);
        put_varint(&mut out, self.xattr_index.len() as u64);
        for column in [
            &self.names,
            &self.kinds,
            &self.owners,
            &self.owner_column,
            &self.secs,
            &self.nanos,
            &self.sizes,
            &self.xattrs,
            &self.extras,
            &self.hashes,
            &self.ids,
        ] {
            put_string(&mut out, column);
        }
        out
    }
}

struct Columns<'a> {
    names: Reader<'a>,
    kinds: &'a [u8],
    owner: Reader<'a>,
    secs: Reader<'a>,
    nanos: Reader<'a>,
    sizes: Reader<'a>,
    extras: Reader<'a>,
    hashes: Reader<'a>,
    ids: Reader<'a>,
    owners: Vec<(u32, Arc<Owner>)>,
    xattrs: Vec<Arc<Xattrs>>,
    path: Vec<u8>,
    /// Bytes of all paths so far.
    paths_len: usize,
    last_secs: i64,
}

/// Reads a group; checks order, names and limits.
pub fn decode_group(bytes: &[u8]) -> Result<Vec<Entry>> {
    let what = "a manifest group";
    let mut r = Reader::new(bytes, what);
    if r.u8()? != TAG_GROUP {
        return Err(r.fail("is something else"));
    }
    let count = r.count(8)?;
    let (owner_count, xattr_count) = (r.count(5)?, r.count(1)?);
    let mut column = || r.string(limit::GROUP_BYTES_MAX).map(|bytes| Reader::new(bytes, what));
    let names = column()?;
    let mut kinds = column()?;
    let mut owners = column()?;
    let (owner, secs, nanos, sizes) = (column()?, column()?, column()?, column()?);
    let mut xattrs = column()?;
    let (extras, hashes, ids) = (column()?, column()?, column()?);
    r.end()?;
    let mut columns = Columns {
        names,
        kinds: kinds.take(count)?,
        owner,
        secs,
        nanos,
        sizes,
        extras,
        hashes,
        ids,
        owners: take_owners(&mut owners, owner_count)?,
        xattrs: take_xattrs(&mut xattrs, xattr_count)?,
        path: Vec::new(),
        paths_len: 0,
        last_secs: 0,
    };
    kinds.end()?;
    let mut entries = Vec::with_capacity(count);
    for i in 0..count {
        entries.push(take_entry(&mut columns, i)?);
    }
    let c = &columns;
    for column in [&c.names, &c.owner, &c.secs, &c.nanos, &c.sizes, &c.extras, &c.hashes, &c.ids] {
        column.end()?;
    }
    Ok(entries)
}

fn unique<T: Hash + Eq>(rows: &[T]) -> bool {
    let mut seen = HashSet::with_capacity(rows.len());
    rows.iter().all(|row| seen.insert(row))
}

fn take_owners(r: &mut Reader<'_>, count: usize) -> Result<Vec<(u32, Arc<Owner>)>> {
    let mut owners = Vec::with_capacity(count);
    for _ in 0..count {
        let mode = r.bounded(0o7777)? as u32;
        let uid = r.bounded(u64::from(u32::MAX))? as u32;
        let gid = r.bounded(u64::from(u32::MAX))? as u32;
        let mut name = || {
            let bytes = r.string(limit::NAME_BYTES_MAX)?;
            String::from_utf8(bytes.to_vec()).map_err(|_| r.fail("an owner's name that is not UTF-8"))
        };
        let (user, group) = (name()?, name()?);
        owners.push((mode, Arc::new(Owner { uid, gid, user, group })));
    }
    r.end()?;
    if !unique(&owners) {
        return Err(r.fail("an owner listed twice"));
    }
    Ok(owners)
}

fn take_xattrs(r: &mut Reader<'_>, count: usize) -> Result<Vec<Arc<Xattrs>>> {
    let mut sets = Vec::with_capacity(count);
    for _ in 0..count {
        let pairs = r.count(2)?;
        if pairs == 0 {
            return Err(r.fail("an empty set of attributes"));
        }
        let mut set: Xattrs = Vec::with_capacity(pairs);
        let mut total = 0;
        for _ in 0..pairs {
            let name = r.string(limit::NAME_BYTES_MAX)?.to_vec();
            let value = r.string(limit::XATTR_BYTES_MAX)?.to_vec();
            total += name.len() + value.len();
            if name.is_empty() || name.contains(&0) || total > limit::XATTRS_BYTES_MAX {
                return Err(r.fail("an impossible extended attribute"));
            }
            if set.last().is_some_and(|(last, _)| *last >= name) {
                return Err(r.fail("attributes out of order"));
            }
            set.push((name, value));
        }
        sets.push(Arc::new(set));
    }
    r.end()?;
    if !unique(&sets) {
        return Err(r.fail("a set of attributes listed twice"));
    }
    Ok(sets)
}

fn take_path(c: &mut Columns<'_>, i: usize) -> Result<Vec<u8>> {
    let shared = c.names.varint()? as usize;
    let suffix = c.names.string(limit::PATH_BYTES_MAX)?;
    if shared > c.path.len() || (i > 0 && suffix.is_empty()) {
        return Err(c.names.fail("a path that repeats another"));
    }
    // Before the path is written out: one byte here may stand for a mebibyte.
    c.paths_len += shared + suffix.len();
    if c.paths_len > limit::GROUP_PATHS_BYTES_MAX {
        return Err(c.names.fail("paths of too many bytes"));
    }
    let mut path = Vec::with_capacity(shared + suffix.len());
    path.extend_from_slice(&c.path[..shared]);
    path.extend_from_slice(suffix);
    check_path(&path).map_err(|why| c.names.fail(why))?;
    if i > 0 && path_order(&c.path, &path).is_ge() {
        return Err(c.names.fail("paths out of order"));
    }
    c.path.clone_from(&path);
    Ok(path)
}

fn take_entry(c: &mut Columns<'_>, i: usize) -> Result<Entry> {
    let path = take_path(c, i)?;
    let kind_byte = c.kinds[i];
    let owner = c.owner.varint()? as usize;
    let (mode, owner) = c.owners.get(owner).ok_or_else(|| c.owner.fail("an unknown owner"))?.clone();
    let secs = c.last_secs.wrapping_add(c.secs.signed()?);
    c.last_secs = secs;
    let nanos = c.nanos.u32()?;
    if nanos >= 1_000_000_000 {
        return Err(c.nanos.fail("an impossible time"));
    }
    let kind = take_kind(&mut c.extras, kind_byte & 7)?;
    let link = match kind_byte & HAS_LINK != 0 {
        true => match c.extras.varint()? {
            0 => return Err(c.extras.fail("a link number of 0")),
            _ if kind == Kind::Directory => return Err(c.extras.fail("a directory with a link number")),
            link => link,
        },
        false => 0,
    };
    let xattrs = match kind_byte & HAS_XATTRS != 0 {
        true => {
            let index = c.extras.varint()? as usize;
            Some(c.xattrs.get(index).ok_or_else(|| c.extras.fail("unknown attributes"))?.clone())
        }
        false => None,
    };
    let content = match kind {
        Kind::File => take_content(c, kind_byte & HAS_LIST != 0)?,
        _ if kind_byte & HAS_LIST != 0 => return Err(c.extras.fail("content where there can be none")),
        _ => Content::default(),
    };
    let meta = Metadata { mode, owner, mtime: Timestamp { secs, nanos }, xattrs };
    Ok(Entry { path, kind, meta, flags: Flags(kind_byte >> FLAGS_SHIFT), link, content })
}

fn take_kind(extras: &mut Reader<'_>, kind: u8) -> Result<Kind> {
    let mut device = || -> Result<(u32, u32)> {
        let max = u64::from(u32::MAX);
        Ok((extras.bounded(max)? as u32, extras.bounded(max)? as u32))
    };
    Ok(match kind {
        0 => Kind::File,
        1 => Kind::Directory,
        2 => {
            let target = extras.string(limit::TARGET_BYTES_MAX)?.to_vec();
            if target.is_empty() || target.contains(&0) {
                return Err(extras.fail("an impossible link target"));
            }
            Kind::Symlink(target)
        }
        3 => Kind::Fifo,
        4 => Kind::Socket,
        5 => device().map(|(major, minor)| Kind::CharDevice(major, minor))?,
        6 => device().map(|(major, minor)| Kind::BlockDevice(major, minor))?,
        _ => return Err(extras.fail("an unknown kind of file")),
    })
}

fn take_content(c: &mut Columns<'_>, list: bool) -> Result<Content> {
    let size = c.sizes.bounded((1 << 63) - 1)?;
    if !list {
        let mut extents = Vec::new();
        if size > 0 {
            let len = u32::try_from(size).ok().filter(|&l| l as usize <= limit::CHUNK_BYTES_MAX);
            let len = len.ok_or_else(|| c.sizes.fail("one chunk larger than any chunk"))?;
            extents.push(Extent::Chunk { id: c.ids.chunk_id()?, len, repeat: 1 });
        }
        return Ok(Content { size, extents, lists: Vec::new(), hash: None });
    }
    if size == 0 {
        return Err(c.sizes.fail("a list for an empty file"));
    }
    let hash = Some(c.hashes.bytes32()?);
    let count = c.extras.varint()?;
    if count > (c.ids.remaining() / crate::id::CHUNK_ID_LEN) as u64 {
        return Err(c.extras.fail("more content lists than ids"));
    }
    if count == 0 {
        let extents = take_extents(&mut c.extras, &mut c.ids)?;
        if extents_len(&extents) != Some(size) {
            return Err(c.extras.fail("a file whose pieces do not add up to its size"));
        }
        if let [Extent::Chunk { repeat: 1, .. }] = extents.as_slice() {
            return Err(c.extras.fail("a list for a single chunk"));
        }
        return Ok(Content { size, extents, lists: Vec::new(), hash });
    }
    let lists = (0..count).map(|_| c.ids.chunk_id()).collect::<Result<Vec<ChunkId>>>()?;
    Ok(Content { size, extents: Vec::new(), lists, hash })
}

/// The stat column of a group: one value for each of its entries.
pub fn encode_stats(entries: &[Entry], stats: &[Stat]) -> Vec<u8> {
    let (mut inodes, mut secs, mut nanos) = (Vec::new(), Vec::new(), Vec::new());
    let (mut last_inode, mut last_offset) = (0u64, 0i64);
    for (entry, stat) in entries.iter().zip(stats) {
        put_signed(&mut inodes, stat.inode.wrapping_sub(last_inode) as i64);
        last_inode = stat.inode;
        let offset = stat.ctime.secs.wrapping_sub(entry.meta.mtime.secs);
        put_signed(&mut secs, offset.wrapping_sub(last_offset));
        last_offset = offset;
        let difference = stat.ctime.nanos ^ entry.meta.mtime.nanos;
        let bits = if stat.racy { RACY } else { 0 } | if stat.sound { SOUND } else { 0 };
        nanos.extend_from_slice(&(difference | bits).to_le_bytes());
    }
    let mut out = vec![TAG_STAT];
    put_varint(&mut out, stats.len() as u64);
    for column in [&inodes, &secs, &nanos] {
        put_string(&mut out, column);
    }
    out
}

pub fn decode_stats(bytes: &[u8], entries: &[Entry]) -> Result<Vec<Stat>> {
    let what = "a stat column";
    let mut r = Reader::new(bytes, what);
    if r.u8()? != TAG_STAT || r.varint()? != entries.len() as u64 {
        return Err(r.fail("does not fit its group"));
    }
    let mut column = || r.string(limit::GROUP_BYTES_MAX).map(|bytes| Reader::new(bytes, what));
    let (mut inodes, mut secs, mut nanos) = (column()?, column()?, column()?);
    r.end()?;
    let (mut inode, mut offset) = (0u64, 0i64);
    let mut stats = Vec::with_capacity(entries.len());
    for entry in entries {
        inode = inode.wrapping_add(inodes.signed()? as u64);
        offset = offset.wrapping_add(secs.signed()?);
        let word = nanos.u32()?;
        let ctime = Timestamp {
            secs: entry.meta.mtime.secs.wrapping_add(offset),
            nanos: (word & !(RACY | SOUND)) ^ entry.meta.mtime.nanos,
        };
        if ctime.nanos >= 1_000_000_000 {
            return Err(nanos.fail("an impossible time"));
        }
        stats.push(Stat { inode, ctime, racy: word & RACY != 0, sound: word & SOUND != 0 });
    }
    for column in [&inodes, &secs, &nanos] {
        column.end()?;
    }
    Ok(stats)
}
