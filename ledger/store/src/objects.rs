//! Object stores: where they are, how they are reached, and what makes them steady.
//!
//! [`Location`] names a store and opens it; [`Steady`] is the one retry policy over all of them;
//! [`DurableFolder`] is the local one; [`probe`] refuses a store that cannot keep a ledger; [`create`] puts an
//! object of any size. Not here: where objects lie in a store ([`crate::layout`]), what they hold, the environment
//! that credentials come from (`src/`).
//!
//! Invariants: each operation ends, with what became of it or with an error that says so; nothing of a credential is
//! printed.

mod answers;
mod create;
mod durable_folder;
mod location;
mod patience;
mod probe;
mod reading;
mod steady;

pub use create::create;
pub use durable_folder::DurableFolder;
pub use location::{Access, Location, LocationError};
pub use patience::Patience;
pub use probe::{holds_anything, probe};
pub use steady::Steady;
pub(crate) use steady::claim;

#[cfg(test)]
mod conformance;
#[cfg(test)]
#[path = "../../../tests/servers.rs"]
mod servers;
#[cfg(test)]
mod tests;
