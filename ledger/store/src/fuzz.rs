//! Fuzz harnesses of what this crate reads back: segments, id files, signed heads and records, names of objects.
//!
//! How to run and replay them: docs/testing.md. The log's stand beside it (`wal/fuzz.rs`). Not here: the changes
//! themselves (`tests/fuzz/changed.rs`).

#[path = "../../../tests/fuzz/changed.rs"]
pub(crate) mod changed;

use crate::columns::tests::entry;
use crate::columns::{self, Rows};
use crate::entry::Entry;
use crate::ids::IdRun;
use crate::keys::ContentKeys;
use crate::layout;
use crate::log_head::{self, HeadFault};
use crate::segment::{self, Statistics};
use crate::segment_reader::Content;
use bytes::Bytes;
use changed::{fuzz, write_seed};
use ledger::key::LedgerKey;
use ledger::leaf;
use ledger::name::{StreamKind, TenantId};
use ledger::note;
use ledger::tile::{Tile, TileKind};
use ledger::tree::{Edge, Hash};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use std::sync::Arc;

const LOG: &str = "example/_main/log/0";

fn key() -> LedgerKey {
    LedgerKey::from_secret(&[3; 32])
}

/// A folder that is gone afterwards, in memory where the machine has such: a harness makes thousands.
pub(crate) fn folder() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

#[test]
fn segments() {
    fn check(bytes: &[u8]) {
        let path = Path::from("2026-09/x.parquet");
        let bytes = Bytes::copy_from_slice(bytes);
        let mut scratch = Vec::new();
        let _ = segment::read_all(&ContentKeys::default(), &path, bytes.clone(), |batch| {
            let rows = Rows::of(batch)?;
            for row in 0..rows.len() {
                let _ = (rows.seq(row), rows.is_of(row, "acme", "audit"), rows.recorded_at(row));
                let (Ok(found), Ok(draft)) = (rows.leaf(row, &mut scratch), rows.draft(row)) else { continue };
                assert_eq!(ledger::tree::leaf_hash(&rows.leaf_data(row, &mut scratch)?), found);
                // An event that is read back is as valid as one that came in.
                draft.tenant().parse::<TenantId>().unwrap();
                assert!(!draft.event_id().is_empty());
            }
            Ok(())
        });
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        futures::executor::block_on(async {
            objects.put(&path, PutPayload::from_bytes(bytes.clone())).await.unwrap();
            let content = Content { objects: Arc::clone(&objects), keys: ContentKeys::default() };
            let _ = Statistics::read(&content, &path, bytes.len() as u64).await;
        });
    }
    fuzz!("segments", check);
}

/// Sets the checksum of an id file right.
fn with_checksum(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    if let Some(crc) = out.get(28..).map(|body| crc32c::crc32c_append(crc32c::crc32c(&out[..24]), body)) {
        out[24..28].copy_from_slice(&crc.to_le_bytes());
    }
    out
}

#[test]
fn id_files() {
    fn check(bytes: &[u8]) {
        let folder = folder();
        let path = folder.path().join("x.ids");
        for bytes in [bytes.to_vec(), with_checksum(bytes)] {
            let count = bytes.get(8..16).and_then(|count| count.try_into().ok()).map_or(0, u64::from_le_bytes);
            let Some(end) = 100u64.checked_add(count) else { continue };
            std::fs::write(&path, &bytes).unwrap();
            let Some(run) = IdRun::open(&path, 100, end) else { continue };
            for id in (0..40).map(|n| leaf::id_fingerprint(&format!("e-{n}"))).chain([0, u64::MAX]) {
                let _ = run.may_hold(id);
                assert!(run.find(id).unwrap().iter().all(|seq| (100..end).contains(seq)), "beyond the run");
            }
        }
    }
    fuzz!("id_files", check);
}

