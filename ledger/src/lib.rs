//! What a valid history is: event, leaf, tree, head, receipt, commit, and how each is verified.
//!
//! This crate is pure. It does no IO, reads no clock, draws no randomness, knows nothing of Arrow,
//! and never waits: the same bytes give the same answer, in the service and in an auditor's hands.
//! Everything that is hashed or signed in Piperoll is hashed or signed here and nowhere else.
//!
//! `FORMAT.md` beside this crate states every byte. Read in this order: [`field`] and [`leaf`] (what an
//! event commits to), [`tree`] and [`proof`] (RFC 6962), [`note`] and [`checkpoint`] (C2SP), then
//! [`group`] and [`receipt`] (one signature for all tenants), [`commit`] (the hash chain of a stream) and [`pack`],
//! and [`verify`] (the place of the fault).
//!
//! Not here: where bytes are kept (`ledger-store`), who may ask (`access`), wire JSON (`ingest`).

pub mod bundle;
pub mod checkpoint;
pub mod commit;
pub mod draft;
pub mod field;
#[cfg(test)]
mod fuzz;
pub mod gone;
pub mod group;
pub mod handover;
pub mod heads;
pub mod key;
pub mod leaf;
pub mod name;
pub mod note;
pub mod pack;
pub mod proof;
pub mod receipt;
pub mod report;
pub mod sections;
mod sha;
mod text;
pub mod tile;
pub mod time;
pub mod tlog_proof;
pub mod tree;
#[cfg(test)]
mod vectors;
pub mod verify;
pub mod version;

pub use checkpoint::{Checkpoint, StreamHead};
pub use commit::{Commit, SegmentRef, SignedCommit};
pub use draft::{Draft, DraftBuilder, Invalid};
pub use field::{Field, Section};
pub use gone::{Gone, GoneRef};
pub use handover::{Handover, KeyHistory};
pub use key::{KeyId, LedgerKey, LedgerKeys, VerifierKey};
pub use leaf::{Commitments, Seed};
pub use name::{LedgerName, Origin, StreamKind, TenantId};
pub use sections::Sections;
pub use tree::{Edge, Hash};
