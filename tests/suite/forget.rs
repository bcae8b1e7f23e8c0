//! Forgetting and bringing back: rules that refuse, what is freed to the byte, and every moment at which it may be
//! killed.

use crate::backup::{back_up, new_repository, options as backup_options, source};
use crate::shelf::{Random, Tree, commit, edit, empty, file, random_tree, repository, tree};
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::backend::{Backend, FileStat, Pending, SessionFile};
use snapkeep::backup;
use snapkeep::clock::{FixedClock, Timestamp, Zone};
use snapkeep::compress::Level;
use snapkeep::error::{Error, ErrorKind, Result};
use snapkeep::forget::freed::{Freed, compute};
use snapkeep::forget::plan::{Overrides, Plan, by_policy, knows_enough, named_ones};
use snapkeep::forget::undelete::{self, Undeleted};
use snapkeep::forget::{ForgetOptions, ForgetReport, run};
use snapkeep::format::entry::Extent;
use snapkeep::format::frame::Coding;
use snapkeep::format::snapshot::{NoteKind, SessionInfo, Snapshot};
use snapkeep::format::{FileName, Folder};
use snapkeep::id::{ChunkId, Name, SnapshotId};
use snapkeep::manifest::content::extents;
use snapkeep::manifest::walk::{Groups, read_group};
use snapkeep::progress::{Progress, Silent};
use snapkeep::repository::footer::read_footer;
use snapkeep::repository::notes::{self, Notes, Pin, set_pin};
use snapkeep::repository::snapshots::{Listed, Listing, SnapshotFilter, list, read, resolve};
use snapkeep::repository::trash::{self, span};
use snapkeep::repository::writer::Writer;
use snapkeep::repository::{Repository, locate};
use snapkeep::retention::{Count, Period, Policy};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

const NOW: Timestamp = Timestamp { secs: 2_000_000_000, nanos: 0 };
const DAY: i64 = 86_400;

/// A snapshot of nothing but a record: its root is that of `like`.
fn made(repository: &Arc<Repository>, like: &Listed, change: impl FnOnce(&mut Snapshot)) -> Listed {
    let mut writer = Writer::open(repository, Level::FASTEST, &SessionInfo::default()).expect("a session");
    let packed = writer.flush().expect("flushed");
    let mut record = like.record.clone();
    change(&mut record);
    record.id = writer.session.to_string();
    let id = writer.commit(&record, packed).expect("committed");
    read(repository, id).expect("a snapshot")
}

/// A repository with a series of `days` days, each snapshot good, of 100 files.
fn series(days: i64) -> (MemoryBackend, Arc<Repository>, Vec<Listed>) {
    let (backend, repository) = empty();
    let first = commit(&repository, &Tree::from([("a".into(), file("some", 1))]), 0, None);
    let mut all = Vec::new();
    for day in 0..days {
        all.push(made(&repository, &first, |r| daily(r, day)));
    }
    trash::delete(&repository, &[first.id]).expect("deleted");
    (backend, repository, all)
}

fn daily(record: &mut Snapshot, day: i64) {
    let time = Timestamp { secs: NOW.secs - 400 * DAY + day * DAY, nanos: 0 };
    record.time = time.rfc3339();
    record.backup_start.clone_from(&record.time);
    record.backup_end.clone_from(&record.time);
    record.order_time = time.nanoseconds();
    record.sequence = day as u64 + 1;
    record.summary.total_files_processed = 100;
    record.summary.total_bytes_processed = 1_000_000;
}

fn last(n: u32) -> Policy {
    Policy { counts: vec![(Period::Last, Count::Most(n))], ..Policy::default() }
}

fn plan<'a>(listing: &'a Listing, policy: &Policy, overrides: Overrides) -> Plan<'a> {
    let mut groups: BTreeMap<(String, Vec<String>), Vec<&Listed>> = BTreeMap::new();
    for l in &listing.snapshots {
        groups.entry((l.record.hostname.clone(), l.record.paths.clone())).or_default().push(l);
    }
    let groups: Vec<Vec<&Listed>> = groups.into_values().collect();
    by_policy(listing, &groups, policy, overrides, NOW, &Zone::UTC)
}

fn removed(plan: &Plan<'_>) -> Vec<SnapshotId> {
    plan.removed().map(|l| l.id).collect()
}

fn ids(list: &[Listed]) -> Vec<SnapshotId> {
    list.iter().map(|l| l.id).collect()
}

fn visible(repository: &Repository) -> Vec<SnapshotId> {
    ids(&list(repository).expect("listed").snapshots)
}

fn in_trash(repository: &Repository) -> Vec<SnapshotId> {
    list(repository).expect("listed").forgotten.iter().map(|f| f.listed.id).collect()
}

fn options(for_good: bool) -> ForgetOptions {
    ForgetOptions { for_good, pinned: false, host: "here".into() }
}

