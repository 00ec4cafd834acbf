//! After a group: which streams to seal, when to flush the store log, which log files (or runs of objects) may go.
//!
//! Not here: sealing and flushing themselves ([`crate::seal`]), which run on their own thread.
//!
//! Invariant: a log file is deleted only when each of its entries is in a committed segment or in a later
//! log file, its idempotency facts have expired or been copied, and its groups are in the flushed store log.
//! No more bytes are copied forward than requests brought: what is kept may be more than the log is to hold, and
//! would be copied round and round.

use super::reopen::Pending;
use super::{Live, Message, Writer};
use crate::limits::{GROUP_BYTES, OLD_SEALS, WORTH_A_SEGMENT};
use crate::log_state::LogState;
use crate::seal::SealJob;
use crate::store::StreamKey;
use crate::stream::Stream;
use crate::wal::{Batch, Part};
use ledger::group::Group;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What one log file holds that may be nowhere else.
#[derive(Debug, Default)]
pub(crate) struct LogUse {
    /// For each stream, one past the last position in the file.
    pub streams: HashMap<StreamKey, u64>,
    /// When the last of its idempotency facts expires, in microseconds.
    pub facts_until: i64,
    /// The store log's size after its last group.
    pub groups_end: u64,
}

impl LogUse {
    /// Notes that the file holds a stream's entries up to `end`.
    pub(crate) fn holds(&mut self, key: &StreamKey, end: u64) {
        match self.streams.get_mut(key) {
            Some(known) => *known = end.max(*known),
            None => drop(self.streams.insert(key.clone(), end)),
        }
    }
}

impl Writer {
    /// Takes note of what other threads did.
    pub(super) fn note(&mut self, message: Message) {
        match message {
            Message::Sealed { stream, through } => {
                if let Some(live) = self.live.get_mut(&StreamKey::of(&stream)) {
                    live.sealed(through);
                }
                stream.sealing.store(false, Ordering::Release);
                self.clear();
            }
            Message::SealFailed(stream) => stream.sealing.store(false, Ordering::Release),
            Message::SealLater(stream) => self.resting.push(stream),
            Message::LogFlushed(size) => {
                let done = size.saturating_sub(self.flushed) as usize;
                self.unflushed.drain(..done.min(self.unflushed.len()));
                self.flushed = self.flushed.max(size);
                self.flushing = false;
                self.clear();
            }
            Message::Retire { stream, seeds, done } => {
                self.retired.entry(StreamKey::of(&stream)).or_default().extend(seeds);
                let _ = done.send(());
            }
            Message::Clear => {
                self.clear_through = self.log_use.last_key_value().map(|(file, _)| *file);
                self.clear();
            }
            Message::Tick => {
                // A clock that drifts while nothing comes in must not look like one that leapt.
                let leapt = self.clock.check(self.shared.ambient.as_ref()).is_some();
                self.shared.leapt.store(leapt, Ordering::Release);
                self.resting.drain(..).for_each(|stream| stream.sealing.store(false, Ordering::Release));
                self.seal_old();
                self.look_after_log();
                self.clear();
            }
            Message::Reopen => self.reopen(),
            Message::Overtaken(epoch) => self.step_down(epoch),
            Message::Submit(_) | Message::Stop(_) => {}
        }
    }

    /// Keeps memory and log within their bounds.
    pub(super) fn after_group(&mut self) {
        let state = self.shared.log.get();
        if state.refusal().is_some() {
            return;
        }
        if let Some(error) = self.log.unbegun() {
            self.failed(&error);
            return;
        }
        self.seal_large();
        let limit = self.shared.limits.log_files;
        // What is copied forward would use up the reserve of a full disk.
        if self.log_use.len() > limit && state == LogState::Open {
            self.relieve_oldest();
        }
        self.trim();
        self.clear();
    }

    /// Goes on with emptying the log as far as it was asked for.
    fn clear(&mut self) {
        let Some(through) = self.clear_through else { return };
        if self.pending.is_some() || self.shared.log.get() != LogState::Open {
            return;
        }
        // Only a log that stands may go on in another file: what a failed group left is cut first.
        if self.log.current_file() <= through {
            self.log.turn_over();
        }
        if self.log_use.first_key_value().is_some_and(|(file, _)| *file <= through) {
            self.relieve_oldest();
            self.trim();
        }
        if self.log_use.first_key_value().is_none_or(|(file, _)| *file > through) {
            self.clear_through = None;
        }
    }

    fn seal(&self, stream: &Arc<Stream>) {
        if stream.tail_bytes() > 0 && !stream.is_locked() && !stream.sealing.swap(true, Ordering::AcqRel) {
            let _ = self.seals.send(SealJob::Stream { stream: Arc::clone(stream), epoch: self.epoch });
        }
    }

    /// By bytes first; when all streams together hold too much, the largest.
    fn seal_large(&self) {
        let limits = &self.shared.limits;
        let mut rest: Vec<(usize, &Arc<Stream>)> = Vec::new();
        let over = self.shared.unsealed_bytes.load(Ordering::Relaxed) > limits.unsealed_bytes;
        for live in self.live.values() {
            let bytes = live.stream.tail_bytes();
            if bytes >= limits.seal_bytes {
                self.seal(&live.stream);
            } else if over && bytes > 0 {
                rest.push((bytes, &live.stream));
            }
        }
        if over {
            rest.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
            let mut excess = self.shared.unsealed_bytes.load(Ordering::Relaxed) / 4;
            for (bytes, stream) in rest {
                self.seal(stream);
                excess = excess.saturating_sub(bytes);
                if excess == 0 {
                    break;
                }
            }
        }
    }

