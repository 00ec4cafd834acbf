//! The front door: who is calling, what they may do, for which tenants, and the record of all of it.
//!
//! Read in this order: [`Routes`] (the guard around every handler), [`Caller`] (who), [`Door`] (what; the one place that
//! hands out handles), [`policy`] (what a role may do), [`registry`] (tenants, principals, grants: the fold of the
//! `control` stream), [`record`] (what is written down before an answer leaves).
//!
//! Not here: keeping events (`ledger-store`), reading wire formats (`ingest`), SQL (`query`).
//! Invariants: a handler that was given one tenant's handle cannot name another tenant's data; nobody is anonymous;
//! what is not on record is not answered; an error becomes an HTTP answer in [`problem`] and nowhere else.

mod authority;
pub mod body;
mod caller;
mod door;
mod fairness;
pub mod http;
pub mod job;
pub mod keys;
mod listener;
pub mod openapi;
pub mod pattern;
pub mod policy;
pub mod problem;
mod progress;
pub mod record;
pub mod registry;
mod remote;
pub mod routes;
mod secret;
mod sight;
mod stores;
mod token;
mod visit;

pub use caller::Caller;
pub use door::KeySettings;
pub use door::{Door, LedgerKeyFile, Opened, RegistrySeen, ReviewSight, certificate_entry};
pub use fairness::Asking;
pub use job::Job;
pub use listener::{Listener, Peer, TlsError, TlsFiles};
pub use policy::{Action, Policies};
pub use problem::{Problem, ProblemKind};
pub use progress::{HEADER as PROGRESS_HEADER, Progress, Step};
pub use record::Recording;
pub use registry::Book;
pub use routes::{Route, Routes};
pub use sight::{Sight, View};
pub use stores::Stores;
pub use token::{ClaimGrant, Issuer};
pub use visit::Meter;
