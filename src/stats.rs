//! `run`: what snapshots would restore to, what they take, and what the repository takes.

use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Entry, Extent};
use crate::format::root::RootItem;
use crate::format::{FileName, Folder};
use crate::id::ChunkId;
use crate::manifest::content::extents;
use crate::manifest::walk::{Groups, read_group};
use crate::progress::Progress;
use crate::repository::Repository;
use crate::repository::footer::read_footer;
use crate::repository::reader::Reader;
use crate::repository::snapshots::Listed;
use rayon::prelude::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};
use std::collections::{HashMap, HashSet};

/// What to count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The bytes of the files, each snapshot for itself.
    #[default]
    RestoreSize,
    /// Unique chunks, before and after compression.
    RawData,
    /// Unique chunks of file content, with the number of times files name them.
    BlobsPerFile,
}

impl Mode {
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "restore-size" => Mode::RestoreSize,
            "raw-data" => Mode::RawData,
            "blobs-per-file" => Mode::BlobsPerFile,
            _ => {
                let hint = "use restore-size, raw-data or blobs-per-file";
                return Err(Error::invalid(format!("`{text}` is nothing to count; {hint}")));
            }
        })
    }
}

/// Files of one folder of the repository.
#[derive(Clone, Copy, Debug)]
pub struct FolderSize {
    pub folder: Folder,
    pub files: u64,
    pub bytes: u64,
}

/// The figures. Those that a mode does not ask for are zero or `None`.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub snapshots_count: u64,
    /// Bytes of all files of all chosen snapshots; a file with several names counts once in each.
    pub total_size: u64,
    /// Entries of any kind, in all chosen snapshots.
    pub total_file_count: u64,
    /// Unique chunks the chosen snapshots need, the manifest's included in `raw-data`.
    pub total_blob_count: u64,
    /// Times that files name a chunk.
    pub blob_references: u64,
    /// Plain and stored bytes of those unique chunks. A chunk in a body with others is counted with its share.
    pub unique_size: u64,
    pub unique_stored: u64,
    pub repository_bytes: u64,
    pub folders: Vec<FolderSize>,
    pub packs: u64,
    /// Plain bytes of unique chunks to the bytes they are stored in.
    pub compression_ratio: Option<f64>,
    /// Bytes of files to the plain bytes of unique chunks of content.
    pub dedup_ratio: Option<f64>,
    /// Bytes of the repository that are no bodies: headers, tables, seals, records.
    pub overhead: u64,
    /// Bytes of bodies none of the chosen snapshots needs.
    pub unused: u64,
}

impl Stats {
    pub fn bytes_in(&self, folder: Folder) -> u64 {
        self.folders.iter().filter(|f| f.folder == folder).map(|f| f.bytes).sum()
    }
}

/// One group's share, counted once however many snapshots have it.
#[derive(Default)]
struct GroupCount {
    entries: u64,
    bytes: u64,
    /// Files with several names: number and size.
    links: Vec<(u64, u64)>,
    references: u64,
    chunks: Vec<(ChunkId, u32)>,
    lists: Vec<ChunkId>,
}

/// Counts over `snapshots`.
pub fn run(repository: &Repository, snapshots: &[Listed], mode: Mode, progress: &Progress) -> Result<Stats> {
    let mut stats = Stats { snapshots_count: snapshots.len() as u64, ..Stats::default() };
    sizes(repository, &mut stats)?;
    let reader = repository.reader()?;
    let with_chunks = mode != Mode::RestoreSize;
    let (mut numbers, mut items) = (HashMap::new(), Vec::new());
    let (mut outlines, mut needed) = (Vec::new(), HashMap::new());
    for snapshot in snapshots {
        progress.keep_going()?;
        let groups = Groups::load(&reader, &snapshot.root)?;
        let add = |item: &RootItem| {
            *numbers.entry(item.id).or_insert_with(|| {
                items.push(item.clone());
                items.len() - 1
            })
        };
        if with_chunks {
            let manifest = groups
                .roots
                .iter()
                .chain(groups.items.iter().flat_map(|i| [Some(&i.id), i.stat.as_ref()]).flatten());
            needed.extend(manifest.map(|id| (*id, None)));
        }
        outlines.push(groups.items.iter().map(add).collect::<Vec<usize>>());
    }
    let counts: Vec<GroupCount> = items
        .into_par_iter()
        .map(|item| {
            progress.keep_going()?;
            count(&reader, &item, with_chunks)
        })
        .collect::<Result<_>>()?;
    total(&outlines, &counts, &mut stats);
    if with_chunks {
        if mode == Mode::BlobsPerFile {
            needed.clear();
        }
        for group in counts {
            needed.extend(group.chunks.into_iter().map(|(id, len)| (id, Some(len))));
            if mode == Mode::RawData {
                needed.extend(group.lists.into_iter().map(|id| (id, None)));
            }
        }
        chunks(repository, &needed, &mut stats)?;
    }
    Ok(stats)
}

