//! Evidence bundles: what a zip archive of them says of itself, its entries, and what stands for the rest of the tree
//! (FORMAT.md §16).
//!
//! Read [`manifest`] first, then [`line`] (an entry as JSON) and [`range`] (a tree of which some leaves are shown). Not here:
//! the archive itself (`piperoll-verify` reads one, `query` makes one), which entries are shown to whom (`query`).
//!
//! Invariants: each text but an entry's line has one spelling; nothing here is believed before the manifest's signature
//! and the checkpoint's root say so.

pub mod consistency;
pub mod line;
pub mod manifest;
pub mod range;

pub use self::consistency::Consistency;
pub use self::line::{Shown, Stands};
pub use self::manifest::{Manifest, Member};
pub use self::range::{RangeHead, Stead, Subtree};

/// A text of a bundle cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// It is of a later version of its form.
    #[error("it is written in a newer format: use a newer piperoll to read it")]
    Newer,
    /// It is not what FORMAT.md §16 prescribes.
    #[error("{0}")]
    Malformed(&'static str),
}

impl From<&'static str> for BundleError {
    fn from(why: &'static str) -> Self {
        Self::Malformed(why)
    }
}

/// Most members of an archive.
pub const MEMBERS: usize = 65_536;
/// Most bytes of a checkpoint, key, note, proof or consistency.
pub const DOCUMENT_BYTES: u64 = 1 << 20;
/// Most bytes of an entry's line.
pub const LINE_BYTES: usize = 2 << 20;
/// Entries that one number of `entries-…` and `range-…` covers, as this program makes them: a subtree of this many leaves.
pub const PART: u64 = 65_536;
