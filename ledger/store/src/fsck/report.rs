//! What a check found: of each stream how far it holds, and what does not.
//!
//! Not here: finding it ([`super`]), printing it (the program). Invariant: a finding names an object and what to do.

use ledger::checkpoint::StreamHead;
use ledger::name::{StreamKind, TenantId};
use ledger::tree::Hash;

/// Something that does not hold, or that a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The object, or the stream's folder when it is about no single object.
    pub object: String,
    /// Sequence numbers concerned, first and last.
    pub entries: Option<(u64, u64)>,
    /// What is wrong, in a person's words.
    pub what: String,
    /// What is sound all the same; empty when there is nothing to say.
    pub sound: String,
    /// What to do.
    pub advice: &'static str,
    /// Whether the history itself is in doubt; otherwise only a cache or view, or something superfluous.
    pub is_fault: bool,
    /// Whether it is only that this program is too old to tell.
    pub is_newer: bool,
}

/// What was found of one stream.
#[derive(Debug, Clone)]
pub struct StreamReport {
    /// Whose.
    pub tenant: TenantId,
    /// Which stream.
    pub kind: StreamKind,
    /// The head that all leaves and commits give; of what is sound when something is not.
    pub head: StreamHead,
    /// How many entries of it were purged: hashes are kept in their place.
    pub gone: u64,
    /// How many entries lack sections that were redacted: commitments are kept in their place.
    pub redacted: u64,
    /// How many entries of it cannot be read, because their keys are not to be had.
    pub unread: u64,
    /// How many commits hold.
    pub commits: u64,
    /// How many segments were read.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// SHA-256 of the last commit that holds.
    pub last: Option<Hash>,
    /// What does not hold.
    pub findings: Vec<Finding>,
}

/// What was found of a store.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Stream by stream.
    pub streams: Vec<StreamReport>,
    /// What concerns the store as a whole.
    pub findings: Vec<Finding>,
}

impl Report {
    /// All findings.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().chain(self.streams.iter().flat_map(|stream| &stream.findings))
    }

    /// Whether every history holds.
    pub fn is_sound(&self) -> bool {
        !self.findings().any(|finding| finding.is_fault)
    }

    /// Whether all that keeps it from being sound is that parts are of a newer format.
    pub fn is_newer(&self) -> bool {
        let mut faults = self.findings().filter(|finding| finding.is_fault).peekable();
        faults.peek().is_some() && faults.all(|finding| finding.is_newer)
    }

    /// How many entries were recomputed.
    pub fn entries(&self) -> u64 {
        self.streams.iter().map(|stream| stream.head.size - stream.gone - stream.unread).sum()
    }

    /// How many entries lack sections that were redacted, of streams as far as they hold.
    pub fn redacted(&self) -> u64 {
        self.streams.iter().map(|stream| stream.redacted).sum()
    }

    /// How many entries cannot be read, because their keys are not to be had.
    pub fn unread(&self) -> u64 {
        self.streams.iter().map(|stream| stream.unread).sum()
    }

    /// How many entries were purged, of streams as far as they hold.
    pub fn gone(&self) -> u64 {
        self.streams.iter().map(|stream| stream.gone).sum()
    }
}
