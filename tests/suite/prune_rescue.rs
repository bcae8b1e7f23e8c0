//! What a backup came to need while a collection was under way: it is stored anew frame by frame, not chunk by chunk.

use crate::shelf::{Random, Tree, commit, dir, empty, file, session, tree};
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::backend::{Backend, FileStat, Pending, SessionFile};
use snapkeep::crypto::ChunkSort;
use snapkeep::error::{ErrorKind, Result};
use snapkeep::format::snapshot::Snapshot;
use snapkeep::format::{FileName, Folder};
use snapkeep::gc::{MaxUnused, PruneOptions, PruneReport, run};
use snapkeep::id::{Name, SnapshotId};
use snapkeep::progress::{Progress, Silent};
use snapkeep::repository::footer::read_footer;
use snapkeep::repository::snapshots::Listed;
use snapkeep::repository::writer::Writer;
use snapkeep::repository::{Repository, removal};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub type Reads = Arc<Mutex<BTreeMap<(Name, u64), u64>>>;

/// A place that counts how often each range of each pack is read.
pub struct Counting {
    pub behind: MemoryBackend,
    pub reads: Reads,
}

impl Backend for Counting {
    fn create(&self, name: &FileName) -> Result<Box<dyn Pending>> {
        self.behind.create(name)
    }
    fn read(&self, name: &FileName, max: u64) -> Result<Vec<u8>> {
        self.behind.read(name, max)
    }
    fn read_range(&self, name: &FileName, offset: u64, len: usize) -> Result<Vec<u8>> {
        if let FileName::Pack(id) = name {
            *self.reads.lock().expect("no panic").entry((*id, offset)).or_default() += 1;
        }
        self.behind.read_range(name, offset, len)
    }
    fn list(&self, folder: Folder) -> Result<Vec<FileStat>> {
        self.behind.list(folder)
    }
    fn remove(&self, name: &FileName) -> Result<()> {
        self.behind.remove(name)
    }
    fn open_session(&self, session: Name, first: &[u8]) -> Result<Box<dyn SessionFile>> {
        self.behind.open_session(session, first)
    }
    fn evict(&self, session: Name) -> Result<()> {
        self.behind.evict(session)
    }
    fn session_alive(&self, session: Name) -> Option<bool> {
        self.behind.session_alive(session)
    }
    fn sync_seen(&self) -> Result<()> {
        self.behind.sync_seen()
    }
    fn location(&self) -> String {
        self.behind.location()
    }
}

fn try_prune(repository: &Arc<Repository>) -> Result<PruneReport> {
    let options =
        PruneOptions { max_unused: MaxUnused::Bytes(0), wait: Duration::ZERO, ..PruneOptions::default() };
    run(repository, &options, &Progress::new(), &Silent)
}

fn prune(repository: &Arc<Repository>) -> PruneReport {
    try_prune(repository).expect("pruned")
}

fn commit_like(mut writer: Writer, like: &Listed) -> SnapshotId {
    let packed = writer.flush().expect("flushed");
    let record = Snapshot { id: writer.session.to_string(), ..like.record.clone() };
    writer.commit(&record, packed).expect("committed")
}

/// Where every frame of chunks of content lies.
fn content_frames(backend: &MemoryBackend, repository: &Repository) -> BTreeSet<(Name, u64)> {
    let mut frames = BTreeSet::new();
    for stat in backend.list(Folder::Packs).expect("listed") {
        let pack = stat.name.header_name();
        let (footer, sort) = read_footer(backend, repository.keyring(), pack, stat.size).expect("a footer");
        if sort == ChunkSort::Content {
            frames.extend(footer.frames.iter().map(|frame| (pack, u64::from(frame.offset))));
        }
    }
    frames
}

/// More plain bytes than a reader keeps at hand, of which few are stored: every chunk is another one.
fn large_tree() -> Tree {
    let mut tree = Tree::from([("home".to_owned(), dir(1))]);
    for number in 0..60u64 {
        let words = (0..100_000u64).map(|word| number << 32 | (word / 300));
        tree.insert(
            format!("home/{number:03}"),
            file(words.flat_map(u64::to_le_bytes).collect::<Vec<u8>>(), 1),
        );
    }
    tree
}

