//! One immutable part of the index: in memory, or a redb file in the cache. The only home of redb.
//!
//! A tier file is built aside, renamed into place, and from then on only opened read-only, by any number of
//! processes. It holds nothing that the packs do not say; any trouble with it means: delete and rebuild.

use super::filter::Filter;
use super::place::{Listed, PLACE_LEN, PackInfo, Place, decode_bases, encode_bases};
use crate::crypto::ChunkSort;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::id::{CHUNK_ID_LEN, ChunkId, Name};
use redb::{
    Database, Durability, ReadOnlyDatabase, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition,
};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

type IdKey = &'static [u8; CHUNK_ID_LEN];
/// By id: the number of its first copy (u32), then for each copy its place, the number of its bases (u16), and those.
const CHUNKS: TableDefinition<IdKey, &[u8]> = TableDefinition::new("chunks-3");
/// One entry: copies in the tier.
const COUNT: TableDefinition<(), u64> = TableDefinition::new("count-1");
const PACKS: TableDefinition<u32, &[u8]> = TableDefinition::new("packs-2");
/// redb's own page cache, per tier: the kernel's is enough.
const PAGE_CACHE_BYTES: usize = 2 << 20;

/// Part of the index.
pub struct Tier {
    /// By number. Those that are gone, too.
    pub packs: Vec<PackInfo>,
    /// Numbers of packs that are not there any more: no copy in them is ever returned.
    gone: HashSet<u32>,
    chunks: Chunks,
}

enum Chunks {
    Memory(Vec<Listed>),
    Disk(Box<Disk>),
}

struct Disk {
    path: PathBuf,
    chunks: ReadOnlyTable<IdKey, &'static [u8]>,
    count: u64,
    /// Most questions are about chunks that are not there.
    filter: Option<Filter>,
    _db: ReadOnlyDatabase,
}

impl Disk {
    fn lacks(&self, id: &ChunkId) -> bool {
        self.filter.as_ref().is_some_and(|filter| !filter.may_hold(id))
    }
}

/// One copy of a chunk: where it lies, its number in the tier, what it is stored against.
#[derive(Clone, Debug)]
pub struct Copy {
    pub place: Place,
    pub number: u32,
    pub bases: Vec<ChunkId>,
}

fn broken(e: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the local index cache: {e}"))
}

fn encode_pack(pack: &PackInfo) -> [u8; 33] {
    let mut out = [0; 33];
    out[..16].copy_from_slice(&pack.id.0);
    out[16..24].copy_from_slice(&pack.size.to_le_bytes());
    out[24] = u8::from(pack.sort == ChunkSort::Manifest);
    out[25..].copy_from_slice(&pack.raw.to_le_bytes());
    out
}

fn decode_pack(bytes: &[u8]) -> Option<PackInfo> {
    let id = Name::from_slice(bytes.get(..16)?)?;
    let size = u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?);
    let sort = if *bytes.get(24)? == 1 { ChunkSort::Manifest } else { ChunkSort::Content };
    let raw = u64::from_le_bytes(bytes.get(25..33)?.try_into().ok()?);
    Some(PackInfo { id, size, sort, raw })
}

/// Adds one copy to a value.
fn put_copy(value: &mut Vec<u8>, listed: &Listed) -> Result<()> {
    let bases = u16::try_from(listed.bases.len()).map_err(|_| broken("too many bases"))?;
    value.extend_from_slice(&listed.place.encode());
    value.extend_from_slice(&bases.to_le_bytes());
    value.extend_from_slice(&encode_bases(&listed.bases));
    Ok(())
}

/// Place and number of the first copy.
fn first_copy(value: &[u8]) -> Option<(Place, u32)> {
    let (number, rest) = value.split_first_chunk::<4>()?;
    Some((Place::decode(rest.first_chunk::<PLACE_LEN>()?), u32::from_le_bytes(*number)))
}

