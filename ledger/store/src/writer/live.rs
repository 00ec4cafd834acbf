//! What the writer knows of one stream: its tree with what is not yet durable, and its unsealed ids.
//!
//! Not here: what readers see ([`crate::stream`]). Invariants: `edge` is ahead of the published one only
//! while a group is being made; `ids` holds every unsealed entry.

use super::{Prepared, Verdict};
use crate::entry::{Chunk, Entry};
use crate::ids::Fingerprints;
use crate::keys::LogKey;
use crate::precheck::Known;
use crate::store::StreamKey;
use crate::stream::Stream;
use crate::wal::{ReadRun, Run};
use ledger::checkpoint::StreamHead;
use ledger::draft::Draft;
use ledger::tree::Edge;
use std::collections::{BTreeMap, HashMap, hash_map};
use std::sync::Arc;

/// One stream as the writer has it.
pub(crate) struct Live {
    pub stream: Arc<Stream>,
    pub edge: Edge,
    pub sealed_through: u64,
    /// Whether its head belongs into the group being made.
    pub touched: bool,
    /// Entries of the group being made.
    pub open: Vec<Entry>,
    /// Position of the first of them.
    pub open_first: u64,
    /// Published chunks that are not sealed.
    pub chunks: BTreeMap<u64, Arc<Chunk>>,
    last_recorded: i64,
    /// Fingerprints of unsealed ids. Two ids with one fingerprint (2^32 hashes of work) would only let the
    /// one who made them store a repeat of their own.
    ids: Fingerprints,
}

