//! The writer: one thread per store that sequences, logs, syncs, signs and publishes, group by group.
//!
//! [`Writer::commit`] is the commit, top to bottom. Not here: admission (`ingest`), looking for sealed
//! originals ([`crate::precheck`]), sealing ([`crate::seal`]), the log's files ([`crate::wal`]).
//!
//! Invariants: positions of a stream are given in order and without gaps; nothing is signed, shown or
//! acknowledged before it is durable; no two signed heads of the store log disagree; after a failure of the log
//! nothing is accepted until it is reopened ([`reopen`]), and nothing ever again once another writer took over.

mod live;
mod reopen;
mod trim;

pub(crate) use live::{Live, Own};
pub(crate) use reopen::Retries;
pub(crate) use trim::LogUse;

use crate::entry::Chunk;
use crate::error::StoreError;
use crate::limits::{GROUP_BYTES, IDEMPOTENCY_BYTES};
use crate::precheck::Known;
use crate::seal::SealJob;
use crate::store::{LogHead, Shared, StreamKey};
use crate::stream::Stream;
use crate::wal::{Batch, Fact, GroupFrame, Log, Part, Run, Written};
use ledger::checkpoint::StreamHead;
use ledger::draft::Draft;
use ledger::group::Group;
use ledger::leaf::{Commitments, Seed};
use ledger::receipt::{Covered, Receipt};
use ledger::tree::{Edge, Hash};
use reopen::Pending;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{mpsc, oneshot};

/// A draft that is ready to be sequenced.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub draft: Draft,
    pub seed: Seed,
    pub index: u32,
    pub commitments: Commitments,
    pub fingerprint: u64,
    /// Its sealed original, if the look before found one.
    pub known: Option<Known>,
}

/// The drafts of one request for one stream.
#[derive(Debug)]
pub(crate) struct SubmittedPart {
    pub stream: Arc<Stream>,
    /// Through where the look for sealed originals went.
    pub checked_through: u64,
    pub drafts: Vec<Prepared>,
}

/// What happened to one draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is in the ledger, at this position.
    Accepted(u64),
    /// It was in the ledger already, at this position, with the same content.
    Duplicate(u64),
    /// Its id is in the ledger at this position, with other content.
    Conflict(u64),
}

/// Makes the bytes that are remembered under an idempotency key.
pub type Encode = Box<dyn FnOnce(&[Vec<Verdict>]) -> Vec<u8> + Send>;

/// An idempotency key and what is remembered under it.
pub struct RequestKey {
    /// Hash of principal and key.
    pub key: [u8; 32],
    /// Hash of the request's body.
    pub body: [u8; 32],
    /// Makes the answer to be remembered.
    pub encode: Encode,
}

/// One request on its way to the writer.
pub(crate) struct Submission {
    pub parts: Vec<SubmittedPart>,
    pub atomic: bool,
    pub key: Option<RequestKey>,
    pub expects: Option<u64>,
    pub bytes: usize,
    pub reply: oneshot::Sender<Result<Reply, StoreError>>,
}

/// What the writer answers.
pub(crate) enum Reply {
    /// Sequenced and durable.
    Done { verdicts: Vec<Vec<Verdict>>, receipt: Option<String> },
    /// The key was used before; this is what was remembered.
    Repeated { answer: Vec<u8>, receipt: Option<String> },
    /// All or nothing was asked for, and some draft conflicts: nothing was sequenced.
    Refused { verdicts: Vec<Vec<Option<Known>>> },
    /// A seal went by since the look for originals, or a seed was retired; look again.
    LookAgain(Vec<SubmittedPart>, Option<RequestKey>),
}

/// What else the writer is told.
pub(crate) enum Message {
    Submit(Submission),
    /// A stream was sealed through this position; its fingerprints are no longer the writer's to know.
    Sealed {
        stream: Arc<Stream>,
        through: u64,
    },
    /// A seal failed and may be tried again.
    SealFailed(Arc<Stream>),
    /// A seal that nobody waits for failed; it is tried again once some time has passed.
    SealLater(Arc<Stream>),
    /// The store log was flushed up to this size.
    LogFlushed(u64),
    /// Try to make the log usable again.
    Reopen,
    /// Another writer took the store over with this epoch.
    Overtaken(u64),
    /// No entry of the stream may have one of these seeds from here on; answered when those that have are published.
    Retire {
        stream: Arc<Stream>,
        seeds: HashSet<Seed>,
        done: oneshot::Sender<()>,
    },
    /// Content was taken away for good: what is in the log goes too, as soon as it stands elsewhere.
    Clear,
    /// Time has passed.
    Tick,
    /// Stop after what is queued; answered when the log is closed.
    Stop(oneshot::Sender<()>),
}

