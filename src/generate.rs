//! Seeded events of a fictitious platform, and an exact record of what was planted among them: `piperoll generate`
//! and `piperoll demo`.
//!
//! The lines are wire events in order of arrival, as services would send them: mostly everyday traffic of 24 tenants
//! in two regions, and in it a bad release, a stolen session, support with and without elevation, exports across a
//! border, a credential used from two regions, a quiet tenant with one anomaly, grants in and out of order, late
//! events, repeats and conflicts. Nothing here talks to a service, reads a clock, or checks an answer. Neighbours:
//! the commands `generate` and `demo` call it; `questions` holds the demo's five questions.
//!
//! Invariants:
//! 1. The same plan gives the same bytes, on every machine and with every version of every library; a test holds a
//!    digest.
//! 2. Exactly `plan.events` lines are written, and the record's figures are exact, not expected values.
//! 3. Memory is bounded by constants: the plants, a ring of recent lines.

mod borders;
mod incident;
mod intrusion;
mod merge;
mod oversight;
mod planted;
mod plants;
mod platform;
mod questions;
mod random;
#[cfg(test)]
mod tests;
mod time;
mod traffic;
mod wire;

pub use planted::Planted;
pub use questions::{Question, questions};

use merge::Merge;
use planted::Exports;
use plants::Story;
use platform::{OPERATOR, PARTNER, Platform, TENANTS};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, Write};

/// The fewest lines that hold all plants and some traffic to hide them in.
pub const MIN_EVENTS: usize = 2_000;
/// The most days: ten years.
pub const MAX_DAYS: u32 = 3_660;
/// 2000-01-01T00:00:00Z, the earliest begin, in microseconds.
const EARLIEST_US: i64 = 946_684_800_000_000;
/// 2200-01-01T00:00:00Z, the latest begin, in microseconds.
const LATEST_US: i64 = 7_258_118_400_000_000;

/// What to generate. The default is seed 1, 50,000 lines, 30 days from Monday 2026-03-02.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Any number; another one gives other people, times and amounts, but the same tenants and the same kinds of
    /// plants.
    pub seed: u64,
    /// Lines to write, repeats and conflicts included; at least [`MIN_EVENTS`].
    pub events: usize,
    /// When the story begins: microseconds since 1970-01-01T00:00:00Z, in the years 2000 to 2199.
    pub start_us: i64,
    /// How many days it lasts: 1 to [`MAX_DAYS`]. From seven on, plants keep plausible hours of the day.
    pub days: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self { seed: 1, events: 50_000, start_us: 1_772_409_600_000_000, days: 30 }
    }
}

/// Why a plan cannot be carried out. It reaches the caller inside an [`io::Error`] of kind `InvalidInput`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlanError {
    Events(usize),
    Days(u32),
    Start(i64),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Events(events) => {
                write!(f, "events is {events}; at least {MIN_EVENTS} are needed to hold everything that is planted")
            }
            Self::Days(days) => write!(f, "days is {days}; it must be between 1 and {MAX_DAYS}"),
            Self::Start(start) => {
                write!(f, "start is {start} microseconds since 1970; it must lie in the years 2000 to 2199")
            }
        }
    }
}

impl std::error::Error for PlanError {}

impl Plan {
    fn check(&self) -> Result<(), PlanError> {
        if self.events < MIN_EVENTS {
            return Err(PlanError::Events(self.events));
        }
        if self.days == 0 || self.days > MAX_DAYS {
            return Err(PlanError::Days(self.days));
        }
        if self.start_us < EARLIEST_US || self.start_us >= LATEST_US {
            return Err(PlanError::Start(self.start_us));
        }
        Ok(())
    }

    /// Length in microseconds.
    fn span(&self) -> i64 {
        i64::from(self.days) * time::DAY
    }
}

/// Writes the plan's events to `out`, one JSON object a line, and gives the record of what was planted.
///
/// Writes are buffered here; `out` is flushed at the end.
///
/// # Errors
///
/// `InvalidInput` when the plan is out of bounds (the message names the value and the bound; nothing was written),
/// otherwise what `out` answered.
pub fn generate(plan: &Plan, out: &mut impl Write) -> io::Result<Planted> {
    plan.check().map_err(|fault| io::Error::new(io::ErrorKind::InvalidInput, fault))?;
    let platform = Platform::new(plan);
    let mut story = Story::new(&platform);
    let mut planted = tell(&mut story);
    let mut plants = story.plants;
    // Stable: plants of one instant keep the order in which they were told.
    plants.sort_by_key(|plant| plant.arrival);
    Merge::new(&platform, out).run(plants, &mut planted)?;
    Ok(planted)
}

/// Plants every story; totals and counts that depend on everyday traffic are still empty.
fn tell(story: &mut Story) -> Planted {
    let rollouts = incident::rollouts(story);
    let bad_release = incident::bad_release(story, &rollouts);
    let found = intrusion::plant(story);
    let support = oversight::support(story);
    let mut grants = oversight::grants(story);
    grants.push(found.grant);
    grants.sort_by(|one, other| one.event.time.cmp(&other.event.time));
    oversight::desk(story);
    let (mut exports, large_integers): (Exports, _) = borders::exports(story);
    exports.left_region.push(found.crossing);
    exports.left_region.sort_by(|one, other| one.event.time.cmp(&other.event.time));
    let roaming_credential = borders::roaming_credential(story);
    let quiet = borders::quiet(story);
    Planted {
        format: 1,
        plan: story.platform.plan,
        operator: OPERATOR.to_owned(),
        partner: PARTNER.to_owned(),
        partner_clients: TENANTS
            .iter()
            .filter(|tenant| tenant.partner == PARTNER)
            .map(|tenant| tenant.id.to_owned())
            .collect(),
        lines: 0,
        events: 0,
        repeats: 0,
        conflicts: Vec::new(),
        late: 0,
        first_time: String::new(),
        last_time: String::new(),
        tenants: Vec::new(),
        rollouts,
        bad_release,
        intrusion: found.intrusion,
        support,
        exports,
        roaming_credential,
        quiet,
        grants,
        large_integers,
    }
}
