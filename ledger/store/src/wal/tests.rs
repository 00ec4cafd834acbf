//! The log against torn tails, damage at every byte, and a plain model.

use super::frame::ReadBatch;
use super::*;
use crate::columns::tests::entry;
use crate::entry::Entry;
use ledger::name::{StreamKind, TenantId};
use ledger::tree::Hash;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

fn take(folder: &tempfile::TempDir) -> LogFolder {
    take_as(folder, "log-id").unwrap()
}

fn take_as(folder: &tempfile::TempDir, id: &str) -> Result<LogFolder, StoreError> {
    LogFolder::take(folder.path(), Arc::new(DiskFiles::of(folder.path())), || id.into())
}

/// All groups of a log, and what its reader says of it.
pub(super) fn read_all(folder: &tempfile::TempDir) -> Result<(Vec<ReplayedGroup>, read::Replayed), StoreError> {
    let mut groups = Vec::new();
    let replayed = replay(&take(folder), &mut |group| {
        groups.push(group);
        Ok(())
    })?;
    Ok((groups, replayed))
}

fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

fn write_groups(folder: &tempfile::TempDir, groups: u64, cut_at: u64) -> Vec<Position> {
    let (_, after) = read_all(folder).unwrap();
    let mut log =
        Log::new(Place::Disk(DiskLog::open(take(folder), cut_at, 4_096).unwrap()), after.end.unwrap_or_default());
    let mut ends = Vec::new();
    for index in 0..groups {
        let entries: Vec<Entry> = (0..3).map(|n| entry("acme", 3 * index + n)).collect();
        let fact = Fact { key: [index as u8; 32], body: [1; 32], expires: 9, answer: b"answer".to_vec() };
        let tenant = tenant();
        let parts = vec![Part {
            tenant: &tenant,
            kind: StreamKind::Audit,
            first: 3 * index,
            run: Run::Plain(entries.iter().collect()),
        }];
        log.add(&Batch { facts: vec![&fact], parts });
        let previous = log.last_end();
        let heads = vec![("l/acme/audit/0".to_string(), 3 * index + 3, Hash::of(&[index as u8]))];
        let group = GroupFrame {
            index,
            epoch: 1,
            previous_file: previous.file,
            previous_offset: previous.offset,
            previous_root: Hash::of(b""),
            oldest: 0,
            heads,
        };
        ends.push(log.commit_group(&group).unwrap().end);
    }
    ends
}

fn ids(batches: &[ReadBatch]) -> Vec<String> {
    let entries = batches.iter().flat_map(|b| &b.parts).flat_map(|p| plain(&p.run));
    entries.map(|e| e.draft.event_id().to_string()).collect()
}

/// The entries of a run in the clear.
pub(super) fn plain(run: &ReadRun) -> &[Entry] {
    match run {
        ReadRun::Plain(entries) => entries,
        ReadRun::Locked(_) => panic!("a run under a key"),
    }
}

fn last_file(folder: &tempfile::TempDir) -> PathBuf {
    let files = take(folder).files().unwrap();
    let filled = files.into_iter().rev().find(|(_, length)| *length > 0);
    folder.path().join(file_name(filled.unwrap().0))
}

#[test]
fn groups_read_back_across_files_and_starts() {
    for cut_at in [1, 3_000, 1 << 20] {
        let folder = tempfile::tempdir().unwrap();
        let ends = write_groups(&folder, 7, cut_at);
        let (groups, read) = read_all(&folder).unwrap();
        assert_eq!((groups.len(), read.end, read.cut_bytes), (7, ends.last().copied(), 0));
        for (index, group) in groups.iter().enumerate() {
            let expected: Vec<String> = (0..3).map(|n| format!("e-{}", 3 * index + n)).collect();
            assert_eq!((group.frame.index, ids(&group.batches)), (index as u64, expected));
            assert_eq!(group.batches[0].facts[0].answer, b"answer");
        }
    }
}

#[test]
fn a_tail_torn_at_any_byte_loses_only_the_last_group() {
    let folder = tempfile::tempdir().unwrap();
    let ends = write_groups(&folder, 3, 1 << 20);
    let path = last_file(&folder);
    let whole = fs::read(&path).unwrap();
    for length in ends[1].offset..ends[2].offset {
        fs::write(&path, &whole[..length as usize]).unwrap();
        let (groups, read) = read_all(&folder).unwrap();
        assert_eq!((groups.len(), read.end), (2, Some(ends[1])));
        assert_eq!(fs::metadata(&path).unwrap().len(), ends[1].offset, "the torn tail is cut");
    }
}

#[test]
fn damage_below_a_named_end_stops_and_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ends = write_groups(&folder, 3, 1 << 20);
    let path = last_file(&folder);
    let whole = fs::read(&path).unwrap();
    for at in (0..ends[1].offset as usize).step_by(37) {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        fs::write(&path, &changed).unwrap();
        let error = read_all(&folder).unwrap_err();
        assert!(matches!(error, StoreError::LogDamaged { offset, .. } if offset <= at as u64), "{at}: {error}");
        assert_eq!(fs::read(&path).unwrap(), changed);
    }
}

#[test]
fn damage_in_an_earlier_file_or_a_missing_file_stops() {
    let folder = tempfile::tempdir().unwrap();
    write_groups(&folder, 4, 1);
    let held = take(&folder);
    let first = folder.path().join(file_name(held.files().unwrap()[0].0));
    let second = folder.path().join(file_name(held.files().unwrap()[1].0));
    drop(held);
    let whole = fs::read(&first).unwrap();
    fs::write(&first, &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(read_all(&folder), Err(StoreError::LogDamaged { .. })));
    fs::write(&first, &whole).unwrap();
    fs::remove_file(second).unwrap();
    assert!(matches!(read_all(&folder), Err(StoreError::LogDamaged { .. })));
}

#[test]
fn a_folder_is_held_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let first = take(&folder);
    assert!(matches!(take_as(&folder, "x"), Err(StoreError::Foreign { .. })));
    assert_eq!(first.id(), "log-id");
    drop(first);
    assert_eq!(take_as(&folder, "other").unwrap().id(), "log-id");
}

#[test]
fn random_bytes_never_panic() {
    let mut state = 7u64;
    for length in 0..400usize {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u8
            })
            .collect();
        let mut sealed = Vec::new();
        frame::seal(&mut sealed, |out| {
            out.push((length % 3) as u8);
            out.extend_from_slice(&bytes);
        });
        let _ = frame::read(&sealed);
        let _ = frame::read(&bytes);
    }
}
