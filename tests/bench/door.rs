//! The part about the front door: a large registry's start, what a decision costs, and whether a flood of one tenant is
//! felt by another.
//!
//! Not here: what ingest costs with the door (every part goes through it).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::load::Latencies;
use crate::program::{Mode, Server, client};
use crate::report::{Bar, Unit};
use crate::sections::Bench;
use crate::trouble::{Outcome, Trouble};

/// Tenants of the large registry; those that every platform of the benchmark has come on top.
const TENANTS: usize = 10_000;
/// Principals, each with ten grants.
const PRINCIPALS: usize = 10_000;
const GRANTS_EACH: usize = 10;
/// Tenants that are asked about.
const ASKED: usize = 2_000;
/// How long a flood is watched, and how long it is calm before.
const WATCHED: Duration = Duration::from_secs(15);
/// Between two batches of the tenant that is watched.
const PACE: Duration = Duration::from_millis(25);
/// Events a second that the flooding tenant may bring; it brings ten times as many.
const QUOTA: usize = 2_000;

impl Bench {
    /// Measures the door.
    pub async fn door(&mut self) -> Outcome<()> {
        let data = self.place("door");
        let server = Server::start(&self.programs, Mode::Plain, &data).await?;
        fill(&server).await?;
        server.stop().await?;
        let server = Server::start(&self.programs, Mode::Plain, &data).await?;
        let what = format!("start with {TENANTS} tenants and {} grants", PRINCIPALS * GRANTS_EACH);
        self.report.row(what, Unit::Seconds, Bar::AtMost(2.0), server.ready_after.as_secs_f64(), None);
        let open = times(&server, |_| "/healthz".into(), ASKED).await?;
        let of = |n: usize| format!("/v1/tenants/d{n:05}/audit/checkpoint");
        let first = times(&server, of, ASKED).await?;
        let again = times(&server, of, ASKED).await?;
        let base = open.milliseconds(0.5);
        self.report.row("an open route, p50", Unit::Milliseconds, Bar::None, base, None);
        let more = |taken: &Latencies| taken.milliseconds(0.5) - base;
        self.report.row("who and what, the first time, p50", Unit::Milliseconds, Bar::AtMost(0.05), more(&first), None);
        self.report.row("who and what, again, p50", Unit::Milliseconds, Bar::AtMost(0.05), more(&again), None);
        self.flood(&server).await?;
        server.stop().await?;
        self.discard(&data)
    }

    /// Whether a tenant that floods at ten times its quota is felt by another.
    async fn flood(&mut self, server: &Server) -> Outcome<()> {
        let quota = json!({"change": "quota.set", "tenant": "t-001", "reason": "the benchmark",
            "quota": {"events_per_second": QUOTA}});
        server.change(&[quota]).await?;
        let calm = watched(server, "calm").await?;
        let flooding = tokio::spawn(flood(server.url("/v1/events"), Instant::now() + WATCHED));
        let felt = watched(server, "flood").await?;
        let (taken, refused) = flooding.await.map_err(|e| Trouble::machine("a flood")(std::io::Error::other(e)))??;
        for (share, name) in [(0.5, "p50"), (0.99, "p99")] {
            let (before, after) = (calm.milliseconds(share), felt.milliseconds(share));
            let what = format!(
                "another tenant's receipts while one floods ({taken} batches taken, {refused} refused), {name}"
            );
            self.report.row(what, Unit::Milliseconds, Bar::None, after, Some(before));
        }
        Ok(())
    }
}

/// Makes the tenants, principals and grants.
async fn fill(server: &Server) -> Outcome<()> {
    let tenants = (0..TENANTS).map(|n| json!({"change": "tenant.create", "tenant": format!("d{n:05}")}));
    let people = (0..PRINCIPALS).flat_map(|n| {
        let person = json!({"change": "principal.create", "principal": format!("p{n:05}"), "kind": "user"});
        let grants = (0..GRANTS_EACH).map(move |k| {
            json!({"change": "grant.create", "principal": format!("p{n:05}"), "role": "tenant-auditor",
                "tenants": [format!("d{:05}", (n * 7 + k * 1_013) % TENANTS)]})
        });
        std::iter::once(person).chain(grants)
    });
    let all: Vec<Value> = tenants.chain(people).collect();
    server.change(&all).await
}

/// How long each of so many requests took, one after another.
async fn times(server: &Server, path: impl Fn(usize) -> String, count: usize) -> Outcome<Latencies> {
    let client = client()?;
    let mut times = Vec::with_capacity(count);
    for n in 0..count {
        let begin = Instant::now();
        let answer = client.get(server.url(&path(n))).send().await.map_err(Trouble::unanswered("asking the door"))?;
        // There is no such stream: what is measured is what comes before that is found out.
        let status = answer.status().as_u16();
        answer.bytes().await.map_err(Trouble::unanswered("asking the door"))?;
        times.push(begin.elapsed());
        if !matches!(status, 200 | 404) {
            return Err(Trouble::wrong("the answer of the door", "200 or 404", status));
        }
    }
    Ok(Latencies::of(times))
}

fn batch(tenant: &str, name: &str, from: usize, count: usize) -> String {
    let one = |n: usize| {
        format!(
            "{{\"id\":\"{name}-{n}\",\"time\":\"2026-08-14T09:26:53Z\",\"tenant\":\"{tenant}\",\"action\":\"invoice.update\",\
             \"actor\":{{\"type\":\"user\",\"id\":\"u-{}\"}},\"attributes\":{{\"n\":{n}}}}}\n",
            n % 97
        )
    };
    (from..from + count).map(one).collect()
}

/// Receipt latencies of a tenant that brings a hundred events now and then.
async fn watched(server: &Server, name: &str) -> Outcome<Latencies> {
    let (client, begin, mut times) = (client()?, Instant::now(), Vec::new());
    for n in 0.. {
        let due = begin + PACE * n as u32;
        if due - begin > WATCHED {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        let sent = Instant::now();
        let body = batch("t-000", name, n * 100, 100);
        let answer = client.post(server.url("/v1/events")).body(body).send().await;
        let answer = answer.map_err(Trouble::unanswered("posting events"))?;
        if !answer.status().is_success() {
            return Err(Trouble::wrong("the answer to posted events", "200", answer.status()));
        }
        answer.bytes().await.map_err(Trouble::unanswered("posting events"))?;
        times.push(sent.elapsed());
    }
    Ok(Latencies::of(times))
}

/// Brings ten times what the quota allows; answers how many batches were taken and refused.
async fn flood(url: String, until: Instant) -> Outcome<(usize, usize)> {
    let (client, begin, mut counts) = (client()?, Instant::now(), (0, 0));
    for n in 0.. {
        let due = begin + Duration::from_secs(1).mul_f64(1_000.0 / (10.0 * QUOTA as f64)) * n as u32;
        if due > until {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        let answer = client.post(&url).body(batch("t-001", "flood", n * 1_000, 1_000)).send().await;
        match answer.map_err(Trouble::unanswered("flooding"))?.status().as_u16() {
            200 => counts.0 += 1,
            429 => counts.1 += 1,
            status => return Err(Trouble::wrong("the answer to a flood", "200 or 429", status)),
        }
    }
    Ok(counts)
}