fn all_copies(value: &[u8]) -> Option<Vec<Copy>> {
    let (number, mut rest) = value.split_first_chunk::<4>()?;
    let mut number = u32::from_le_bytes(*number);
    let mut copies = Vec::with_capacity(1);
    while !rest.is_empty() {
        let (place, after) = rest.split_first_chunk::<PLACE_LEN>()?;
        let (count, after) = after.split_first_chunk::<2>()?;
        let (bases, after) =
            after.split_at_checked(usize::from(u16::from_le_bytes(*count)) * CHUNK_ID_LEN)?;
        copies.push(Copy { place: Place::decode(place), number, bases: decode_bases(bases) });
        number = number.checked_add(1)?;
        rest = after;
    }
    Some(copies)
}

impl Tier {
    /// `listed` sorted by id, copies of a chunk by depth.
    pub fn in_memory(packs: Vec<PackInfo>, listed: Vec<Listed>) -> Self {
        Tier { packs, gone: HashSet::new(), chunks: Chunks::Memory(listed) }
    }

    pub fn path(&self) -> Option<&Path> {
        match &self.chunks {
            Chunks::Memory(_) => None,
            Chunks::Disk(disk) => Some(&disk.path),
        }
    }

    /// Leaves out what lies in packs of which `is_there` is false.
    pub fn leave_out(&mut self, is_there: impl Fn(&PackInfo) -> bool) {
        let numbered = self.packs.iter().zip(0..);
        self.gone = numbered.filter(|(pack, _)| !is_there(pack)).map(|(_, number)| number).collect();
    }

    /// The packs that are there.
    pub fn there(&self) -> impl Iterator<Item = &PackInfo> {
        self.packs.iter().zip(0..).filter(|(_, number)| !self.gone.contains(number)).map(|(pack, _)| pack)
    }

    /// Does without the filter, which takes memory: for a tier that is only to be read from its beginning to its end.
    pub fn drop_filter(&mut self) {
        if let Chunks::Disk(disk) = &mut self.chunks {
            disk.filter = None;
        }
    }

    /// The copy with the shortest history as it was written, and its number. All copies of all chunks of a tier are
    /// numbered from 0, in order of id; those in packs that are gone keep their numbers.
    pub fn get(&self, id: &ChunkId) -> Result<Option<(Place, u32)>> {
        match self.first(id)? {
            Some((place, _)) if self.gone.contains(&place.pack) => {
                Ok(self.copies(id)?.first().map(|copy| (copy.place, copy.number)))
            }
            found => Ok(found),
        }
    }

    fn first(&self, id: &ChunkId) -> Result<Option<(Place, u32)>> {
        match &self.chunks {
            Chunks::Memory(listed) => {
                let first = listed.partition_point(|l| l.id < *id);
                Ok(listed.get(first).filter(|l| l.id == *id).map(|l| (l.place, first as u32)))
            }
            Chunks::Disk(disk) if disk.lacks(id) => Ok(None),
            Chunks::Disk(disk) => {
                let found = disk.chunks.get(&id.0).map_err(broken)?;
                Ok(found.and_then(|guard| first_copy(guard.value())))
            }
        }
    }

    /// Every copy, the one with the shortest history first.
    pub fn copies(&self, id: &ChunkId) -> Result<Vec<Copy>> {
        let mut copies = self.listed_copies(id)?;
        copies.retain(|copy| !self.gone.contains(&copy.place.pack));
        Ok(copies)
    }

    fn listed_copies(&self, id: &ChunkId) -> Result<Vec<Copy>> {
        match &self.chunks {
            Chunks::Memory(listed) => {
                let first = listed.partition_point(|l| l.id < *id);
                let copies = listed[first..].iter().take_while(|l| l.id == *id).enumerate();
                let copy = |(i, l): (usize, &Listed)| Copy {
                    place: l.place,
                    number: (first + i) as u32,
                    bases: l.bases.clone(),
                };
                Ok(copies.map(copy).collect())
            }
            Chunks::Disk(disk) if disk.lacks(id) => Ok(Vec::new()),
            Chunks::Disk(disk) => match disk.chunks.get(&id.0).map_err(broken)? {
                None => Ok(Vec::new()),
                Some(guard) => all_copies(guard.value()).ok_or_else(|| broken("a damaged place")),
            },
        }
    }

