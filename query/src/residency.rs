//! Residency: where a tenant's objects lie, where its events say they were processed, and what crossed a border, held
//! against its policy.
//!
//! The policy and where a tenant may live are the registry's (`access::registry`), which refuses what does not fit; here
//! is looked afterwards, at every object and every event. Not here: routes ([`http`]).
//!
//! Invariants: region names are compared as names; the report lists what it found, and where nothing is said, that.

mod checking;
pub mod http;

pub use self::checking::Checking;
use crate::answer::heads_json;
use crate::error::QueryError;
use crate::run::{Engine, HeadRead};
use crate::scope::{literal, rows};
use crate::state::{QueryState, seen};
use crate::table::Seen;
use access::registry::change::ResidencyFact;
use access::{Action, Caller, Opened, Problem, ProblemKind};
use ledger::time::format_micros;
use ledger::{StreamKind, TenantId};
use ledger_store::StreamHandle;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Entries of crossings that are listed; beyond it they are counted.
const MOST_LISTED: usize = 1_000;
/// The streams whose events say where they were processed.
const STREAMS: [StreamKind; 3] = [StreamKind::Audit, StreamKind::Telemetry, StreamKind::Access];

/// The policy that a report is held against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// The policy itself.
    #[serde(flatten)]
    pub fact: ResidencyFact,
    /// Its version: the entry of `control` that set it.
    pub version: u64,
    /// Since when.
    pub since: String,
}

/// Objects of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Held {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Where a tenant's objects lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Storage {
    /// In which store.
    pub store: String,
    /// In which region that is, if the settings say it.
    pub region: Option<String>,
    /// Where: a folder or a URL.
    pub location: String,
    /// By kind: segments, commits, tiles, caches, views.
    pub by_kind: BTreeMap<&'static str, Held>,
    /// Every object, by path below the store, with its bytes.
    pub objects: Vec<(String, u64)>,
    /// The log of the store, which all of its tenants share, by folder: its objects are not told apart by tenant.
    pub shared: BTreeMap<String, Held>,
}

/// Events that were processed in one region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Processed {
    /// Of which stream.
    pub stream: String,
    /// Of which class of data, if they say it.
    pub class: Option<String>,
    /// In which region, if they say it.
    pub region: Option<String>,
    /// How many.
    pub events: u64,
    /// The first.
    pub first: String,
    /// The last.
    pub last: String,
    /// Whether the policy allows it; nothing where there is none, or no region is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<bool>,
}

/// An event that touched a region or a tenant that its own data is not in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Crossing {
    /// Of which stream.
    pub stream: String,
    /// Its sequence number.
    pub seq: u64,
    /// When it happened.
    pub at: String,
    /// What was done.
    pub action: String,
    /// How it ended: what was denied did not cross.
    pub outcome: String,
    /// Of which class of data.
    pub class: Option<String>,
    /// Where it was processed.
    pub region: Option<String>,
    /// What it reached into.
    pub boundary: String,
    /// Whether the policy allows that; nothing where the boundary is no region that anybody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<bool>,
}

/// Something that the policy does not allow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Violation {
    /// `storage`, `processing` or `crossing`.
    pub kind: &'static str,
    /// What, in words.
    pub what: String,
    /// The first entry that says so, if there is one: stream and sequence number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<(String, u64)>,
}

/// One tenant's report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TenantResidency {
    /// Whose.
    pub tenant: String,
    /// In one line.
    pub summary: String,
    /// The policy, if there is one.
    pub policy: Option<Policy>,
    /// Where its objects lie.
    pub storage: Storage,
    /// Where its events were processed.
    pub processed: Vec<Processed>,
    /// What crossed a border, or was about to.
    pub crossings: Vec<Crossing>,
    /// How many there are, if not all are listed.
    pub crossings_count: u64,
    /// What the policy does not allow.
    pub violations: Vec<Violation>,
    /// The heads that it is the answer to.
    pub read: Value,
}