fn forget_at(repository: &Repository, ids: &[SnapshotId], for_good: bool, now: Timestamp) -> ForgetReport {
    let done = run(repository, ids, &options(for_good), now, &Silent).expect("done");
    assert!(done.failed.is_empty(), "{:?}", done.failed);
    done
}

fn bring_back(repository: &Arc<Repository>, id: SnapshotId) -> Result<Undeleted> {
    let listing = list(repository)?;
    let gone = undelete::resolve(&listing, &id.to_string(), &SnapshotFilter::default())?;
    undelete::run(repository, gone, "here", &FixedClock(NOW), &Progress::new())
}

#[test]
fn the_trash_hides_keeps_and_gives_back() {
    let (_, repository) = empty();
    let mut random = Random(3);
    let mut now = random_tree(&mut random, 300);
    let first = commit(&repository, &now, 100, None);
    edit(&mut random, &mut now, 9, 500);
    let second = commit(&repository, &now, 200, Some(&first));
    notes::set_tags(&repository, second.id, vec!["late".into()], NOW).expect("noted");
    forget_at(&repository, &[second.id], false, NOW);
    let listing = list(&repository).expect("listed");
    assert_eq!((ids(&listing.snapshots), in_trash(&repository)), (vec![first.id], vec![second.id]));
    assert_eq!(listing.live().count(), 2, "what must be kept");
    let filter = SnapshotFilter::default();
    assert_eq!(resolve(&listing, "latest", &filter, NOW).expect("the older one").id, first.id);
    let named = resolve(&listing, &second.id.to_string(), &filter, NOW).expect_err("out of sight");
    assert!(named.message().contains("undelete"), "{named}");
    let back = bring_back(&repository, second.id).expect("back");
    assert!(back.left.is_none() && !back.before);
    let listing = list(&repository).expect("listed");
    assert_eq!((ids(&listing.snapshots), listing.forgotten.len()), (vec![first.id, back.new], 0));
    let record = &listing.snapshots[1].record;
    let mut expected = second.record.clone();
    expected.id = back.new.to_string();
    expected.tags = vec!["late".into()];
    expected.origin = Some(format!("{}/{}", repository.id(), second.id));
    assert_eq!(*record, expected, "all but its id is as it was");
    assert!(tree(&repository.reader().expect("a reader"), &listing.snapshots[1].root) == now);
    assert!(repository.backend().list(Folder::Notes).expect("listed").is_empty(), "old notes are gone");
    // Again, by the new name: the origin stays the first one.
    forget_at(&repository, &[back.new], false, NOW);
    let again = bring_back(&repository, back.new).expect("back");
    let listing = list(&repository).expect("listed");
    assert_eq!(listing.snapshots[1].record.origin, expected.origin);
    assert_eq!(listing.snapshots[1].id, again.new);
}

#[test]
fn a_policy_keeps_by_the_order_of_the_record_whatever_the_clock_says() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = Random(seed);
    let repository = new_repository(Arc::new(MemoryBackend::new()), None);
    let dir = tempfile::tempdir().expect("a directory");
    let year = 365 * DAY;
    let mut made: Vec<SnapshotId> = Vec::new();
    let mut clock = NOW;
    for n in 0..50 {
        std::fs::write(dir.path().join("a"), format!("{n}")).expect("a file");
        // It runs, stands still, or is somewhere else altogether.
        match random.below(4) {
            0 => {}
            1 => clock.secs = [-year, 0, (1 << 31) - 1, 1 << 32][random.below(4)],
            2 => clock.secs = NOW.secs + (random.below(100) as i64 - 50) * year,
            _ => clock.secs += DAY,
        }
        let (input, clock) = (source(dir.path()), FixedClock(clock));
        let done = backup::run(&repository, &input, &backup_options(), &clock, &Progress::new(), &Silent);
        made.push(done.expect("a backup").snapshot.expect("a snapshot"));
        let listing = list(&repository).expect("listed");
        assert_eq!(
            listing.snapshots.last().map(|l| l.id),
            made.last().copied(),
            "the last one is the latest"
        );
        let planned = plan(&listing, &last(5), Overrides::default());
        planned.permitted().expect("as many as were asked for");
        let gone = removed(&planned);
        forget_at(&repository, &gone, n % 2 == 0, clock.0);
        assert_eq!(visible(&repository), made[made.len().saturating_sub(5)..], "after {n}");
    }
}

