//! The questions of architecture §6, with values taken from the reference events themselves, and their answers as a
//! plain count over the same events gives them.
//!
//! Not here: how they are asked (`asking`).
//!
//! Invariants: (1) the same events give the same questions; (2) every question has a non-empty answer; (3) what a
//! server answers is compared with the count, so a fast wrong answer is a failure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Deserialize;

use crate::trouble::{Outcome, Trouble};

/// What of a reference event the questions touch. Times are all of one form (milliseconds, `Z`), so they compare as
/// text, as long as what they are compared with has that form too.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Event<'a> {
    time: &'a str,
    pub tenant: &'a str,
    #[serde(borrow)]
    actor: Actor<'a>,
    action: &'a str,
    session: &'a str,
    source_ip: &'a str,
    release: &'a str,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Actor<'a> {
    id: &'a str,
}

/// Reads lines of reference events.
pub fn read<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Outcome<Vec<Event<'a>>> {
    lines.map(|line| serde_json::from_slice(line).map_err(Trouble::unreadable("a reference event"))).collect()
}

/// Events of each tenant, by name.
pub fn counts<'a>(events: &[Event<'a>]) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for event in events {
        *counts.entry(event.tenant).or_insert(0) += 1;
    }
    counts
}

/// The tenant with most events; the first by name of several.
pub fn largest<'a>(counts: &BTreeMap<&'a str, usize>) -> &'a str {
    counts.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0))).map_or("", |(tenant, _)| tenant)
}

/// A question in SQL, its bar, and its answer's size.
#[derive(Debug, Clone)]
pub struct Question {
    /// The words of the table.
    pub name: &'static str,
    /// Milliseconds.
    pub bar: f64,
    pub sql: String,
    pub tenants: Vec<String>,
    pub expected: Expected,
    /// Whether it asks about who did something, at any time: with more time, more rows.
    pub names_people: bool,
}

/// What is compared of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    pub rows: usize,
    /// The sum of the answer's column `n`, where it has one.
    pub sum: Option<usize>,
}

/// The values that the questions ask for.
#[derive(Debug, Clone)]
pub struct Values<'a> {
    pub tenant: &'a str,
    tenants: Vec<&'a str>,
    release: &'a str,
    day: (String, String),
    three_days: (String, String),
    all_days: (String, String),
    session: &'a str,
    source_ip: &'a str,
    actor: &'a str,
}

