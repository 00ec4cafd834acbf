//! The ways to ask: SQL over sealed segments and unsealed tails, pages of events, proofs, tiles.
//!
//! A question gets a session of its own that holds the granted tables and nothing else. It sees one snapshot of each
//! stream: an event that was acknowledged before the question is found by it. `datafusion` is named in this crate only.
//!
//! From a request inward: [`http`] (routes), [`QueryState`] (names to snapshots), `guard` (which text runs), `session`
//! (what it can name), `table`, `prune` and `condition` (what is left out), `scan`, `group`, `reader`, `column` and
//! `kept` (what is read), [`Engine`] (threads and limits), `answer` and `body` (how it is written). `functions` is the
//! list of what SQL may call.
//!
//! Not here: who may ask what (`access`), what is stored how (`ledger-store`), what a proof proves (`ledger`).

mod answer;
mod barrier;
mod body;
mod column;
mod condition;
pub mod controls;
mod error;
mod events;
pub mod evidence;
mod functions;
mod group;
mod guard;
mod hex;
pub mod http;
mod json_text;
mod kept;
mod keys;
mod limits;
mod proof;
mod prune;
mod reader;
mod registry;
pub mod residency;
pub mod review;
mod run;
mod scan;
pub mod scope;
mod session;
mod state;
mod stop;
mod table;
#[cfg(test)]
mod tests;

pub use answer::{Format, heads_json, type_name};
pub use error::{ErrorKind, Fault, PlanMessage, QueryError};
pub use events::{Filter, LARGEST_PAGE, Order, PAGE, Page};
pub use guard::{NESTING, OPERATORS, PARTS, Refused, SQL_BYTES, TEXT_SIZE};
pub use http::router;
pub use limits::{Exceeded, Limits};
pub use proof::{consistency_json, inclusion_json, tlog_proof};
pub use run::{Answer, Engine, HeadRead};
pub use state::QueryState;
pub use table::Seen;