#[test]
fn rules_refuse_what_would_leave_nothing_good() {
    let (_, repository, all) = series(20);
    let listing = list(&repository).expect("listed");
    let free = Overrides::default();
    // A tag that only one has: 19 of 20 would go, and the rule has no number to be filled by.
    notes::set_tags(&repository, all[3].id, vec!["keep".into()], NOW).expect("noted");
    let tagged = list(&repository).expect("listed");
    let by_tag = Policy { tags: vec![vec!["keep".into()]], ..Policy::default() };
    let most = plan(&tagged, &by_tag, free);
    let refused = most.permitted().expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.message().contains("--allow-remove-most") && refused.message().contains("19 of the 20"));
    let allowed = plan(&tagged, &by_tag, Overrides { remove_most: true, ..free });
    allowed.permitted().expect("allowed");
    assert_eq!(removed(&allowed).len(), 19);
    // As many as were asked for: no question.
    plan(&listing, &last(1), free).permitted().expect("one was asked for");
    let nobody = Policy { tags: vec![vec!["typo".into()]], ..Policy::default() };
    let all_gone = plan(&listing, &nobody, free);
    assert!(all_gone.permitted().expect_err("refused").message().contains("--allow-remove-all"));
    plan(&listing, &nobody, Overrides { remove_all: true, ..free }).permitted().expect("allowed");
    // Named ones are said explicitly; for good is another thing.
    let everything = || listing.snapshots.iter().collect::<Vec<_>>();
    named_ones(&listing, everything(), free, false).permitted().expect("into the trash");
    let for_good = named_ones(&listing, everything(), free, true).permitted().expect_err("refused");
    assert!(for_good.message().contains("--allow-remove-all"), "{for_good}");
    let lead = Overrides { remove_all: true, ..free };
    named_ones(&listing, everything(), lead, true).permitted().expect("allowed");
}

#[test]
fn while_the_newest_is_bad_good_ones_stay() {
    let (_, repository, all) = series(9);
    let free = Overrides::default();
    let torn = made(&repository, &all[0], |r| {
        daily(r, 10);
        r.summary.problems = 3;
    });
    let other = made(&repository, &all[0], |r| {
        daily(r, 3);
        r.hostname = "another".into();
    });
    let newer = made(&repository, &all[0], |r| {
        daily(r, 4);
        r.hostname = "another".into();
    });
    let listing = list(&repository).expect("listed");
    let held = plan(&listing, &last(2), free);
    held.permitted().expect("nothing is refused");
    assert_eq!(removed(&held), [], "the other series has two");
    assert_eq!(held.held.len(), 1);
    assert!(held.held[0].contains("3 problems") && held.held[0].contains("--ignore-anomalies"));
    let held = plan(&listing, &last(1), free);
    assert_eq!(removed(&held), [other.id], "the other series goes on");
    // Overruled, the last good one is a question of its own.
    let overruled = plan(&listing, &last(1), Overrides { anomalies: true, ..free });
    let refused = overruled.permitted().expect_err("refused");
    assert!(refused.message().contains("last good") && refused.message().contains(&all[8].id.short()));
    let both = Overrides { anomalies: true, remove_all: true, ..free };
    plan(&listing, &last(1), both).permitted().expect("said explicitly");
    assert_eq!(removed(&plan(&listing, &last(2), Overrides { anomalies: true, ..free })).len(), 8);
    let _ = (torn, newer);

    let (_, repository, all) = series(9);
    made(&repository, &all[0], |r| {
        daily(r, 10);
        r.summary.total_files_processed = 49;
    });
    let listing = list(&repository).expect("listed");
    let held = plan(&listing, &last(2), free);
    assert_eq!((removed(&held).len(), held.held.len()), (0, 1));
    assert!(held.held[0].contains("49 files where 100 are usual"), "{}", held.held[0]);
}

#[test]
fn bad_ones_may_go_while_good_ones_are_held() {
    let (_, repository, all) = series(3);
    let mut bad = Vec::new();
    for day in 10..16 {
        bad.push(made(&repository, &all[0], |r| {
            daily(r, day);
            r.summary.problems = 1;
        }));
    }
    let listing = list(&repository).expect("listed");
    let held = plan(&listing, &last(2), Overrides::default());
    assert_eq!(removed(&held), ids(&bad[..4]));
}

#[test]
fn a_floor_and_pins_hold_against_any_policy() {
    let (_, repository, all) = series(12);
    set_pin(&repository, &all[1], Some(Pin { label: Some("before the move".into()) }), NOW).expect("pinned");
    set_pin(&repository, &all[2], Some(Pin::default()), NOW).expect("pinned");
    set_pin(&repository, &all[2], None, NOW).expect("unpinned");
    let listing = list(&repository).expect("listed");
    let floor = Policy { floor: 5, ..last(1) };
    let planned = plan(&listing, &floor, Overrides::default());
    let keeps: Vec<_> = planned.parts[0].keep.iter().map(|(l, _)| l.id).collect();
    assert_eq!(keeps, [all[1].id, all[8].id, all[9].id, all[10].id, all[11].id]);
    assert_eq!(planned.parts[0].keep[0].1, ["pinned: before the move"]);
    assert_eq!(planned.parts[0].keep[1].1, ["at least 5 of its series stay"]);
    let named = named_ones(&listing, vec![&listing.snapshots[1]], Overrides::default(), false);
    assert!(named.permitted().expect_err("pinned").message().contains("--pinned"));
    let said = Overrides { pinned: true, ..Overrides::default() };
    named_ones(&listing, vec![&listing.snapshots[1]], said, false).permitted().expect("said explicitly");
    // The trash is never emptied of it, and it stays pinned when it comes back.
    forget_at(&repository, &[all[1].id, all[3].id], false, NOW);
    let later = Timestamp { secs: NOW.secs + 31 * DAY, nanos: 0 };
    assert_eq!(trash::expired(&repository, later, span(30)).expect("known"), [all[3].id]);
    let back = bring_back(&repository, all[1].id).expect("back");
    let listing = list(&repository).expect("listed");
    assert_eq!(listing.pins[&back.new].label.as_deref(), Some("before the move"));
}