impl QueryState {
    /// Where a tenant's data is.
    ///
    /// # Errors
    /// Reading its events is not granted to the caller, its store is out of reach, or see [`QueryError`].
    pub async fn residency(&self, caller: &Caller, tenant: &TenantId) -> Result<TenantResidency, Problem> {
        let opened = self.everything_of(caller, tenant).await?;
        let mut taken = Vec::with_capacity(opened.len());
        for one in &opened {
            taken.push(seen(one).await?);
        }
        self.residency_of(tenant, &opened.into_iter().map(|one| one.handle).collect::<Vec<_>>(), taken).await
    }

    /// The same of all streams that there are, for the service itself.
    async fn residency_of(
        &self,
        tenant: &TenantId,
        streams: &[StreamHandle],
        taken: Vec<Seen>,
    ) -> Result<TenantResidency, Problem> {
        let (policy, known) = {
            let registry = self.door().book().read();
            let policy = registry.residency(tenant).map(|(fact, set)| Policy {
                fact: fact.clone(),
                version: set.seq,
                since: format_micros(set.at),
            });
            let mut known: BTreeSet<String> =
                registry.stores().values().filter_map(|fact| fact.region.clone()).collect();
            if let Some(Policy { fact, .. }) = &policy {
                known.extend(fact.regions.iter().cloned());
                known.extend(fact.rules.iter().flat_map(|rule| &rule.regions).cloned());
            }
            (policy, known)
        };
        let progress = taken.first().map(|seen| seen.meter.progress().clone()).unwrap_or_default();
        progress.next("where objects lie", streams.len(), "streams");
        let storage = self.storage(tenant, streams).await?;
        let processed = processed(self.engine(), &taken, policy.as_ref()).await?;
        let is_region =
            |name: &str| known.contains(name) || processed.iter().any(|one| one.region.as_deref() == Some(name));
        let crossed = crossings(self.engine(), &taken, policy.as_ref(), is_region).await?;
        let (crossings, crossings_count) = (crossed.listed, crossed.count);
        let violations = violations(policy.as_ref(), &storage, &processed, crossed.violations);
        let read: Vec<HeadRead> = taken.iter().map(|seen| HeadRead::of(&seen.snapshot)).collect();
        let summary = summary(policy.as_ref(), &storage, &violations);
        let (tenant, read) = (tenant.to_string(), heads_json(&read));
        Ok(TenantResidency {
            tenant,
            summary,
            policy,
            storage,
            processed,
            crossings,
            crossings_count,
            violations,
            read,
        })
    }

    /// All of a tenant's streams: a report about some of it would say of the rest that it is where it may be.
    async fn everything_of(&self, caller: &Caller, tenant: &TenantId) -> Result<Vec<Opened>, Problem> {
        let mut opened = Vec::new();
        for stream in STREAMS {
            match self.door().read(caller, tenant, stream, Action::ReadEvents).await {
                Ok(one) if one.sight.is_whole() => opened.push(one),
                Ok(_) => {
                    let why = "the report is about everything of a tenant, and you see only some of it";
                    return Err(Problem::new(ProblemKind::Forbidden, why));
                }
                Err(problem) if problem.kind() == ProblemKind::NotFound => {}
                Err(problem) => return Err(problem),
            }
        }
        match opened.is_empty() {
            true => Err(Problem::new(ProblemKind::NotFound, format!("there is nothing of a tenant {tenant}"))),
            false => Ok(opened),
        }
    }

    async fn storage(&self, tenant: &TenantId, streams: &[StreamHandle]) -> Result<Storage, Problem> {
        let (store, fact) = {
            let registry = self.door().book().read();
            let store = registry.placement(tenant).clone();
            let fact = registry.stores().get(&store).cloned().unwrap_or_default();
            (store, fact)
        };
        let mut objects = Vec::new();
        for stream in streams {
            objects.extend(stream.objects().await?);
        }
        // What was made of the tenant's entries for others lies beside them until it was fetched.
        if let Some(stream) = streams.first() {
            objects.extend(stream.bundles().paths().await?);
        }
        let mut by_kind: BTreeMap<&'static str, Held> = BTreeMap::new();
        for (path, bytes) in &objects {
            let held = by_kind.entry(kind_of(path)).or_default();
            held.objects += 1;
            held.bytes += bytes;
        }
        let shared = match streams.first() {
            Some(stream) => stream.shared_objects().await?,
            None => BTreeMap::new(),
        };
        let shared = shared.into_iter().map(|(folder, (objects, bytes))| (folder, Held { objects, bytes })).collect();
        Ok(Storage { store: store.to_string(), region: fact.region, location: fact.location, by_kind, objects, shared })
    }
}