#[test]
fn every_frame_is_read_once_for_what_is_rescued_from_it() {
    let (backend, repository) = empty();
    let all = large_tree();
    // Frames of the first half are needed whole, of those of the second only a part.
    let number =
        |path: &String| path.strip_prefix("home/").map_or(0, |n| n.parse::<u64>().expect("a number"));
    let part: Tree = all.clone().into_iter().filter(|(p, _)| number(p) < 30 || number(p) % 2 == 0).collect();
    let whole = commit(&repository, &all, 1, None);
    let like = commit(&repository, &part, 2, Some(&whole));
    let writer = session(&repository).expect("a session");
    removal::snapshot(&backend, whole.id).expect("forgotten");
    removal::snapshot(&backend, like.id).expect("forgotten");
    assert!(prune(&repository).waiting_packs > 0);
    commit_like(writer, &like);
    let frames = content_frames(&backend, &repository);
    let reads = Reads::default();
    let counting = Counting { behind: backend.clone(), reads: Arc::clone(&reads) };
    let counted = Arc::new(repository.with_backend(Arc::new(counting)));
    let done = prune(&counted);
    assert!(done.rescued > 10_000 && done.deleted_packs > 0, "{done:?}");
    let reads = reads.lock().expect("no panic");
    let read: Vec<u64> = frames.iter().filter_map(|frame| reads.get(frame).copied()).collect();
    assert!(read.len() * 10 > frames.len() * 9, "{} of {} frames", read.len(), frames.len());
    assert!(read.iter().all(|times| *times == 1), "frames were read so often: {read:?}");
    let reader = repository.reader().expect("a reader");
    assert!(tree(&reader, &like.root) == part);
}

/// A few files, and the same with one byte of each another.
fn versions(seed: u64) -> (Tree, Tree) {
    let mut random = Random(seed);
    let mut first = Tree::from([("home".to_owned(), dir(1))]);
    first.extend((0..20).map(|n| (format!("home/{n}"), file(random.bytes(2500), 1))));
    let mut second = first.clone();
    second.values_mut().filter(|thing| !thing.bytes.is_empty()).for_each(|thing| thing.bytes[9] ^= 1);
    (first, second)
}

/// How many chunks of content are stored against others, and how many by themselves.
fn against_others(repository: &Repository) -> (u64, u64) {
    let (mut against, mut whole) = (0, 0);
    let index = repository.load_index_uncached().expect("loaded");
    let each = |listed: &snapkeep::repository::place::Listed,
                pack: &snapkeep::repository::place::PackInfo| {
        if pack.sort == ChunkSort::Content {
            *(if listed.place.depth > 0 { &mut against } else { &mut whole }) += 1;
        }
        Ok(())
    };
    index.for_each(&mut { each }).expect("walked");
    (against, whole)
}

#[test]
fn a_changed_chunk_is_rescued_with_its_history_where_that_stays_and_without_it_where_not() {
    for stays in [true, false] {
        let (backend, repository) = empty();
        let (first, second) = versions(91);
        let old = commit(&repository, &first, 1, None);
        let new = commit(&repository, &second, 2, Some(&old));
        assert_eq!(against_others(&repository), (20, 20));
        let writer = session(&repository).expect("a session");
        removal::snapshot(&backend, new.id).expect("forgotten");
        if !stays {
            removal::snapshot(&backend, old.id).expect("forgotten");
        }
        assert!(prune(&repository).waiting_packs > 0);
        commit_like(writer, &new);
        let done = prune(&repository);
        assert!(done.rescued >= 20 && done.deleted_packs > 0, "{done:?}");
        assert_eq!(against_others(&repository), if stays { (20, 20) } else { (0, 20) });
        let reader = repository.reader().expect("a reader");
        assert!(tree(&reader, &new.root) == second);
        assert!(!stays || tree(&reader, &old.root) == first);
    }
}

#[test]
fn what_cannot_be_read_in_a_condemned_pack_stops_the_collection_and_is_named() {
    let (backend, repository) = empty();
    let (first, _) = versions(92);
    let old = commit(&repository, &first, 1, None);
    let writer = session(&repository).expect("a session");
    removal::snapshot(&backend, old.id).expect("forgotten");
    assert!(prune(&repository).waiting_packs > 0);
    commit_like(writer, &old);
    let (pack, offset) = *content_frames(&backend, &repository).first().expect("a frame");
    let before = backend.list(Folder::Packs).expect("listed");
    let name = FileName::Pack(pack);
    let sound = backend.files().remove(&name).expect("there");
    let mut damaged = sound.clone();
    damaged[offset as usize + 100] ^= 1;
    backend.overwrite(name, damaged);
    let refused = try_prune(&repository).expect_err("damaged");
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
    assert!(refused.message().contains("nothing is deleted"), "{}", refused.message());
    assert!(backend.list(Folder::Packs).expect("listed").len() >= before.len());
    backend.overwrite(name, sound);
    assert!(prune(&repository).rescued >= 20);
    assert!(tree(&repository.reader().expect("a reader"), &old.root) == first);
}
