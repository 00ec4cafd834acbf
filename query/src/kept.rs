//! What is kept in memory of segments between questions: footers, Bloom filters, decoded columns.
//!
//! Bounded in bytes; what was not asked for since the hand last passed goes first (second chance). Not here: what is
//! read when something is not kept ([`crate::reader`]).
//!
//! Invariants: everything is kept under its segment's SHA-256, so it is never out of date, and a rewritten segment is
//! another entry; whoever asks already holds the segment, which only a granted handle gives out; the sum of what is
//! kept never passes the bound; what nobody can ask for any more, since its segment was replaced, is let go soon.

use crate::column::Column;
use crate::reader::Footer;
use ledger::Hash;
use ledger_store::Segment;
use parquet::bloom_filter::Sbbf;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Names something kept: which part of which segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    segment: Hash,
    part: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Footer,
    Bloom { group: u32, column: u32 },
    Column { group: u32, column: u32 },
}

impl Key {
    /// A segment's footer.
    pub fn footer(segment: Hash) -> Self {
        Self { segment, part: Part::Footer }
    }

    /// The Bloom filter of a column of a row group.
    pub fn bloom(segment: Hash, group: usize, column: usize) -> Self {
        Self { segment, part: Part::Bloom { group: group as u32, column: column as u32 } }
    }

    /// A column of a row group.
    pub fn column(segment: Hash, group: usize, column: usize) -> Self {
        Self { segment, part: Part::Column { group: group as u32, column: column as u32 } }
    }
}

/// Something kept.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    /// A footer.
    Footer(Arc<Footer>),
    /// A Bloom filter; none if the column has none.
    Bloom(Option<Arc<Sbbf>>),
    /// A column of a row group, as SQL sees it.
    Column(Column),
}

/// Bookkeeping of an entry, in bytes: keys, map and queue.
const ENTRY_BYTES: usize = 192;

impl Item {
    fn bytes(&self) -> usize {
        ENTRY_BYTES
            + match self {
                Self::Footer(footer) => footer.bytes(),
                Self::Bloom(filter) => filter.as_ref().map_or(0, |filter| 32 * filter.num_blocks()),
                Self::Column(column) => column.bytes(),
            }
    }
}

#[derive(Debug)]
struct Entry {
    item: Item,
    bytes: usize,
    asked: bool,
    /// Of which segment.
    of: Weak<Segment>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Key, Entry>,
    /// Every key once, in the order in which the hand comes by.
    round: VecDeque<Key>,
    bytes: usize,
}

/// What is kept. Shared by all questions of a process.
#[derive(Debug)]
pub(crate) struct Kept {
    state: Mutex<State>,
    bound: usize,
}

impl Kept {
    /// Keeps at most this many bytes.
    pub fn new(bound: usize) -> Self {
        Self { state: Mutex::default(), bound }
    }

    /// The most bytes that are kept.
    pub fn bound(&self) -> usize {
        self.bound
    }

    // A panic elsewhere leaves at worst a sum that is too large; nothing kept is half written.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept under these keys, in their order.
    pub fn get(&self, keys: impl Iterator<Item = Key>) -> Vec<Option<Item>> {
        let mut state = self.state();
        let found: Vec<Option<Item>> = keys
            .map(|key| {
                let entry = state.entries.get_mut(&key)?;
                entry.asked = true;
                Some(entry.item.clone())
            })
            .collect();
        drop(state);
        let hits = found.iter().flatten().count();
        metrics::counter!("piperoll_query_kept_hits_total").increment(hits as u64);
        metrics::counter!("piperoll_query_kept_misses_total").increment((found.len() - hits) as u64);
        found
    }

    /// Keeps this of a segment, and lets others go for it.
    pub fn keep(&self, key: Key, item: Item, of: &Arc<Segment>) {
        let bytes = item.bytes();
        if bytes > self.bound / 8 {
            return;
        }
        let mut state = self.state();
        // Two that read the same at the same time read the same bytes: the first stays.
        if state.entries.contains_key(&key) {
            return;
        }
        while state.bytes + bytes > self.bound {
            let Some(oldest) = state.round.pop_front() else { break };
            let State { entries, round, bytes: sum } = &mut *state;
            match entries.get_mut(&oldest) {
                Some(entry) if entry.asked => {
                    entry.asked = false;
                    round.push_back(oldest);
                }
                Some(entry) => {
                    *sum -= entry.bytes;
                    entries.remove(&oldest);
                }
                None => {}
            }
        }
        state.bytes += bytes;
        state.round.push_back(key);
        state.entries.insert(key, Entry { item, bytes, asked: false, of: Arc::downgrade(of) });
        metrics::gauge!("piperoll_query_kept_bytes").set(state.bytes as f64);
    }

    /// Lets go of what is kept of segments that nobody holds any more: they were merged into others, or content of theirs
    /// was erased.
    pub fn forget_removed(&self) {
        let mut state = self.state();
        let State { entries, round, bytes } = &mut *state;
        entries.retain(|_, entry| {
            let stays = entry.of.strong_count() > 0;
            *bytes -= if stays { 0 } else { entry.bytes };
            stays
        });
        round.retain(|key| entries.contains_key(key));
        metrics::gauge!("piperoll_query_kept_bytes").set(*bytes as f64);
    }

    /// How many things are kept, and their bytes.
    #[cfg(test)]
    pub fn size(&self) -> (usize, usize) {
        let state = self.state();
        (state.entries.len(), state.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::Int64Array;

    fn column(rows: i64) -> Item {
        Item::Column(Column::Plain(Arc::new(Int64Array::from_iter_values(0..rows))))
    }

    fn segment() -> Arc<Segment> {
        let (path, location, statistics) = (String::new(), Default::default(), Default::default());
        let (sha256, root) = (Hash([0; 32]), Hash([0; 32]));
        let reference = ledger::SegmentRef { path, first: 0, span: 1, rows: 1, bytes: 1, sha256, root };
        Arc::new(Segment { reference, location, statistics })
    }

    #[test]
    fn what_a_segment_was_is_let_go_with_it() {
        let kept = Kept::new(20_000);
        let (one, other) = (segment(), segment());
        let key = |n: usize| Key::column(Hash([0; 32]), 0, n);
        kept.keep(key(0), column(100), &one);
        kept.keep(key(1), column(100), &other);
        let both = kept.size();
        kept.forget_removed();
        assert_eq!(kept.size(), both);
        drop(one);
        kept.forget_removed();
        assert_eq!(kept.size(), (1, both.1 / 2));
        assert!(kept.get([key(0)].into_iter())[0].is_none() && kept.get([key(1)].into_iter())[0].is_some());
    }

    #[test]
    fn the_bound_holds_and_what_is_asked_for_stays() {
        let (kept, of) = (Kept::new(20_000), segment());
        let key = |n: u64| Key::column(Hash::of(&n.to_be_bytes()), 0, 7);
        kept.keep(key(0), column(100), &of);
        for n in 1..1_000 {
            kept.keep(key(n), column(100), &of);
            assert!(kept.get([key(0)].into_iter())[0].is_some(), "{n}");
            assert!(kept.size().1 <= 20_000);
        }
        assert!(kept.get([key(1)].into_iter())[0].is_none());
        let (count, bytes) = kept.size();
        kept.keep(key(5_000), column(100_000), &of);
        assert_eq!(kept.size(), (count, bytes), "one thing never takes most of the room");
    }
}
