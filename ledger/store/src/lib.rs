//! The IO shell around the ledger: write-ahead log, sequencing, segments, commits, recovery, fsck.
//!
//! Read in this order: [`Store`] (the way in), `writer` (the commit), `seal` (the commit of a segment), `upkeep` (what keeps
//! it small and quick), `recover` (what a stop leaves), `wal` and `segment` (bytes). What a valid history *is* stands in the
//! crate `ledger`; this crate keeps it on disks and in object stores, and is the only one that writes there.
//!
//! Not here: who may ask (`access`), SQL (`query`), wire JSON (`ingest`).
//!
//! Invariants: 2xx means durable, sequenced, deduplicated and signed; readers see only what is durable;
//! recovery and happy path are the same functions.

mod ambient;
mod bundles;
pub mod cipher;
pub mod columns;
mod commits;
mod compact;
mod delta;
mod entry;
mod erase;
mod error;
mod evidence;
mod facts;
mod fsck;
#[cfg(test)]
mod fuzz;
mod handle;
mod heads;
mod ids;
pub mod keys;
mod layout;
mod limits;
mod locked;
mod log_head;
mod log_state;
mod objects;
mod objects_of;
mod observed;
mod pack;
mod precheck;
mod proofs;
mod recover;
mod seal;
mod segment;
mod segment_reader;
mod signing;
mod snapshot;
mod store;
mod stream;
mod turn;
mod upkeep;
mod wal;
mod writer;

pub use ambient::Ambient;
pub use bundles::Bundles;
pub use erase::{EraseDone, EraseOrder, EraseWhat};
pub use error::{ErrorKind, StoreError};
pub use evidence::{Block, Evidence, Leaf, to_parquet};
pub use facts::{EntryFacts, tail_facts};
pub use fsck::{Checked, Finding, Fsck, Kept, Report, Since, StreamReport, TakenOut};
pub use handle::{AppendHandle, StreamHandle};
pub use heads::HeadKeeper;
pub use keys::{ContentKeys, KeyError, KeyName, KeySource, KeyUse, TenantKey};
pub use limits::Limits;
pub use objects::{Access, DurableFolder, Location, LocationError, Patience, Steady, create, holds_anything, probe};
pub use proofs::{ConsistencyProof, InclusionProof};
pub use segment::{Segment, Statistics};
pub use store::{AppendRequest, Appended, Store, StoreOptions};
pub use stream::Snapshot;
pub use writer::{Encode, RequestKey, Verdict};
