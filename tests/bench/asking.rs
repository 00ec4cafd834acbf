//! Asks a running server: SQL, the newest events, proofs. Takes the time of each answer and checks what it says.
//!
//! Not here: which questions there are (`questions`), how the server is started (`program`).
//!
//! Invariants: (1) a time ends with the answer's last byte; it is parsed and checked afterwards; (2) an answer is
//! checked every time, not only the first.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::load::Latencies;
use crate::program::client;
use crate::questions::{Expected, Question};
use crate::trouble::{Outcome, Trouble};

/// Answers that are not counted, so that caches are warm.
const WARM_UP: usize = 2;
/// Answers of which the median is taken.
const TIMED: usize = 15;
/// Proofs of which the median is taken.
pub const PROOFS: usize = 50;

/// Someone who asks one server.
pub struct Asker {
    client: reqwest::Client,
    base: String,
}

/// How long a question took.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The first answer after the server started, in milliseconds.
    pub first: f64,
    pub warm: Latencies,
    pub rows: usize,
    pub bytes: usize,
}

/// One answer's bytes, and how long they took.
struct Reply {
    took: Duration,
    bytes: Vec<u8>,
}

impl Asker {
    /// Asks at this address.
    pub fn new(base: String) -> Outcome<Self> {
        Ok(Self { client: client()?, base })
    }

    /// Asks an SQL question until it is warm, and then for the record.
    pub async fn question(&self, question: &Question) -> Outcome<Answered> {
        let body = serde_json::json!({"sql": question.sql, "tenants": question.tenants});
        let mut times = Vec::with_capacity(TIMED);
        let mut first = 0.0;
        let (mut rows, mut bytes) = (0, 0);
        for round in 0..WARM_UP + TIMED {
            let request = self.client.post(format!("{}/v1/query", self.base)).json(&body);
            let reply = reply(request, question.name).await?;
            if round == 0 {
                first = reply.took.as_secs_f64() * 1e3;
            }
            if round >= WARM_UP {
                times.push(reply.took);
            }
            bytes = reply.bytes.len();
            rows = check(&reply.bytes, question.name, question.expected)?;
        }
        Ok(Answered { first, warm: Latencies::of(times), rows, bytes })
    }

    /// How many events of these tenants there are, by SQL.
    pub async fn count(&self, tenants: &[String]) -> Outcome<u64> {
        let body = serde_json::json!({"sql": "SELECT count(*) AS n FROM audit", "tenants": tenants});
        let what = "the count of all events";
        let reply = reply(self.client.post(format!("{}/v1/query", self.base)).json(&body), what).await?;
        let answer: Value = serde_json::from_slice(&reply.bytes).map_err(Trouble::unreadable(what))?;
        answer["rows"][0][0].as_u64().ok_or_else(|| Trouble::lacking(what))
    }

    /// Reads every event's widest columns, once: how long that takes, and how many there are.
    pub async fn scan(&self, tenants: &[String]) -> Outcome<(Duration, u64)> {
        let sql = "SELECT count(*) AS n, sum(length(attributes)), max(session), max(actor_id), max(resource_id), max(trace_id), \
                   max(source_ip), max(event_id) FROM audit";
        let (body, what) = (serde_json::json!({"sql": sql, "tenants": tenants}), "a scan of all events");
        let reply = reply(self.client.post(format!("{}/v1/query", self.base)).json(&body), what).await?;
        let answer: Value = serde_json::from_slice(&reply.bytes).map_err(Trouble::unreadable(what))?;
        Ok((reply.took, answer["rows"][0][0].as_u64().ok_or_else(|| Trouble::lacking(what))?))
    }

    /// The newest 100 events of a tenant through `GET …/events`.
    pub async fn newest(&self, tenant: &str, expected: usize) -> Outcome<Answered> {
        let what = "the newest events";
        let url = format!("{}/v1/tenants/{tenant}/audit/events?order=desc&limit=100", self.base);
        let mut times = Vec::with_capacity(TIMED);
        let (mut first, mut bytes) = (0.0, 0);
        for round in 0..WARM_UP + TIMED {
            let reply = reply(self.client.get(&url), what).await?;
            if round == 0 {
                first = reply.took.as_secs_f64() * 1e3;
            }
            if round >= WARM_UP {
                times.push(reply.took);
            }
            bytes = reply.bytes.len();
            let page: Value = serde_json::from_slice(&reply.bytes).map_err(Trouble::unreadable(what))?;
            let got = page["events"].as_array().map_or(0, Vec::len);
            if got != expected {
                return Err(Trouble::wrong(what, expected, got));
            }
        }
        Ok(Answered { first, warm: Latencies::of(times), rows: expected, bytes })
    }

