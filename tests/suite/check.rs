//! `check` finds what is done to a repository: every byte flipped, every file lost, cut, grown, exchanged.

use super::check_stand::{check, everything, is_found, over, password, sample};
use rayon::prelude::*;
use snapkeep::backend::Backend;
use snapkeep::backend::memory::MemoryBackend;
use snapkeep::check::{CheckOptions, run};
use snapkeep::format::{FileName, Folder};
use snapkeep::progress::{Progress, Silent};
use snapkeep::repository::locate;
use std::sync::Arc;

#[test]
fn a_sound_repository_has_no_findings_and_right_counts() {
    for encrypted in [false, true] {
        let (repository, files, _) = sample(encrypted);
        let report = check(&repository, &everything());
        assert_eq!(report.num_errors(), 0, "{:?} {:?}", report.damage, report.unchecked);
        assert!(report.information.is_empty(), "{:?}", report.information);
        let packs: Vec<&Vec<u8>> =
            files.iter().filter(|(n, _)| n.folder() == Folder::Packs).map(|(_, b)| b).collect();
        assert_eq!(report.packs, packs.len() as u64);
        assert_eq!(report.packs_read, report.packs);
        assert_eq!(report.bytes_read, packs.iter().map(|b| b.len() as u64).sum::<u64>());
        assert_eq!((report.snapshots, report.notes, report.sessions), (3, 1, 0));
        assert_eq!(report.chunks_read, report.chunks);
        assert_eq!(report.entries, 9);
        // The list and its two other versions.
        assert_eq!(report.files_verified, 3);
        // The structure alone reads no pack.
        let report = check(&repository, &CheckOptions::default());
        assert_eq!((report.num_errors(), report.packs_read, report.bytes_read), (0, 0, 0));
    }
}

fn flip_every_byte(encrypted: bool, bits: &[u8]) {
    let (repository, files, _) = sample(encrypted);
    let places: Vec<(FileName, usize)> =
        files.iter().flat_map(|(name, bytes)| (0..bytes.len()).map(|i| (*name, i))).collect();
    let missed: Vec<String> = places
        .par_chunks(places.len().div_ceil(16))
        .flat_map_iter(|places| {
            let (backend, repository) = over(&repository, &files);
            let mut missed = Vec::new();
            for (name, at) in places {
                for bit in bits {
                    let mut bytes = files[name].clone();
                    // A different bit in every byte, unless all are asked for.
                    bytes[*at] ^= 1 << ((usize::from(*bit) + at) % 8);
                    backend.overwrite(*name, bytes);
                    let found = run(&repository, &everything(), &Progress::new(), &Silent);
                    if found.as_ref().map_or(true, |r| r.damage.is_empty()) {
                        missed.push(format!("{name} byte {at}: {:?}", found.map(|r| r.unchecked)));
                    }
                }
                backend.overwrite(*name, files[name].clone());
            }
            let report = check(&repository, &everything());
            assert_eq!(report.num_errors(), 0, "what was put back is sound again");
            missed
        })
        .collect();
    assert!(
        missed.is_empty(),
        "{} of {}: {:#?}",
        missed.len(),
        places.len(),
        &missed[..missed.len().min(20)]
    );
}

#[test]
fn every_flipped_byte_is_found_plain() {
    flip_every_byte(false, &[0]);
}

#[test]
fn every_flipped_byte_is_found_encrypted() {
    flip_every_byte(true, &[0]);
}

