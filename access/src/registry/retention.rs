//! Retention as the registry keeps it: policies, holds, and runs with their certificates.
//!
//! Not here: which events a policy or hold is about (`retention`), taking them away (`ledger_store`).
//! Invariants: no policy is locked and then shortened; a hold stands until it is released, by two people where it says so;
//! of runs at most one is open, and it was begun on the policies and holds that its plan was made of.

use super::change::{CertificateFact, Change, FactAct, HoldFact, PolicyAct, PurgeAct, PurgeFact, RetentionFact};
use super::check::{Checked, conflict, reason, require, text, wrong};
use super::names::FactId;
use super::rows::{Columns, Row, done, time};
use super::{Registry, Stamp};
use ledger::name::{StreamKind, TenantId};
use serde_json::{Value, json};

/// Names in one policy or hold, of one kind.
const MOST_NAMES: usize = 1_000;
/// Days of a policy at most: some 270 years.
const MOST_DAYS: u32 = 100_000;
/// How long what tells who looked is kept at least.
const LEAST_DAYS_OF_ACCESS: u32 = 180;
/// The columns of policies.
pub(super) const POLICY_COLUMNS: &str = "policy tenant tier streams actions classes at_least_days at_most_days locked \
     basis reason keep_original set_at set_by version ended_at ended_by";
/// The columns of holds.
pub(super) const HOLD_COLUMNS: &str = "hold tenant matter reason filter incident two_people state set_at set_by \
     releasing_at releasing_by released_at released_by";
/// The columns of certificates.
pub(super) const CERTIFICATE_COLUMNS: &str = "certificate kind run tenant stream commit entries made_at as_of_at \
     begun_by erased_at version";

/// A policy, with all that became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What it says now.
    pub fact: RetentionFact,
    /// The entry that said so: its version.
    pub set: Stamp,
    /// Its end.
    pub ended: Option<Stamp>,
}

/// A hold, with all that became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// What it holds.
    pub fact: HoldFact,
    /// Since when.
    pub set: Stamp,
    /// The first of two people who released it.
    pub releasing: Option<Stamp>,
    /// Its release.
    pub released: Option<Stamp>,
}

/// A run, with what is on record of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The intent; of a redaction, with the run that somebody agreed to.
    pub fact: PurgeFact,
    /// The redaction that it carries out; none of a purge.
    pub redaction: Option<FactId>,
    /// Its entry.
    pub begun: Stamp,
    /// The streams that were purged, with the commit and the entries of each, and by which entry it was certified.
    pub certified: Vec<Certified>,
    /// When it ended.
    pub ended: Option<Stamp>,
    /// When its files were found gone.
    pub erased: Option<Stamp>,
}

/// A stream that a run purged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// Whose.
    pub tenant: TenantId,
    /// Which stream.
    pub stream: StreamKind,
    /// The commit.
    pub commit: u64,
    /// How many entries went.
    pub entries: u64,
    /// The entry of the certificate.
    pub made: Stamp,
}

impl RetentionFact {
    /// Whether it is about a tenant's stream at all.
    pub fn applies(&self, registry: &Registry, tenant: &TenantId, stream: StreamKind) -> bool {
        let of_tenant = self.tenant.as_ref().is_none_or(|named| registry.line(tenant).any(|one| one == named));
        let of_tier = self.tier.is_none_or(|tier| registry.tenant(tenant).is_some_and(|found| found.tier() == tier));
        // Who looked is meant only where it is named.
        let of_stream =
            if self.streams.is_empty() { stream != StreamKind::Access } else { self.streams.contains(&stream) };
        of_tenant && of_tier && of_stream
    }

    /// Whether all that it is about is also what the other is about.
    fn is_within(&self, registry: &Registry, other: &Self) -> bool {
        let is_part = |own: &[String], others: &[String]| {
            others.is_empty() || !own.is_empty() && own.iter().all(|one| others.contains(one))
        };
        let streams = other.streams.is_empty()
            || !self.streams.is_empty() && self.streams.iter().all(|one| other.streams.contains(one));
        let tenant = match (&self.tenant, &other.tenant) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(others)) => registry.line(own).any(|one| one == others),
        };
        let tier = other.tier.is_none() || self.tier == other.tier;
        streams && tenant && tier && is_part(&self.actions, &other.actions) && is_part(&self.classes, &other.classes)
    }
}