#[test]
fn what_cannot_be_read_is_never_lost_to_a_policy() {
    let (backend, repository, all) = series(6);
    // A kind of note that a later version writes.
    let kind = NoteKind::Pin { pinned: true, label: None };
    notes::write(&repository, all[0].id, kind, NOW).expect("noted");
    let (name, mut bytes) =
        backend.files().into_iter().find(|(n, _)| n.folder() == Folder::Notes).expect("one");
    let plain = String::from_utf8_lossy(&bytes).contains("\"note\":\"pin\"");
    assert!(plain, "a plain repository");
    let at = bytes.windows(5).position(|w| w == b"\"pin\"").expect("there");
    bytes[at + 1] = b'x';
    backend.overwrite(name, bytes.clone());
    let listing = list(&repository).expect("listed");
    assert_eq!(listing.unread_notes.len(), 1, "its checksum does not fit");
    let refused = knows_enough(&listing, Overrides::default()).expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(
        refused.message().contains(&name.path()) && refused.message().contains("--ignore-unreadable-notes")
    );
    knows_enough(&listing, Overrides { unread_notes: true, ..Overrides::default() })
        .expect("said explicitly");
    assert_eq!(trash::expired(&repository, NOW, span(0)).expect_err("refused").kind(), ErrorKind::Refused);
    repository.backend().remove(&name).expect("removed");
    // The same, sealed as it should be.
    let unknown = unknown_note(&repository, all[0].id);
    backend.overwrite(unknown.0, unknown.1);
    let listing = list(&repository).expect("listed");
    knows_enough(&listing, Overrides::default()).expect("it can be read");
    let planned = plan(&listing, &last(2), Overrides::default());
    assert_eq!(removed(&planned), ids(&all[1..4]));
    assert!(planned.parts[0].keep[0].1[0].contains("later version"));
    // A record that cannot be read is in no group, so no policy reaches it.
    let name = FileName::Snapshot(all[1].id);
    let mut bytes = backend.files()[&name].clone();
    let at = bytes.len() - 5;
    bytes[at] ^= 1;
    backend.overwrite(name, bytes);
    backend.remove(&FileName::CopyOfSnapshot(all[1].id)).expect("its second copy");
    let listing = list(&repository).expect("listed");
    assert_eq!(listing.damaged.len(), 1);
    assert_eq!(removed(&plan(&listing, &last(2), Overrides::default())), ids(&all[2..4]));
}

/// A note of a kind nobody knows, as bytes.
fn unknown_note(repository: &Repository, id: SnapshotId) -> (FileName, Vec<u8>) {
    use snapkeep::format::encode_header;
    use snapkeep::format::frame::FrameKind;
    let body = format!(
        "{{\"snapshot\":\"{id}\",\"sequence\":1,\"time\":\"2026-11-20T10:00:00Z\",\"note\":\"legal-hold\",\"until\":9}}"
    );
    let name = FileName::Note(Name([7; 16]));
    let mut bytes = encode_header(&name, repository.id()).to_vec();
    let sealed = repository.keyring().seal(FrameKind::Note, body.as_bytes(), &[1; 16]).expect("sealed");
    bytes.extend(sealed);
    (name, bytes)
}

