//! The five questions of `piperoll demo`, and the answers that the record says are right.
//!
//! The SQL is what a person would type: plain `SELECT`s over `audit` and `telemetry`. The expected rows come from the
//! record alone; no SQL runs here. Neighbours: `planted` has the facts, the demo asks and compares.
//!
//! Invariants:
//! 1. Each query fixes the order of its rows completely.
//! 2. Texts are JSON strings, counts JSON integers, absent values null, times RFC 3339 UTC with six digits and a `Z`.

use super::planted::Planted;
use serde_json::{Value, json};

/// A question somebody has, how to ask it, and the right answer.
#[derive(Clone, Debug)]
pub struct Question {
    /// Who asks: `SRE` or `security analyst`.
    pub asked_by: &'static str,
    /// The question as a person asks it.
    pub title: String,
    /// Why they ask, in a sentence or two.
    pub why: String,
    /// The tenants to ask over.
    pub tenants: Vec<String>,
    /// The query.
    pub sql: String,
    /// The right rows, in order.
    pub expected: Vec<Vec<Value>>,
}

/// The five questions about what was planted.
pub fn questions(planted: &Planted) -> Vec<Question> {
    vec![
        broken_by_release(planted),
        touched_by_address(planted),
        unelevated_support(planted),
        left_region(planted),
        stolen_session(planted),
    ]
}

fn every_tenant(planted: &Planted) -> Vec<String> {
    planted.tenants.iter().map(|count| count.tenant.clone()).collect()
}

fn broken_by_release(planted: &Planted) -> Question {
    let bad = &planted.bad_release;
    let sql = format!(
        "SELECT tenant, count(*) AS runs,\n       \
         sum(CASE WHEN outcome = 'error' THEN 1 ELSE 0 END) AS errors,\n       \
         sum(CASE WHEN reason = '{reason}' THEN 1 ELSE 0 END) AS broken,\n       \
         CASE WHEN sum(CASE WHEN reason = '{reason}' THEN 1 ELSE 0 END) > 0 THEN 'affected' ELSE 'not affected' END AS verdict\n\
         FROM telemetry\n\
         WHERE release = '{release}' AND service = '{service}' AND workflow = '{workflow}'\n\
         GROUP BY tenant\n\
         ORDER BY broken DESC, tenant",
        reason = bad.reason,
        release = bad.release,
        service = bad.service,
        workflow = bad.workflow,
    );
    let rows = bad.tenants.iter().map(|row| {
        let verdict = if row.broken > 0 { "affected" } else { "not affected" };
        vec![json!(row.tenant), json!(row.runs), json!(row.errors), json!(row.broken), json!(verdict)]
    });
    Question {
        asked_by: "SRE",
        title: format!(
            "Invoices fail since release {} went live in {}. Which tenants did it break, and which not?",
            bad.release, bad.region
        ),
        why: format!("It was rolled back at {}. Customers are told tonight, and only those concerned.", bad.until),
        tenants: every_tenant(planted),
        sql,
        expected: rows.collect(),
    }
}

fn touched_by_address(planted: &Planted) -> Question {
    let found = &planted.intrusion;
    let sql = format!(
        "SELECT tenant, count(*) AS attempts,\n       \
         sum(CASE WHEN outcome = 'success' THEN 1 ELSE 0 END) AS successes,\n       \
         min(occurred_at) AS first_seen, max(occurred_at) AS last_seen\n\
         FROM audit\n\
         WHERE source_ip = '{}'\n\
         GROUP BY tenant\n\
         ORDER BY first_seen, tenant",
        found.source_ip
    );
    let rows = found.tenants.iter();
    Question {
        asked_by: "security analyst",
        title: format!("Which tenants did the address {} touch, and did it get in anywhere?", found.source_ip),
        why: String::from("A burst of refused logins. One success among them changes everything."),
        tenants: every_tenant(planted),
        sql,
        expected: rows
            .map(|row| {
                vec![json!(row.tenant), json!(row.attempts), json!(row.successes), json!(row.first), json!(row.last)]
            })
            .collect(),
    }
}

fn unelevated_support(planted: &Planted) -> Question {
    let visit = &planted.support.without_elevation;
    let sql = "SELECT occurred_at, actor_id, action, resource_type, resource_id\n\
               FROM audit\n\
               WHERE actor_type = 'support' AND elevation_id IS NULL AND resource_type <> 'ticket'\n\
               ORDER BY occurred_at, event_id";
    let rows = visit.reads.iter();
    Question {
        asked_by: "security analyst",
        title: format!("Who of support read data of {} without an elevation?", visit.tenant),
        why: String::from(
            "The customer was promised that support comes in only when asked and approved. Comments on tickets need no elevation.",
        ),
        tenants: vec![visit.tenant.clone()],
        sql: sql.to_owned(),
        expected: rows
            .map(|read| {
                vec![
                    json!(read.event.time),
                    json!(visit.actor),
                    json!(read.event.action),
                    json!(read.resource_type),
                    json!(read.resource),
                ]
            })
            .collect(),
    }
}

fn left_region(planted: &Planted) -> Question {
    let sql = "SELECT occurred_at, tenant, region, boundary, actor_id, resource_id, approval_id\n\
               FROM audit\n\
               WHERE action = 'export.complete' AND outcome = 'success' AND boundary <> region\n\
               ORDER BY occurred_at, event_id";
    let rows = planted.exports.left_region.iter().map(|export| {
        let what =
            [&export.event.time, &export.event.tenant, &export.region, &export.boundary, &export.actor, &export.export];
        let mut row: Vec<Value> = what.into_iter().map(|text| json!(text)).collect();
        row.push(json!(export.approval_id));
        row
    });
    Question {
        asked_by: "security analyst",
        title: String::from("What left its region? Exports whose destination is not where the tenant lives"),
        why: String::from(
            "Data is promised to stay in its region. A refused export left nothing; an approved one is in order; the rest is not.",
        ),
        tenants: every_tenant(planted),
        sql: sql.to_owned(),
        expected: rows.collect(),
    }
}

fn stolen_session(planted: &Planted) -> Question {
    let found = &planted.intrusion;
    let sql = format!(
        "SELECT occurred_at, tenant, action, outcome, source_ip, resource_id\n\
         FROM audit\n\
         WHERE session = '{}'\n\
         ORDER BY occurred_at, event_id",
        found.session
    );
    let rows = found.steps.iter().map(|step| {
        let what =
            [&step.event.time, &step.event.tenant, &step.event.action, &step.outcome, &step.source_ip, &step.resource];
        what.into_iter().map(|text| json!(text)).collect()
    });
    Question {
        asked_by: "security analyst",
        title: String::from(
            "One login worked. What was done in that session, first to last, in every tenant it reached?",
        ),
        why: format!("The session {} belongs to {}, who may act in several tenants.", found.session, found.actor),
        tenants: every_tenant(planted),
        sql,
        expected: rows.collect(),
    }
}
