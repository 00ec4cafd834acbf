//! Heads kept elsewhere: the writer's side, which puts signed notes into a second store.
//!
//! Not here: the note's text (`ledger::heads`), reading notes back ([`crate::fsck`]), when it is time (`src/`).
//!
//! Invariants: notes are created and never replaced or deleted, so no permission to delete is needed there; what a
//! note says was durable before it was signed; a stream that moved is in a note before it counts as kept.

use crate::error::StoreError;
use crate::layout;
use crate::recover::flushed_log;
use crate::store::{Shared, Store};
use ledger::checkpoint::StreamHead;
use ledger::heads::KeptHeads;
use object_store::{Error, ObjectStore, PutMode, PutOptions};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

/// Streams of one note: at some 150 bytes a line and two lines a stream, a note stays below its 4 MiB.
const STREAMS_OF_A_NOTE: usize = 8_192;

/// How far a stream was: durable and sealed.
type Sizes = (u64, u64);

/// Puts the heads of one store into another.
pub struct HeadKeeper {
    elsewhere: Arc<dyn ObjectStore>,
    kept: HashMap<String, Sizes>,
    /// The store log's size in the last note.
    log: Option<u64>,
}

/// A stream's heads at one moment.
struct Moved {
    durable: StreamHead,
    sealed: StreamHead,
}

impl HeadKeeper {
    /// A keeper that has put nothing yet: its first note holds every stream.
    pub fn new(elsewhere: Arc<dyn ObjectStore>) -> Self {
        Self { elsewhere, kept: HashMap::new(), log: None }
    }

    /// Puts what moved since the last time, and answers how many streams that were.
    ///
    /// # Errors
    /// One of the stores failed; what was not put is put the next time.
    pub async fn keep(&mut self, store: &Store) -> Result<usize, StoreError> {
        let result = self.put_moved(store.shared()).await;
        let outcome = if result.is_ok() { "ok" } else { "failed" };
        metrics::counter!("piperoll_heads_kept_total", "outcome" => outcome).increment(1);
        result
    }

    async fn put_moved(&mut self, shared: &Shared) -> Result<usize, StoreError> {
        // The log before the streams: what a stream shows beyond it is durable too, and in a later head.
        let log = shared.log_head.read().unwrap_or_else(PoisonError::into_inner).head.clone();
        let moved = self.moved(shared);
        if log.size == 0 || (moved.is_empty() && self.log == Some(log.size)) {
            return Ok(0);
        }
        let (size, edge) = flushed_log(shared).await?;
        let flushed = (size > 0).then(|| (size, edge.root()));
        let count = moved.len();
        let mut notes: Vec<Vec<Moved>> = Vec::new();
        let mut moved = moved.into_iter().peekable();
        // One at least: the store log moved.
        while notes.is_empty() || moved.peek().is_some() {
            notes.push(moved.by_ref().take(STREAMS_OF_A_NOTE).collect());
        }
        for streams in notes {
            let time = shared.ambient.now_micros();
            let sealed = streams.iter().map(|stream| &stream.sealed).filter(|head| head.size > 0).cloned().collect();
            let durable = streams.iter().map(|stream| stream.durable.clone()).collect();
            let note = KeptHeads { time, log: log.clone(), flushed, durable, sealed };
            // Died before it: the next start puts every stream's heads.
            self.put(shared, &note).await?;
            for stream in streams {
                self.kept.insert(stream.durable.origin, (stream.durable.size, stream.sealed.size));
            }
        }
        self.log = Some(log.size);
        Ok(count)
    }

    /// The streams that are not as they were when they were kept, ascending by origin.
    fn moved(&self, shared: &Shared) -> Vec<Moved> {
        let streams = shared.streams.read().unwrap_or_else(PoisonError::into_inner);
        let mut moved: Vec<Moved> = streams
            .values()
            .map(|stream| {
                let (origin, view) = (stream.origin.to_string(), stream.view());
                let head =
                    |edge: &ledger::tree::Edge, origin| StreamHead { origin, size: edge.size(), root: edge.root() };
                Moved { durable: head(&view.edge, origin.clone()), sealed: head(&view.sealed.edge, origin) }
            })
            .filter(|stream| {
                let sizes = (stream.durable.size, stream.sealed.size);
                stream.durable.size > 0 && self.kept.get(&stream.durable.origin) != Some(&sizes)
            })
            .collect();
        moved.sort_by(|a, b| a.durable.origin.cmp(&b.durable.origin));
        moved
    }

    /// Puts a note under the first number that is free at this size of the store log.
    async fn put(&self, shared: &Shared, note: &KeptHeads) -> Result<(), StoreError> {
        let signed = note.sign(&shared.signing.now().all());
        for number in 0.. {
            let path = layout::kept_heads(&shared.ledger, &shared.log_origin, note.log.size, number);
            let options = PutOptions::from(PutMode::Create);
            match self.elsewhere.put_opts(&path, signed.clone().into(), options).await {
                Err(Error::AlreadyExists { .. }) => {}
                put => return put.map(drop).map_err(StoreError::objects(&path)),
            }
        }
        Ok(())
    }
}
