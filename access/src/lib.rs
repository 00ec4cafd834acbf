//! The front door: who is calling, what they may do, for which tenants.
//!
//! Today the door is open: whoever reaches the port is served, and so the service binds loopback only.
//! What holds already is the shape: a handle to a tenant's stream comes from [`Door`] and from nowhere
//! else, and an error becomes an HTTP answer in [`problem`] and nowhere else. Identity, grants, the
//! registry and self-audit are to come here.
//!
//! Not here: keeping events (`ledger-store`), reading wire formats (`ingest`), SQL (`query`).
//! Invariant: a handler that was given one tenant's handle cannot name another tenant's data.

mod door;
pub mod problem;

pub use door::Door;
pub use problem::{Problem, ProblemKind};