/// What an object of a tenant is, by its path.
fn kind_of(path: &str) -> &'static str {
    let within = path.split('/').skip(1).collect::<Vec<_>>();
    match within.as_slice() {
        ["_bundles", ..] => "bundles",
        [_, "_ledger", "commits", ..] => "commits",
        [_, "_ledger", "tile", ..] => "tiles",
        [_, "_ledger", ..] => "caches",
        [_, "_delta_log", ..] => "views",
        _ => "segments",
    }
}

fn of_streams(columns: &str, condition: &str) -> String {
    let each = STREAMS.map(|kind| format!("SELECT {columns} FROM {kind} WHERE {condition}"));
    format!("({})", each.join(" UNION ALL "))
}

/// Whether a policy allows data of a stream and class in a region.
fn allows(policy: &Policy, stream: &str, class: Option<&str>, region: &str) -> bool {
    let kind = stream.parse().unwrap_or(StreamKind::Audit);
    policy.fact.allowed(kind, class).iter().any(|one| one == region)
}

async fn processed(engine: &Engine, seen: &[Seen], policy: Option<&Policy>) -> Result<Vec<Processed>, QueryError> {
    let of = of_streams("stream, data_class, region, occurred_at", "true");
    let sql = format!(
        "SELECT stream, data_class, region, count(*), min(occurred_at), max(occurred_at) FROM {of} \
         GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    );
    let found = rows(engine, seen, "where events were processed", sql).await?;
    let (streams, classes, regions) = (found.texts(0)?, found.texts(1)?, found.texts(2)?);
    let (events, first, last) = (found.numbers(3)?, found.times(4)?, found.times(5)?);
    let one = |at: usize| {
        let (stream, class, region) =
            (streams[at].clone().unwrap_or_default(), classes[at].clone(), regions[at].clone());
        let allowed =
            policy.zip(region.as_deref()).map(|(policy, region)| allows(policy, &stream, class.as_deref(), region));
        let (first, last) = (first[at].unwrap_or_default(), last[at].unwrap_or_default());
        let (first, last) = (format_micros(first), format_micros(last));
        Processed { stream, class, region, events: events[at], first, last, allowed }
    };
    Ok((0..found.len()).map(one).collect())
}

/// What crossed: some of it listed, all of it counted and judged.
struct Crossed {
    listed: Vec<Crossing>,
    count: u64,
    violations: Vec<Violation>,
}

/// Events with a boundary that is not one of the regions where all of the data may be.
async fn crossings(
    engine: &Engine,
    seen: &[Seen],
    policy: Option<&Policy>,
    is_region: impl Fn(&str) -> bool,
) -> Result<Crossed, QueryError> {
    let everywhere = policy.into_iter().flat_map(|policy| &policy.fact.regions);
    let everywhere = everywhere.filter(|region| policy.is_some_and(|policy| policy.fact.allows_all(region)));
    let names: Vec<String> = everywhere.map(|region| literal(region)).collect();
    let beyond = if names.is_empty() { String::new() } else { format!(" AND boundary NOT IN ({})", names.join(", ")) };
    let condition = format!("boundary IS NOT NULL{beyond}");
    let of = of_streams("stream, data_class, boundary, outcome, seq, occurred_at", &condition);
    let sql = format!(
        "SELECT stream, data_class, boundary, outcome, count(*), min(seq), min(occurred_at) FROM {of} \
         GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
    );
    let all = rows(engine, seen, "what crossed borders", sql).await?;
    let (streams, classes, boundaries, outcomes) = (all.texts(0)?, all.texts(1)?, all.texts(2)?, all.texts(3)?);
    let (events, firsts, begins) = (all.numbers(4)?, all.numbers(5)?, all.times(6)?);
    let count = events.iter().sum();
    let mut violations = Vec::new();
    for at in 0..all.len() {
        let (stream, boundary) = (streams[at].clone().unwrap_or_default(), boundaries[at].clone().unwrap_or_default());
        let judged = policy.filter(|_| is_region(&boundary) && outcomes[at].as_deref() == Some("success"));
        if judged.is_some_and(|policy| !allows(policy, &stream, classes[at].as_deref(), &boundary)) {
            let of = classes[at].as_ref().map_or(String::new(), |class| format!(" of class {class}"));
            let begun = format_micros(begins[at].unwrap_or_default());
            let what = format!("{} events{of} reached into {boundary}, the first at {begun}", events[at]);
            violations.push(Violation { kind: "crossing", what, entry: Some((stream, firsts[at])) });
        }
    }
    let columns = "stream, seq, occurred_at, action, outcome, data_class, region, boundary";
    let of = of_streams(columns, &condition);
    let sql = format!("SELECT * FROM {of} ORDER BY 3, 1, 2 LIMIT {MOST_LISTED}");
    let found = rows(engine, seen, "which crossed borders", sql).await?;
    let texts = |column| found.texts(column);
    let (streams, seqs, at) = (texts(0)?, found.numbers(1)?, found.times(2)?);
    let (actions, outcomes, classes, regions, boundaries) = (texts(3)?, texts(4)?, texts(5)?, texts(6)?, texts(7)?);
    let one = |row: usize| {
        let (stream, boundary) =
            (streams[row].clone().unwrap_or_default(), boundaries[row].clone().unwrap_or_default());
        let class = classes[row].clone();
        let judged = policy.filter(|_| is_region(&boundary));
        let allowed = judged.map(|policy| allows(policy, &stream, class.as_deref(), &boundary));
        Crossing {
            seq: seqs[row],
            at: format_micros(at[row].unwrap_or_default()),
            action: actions[row].clone().unwrap_or_default(),
            outcome: outcomes[row].clone().unwrap_or_default(),
            region: regions[row].clone(),
            stream,
            class,
            boundary,
            allowed,
        }
    };
    Ok(Crossed { listed: (0..found.len()).map(one).collect(), count, violations })
}

fn violations(
    policy: Option<&Policy>,
    storage: &Storage,
    processed: &[Processed],
    crossings: Vec<Violation>,
) -> Vec<Violation> {
    let Some(policy) = policy else { return Vec::new() };
    let mut all = Vec::new();
    let region = storage.region.as_deref();
    if !region.is_some_and(|region| policy.fact.allows_all(region)) {
        let lies = region.unwrap_or("a region that the settings do not say");
        let what = format!("{} objects lie in {lies}, in the store {}", storage.objects.len(), storage.store);
        all.push(Violation { kind: "storage", what, entry: None });
    }
    for one in processed.iter().filter(|one| one.allowed == Some(false)) {
        let of = one.class.as_ref().map_or(String::new(), |class| format!(" of class {class}"));
        let (region, stream) = (one.region.as_deref().unwrap_or_default(), &one.stream);
        let what = format!("{} {stream} events{of} were processed in {region}, the first at {}", one.events, one.first);
        all.push(Violation { kind: "processing", what, entry: None });
    }
    all.extend(crossings);
    all
}

fn summary(policy: Option<&Policy>, storage: &Storage, violations: &[Violation]) -> String {
    let lies = storage.region.as_deref().unwrap_or("a region that the settings do not say");
    match (policy, violations.len()) {
        (None, _) => format!("everything lies in {lies}; no policy says where it may be"),
        (Some(policy), 0) => {
            format!("everything is where it may be ({}): it lies in {lies}", policy.fact.regions.join(", "))
        }
        (Some(policy), some) => {
            let allowed = policy.fact.regions.join(", ");
            format!("{some} violations: data may be in {allowed}, and lies in {lies}")
        }
    }
}