    /// By age last.
    fn seal_old(&mut self) {
        let now = self.shared.ambient.now_micros();
        let age = self.shared.limits.seal_age.as_micros() as i64;
        let is_old = |live: &&Live| live.stream.oldest_unsealed().is_some_and(|oldest| now - oldest > age);
        let waits = |live: &&Live| !live.stream.sealing.load(Ordering::Acquire);
        for live in self.live.values().filter(waits).filter(is_old).take(OLD_SEALS) {
            self.seal(&live.stream);
        }
        let expired = self.facts.extract_if(|_, fact| fact.expires < now);
        let freed: usize = expired.map(|(_, fact)| fact.bytes()).sum();
        self.fact_bytes = self.fact_bytes.saturating_sub(freed);
        self.live.retain(|_, live| !live.chunks.is_empty() || !live.open.is_empty() || live.touched);
    }

    /// Frees the oldest log file: streams worth a segment are sealed; the rest is copied forward.
    fn relieve_oldest(&mut self) {
        let current = self.log.current_file();
        let Some((&file, held)) = self.log_use.first_key_value().filter(|(file, _)| **file < current) else { return };
        let mut small = Vec::new();
        for (key, end) in &held.streams {
            let Some(live) = self.live.get(key).filter(|live| live.sealed_through < *end) else { continue };
            // What cannot be opened cannot be sealed, however much it is.
            let is_large = live.stream.tail_bytes() >= WORTH_A_SEGMENT && !live.stream.is_locked();
            if is_large || live.stream.sealing.load(Ordering::Acquire) {
                self.seal(&live.stream);
                // The file goes when that seal is done; copying a part of it now would be for nothing.
                return;
            }
            small.push((key.clone(), *end));
        }
        if self.flushed < held.groups_end {
            self.flush_log();
            return;
        }
        if self.copy_credit >= 0 {
            self.copy_forward(file, &small);
        }
    }

    /// Writes entries and facts of a file that is to go into the newest one. Died during it: the old file
    /// still has them. Died after it: both have them, and recovery takes each position once.
    fn copy_forward(&mut self, file: u64, small: &[(StreamKey, u64)]) {
        let now = self.shared.ambient.now_micros();
        let mut batch = Batch::default();
        let (mut ends, mut bytes, mut all) = (Vec::new(), 0, 0);
        let keys: Vec<_> = small.iter().map(|(key, _)| self.live.get(key)?.stream.log_key()).collect();
        for ((key, end), log_key) in small.iter().zip(&keys) {
            let Some(live) = self.live.get(key) else { continue };
            for (first, run, takes) in live.unsealed_below(*end, log_key.as_deref()) {
                ends.push((key.clone(), first + run.len() as u64));
                bytes += takes;
                batch.parts.push(Part { tenant: &live.stream.tenant, kind: live.stream.kind, first, run });
            }
            // Many small streams together may be more than one frame is read back with.
            if bytes > GROUP_BYTES {
                self.log.add(&std::mem::take(&mut batch));
                all += std::mem::take(&mut bytes);
            }
        }
        let until = self.log_use.get(&file).map_or(0, |held| held.facts_until);
        if until > now {
            batch.facts = self.facts.values().filter(|fact| fact.expires <= until && fact.expires > now).collect();
        }
        all += bytes + batch.facts.iter().map(|fact| fact.bytes()).sum::<usize>();
        self.copy_credit -= all as i64;
        self.log.add(&batch);
        let heads: Vec<_> = small.iter().filter_map(|(key, _)| self.live.get(key)).map(|live| live.head()).collect();
        let pending = Pending { group: Group::new(heads), ends, facts: vec![], facts_until: until, copied: Some(file) };
        match self.append_group(pending.group.heads()) {
            Ok(written) => drop(self.extend_log(&pending, written)),
            Err(error) => drop(self.fail(error, pending)),
        }
    }

    /// Deletes log files from the oldest on, as far as all they hold stands elsewhere.
    fn trim(&mut self) {
        let now = self.shared.ambient.now_micros();
        while let Some((&file, held)) = self.log_use.first_key_value() {
            let sealed =
                |(key, end): (&StreamKey, &u64)| self.live.get(key).is_none_or(|live| live.sealed_through >= *end);
            if file >= self.log.current_file() || !held.streams.iter().all(sealed) || held.facts_until > now {
                return;
            }
            if self.flushed < held.groups_end {
                self.flush_log();
                return;
            }
            let next = self.log_use.keys().nth(1).map_or(self.log.current_file(), |next| *next);
            // Died before the deletion: recovery finds entries that are sealed already and skips them.
            if let Err(error) = self.log.release(file..next) {
                tracing::warn!(error = &error as &dyn std::error::Error, "a log file that is no longer needed stays");
                return;
            }
            self.log_use.remove(&file);
        }
    }

    fn flush_log(&mut self) {
        if !self.flushing && !self.unflushed.is_empty() {
            self.flushing = true;
            let leaves = self.unflushed.clone();
            let _ = self.seals.send(SealJob::FlushLog { from: self.flushed, leaves, edge: self.log_edge.clone() });
        }
    }
}