/// Files and bytes of each folder.
fn sizes(repository: &Repository, stats: &mut Stats) -> Result<()> {
    for folder in Folder::ALL {
        let listed = repository.backend().list(folder)?;
        let size = FolderSize {
            folder,
            files: listed.len() as u64,
            bytes: listed.iter().map(|stat| stat.size).sum(),
        };
        stats.repository_bytes += size.bytes;
        if folder == Folder::Packs {
            stats.packs = size.files;
        }
        stats.folders.push(size);
    }
    Ok(())
}

fn count(reader: &Reader, item: &RootItem, with_chunks: bool) -> Result<GroupCount> {
    let mut count = GroupCount::default();
    for entry in read_group(reader, item)? {
        count.entries += 1;
        match entry.link {
            0 => count.bytes = count.bytes.saturating_add(entry.content.size),
            link => count.links.push((link, entry.content.size)),
        }
        if with_chunks {
            named(reader, &entry, &mut count)?;
        }
    }
    count.chunks.sort_unstable();
    count.chunks.dedup();
    Ok(count)
}

fn named(reader: &Reader, entry: &Entry, count: &mut GroupCount) -> Result<()> {
    count.lists.extend(&entry.content.lists);
    for extent in extents(reader, &entry.content)? {
        if let Extent::Chunk { id, len, repeat } = extent {
            count.references = count.references.saturating_add(repeat);
            count.chunks.push((id, len));
        }
    }
    Ok(())
}

/// Sums over snapshots: a file with several names counts once in each.
fn total(outlines: &[Vec<usize>], counts: &[GroupCount], stats: &mut Stats) {
    for outline in outlines {
        let mut links = HashSet::new();
        for count in outline.iter().map(|&number| &counts[number]) {
            stats.total_file_count += count.entries;
            stats.total_size = stats.total_size.saturating_add(count.bytes);
            stats.blob_references = stats.blob_references.saturating_add(count.references);
            for (link, size) in &count.links {
                if links.insert(*link) {
                    stats.total_size = stats.total_size.saturating_add(*size);
                }
            }
        }
    }
}

/// What a pack holds of the wanted chunks (plain bytes, share of the stored bytes), and the bytes of all its bodies.
type PackShare = (Vec<(ChunkId, u32, f64)>, u64);

/// Stored bytes, from the packs' own footers.
fn chunks(repository: &Repository, needed: &HashMap<ChunkId, Option<u32>>, stats: &mut Stats) -> Result<()> {
    let (backend, keyring) = (repository.backend().as_ref(), repository.keyring().as_ref());
    let packs: Vec<_> =
        backend.list(Folder::Packs)?.iter().map(|stat| (stat.name.header_name(), stat.size)).collect();
    let listed: Vec<PackShare> = packs
        .par_iter()
        .map(|&(id, size)| {
            let (footer, _) = match read_footer(backend, keyring, id, size) {
                Ok(read) => read,
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok((Vec::new(), 0)),
                Err(e) => return Err(e.context(FileName::Pack(id))),
            };
            let (mut found, mut stored) = (Vec::new(), 0);
            for body in footer.frames.iter().flat_map(|f| &f.table.bodies) {
                stored += u64::from(body.stored_len);
                let share = f64::from(body.stored_len) / body.raw_len().max(1) as f64;
                let wanted = body.chunks.iter().filter(|c| needed.contains_key(&c.id));
                found.extend(wanted.map(|c| (c.id, c.len, f64::from(c.len) * share)));
            }
            Ok((found, stored))
        })
        .collect::<Result<_>>()?;
    let (mut seen, mut stored, mut bodies, mut content) = (HashSet::new(), 0.0, 0, 0);
    for (found, in_bodies) in listed {
        bodies += in_bodies;
        for (id, len, share) in found {
            if seen.insert(id) {
                stats.unique_size += u64::from(len);
                stored += share;
                content += if matches!(needed.get(&id), Some(Some(_))) { u64::from(len) } else { 0 };
            }
        }
    }
    stats.total_blob_count = seen.len() as u64;
    stats.unique_stored = stored as u64;
    stats.unused = bodies.saturating_sub(stats.unique_stored);
    stats.overhead = stats.repository_bytes.saturating_sub(bodies);
    let ratio = |a: u64, b: u64| (b > 0).then(|| a as f64 / b as f64);
    stats.compression_ratio = ratio(stats.unique_size, stats.unique_stored);
    stats.dedup_ratio = ratio(stats.total_size, content);
    Ok(())
}
