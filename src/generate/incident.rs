//! Releases, and the bad one: it breaks invoicing for some tenants of one region until it is rolled back.
//!
//! Tenants whose tax tables have a certain layout fail; the others run the same workflow on the same release without
//! harm, so "ran on it" and "broke" differ. Neighbours: `platform` has the schedule; the parent counts what everyday
//! traffic adds to the runs.
//!
//! Invariants:
//! 1. The reason `tax_table_missing` occurs in planted events only, and each has an audit entry and a telemetry entry
//!    of one trace.
//! 2. Every tenant of the region has at least one run on the bad release.

use super::planted::{BadRelease, ReleaseCount, RolloutRecord};
use super::plants::Story;
use super::platform::{OPERATOR, Platform, Rollout, TENANTS, US, tenant};
use super::random::Random;
use super::time::{HOUR, MINUTE, SECOND};
use super::wire::{Attributes, Event, Severity, Stream};
use ledger::time::format_micros as rfc3339;

/// The reason code of what the bad release broke.
pub const REASON: &str = "tax_table_missing";
/// The service it broke.
pub const SERVICE: &str = "billing";
/// The workflow it broke.
pub const WORKFLOW: &str = "order-to-invoice";
/// How many tenants of the region it broke.
const BROKEN_TENANTS: usize = 5;

/// Plants every rollout, rollbacks too.
pub fn rollouts(story: &mut Story) -> Vec<RolloutRecord> {
    let platform: &Platform = story.platform;
    platform.rollouts.iter().enumerate().map(|(number, rollout)| roll(story, number, rollout)).collect()
}

fn roll(story: &mut Story, number: usize, rollout: &Rollout) -> RolloutRecord {
    let changes =
        ["[\"code\"]", "[\"code\",\"schema\"]", "[\"code\",\"access-model\"]", "[\"code\",\"automation\"]"][number % 4];
    let details = Attributes::new().text("previous", &rollout.previous).text("commit", &story.random.hex(40));
    let (action, subject, details) = if rollout.rollback {
        ("release.rolled_back", &rollout.previous, details.text("to", &rollout.release).text("cause", "invoices fail"))
    } else {
        (
            "release.deployed",
            &rollout.release,
            details.json("changes", changes).integer("schema_version", 400 + number as u64),
        )
    };
    let event = Event {
        tenant: tenant(OPERATOR),
        time: rollout.from,
        action,
        outcome: "success",
        actor_type: "service",
        actor: String::from("svc-deployer"),
        resource_type: "release",
        resource: subject.clone(),
        source_ip: String::from("10.16.0.9"),
        credential: String::from("wl-deployer"),
        service: "deployer",
        workflow: "rollout",
        release: subject.clone(),
        region: rollout.region,
        approval_id: format!("apr-r{number:04}"),
        attributes: details.finish(),
        ..Event::default()
    };
    RolloutRecord {
        release: rollout.release.clone(),
        region: rollout.region.to_owned(),
        previous: rollout.previous.clone(),
        event: story.add(event),
    }
}

/// Plants the failures and some healthy runs. The counts in the record are those of the plants; the parent adds
/// everyday runs.
pub fn bad_release(story: &mut Story, rollouts: &[RolloutRecord]) -> BadRelease {
    let platform: &Platform = story.platform;
    let (from, until) = platform.bad_window;
    let mut region: Vec<usize> = (0..TENANTS.len()).filter(|&index| TENANTS[index].region == US).collect();
    for index in (1..region.len()).rev() {
        region.swap(index, story.random.below(index as u64 + 1) as usize);
    }
    let (affected, spared) = region.split_at(BROKEN_TENANTS);
    let failures = story.scaled(125, 40, 4_000) as u64;
    let weight: u64 = affected.iter().map(|&index| TENANTS[index].weight).sum();
    for &index in affected {
        let share = (failures * TENANTS[index].weight / weight).max(3);
        for number in 0..share {
            run(story, index, number, true);
        }
    }
    for &index in &region {
        let healthy = if spared.contains(&index) { 2 + failures / 60 } else { 1 };
        for number in 0..healthy {
            run(story, index, number, false);
        }
    }
    let ids = |list: &[usize]| {
        let mut sorted = list.to_vec();
        sorted.sort_by_key(|&index| TENANTS[index].id);
        sorted.into_iter().map(|index| TENANTS[index].id.to_owned()).collect::<Vec<_>>()
    };
    let elsewhere: Vec<usize> =
        (0..TENANTS.len()).filter(|&index| TENANTS[index].region != US && TENANTS[index].id != OPERATOR).collect();
    let rollback = rollouts.iter().find(|rollout| rollout.event.action == "release.rolled_back");
    BadRelease {
        release: platform.bad_release.clone(),
        region: US.to_owned(),
        from: rfc3339(from),
        until: rfc3339(until),
        contained_by: rollback.expect("Platform::new lays exactly one rollback").event.clone(),
        service: SERVICE.to_owned(),
        workflow: WORKFLOW.to_owned(),
        reason: REASON.to_owned(),
        tenants: Vec::new(),
        affected: ids(affected),
        not_affected: ids(spared),
        never_ran_it: ids(&elsewhere),
    }
}

