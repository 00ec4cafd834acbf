//! Whether a job is due: a pure function of its schedule, of what is on record of it, and of time.
//!
//! Each due time is worth one run. When several passed without one, there is one for the last of them, which says how many
//! were missed. A run that could not be done, or was abandoned, is tried again for the same time, a few times. Not here: the
//! record (`access::registry`), running ([`super::running`]).
//!
//! Invariants: nothing is due while a lease holds; nothing from before the schedule was set is due.

use super::schedule::{Passed, Schedule};
use access::registry::change::JobOutcome;
use access::registry::{Job, JobRun};

/// Runs for the same time, the first included.
const MOST_TRIES: u32 = 3;
/// How long what could not be done rests before it is tried again, in microseconds.
const REST: i64 = 15 * 60_000_000;
/// How long a due time may have passed without a run that succeeded before it is said, in microseconds.
const PATIENCE: i64 = 3_600_000_000;

/// A run that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Since when, in microseconds.
    pub at: i64,
    /// How many due times before that passed without a run.
    pub missed: u64,
    /// The first of these.
    pub since: Option<i64>,
}

/// What a job's turn is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// A run holds its lease until then.
    Held(i64),
    /// It is not due before then; never, if no time is named.
    Later(Option<i64>),
    /// Now.
    Now(Due),
}

/// Whether a job is due at a moment.
pub fn turn(schedule: &Schedule, job: &Job, now: i64) -> Turn {
    let last = job.last.as_ref();
    if let Some(run) = last.filter(|run| run.holds(now)) {
        return Turn::Held(run.lease_until);
    }
    let Some((_, set)) = &job.schedule else { return Turn::Later(None) };
    // What was due at the very moment of a run's begin, or for which it was begun, it covers.
    let covered = last.map_or(i64::MIN, |run| run.begun.at.max(run.fact.due.map_or(i64::MIN, |due| due.0)));
    let from = covered.max(set.at);
    let again = last.and_then(|run| again(run).map(|at| (run, at)));
    match (schedule.passed(from, now), again) {
        (Some(Passed { count, first, last }), _) => {
            Turn::Now(Due { at: last, missed: count - 1, since: (count > 1).then_some(first) })
        }
        (None, Some((run, at))) if at <= now => {
            let (due, since) = (run.fact.due.map_or(now, |due| due.0), run.fact.since.map(|since| since.0));
            Turn::Now(Due { at: due, missed: run.fact.missed, since })
        }
        (None, again) => {
            let next = schedule.after(from.max(now));
            let again = again.map(|(_, at)| at);
            Turn::Later(next.into_iter().chain(again).min())
        }
    }
}

/// When a run that the schedule asked for, and that did not do what it is for, is tried again.
fn again(run: &JobRun) -> Option<i64> {
    let at = match &run.ended {
        None => run.lease_until,
        Some((stamp, end)) => match end.outcome {
            JobOutcome::Stopped => stamp.at,
            JobOutcome::Failed => stamp.at + REST,
            // It was done; what it found will be there at its next turn too.
            JobOutcome::Ok | JobOutcome::Found => return None,
        },
    };
    (run.fact.due.is_some() && run.tries < MOST_TRIES).then_some(at)
}

/// The due time that has passed for longer than a run may take, without one that succeeded.
pub fn overdue(schedule: &Schedule, job: &Job, now: i64) -> Option<i64> {
    let (_, set) = job.schedule.as_ref()?;
    let covered = job.succeeded.map_or(set.at, |(begun, _)| begun.max(set.at));
    schedule.after(covered).filter(|due| now - due > PATIENCE)
}

#[cfg(test)]
mod tests;