/// The writer's own state; nobody else changes it.
pub(crate) struct Writer {
    pub shared: Arc<Shared>,
    pub log: Log,
    pub log_edge: Edge,
    pub epoch: u64,
    pub live: HashMap<StreamKey, Live>,
    pub facts: HashMap<[u8; 32], Fact>,
    pub fact_bytes: usize,
    pub log_use: BTreeMap<u64, LogUse>,
    pub unflushed: Vec<Hash>,
    pub flushed: u64,
    pub flushing: bool,
    pub seals: mpsc::UnboundedSender<SealJob>,
    pub clock: crate::ambient::LeapWatch,
    /// Streams whose seal failed, until the next tick.
    pub resting: Vec<Arc<Stream>>,
    /// The group at which the log failed.
    pub pending: Option<Pending>,
    pub retries: Retries,
    /// Whether nothing was written since the last tick.
    pub is_idle: bool,
    /// Bytes that requests brought less those that were copied forward.
    pub copy_credit: i64,
    /// Seeds that no entry may have any more: the salts that they give are known to nobody.
    pub retired: HashMap<StreamKey, HashSet<Seed>>,
    /// The newest file that is to go as soon as what it holds stands elsewhere, however little the log holds.
    pub clear_through: Option<u64>,
}

/// A submission of the group being made, with what it will be answered.
struct InGroup {
    reply: oneshot::Sender<Result<Reply, StoreError>>,
    origins: Vec<String>,
    outcome: Outcome,
    /// For each part that brought entries: stream, first position, how many.
    runs: Vec<(StreamKey, u64, usize)>,
    fact: Option<Fact>,
}

enum Outcome {
    Done(Vec<Vec<Verdict>>),
    Repeated(Vec<u8>),
    Refused(Vec<Vec<Option<Known>>>),
}