#[test]
fn the_trash_expires_by_clocks_that_make_sense_and_no_others() {
    let (_, repository, all) = series(8);
    let at = |days: i64| Timestamp { secs: NOW.secs + days * DAY, nanos: 0 };
    forget_at(&repository, &[all[0].id], false, at(0));
    forget_at(&repository, &[all[1].id], false, at(50 * 365));
    forget_at(&repository, &[all[2].id], false, Timestamp { secs: -DAY, nanos: 0 });
    forget_at(&repository, &[all[3].id], false, at(10));
    let expired = |now, days| trash::expired(&repository, now, span(days)).expect("known");
    assert_eq!(expired(at(29), 30), []);
    assert_eq!(expired(at(30), 30), [all[0].id]);
    assert_eq!(expired(at(40), 30), [all[0].id, all[3].id]);
    assert_eq!(expired(at(-400), 30), [], "a clock of the past");
    assert_eq!(expired(at(50 * 365 + 30), 30), [all[0].id, all[1].id, all[3].id]);
    assert_eq!(expired(at(0), 0).len(), 4, "no trash is no question of time");
    assert_eq!(expired(at(i64::from(u32::MAX) - 1), u32::MAX), [], "for ever");
    // Forgotten twice: the younger tombstone counts.
    let known = Notes::load(&repository).expect("notes");
    trash::bury(&repository, &known, all[0].id, "there", at(20)).expect("buried");
    assert_eq!(expired(at(40), 30), [all[3].id]);
    trash::delete(&repository, &expired(at(40), 30)).expect("deleted");
    assert_eq!(in_trash(&repository), ids(&all[..3]));
    assert!(!trash::has_record(&repository, all[3].id).expect("listed"));
    // A record that is lost may come back from its second copy: its notes stay.
    let copy = FileName::CopyOfSnapshot(all[2].id);
    assert!(repository.backend().list(Folder::Copies).expect("listed").iter().any(|stat| stat.name == copy));
    repository.backend().remove(&FileName::Snapshot(all[2].id)).expect("removed");
    assert_eq!(trash::sweep(&repository).expect("swept"), 0);
    // A deletion killed between record and notes leaves notes, which are swept.
    repository.backend().remove(&copy).expect("removed");
    assert_eq!(trash::sweep(&repository).expect("swept"), 1);
    assert_eq!(trash::sweep(&repository).expect("swept"), 0);
    assert_eq!(in_trash(&repository), ids(&all[..2]));
}

#[test]
fn latest_of_the_trash_is_certain_or_refused() {
    let (_, repository, all) = series(4);
    let other = made(&repository, &all[0], |r| {
        daily(r, 30);
        r.hostname = "another".into();
    });
    // Not in the order in which they were forgotten.
    forget_at(&repository, &[all[2].id, all[0].id], false, NOW);
    let filter = SnapshotFilter::default();
    let latest = |filter: &SnapshotFilter| {
        let listing = list(&repository).expect("listed");
        undelete::resolve(&listing, "latest", filter).map(|f| f.listed.id)
    };
    assert_eq!(latest(&filter).expect("one series"), all[2].id);
    forget_at(&repository, &[other.id], false, NOW);
    assert_eq!(latest(&filter).expect_err("two series").kind(), ErrorKind::Invalid);
    let host = SnapshotFilter { hosts: vec!["host".into()], ..filter.clone() };
    assert_eq!(latest(&host).expect("one series"), all[2].id);
    let nobody = SnapshotFilter { hosts: vec!["nobody".into()], ..filter };
    assert_eq!(latest(&nobody).expect_err("nothing").kind(), ErrorKind::NotFound);
}

#[test]
fn nothing_comes_back_that_is_not_whole() {
    let backend = MemoryBackend::new();
    let repo = repository(&backend, Some("secret"));
    let mut random = Random(8);
    let mut now = Tree::from([("a".to_owned(), file(random.bytes(9000), 1))]);
    let first = commit(&repo, &now, 100, None);
    now.insert("b".into(), file(random.bytes(9000), 2));
    let second = commit(&repo, &now, 200, Some(&first));
    forget_at(&repo, &[second.id], false, NOW);
    let index = repo.load_index().expect("an index");
    let there = index.packs().map(|p| p.id).collect::<Vec<_>>();
    // Whatever pack is lost, either the snapshot does not need it or it does not come back.
    for pack in there {
        let name = FileName::Pack(pack);
        let bytes = backend.files()[&name].clone();
        repo.backend().remove(&name).expect("removed");
        let back = bring_back(&repo, second.id);
        let whole = |repo: &Repository| {
            let reader = repo.reader().expect("a reader");
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tree(&reader, &second.root) == now))
                .is_ok()
        };
        match back {
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
                assert!(e.message().contains("stays in the trash"), "{e}");
                assert_eq!(in_trash(&repo), [second.id]);
                assert!(repo.backend().list(Folder::Sessions).expect("listed").is_empty());
            }
            Ok(_) => assert!(whole(&repo), "pack {pack} was needed"),
        }
        backend.overwrite(name, bytes);
    }
    assert!(in_trash(&repo).contains(&second.id), "every pack was needed");
    assert!(bring_back(&repo, second.id).is_ok());
}

#[test]
fn packs_about_to_be_deleted_do_not_count() {
    let (backend, repository) = empty();
    let now = Tree::from([("a".to_owned(), file(Random(8).bytes(9000), 1))]);
    let only = commit(&repository, &now, 100, None);
    forget_at(&repository, &[only.id], false, NOW);
    let pack = repository.load_index().expect("an index").packs().next().expect("a pack").id;
    let name = FileName::Condemned(1);
    let mut bytes = snapkeep::format::encode_header(&name, repository.id()).to_vec();
    let mut plain = vec![1];
    plain.extend(pack.0);
    let kind = snapkeep::format::frame::FrameKind::Condemned;
    bytes.extend(repository.keyring().seal(kind, &plain, &[0; 16]).expect("sealed"));
    backend.overwrite(name, bytes);
    let refused = bring_back(&repository, only.id).expect_err("a collection is under way");
    assert_eq!(refused.kind(), ErrorKind::Locked, "{refused}");
    repository.backend().remove(&name).expect("removed");
    bring_back(&repository, only.id).expect("back");
}

