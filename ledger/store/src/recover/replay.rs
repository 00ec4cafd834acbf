//! Giving back to streams what the write-ahead log holds beyond their last commit, head by recorded head.
//!
//! Not here: the log's frames ([`crate::wal`]), what is sealed ([`super::streams`]). Invariant: a stream is never
//! opened below a head that a group recorded.

use crate::entry::{Chunk, Entry};
use crate::error::StoreError;
use crate::store::{Shared, StreamKey};
use crate::stream::Stream;
use crate::wal::{Fact, Replayed};
use crate::writer::LogUse;
use ledger::checkpoint::StreamHead;
use ledger::group::{Durability, Group};
use ledger::tree::{Edge, Hash};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Entries of one stream that the log gave back, by position, and the heads that its groups recorded.
#[derive(Default)]
pub(super) struct FromLog {
    entries: BTreeMap<u64, Entry>,
    heads: BTreeMap<u64, Hash>,
}

#[derive(Default)]
pub(super) struct FoundGroups {
    pub streams: HashMap<StreamKey, FromLog>,
    pub facts: HashMap<[u8; 32], Fact>,
    pub log_use: BTreeMap<u64, LogUse>,
    pub unflushed: Vec<Hash>,
    /// The highest epoch that wrote a group.
    pub epoch: u64,
}

/// Collects what the log's groups hold and extends the store log by those that were not flushed.
pub(super) fn read_groups(
    shared: &Shared,
    replayed: Replayed,
    log_edge: &mut Edge,
    flushed: u64,
) -> Result<FoundGroups, StoreError> {
    let now = shared.ambient.now_micros();
    let mut found = FoundGroups::default();
    let damaged = |file: u64, why| StoreError::LogDamaged { file: format!("{file:020}.log"), offset: 0, why };
    if let Some(last) = replayed.groups.last().filter(|last| last.frame.index + 1 < flushed) {
        return Err(damaged(
            last.file,
            "it is older than the store's signed head: groups that were acknowledged are gone",
        ));
    }
    for replayed in replayed.groups {
        let held = found.log_use.entry(replayed.file).or_default();
        for batch in replayed.batches {
            for fact in batch.facts.into_iter().filter(|fact| fact.expires > now) {
                held.facts_until = held.facts_until.max(fact.expires);
                found.facts.insert(fact.key, fact);
            }
            for part in batch.parts {
                let key = StreamKey::new(part.tenant, part.kind);
                held.holds(&key, part.first + part.entries.len() as u64);
                let stream = found.streams.entry(key).or_default();
                stream.entries.extend((part.first..).zip(part.entries));
            }
        }
        held.groups_end = replayed.frame.index + 1;
        found.epoch = found.epoch.max(replayed.frame.epoch);
        let frame = replayed.frame;
        let heads: Vec<StreamHead> =
            frame.heads.into_iter().map(|(origin, size, root)| StreamHead { origin, size, root }).collect();
        for head in &heads {
            let key =
                key_of(shared, &head.origin).ok_or_else(|| damaged(replayed.file, "a group names a foreign stream"))?;
            found.streams.entry(key).or_default().heads.insert(head.size, head.root);
        }
        if frame.index < flushed {
            continue;
        }
        if frame.index != log_edge.size() || frame.previous_root != log_edge.root() {
            return Err(damaged(replayed.file, "a group does not extend the store log that was signed before it"));
        }
        let leaf = Group::new(heads).log_leaf(Durability::Wal, frame.epoch);
        log_edge.push(leaf);
        found.unflushed.push(leaf);
    }
    Ok(found)
}

fn key_of(shared: &Shared, origin: &str) -> Option<StreamKey> {
    let rest = origin.strip_prefix(shared.ledger.as_str())?.strip_prefix('/')?;
    let mut parts = rest.split('/');
    Some(StreamKey::new(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Gives a stream the entries that the log holds beyond its last commit, and checks each recorded head.
pub(super) fn republish(shared: &Shared, stream: &Stream, from_log: FromLog) -> Result<(), StoreError> {
    let view = stream.view();
    let mut edge = view.sealed.edge.clone();
    let path = stream.prefix.path().to_string();
    let damaged = |why| StoreError::Damaged { path: path.clone(), why };
    let mut entries = Vec::new();
    let sealed_root = edge.root();
    let agrees = |size: u64, root: &Hash| from_log.heads.get(&size).is_none_or(|recorded| recorded == root);
    if !agrees(edge.size(), &sealed_root) {
        return Err(damaged("its last commit and the write-ahead log disagree on the root"));
    }
    let first = edge.size();
    for (seq, entry) in from_log.entries.into_iter().filter(|(seq, _)| *seq >= first) {
        if seq != edge.size() {
            return Err(damaged("the write-ahead log has a gap in its entries"));
        }
        if !entry.is_as_hashed() {
            return Err(damaged("an entry in the write-ahead log is not the one that was hashed"));
        }
        edge.push(entry.leaf);
        entries.push(entry);
        if !agrees(edge.size(), &edge.root()) {
            return Err(damaged("the write-ahead log's entries do not give the root that was signed"));
        }
    }
    if from_log.heads.keys().next_back().is_some_and(|largest| *largest > edge.size()) {
        return Err(damaged("the write-ahead log lacks entries below a head that was signed"));
    }
    if !entries.is_empty() {
        let chunk = Arc::new(Chunk::new(first, entries));
        shared.unsealed_bytes.fetch_add(chunk.bytes, Ordering::Relaxed);
        stream.publish(chunk, edge);
    }
    Ok(())
}
