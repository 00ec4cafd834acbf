//! Policy and hold to plan, plan to execution, certificates; redactions that data subjects ask for; and the scheduler that
//! runs the service's jobs.
//!
//! Read in this order: [`judge`] (what becomes of one entry), [`plan`] (of all of them), [`run`] (doing it), [`keeper`]
//! (taking it up again after a stop), [`subjects`] and [`redact`] (where a person is named, and what goes of it),
//! [`certificate`] (what is said of it afterwards), [`http`] (the routes); then [`jobs`] (when something runs by itself) and
//! the jobs of this crate: [`letting_go`], [`verification`], [`compaction`].
//!
//! Not here: policies and holds themselves, which are facts of the registry (`access`); taking entries out of a stream
//! (`ledger-store`).
//!
//! Invariants: nothing goes that no policy lets go; nothing goes that a hold or a longer minimum keeps; what goes was
//! recorded as an intent before, and is certified after.

pub mod certificate;
mod certify;
pub mod compaction;
mod due;
pub mod held;
pub mod http;
pub mod jobs;
pub mod judge;
pub mod keeper;
pub mod letting_go;
pub mod plan;
mod planning;
pub mod redact;
pub mod run;
pub mod subjects;
#[cfg(test)]
mod tests;
pub mod verification;

pub use compaction::Compaction;
pub use http::router;
pub use jobs::Jobs;
pub use keeper::Keeper;
pub use letting_go::LettingGo;
pub use run::Retention;
pub use verification::Verification;
