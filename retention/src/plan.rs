//! What goes, what stays and why: of each stream, in entries and bytes.
//!
//! A plan is a pure function of policies, holds, what is sealed, and a moment; made again of the same it is the same, to the
//! byte, and so a plan that was looked at can be carried out by its hash. Segments whose entries all fare alike are not
//! read. Not here: what becomes of one entry ([`crate::judge`]), carrying it out ([`crate::run`]).
//!
//! Invariant: a plan names only entries that are sealed and were not purged.

use crate::judge::{Judge, Verdict};
use ledger::gone;
use ledger::proof::Span;
use ledger::time::format_micros;
use ledger::{Hash, StreamKind, TenantId};
use ledger_store::{EntryFacts, Segment, StoreError, StreamHandle};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) fn shown<T: std::fmt::Display, S: serde::Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// What goes and what stays of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamPlan {
    /// Whose.
    #[serde(serialize_with = "shown")]
    pub tenant: TenantId,
    /// Which stream.
    #[serde(serialize_with = "shown")]
    pub stream: StreamKind,
    /// What goes: first and last sequence number of each range.
    pub goes: Vec<(u64, u64)>,
    /// How many entries go.
    pub entries: u64,
    /// How many bytes of segments that is, in proportion to their entries.
    pub bytes: u64,
    /// When the newest of them was recorded.
    pub newest: Option<String>,
    /// How many entries each policy lets go.
    pub by_policy: BTreeMap<String, u64>,
    /// Entries that are due and stay, because of a hold.
    pub held: BTreeMap<String, Stays>,
    /// Entries that are due and stay, because a policy keeps them for longer.
    pub kept: BTreeMap<String, Stays>,
    /// Segments that go whole, that are rewritten, and that stay as they are.
    pub segments: Touched,
}

/// What stays for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Stays {
    /// How many entries.
    pub entries: u64,
    /// How many bytes of segments that is, in proportion to their entries.
    pub bytes: u64,
}

/// What becomes of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Touched {
    /// Removed whole.
    pub removed: u64,
    /// Rewritten without what goes.
    pub rewritten: u64,
    /// Left as they are.
    pub untouched: u64,
    /// Read to find out.
    pub read: u64,
}

/// What goes and what stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The moment that it is of.
    pub as_of: String,
    /// The entry that changed a policy or hold last.
    pub version: u64,
    /// The tenants that were asked about; all, when there is none.
    pub tenants: Vec<String>,
    /// How many entries go.
    pub entries: u64,
    /// How many bytes of segments.
    pub bytes: u64,
    /// How many entries are due and held.
    pub held: u64,
    /// How many entries are due and kept for longer.
    pub kept: u64,
    /// Streams of which something goes, or is due and stays.
    pub streams: Vec<StreamPlan>,
    /// Streams that could not be read, and why: nothing of them goes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<(String, String)>,
}

impl Plan {
    /// A plan of these streams.
    pub fn of(as_of: i64, version: u64, tenants: &[TenantId], streams: Vec<StreamPlan>) -> Self {
        let sum = |of: &dyn Fn(&StreamPlan) -> u64| streams.iter().map(of).sum();
        let stays = |of: &BTreeMap<String, Stays>| of.values().map(|stays| stays.entries).sum::<u64>();
        Self {
            as_of: format_micros(as_of),
            version,
            tenants: tenants.iter().map(ToString::to_string).collect(),
            entries: sum(&|one| one.entries),
            bytes: sum(&|one| one.bytes),
            held: sum(&|one| stays(&one.held)),
            kept: sum(&|one| stays(&one.kept)),
            streams,
            unread: vec![],
        }
    }

    /// SHA-256 of what it decides: which entries go and which are due and stay, of which moment and policies. How they lie
    /// in segments, which changes by itself, is no part of it.
    pub fn sha256(&self) -> Hash {
        let counts = |stays: &BTreeMap<String, Stays>| -> Vec<(String, u64)> {
            stays.iter().map(|(name, stays)| (name.clone(), stays.entries)).collect()
        };
        let streams: Vec<Value> = self
            .streams
            .iter()
            .map(|one| {
                json!([
                    one.tenant.as_str(),
                    one.stream.as_str(),
                    one.goes,
                    one.by_policy,
                    counts(&one.held),
                    counts(&one.kept)
                ])
            })
            .collect();
        let decided = json!([self.as_of, self.version, self.tenants, streams]);
        Hash::of(decided.to_string().as_bytes())
    }
}

impl Plan {
    /// What goes of one stream.
    pub fn of_stream(&self, (tenant, stream): &(TenantId, StreamKind)) -> Option<&StreamPlan> {
        self.streams.iter().find(|one| one.tenant == *tenant && one.stream == *stream)
    }
}

impl StreamPlan {
    /// Leaves of what goes only what lies in these ranges too.
    pub fn limit_to(&mut self, ranges: &[(u64, u64)]) {
        let mut both = Vec::with_capacity(self.goes.len());
        for (first, last) in &self.goes {
            let from = ranges.partition_point(|range| range.1 < *first);
            let inside = ranges[from..].iter().take_while(|range| range.0 <= *last);
            both.extend(inside.map(|range| (range.0.max(*first), range.1.min(*last))));
        }
        self.goes = both;
    }

