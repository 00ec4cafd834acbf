//! The entry with which a stream says that it goes on without the log that it had.
//!
//! Not here: who may start so ([`crate::recover`]), how verifiers see it (`ledger::verify`).
//!
//! Invariant: it is the first entry of its generation in each stream that was there before, written before any
//! request is taken.

use super::{AppendHandle, AppendRequest, Store};
use crate::error::StoreError;
use crate::precheck;
use crate::stream::Stream;
use ledger::checkpoint::StreamHead;
use ledger::draft::{Draft, DraftBuilder, Invalid};
use ledger::field::Field;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The action of such an entry.
const LOG_LOST: &str = "ledger.log_lost";

impl Store {
    /// Appends that entry to streams that lack it. Died during it: the next start appends what is missing.
    ///
    /// # Errors
    /// As [`Store::append`].
    pub(super) async fn declare_lost(&self, broken: Vec<Arc<Stream>>) -> Result<(), StoreError> {
        let (mut open, mut later) = (Vec::new(), Vec::new());
        for stream in broken {
            // Where a key is not at hand, nothing else is taken either before this is said.
            match self.opened(&stream).await {
                Err(StoreError::Key(_)) => later.push(stream),
                opened => opened.map(|()| open.push(stream))?,
            }
        }
        later.iter().for_each(|stream| stream.owes_break.store(true, Ordering::Release));
        self.say_lost(open).await
    }

    /// Whether a stream can be written: its segments and keys are at hand.
    async fn opened(&self, stream: &Stream) -> Result<(), StoreError> {
        precheck::warm(&self.shared, stream).await?;
        stream.use_log_key(&self.shared)
    }

    /// Says so in a stream that owes it, because its key was not at hand at the start.
    ///
    /// # Errors
    /// As [`Store::append`].
    pub(super) async fn pay_break(&self, stream: &Arc<Stream>) -> Result<(), StoreError> {
        if !stream.owes_break.load(Ordering::Acquire) {
            return Ok(());
        }
        self.opened(stream).await?;
        if stream.owes_break.swap(false, Ordering::AcqRel) {
            let said = Box::pin(self.say_lost(vec![Arc::clone(stream)])).await;
            said.inspect_err(|_| stream.owes_break.store(true, Ordering::Release))?;
        }
        Ok(())
    }

    async fn say_lost(&self, broken: Vec<Arc<Stream>>) -> Result<(), StoreError> {
        if broken.is_empty() {
            return Ok(());
        }
        let (log, now) = (self.log_head(), self.shared.ambient.now_micros());
        let mut parts = Vec::with_capacity(broken.len());
        for stream in broken {
            let draft = entry(&stream, &log, now);
            let draft = draft.map_err(|_| StoreError::Invalid("the entry that declares the loss is no event"))?;
            tracing::warn!(tenant = %stream.tenant, stream = %stream.kind, size = stream.head().size,
                generation = stream.origin.generation(), "goes on in a new generation: its log was declared lost");
            parts.push((AppendHandle { shared: Arc::clone(&self.shared), stream }, vec![draft]));
        }
        self.append(AppendRequest { parts, ..Default::default() }).await.map(drop)
    }
}

fn entry(stream: &Stream, log: &StreamHead, now: i64) -> Result<Draft, Invalid> {
    let generation = stream.origin.generation();
    let before = stream.origin.at_generation(stream.view().sealed.generation);
    let head = stream.head();
    let attributes = serde_json::json!({
        "generation": generation,
        "previous": {"origin": before.as_str(), "size": head.size, "root": head.root.to_base64()},
        "store_log": {"size": log.size, "root": log.root.to_base64()},
    });
    let mut builder = DraftBuilder::default();
    for (field, text) in [
        (Field::Tenant, stream.tenant.to_string()),
        (Field::Stream, stream.kind.to_string()),
        (Field::EventId, format!("piperoll-log-lost-{generation}")),
        (Field::Action, LOG_LOST.into()),
        (Field::ActorType, "system".into()),
        (Field::Attributes, attributes.to_string()),
    ] {
        builder.text(field, text)?;
    }
    builder.int(Field::OccurredAt, now)?;
    builder.finish()
}
