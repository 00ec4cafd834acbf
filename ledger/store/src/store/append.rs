//! What is asked of a store's writer, and what it answers.

use crate::handle::AppendHandle;
use crate::writer::{RequestKey, Verdict};
use ledger::draft::Draft;

/// What a request appended.
#[derive(Debug)]
pub enum Appended {
    /// Each draft's verdict, part by part.
    Done {
        /// Verdicts, in the order of the drafts.
        verdicts: Vec<Vec<Verdict>>,
        /// The receipt; none when nothing was accepted or found.
        receipt: Option<String>,
    },
    /// The idempotency key was used before with the same body; this is what was remembered.
    Repeated {
        /// The remembered answer.
        answer: Vec<u8>,
        /// A receipt that covers it.
        receipt: Option<String>,
    },
    /// All or nothing was asked for, and these drafts conflict: nothing was appended.
    Refused {
        /// For each draft, the position of the conflicting first, part by part.
        conflicts: Vec<Vec<Option<u64>>>,
    },
}

/// One request: drafts by stream.
#[derive(Default)]
pub struct AppendRequest {
    /// Handles and their drafts; each draft is of its handle's tenant and stream.
    pub parts: Vec<(AppendHandle, Vec<Draft>)>,
    /// Whether a conflict refuses all.
    pub atomic: bool,
    /// The idempotency key.
    pub key: Option<RequestKey>,
    /// How many entries the first part's stream must hold: what the request says was decided by looking at so many.
    pub expects: Option<u64>,
}
