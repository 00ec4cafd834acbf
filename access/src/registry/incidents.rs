//! Incidents as the registry knows them: the fold of their entries, what fits, and their rows.
//!
//! Not here: what an incident's scope is (`query::scope`), who may open one (`crate::authority`).
//! Invariant: a closed incident changes no more.

use super::change::{
    AwareFact, Change, CloseFact, IncidentFact, IncidentStatus, IncidentUpdate, Severity, Triage, TriageFact,
};
use super::check::{Checked, conflict, reason, require, text, wrong};
use super::names::{FactId, PrincipalId};
use super::rows::{Columns, done, time};
use super::{Registry, Row, Stamp, platform};
use ledger::name::TenantId;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Who is responsible for personal data tells the authority within 72 hours of becoming aware of a breach (GDPR Art.
/// 33 (1)), in microseconds.
const NOTIFY_WITHIN: i64 = 72 * 3_600_000_000;
/// The largest question and the largest finding that an entry keeps, in bytes of JSON.
pub const LARGEST_FINDING: usize = 80_000;

/// An incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// What was opened.
    pub fact: IncidentFact,
    /// When and by whom.
    pub opened: Stamp,
    /// In a few words.
    pub title: String,
    /// How bad it is.
    pub severity: Severity,
    /// Who sees to it.
    pub owner: PrincipalId,
    /// Where it stands; none while nobody said.
    pub status: Option<IncidentStatus>,
    /// What was noted, in order.
    pub notes: Vec<Stamp>,
    /// What was decided about tenants.
    pub triage: BTreeMap<TenantId, (Triage, Stamp)>,
    /// Since when a breach of personal data is known.
    pub aware: Option<(i64, Stamp)>,
    /// When the authority was told.
    pub notified: Option<Stamp>,
    /// Its end, with what was found then.
    pub closed: Option<(Stamp, CloseFact)>,
}

impl Incident {
    /// Whose it is.
    pub fn home(&self) -> TenantId {
        self.fact.tenant.clone().unwrap_or_else(platform)
    }

    /// In one word.
    pub fn state(&self) -> &'static str {
        match (&self.closed, self.status) {
            (Some(_), _) => "closed",
            (None, None) => "open",
            (None, Some(IncidentStatus::Investigating)) => "investigating",
            (None, Some(IncidentStatus::Contained)) => "contained",
            (None, Some(IncidentStatus::Resolved)) => "resolved",
        }
    }

    /// All of it, as JSON.
    pub fn to_json(&self) -> Value {
        let stamp =
            |stamp: &Stamp| json!({"seq": stamp.seq, "at": time(stamp.at), "by": stamp.by, "text": stamp.reason});
        let triage = |(tenant, (decision, made)): (&TenantId, &(Triage, Stamp))| {
            json!({"tenant": tenant.as_str(), "decision": decision, "at": time(made.at), "by": made.by,
                "reason": made.reason})
        };
        let mut all = self.columns();
        all.insert("question".into(), self.fact.question.clone().unwrap_or_default());
        all.insert("found".into(), self.fact.found.clone().unwrap_or_default());
        all.insert("notes".into(), self.notes.iter().map(stamp).collect());
        all.insert("triage".into(), self.triage.iter().map(triage).collect());
        if let Some((_, closed)) = &self.closed {
            all.insert("found_at_closing".into(), closed.found.clone().unwrap_or_default());
            all.insert("difference".into(), closed.difference.clone().unwrap_or_default());
        }
        Value::Object(all)
    }

    fn columns(&self) -> Columns {
        let mut columns = Columns::new();
        columns.insert("incident".into(), json!(self.fact.incident));
        columns.insert("tenant".into(), self.home().as_str().into());
        columns.insert("title".into(), self.title.as_str().into());
        columns.insert("severity".into(), json!(self.severity));
        columns.insert("state".into(), self.state().into());
        columns.insert("owner".into(), self.owner.as_str().into());
        let found = self.closed.as_ref().and_then(|(_, closed)| closed.found.as_ref()).or(self.fact.found.as_ref());
        columns.insert("summary".into(), found.map_or(Value::Null, |found| found["summary"].clone()));
        done(&mut columns, "opened", &self.opened);
        let aware = self.aware.as_ref().map(|(at, _)| *at);
        columns.insert("aware_at".into(), aware.map_or(Value::Null, time));
        columns.insert("notify_by_at".into(), aware.map_or(Value::Null, |at| time(at + NOTIFY_WITHIN)));
        columns.insert("notified_at".into(), self.notified.as_ref().map_or(Value::Null, |stamp| time(stamp.at)));
        if let Some((stamp, _)) = &self.closed {
            done(&mut columns, "closed", stamp);
            columns.insert("closed_because".into(), stamp.reason.as_str().into());
        }
        columns
    }

    pub(super) fn row(&self) -> Row {
        Row { tenants: vec![self.home()], columns: self.columns() }
    }
}

/// Names of the columns of a row.
pub(super) const COLUMNS: &str = "incident tenant title severity state owner summary opened_at opened_by aware_at \
                                  notify_by_at notified_at closed_at closed_by closed_because";

impl Registry {
    /// An incident.
    pub fn incident(&self, id: &FactId) -> Option<&Incident> {
        self.incidents.get(id)
    }

