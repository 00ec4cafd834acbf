//! Access review: who has access to what, since when, approved by whom, used how; and what is wrong with it.
//!
//! From a question inward: `question` (what is asked), `asking` (what is read for it), `facts` (what single entries say),
//! `people` (who is who), `held` (who has what; a fold), `uses` (what was done), `entry` (both together), `findings`,
//! `answer`. Asked again against the same heads an answer is the same. Not here: who may ask (`access`), reviews as they
//! are kept (`access::registry`), routes ([`http`]).

mod answer;
mod asking;
mod assigning;
mod campaign;
mod changes;
mod confirming;
mod entry;
mod facts;
mod findings;
mod held;
pub mod http;
mod people;
mod question;
mod report;
mod uses;

pub use self::answer::{AccessAnswer, Entitlement, Incomplete, RulesRead};
pub use self::campaign::{Deciding, Selection};
pub use self::changes::{Changed, Changes, ChangesAnswer, Disagreement};
pub use self::confirming::Confirming;
pub use self::findings::{Finding, Kind};
pub use self::question::AccessQuestion;