    /// How many entries a tenant's audit stream has, as its checkpoint says.
    pub async fn size(&self, tenant: &str) -> Outcome<u64> {
        self.size_at(format!("{}/v1/tenants/{tenant}/audit/checkpoint", self.base)).await
    }

    /// How many groups the store has made durable, as the checkpoint of its log says.
    pub async fn groups(&self) -> Outcome<u64> {
        self.size_at(format!("{}/v1/stores/main/checkpoint", self.base)).await
    }

    async fn size_at(&self, url: String) -> Outcome<u64> {
        let what = "a checkpoint";
        let note = reply(self.client.get(url), what).await?.bytes;
        let text = String::from_utf8_lossy(&note);
        let size = text.lines().nth(1).and_then(|line| line.parse().ok());
        size.ok_or_else(|| Trouble::lacking(what))
    }

    /// Inclusion proofs of entries at random places of a stream, each asked for once.
    pub async fn inclusion(&self, tenant: &str, size: u64) -> Outcome<Latencies> {
        let what = "an inclusion proof";
        let mut times = Vec::with_capacity(PROOFS);
        for seq in places(size) {
            let url = format!("{}/v1/tenants/{tenant}/audit/proof/inclusion?seq={seq}", self.base);
            let reply = reply(self.client.get(url), what).await?;
            if !reply.bytes.starts_with(b"c2sp.org/tlog-proof@v1\n") {
                return Err(Trouble::lacking(what));
            }
            times.push(reply.took);
        }
        Ok(Latencies::of(times))
    }

    /// Consistency proofs from random earlier sizes of a stream to its newest.
    pub async fn consistency(&self, tenant: &str, size: u64) -> Outcome<Latencies> {
        let what = "a consistency proof";
        let mut times = Vec::with_capacity(PROOFS);
        for from in places(size.saturating_sub(1)) {
            let from = from + 1;
            let url = format!("{}/v1/tenants/{tenant}/audit/proof/consistency?from={from}&to={size}", self.base);
            let reply = reply(self.client.get(url), what).await?;
            let proof: Value = serde_json::from_slice(&reply.bytes).map_err(Trouble::unreadable(what))?;
            if !proof["hashes"].is_array() {
                return Err(Trouble::lacking(what));
            }
            times.push(reply.took);
        }
        Ok(Latencies::of(times))
    }
}

/// Places below `size`, scattered, the same in every run (splitmix64 over a counter).
fn places(size: u64) -> impl Iterator<Item = u64> {
    (1..=PROOFS as u64).map(move |counter| {
        let mut bits = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % size.max(1)
    })
}

/// Sends a request and reads its whole answer.
async fn reply(request: reqwest::RequestBuilder, what: &str) -> Outcome<Reply> {
    let begin = Instant::now();
    let answer = request.send().await.map_err(Trouble::unanswered(what))?;
    let status = answer.status();
    let bytes = answer.bytes().await.map_err(Trouble::unanswered(what))?.to_vec();
    let took = begin.elapsed();
    if !status.is_success() {
        let said = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        return Err(Trouble::wrong(what, "200", format!("{status}: {said}")));
    }
    Ok(Reply { took, bytes })
}

/// Compares an answer's rows, and the sum of its column `n`, with what was counted; answers the number of rows.
fn check(bytes: &[u8], what: &str, expected: Expected) -> Outcome<usize> {
    let answer: Value = serde_json::from_slice(bytes).map_err(Trouble::unreadable(what))?;
    let rows = answer["rows"].as_array().ok_or_else(|| Trouble::lacking(what))?;
    if rows.len() != expected.rows {
        return Err(Trouble::wrong(format!("{what}: rows"), expected.rows, rows.len()));
    }
    if let Some(sum) = expected.sum {
        let columns = answer["columns"].as_array().map_or(&[][..], Vec::as_slice);
        let at = columns.iter().position(|column| column["name"] == "n").ok_or_else(|| Trouble::lacking(what))?;
        let got: u64 = rows.iter().filter_map(|row| row[at].as_u64()).sum();
        if got != sum as u64 {
            return Err(Trouble::wrong(format!("{what}: events counted"), sum, got));
        }
    }
    Ok(rows.len())
}