    /// Applies a change of an incident; others change nothing here.
    pub(super) fn apply_to_incident(&mut self, stamp: Stamp, change: &Change) {
        if let Change::OpenIncident(fact) = change {
            let (Some(id), Some(owner)) = (fact.incident.clone(), fact.owner.clone()) else { return };
            let (title, severity) = (fact.title.clone(), fact.severity);
            let incident = Incident {
                fact: fact.clone(),
                opened: stamp,
                title,
                severity,
                owner,
                status: None,
                notes: vec![],
                triage: BTreeMap::new(),
                aware: None,
                notified: None,
                closed: None,
            };
            self.incidents.insert(id, incident);
            return;
        }
        let Some(incident) = change.incident().and_then(|id| self.incidents.get_mut(id)) else { return };
        let because = |reason: &str| Stamp { reason: reason.into(), ..stamp.clone() };
        match change {
            Change::UpdateIncident(update) => {
                incident.title = update.title.clone().unwrap_or_else(|| incident.title.clone());
                incident.severity = update.severity.unwrap_or(incident.severity);
                incident.owner = update.owner.clone().unwrap_or_else(|| incident.owner.clone());
                incident.status = update.status.or(incident.status);
                if !update.note.is_empty() {
                    incident.notes.push(because(&update.note));
                }
            }
            Change::TriageIncident(fact) => {
                incident.triage.insert(fact.tenant.clone(), (fact.decision, because(&fact.reason)));
            }
            Change::AwareOfIncident(fact) => incident.aware = Some((fact.at.0, because(&fact.reason))),
            Change::NotifyIncident(act) => incident.notified = Some(because(&act.reason)),
            Change::CloseIncident(fact) => incident.closed = Some((because(&fact.reason), fact.clone())),
            _ => {}
        }
    }

    /// Whether a change of an incident fits.
    pub(super) fn check_incident(&self, change: &Change, now: i64) -> Checked {
        let fits = |value: Option<&Value>| value.is_none_or(|value| value.to_string().len() <= LARGEST_FINDING);
        if let Change::OpenIncident(fact) = change {
            text("title", &fact.title)?;
            require(!fact.title.trim().is_empty(), || wrong("title is required: it names the incident for people"))?;
            fact.tenant.as_ref().map_or(Ok(()), |tenant| self.need_tenant(tenant))?;
            fact.owner.as_ref().map_or(Ok(()), |owner| self.need_principal(owner))?;
            return require(fits(fact.question.as_ref()) && fits(fact.found.as_ref()), || {
                wrong(format!("question and finding must be at most {LARGEST_FINDING} bytes each"))
            });
        }
        let id = change.incident().ok_or_else(|| wrong("which incident?"))?;
        let found = self.incidents.get(id).ok_or_else(|| wrong(format!("there is no incident {id}")))?;
        require(found.closed.is_none(), || conflict("it is closed; open another that names it"))?;
        match change {
            Change::UpdateIncident(IncidentUpdate { title, severity, owner, status, note, .. }) => {
                let is_something =
                    title.is_some() || severity.is_some() || owner.is_some() || status.is_some() || !note.is_empty();
                require(is_something, || wrong("nothing changes: name title, severity, owner, status or note"))?;
                title.as_ref().map_or(Ok(()), |title| text("title", title))?;
                text("note", note)?;
                owner.as_ref().map_or(Ok(()), |owner| self.need_principal(owner))
            }
            Change::TriageIncident(TriageFact { tenant, reason: why, .. }) => {
                reason(why)?;
                self.need_tenant(tenant)?;
                let is_below = self.is_within(tenant, &found.home());
                require(is_below, || wrong(format!("{tenant} does not stand below {}", found.home())))
            }
            Change::AwareOfIncident(AwareFact { at, reason: why, .. }) => {
                reason(why)?;
                require(at.0 <= now, || wrong("at must not lie in the future: nobody is aware of it yet"))?;
                require(found.aware.is_none(), || conflict("since when it is known stands on record already"))
            }
            Change::NotifyIncident(act) => {
                reason(&act.reason)?;
                require(found.notified.is_none(), || conflict("that the authority was told stands on record already"))
            }
            Change::CloseIncident(fact) => {
                reason(&fact.reason)?;
                require(fits(fact.found.as_ref()) && fits(fact.difference.as_ref()), || {
                    wrong(format!("finding and difference must be at most {LARGEST_FINDING} bytes each"))
                })
            }
            _ => Ok(()),
        }
    }

    fn need_principal(&self, principal: &PrincipalId) -> Checked {
        require(self.principals.contains_key(principal), || wrong(format!("there is no principal {principal}")))
    }
}

impl Change {
    /// Whether it opens or changes an incident.
    pub(crate) fn is_of_incident(&self) -> bool {
        matches!(self, Self::OpenIncident(_)) || self.incident().is_some()
    }

    /// The incident that it changes.
    pub(crate) fn incident(&self) -> Option<&FactId> {
        match self {
            Self::UpdateIncident(fact) => Some(&fact.id),
            Self::TriageIncident(fact) => Some(&fact.id),
            Self::AwareOfIncident(fact) => Some(&fact.id),
            Self::NotifyIncident(act) => Some(&act.id),
            Self::CloseIncident(fact) => Some(&fact.id),
            _ => None,
        }
    }

    /// Whether it says what only the service can have found.
    pub(crate) fn says_what_was_found(&self) -> bool {
        match self {
            Self::OpenIncident(fact) => fact.found.is_some() || fact.question.is_some(),
            Self::CloseIncident(fact) => fact.found.is_some() || fact.difference.is_some(),
            _ => false,
        }
    }
}