/// One run of the workflow on the bad release: the trail's entry and the job's measurement.
fn run(story: &mut Story, index: usize, number: u64, broken: bool) {
    let platform: &Platform = story.platform;
    let (from, until) = platform.bad_window;
    // Three minutes until caches expire and the first job fails; nothing of it after the rollback.
    let time = story.random.between(from + 3 * MINUTE, until - 30 * SECOND);
    let trace_id = story.random.hex(32);
    let mut entry = Event {
        tenant: index,
        time,
        action: "invoice.post",
        outcome: if broken { "error" } else { "success" },
        reason: if broken { REASON } else { "" },
        actor_type: "service",
        actor: String::from("svc-billing"),
        resource_type: "invoice",
        resource: format!("invoice-{:05}", story.random.below(50 + TENANTS[index].weight * 4)),
        class: "financial",
        source_ip: format!("10.16.{}.{}", story.random.below(8), 10 + story.random.below(40)),
        credential: format!("wl-billing-{US}"),
        service: SERVICE,
        workflow: WORKFLOW,
        integration: "tax-tables",
        trace_id: trace_id.clone(),
        ..Event::default()
    };
    entry.attributes = invoice_details(&mut story.random, broken);
    let mut job = Event { stream: Stream::Telemetry, action: "job.run", trace_id, ..entry.clone() };
    (job.resource_type, job.class) = ("", "");
    job.resource.clear();
    job.credential.clear();
    job.span_id = story.random.hex(16);
    // A broken job waits for its table until it is cut off after 30 s.
    let duration =
        if broken { 30_000_000 + story.random.below(900_000) } else { 250_000 + story.random.below(400_000) };
    job.duration_us = Some(duration);
    job.severity = Severity::Number(if broken { 17 } else { 9 });
    job.attributes =
        Attributes::new().text("worker", &format!("w-{}", number % 12)).integer("attempt", 1 + number % 3).finish();
    job.time = time + 35 * SECOND.min(duration as i64 / 35);
    job.time = job.time.min(until - SECOND);
    story.add(entry);
    match (broken, number) {
        // One measurement per broken tenant comes hours late, after the rollback; every twentieth comes twice.
        (true, 0) => drop(story.add_delayed(job, 3 * HOUR + MINUTE, false)),
        (true, number) if number % 20 == 1 => drop(story.add_twice(job)),
        _ => drop(story.add(job)),
    }
}

fn invoice_details(random: &mut Random, broken: bool) -> String {
    let details = Attributes::new().amount("amount", 900 + random.below(700_000)).text("currency", "USD");
    let details = if broken { details.text("message", "no tax table \"US-2026\" in layout v2") } else { details };
    details.integer("lines", 1 + random.below(20)).finish()
}

/// The record's rows, from the counts per tenant: those that broke most first, then by name.
pub fn release_counts(counts: impl Iterator<Item = ReleaseCount>) -> Vec<ReleaseCount> {
    let mut rows: Vec<ReleaseCount> = counts.filter(|row| row.runs > 0).collect();
    rows.sort_by(|one, other| other.broken.cmp(&one.broken).then_with(|| one.tenant.cmp(&other.tenant)));
    rows
}