/// Everything some snapshots need, by a walk of its own: manifests, contents, bases of all.
fn needed(repository: &Repository, snapshots: &[&Listed]) -> HashSet<ChunkId> {
    let reader = repository.reader().expect("a reader");
    let mut bases: HashMap<ChunkId, Vec<ChunkId>> = HashMap::new();
    for body in bodies(repository) {
        if let Coding::Prefix(prefix) = &body.coding {
            for chunk in &body.chunks {
                bases.insert(chunk.id, prefix.bases.clone());
            }
        }
    }
    let mut todo = Vec::new();
    for listed in snapshots {
        let groups = Groups::load(&reader, &listed.root).expect("groups");
        todo.extend(&groups.roots);
        for item in &groups.items {
            todo.push(item.id);
            todo.extend(item.stat);
            for entry in read_group(&reader, item).expect("a group") {
                todo.extend(&entry.content.lists);
                for extent in extents(&reader, &entry.content).expect("extents") {
                    if let Extent::Chunk { id, .. } = extent {
                        todo.push(id);
                    }
                }
            }
        }
    }
    let mut all = HashSet::new();
    while let Some(id) = todo.pop() {
        if all.insert(id) {
            todo.extend(bases.get(&id).into_iter().flatten());
        }
    }
    all
}

fn bodies(repository: &Repository) -> Vec<snapkeep::format::frame::Body> {
    let mut all = Vec::new();
    for FileStat { name, size } in repository.backend().list(Folder::Packs).expect("listed") {
        let footer =
            read_footer(repository.backend().as_ref(), repository.keyring(), name.header_name(), size);
        for frame in footer.expect("a footer").0.frames {
            all.extend(frame.table.bodies);
        }
    }
    all
}

#[test]
fn what_is_freed_is_known_to_the_byte() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = Random(seed);
    let (_, repository) = empty();
    let mut now = random_tree(&mut random, 400);
    let mut db = random.bytes(120_000);
    let mut all: Vec<Listed> = Vec::new();
    for n in 0..14 {
        edit(&mut random, &mut now, 9, 1000 + n);
        for _ in 0..5 {
            let at = random.below(60_000);
            db[at] ^= 0x55;
        }
        now.insert("home/db".into(), file(db.clone(), 1000 + n));
        all.push(commit(&repository, &now, 100 * n, all.last()));
    }
    assert!(bodies(&repository).iter().any(|b| matches!(b.coding, Coding::Prefix(_))), "with bases");
    for round in 0..12 {
        let leaving: Vec<&Listed> = all.iter().filter(|_| random.below(3) == 0).collect();
        let staying: Vec<&Listed> = all.iter().filter(|l| leaving.iter().all(|g| g.id != l.id)).collect();
        let computed = compute(&repository, &leaving, &staying, None, &Progress::new()).expect("computed");
        let (before, after) =
            (needed(&repository, &all.iter().collect::<Vec<_>>()), needed(&repository, &staying));
        let (mut expected, mut seen) = (Freed::default(), HashSet::new());
        for body in bodies(&repository) {
            let is_in = |set: &HashSet<ChunkId>| body.chunks.iter().any(|c| set.contains(&c.id));
            if is_in(&before) && !is_in(&after) {
                expected.stored += u64::from(body.stored_len);
            }
            for chunk in &body.chunks {
                if before.contains(&chunk.id) && !after.contains(&chunk.id) && seen.insert(chunk.id) {
                    expected.chunks += 1;
                    expected.plain += u64::from(chunk.len);
                }
            }
        }
        assert_eq!(computed, Some(expected), "round {round}");
        assert_eq!(leaving.is_empty(), expected == Freed::default());
    }
    let none = compute(&repository, &[&all[0]], &[&all[1]], Some(1), &Progress::new()).expect("looked");
    assert_eq!(none, None, "too much to read unasked");
    // Everything may go: then every stored body does.
    let everything = compute(&repository, &all.iter().collect::<Vec<_>>(), &[], None, &Progress::new());
    let stored: u64 = bodies(&repository).iter().map(|b| u64::from(b.stored_len)).sum();
    assert_eq!(everything.expect("computed").expect("not too much").stored, stored);
}

