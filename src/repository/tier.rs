//! One immutable part of the index: in memory, or a redb file in the cache. The only home of redb.
//!
//! A tier file is built aside, renamed into place, and from then on only opened read-only, by any number of
//! processes. It holds nothing that the packs do not say; any trouble with it means: delete and rebuild.

use super::place::{Listed, PLACE_LEN, PackInfo, Place, decode_bases, encode_bases};
use crate::crypto::ChunkSort;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::id::{CHUNK_ID_LEN, ChunkId, Name};
use redb::{
    Database, Durability, ReadOnlyDatabase, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition,
};
use std::path::{Path, PathBuf};

type IdKey = &'static [u8; CHUNK_ID_LEN];
const CHUNKS: TableDefinition<IdKey, &[u8; PLACE_LEN]> = TableDefinition::new("chunks-1");
const BASES: TableDefinition<IdKey, &[u8]> = TableDefinition::new("bases-1");
const PACKS: TableDefinition<u32, &[u8]> = TableDefinition::new("packs-1");
/// redb's own page cache, per tier: the kernel's is enough.
const PAGE_CACHE_BYTES: usize = 4 << 20;

/// Part of the index.
pub struct Tier {
    pub packs: Vec<PackInfo>,
    chunks: Chunks,
}

enum Chunks {
    Memory(Vec<Listed>),
    Disk(Box<Disk>),
}

struct Disk {
    path: PathBuf,
    chunks: ReadOnlyTable<IdKey, &'static [u8; PLACE_LEN]>,
    bases: ReadOnlyTable<IdKey, &'static [u8]>,
    _db: ReadOnlyDatabase,
}

fn broken(e: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the local index cache: {e}"))
}

fn encode_pack(pack: &PackInfo) -> [u8; 25] {
    let mut out = [0; 25];
    out[..16].copy_from_slice(&pack.id.0);
    out[16..24].copy_from_slice(&pack.size.to_le_bytes());
    out[24] = u8::from(pack.sort == ChunkSort::Manifest);
    out
}

fn decode_pack(bytes: &[u8]) -> Option<PackInfo> {
    let id = Name::from_slice(bytes.get(..16)?)?;
    let size = u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?);
    let sort = if *bytes.get(24)? == 1 { ChunkSort::Manifest } else { ChunkSort::Content };
    Some(PackInfo { id, size, sort })
}

impl Tier {
    /// `listed` sorted by id, each id once.
    pub fn in_memory(packs: Vec<PackInfo>, listed: Vec<Listed>) -> Self {
        Tier { packs, chunks: Chunks::Memory(listed) }
    }

    pub fn path(&self) -> Option<&Path> {
        match &self.chunks {
            Chunks::Memory(_) => None,
            Chunks::Disk(disk) => Some(&disk.path),
        }
    }

    pub fn get(&self, id: &ChunkId) -> Result<Option<Place>> {
        match &self.chunks {
            Chunks::Memory(listed) => {
                let found = listed.binary_search_by(|l| l.id.cmp(id)).ok();
                Ok(found.map(|i| listed[i].place))
            }
            Chunks::Disk(disk) => {
                let found = disk.chunks.get(&id.0).map_err(broken)?;
                Ok(found.map(|guard| Place::decode(guard.value())))
            }
        }
    }

    /// The bases of a chunk that needs a history.
    pub fn bases(&self, id: &ChunkId) -> Result<Vec<ChunkId>> {
        match &self.chunks {
            Chunks::Memory(listed) => {
                let found = listed.binary_search_by(|l| l.id.cmp(id)).ok();
                Ok(found.map(|i| listed[i].bases.clone()).unwrap_or_default())
            }
            Chunks::Disk(disk) => {
                let found = disk.bases.get(&id.0).map_err(broken)?;
                Ok(found.map(|guard| decode_bases(guard.value())).unwrap_or_default())
            }
        }
    }