impl HoldFact {
    /// Whether it is about a tenant's stream at all.
    pub fn applies(&self, registry: &Registry, tenant: &TenantId, stream: StreamKind) -> bool {
        let of_stream = self.streams.is_empty() || self.streams.contains(&stream);
        of_stream && registry.line(tenant).any(|one| *one == self.tenant)
    }

    /// Whether it holds everything of the streams that it is about.
    pub fn is_whole(&self) -> bool {
        let lists = [&self.actors, &self.resources, &self.subjects, &self.actions, &self.classes];
        lists.iter().all(|list| list.is_empty()) && self.from.is_none() && self.until.is_none()
    }
}

impl Registry {
    /// The policies that stand, by name.
    pub fn retention(&self) -> impl Iterator<Item = &Policy> {
        self.retention.values().filter(|policy| policy.ended.is_none())
    }

    /// The holds that stand.
    pub fn holds(&self) -> impl Iterator<Item = (&FactId, &Hold)> {
        self.holds.iter().filter(|(_, hold)| hold.released.is_none())
    }

    /// The runs, with the open one last.
    pub fn runs(&self) -> impl Iterator<Item = (&FactId, &Run)> {
        self.runs.iter()
    }

    /// The entry that changed a policy or hold last: what a plan is made of.
    pub fn retention_version(&self) -> u64 {
        let stamps = self.retention.values().flat_map(|policy| [Some(&policy.set), policy.ended.as_ref()]);
        let holds = self.holds.values().flat_map(|hold| [Some(&hold.set), hold.released.as_ref()]);
        // Where a policy is about a tier, who is in it decides too.
        let has_tiers = self.retention().any(|policy| policy.fact.tier.is_some());
        let tenants = self.tenants.values().filter(|_| has_tiers).map(|tenant| Some(&tenant.changed));
        stamps.chain(holds).chain(tenants).flatten().map(|stamp| stamp.seq).max().unwrap_or_default()
    }

    pub(super) fn check_retention(&self, change: &Change, now: i64) -> Checked {
        match change {
            Change::SetRetention(fact) => self.check_policy(fact),
            Change::EndRetention(act) => {
                reason(&act.reason)?;
                let found = self.retention.get(&act.policy).filter(|policy| policy.ended.is_none());
                let found = found.ok_or_else(|| wrong(format!("there is no retention policy {}", act.policy)))?;
                require(!found.fact.locked, || wrong("a locked policy can only be made longer"))
            }
            Change::SetHold(fact) => self.check_hold(fact),
            Change::ReleaseHold(act) => {
                reason(&act.reason)?;
                let found = self.holds.get(&act.id).ok_or_else(|| wrong(format!("there is no hold {}", act.id)))?;
                require(found.released.is_none(), || conflict("it is released already"))
            }
            Change::BeginPurge(fact) => {
                require(fact.as_of.0 <= now, || wrong("as_of is yet to come: what is due then is not due now"))?;
                let is_hash = ledger::Hash::from_hex(&fact.plan).is_some();
                require(is_hash, || wrong("plan must be the SHA-256 of a plan, in hexadecimal"))?;
                self.no_run_is_open()?;
                let version = self.retention_version();
                require(fact.version == version, || {
                    conflict("a policy or hold was changed since the plan was made: plan again, and look at it again")
                })?;
                fact.tenants.iter().try_for_each(|tenant| self.need_tenant(tenant))
            }
            _ if change.is_of_redaction() => self.check_redaction(change),
            _ => Err(wrong("this is written by the service itself")),
        }
    }

    pub(super) fn no_run_is_open(&self) -> Checked {
        let open = self.runs.iter().find(|(_, run)| run.ended.is_none()).map(|(id, _)| id);
        open.map_or(Ok(()), |id| Err(conflict(format!("the run {id} is not over: wait, or look at it"))))
    }