/// A machine that stops for good after so many changes to the store.
struct Mortal {
    inner: MemoryBackend,
    left: Arc<AtomicI64>,
    /// What another machine does after a note has been published.
    after_note: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

fn spend(left: &AtomicI64) -> Result<()> {
    if left.fetch_sub(1, Ordering::SeqCst) <= 0 {
        return Err(Error::new(ErrorKind::Io, "killed"));
    }
    Ok(())
}

struct MortalFile {
    inner: Box<dyn Pending>,
    left: Arc<AtomicI64>,
}

impl Pending for MortalFile {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.inner.append(bytes)
    }
    fn publish(self: Box<Self>) -> Result<()> {
        spend(&self.left)?;
        self.inner.publish()
    }
}

struct MortalSession {
    inner: Box<dyn SessionFile>,
    left: Arc<AtomicI64>,
}

impl SessionFile for MortalSession {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        spend(&self.left)?;
        self.inner.append(bytes)
    }
    fn commit(self: Box<Self>) -> Result<()> {
        spend(&self.left)?;
        self.inner.commit()
    }
    fn abandon(self: Box<Self>) -> Result<()> {
        spend(&self.left)?;
        self.inner.abandon()
    }
}

impl Backend for Mortal {
    fn create(&self, name: &FileName) -> Result<Box<dyn Pending>> {
        let hook = self.after_note.lock().expect("a lock").take();
        let inner: Box<dyn Pending> = match hook.filter(|_| name.folder() == Folder::Notes) {
            Some(hook) => Box::new(Hooked { inner: self.inner.create(name)?, hook: Some(hook) }),
            None => self.inner.create(name)?,
        };
        Ok(Box::new(MortalFile { inner, left: Arc::clone(&self.left) }))
    }
    fn read(&self, name: &FileName, max: u64) -> Result<Vec<u8>> {
        self.inner.read(name, max)
    }
    fn read_range(&self, name: &FileName, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.inner.read_range(name, offset, len)
    }
    fn list(&self, folder: Folder) -> Result<Vec<FileStat>> {
        self.inner.list(folder)
    }
    fn remove(&self, name: &FileName) -> Result<()> {
        spend(&self.left)?;
        self.inner.remove(name)
    }
    fn open_session(&self, session: Name, first: &[u8]) -> Result<Box<dyn SessionFile>> {
        spend(&self.left)?;
        let inner = self.inner.open_session(session, first)?;
        Ok(Box::new(MortalSession { inner, left: Arc::clone(&self.left) }))
    }
    fn evict(&self, session: Name) -> Result<()> {
        spend(&self.left)?;
        self.inner.evict(session)
    }
    fn session_alive(&self, session: Name) -> Option<bool> {
        self.inner.session_alive(session)
    }
    fn sync_seen(&self) -> Result<()> {
        self.inner.sync_seen()
    }
    fn location(&self) -> String {
        self.inner.location()
    }
}

struct Hooked {
    inner: Box<dyn Pending>,
    hook: Option<Box<dyn FnOnce() + Send>>,
}

impl Pending for Hooked {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.inner.append(bytes)
    }
    fn publish(mut self: Box<Self>) -> Result<()> {
        let hook = self.hook.take();
        self.inner.publish()?;
        if let Some(hook) = hook {
            hook();
        }
        Ok(())
    }
}

fn opened(backend: Arc<dyn Backend>) -> Arc<Repository> {
    let opened = locate(backend).and_then(|located| located.open(None, None));
    Arc::new(opened.expect("a repository"))
}

/// The same files once more, for a machine that makes `changes` changes and no more.
fn mortal(
    files: &BTreeMap<FileName, Vec<u8>>,
    changes: i64,
) -> (MemoryBackend, Arc<Repository>, Arc<AtomicI64>) {
    let inner = MemoryBackend::new();
    for (name, bytes) in files {
        inner.overwrite(*name, bytes.clone());
    }
    let left = Arc::new(AtomicI64::new(changes));
    let mortal = Mortal { inner: inner.clone(), left: Arc::clone(&left), after_note: Mutex::new(None) };
    (inner, opened(Arc::new(mortal)), left)
}

#[test]
fn killed_at_any_change_forgetting_leaves_each_snapshot_here_or_there() {
    let (backend, repository, all) = series(4);
    set_pin(&repository, &all[3], Some(Pin::default()), NOW).expect("pinned");
    let files = backend.files();
    for for_good in [false, true] {
        for changes in 0.. {
            let (inner, dying, left) = mortal(&files, changes);
            let chosen = [all[0].id, all[1].id];
            let done = run(&dying, &chosen, &options(for_good), NOW, &Silent).expect("ends by itself");
            let survived = left.load(Ordering::SeqCst) >= 0;
            let after = opened(Arc::new(inner));
            let listing = list(&after).expect("listed");
            let trashed: Vec<_> = listing.forgotten.iter().map(|f| f.listed.id).collect();
            for id in chosen {
                let (here, there) = (listing.snapshots.iter().any(|l| l.id == id), trashed.contains(&id));
                let gone = !trash::has_record(&after, id).expect("listed");
                assert_eq!(u8::from(here) + u8::from(there) + u8::from(gone), 1, "{changes} changes");
                assert!(for_good || !gone);
                // What is said to be forgotten is.
                assert!(!done.forgotten.contains(&id) || (if for_good { gone } else { there }));
            }
            assert!(listing.snapshots.iter().filter(|l| !chosen.contains(&l.id)).count() == 2);
            assert_eq!(listing.pins.len(), 1);
            if survived {
                assert!(done.failed.is_empty());
                break;
            }
            assert!(!done.failed.is_empty(), "a failure is told");
            // Whoever tries again gets to the end.
            forget_at(&after, &chosen, for_good, NOW);
            assert_eq!(visible(&after), ids(&all[2..]));
        }
    }
}

