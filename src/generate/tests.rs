//! The generator against an independent reading of its own output: every figure of the record is counted again from
//! the lines.
//!
//! Nothing here uses the generator's bookkeeping; events are parsed by `serde_json` and told apart by (tenant,
//! stream, id), as a ledger would.

use super::random::Random;
use super::*;
use ledger::time::format_micros as rfc3339;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

fn run(plan: Plan) -> (String, Planted) {
    let mut out = Vec::new();
    let planted = generate(&plan, &mut out).unwrap();
    (String::from_utf8(out).unwrap(), planted)
}

fn small() -> Plan {
    Plan { events: 6_000, ..Plan::default() }
}

/// FNV-1a, 64 bits.
fn digest(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// What a ledger keeps of the lines, in order, and the counts of what it turns away.
struct Kept {
    events: Vec<Value>,
    repeats: u64,
    conflicts: Vec<(String, String, String, u64)>,
    late: u64,
}

fn keep(text: &str) -> Kept {
    let mut first: BTreeMap<(String, String, String), &str> = BTreeMap::new();
    let mut kept = Kept { events: Vec::new(), repeats: 0, conflicts: Vec::new(), late: 0 };
    let mut latest = String::new();
    let hour_before = |time: &str| rfc3339(micros(time) - 3_600_000_000);
    for (number, line) in text.lines().enumerate() {
        let event: Value = serde_json::from_str(line).unwrap();
        let stream = event["stream"].as_str().unwrap_or("audit").to_owned();
        let key = (of(&event, "/tenant"), stream, of(&event, "/id"));
        match first.get(&key) {
            Some(before) if *before == line => kept.repeats += 1,
            Some(_) => kept.conflicts.push((key.0, key.1, key.2, number as u64 + 1)),
            None => {
                first.insert(key, line);
                let time = of(&event, "/time");
                if !latest.is_empty() && time < hour_before(&latest) {
                    kept.late += 1;
                }
                latest = latest.max(time);
                kept.events.push(event);
            }
        }
    }
    kept
}

fn of(event: &Value, pointer: &str) -> String {
    event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Microseconds of our own time texts, by walking the calendar day by day: slow, and unlike the code under test.
fn micros(time: &str) -> i64 {
    let number = |range: std::ops::Range<usize>| time[range].parse::<i64>().unwrap();
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut days: i64 = (1970..number(0..4)).map(|year| if leap(year) { 366 } else { 365 }).sum();
    for month in 1..number(5..7) {
        days += match month {
            2 => 28 + i64::from(leap(number(0..4))),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
    }
    days += number(8..10) - 1;
    (((days * 24 + number(11..13)) * 60 + number(14..16)) * 60 + number(17..19)) * 1_000_000 + number(20..26)
}

fn telemetry(event: &&Value) -> bool {
    event["stream"] == "telemetry"
}

#[test]
fn same_plan_same_bytes() {
    let (text, planted) = run(small());
    assert_eq!(run(small()), (text.clone(), planted));
    // If this fails, existing records no longer match their seeds. Change it only together with `format` of the
    // record.
    assert_eq!(format!("{:016x}", digest(&text)), "65f97a2aae26742b", "the output of a plan changed");
    assert_ne!(digest(&run(Plan { seed: 2, ..small() }).0), digest(&text));
}

#[test]
fn random_is_frozen() {
    let mut random = Random::new(0, 0);
    let drawn = [random.next(), random.next(), random.next()];
    assert_eq!(
        drawn.map(|number| format!("{number:016x}")),
        ["a706dd2f4d197e6f", "b382a305f4414f5e", "631a9154fbabf717"]
    );
}

#[test]
fn time_texts() {
    assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000Z");
    assert_eq!(rfc3339(951_782_400_000_001), "2000-02-29T00:00:00.000001Z");
    assert_eq!(rfc3339(1_772_409_599_999_999), "2026-03-01T23:59:59.999999Z");
    for day in (0..90_000).step_by(17) {
        assert_eq!(micros(&rfc3339(day * time::DAY + 86_399_000_007)), day * time::DAY + 86_399_000_007);
    }
}

#[test]
fn plans_out_of_bounds_are_refused() {
    let refused = |plan: Plan| {
        let mut out = Vec::new();
        let fault = generate(&plan, &mut out).unwrap_err();
        assert_eq!((fault.kind(), out.len()), (io::ErrorKind::InvalidInput, 0));
        fault.to_string()
    };
    for events in [0, 1, 10, MIN_EVENTS - 1] {
        let message = refused(Plan { events, ..Plan::default() });
        assert!(message.starts_with(&format!("events is {events};")) && message.contains("2000"), "{message}");
    }
    assert!(refused(Plan { days: 0, ..Plan::default() }).contains("between 1 and 3660"));
    assert!(refused(Plan { days: MAX_DAYS + 1, ..Plan::default() }).starts_with("days is 3661"));
    for start_us in [i64::MIN, -1, LATEST_US, i64::MAX] {
        assert!(refused(Plan { start_us, ..Plan::default() }).starts_with("start is"));
    }
}

/// Every corner of the plan: no panic, exact figures.
#[test]
fn corners() {
    let last = LATEST_US - 1;
    for seed in [0, 1, 2, 0x8000_0000_0000_0000, u64::MAX] {
        for (events, days, start_us) in
            [(2_000, 30, 0), (2_001, 1, 0), (2_500, 3, 1), (3_000, 7, 77), (2_000, 3_660, last), (9_000, 6, 3)]
        {
            let plan = Plan { seed, events, days, start_us: start_us.max(EARLIEST_US) };
            let (text, planted) = run(plan);
            check(&text, &planted);
        }
    }
}

#[test]
fn default_plan() {
    let (text, planted) = run(Plan::default());
    check(&text, &planted);
    let stored = serde_json::to_string(&planted).unwrap();
    assert_eq!(serde_json::from_str::<Planted>(&stored).unwrap(), planted);
    // What makes the demo's questions worth asking.
    assert!(planted.late > 100 && planted.repeats == 500 && planted.conflicts.len() == 3);
    assert!(planted.bad_release.tenants.iter().any(|row| row.runs > row.broken + 3));
}

fn check(text: &str, planted: &Planted) {
    let kept = keep(text);
    totals(text, &kept, planted);
    shapes(text, planted);
    release(&kept.events, planted);
    intrusion(&kept.events, planted);
    support(&kept.events, planted);
    borders(text, &kept.events, planted);
    grants(&kept.events, planted);
    asked(planted);
}

fn totals(text: &str, kept: &Kept, planted: &Planted) {
    assert_eq!(text.lines().count(), planted.plan.events);
    assert_eq!(planted.lines, planted.plan.events as u64);
    assert_eq!(kept.events.len() as u64, planted.events);
    assert_eq!((kept.repeats, kept.late), (planted.repeats, planted.late));
    assert_eq!(planted.events + planted.repeats + planted.conflicts.len() as u64, planted.lines);
    let conflicts = planted
        .conflicts
        .iter()
        .map(|found| (found.tenant.clone(), found.stream.clone(), found.id.clone(), found.line));
    assert_eq!(kept.conflicts, conflicts.collect::<Vec<_>>());
    assert_eq!(kept.conflicts.len(), 3);
    let times: BTreeSet<String> = kept.events.iter().map(|event| of(event, "/time")).collect();
    assert_eq!((times.first(), times.last()), (Some(&planted.first_time), Some(&planted.last_time)));
    assert!(micros(&planted.first_time) >= planted.plan.start_us);
    assert!(micros(&planted.last_time) < planted.plan.start_us + planted.plan.span());
    let mut counts: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    for event in &kept.events {
        counts.entry(of(event, "/tenant")).or_default()[usize::from(telemetry(&event))] += 1;
    }
    let stated = planted.tenants.iter().map(|count| (count.tenant.clone(), [count.audit, count.telemetry]));
    assert_eq!(counts, stated.filter(|(_, streams)| *streams != [0, 0]).collect());
}

/// Required fields, known names, and the limits that the service documents.
fn shapes(text: &str, planted: &Planted) {
    const SKELETON: [&str; 11] = [
        "id",
        "action",
        "outcome",
        "reason",
        "service",
        "workflow",
        "integration",
        "release",
        "region",
        "elevation_id",
        "approval_id",
    ];
    const OTHER: [&str; 20] = [
        "time",
        "tenant",
        "stream",
        "actor",
        "resource",
        "legal_entity",
        "business_unit",
        "client",
        "project",
        "partner",
        "source_ip",
        "session",
        "user_agent",
        "credential",
        "severity",
        "duration_us",
        "trace_id",
        "span_id",
        "attributes",
        "id",
    ];
    const OUTCOMES: [&str; 4] = ["success", "failure", "denied", "error"];
    const ACTORS: [&str; 6] = ["user", "service", "agent", "support", "partner", "anonymous"];
    let tenants: BTreeSet<&str> = planted.tenants.iter().map(|count| count.tenant.as_str()).collect();
    let hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    for line in text.lines() {
        assert!(line.len() < 8_192, "{line}");
        let event: Value = serde_json::from_str(line).unwrap();
        for (name, value) in event.as_object().unwrap() {
            assert!(SKELETON.contains(&name.as_str()) || OTHER.contains(&name.as_str()), "{name}");
            assert!(!value.is_null() && value != "", "{line}");
        }
        assert!(SKELETON.iter().all(|name| of(&event, &format!("/{name}")).len() <= 128));
        assert!(tenants.contains(of(&event, "/tenant").as_str()));
        assert!(
            OUTCOMES.contains(&of(&event, "/outcome").as_str()) && ACTORS.contains(&of(&event, "/actor/type").as_str()),
            "{line}"
        );
        let action = of(&event, "/action");
        assert_eq!(action.split('.').filter(|part| !part.is_empty()).count(), 2, "{action}");
        let time = of(&event, "/time");
        assert!(time.len() == 27 && rfc3339(micros(&time)) == time && !time.ends_with("000Z"), "{time}");
        let id = of(&event, "/id").replace('-', "");
        assert!(hex(&id, 32) && i64::from_str_radix(&id[..12], 16).unwrap() == micros(&time) / 1_000, "{line}");
        assert!(of(&event, "/trace_id").is_empty() || hex(&of(&event, "/trace_id"), 32));
        assert!(of(&event, "/span_id").is_empty() || hex(&of(&event, "/span_id"), 16));
        assert!(event.get("attributes").is_none_or(Value::is_object));
        assert!(event.get("duration_us").is_none_or(Value::is_u64));
        assert!(event.get("duration_us").is_some() == telemetry(&&event), "{line}");
    }
}

fn release(events: &[Value], planted: &Planted) {
    let bad = &planted.bad_release;
    let mut rows: BTreeMap<String, [u64; 4]> = BTreeMap::new();
    for event in events.iter().filter(|event| event["release"] == *bad.release) {
        assert_eq!(event["region"], *bad.region);
        let time = of(event, "/time");
        assert!(time >= bad.from && (time < bad.until || event["action"] == "release.rolled_back"), "{event}");
    }
    for event in events {
        let broken = u64::from(event["reason"] == *bad.reason);
        assert!(broken == 0 || event["release"] == *bad.release);
        if event["release"] == *bad.release && event["service"] == *bad.service && event["workflow"] == *bad.workflow {
            let row = rows.entry(of(event, "/tenant")).or_default();
            if telemetry(&event) {
                row[0] += 1;
                row[1] += u64::from(event["outcome"] == "error");
                row[2] += broken;
            } else {
                row[3] += broken;
            }
        }
    }
    let stated: BTreeMap<_, _> = bad
        .tenants
        .iter()
        .map(|row| (row.tenant.clone(), [row.runs, row.errors, row.broken, row.audit_failures]))
        .collect();
    assert_eq!(rows, stated);
    let broken: BTreeSet<&String> = rows.iter().filter(|(_, row)| row[2] > 0).map(|(tenant, _)| tenant).collect();
    let healthy: BTreeSet<&String> = rows.iter().filter(|(_, row)| row[2] == 0).map(|(tenant, _)| tenant).collect();
    assert_eq!((broken, healthy), (bad.affected.iter().collect(), bad.not_affected.iter().collect()));
    assert_eq!((bad.affected.len(), bad.not_affected.len(), bad.never_ran_it.len()), (5, 7, 12));
    let found = events.iter().filter(|event| of(event, "/action").starts_with("release."));
    let found: BTreeSet<String> = found.map(|event| of(event, "/id")).collect();
    assert_eq!(found, planted.rollouts.iter().map(|rollout| rollout.event.id.clone()).collect());
    assert!(planted.rollouts.is_sorted_by(|one, other| one.event.time < other.event.time));
    assert_eq!(bad.contained_by.time, bad.until);
}

fn intrusion(events: &[Value], planted: &Planted) {
    let found = &planted.intrusion;
    let mut rows: Vec<(String, u64, u64, String, String)> = Vec::new();
    let mut guesses: Vec<&Value> = events.iter().filter(|event| event["source_ip"] == *found.source_ip).collect();
    guesses.sort_by_key(|event| of(event, "/time"));
    for event in guesses {
        let (tenant, time) = (of(event, "/tenant"), of(event, "/time"));
        if rows.iter().all(|row| row.0 != tenant) {
            rows.push((tenant.clone(), 0, 0, time.clone(), String::new()));
        }
        let row = rows.iter_mut().find(|row| row.0 == tenant).unwrap();
        (row.1, row.2, row.4) = (row.1 + 1, row.2 + u64::from(event["outcome"] == "success"), time);
    }
    let stated = found.tenants.iter();
    assert_eq!(
        rows,
        stated
            .map(|row| (row.tenant.clone(), row.attempts, row.successes, row.first.clone(), row.last.clone()))
            .collect::<Vec<_>>()
    );
    assert_eq!(rows.iter().map(|row| row.1).sum::<u64>(), found.failed + 1);
    let mut steps: Vec<&Value> = events.iter().filter(|event| event["session"] == *found.session).collect();
    steps.sort_by_key(|event| of(event, "/time"));
    let fields = ["/id", "/time", "/tenant", "/action", "/outcome", "/source_ip", "/resource/id"];
    let seen: Vec<Vec<String>> =
        steps.iter().map(|event| fields.iter().map(|field| of(event, field)).collect()).collect();
    let stated = found.steps.iter().map(|step| {
        let event = &step.event;
        [&event.id, &event.time, &event.tenant, &event.action, &step.outcome, &step.source_ip, &step.resource]
            .map(String::clone)
            .to_vec()
    });
    assert_eq!(seen, stated.collect::<Vec<_>>());
    let second = events.iter().filter(|event| event["source_ip"] == *found.second_ip);
    assert_eq!(second.count() + 1, found.steps.len());
    let after = steps.iter().filter(|event| of(event, "/time") > found.contained_by.time);
    assert_eq!(after.map(|event| of(event, "/id")).collect::<Vec<_>>(), [found.after_containment[0].id.clone()]);
}

fn support(events: &[Value], planted: &Planted) {
    let record = &planted.support;
    let touches = |event: &&Value| event["actor"]["type"] == "support" && event["resource"]["type"] != "ticket";
    let mut bare: Vec<&Value> =
        events.iter().filter(|event| touches(event) && event.get("elevation_id").is_none()).collect();
    bare.sort_by_key(|event| of(event, "/time"));
    let visit = &record.without_elevation;
    assert!(bare.iter().all(|event| event["tenant"] == *visit.tenant && event["actor"]["id"] == *visit.actor));
    assert_eq!(
        bare.iter().map(|event| of(event, "/id")).collect::<Vec<_>>(),
        visit.reads.iter().map(|read| read.event.id.clone()).collect::<Vec<_>>()
    );
    for elevation in &record.elevations {
        let under: Vec<&Value> =
            events.iter().filter(|event| event["elevation_id"] == *elevation.elevation_id).collect();
        assert_eq!(under.len(), elevation.reads.len() + 3);
        assert!(under.iter().all(|event| event["tenant"] == *elevation.tenant && event["attributes"]["ticket"] == *elevation.ticket));
        let reads: BTreeSet<String> = under
            .iter()
            .filter(|event| of(event, "/action").ends_with(".read"))
            .map(|event| of(event, "/id"))
            .collect();
        assert_eq!(reads, elevation.reads.iter().map(|read| read.id.clone()).collect());
        let inside = |read: &planted::EventRef| read.time > elevation.from && read.time < elevation.until;
        assert!(elevation.reads.iter().all(inside));
        let own = elevation.actor == elevation.approver;
        assert_eq!(own, record.approved_by_asker.contains(&elevation.elevation_id));
    }
    let elevated: BTreeSet<String> =
        events.iter().map(|event| of(event, "/elevation_id")).filter(|id| !id.is_empty()).collect();
    assert_eq!(elevated, record.elevations.iter().map(|elevation| elevation.elevation_id.clone()).collect());
    assert_eq!(record.approved_by_asker.len(), 1);
}

fn borders(text: &str, events: &[Value], planted: &Planted) {
    let crossings = |outcome: &str| {
        let crosses = |event: &&Value| event["action"] == "export.complete" && event["outcome"] == *outcome;
        let away =
            |event: &&Value| event.pointer("/resource/boundary").is_some_and(|boundary| *boundary != event["region"]);
        let mut found: Vec<&Value> = events.iter().filter(crosses).filter(away).collect();
        found.sort_by_key(|event| of(event, "/time"));
        found
            .into_iter()
            .map(|event| (of(event, "/id"), of(event, "/resource/boundary"), of(event, "/approval_id")))
            .collect::<Vec<_>>()
    };
    let stated = |list: &[planted::Crossing]| {
        list.iter()
            .map(|export| {
                (export.event.id.clone(), export.boundary.clone(), export.approval_id.clone().unwrap_or_default())
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(crossings("success"), stated(&planted.exports.left_region));
    assert_eq!(crossings("denied"), stated(&planted.exports.refused));
    let home: BTreeMap<&str, &str> =
        planted.tenants.iter().map(|count| (count.tenant.as_str(), count.region.as_str())).collect();
    let away = events
        .iter()
        .filter(|event| event["tenant"] != *planted.operator && event["region"] != home[of(event, "/tenant").as_str()]);
    let roaming = &planted.roaming_credential;
    let away: BTreeSet<String> = away.map(|event| of(event, "/id")).collect();
    assert_eq!(away, roaming.foreign_calls.iter().map(|call| call.id.clone()).collect());
    let used = events.iter().filter(|event| event["credential"] == *roaming.credential).count() as u64;
    assert_eq!(used, roaming.home_calls + roaming.foreign_calls.len() as u64);
    let quiet: Vec<&Value> = events.iter().filter(|event| event["tenant"] == *planted.quiet.tenant).collect();
    assert_eq!(quiet.len() as u64, planted.quiet.events);
    let odd: Vec<&&Value> = quiet.iter().filter(|event| event["source_ip"] == *planted.quiet.source_ip).collect();
    assert!(
        odd.len() == 1 && odd[0]["id"] == *planted.quiet.anomaly.id && odd[0]["actor"]["id"] == *planted.quiet.actor
    );
    for (event, digits) in &planted.large_integers {
        let line = text.lines().find(|line| line.contains(&event.id)).unwrap();
        assert!(line.contains(digits) && digits.parse::<u64>().unwrap() > 1 << 53);
    }
}

fn grants(events: &[Value], planted: &Planted) {
    let of_action = |action: &str| {
        events.iter().filter(|event| event["action"] == *action).map(|event| of(event, "/id")).collect::<BTreeSet<_>>()
    };
    let granted = planted.grants.iter().map(|grant| grant.event.id.clone());
    assert_eq!(of_action("role.grant"), granted.collect());
    let revoked = planted.grants.iter().filter_map(|grant| grant.revoked.as_ref());
    assert_eq!(of_action("role.revoke"), revoked.map(|event| event.id.clone()).collect());
    let left = planted.grants.iter().filter_map(|grant| grant.left.as_ref());
    assert_eq!(of_action("user.deactivate"), left.map(|event| event.id.clone()).collect());
    for grant in &planted.grants {
        let event = events.iter().find(|event| event["id"] == *grant.event.id).unwrap();
        assert_eq!(event.get("approval_id").and_then(Value::as_str), grant.approval_id.as_deref());
        assert_eq!(
            (of(event, "/resource/id"), of(event, "/attributes/role")),
            (grant.subject.clone(), grant.role.clone())
        );
        let acts = events.iter().filter(|event| event["actor"]["id"] == *grant.subject).count();
        assert!(!grant.never_used || acts == 0, "{}", grant.subject);
        assert_eq!(grant.orphaned, grant.left.is_some() && grant.revoked.is_none());
        assert!(grant.revoked.as_ref().is_none_or(|revoked| revoked.time > grant.event.time));
    }
    let count = |wanted: fn(&&planted::Grant) -> bool| planted.grants.iter().filter(wanted).count();
    assert_eq!(
        (count(|grant| grant.approval_id.is_none()), count(|grant| grant.never_used), count(|grant| grant.orphaned)),
        (2, 4, 3)
    );
}

fn asked(planted: &Planted) {
    let asked = questions(planted);
    assert_eq!(asked.len(), 5);
    for question in &asked {
        assert!(question.sql.starts_with("SELECT ") && question.sql.contains("ORDER BY"), "{}", question.sql);
        assert!(!question.expected.is_empty() && !question.tenants.is_empty() && !question.title.is_empty());
        let widths: BTreeSet<usize> = question.expected.iter().map(Vec::len).collect();
        assert_eq!(widths.len(), 1);
    }
    let distinct = |column: usize, question: &Question| {
        question.expected.iter().map(|row| row[column].clone()).collect::<Vec<_>>()
    };
    assert!(distinct(0, &asked[4]).is_sorted_by(|one, other| one.as_str() < other.as_str()));
}
