//! After a failure of the log: the group that failed is held until the log tells what became of it, and the log is
//! tried again, ever more slowly, until it works.
//!
//! On a disk the group is cut off and its positions are given anew; in the store its object is put again under the
//! same number until it is there. Either way the tree agrees with what is durable before anything else is written,
//! and those who waited were told that they do not know.
//!
//! Not here: the cut and the put ([`crate::wal`]).
//!
//! Invariants: nothing is sequenced while a group is pending; a fenced writer tries nothing again.

use super::{InGroup, Live, Message, Writer};
use crate::error::StoreError;
use crate::log_state::LogState;
use crate::store::StreamKey;
use ledger::group::Group;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// A group that was handed to the log, and what is noted once it is durable.
pub(crate) struct Pending {
    pub group: Group,
    /// For each stream with entries in it, one past the last.
    pub ends: Vec<(StreamKey, u64)>,
    /// Keys of the idempotency facts that are new with it.
    pub facts: Vec<[u8; 32]>,
    /// When the last of its facts expires.
    pub facts_until: i64,
    /// The file whose contents it copies forward.
    pub copied: Option<u64>,
}

impl Pending {
    /// The group of these requests.
    pub(super) fn of(group: Group, members: &[InGroup]) -> Self {
        let facts = || members.iter().filter_map(|member| member.fact.as_ref());
        let runs = members.iter().flat_map(|member| &member.runs);
        Self {
            group,
            ends: runs.map(|(key, first, count)| (key.clone(), first + *count as u64)).collect(),
            facts: facts().map(|fact| fact.key).collect(),
            facts_until: facts().map(|fact| fact.expires).max().unwrap_or_default(),
            copied: None,
        }
    }
}

/// When the log is tried again.
pub(crate) struct Retries {
    /// How often it was tried since it last worked.
    tries: u32,
    runtime: tokio::runtime::Handle,
    back: mpsc::WeakSender<Message>,
}

/// The wait before the first retry; it doubles up to 2^7 times this, some 13 seconds.
const FIRST_WAIT: Duration = Duration::from_millis(100);

impl Retries {
    /// Retries that come back to the writer as messages.
    pub(crate) fn new(runtime: tokio::runtime::Handle, back: mpsc::WeakSender<Message>) -> Self {
        Self { tries: 0, runtime, back }
    }
}

impl Writer {
    /// Holds a group at which the log failed, and answers what those who wait for it are told.
    pub(super) fn fail(&mut self, error: StoreError, pending: Pending) -> StoreError {
        self.pending = Some(pending);
        self.failed(&error)
    }

    /// Takes note that the log failed, and answers what who asks is told.
    pub(super) fn failed(&mut self, error: &StoreError) -> StoreError {
        let state = LogState::after(error);
        tracing::error!(problem = state.problem(), tries = self.retries.tries, "the write-ahead log failed");
        let refusal = state.refusal().unwrap_or(StoreError::LogFailed);
        if !matches!(state, LogState::Fenced { .. }) {
            self.retry_later();
        }
        self.shared.log.set(state);
        refusal
    }

    fn retry_later(&mut self) {
        let longest = FIRST_WAIT * (1 << self.retries.tries.min(7));
        self.retries.tries += 1;
        // Half of the wait is chance, so that services whose shared store failed do not all come back at once.
        let mut random = [0; 2];
        self.shared.ambient.fill_random(&mut random);
        let wait = longest / 2 + longest / 2 * u32::from(u16::from_le_bytes(random)) / u32::from(u16::MAX);
        let back = self.retries.back.clone();
        self.retries.runtime.spawn(async move {
            tokio::time::sleep(wait).await;
            if let Some(writer) = back.upgrade() {
                // A writer that is gone has nothing to reopen.
                let _ = writer.send(Message::Reopen).await;
            }
        });
    }

    /// Tries to make the log usable again.
    pub(super) fn reopen(&mut self) {
        if !matches!(self.shared.log.get(), LogState::Failed { .. }) {
            return;
        }
        match self.log.reopen() {
            Ok(written) => {
                match (self.pending.take(), written) {
                    // It is durable after all. Died from here on: recovery finds it.
                    (Some(pending), Some(written)) => {
                        self.extend_log(&pending, written);
                        self.publish();
                    }
                    (Some(pending), None) => self.roll_back(&pending),
                    (None, _) => {}
                }
                self.retries.tries = 0;
                let state = if self.log.is_full() { LogState::Full } else { LogState::Open };
                tracing::info!(problem = state.problem(), "the write-ahead log was reopened");
                self.shared.log.set(state);
            }
            Err(error) => drop(self.failed(&error)),
        }
    }

    /// Forgets a group that is not in the log: trees and ids are again what readers see.
    fn roll_back(&mut self, pending: &Pending) {
        for live in self.live.values_mut().filter(|live| live.touched) {
            *live = Live::resume(Arc::clone(&live.stream));
        }
        for fact in pending.facts.iter().filter_map(|key| self.facts.remove(key)) {
            self.fact_bytes = self.fact_bytes.saturating_sub(fact.bytes());
        }
    }

    /// Whether a full disk has room again, and whether an idle writer was overtaken.
    pub(super) fn look_after_log(&mut self) {
        if self.shared.log.get() == LogState::Full {
            self.log.refill();
            if !self.log.is_full() {
                tracing::info!("the disk of the write-ahead log has room again");
                self.shared.log.set(LogState::Open);
            }
        }
        if std::mem::replace(&mut self.is_idle, true)
            && self.pending.is_none()
            && let Some(epoch) = self.log.overtaken()
        {
            self.step_down(epoch);
        }
    }

    /// Signs nothing more, because another writer took over.
    pub(super) fn step_down(&mut self, epoch: u64) {
        let fenced = LogState::Fenced { epoch };
        tracing::error!(problem = fenced.problem(), "this writer is fenced");
        self.shared.log.set(fenced);
    }
}
