//! Policy and hold to plan, plan to execution, certificates; redactions that data subjects ask for.
//!
//! Read in this order: [`judge`] (what becomes of one entry), [`plan`] (of all of them), [`run`] (doing it), [`keeper`]
//! (taking it up again after a stop, and the schedule), [`subjects`] and [`redact`] (where a person is named, and what goes
//! of it), [`certificate`] (what is said of it afterwards), [`http`] (the routes).
//!
//! Not here: policies and holds themselves, which are facts of the registry (`access`); taking entries out of a stream
//! (`ledger-store`).
//!
//! Invariants: nothing goes that no policy lets go; nothing goes that a hold or a longer minimum keeps; what goes was
//! recorded as an intent before, and is certified after.

pub mod certificate;
mod certify;
mod due;
pub mod held;
pub mod http;
pub mod judge;
pub mod keeper;
pub mod plan;
pub mod redact;
pub mod run;
pub mod subjects;
#[cfg(test)]
mod tests;

pub use http::router;
pub use keeper::Keeper;
pub use run::Retention;
