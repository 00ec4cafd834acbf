//! The record of what the generator planted: what a checker holds its answers against.
//!
//! Everything here is counted while events are made, never read back from a service. Times are RFC 3339 texts with
//! six digits, as on the wire. It says nothing about how to ask; that is `questions`. Neighbours: the plants fill it,
//! the parent adds the totals.
//!
//! Invariants:
//! 1. Counts of events are counts of *first* occurrences: what a ledger holds after repeats and conflicts were turned
//!    away.
//! 2. `events + repeats + conflicts.len() == lines`.

use super::Plan;
use serde::{Deserialize, Serialize};

/// The whole record. Its JSON form is stable within one `format`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planted {
    /// Version of this record's form; 1.
    pub format: u32,
    /// The plan that it came from.
    pub plan: Plan,
    /// The platform's own tenant, which holds the release events.
    pub operator: String,
    /// The white-label operator.
    pub partner: String,
    /// The tenants the white-label operator serves.
    pub partner_clients: Vec<String>,
    /// Lines written.
    pub lines: u64,
    /// Different events: what all streams together must count.
    pub events: u64,
    /// Exact repeats: a service answers each with `duplicate`.
    pub repeats: u64,
    /// Lines that reuse an id of the same stream with other content: a service answers each with `conflict` and keeps
    /// the first.
    pub conflicts: Vec<Conflict>,
    /// Events that happened over an hour before the latest time on an earlier line (repeats and conflicts aside).
    pub late: u64,
    /// The earliest time of any event.
    pub first_time: String,
    /// The latest time of any event.
    pub last_time: String,
    /// Events per tenant and stream, every tenant, in the platform's order.
    pub tenants: Vec<TenantCount>,
    /// Every rollout, rollbacks included, by time.
    pub rollouts: Vec<RolloutRecord>,
    /// The bad release.
    pub bad_release: BadRelease,
    /// The guessed password, the stolen session and what came of it.
    pub intrusion: Intrusion,
    /// Support's visits, with and without elevation.
    pub support: Support,
    /// Exports that left, or should have left, their region.
    pub exports: Exports,
    /// The credential used from two regions.
    pub roaming_credential: RoamingCredential,
    /// The quiet tenant.
    pub quiet: Quiet,
    /// Every grant of a role.
    pub grants: Vec<Grant>,
    /// Events whose attributes carry integers beyond 2^53, with the number's exact digits.
    pub large_integers: Vec<(EventRef, String)>,
}

/// Where to find one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRef {
    /// Its id.
    pub id: String,
    /// Its tenant.
    pub tenant: String,
    /// When it happened.
    pub time: String,
    /// Its action.
    pub action: String,
}

/// A line that reuses an id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The tenant.
    pub tenant: String,
    /// The stream.
    pub stream: String,
    /// The id used twice.
    pub id: String,
    /// The line of the second use, counted from 1. It differs from the first in outcome and attributes.
    pub line: u64,
}

/// What SQL must count for a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantCount {
    /// The tenant.
    pub tenant: String,
    /// Its home region.
    pub region: String,
    /// Events of the audit stream.
    pub audit: u64,
    /// Events of the telemetry stream.
    pub telemetry: u64,
}

/// A release going live in a region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// The release that runs from now on.
    pub release: String,
    /// Where.
    pub region: String,
    /// What ran before.
    pub previous: String,
    /// The event: `release.deployed`, or `release.rolled_back` where `previous` is the release that was withdrawn.
    pub event: EventRef,
}

/// The release that broke one workflow for some tenants of one region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRelease {
    /// The release.
    pub release: String,
    /// The only region it ran in.
    pub region: String,
    /// When it was deployed.
    pub from: String,
    /// When it was rolled back.
    pub until: String,
    /// The `release.rolled_back` event, which contained it.
    pub contained_by: EventRef,
    /// The service that failed.
    pub service: String,
    /// The workflow that failed.
    pub workflow: String,
    /// The reason code of the planted failures, found nowhere else.
    pub reason: String,
    /// Per tenant that ran the workflow on the release, those that broke first.
    pub tenants: Vec<ReleaseCount>,
    /// Tenants that it broke.
    pub affected: Vec<String>,
    /// Tenants that ran the workflow on it without harm.
    pub not_affected: Vec<String>,
    /// Tenants of the other region, which never ran it.
    pub never_ran_it: Vec<String>,
}

/// A tenant under the bad release; telemetry unless it says audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseCount {
    /// The tenant.
    pub tenant: String,
    /// Runs of the workflow on the release.
    pub runs: u64,
    /// Runs with outcome `error`, for whatever reason.
    pub errors: u64,
    /// Runs that the release broke.
    pub broken: u64,
    /// Entries of the audit stream with the same reason.
    pub audit_failures: u64,
}