#[test]
#[ignore = "slow: every bit"]
fn every_flipped_bit_is_found() {
    flip_every_byte(false, &[0, 1, 2, 3, 4, 5, 6, 7]);
    flip_every_byte(true, &[0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_flipped_byte_of_config_or_keys_is_found_when_opening_too() {
    let (_, files, _) = sample(true);
    for (name, bytes) in files.iter().filter(|(n, _)| matches!(n.folder(), Folder::Config | Folder::Keys)) {
        for at in 0..bytes.len() {
            let backend = MemoryBackend::new();
            files.iter().for_each(|(name, bytes)| backend.overwrite(*name, bytes.clone()));
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            backend.overwrite(*name, bytes);
            let open =
                |b: &MemoryBackend| locate(Arc::new(b.clone())).and_then(|l| l.open(Some(&password()), None));
            // The second copy serves, and that is told; without it nothing does.
            let opened = open(&backend).unwrap_or_else(|e| panic!("{name} byte {at}: {e}"));
            assert_eq!(opened.remarks().len(), 1, "{name} byte {at}");
            backend.remove(&name.second_copy().expect("a copy")).expect("removed");
            assert!(open(&backend).is_err(), "{name} byte {at}");
        }
    }
}

#[test]
fn every_lost_file_is_found_unless_it_may_go() {
    for encrypted in [false, true] {
        let (repository, files, listed) = sample(encrypted);
        for name in files.keys() {
            let mut left = files.clone();
            left.remove(name);
            let report = is_found(&repository, &left);
            match name {
                FileName::CopyOfSnapshot(_) | FileName::CopyOfConfig(_) | FileName::CopyOfKeys(_) => {
                    assert!(report.damage.is_empty(), "{:?}", report.damage);
                    assert!(report.information.iter().any(|i| i.code == "copy-missing"));
                }
                // Forgetting removes the copy first, so that this cannot be it.
                FileName::Snapshot(id) => {
                    assert!(report.damage.iter().any(|d| d.mendable), "{:?}", report.damage);
                    left.remove(&FileName::CopyOfSnapshot(*id));
                    let report = is_found(&repository, &left);
                    assert!(report.damage.is_empty(), "{:?}", report.damage);
                    let last = *id == listed[2].id;
                    assert_eq!(report.information.is_empty(), last, "{name}: {:?}", report.information);
                }
                FileName::Note(_) => assert!(report.damage.is_empty(), "{:?}", report.damage),
                _ => assert!(!report.damage.is_empty(), "{name}"),
            }
        }
    }
}

#[test]
fn every_cut_and_every_addition_is_found() {
    for encrypted in [false, true] {
        let (repository, files, _) = sample(encrypted);
        files.par_iter().for_each(|(name, bytes)| {
            let len = bytes.len();
            let mut cuts: Vec<usize> = [0, 1, 7, 8, 47, 48, 49, 55, 56, 96, 120, len / 2].into();
            cuts.extend((1..=100).filter_map(|n| len.checked_sub(n)));
            for cut in cuts.into_iter().filter(|cut| *cut < len) {
                let mut files = files.clone();
                files.insert(*name, bytes[..cut].to_vec());
                assert!(!is_found(&repository, &files).damage.is_empty(), "{name} cut to {cut} of {len}");
            }
            for tail in [vec![0], vec![7; 100], vec![0; 5000], bytes[len - 48..].to_vec(), bytes.clone()] {
                let mut files = files.clone();
                files.insert(*name, [bytes.clone(), tail].concat());
                assert!(!is_found(&repository, &files).damage.is_empty(), "{name} grown");
            }
            let mut files = files.clone();
            files.insert(*name, vec![0; len]);
            assert!(!is_found(&repository, &files).damage.is_empty(), "{name} zeroed");
        });
    }
}

#[test]
fn every_exchange_of_two_files_is_found() {
    let (repository, files, _) = sample(true);
    let names: Vec<FileName> = files.keys().copied().collect();
    for (i, a) in names.iter().enumerate() {
        for b in names[i + 1..].iter().filter(|b| files[*b] != files[a]) {
            let mut changed = files.clone();
            changed.insert(*a, files[b].clone());
            changed.insert(*b, files[a].clone());
            let report = is_found(&repository, &changed);
            assert!(report.damage.len() >= 2, "{a} and {b}: {:?}", report.damage);
        }
    }
}

#[test]
fn files_of_another_repository_with_the_same_key_and_names_are_found() {
    // The nearest a stranger can come: a plain repository's key is public.
    let (repository, files, _) = sample(false);
    let (_, strangers, _) = sample(false);
    for (name, bytes) in &strangers {
        let mut header = bytes.clone();
        header[32..48].copy_from_slice(&name.header_name().0);
        header[16..32].copy_from_slice(&repository.id().0);
        let mut changed = files.clone();
        changed.insert(*name, header);
        if matches!(name, FileName::Keys(_)) {
            continue;
        }
        assert!(!is_found(&repository, &changed).damage.is_empty(), "{name}");
    }
}
