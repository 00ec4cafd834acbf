//! How far a request has come, told to whoever sent it while it is worked on.
//!
//! Who sends a request may give it a name of their own in the header `piperoll-progress`, and ask with it at
//! `GET /v1/progress/{name}` on another connection. Not here: what is counted (whoever does the work says it).
//!
//! Invariants: only the principal that sent a request sees how far it is; what is counted is work, never what was found by
//! it; nothing waits for it, and what could not be noted costs the request nothing.

use crate::caller::Caller;
use crate::openapi::{self, Operation, Parameter, json_of};
use crate::problem::{Problem, ProblemKind};
use crate::registry::names::PrincipalId;
use axum::http::HeaderMap;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The header that names a request.
pub const HEADER: &str = "piperoll-progress";
/// The longest name.
const NAME_CHARS: usize = 64;
/// How many named requests are watched at once; those beyond it are answered and not watched.
const MOST: usize = 4_096;

/// The header, as every guarded route has it.
pub(crate) const PARAMETER: Parameter =
    Parameter { name: HEADER, place: "header", what: "a name to ask with how far it is", schema: name_schema };

/// What the route is.
pub(crate) const PROGRESS: Operation = Operation {
    summary: "how far a request of yours has come that is being worked on",
    parameters: &[Parameter {
        name: "name",
        place: "path",
        what: "what its header piperoll-progress said",
        schema: name_schema,
    }],
    body: &[],
    answer: &[json_of(openapi::object)],
    problems: &[ProblemKind::NotFound],
};

fn name_schema() -> Value {
    json!({"type": "string", "pattern": format!("^[A-Za-z0-9_-]{{1,{NAME_CHARS}}}$")})
}

/// How far something has come. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<Step>>);

/// The part of the work that is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Step {
    /// Which one, from 1; 0 before the first was named.
    pub step: u32,
    /// What is done in it.
    pub doing: &'static str,
    /// How much of it is done.
    pub done: u64,
    /// How much there is, as far as it is known; 0 where it is not.
    pub of: u64,
    /// What is counted.
    pub unit: &'static str,
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Progress {
    /// Begins the next step, of so many; 0 where that is yet to be found out. One that does the same goes on.
    pub fn next(&self, doing: &'static str, of: usize, unit: &'static str) {
        let mut now = held(&self.0);
        if (now.doing, now.unit) != (doing, unit) {
            *now = Step { step: now.step + 1, doing, done: 0, of: 0, unit };
        }
        now.of += of as u64;
    }

    /// There is so much more to do in this step.
    pub fn expect(&self, more: u64) {
        held(&self.0).of += more;
    }

    /// So much more of it is done.
    pub fn did(&self, more: u64) {
        held(&self.0).done += more;
    }

    /// How far it is.
    pub fn now(&self) -> Step {
        *held(&self.0)
    }
}

/// How far each is, and since when it is worked on, in microseconds.
type Watched = HashMap<(PrincipalId, String), (Progress, i64)>;

/// The named requests that are being worked on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ongoing(Arc<Mutex<Watched>>);

/// A named request; over when it is dropped.
#[derive(Debug)]
pub(crate) struct Going {
    all: Ongoing,
    key: (PrincipalId, String),
}

impl Drop for Going {
    fn drop(&mut self) {
        held(&self.all.0).remove(&self.key);
    }
}

impl Ongoing {
    /// Watches a request, if its headers name it.
    ///
    /// # Errors
    /// What they say is no name, or is that of another request of the same principal.
    pub(crate) fn watch(&self, caller: &Caller, headers: &HeaderMap, now: i64) -> Result<Option<Going>, Problem> {
        let Some(given) = headers.get(HEADER) else { return Ok(None) };
        let name = given.to_str().ok().filter(|name| is_name(name)).ok_or_else(|| {
            let why = format!("{HEADER} is a name of 1 to {NAME_CHARS} letters, digits, - and _");
            Problem::new(ProblemKind::Malformed, why)
        })?;
        let key = (caller.principal().clone(), name.to_string());
        let mut all = held(&self.0);
        if all.contains_key(&key) {
            let why = format!("another request of yours that is going on is named {name}: choose another {HEADER}");
            return Err(Problem::new(ProblemKind::Malformed, why));
        }
        if all.len() >= MOST {
            return Ok(None);
        }
        all.insert(key.clone(), (caller.visit().progress().clone(), now));
        drop(all);
        Ok(Some(Going { all: self.clone(), key }))
    }

    /// How far a request of this principal is.
    ///
    /// # Errors
    /// There is none of this name, or it is over.
    pub(crate) fn of(&self, principal: &PrincipalId, name: String, now: i64) -> Result<Value, Problem> {
        let why = "no request of yours that is going on has this name";
        let found = held(&self.0).get(&(principal.clone(), name)).cloned();
        let (progress, begun) = found.ok_or_else(|| Problem::new(ProblemKind::NotFound, why))?;
        let Step { step, doing, done, of, unit } = progress.now();
        let seconds = (now - begun).max(0) / 1_000_000;
        Ok(json!({"step": step, "doing": doing, "done": done, "of": of, "unit": unit, "seconds": seconds}))
    }
}

fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=NAME_CHARS).contains(&text.len()) && text.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_counts_anew_and_one_that_does_the_same_goes_on() {
        let progress = Progress::default();
        let same = progress.clone();
        progress.next("reading", 0, "segments");
        progress.expect(3);
        same.did(2);
        assert_eq!(progress.now(), Step { step: 1, doing: "reading", done: 2, of: 3, unit: "segments" });
        progress.next("reading", 2, "segments");
        assert_eq!(progress.now(), Step { step: 1, doing: "reading", done: 2, of: 5, unit: "segments" });
        same.next("writing", 7, "rows");
        assert_eq!(progress.now(), Step { step: 2, doing: "writing", done: 0, of: 7, unit: "rows" });
    }

    #[test]
    fn names_are_short_and_plain() {
        for name in ["a", "A-9_z", &"x".repeat(NAME_CHARS)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "a b", "ä", "a/b", &"x".repeat(NAME_CHARS + 1)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
