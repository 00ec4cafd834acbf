//! The ways in: wire formats to drafts, admission, idempotency.
//!
//! Read in this order: [`json`] (strict JSON), [`wire`] (one event), [`batch`] (a body of events),
//! [`admission`] (drafts to verdicts), [`http`] (the routes); [`mapping`] turns other products' audit logs
//! into wire events, [`snapshot`] the documents that say who has access.
//!
//! Not here: sequencing and durability (`ledger-store`), who may write what (`access`).
//!
//! Invariants: one bad event never sinks its batch unless all-or-nothing was asked for; nothing is dropped
//! silently; untrusted bytes are bounded before they are parsed.

pub mod admission;
pub mod batch;
#[cfg(test)]
mod fuzz;
pub mod http;
pub mod json;
pub mod limits;
pub mod mapping;
pub mod snapshot;
pub mod wire;
