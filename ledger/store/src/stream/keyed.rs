//! What a stream knows of keys: a tail that cannot be opened, and the key that its entries are logged under.
//!
//! Not here: opening it ([`crate::locked`]). Invariant: a tail that was opened takes the place of what was held, once.

use super::{Stream, held};
use crate::entry::Chunk;
use crate::keys::LogKey;
use std::sync::Arc;

impl Stream {
    /// The tail, while it cannot be opened: then it is one chunk.
    pub(crate) fn locked_tail(&self) -> Option<Arc<Chunk>> {
        held(self.state.read()).tail.front().filter(|chunk| chunk.locked.is_some()).cloned()
    }

    /// Puts a tail that was opened in the place of what was held of it.
    pub(crate) fn opened(&self, before: &Arc<Chunk>, now: Arc<Chunk>) {
        let mut state = held(self.state.write());
        // Somebody else may have opened it meanwhile.
        if let Some(front) = state.tail.front_mut().filter(|front| Arc::ptr_eq(front, before)) {
            *front = now;
        }
    }

    /// The key that entries are written to the log under now.
    pub(crate) fn log_key(&self) -> Option<Arc<LogKey>> {
        held(self.log_key.read()).clone()
    }

    /// Sets it.
    pub(crate) fn set_log_key(&self, key: Option<Arc<LogKey>>) {
        *held(self.log_key.write()) = key;
    }
}
