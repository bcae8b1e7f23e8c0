//! Which files of which snapshots a chunk or a pack is about.

use super::find::{damage, each_group};
use crate::crypto::ChunkSort;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Content, Extent};
use crate::id::{ChunkId, SnapshotId};
use crate::manifest::content;
use crate::manifest::walk::{Groups, read_group};
use crate::progress::Progress;
use crate::repository::reader::Reader;
use crate::repository::snapshots::Listed;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Chunks to look for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blobs {
    ids: HashSet<ChunkId>,
}

/// A chunk that was found in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobUse {
    pub snapshot: SnapshotId,
    pub id: ChunkId,
    pub sort: ChunkSort,
    /// The file; `None` for a chunk that holds a part of the manifest, not of one file.
    pub path: Option<Arc<Vec<u8>>>,
}

/// What uses the chunks.
#[derive(Clone, Debug, Default)]
pub struct BlobUses {
    pub uses: Vec<BlobUse>,
    /// Snapshots that could not be searched whole, with the reason.
    pub damaged: Vec<(SnapshotId, String)>,
}

impl Blobs {
    /// Chunks by the beginnings of their names, in hex; each must fit a chunk that is there.
    pub fn by_prefix(reader: &Reader, prefixes: &[String]) -> Result<Self> {
        let mut blobs = Blobs::default();
        let prefixes: Vec<String> = prefixes.iter().map(|p| p.to_ascii_lowercase()).collect();
        if let Some(bad) = prefixes.iter().find(|p| !is_prefix(p)) {
            return Err(Error::invalid(format!("`{bad}` is no chunk; use 8 or more hex digits")));
        }
        let mut fits = vec![false; prefixes.len()];
        reader.index().for_each(&mut |listed, _| {
            let name = listed.id.to_string();
            for (prefix, fits) in prefixes.iter().zip(&mut fits) {
                if name.starts_with(prefix) {
                    *fits = true;
                    blobs.ids.insert(listed.id);
                }
            }
            Ok(())
        })?;
        for (prefix, fits) in prefixes.iter().zip(fits) {
            if !fits {
                return Err(Error::new(ErrorKind::NotFound, format!("no chunk begins with `{prefix}`")));
            }
        }
        Ok(blobs)
    }

    /// Every chunk in packs given by the beginnings of their names.
    pub fn in_packs(reader: &Reader, prefixes: &[String]) -> Result<Self> {
        let mut packs = HashSet::new();
        for prefix in prefixes.iter().map(|p| p.to_ascii_lowercase()) {
            if !is_prefix(&prefix) {
                return Err(Error::invalid(format!("`{prefix}` is no pack; use 8 or more hex digits")));
            }
            let before = packs.len();
            packs.extend(
                reader.index().packs().map(|p| p.id).filter(|id| id.to_string().starts_with(&prefix)),
            );
            if packs.len() == before {
                return Err(Error::new(ErrorKind::NotFound, format!("no pack begins with `{prefix}`")));
            }
        }
        let mut blobs = Blobs::default();
        reader.index().for_each(&mut |listed, pack| {
            if packs.contains(&pack.id) {
                blobs.ids.insert(listed.id);
            }
            Ok(())
        })?;
        Ok(blobs)
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

fn is_prefix(text: &str) -> bool {
    text.len() >= 8 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

type Use = (ChunkId, ChunkSort, Option<Arc<Vec<u8>>>);

/// Every use of the chunks in `snapshots`. Chunks that others are only stored against are not followed: what cannot be
/// read without them is `check`'s to tell.
pub fn run(reader: &Reader, snapshots: &[Listed], blobs: &Blobs, progress: &Progress) -> Result<BlobUses> {
    let mut groups: HashMap<ChunkId, Arc<Vec<Use>>> = HashMap::new();
    let mut found = BlobUses::default();
    for listed in snapshots {
        let mut uses = Vec::new();
        let roots = Groups::load(reader, &listed.root).map(|g| g.roots).unwrap_or_default();
        let roots = roots.into_iter().filter(|id| blobs.ids.contains(id));
        uses.extend(roots.map(|id| (id, ChunkSort::Manifest, None)));
        let outcome = each_group(reader, &listed.root, b"", &mut |item| {
            progress.keep_going()?;
            let own = [Some(item.id), item.stat].into_iter().flatten().filter(|id| blobs.ids.contains(id));
            uses.extend(own.map(|id| (id, ChunkSort::Manifest, None)));
            let in_group = match groups.get(&item.id) {
                Some(known) => Arc::clone(known),
                None => {
                    let mut in_group = Vec::new();
                    for entry in read_group(reader, item)? {
                        in_content(reader, &entry.content, &entry.path, blobs, &mut in_group)?;
                    }
                    let in_group = Arc::new(in_group);
                    groups.insert(item.id, Arc::clone(&in_group));
                    in_group
                }
            };
            uses.extend_from_slice(&in_group);
            Ok(())
        });
        if let Err(why) = damage(outcome)? {
            found.damaged.push((listed.id, why));
        }
        let own = |(id, sort, path)| BlobUse { snapshot: listed.id, id, sort, path };
        found.uses.extend(uses.into_iter().map(own));
    }
    Ok(found)
}

/// Each wanted chunk of a file once.
fn in_content(
    reader: &Reader,
    content: &Content,
    path: &[u8],
    blobs: &Blobs,
    uses: &mut Vec<Use>,
) -> Result<()> {
    let mut seen = HashSet::new();
    let mut add = |id: ChunkId, sort: ChunkSort| {
        if blobs.ids.contains(&id) && seen.insert((id, sort)) {
            uses.push((id, sort, Some(Arc::new(path.to_vec()))));
        }
    };
    content.lists.iter().for_each(|id| add(*id, ChunkSort::Manifest));
    if content.size > 0 {
        for extent in content::extents(reader, content)? {
            if let Extent::Chunk { id, .. } = extent {
                add(id, ChunkSort::Content);
            }
        }
    }
    Ok(())
}