impl Writer {
    /// Runs until told to stop, and answers whom to tell that it has. After a failure of the log it answers
    /// every request with that failure.
    pub(crate) fn run(mut self, mut messages: mpsc::Receiver<Message>) -> Option<oneshot::Sender<()>> {
        while let Some(first) = messages.blocking_recv() {
            let mut group = Vec::new();
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Submit(submission) => {
                        bytes += submission.bytes;
                        group.push(submission);
                    }
                    Message::Stop(done) => {
                        self.commit_or_fail(group);
                        return Some(done);
                    }
                    other => self.note(other),
                }
                next = if bytes < GROUP_BYTES { messages.try_recv().ok() } else { None };
            }
            self.commit_or_fail(group);
            self.after_group();
        }
        None
    }

    fn commit_or_fail(&mut self, group: Vec<Submission>) {
        if group.is_empty() {
            return;
        }
        let state = self.shared.log.get();
        let mut accepted = Vec::with_capacity(group.len());
        for submission in group {
            match state.refusal_of(submission.parts.iter().map(|part| part.stream.kind)) {
                Some(error) => drop(submission.reply.send(Err(error))),
                None => accepted.push(submission),
            }
        }
        let group = accepted;
        if let Some(error) = self.clock.check(self.shared.ambient.as_ref()) {
            self.shared.leapt.store(true, Ordering::Release);
            group.into_iter().for_each(|submission| drop(submission.reply.send(Err(error.again()))));
            return;
        }
        self.commit(group);
    }

    /// The commit. Each step says what is true if the process dies right after it.
    fn commit(&mut self, submissions: Vec<Submission>) {
        let now = self.shared.ambient.now_micros();
        self.copy_credit += submissions.iter().map(|submission| submission.bytes as i64).sum::<i64>();
        // 1. Sequence: drop repeats, stamp, hash, extend the trees. Died: all of it was memory, nobody was
        //    told; whoever asked asks again.
        let group: Vec<InGroup> = submissions.into_iter().filter_map(|s| self.sequence(s, now)).collect();
        let heads = self.touched_heads(&group);
        if heads.is_empty() && group.iter().all(|member| member.fact.is_none()) {
            group.into_iter().for_each(|member| member.answer(None));
            return;
        }
        let moved = Group::new(heads);
        // 2. Log and sync: one write, one fsync or one put for all. Died during it: a torn group, which reading
        //    cuts away, or a whole one, which recovery keeps; nobody was told either way. Where it only failed,
        //    what became of it is found out before anything else is written.
        let pending = Pending::of(moved, &group);
        let written = match self.write_group(&group, &pending) {
            Ok(written) => written,
            Err(error) => {
                let refusal = self.fail(error, pending);
                group.into_iter().for_each(|member| drop(member.reply.send(Err(refusal.again()))));
                return;
            }
        };
        // 3. Extend the store log and sign its head. Died: the group is durable, and recovery signs the very
        //    same head, because it finds the very same groups.
        let path: Vec<Hash> = self.log_edge.nodes().iter().rev().copied().collect();
        let log_index = self.log_edge.size();
        let checkpoint = self.extend_log(&pending, written);
        // 4. Publish: from here on queries and proofs show it. Died: recovery shows it.
        self.publish();
        // 5. Answer. Died before it: whoever asked asks again and is told the positions of now.
        let covered = Covered {
            durability: self.shared.durability,
            epoch: self.epoch,
            group: &pending.group,
            log_index,
            path: &path,
            checkpoint: &checkpoint,
        };
        group.into_iter().for_each(|member| member.answer(Some(&covered)));
    }

    /// Appends a durable group to the store log, notes what its file holds, and signs the new head.
    fn extend_log(&mut self, pending: &Pending, written: Written) -> String {
        let leaf = pending.group.log_leaf(self.shared.durability, self.epoch);
        self.log_edge.push(leaf);
        self.unflushed.push(leaf);
        self.is_idle = false;
        let held = self.log_use.entry(written.file).or_default();
        pending.ends.iter().for_each(|(key, end)| held.holds(key, *end));
        held.facts_until = held.facts_until.max(pending.facts_until);
        held.groups_end = self.log_edge.size();
        if let Some(old) = pending.copied.and_then(|file| self.log_use.get_mut(&file)) {
            old.streams.clear();
            old.facts_until = 0;
        }
        self.sign_log_head()
    }

    fn sequence(&mut self, submission: Submission, now: i64) -> Option<InGroup> {
        let Submission { parts, atomic, key, expects, reply, .. } = submission;
        let origins: Vec<String> = parts.iter().map(|part| part.stream.origin.to_string()).collect();
        for part in &parts {
            Live::of(&mut self.live, &part.stream);
        }
        if let Some(used) = key.as_ref().and_then(|key| self.facts.get(&key.key)) {
            if key.is_some_and(|key| key.body != used.body) {
                let _ = reply.send(Err(StoreError::KeyReused));
                return None;
            }
            let outcome = Outcome::Repeated(used.answer.clone());
            parts.iter().for_each(|part| Live::of(&mut self.live, &part.stream).touched = true);
            return Some(InGroup { reply, origins, outcome, runs: vec![], fact: None });
        }
        // Compared with what is sequenced, durable or not: what is decided next must know it too.
        if let (Some(expected), Some(part)) = (expects, parts.first()) {
            let found = Live::of(&mut self.live, &part.stream).edge.size();
            if found != expected {
                let _ = reply.send(Err(StoreError::Moved { expected, found }));
                return None;
            }
        }
        if key.is_some() && self.fact_bytes > IDEMPOTENCY_BYTES {
            let _ =
                reply.send(Err(StoreError::Busy("too many idempotency keys are remembered; send without, or later")));
            return None;
        }
        let was_sealed =
            parts.iter().any(|part| part.checked_through < Live::of(&mut self.live, &part.stream).sealed_through);
        if was_sealed || parts.iter().any(|part| self.has_retired(part)) {
            let _ = reply.send(Ok(Reply::LookAgain(parts, key)));
            return None;
        }
        if atomic {
            let known = self.look(&parts);
            if known.iter().flatten().any(|known| matches!(known, Some(Known::Other(_)))) {
                // Answered with the group: what it names may become durable only with it.
                return Some(InGroup { reply, origins, outcome: Outcome::Refused(known), runs: vec![], fact: None });
            }
        }
        let mut verdicts = Vec::with_capacity(parts.len());
        let mut runs = Vec::new();
        for part in parts {
            let stream_key = StreamKey::of(&part.stream);
            let live = Live::of(&mut self.live, &part.stream);
            let first = live.edge.size();
            verdicts.push(live.sequence(part.drafts, now));
            let count = (live.edge.size() - first) as usize;
            if count > 0 {
                runs.push((stream_key, first, count));
            }
        }
        let fact = key.map(|key| self.remember(key, &verdicts, now));
        Some(InGroup { reply, origins, outcome: Outcome::Done(verdicts), runs, fact })
    }

    fn has_retired(&self, part: &SubmittedPart) -> bool {
        let seeds = if self.retired.is_empty() { None } else { self.retired.get(&StreamKey::of(&part.stream)) };
        seeds.is_some_and(|seeds| part.drafts.iter().any(|draft| seeds.contains(&draft.seed)))
    }

    /// What is known of a request's drafts before any is sequenced, repeats among themselves included, also
    /// when two parts are of one stream.
    fn look(&mut self, parts: &[SubmittedPart]) -> Vec<Vec<Option<Known>>> {
        let mut own: HashMap<StreamKey, Own<'_>> = HashMap::new();
        let each = parts.iter().map(|part| {
            let live = Live::of(&mut self.live, &part.stream);
            live.look(&part.drafts, own.entry(StreamKey::of(&part.stream)).or_default())
        });
        each.collect()
    }

    fn remember(&mut self, key: RequestKey, verdicts: &[Vec<Verdict>], now: i64) -> Fact {
        let expires = now + self.shared.limits.idempotency_window.as_micros() as i64;
        let fact = Fact { key: key.key, body: key.body, expires, answer: (key.encode)(verdicts) };
        self.fact_bytes += fact.bytes();
        self.facts.insert(fact.key, fact.clone());
        fact
    }

    fn touched_heads(&self, group: &[InGroup]) -> Vec<StreamHead> {
        let origins: BTreeSet<&str> = group.iter().flat_map(|member| &member.origins).map(String::as_str).collect();
        let touched = self.live.values().filter(|live| live.touched && origins.contains(live.stream.origin.as_str()));
        // A stream that nothing was ever accepted for has no head to speak of.
        touched.map(Live::head).filter(|head| head.size > 0).collect()
    }

    fn write_group(&mut self, group: &[InGroup], pending: &Pending) -> Result<Written, StoreError> {
        for member in group {
            let keys: Vec<_> = member.runs.iter().map(|(key, ..)| self.live[key].stream.log_key()).collect();
            let parts = member.runs.iter().zip(&keys).map(|((key, first, count), log_key)| {
                let live = &self.live[key];
                let at = (first - live.open_first) as usize;
                let entries = live.open[at..at + count].iter().collect();
                let run = Run::of(entries, log_key.as_deref());
                Part { tenant: &live.stream.tenant, kind: live.stream.kind, first: *first, run }
            });
            let batch = Batch { facts: member.fact.iter().collect(), parts: parts.collect() };
            if !batch.parts.is_empty() || !batch.facts.is_empty() {
                self.log.add(&batch);
            }
        }
        self.append_group(pending.group.heads())
    }

    fn append_group(&mut self, heads: &[StreamHead]) -> Result<Written, StoreError> {
        let previous = self.log.last_end();
        let current = self.log.current_file();
        let frame = GroupFrame {
            index: self.log_edge.size(),
            epoch: self.epoch,
            previous_file: previous.file,
            previous_offset: previous.offset,
            previous_root: self.log_edge.root(),
            oldest: self.log_use.first_key_value().map_or(current, |(file, _)| current.min(*file)),
            heads: heads.iter().map(|head| (head.origin.clone(), head.size, head.root)).collect(),
        };
        self.log.commit_group(&frame)
    }

    fn sign_log_head(&self) -> String {
        let origin = self.shared.log_origin.to_string();
        let head = StreamHead { origin, size: self.log_edge.size(), root: self.log_edge.root() };
        let checkpoint = head.sign(&self.shared.signing.now().all());
        self.shared.set_log_head(LogHead { head, checkpoint: checkpoint.clone() });
        checkpoint
    }

    fn publish(&mut self) {
        for live in self.live.values_mut().filter(|live| live.touched) {
            live.touched = false;
            if live.open.is_empty() {
                continue;
            }
            let first = std::mem::replace(&mut live.open_first, live.edge.size());
            let chunk = Arc::new(Chunk::new(first, std::mem::take(&mut live.open)));
            self.shared.unsealed_bytes.fetch_add(chunk.bytes, Ordering::Relaxed);
            live.chunks.insert(first, Arc::clone(&chunk));
            live.stream.publish(chunk, live.edge.clone());
        }
    }
}

impl InGroup {
    fn answer(self, covered: Option<&Covered<'_>>) {
        let receipt = covered.map(|covered| Receipt::of(covered, self.origins.iter().map(String::as_str)));
        let receipt = receipt.filter(|receipt| !receipt.is_empty()).map(|receipt| receipt.to_text());
        let reply = match self.outcome {
            Outcome::Done(verdicts) => Reply::Done { verdicts, receipt },
            Outcome::Repeated(answer) => Reply::Repeated { answer, receipt },
            Outcome::Refused(verdicts) => Reply::Refused { verdicts },
        };
        let _ = self.reply.send(Ok(reply));
    }
}