    fn check_policy(&self, fact: &RetentionFact) -> Checked {
        reason(&fact.reason)?;
        let name = fact.policy.parse::<TenantId>();
        name.map_err(|_| wrong("policy must be a name of small letters, digits, `.`, `_` and `-`"))?;
        require(!fact.basis.trim().is_empty(), || wrong("basis is required: the law or contract behind it"))?;
        text("basis", &fact.basis)?;
        require(fact.tenant.is_none() || fact.tier.is_none(), || wrong("name a tenant or a tier, not both"))?;
        fact.tenant.as_ref().map_or(Ok(()), |tenant| self.need_tenant(tenant))?;
        check_names(&fact.streams, &[("actions", &fact.actions), ("classes", &fact.classes)])?;
        let (least, most) = (fact.at_least_days, fact.at_most_days);
        require(least.or(most).is_some(), || wrong("at_least_days, at_most_days or both must be given"))?;
        let bounded = least.max(most).unwrap_or_default() <= MOST_DAYS;
        require(bounded, || wrong(format!("days must be 0 to {MOST_DAYS}")))?;
        let keeps = !fact.keep_original || least.is_some();
        require(keeps, || wrong("keep_original goes with at_least_days: for so long nothing of an event is redacted"))?;
        let fits = most.is_none_or(|most| least.is_none_or(|least| least <= most));
        require(fits, || wrong("at_most_days is shorter than at_least_days: nothing can be kept so"))?;
        // Who looked at what outlives a quick hand.
        let of_access = fact.streams.contains(&StreamKind::Access);
        let lasts = !of_access || fact.at_most_days.is_none_or(|most| most >= LEAST_DAYS_OF_ACCESS);
        require(lasts, || wrong(format!("at_most_days of access must be at least {LEAST_DAYS_OF_ACCESS}")))?;
        let before = self.retention.get(&fact.policy).filter(|policy| policy.ended.is_none() && policy.fact.locked);
        before.map_or(Ok(()), |before| check_locked(&before.fact, fact))?;
        let others = || self.retention().filter(|other| other.fact.policy != fact.policy).map(|other| &other.fact);
        // What can never come to pass was not meant.
        if let Some(other) = others().find(|other| never_goes(self, fact, other)) {
            let (most, least) = (fact.at_most_days.unwrap_or_default(), other.at_least_days.unwrap_or_default());
            let why = format!(
                "at_most_days ({most}) can never come to pass: policy {} keeps all of it for at least {least} days",
                other.policy
            );
            return Err(wrong(why));
        }
        Ok(())
    }

    fn check_hold(&self, fact: &HoldFact) -> Checked {
        reason(&fact.reason)?;
        require(!fact.matter.trim().is_empty(), || wrong("matter is required: the case, dispute or request"))?;
        text("matter", &fact.matter)?;
        self.need_tenant(&fact.tenant)?;
        self.check_not_destroying(&fact.tenant)?;
        let lists = [
            ("actors", &fact.actors),
            ("resources", &fact.resources),
            ("subjects", &fact.subjects),
            ("actions", &fact.actions),
            ("classes", &fact.classes),
        ];
        check_names(&fact.streams, &lists)?;
        let fits = fact.from.is_none_or(|from| fact.until.is_none_or(|until| from.0 < until.0));
        require(fits, || wrong("from must be before until"))?;
        let incident = fact.incident.as_ref().filter(|id| self.incident(id).is_none());
        incident.map_or(Ok(()), |id| Err(wrong(format!("there is no incident {id}"))))
    }

