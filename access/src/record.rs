//! Who looked at what, put on record before the answer leaves: the `access` streams of tenants, and `control`.
//!
//! What is asked of one tenant, and perhaps of the platform beside it, is an entry at its begin and one at its end. What is
//! asked of several is so in `control`, with its scope, and in each tenant's `access` stream one entry per principal, right
//! and hour. Pages of one stream, a service's events, and looks at `access` or the registry are one per credential and hour,
//! and one with counts when it is over. Heads, proofs of them and tiles of hashes are counted and not recorded. Refusals are
//! one per source and minute; those of nobody known go to `control`, and never into the stream of a tenant merely named.
//!
//! Not here: what is allowed ([`crate::Door`]), routes and what applies to each ([`crate::routes`]).
//!
//! Invariants: without a begin there is no answer; a begin without an end stands as `unknown`; no entry of one tenant
//! names another.

mod begun;
mod ongoing;

use crate::caller::Caller;
use crate::policy::Action;
use crate::registry::{Author, Book, Entry, PLATFORM, platform};
use crate::visit::{Denied, Touch, Visit};
pub(crate) use begun::Begun;
use begun::{Place, place_of};
use ledger::draft::{Draft, Invalid};
use ledger::name::{StreamKind, TenantId};
use ledger_store::{Ambient, StoreError};
use ongoing::{About, Counts, Ongoing, Shares};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// How long one entry speaks for all that are like it.
const HOUR: i64 = 3_600_000_000;
/// How long one refusal speaks for all of its source.
const MINUTE: i64 = 60_000_000;
/// How many ongoing things are kept; beyond it each is an entry of its own.
const MOST_OPEN: usize = 100_000;
/// How many tenants an entry names.
const MOST_NAMED: usize = 1_000;
/// How often an end is tried before it stands as unknown.
const END_ATTEMPTS: u32 = 5;

/// A record could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A value cannot stand in an entry.
    #[error("what was asked cannot stand in an entry: {0}")]
    Invalid(#[from] Invalid),
}

/// How what a route does is put on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recording {
    /// Each request, at its begin and at its end.
    Each,
    /// One entry per credential, tenant, stream and hour, and one with counts when it is over.
    Hourly,
    /// Changes of the registry: their entries are the record.
    ByItself,
    /// Counted by the metrics only.
    Counted,
}

/// Who was refused what: a principal or an address, and the action or what was wrong with the credential.
type Source = (String, String);

#[derive(Debug, Clone, Copy, Default)]
struct Refusals {
    since: i64,
    further: u64,
}

/// The one tenant that a visit was about, if it is one: beside it something of the platform's own may have been looked at.
fn alone<'t>(of_tenant: &'t BTreeMap<TenantId, Vec<&'t Touch>>) -> Option<(&'t TenantId, &'t Vec<&'t Touch>)> {
    let mut own = of_tenant.iter().filter(|(tenant, _)| tenant.as_str() != PLATFORM);
    match (own.next(), own.next()) {
        (Some(one), None) => Some(one),
        (None, _) => of_tenant.iter().next(),
        _ => None,
    }
}

/// Puts visits on record.
pub struct Recorder {
    book: Arc<Book>,
    ambient: Arc<dyn Ambient>,
    ongoing: Mutex<HashMap<About, Ongoing>>,
    refusals: Mutex<HashMap<Source, (Refusals, Author)>>,
}