    /// Whether there is anything to say of the stream.
    pub fn is_empty(&self) -> bool {
        self.entries == 0 && self.held.is_empty() && self.kept.is_empty()
    }

    /// What goes, as the store takes it.
    pub fn spans(&self) -> Vec<Span> {
        self.goes.iter().map(|(first, last)| Span::new(*first, last + 1)).collect()
    }
}

/// What is counted of one segment.
#[derive(Default)]
struct Counted {
    goes: Vec<Span>,
    by: BTreeMap<usize, u64>,
    held: BTreeMap<usize, u64>,
    kept: BTreeMap<usize, u64>,
    newest: i64,
}

impl Counted {
    fn take(&mut self, verdict: Verdict, entry: &EntryFacts<'_>) {
        match verdict {
            Verdict::Young => {}
            Verdict::Kept(by) => *self.kept.entry(by).or_default() += 1,
            Verdict::Held(by) => *self.held.entry(by).or_default() += 1,
            Verdict::Goes(by) => {
                *self.by.entry(by).or_default() += 1;
                self.newest = self.newest.max(entry.recorded_at);
                match self.goes.last_mut().filter(|last| last.end == entry.seq) {
                    Some(last) => last.end += 1,
                    None => self.goes.push(Span::new(entry.seq, entry.seq + 1)),
                }
            }
        }
    }

    /// All entries of a segment fare as one that was recorded then.
    fn take_all(&mut self, verdict: Verdict, segment: &Segment, newest: i64) {
        let (first, end, rows) = (segment.reference.first, segment.reference.end(), segment.reference.rows);
        let of = match verdict {
            Verdict::Young => return,
            Verdict::Kept(by) => self.kept.entry(by).or_default(),
            Verdict::Held(by) => self.held.entry(by).or_default(),
            Verdict::Goes(by) => {
                self.goes.push(Span::new(first, end));
                self.newest = self.newest.max(newest);
                self.by.entry(by).or_default()
            }
        };
        *of += rows;
    }
}

/// Plans one stream.
///
/// # Errors
/// A segment cannot be read.
pub async fn plan_stream(handle: &StreamHandle, judge: &Judge) -> Result<Option<StreamPlan>, StoreError> {
    let Some(due_before) = judge.due_before() else { return Ok(None) };
    let snapshot = handle.snapshot().await?;
    let mut plan = StreamPlan {
        tenant: snapshot.tenant.clone(),
        stream: snapshot.kind,
        goes: vec![],
        entries: 0,
        bytes: 0,
        newest: None,
        by_policy: BTreeMap::new(),
        held: BTreeMap::new(),
        kept: BTreeMap::new(),
        segments: Touched::default(),
    };
    let (mut goes, mut newest) = (Vec::new(), i64::MIN);
    for segment in &snapshot.segments {
        let bounds = segment.statistics.recorded_at;
        if bounds.is_some_and(|(oldest, _)| oldest > due_before) {
            plan.segments.untouched += 1;
            continue;
        }
        let mut counted = Counted::default();
        match alike(judge, segment) {
            Some((verdict, newest)) => counted.take_all(verdict, segment, newest),
            None => {
                plan.segments.read += 1;
                handle.facts(segment, |entry| counted.take(judge.verdict(&entry), &entry)).await?;
            }
        }
        let entries: u64 = counted.by.values().sum();
        let (rows, bytes) = (segment.reference.rows.max(1), segment.reference.bytes);
        let share = |entries: u64| (u128::from(bytes) * u128::from(entries) / u128::from(rows)) as u64;
        match entries {
            0 => plan.segments.untouched += 1,
            all if all == segment.reference.rows => plan.segments.removed += 1,
            _ => plan.segments.rewritten += 1,
        }
        plan.entries += entries;
        plan.bytes += share(entries);
        for (by, entries) in counted.by {
            *plan.by_policy.entry(judge.policies()[by].policy.clone()).or_default() += entries;
        }
        let add = |of: &mut Stays, entries: u64| {
            of.entries += entries;
            of.bytes += share(entries);
        };
        for (by, entries) in counted.held {
            add(plan.held.entry(judge.holds()[by].0.to_string()).or_default(), entries);
        }
        for (by, entries) in counted.kept {
            add(plan.kept.entry(judge.policies()[by].policy.clone()).or_default(), entries);
        }
        newest = newest.max(counted.newest);
        goes.extend(counted.goes);
    }
    plan.goes = gone::union(&goes, &[]).iter().map(|span| (span.start, span.end - 1)).collect();
    plan.newest = (plan.entries > 0).then(|| format_micros(newest));
    Ok((!plan.is_empty()).then_some(plan))
}

/// What becomes of all entries of a segment, when it is the same of the oldest and of the newest and nothing else counts.
fn alike(judge: &Judge, segment: &Segment) -> Option<(Verdict, i64)> {
    let is_plain = judge.is_uniform() && segment.reference.is_whole();
    let (oldest, newest) = segment.statistics.recorded_at.filter(|_| is_plain)?;
    let at = |recorded_at: i64| {
        let (seq, occurred_at, action) = (segment.reference.first, recorded_at, "");
        let (class, actor, on_behalf_of, resource) = Default::default();
        judge.verdict(&EntryFacts { seq, recorded_at, occurred_at, action, class, actor, on_behalf_of, resource })
    };
    (at(oldest) == at(newest)).then(|| (at(newest), newest))
}
