//! The client that brings events in: as fast as two connections go, or at a fixed rate. The same for every server.
//!
//! Not here: how servers are started, and what the figures are compared with.
//!
//! Invariants: (1) a body counts when its answer accepted every event in it (or, where that is asked, knew every one)
//! and carries a receipt; anything else ends the run as wrong; (2) each connection has one request under way at a time; (3) a server that asks for patience
//! (429, 503) gets it, a bounded number of times, and the wait counts as latency.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::task::JoinSet;

use crate::events::Body;
use crate::program::client;
use crate::trouble::{Outcome, Trouble};

/// Connections, as the budgets say.
pub const CONNECTIONS: usize = 2;
/// How often one body may be put off.
const PATIENCE: usize = 120;

/// When requests leave.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// Each connection sends as soon as it has its answer.
    Full,
    /// One request is due every so often, in turn on each connection, whether or not the one before is answered
    /// elsewhere. Latency counts from when a request was due.
    Every(Duration),
}

/// Where bodies come from: all made beforehand, or each made as it is asked for.
pub trait Bodies: Send + Sync + 'static {
    /// The body at this place; none past the last.
    fn body(&self, at: usize) -> Option<Body>;
}

impl Bodies for Vec<Body> {
    fn body(&self, at: usize) -> Option<Body> {
        self.get(at).cloned()
    }
}

/// What a load brought.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub events: usize,
    pub took: Duration,
    pub latencies: Latencies,
    /// When each body was answered, counted from the begin, and how many events it had; in order of time.
    pub done: Vec<(Duration, usize)>,
    /// How often a server asked to come back later.
    pub put_off: usize,
}

impl Loaded {
    /// From how long each body took, and when each was answered.
    pub fn of(took: Duration, times: Vec<Duration>, mut done: Vec<(Duration, usize)>) -> Self {
        done.sort_unstable();
        let events = done.iter().map(|(_, events)| events).sum();
        Self { events, took, latencies: Latencies::of(times), done, put_off: 0 }
    }

    /// Events a second, from the first request to the last receipt.
    pub fn rate(&self) -> f64 {
        self.events as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// Events of the bodies that were answered between two moments.
    pub fn between(&self, from: Duration, to: Duration) -> usize {
        self.done.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, events)| events).sum()
    }

    /// Events a second while these shares (0 to 1) of the bodies were answered.
    pub fn rate_of(&self, shares: Range<f64>) -> f64 {
        let place = |share: f64| ((share * self.done.len() as f64) as usize).min(self.done.len());
        let (from, to) = (place(shares.start), place(shares.end));
        let end = |at: usize| at.checked_sub(1).map_or(Duration::ZERO, |last| self.done[last].0);
        let events: usize = self.done[from..to].iter().map(|(_, events)| events).sum();
        events as f64 / (end(to).saturating_sub(end(from))).as_secs_f64().max(1e-9)
    }
}

/// Times in order.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// Sorts.
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// The time, in milliseconds, within which this share of all were done (nearest rank).
    pub fn milliseconds(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        let at = rank.clamp(1, self.0.len().max(1)) - 1;
        self.0.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }
}

/// The parts of an ingest answer that the benchmark checks; the results of single events are skipped.
#[derive(Deserialize)]
struct Answer {
    accepted: usize,
    /// The floor knows none.
    #[serde(default)]
    duplicates: usize,
    receipt: Option<IgnoredAny>,
}

/// What one connection has seen.
#[derive(Default)]
struct Seen {
    times: Vec<Duration>,
    done: Vec<(Duration, usize)>,
    put_off: usize,
}

/// Posts every body once.
pub async fn load(url: &str, bodies: impl Bodies, pace: Pace) -> Outcome<Loaded> {
    let bodies = Arc::new(bodies);
    let next = Arc::new(AtomicUsize::new(0));
    let mut connections = JoinSet::new();
    let begin = Instant::now();
    for _ in 0..CONNECTIONS {
        connections.spawn(connection(url.to_owned(), bodies.clone(), next.clone(), pace, begin));
    }
    let (mut times, mut done, mut put_off) = (Vec::new(), Vec::new(), 0);
    while let Some(joined) = connections.join_next().await {
        let seen = joined.map_err(|e| Trouble::machine("a connection's task")(std::io::Error::other(e)))??;
        times.extend(seen.times);
        done.extend(seen.done);
        put_off += seen.put_off;
    }
    Ok(Loaded { put_off, ..Loaded::of(begin.elapsed(), times, done) })
}

async fn connection(
    url: String,
    bodies: Arc<impl Bodies>,
    next: Arc<AtomicUsize>,
    pace: Pace,
    begin: Instant,
) -> Outcome<Seen> {
    let client = client()?;
    let mut seen = Seen::default();
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        let Some(body) = bodies.body(at) else {
            return Ok(seen);
        };
        let from = match pace {
            Pace::Full => Instant::now(),
            Pace::Every(interval) => due(begin + interval.saturating_mul(at as u32)).await,
        };
        seen.put_off += post(&client, &url, &body, Expect::New).await?;
        seen.times.push(from.elapsed());
        seen.done.push((begin.elapsed(), body.events));
    }
}

/// Posts each body once, one after another, and expects the store to know every event in it already.
pub async fn post_again(url: &str, bodies: Vec<Body>) -> Outcome<Latencies> {
    let client = client()?;
    let mut times = Vec::with_capacity(bodies.len());
    for body in &bodies {
        let from = Instant::now();
        post(&client, url, body, Expect::Known).await?;
        times.push(from.elapsed());
    }
    Ok(Latencies::of(times))
}

/// Waits until then, and says from when to count: from then on if that has passed already, else from waking up, so
/// that the timer's own coarseness is nobody's latency.
async fn due(then: Instant) -> Instant {
    if Instant::now() >= then {
        return then;
    }
    tokio::time::sleep_until(then.into()).await;
    Instant::now()
}

/// What a body's events must be to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    New,
    Known,
}

/// Posts one body until it is taken; answers how often it was put off.
async fn post(client: &reqwest::Client, url: &str, body: &Body, expect: Expect) -> Outcome<usize> {
    for put_off in 0..PATIENCE {
        let answer = client
            .post(url)
            .header("content-type", "application/x-ndjson")
            .body(body.bytes.clone())
            .send()
            .await
            .map_err(Trouble::unanswered("posting events"))?;
        let status = answer.status();
        if matches!(status.as_u16(), 429 | 503) {
            let seconds = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
            tokio::time::sleep(seconds.map_or(Duration::from_millis(20), Duration::from_secs)).await;
            continue;
        }
        let bytes = answer.bytes().await.map_err(Trouble::unanswered("reading an ingest answer"))?;
        if !status.is_success() {
            let said = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
            return Err(Trouble::wrong("the answer to posted events", "200", format!("{status}: {said}")));
        }
        let answer: Answer = serde_json::from_slice(&bytes).map_err(Trouble::unreadable("an ingest answer"))?;
        let (what, got) = match expect {
            Expect::New => ("events accepted of a body", answer.accepted),
            Expect::Known => ("events of a body that were known", answer.duplicates),
        };
        if got != body.events {
            return Err(Trouble::wrong(what, body.events, got));
        }
        if answer.receipt.is_none() {
            return Err(Trouble::wrong("the receipt of a body", "one", "none"));
        }
        return Ok(put_off);
    }
    Err(Trouble::wrong("posting events", "an answer", format!("{PATIENCE} times 429 or 503")))
}