fn held<T>(lock: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    pub(crate) fn new(book: Arc<Book>, ambient: Arc<dyn Ambient>) -> Self {
        Self { book, ambient, ongoing: Mutex::default(), refusals: Mutex::default() }
    }

    fn new_id(&self) -> String {
        let mut random = [0; 12];
        self.ambient.fill_random(&mut random);
        random.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Records the begin of a visit that is recorded each time. None when it touched nothing.
    pub(crate) async fn begin(&self, caller: &Caller) -> Result<Option<Begun>, RecordError> {
        let touched = caller.visit().take_touched();
        let Some(first) = touched.first() else { return Ok(None) };
        let (now, id, action) = (self.ambient.now_micros(), self.new_id(), first.action.as_str());
        let mut of_tenant: BTreeMap<TenantId, Vec<&Touch>> = BTreeMap::new();
        touched.iter().for_each(|touch| of_tenant.entry(touch.tenant.clone()).or_default().push(touch));
        let notes = caller.visit().notes();
        let (caller, places, hours) = (caller.author(), vec![], vec![]);
        let mut begun = Begun { id, caller, action, places, hours, notes, began: now };
        let (mut drafts, mut new) = (Vec::new(), Vec::new());
        let hours = |begun: &mut Begun, touches: &[&Touch]| {
            let new: Vec<Ongoing> =
                touches.iter().filter_map(|touch| self.hourly(&begun.caller, touch, Counts::default(), now)).collect();
            begun.hours.extend(touches.iter().map(|touch| About::of(&begun.caller, touch)));
            new
        };
        if let Some((tenant, touches)) = alone(&of_tenant) {
            begun.places.push(place_of(tenant, touches));
            // What was looked at of the platform's own beside it stands there by the hour.
            for (_, touches) in of_tenant.iter().filter(|(other, _)| *other != tenant) {
                new.extend(hours(&mut begun, touches));
            }
        } else {
            // An entry is bounded; of a scope beyond that it says how many there were and which came first.
            let scope: Vec<&str> = of_tenant.keys().map(TenantId::as_str).take(MOST_NAMED).collect();
            let more =
                Map::from_iter([("tenants".to_string(), json!(scope)), ("count".into(), json!(of_tenant.len()))]);
            let resource = ("tenants", of_tenant.len().to_string());
            let (tenant, stream, elevation) = (platform(), StreamKind::Control, None);
            begun.places.push(Place { tenant, stream, resource, elevation, more });
            for touches in of_tenant.values() {
                new.extend(hours(&mut begun, touches));
            }
        }
        for place in &begun.places {
            drafts.push(begun.entry(place, "unknown", Map::new(), "begin", now)?);
        }
        self.begin_hours(new, drafts, now).await?;
        Ok(Some(begun))
    }

    /// Records the end of a visit: tried some times, and left as unknown after that.
    pub(crate) async fn end(&self, begun: Begun, outcome: &'static str, visit: &Visit, bytes: u64) {
        let (now, scanned) = (self.ambient.now_micros(), visit.scanned());
        self.count_scanned(&begun, &scanned);
        let more = Map::from_iter([
            ("rows".to_string(), visit.rows().into()),
            ("bytes".into(), bytes.into()),
            ("scanned".into(), scanned.iter().map(|(_, bytes)| bytes).sum::<u64>().into()),
            ("took_us".into(), (now - begun.began).into()),
        ]);
        let entries = begun.places.iter().map(|place| begun.entry(place, outcome, more.clone(), "end", now));
        let Ok(drafts) = entries.collect::<Result<Vec<_>, _>>() else { return };
        for attempt in 0..END_ATTEMPTS {
            match self.append(drafts.clone()).await {
                Ok(()) => return,
                Err(_) => self.ambient.sleep(std::time::Duration::from_millis(200 << attempt)).await,
            }
        }
        tracing::warn!(request = begun.id, "the end of a visit could not be recorded: it stands as unknown");
    }

    /// Counts what a question about several tenants looked at in the hour of each.
    fn count_scanned(&self, begun: &Begun, scanned: &[(TenantId, u64)]) {
        if begun.places.iter().all(|place| place.tenant.as_str() != PLATFORM) {
            return;
        }
        let mut ongoing = held(&self.ongoing);
        for (tenant, bytes) in scanned {
            let is_its = |about: &&About| about.tenant == *tenant && about.credential == begun.caller.credential;
            let about = begun.hours.iter().filter(is_its).find(|about| ongoing.contains_key(*about));
            if let Some(found) = about.and_then(|about| ongoing.get_mut(about)) {
                found.counts.scanned += bytes;
            }
        }
    }

    /// Records a visit of a kind that is recorded once an hour, whose answer has so many bytes.
    pub(crate) async fn hour(&self, caller: &Caller, bytes: u64) -> Result<(), RecordError> {
        let (now, scanned) = (self.ambient.now_micros(), caller.visit().scanned());
        let scanned = scanned.iter().map(|(_, bytes)| bytes).sum();
        let mut got = Counts { rows: caller.visit().rows(), bytes, scanned };
        let author = caller.author();
        let mut new = Vec::new();
        for touch in caller.visit().take_touched() {
            // What was brought belongs to the stream that it was brought to; an answer, to the first that it is about.
            let counts = match touch.action {
                Action::AppendEvents => Counts { rows: touch.brought.0, bytes: touch.brought.1, scanned: 0 },
                _ => std::mem::take(&mut got),
            };
            new.extend(self.hourly(&author, &touch, counts, now));
        }
        self.begin_hours(new, Vec::new(), now).await
    }

    /// Counts a touch in its hour; what begins with it if it is the first.
    fn hourly(&self, author: &Author, touch: &Touch, counts: Counts, now: i64) -> Option<Ongoing> {
        let about = About::of(author, touch);
        match held(&self.ongoing).get_mut(&about) {
            Some(found) if now - found.began < HOUR => {
                found.requests += 1;
                found.counts += counts;
                None
            }
            _ => Some(Ongoing { id: self.new_id(), began: now, requests: 1, counts, author: author.clone(), about }),
        }
    }

    /// Puts on record what begins, with other entries, and what it takes the place of. Only then does it speak for what
    /// comes after: two who come at once both write it, and what was not written is written by the next.
    async fn begin_hours(&self, new: Vec<Ongoing>, drafts: Vec<Draft>, now: i64) -> Result<(), RecordError> {
        let mut shares = self.shares(drafts);
        for one in new {
            let before = held(&self.ongoing).get(&one.about).cloned();
            let (drafts, begun) = shares.of(self.book.placement(&one.about.tenant));
            drafts.extend(before.map(|over| self.over(&over, now)).transpose()?);
            drafts.push(self.entry_of(&one, "unknown", Map::new(), now)?);
            begun.push(one);
        }
        for (store, drafts, begun) in shares.0 {
            self.book.stores().write(&store, drafts).await?;
            let mut ongoing = held(&self.ongoing);
            for one in begun {
                if ongoing.len() < MOST_OPEN || ongoing.contains_key(&one.about) {
                    ongoing.insert(one.about.clone(), one);
                }
            }
        }
        Ok(())
    }

    /// Sorts entries by the stores that their tenants live in, the main one first.
    fn shares<T>(&self, drafts: Vec<Draft>) -> Shares<T> {
        let mut shares = Shares(vec![(self.book.stores().main().name().clone(), vec![], vec![])]);
        for draft in drafts {
            let tenant = draft.tenant().parse::<TenantId>();
            let store = tenant.map_or_else(|_| self.book.stores().main().name().clone(), |of| self.book.placement(&of));
            shares.of(store).0.push(draft);
        }
        shares
    }

    fn over(&self, ongoing: &Ongoing, now: i64) -> Result<Draft, Invalid> {
        let more = Map::from_iter([
            ("requests".to_string(), ongoing.requests.into()),
            ("rows".into(), ongoing.counts.rows.into()),
            ("bytes".into(), ongoing.counts.bytes.into()),
            ("scanned".into(), ongoing.counts.scanned.into()),
            ("since".into(), ledger::time::format_micros(ongoing.began).into()),
        ]);
        self.entry_of(ongoing, "success", more, now)
    }

    fn entry_of(
        &self,
        ongoing: &Ongoing,
        outcome: &str,
        mut more: Map<String, Value>,
        now: i64,
    ) -> Result<Draft, Invalid> {
        let About { tenant, stream, action, right, is_elevation, .. } = &ongoing.about;
        more.insert("right".into(), right.as_str().into());
        more.insert("recorded".into(), "hourly".into());
        let elevation = is_elevation.then(|| right.clone());
        Entry {
            tenant,
            stream: stream_for(tenant),
            id: format!("visit-{}-{}", ongoing.id, if outcome == "unknown" { "begin" } else { "end" }),
            action,
            outcome,
            author: &ongoing.author,
            resource: ("stream", stream.to_string()),
            elevation,
            attributes: Value::Object(more).to_string(),
            now,
        }
        .draft()
    }

    /// Puts on record what is over, and forgets refusals whose minute has passed. Called now and then.
    pub(crate) async fn tick(&self, everything: bool) {
        let now = self.ambient.now_micros();
        let is_over = |one: &Ongoing| everything || now - one.began >= HOUR;
        let over: Vec<Ongoing> = held(&self.ongoing).values().filter(|one| is_over(one)).cloned().collect();
        let was_long_ago = |refusals: &Refusals| everything || now - refusals.since >= MINUTE;
        let past: Vec<(Source, Refusals, Author)> = held(&self.refusals)
            .iter()
            .filter(|(_, (refusals, _))| was_long_ago(refusals))
            .map(|(source, (refusals, author))| (source.clone(), *refusals, author.clone()))
            .collect();
        let mut shares = self.shares(Vec::new());
        for one in over {
            let (drafts, ended) = shares.of(self.book.placement(&one.about.tenant));
            drafts.extend(self.over(&one, now).ok());
            ended.push(one);
        }
        for (store, drafts, ended) in shares.0 {
            if let Err(error) = self.book.stores().write(&store, drafts).await {
                // It is all still there, and tried again under the same ids.
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%store, error, "counts of what is over could not be recorded");
                continue;
            }
            let mut ongoing = held(&self.ongoing);
            for one in ended {
                if ongoing.get(&one.about).is_some_and(|found| found.began == one.began) {
                    ongoing.remove(&one.about);
                }
            }
        }
        let mut drafts = Vec::new();
        for ((_, code), refusals, author) in past.iter().filter(|(_, refusals, _)| refusals.further > 0) {
            let counts = [("further".to_string(), json!(refusals.further)), ("code".into(), json!(code))];
            drafts.extend(self.refusal(&platform(), author, "access.denied", Map::from_iter(counts), now).ok());
        }
        if let Err(error) = self.append(drafts).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "counts of refusals could not be recorded");
            return;
        }
        let mut refusals = held(&self.refusals);
        for (source, found, _) in past {
            if refusals.get(&source).is_some_and(|(still, _)| still.since == found.since) {
                refusals.remove(&source);
            }
        }
    }

    /// Records that something was refused to a known caller: in `control`, and in the stream of the tenant concerned
    /// when the caller is the platform's own or that tenant's.
    pub(crate) async fn denied(&self, caller: &Caller, denied: &[Denied]) -> Result<(), RecordError> {
        let Some(first) = denied.first() else { return Ok(()) };
        let (now, author) = (self.ambient.now_micros(), caller.author());
        let source = author.principal.to_string();
        if self.is_further(&source, first.action.as_str(), now) {
            return Ok(());
        }
        let mut drafts = Vec::new();
        let named: Vec<&str> = denied.iter().take(100).map(|one| one.tenant.as_str()).collect();
        let more =
            Map::from_iter([("asked".to_string(), json!(first.action.as_str())), ("tenants".into(), json!(named))]);
        let of_platform = self.refusal(&platform(), &author, "access.denied", more, now)?;
        let may_be_told = |one: &&Denied| one.exists && caller.home().is_none_or(|home| *home == one.tenant);
        for one in denied.iter().filter(may_be_told).filter(|one| one.tenant.as_str() != PLATFORM).take(100) {
            let more = Map::from_iter([
                ("asked".to_string(), json!(one.action.as_str())),
                ("stream".into(), json!(one.stream.as_str())),
            ]);
            drafts.push(self.refusal(&one.tenant, &author, "access.denied", more, now)?);
        }
        self.append(vec![of_platform]).await?;
        self.note_first(source, first.action.as_str(), author, now);
        // It is on record: that a tenant's store is out of reach keeps nobody else waiting.
        for (store, drafts, _) in self.shares::<()>(drafts).0 {
            if let Err(error) = self.book.stores().write(&store, drafts).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%store, error, "a refusal stands in control, and not with the tenant that it concerns");
            }
        }
        Ok(())
    }

    /// Records that somebody who is not known was refused.
    pub(crate) async fn unknown(
        &self,
        source_ip: &str,
        code: &str,
        credential: Option<String>,
    ) -> Result<(), RecordError> {
        let now = self.ambient.now_micros();
        let principal = "unknown".parse().expect("a plain name");
        let credential = credential.unwrap_or_default();
        let author = Author { principal, actor_type: "anonymous", credential, source_ip: source_ip.to_string() };
        if self.is_further(source_ip, code, now) {
            return Ok(());
        }
        let more = Map::from_iter([("code".to_string(), json!(code))]);
        let draft = self.refusal(&platform(), &author, "authentication.failed", more, now)?;
        self.append(vec![draft]).await?;
        self.note_first(source_ip.to_string(), code, author, now);
        Ok(())
    }

    /// Whether an entry of this minute speaks for a refusal of this source and kind already; counts it then. Beyond so
    /// many sources it does, whatever it is: who makes up sources without end is heard no more often than that.
    fn is_further(&self, source: &str, code: &str, now: i64) -> bool {
        let mut refusals = held(&self.refusals);
        let is_full = refusals.len() >= MOST_OPEN;
        match refusals.get_mut(&(source.to_string(), code.to_string())) {
            Some((found, _)) if now - found.since < MINUTE => {
                found.further += 1;
                true
            }
            _ => is_full,
        }
    }

    /// Notes that a refusal is on record, which speaks for those of its minute.
    fn note_first(&self, source: String, code: &str, author: Author, now: i64) {
        held(&self.refusals).insert((source, code.to_string()), (Refusals { since: now, further: 0 }, author));
    }

    fn refusal(
        &self,
        tenant: &TenantId,
        author: &Author,
        action: &str,
        more: Map<String, Value>,
        now: i64,
    ) -> Result<Draft, Invalid> {
        Entry {
            tenant,
            stream: stream_for(tenant),
            id: format!("denied-{}", self.new_id()),
            action,
            outcome: "denied",
            author,
            resource: ("tenant", tenant.to_string()),
            elevation: None,
            attributes: Value::Object(more).to_string(),
            now,
        }
        .draft()
    }

    /// Appends entries to the streams that they are of.
    async fn append(&self, drafts: Vec<Draft>) -> Result<(), RecordError> {
        for (store, drafts, _) in self.shares::<()>(drafts).0 {
            self.book.stores().write(&store, drafts).await?;
        }
        Ok(())
    }
}

/// Where what concerns a tenant is recorded: the platform reads of itself in `control`.
fn stream_for(tenant: &TenantId) -> StreamKind {
    if tenant.as_str() == PLATFORM { StreamKind::Control } else { StreamKind::Access }
}

/// Whether looks at this are recorded once an hour, whatever the route: reading who looked, or what the platform did.
pub(crate) fn is_look_at_the_record(touch: &Touch) -> bool {
    matches!(touch.stream, StreamKind::Access | StreamKind::Control) && touch.action == Action::ReadEvents
}