#[test]
fn log_heads() {
    fn check(bytes: &[u8]) {
        let key = key();
        let trusted = [key.verifier(LOG)];
        for size in [0, 13] {
            let _ = log_head::read_head(bytes, size, &trusted);
        }
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        if let Some(owner) = log_head::read_owner(bytes) {
            assert_eq!(log_head::owner_text(&owner), text, "two spellings");
        }
        let owner = log_head::Owner { durability: ledger::group::Durability::Wal, log: "0f".into(), generation: 0 };
        for ours in [log_head::format_text(LOG), log_head::owner_text(&owner), log_head::epoch_text(3)] {
            assert_eq!(log_head::newer_record(ours.as_bytes(), &ours), None);
            let _ = log_head::newer_record(bytes, &ours);
        }
        if !text.ends_with('\n') || text.ends_with("\n\n") {
            return;
        }
        let head = text.lines().find_map(|line| line.strip_prefix("head ")).and_then(|head| head.split(' ').next());
        let size = head.and_then(|size| size.parse().ok()).unwrap_or(0);
        match log_head::read_head(note::sign(text, LOG, &[&key]).as_bytes(), size, &trusted) {
            Ok((edge, _)) => assert_eq!((log_head::head_text(LOG, &edge).as_str(), edge.size()), (text, size)),
            Err(HeadFault::Newer) => assert!(text.starts_with("piperoll-log/v")),
            Err(HeadFault::Wrong(_)) => {}
        }
    }
    fuzz!("log_heads", check);
}

#[test]
fn object_names() {
    fn check(bytes: &[u8]) {
        let Ok(name) = Path::parse(String::from_utf8_lossy(bytes)) else { return };
        // Names that this program would spell otherwise are nobody's of its own.
        if Path::from(name.as_ref()) != name {
            return;
        }
        if let Some(number) = layout::number_of(&name) {
            let digits = name.as_ref().trim_end_matches(".json");
            assert!(digits.ends_with(&format!("{number:020}")), "{name} is not {number}");
        }
        let is_below = name.parts().count() > 2;
        if let Some((tenant, kind)) = layout::stream_of(&name).filter(|_| is_below) {
            let prefix = layout::StreamPrefix::new(&tenant, kind);
            assert!(prefix.relative(&name).is_some_and(|rest| prefix.below(rest) == name), "{name}");
        }
    }
    fuzz!("object_names", check);
}

/// Writes the seeds anew: `cargo test -p ledger-store write_seeds -- --ignored`.
#[test]
#[ignore = "writes into the tree"]
fn write_seeds() {
    let seed =
        |name: &str, seed: &str, bytes: &[u8]| write_seed(env!("CARGO_MANIFEST_DIR"), file!(), name, seed, bytes);
    let entries: Vec<Entry> = (0..5).map(|n| entry("acme", n)).collect();
    let batch = columns::batch(7, &entries.iter().collect::<Vec<_>>()).unwrap();
    let (bytes, _) = segment::write(&Path::from("x.parquet"), &[batch], None).unwrap();
    seed("segments", "five-rows", &bytes);
    let ids: Vec<u64> = (0..20).map(|n| leaf::id_fingerprint(&format!("e-{n}"))).collect();
    let folder = tempfile::tempdir().unwrap();
    for (name, ids) in [("twenty", &ids[..]), ("none", &[]), ("twice", &[ids[3], ids[3]])] {
        let path = folder.path().join(name);
        IdRun::build(&path, 100, 77, ids).unwrap();
        seed("id_files", name, &std::fs::read(&path).unwrap());
    }
    for size in [0u64, 13] {
        let mut edge = Edge::default();
        (0..size).for_each(|n| edge.push(Hash::of(&n.to_be_bytes())));
        seed("log_heads", &format!("text-{size}"), log_head::head_text(LOG, &edge).as_bytes());
        let signed = note::sign(&log_head::head_text(LOG, &edge), LOG, &[&key()]);
        seed("log_heads", &format!("signed-{size}"), signed.as_bytes());
    }
    seed("log_heads", "format", log_head::format_text(LOG).as_bytes());
    seed("log_heads", "key", ledger::handover::first_record(&key().verifier(LOG)).as_bytes());
    let prefix = layout::StreamPrefix::new(&"acme".parse().unwrap(), StreamKind::Audit);
    let tile = Tile { kind: TileKind::Hashes(1), index: 1_234, width: 7 };
    for (name, path) in [
        ("commit", prefix.commit(7)),
        ("view", prefix.delta(7)),
        ("tile", prefix.tile(&tile)),
        ("head", layout::log_head(13)),
        ("epoch", layout::epoch(u64::MAX)),
    ] {
        seed("object_names", name, path.as_ref().as_bytes());
    }
}