    /// Every copy in order of its number.
    pub fn for_each(&self, each: &mut dyn FnMut(u32, Listed) -> Result<()>) -> Result<()> {
        self.for_each_listed(&mut |number, listed| match self.gone.contains(&listed.place.pack) {
            true => Ok(()),
            false => each(number, listed),
        })
    }

    fn for_each_listed(&self, each: &mut dyn FnMut(u32, Listed) -> Result<()>) -> Result<()> {
        match &self.chunks {
            Chunks::Memory(listed) => {
                listed.iter().enumerate().try_for_each(|(i, l)| each(i as u32, l.clone()))
            }
            Chunks::Disk(disk) => {
                for item in disk.chunks.iter().map_err(broken)? {
                    let (key, value) = item.map_err(broken)?;
                    let id = ChunkId(*key.value());
                    for copy in all_copies(value.value()).ok_or_else(|| broken("a damaged place"))? {
                        each(copy.number, Listed { id, place: copy.place, bases: copy.bases })?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Copies listed, those in packs that are gone, too.
    pub fn count(&self) -> u64 {
        match &self.chunks {
            Chunks::Memory(listed) => listed.len() as u64,
            Chunks::Disk(disk) => disk.count,
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
        let count = read.open_table(COUNT).map_err(broken)?.get(()).map_err(broken)?;
        let count = count.ok_or_else(|| broken("no count"))?.value();
        let disk = Disk { path: path.to_path_buf(), chunks, count, filter: Filter::load(path), _db: db };
        Ok(Tier { packs, gone: HashSet::new(), chunks: Chunks::Disk(Box::new(disk)) })
    }

    /// Writes a tier file of at most `chunks` chunks under a random name in `dir` and opens it. `fill` gives the chunks in order of id,
    /// copies of one by depth.
    pub fn build(
        dir: &Path,
        packs: &[PackInfo],
        chunks: u64,
        fill: impl FnOnce(&mut dyn FnMut(&Listed) -> Result<()>) -> Result<()>,
    ) -> Result<Self> {
        let name = super::random::name()?;
        let mut filter = Filter::new(chunks);
        let aside = dir.join(format!("{name}.building"));
        let path = dir.join(format!("{name}.redb"));
        let filled = |put: &mut dyn FnMut(&Listed) -> Result<()>| {
            fill(&mut |listed| {
                filter.insert(&listed.id);
                put(listed)
            })
        };
        let result = build_at(&aside, packs, filled)
            .and_then(|()| std::fs::rename(&aside, &path).context(|| "cannot name the index cache"));
        if result.is_err() {
            let _ = std::fs::remove_file(&aside);
        }
        result?;
        filter.store(&path);
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
        let mut chunks = write.open_table(CHUNKS).map_err(broken)?;
        let mut cursor = chunks.upper_bound_mut(std::ops::Bound::<IdKey>::Unbounded).map_err(broken)?;
        let mut number = 0u32;
        // Copies of one chunk follow one another and become one value.
        let mut open: Option<ChunkId> = None;
        let mut value = Vec::new();
        fill(&mut |listed| {
            if open != Some(listed.id) {
                if let Some(id) = open.replace(listed.id) {
                    cursor.insert_before(&id.0, value.as_slice()).map_err(broken)?;
                }
                value.clear();
                value.extend_from_slice(&number.to_le_bytes());
            }
            number = number.checked_add(1).ok_or_else(|| broken("too many chunks for one tier"))?;
            put_copy(&mut value, listed)
        })?;
        if let Some(id) = open {
            cursor.insert_before(&id.0, value.as_slice()).map_err(broken)?;
        }
        drop(cursor);
        write.open_table(COUNT).map_err(broken)?.insert((), u64::from(number)).map_err(broken)?;
    }
    write.commit().map_err(broken)?;
    Ok(())
}