/// The new drafts of one request for one stream, by id, with the positions that they would get.
#[derive(Default)]
pub(crate) struct Own<'d>(HashMap<&'d str, (&'d Draft, u64)>);

impl Live {
    /// The writer's state of a stream; made from what is published when there is none.
    pub(crate) fn of<'m>(all: &'m mut HashMap<StreamKey, Live>, stream: &Arc<Stream>) -> &'m mut Live {
        let live = all.entry(StreamKey::of(stream)).or_insert_with(|| Live::resume(Arc::clone(stream)));
        // What could not be opened at the start has been since: now its ids are known.
        if live.is_locked() && !stream.is_locked() {
            *live = Live { touched: live.touched, ..Live::resume(Arc::clone(stream)) };
        }
        live
    }

    /// Whether its tail could not be opened when it was looked at.
    pub(crate) fn is_locked(&self) -> bool {
        self.chunks.first_key_value().is_some_and(|(_, chunk)| chunk.locked.is_some())
    }

    /// Goes on from what is published.
    pub(crate) fn resume(stream: Arc<Stream>) -> Self {
        let view = stream.view();
        let mut ids = Fingerprints::default();
        let mut last_recorded = view
            .sealed
            .segments
            .last()
            .map_or(i64::MIN, |segment| segment.statistics.recorded_at.map_or(i64::MIN, |(_, newest)| newest));
        // The newest entries may be gone.
        last_recorded = last_recorded.max(view.sealed.gone.as_ref().map_or(i64::MIN, |gone| gone.reference.newest));
        for chunk in &view.tail {
            for (entry, seq) in chunk.entries.iter().zip(chunk.first..) {
                ids.insert(entry.fingerprint, seq);
                last_recorded = last_recorded.max(entry.draft.recorded_at());
            }
        }
        let open_first = view.edge.size();
        let chunks = view.tail.into_iter().map(|chunk| (chunk.first, chunk)).collect();
        let sealed_through = view.sealed.edge.size();
        Self {
            stream,
            edge: view.edge,
            sealed_through,
            touched: false,
            open: vec![],
            open_first,
            chunks,
            last_recorded,
            ids,
        }
    }

    /// The head with what the group being made adds.
    pub(crate) fn head(&self) -> StreamHead {
        StreamHead { origin: self.stream.origin.to_string(), size: self.edge.size(), root: self.edge.root() }
    }

    fn unsealed(&self, seq: u64) -> Option<&Entry> {
        if let Some(at) = seq.checked_sub(self.open_first) {
            return self.open.get(at as usize);
        }
        self.chunks.range(..=seq).next_back().and_then(|(_, chunk)| chunk.get(seq))
    }

    fn find(&self, draft: &Prepared) -> Option<Known> {
        let seq = *self.ids.get(&draft.fingerprint)?;
        let original = &self.unsealed(seq)?.draft;
        (original.event_id() == draft.draft.event_id()).then(|| Known::compare(original, &draft.draft, seq))
    }

    /// What is known of drafts before any of them is sequenced, repeats among themselves included.
    /// `own` holds those of earlier parts of the same request.
    pub(crate) fn look<'d>(&self, drafts: &'d [Prepared], own: &mut Own<'d>) -> Vec<Option<Known>> {
        let mut out = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let mut known = draft.known.or_else(|| self.find(draft));
            if known.is_none() {
                let next = self.edge.size() + own.0.len() as u64;
                match own.0.get(draft.draft.event_id()) {
                    Some((first, seq)) => known = Some(Known::compare(first, &draft.draft, *seq)),
                    None => drop(own.0.insert(draft.draft.event_id(), (&draft.draft, next))),
                }
            }
            out.push(known);
        }
        out
    }

    /// Gives positions to drafts that are new, in order.
    pub(crate) fn sequence(&mut self, drafts: Vec<Prepared>, now: i64) -> Vec<Verdict> {
        self.touched = true;
        // The time of record never goes back along a stream, whatever the clock does.
        let recorded_at = now.max(self.last_recorded);
        let (first, count) = (self.open.len(), drafts.len());
        let mut verdicts = Vec::with_capacity(count);
        for prepared in drafts {
            match prepared.known.or_else(|| self.find(&prepared)) {
                Some(Known::Same(seq)) => verdicts.push(Verdict::Duplicate(seq)),
                Some(Known::Other(seq)) => verdicts.push(Verdict::Conflict(seq)),
                None => {
                    let seq = self.edge.size();
                    let Prepared { mut draft, seed, index, commitments, fingerprint, .. } = prepared;
                    draft.stamp(recorded_at);
                    let entry = Entry::new(draft, seed, index, &commitments, fingerprint);
                    self.edge.push(entry.leaf);
                    self.ids.insert(fingerprint, seq);
                    self.open.push(entry);
                    self.last_recorded = recorded_at;
                    verdicts.push(Verdict::Accepted(seq));
                }
            }
        }
        // Drafts that came together share their bytes: what was not taken must not be kept with what was.
        let new = &mut self.open[first..];
        if new.len() < count {
            new.iter_mut().for_each(|entry| entry.draft = entry.draft.detached());
        }
        verdicts
    }

    /// Forgets what a seal took over.
    pub(crate) fn sealed(&mut self, through: u64) {
        self.sealed_through = through;
        while let Some(chunk) = self.chunks.first_entry().filter(|chunk| chunk.get().end() <= through) {
            for (entry, seq) in chunk.get().entries.iter().zip(chunk.get().first..) {
                if let hash_map::Entry::Occupied(known) = self.ids.entry(entry.fingerprint)
                    && *known.get() == seq
                {
                    known.remove();
                }
            }
            chunk.remove();
        }
    }

    /// Unsealed entries below a position, oldest first, as runs to be written again: (first position, run, bytes).
    pub(crate) fn unsealed_below<'l>(&'l self, end: u64, key: Option<&'l LogKey>) -> Vec<(u64, Run<'l>, usize)> {
        let mut runs = Vec::new();
        let bytes = |entries: &[Entry]| entries.iter().map(Entry::bytes).sum();
        for chunk in self.chunks.values().filter(|chunk| chunk.first < end) {
            match &chunk.locked {
                None => runs.push((chunk.first, Run::of(chunk.entries.iter().collect(), key), chunk.bytes)),
                Some(locked) => runs.extend(locked.runs.iter().map(|(first, run)| match run {
                    ReadRun::Plain(entries) => (*first, Run::of(entries.iter().collect(), key), bytes(entries)),
                    ReadRun::Locked(run) => (*first, Run::Locked(run), run.bytes()),
                })),
            }
        }
        runs
    }
}