    /// Every chunk in order of id.
    pub fn for_each(&self, each: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        match &self.chunks {
            Chunks::Memory(listed) => listed.iter().try_for_each(|l| each(l.clone())),
            Chunks::Disk(disk) => {
                for item in disk.chunks.iter().map_err(broken)? {
                    let (key, value) = item.map_err(broken)?;
                    let (id, place) = (ChunkId(*key.value()), Place::decode(value.value()));
                    let bases = if place.depth > 0 { self.bases(&id)? } else { Vec::new() };
                    each(Listed { id, place, bases })?;
                }
                Ok(())
            }
        }
    }

    /// Chunks listed.
    pub fn count(&self) -> Result<u64> {
        match &self.chunks {
            Chunks::Memory(listed) => Ok(listed.len() as u64),
            Chunks::Disk(disk) => redb::ReadableTableMetadata::len(&disk.chunks).map_err(broken),
        }
    }

    pub fn open(path: &Path) -> Result<Self> {
        let db = Database::builder().set_cache_size(PAGE_CACHE_BYTES).open_read_only(path).map_err(broken)?;
        let read = db.begin_read().map_err(broken)?;
        let mut packs = Vec::new();
        for item in read.open_table(PACKS).map_err(broken)?.iter().map_err(broken)? {
            let (number, value) = item.map_err(broken)?;
            let pack = decode_pack(value.value()).filter(|_| number.value() as usize == packs.len());
            packs.push(pack.ok_or_else(|| broken("a damaged pack table"))?);
        }
        let chunks = read.open_table(CHUNKS).map_err(broken)?;
        let bases = read.open_table(BASES).map_err(broken)?;
        let disk = Disk { path: path.to_path_buf(), chunks, bases, _db: db };
        Ok(Tier { packs, chunks: Chunks::Disk(Box::new(disk)) })
    }

    /// Writes a tier file under a random name in `dir` and opens it. `fill` gives the chunks in order of id.
    pub fn build(
        dir: &Path,
        packs: &[PackInfo],
        fill: impl FnOnce(&mut dyn FnMut(&Listed) -> Result<()>) -> Result<()>,
    ) -> Result<Self> {
        let name = super::random::name()?;
        let aside = dir.join(format!("{name}.building"));
        let path = dir.join(format!("{name}.redb"));
        let result = build_at(&aside, packs, fill)
            .and_then(|()| std::fs::rename(&aside, &path).context(|| "cannot name the index cache"));
        if result.is_err() {
            let _ = std::fs::remove_file(&aside);
        }
        result?;
        Tier::open(&path)
    }
}

fn build_at(
    path: &Path,
    packs: &[PackInfo],
    fill: impl FnOnce(&mut dyn FnMut(&Listed) -> Result<()>) -> Result<()>,
) -> Result<()> {
    let db = Database::builder().set_cache_size(16 << 20).create(path).map_err(broken)?;
    let mut write = db.begin_write().map_err(broken)?;
    // Losing a cache in a crash costs a rebuild; syncing it would cost every backup.
    write.set_durability(Durability::None).map_err(broken)?;
    {
        let mut table = write.open_table(PACKS).map_err(broken)?;
        for (number, pack) in packs.iter().enumerate() {
            table.insert(number as u32, encode_pack(pack).as_slice()).map_err(broken)?;
        }
        let mut with_bases: Vec<(ChunkId, Vec<u8>)> = Vec::new();
        let mut chunks = write.open_table(CHUNKS).map_err(broken)?;
        let mut cursor = chunks.upper_bound_mut(std::ops::Bound::<IdKey>::Unbounded).map_err(broken)?;
        fill(&mut |listed| {
            if !listed.bases.is_empty() {
                with_bases.push((listed.id, encode_bases(&listed.bases)));
            }
            cursor.insert_before(&listed.id.0, &listed.place.encode()).map_err(broken)
        })?;
        drop(cursor);
        let mut bases = write.open_table(BASES).map_err(broken)?;
        for (id, list) in &with_bases {
            bases.insert(&id.0, list.as_slice()).map_err(broken)?;
        }
    }
    write.commit().map_err(broken)?;
    Ok(())
}