impl<'a> Values<'a> {
    /// Takes the largest tenant, a release, a day, a session and an address from the middle of its events, and the
    /// actor who is seen in most tenants.
    pub fn of(events: &[Event<'a>]) -> Outcome<Self> {
        let counts = counts(events);
        let tenant = largest(&counts);
        let middle = events.len() / 2;
        let event = events[middle..].iter().chain(events).find(|event| event.tenant == tenant);
        let needle = events[events.len() / 3..].iter().chain(events).find(|event| event.tenant == tenant);
        let (Some(event), Some(needle)) = (event, needle) else {
            return Err(Trouble::wrong("reference events", "some", "none"));
        };
        let days: BTreeSet<&str> = events.iter().filter_map(|event| event.time.get(..10)).collect();
        let days: Vec<&str> = days.into_iter().collect();
        let at = event.time.get(..10).and_then(|day| days.binary_search(&day).ok()).unwrap_or(0);
        let window = |from: usize, to: usize| {
            let begin = days.get(from).map_or_else(|| "0001-01-01".to_owned(), |day| (*day).to_owned());
            // Days after the last with events: a date that no reference event reaches.
            let end = days.get(to).map_or_else(|| "2100-01-01".to_owned(), |day| (*day).to_owned());
            (format!("{begin}T00:00:00.000Z"), format!("{end}T00:00:00.000Z"))
        };
        Ok(Self {
            tenant,
            tenants: counts.keys().copied().collect(),
            release: event.release,
            day: window(at, at + 1),
            three_days: window(at.saturating_sub(1), at + 2),
            all_days: window(0, days.len()),
            session: needle.session,
            source_ip: needle.source_ip,
            actor: most_travelled(events),
        })
    }

    /// Every question, answered for these events.
    pub fn questions(&self, events: &[Event<'_>]) -> Vec<Question> {
        let one = vec![self.tenant.to_owned()];
        let all: Vec<String> = self.tenants.iter().map(|tenant| (*tenant).to_owned()).collect();
        let needle = "SELECT seq, occurred_at, action, actor_id, resource_id, outcome FROM audit WHERE";
        vec![
            Question {
                name: "one tenant, one release, 24 h, count by action",
                bar: 10.0,
                sql: format!(
                    "SELECT action, count(*) AS n FROM audit WHERE {} GROUP BY action ORDER BY n DESC, action",
                    self.release_within(&self.day)
                ),
                tenants: one.clone(),
                expected: grouped(events, |e| self.mine(e) && self.released(e, &self.day), |e| e.action),
                names_people: false,
            },
            Question {
                name: "needle in one tenant, by session",
                bar: 10.0,
                sql: format!("{needle} session = '{}' ORDER BY seq", self.session),
                tenants: one.clone(),
                expected: listed(events, |e| self.mine(e) && e.session == self.session),
                names_people: false,
            },
            Question {
                name: "needle in one tenant, by address",
                bar: 10.0,
                sql: format!("{needle} source_ip = '{}' ORDER BY seq", self.source_ip),
                tenants: one.clone(),
                expected: listed(events, |e| self.mine(e) && e.source_ip == self.source_ip),
                names_people: true,
            },
            Question {
                name: "one actor across all tenants",
                bar: 40.0,
                sql: format!(
                    "SELECT tenant, seq, occurred_at, action, resource_id, outcome FROM audit \
                     WHERE actor_id = '{}' ORDER BY occurred_at",
                    self.actor
                ),
                tenants: all.clone(),
                expected: listed(events, |e| e.actor.id == self.actor),
                names_people: true,
            },
            self.impact(events, &all),
            self.activity(events, &all),
            Question {
                name: "latest 100 of one tenant",
                bar: 10.0,
                sql: "SELECT seq, occurred_at, action, actor_id, resource_id, outcome FROM audit \
                      ORDER BY seq DESC LIMIT 100"
                    .into(),
                tenants: one,
                expected: Expected { rows: events.iter().filter(|e| self.mine(e)).count().min(100), sum: None },
                names_people: false,
            },
        ]
    }

    fn impact(&self, events: &[Event<'_>], all: &[String]) -> Question {
        Question {
            name: "a release and window, per tenant: counts, first, last, actors, types",
            bar: 60.0,
            sql: format!(
                "SELECT tenant, count(*) AS n, min(occurred_at) AS first, max(occurred_at) AS last, \
                 count(DISTINCT actor_id) AS actors, count(DISTINCT resource_type) AS types \
                 FROM audit WHERE {} GROUP BY tenant ORDER BY n DESC, tenant",
                self.release_within(&self.three_days)
            ),
            tenants: all.to_vec(),
            expected: grouped(events, |e| self.released(e, &self.three_days), |e| e.tenant),
            names_people: false,
        }
    }

    fn activity(&self, events: &[Event<'_>], all: &[String]) -> Question {
        let (from, to) = &self.all_days;
        Question {
            name: "last activity and actions per tenant and actor, 90 days",
            bar: 150.0,
            sql: format!(
                "SELECT tenant, actor_id, max(occurred_at) AS last, count(*) AS n FROM audit \
                 WHERE occurred_at >= '{from}' AND occurred_at < '{to}' GROUP BY tenant, actor_id"
            ),
            tenants: all.to_vec(),
            expected: grouped(events, |_| true, |e| (e.tenant, e.actor.id)),
            names_people: false,
        }
    }

    fn release_within(&self, (from, to): &(String, String)) -> String {
        format!("release = '{}' AND occurred_at >= '{from}' AND occurred_at < '{to}'", self.release)
    }

    fn mine(&self, event: &Event<'_>) -> bool {
        event.tenant == self.tenant
    }

    fn released(&self, event: &Event<'_>, (from, to): &(String, String)) -> bool {
        event.release == self.release && event.time >= from.as_str() && event.time < to.as_str()
    }
}

/// The actor who is seen in most tenants; the first by name of several.
fn most_travelled<'a>(events: &[Event<'a>]) -> &'a str {
    let mut tenants: HashMap<&str, HashSet<&str>> = HashMap::new();
    for event in events {
        tenants.entry(event.actor.id).or_default().insert(event.tenant);
    }
    tenants.iter().max_by(|a, b| a.1.len().cmp(&b.1.len()).then(b.0.cmp(a.0))).map_or("", |(actor, _)| actor)
}

fn listed<'e>(events: &[Event<'e>], asked: impl Fn(&Event<'e>) -> bool) -> Expected {
    Expected { rows: events.iter().filter(|event| asked(event)).count(), sum: None }
}

fn grouped<'e, K: std::hash::Hash + Eq>(
    events: &[Event<'e>],
    asked: impl Fn(&Event<'e>) -> bool,
    by: impl Fn(&Event<'e>) -> K,
) -> Expected {
    let mut groups = HashSet::new();
    let mut sum = 0;
    for event in events.iter().filter(|event| asked(event)) {
        groups.insert(by(event));
        sum += 1;
    }
    Expected { rows: groups.len(), sum: Some(sum) }
}