    pub(super) fn apply_to_retention(&mut self, stamp: Stamp, change: &Change) {
        match change {
            Change::SetRetention(fact) => {
                let set = Stamp { reason: fact.reason.clone(), ..stamp };
                self.retention.insert(fact.policy.clone(), Policy { fact: fact.clone(), set, ended: None });
            }
            Change::EndRetention(PolicyAct { policy, reason }) => {
                if let Some(found) = self.retention.get_mut(policy) {
                    found.ended.get_or_insert(Stamp { reason: reason.clone(), ..stamp });
                }
            }
            Change::SetHold(fact) => {
                let Some(id) = fact.hold.clone() else { return };
                let set = Stamp { reason: fact.reason.clone(), ..stamp };
                self.holds.insert(id, Hold { fact: fact.clone(), set, releasing: None, released: None });
            }
            Change::ReleaseHold(FactAct { id, reason }) => {
                let Some(hold) = self.holds.get_mut(id) else { return };
                let stamp = Stamp { reason: reason.clone(), ..stamp };
                let is_second = hold.releasing.as_ref().is_some_and(|first| first.by != stamp.by);
                if !hold.fact.two_people || is_second {
                    hold.released.get_or_insert(stamp);
                } else {
                    hold.releasing.get_or_insert(stamp);
                }
            }
            Change::BeginPurge(fact) => {
                let Some(id) = fact.run.clone() else { return };
                let (certified, ended, erased) = Default::default();
                self.runs
                    .insert(id, Run { fact: fact.clone(), redaction: None, begun: stamp, certified, ended, erased });
            }
            Change::CertifyPurge(fact) => {
                let CertificateFact { tenant, stream, commit, entries, .. } = fact.as_ref().clone();
                let run = self.runs.get_mut(&fact.run);
                let is_new = |run: &&mut Run| {
                    let is_it = |one: &Certified| one.tenant == tenant && one.stream == stream && one.commit == commit;
                    !run.certified.iter().any(is_it)
                };
                if let Some(run) = run.filter(is_new) {
                    run.certified.push(Certified { tenant, stream, commit, entries, made: stamp });
                }
            }
            Change::EndPurge(PurgeAct { run, .. }) => {
                if let Some(run) = self.runs.get_mut(run) {
                    run.ended.get_or_insert(stamp);
                }
            }
            Change::ErasePurge(PurgeAct { run, .. }) => {
                if let Some(run) = self.runs.get_mut(run) {
                    run.erased.get_or_insert(stamp);
                }
            }
            _ => self.apply_to_redactions(stamp, change),
        }
    }

    pub(super) fn policy_rows(&self) -> Vec<Row> {
        self.retention.values().map(of_policy).collect()
    }

    pub(super) fn hold_rows(&self) -> Vec<Row> {
        self.holds.iter().map(|(id, hold)| of_hold(id, hold)).collect()
    }

    pub(super) fn certificate_rows(&self) -> Vec<Row> {
        let of_run = |(id, run): (&FactId, &Run)| {
            run.certified.iter().map(|certified| of_certificate(id, run, certified)).collect::<Vec<_>>()
        };
        self.runs.iter().flat_map(of_run).collect()
    }
}

/// Whether what one policy lets go is all kept for longer by the other.
fn never_goes(registry: &Registry, lets_go: &RetentionFact, keeps: &RetentionFact) -> bool {
    let is_longer = lets_go.at_most_days.zip(keeps.at_least_days).is_some_and(|(most, least)| least > most);
    is_longer && lets_go.is_within(registry, keeps)
}

fn check_locked(before: &RetentionFact, fact: &RetentionFact) -> Checked {
    let scope = |fact: &RetentionFact| {
        let RetentionFact { tenant, tier, streams, actions, classes, .. } = fact.clone();
        (tenant, tier, streams, actions, classes)
    };
    require(fact.locked, || wrong("a locked policy stays locked"))?;
    let keeps = fact.keep_original || !before.keep_original;
    require(keeps, || wrong("a locked policy that keeps the original goes on doing so"))?;
    require(scope(before) == scope(fact), || wrong("a locked policy stays about what it is about"))?;
    let is_longer = fact.at_least_days >= before.at_least_days
        && match (before.at_most_days, fact.at_most_days) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(before), Some(now)) => now >= before,
        };
    require(is_longer, || wrong("a locked policy can only be made longer"))
}

fn check_names(streams: &[StreamKind], lists: &[(&str, &Vec<String>)]) -> Checked {
    let is_kept = streams.iter().all(|stream| *stream != StreamKind::Control);
    require(is_kept, || wrong("control is the registry itself: it is kept whole"))?;
    for (what, names) in lists {
        let fits = names.len() <= MOST_NAMES && names.iter().all(|name| !name.is_empty());
        require(fits, || wrong(format!("{what} must name at most {MOST_NAMES}, none of them empty")))?;
        names.iter().try_for_each(|name| text(what, name))?;
    }
    Ok(())
}