#[test]
fn killed_at_any_change_bringing_back_loses_nothing_and_doubles_nothing() {
    let (backend, repository) = empty();
    let mut random = Random(5);
    let mut now = random_tree(&mut random, 120);
    let first = commit(&repository, &now, 100, None);
    edit(&mut random, &mut now, 9, 500);
    let second = commit(&repository, &now, 200, Some(&first));
    set_pin(&repository, &second, Some(Pin::default()), NOW).expect("pinned");
    forget_at(&repository, &[second.id], false, NOW);
    let files = backend.files();
    for changes in 0.. {
        let (inner, dying, left) = mortal(&files, changes);
        let back = bring_back(&dying, second.id);
        let survived = left.load(Ordering::SeqCst) >= 0;
        let after = opened(Arc::new(inner));
        let listing = list(&after).expect("listed");
        let of_it = |l: &&Listed| l.root == second.root;
        let (here, there) = (
            listing.snapshots.iter().filter(of_it).count(),
            listing.forgotten.iter().filter(|f| f.listed.root == second.root).count(),
        );
        assert!(here <= 1 && there <= 1 && here + there >= 1, "{changes}: {here} here, {there} in the trash");
        assert!(back.is_err() || here == 1, "what is said to be back is");
        let reader = after.reader().expect("a reader");
        assert!(tree(&reader, &second.root) == now);
        if there == 1 {
            // The one in the trash is still pinned: nothing empties it before the new one is.
            let expired = trash::expired(&after, Timestamp { secs: NOW.secs + 99 * DAY, nanos: 0 }, span(30));
            assert_eq!(expired.expect("known"), []);
            bring_back(&after, second.id).expect("another attempt gets to the end");
        }
        let listing = list(&after).expect("listed");
        assert_eq!((listing.snapshots.len(), listing.forgotten.len()), (2, 0), "after {changes} changes");
        assert!(listing.pins.contains_key(&listing.snapshots[1].id), "after {changes} changes");
        if survived {
            break;
        }
    }
}

#[test]
fn of_a_pin_and_a_tombstone_at_the_same_time_one_sees_the_other() {
    let (backend, repository, all) = series(3);
    let inner = backend.clone();
    let other = Arc::clone(&repository);
    let listed = all[0].clone();
    let seen = Arc::new(Mutex::new(None));
    let told = Arc::clone(&seen);
    // The pin comes just after the tombstone: the one who pins hears of it, and the one who forgets sees the pin.
    let hook: Box<dyn FnOnce() + Send> = Box::new(move || {
        *told.lock().expect("a lock") = Some(set_pin(&other, &listed, Some(Pin::default()), NOW));
    });
    let left = Arc::new(AtomicI64::new(i64::MAX));
    let mortal = Mortal { inner, left, after_note: Mutex::new(Some(hook)) };
    let forgetting = opened(Arc::new(mortal));
    let done = run(&forgetting, &[all[0].id], &options(true), NOW, &Silent).expect("done");
    assert_eq!((done.forgotten, done.pinned), (vec![], vec![all[0].id]));
    let seen = seen.lock().expect("a lock").take().expect("it was tried");
    assert_eq!(seen.expect_err("too late").kind(), ErrorKind::NotFound);
    assert!(trash::has_record(&repository, all[0].id).expect("listed"));
    assert_eq!(trash::expired(&repository, NOW, span(0)).expect("known"), []);
}

#[test]
fn a_number_in_the_trash_is_taken_and_nobody_s_parent() {
    let repository = new_repository(Arc::new(MemoryBackend::new()), None);
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("a"), "some").expect("a file");
    let mut made = Vec::new();
    for n in 0..4 {
        made.push(back_up(&repository, dir.path()).snapshot.expect("a snapshot"));
        if n < 3 {
            forget_at(&repository, &made[n..], false, NOW);
        }
    }
    let there = list(&repository).expect("listed").snapshots;
    assert_eq!((ids(&there), there[0].record.sequence), (vec![made[3]], 4));
    assert_eq!(there[0].record.parent, None);
    let back = bring_back(&repository, made[2]).expect("back");
    assert_eq!(visible(&repository), [back.new, made[3]], "where it was in the order");
    let next = back_up(&repository, dir.path());
    assert_eq!(next.parent, Some(made[3]));
}
