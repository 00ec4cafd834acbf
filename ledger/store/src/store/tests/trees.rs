//! Proofs and tiles of a stream that is larger than a tile, sealed piece by piece.

use super::*;
use ledger::proof;
use ledger::tile::{TILE_HASHES, Tile, TileKind};

fn tiles(size: u64, level: u8) -> Vec<Tile> {
    let hashes = size >> (8 * u32::from(level));
    let width = |index: u64| (hashes - index * TILE_HASHES).min(TILE_HASHES) as u16;
    let kind = if level == u8::MAX { TileKind::Entries } else { TileKind::Hashes(level) };
    (0..hashes.div_ceil(TILE_HASHES)).map(|index| Tile { kind, index, width: width(index) }).collect()
}

async fn check(store: &Store, every: usize) {
    let reader = store.reader(&tenant("acme"), StreamKind::Audit).unwrap();
    let leaves: Vec<Hash> = rows_of(store, "acme").await.iter().map(|row| row.leaf).collect();
    let size = leaves.len() as u64;
    for level in [0u8, 1, 2] {
        let width = 1usize << (8 * level);
        let expected: Vec<u8> = leaves.chunks_exact(width).flat_map(|part| root_of(part.iter().copied()).0).collect();
        let mut found = Vec::new();
        for tile in tiles(size, level) {
            found.extend_from_slice(&reader.tile(tile).await.unwrap());
        }
        assert!(found == expected, "level {level} at {size}");
    }
    let mut entries = Vec::new();
    for tile in tiles(size, 0) {
        let bytes = reader.tile(Tile { kind: TileKind::Entries, ..tile }).await.unwrap();
        let mut rest = &bytes[..];
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let (data, after) = after.split_at(u16::from_be_bytes(*length).into());
            entries.push(ledger::tree::leaf_hash(data));
            rest = after;
        }
    }
    assert!(entries == leaves);
    for seq in (0..leaves.len()).step_by(every) {
        for size in [seq as u64 + 1, (seq as u64 + size) / 2 + 1, size] {
            let size = size.min(leaves.len() as u64);
            let proof = reader.inclusion(seq as u64, Some(size)).await.unwrap();
            let root = root_of(leaves[..size as usize].iter().copied());
            assert!(proof::check_inclusion(seq as u64, size, &proof.path, &leaves[seq], &root));
            assert_eq!(proof.head.root, root);
        }
    }
    let far = reader.inclusion(u64::MAX, None).await.unwrap_err();
    assert_eq!(far.kind(), crate::ErrorKind::Invalid);
    let none = Tile { kind: TileKind::Hashes(63), index: u64::MAX, width: 256 };
    assert_eq!(reader.tile(none).await.unwrap_err().kind(), crate::ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proofs_and_tiles_hold_at_every_stage() {
    let bed = Bed::new(31);
    let store = bed.open().await;
    let mut next = 0;
    for count in [200, 57, 255, 1, 300, 700] {
        append_ids(&store, "acme", next..next + count).await;
        next += count;
        check(&store, 131).await;
        if count != 300 {
            store.seal_all().await.unwrap();
            check(&store, 131).await;
        }
    }
    store.close().await;
    let store = bed.open().await;
    check(&store, 97).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_level_of_tiles() {
    let bed = Bed::new(32);
    let store = bed.open().await;
    for round in 0..9 {
        append_ids(&store, "acme", 7_500 * round..7_500 * (round + 1)).await;
        if round % 3 == 1 {
            store.seal_all().await.unwrap();
        }
    }
    check(&store, 30_011).await;
    store.seal_all().await.unwrap();
    check(&store, 30_011).await;
    store.close().await;
    assert!(bed.fsck().await.is_sound());
}

/// The duplicate window and the cache of ids.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_of_another_store_misleads_nobody() {
    let bed = Bed::new(33);
    let store = bed.open().await;
    append(&store, "acme", (0..4).map(|n| draft("acme", &format!("x-{n}"), n)).collect()).await;
    store.seal_all().await.unwrap();
    store.close().await;
    let other = Bed::new(34);
    let store = other.open().await;
    append_ids(&store, "acme", 0..4).await;
    store.seal_all().await.unwrap();
    store.close().await;
    std::fs::remove_dir_all(other.at("cache")).unwrap();
    copy_folder(&bed.at("cache"), &other.at("cache"));
    assert_eq!(append_ids(&other.open().await, "acme", 0..4).await, duplicates(0..4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_are_remembered_for_the_window_and_not_beyond() {
    let mut bed = Bed::new(35);
    bed.limits.duplicate_window = std::time::Duration::from_secs(100);
    let mut store = bed.open().await;
    append_ids(&store, "acme", 0..3).await;
    bed.world.pass(60_000_000);
    append_ids(&store, "acme", 3..6).await;
    store.seal_all().await.unwrap();
    bed.world.pass(60_000_000);
    for reopen in [false, true] {
        if reopen {
            store.close().await;
            store = bed.open().await;
        }
        assert_eq!(append_ids(&store, "acme", 3..6).await, duplicates(3..6));
    }
    assert_eq!(append_ids(&store, "acme", 0..3).await, accepted(6..9));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_segments_still_know_every_id() {
    let mut bed = Bed::new(36);
    bed.objects = Some(Arc::new(object_store::memory::InMemory::new()));
    let mut store = bed.open().await;
    for round in 0..70 {
        append_ids(&store, "acme", 3 * round..3 * round + 3).await;
        store.seal_all().await.unwrap();
    }
    for reopen in [false, true] {
        if reopen {
            store.close().await;
            store = bed.open().await;
        }
        assert_eq!(append_ids(&store, "acme", 0..210).await, duplicates(0..210));
        let stream = store.shared.stream(&StreamKey::new(tenant("acme"), StreamKind::Audit)).unwrap();
        assert!(stream.runs().0.len() <= 9, "{} runs", stream.runs().0.len());
    }
}