fn texts(list: &[String]) -> Value {
    if list.is_empty() { Value::Null } else { json!(list) }
}

fn streams(list: &[StreamKind]) -> Value {
    texts(&list.iter().map(ToString::to_string).collect::<Vec<_>>())
}

fn of_policy(policy: &Policy) -> Row {
    let (fact, mut columns) = (&policy.fact, Columns::new());
    columns.insert("policy".into(), fact.policy.as_str().into());
    columns.insert("tenant".into(), fact.tenant.as_ref().map(|tenant| tenant.as_str()).into());
    columns.insert("tier".into(), fact.tier.map(|tier| tier.as_str()).into());
    columns.insert("streams".into(), streams(&fact.streams));
    columns.insert("actions".into(), texts(&fact.actions));
    columns.insert("classes".into(), texts(&fact.classes));
    columns.insert("at_least_days".into(), fact.at_least_days.into());
    columns.insert("at_most_days".into(), fact.at_most_days.into());
    columns.insert("locked".into(), fact.locked.into());
    columns.insert("keep_original".into(), fact.keep_original.into());
    columns.insert("basis".into(), fact.basis.as_str().into());
    columns.insert("reason".into(), fact.reason.as_str().into());
    done(&mut columns, "set", &policy.set);
    columns.insert("version".into(), policy.set.seq.into());
    if let Some(ended) = &policy.ended {
        done(&mut columns, "ended", ended);
    }
    Row { tenants: vec![fact.tenant.clone().unwrap_or_else(super::platform)], columns }
}

fn of_hold(id: &FactId, hold: &Hold) -> Row {
    let (fact, mut columns) = (&hold.fact, Columns::new());
    let state = match (&hold.releasing, &hold.released) {
        (_, Some(_)) => "released",
        (Some(_), None) => "released by one of two",
        (None, None) => "holds",
    };
    let whole = HoldFact { hold: None, reason: String::new(), matter: String::new(), incident: None, ..fact.clone() };
    let mut filter = serde_json::to_value(whole).unwrap_or_default();
    if let Some(filter) = filter.as_object_mut() {
        ["tenant", "reason", "matter", "two_people"].iter().for_each(|name| drop(filter.remove(*name)));
    }
    columns.insert("hold".into(), id.as_str().into());
    columns.insert("tenant".into(), fact.tenant.as_str().into());
    columns.insert("matter".into(), fact.matter.as_str().into());
    columns.insert("reason".into(), fact.reason.as_str().into());
    columns.insert("filter".into(), filter);
    columns.insert("incident".into(), fact.incident.as_ref().map(|id| id.as_str()).into());
    columns.insert("two_people".into(), fact.two_people.into());
    columns.insert("state".into(), state.into());
    done(&mut columns, "set", &hold.set);
    for (what, stamp) in [("releasing", &hold.releasing), ("released", &hold.released)] {
        if let Some(stamp) = stamp {
            done(&mut columns, what, stamp);
        }
    }
    Row { tenants: vec![fact.tenant.clone()], columns }
}

fn of_certificate(id: &FactId, run: &Run, certified: &Certified) -> Row {
    let mut columns = Columns::new();
    columns.insert("certificate".into(), certified.made.seq.to_string().into());
    let kind = if run.redaction.is_some() { "redaction" } else { "purge" };
    columns.insert("kind".into(), kind.into());
    columns.insert("run".into(), id.as_str().into());
    columns.insert("tenant".into(), certified.tenant.as_str().into());
    columns.insert("stream".into(), certified.stream.to_string().into());
    columns.insert("commit".into(), certified.commit.to_string().into());
    columns.insert("entries".into(), certified.entries.into());
    columns.insert("made_at".into(), time(certified.made.at));
    columns.insert("as_of_at".into(), time(run.fact.as_of.0));
    columns.insert("begun_by".into(), run.begun.by.as_str().into());
    columns.insert("erased_at".into(), run.erased.as_ref().map_or(Value::Null, |stamp| time(stamp.at)));
    columns.insert("version".into(), run.fact.version.into());
    Row { tenants: vec![certified.tenant.clone()], columns }
}