/// One address that guesses passwords, one that uses what it got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intrusion {
    /// The address of the guesses.
    pub source_ip: String,
    /// Failed logins in all.
    pub failed: u64,
    /// Per tenant touched, in order of first touch.
    pub tenants: Vec<AddressCount>,
    /// The one login that worked.
    pub success: EventRef,
    /// The session that the login opened.
    pub session: String,
    /// Whose account it was.
    pub actor: String,
    /// The address that used the session afterwards.
    pub second_ip: String,
    /// Everything done in the session, first to last.
    pub steps: Vec<SessionStep>,
    /// The revocation that contained it.
    pub contained_by: EventRef,
    /// What was tried in the session after that, and refused.
    pub after_containment: Vec<EventRef>,
}

/// What an address did at one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressCount {
    /// The tenant.
    pub tenant: String,
    /// Logins tried.
    pub attempts: u64,
    /// Logins that worked.
    pub successes: u64,
    /// The first.
    pub first: String,
    /// The last.
    pub last: String,
}

/// One act in the stolen session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStep {
    /// The event.
    pub event: EventRef,
    /// How it ended.
    pub outcome: String,
    /// From where.
    pub source_ip: String,
    /// What was touched.
    pub resource: String,
}

/// Support's visits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Support {
    /// Every elevation, by time of request.
    pub elevations: Vec<Elevation>,
    /// Elevations that the asker approved.
    pub approved_by_asker: Vec<String>,
    /// The visit without elevation.
    pub without_elevation: Unelevated,
}

/// An elevation and what was read under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elevation {
    /// The elevation id.
    pub elevation_id: String,
    /// The approval id.
    pub approval_id: String,
    /// The tenant visited.
    pub tenant: String,
    /// Who asked.
    pub actor: String,
    /// Who approved.
    pub approver: String,
    /// The ticket.
    pub ticket: String,
    /// When it was approved.
    pub from: String,
    /// When it ended.
    pub until: String,
    /// What was read.
    pub reads: Vec<EventRef>,
}

/// Data of a tenant read by support without an elevation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unelevated {
    /// The tenant.
    pub tenant: String,
    /// Who of support.
    pub actor: String,
    /// What was read, in order of time.
    pub reads: Vec<UnelevatedRead>,
    /// Comments on tickets by support at the same tenant, which need no elevation: not to be found.
    pub harmless: Vec<EventRef>,
}

/// One read without elevation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnelevatedRead {
    /// The event.
    pub event: EventRef,
    /// The resource's type.
    pub resource_type: String,
    /// The resource.
    pub resource: String,
}

/// Exports and the borders of regions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exports {
    /// Completed exports to another region, by time.
    pub left_region: Vec<Crossing>,
    /// Exports to another region that were refused: nothing left.
    pub refused: Vec<Crossing>,
    /// The unusually large one, among those that left.
    pub largest: EventRef,
}

/// An export towards another region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crossing {
    /// The event.
    pub event: EventRef,
    /// The region of the tenant.
    pub region: String,
    /// Where the data went.
    pub boundary: String,
    /// Who.
    pub actor: String,
    /// The export's id.
    pub export: String,
    /// The approval, if there was one.
    pub approval_id: Option<String>,
}

/// A credential that was used from two regions at the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoamingCredential {
    /// The tenant.
    pub tenant: String,
    /// The credential.
    pub credential: String,
    /// The tenant's own region.
    pub home_region: String,
    /// Calls there.
    pub home_calls: u64,
    /// The other region.
    pub foreign_region: String,
    /// Calls processed there: the tenant's only events outside its region.
    pub foreign_calls: Vec<EventRef>,
}

/// The tenant that hardly does anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiet {
    /// The tenant.
    pub tenant: String,
    /// Its events in both streams, the anomaly included.
    pub events: u64,
    /// The one that should not be: an API key made at night by somebody never seen before.
    pub anomaly: EventRef,
    /// Who did it.
    pub actor: String,
    /// From where.
    pub source_ip: String,
}

/// A role granted to somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The `role.grant` event.
    pub event: EventRef,
    /// Who got the role.
    pub subject: String,
    /// The role.
    pub role: String,
    /// The approval; a grant without one breaks the rules.
    pub approval_id: Option<String>,
    /// The `role.revoke` event, if there was one.
    pub revoked: Option<EventRef>,
    /// The `user.deactivate` event, if the subject left.
    pub left: Option<EventRef>,
    /// True when the subject never does anything at all.
    pub never_used: bool,
    /// True when the subject left and the role was never revoked.
    pub orphaned: bool,
}
