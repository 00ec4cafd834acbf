//! Reports in a bundle: answers to other questions about the tenant, signed, as they were when the bundle was asked for.
//!
//! Each is asked with the caller's own rights. Not here: what the reports say (`review`, `residency`, `keys`, the
//! registry).
//!
//! Invariants: a report is in a bundle only where nothing of the tenant is withheld from whoever gets it, since it may tell
//! what entries tell; it is made once, kept with the bundle's parts, and goes with them.

use super::question::Plan;
use crate::controls::{self, ControlQuestion};
use crate::http::tenant_of;
use crate::residency;
use crate::review::AccessQuestion;
use crate::scope::{literal, moment, rows};
use crate::session::TABLES;
use crate::state::{QueryState, seen};
use access::registry::names::{FactId, When};
use access::registry::{PLATFORM, Table};
use access::{Action, Caller, Opened, Problem, ProblemKind};
use ledger::time::format_micros;
use ledger::{Hash, StreamKind, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// The object that holds a bundle's reports.
pub(super) const REPORTS: &str = "reports";
/// Reports of one bundle at most.
pub(super) const MOST_REPORTS: usize = 100;
/// Lookers and certificates that are listed; a report says when there are more.
const MOST_LISTED: usize = 10_000;
/// Entries that one question asks for by their ids.
const ASKED_AT_ONCE: usize = 500;

/// Which report.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Named {
    /// Who has access to what, with findings.
    Access,
    /// How a framework's controls stand.
    Controls(String),
    /// What went, under which policy.
    Certificates,
    /// An incident, with all that was found and decided.
    Incident(FactId),
    /// Which keys there are and were.
    Keys,
    /// Who looked at the tenant's data.
    Looks,
    /// Where the data is.
    Residency,
    /// When the ledger was last verified, and with what result.
    Verification,
}

/// Those that are named by one word.
const WORDS: [(&str, Named); 6] = [
    ("access", Named::Access),
    ("certificates", Named::Certificates),
    ("keys", Named::Keys),
    ("looks", Named::Looks),
    ("residency", Named::Residency),
    ("verification", Named::Verification),
];

impl FromStr for Named {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if let Some((_, named)) = WORDS.iter().find(|(word, _)| *word == text) {
            return Ok(named.clone());
        }
        if let Some(framework) = text.strip_prefix("controls:") {
            return Ok(Self::Controls(framework.into()));
        }
        let incident = text.strip_prefix("incident:").and_then(|id| id.parse().ok());
        incident.map(Self::Incident).ok_or_else(|| {
            let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
            let why = format!(
                "there is no report {text:?}: they are {}, controls:<framework> and incident:<its id>",
                words.join(", ")
            );
            Problem::new(ProblemKind::Unprocessable, why)
        })
    }
}

impl fmt::Display for Named {
    /// The name of its files.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incident(id) => write!(f, "incident-{id}"),
            Self::Controls(framework) => write!(f, "controls-{}", slug(framework)),
            named => f.write_str(WORDS.iter().find(|(_, one)| one == named).map_or("", |(word, _)| word)),
        }
    }
}

impl Named {
    /// The kind that its note names.
    fn kind(&self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Certificates => "certificates",
            Self::Controls(_) => controls::http::REPORT,
            Self::Incident(_) => "incident",
            Self::Keys => crate::keys::REPORT,
            Self::Looks => "looks",
            Self::Residency => residency::http::REPORT,
            Self::Verification => "verification",
        }
    }
}

/// A report, as it is kept until the bundle is ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    /// The name of its files, without their ends.
    pub name: String,
    /// The kind that its note names.
    pub kind: String,
    /// What is reported.
    pub answer: String,
    /// The signed note that names it.
    pub note: String,
    /// The same as a table, for people.
    pub table: Option<String>,
}

impl QueryState {
    /// Makes the reports of a bundle.
    ///
    /// # Errors
    /// Something of it is withheld from whoever gets the bundle, a report is not granted to the caller, or see [`crate::QueryError`].
    pub(super) async fn reports(
        &self,
        caller: &Caller,
        (plan, is_part): (&Plan, bool),
        named: &BTreeSet<Named>,
    ) -> Result<Vec<Report>, Problem> {
        if named.is_empty() {
            return Ok(Vec::new());
        }
        if is_part || plan.condition.is_some() || !plan.withheld.is_empty() {
            let why = "reports may tell what is withheld here: ask for them in a bundle in which no section, row, entry or \
                       class is withheld, or for this one without reports";
            return Err(Problem::new(ProblemKind::Unprocessable, why));
        }
        let tenant = tenant_of(&plan.tenant)?;
        let mut made = Vec::with_capacity(named.len());
        for one in named {
            self.may_report(caller, &tenant, one)?;
            let (answer, table) = self.report(caller, plan, &tenant, one).await?;
            let answer = answer.to_string();
            let note = self.door().sign_report(&tenant, one.kind(), Hash::of(answer.as_bytes()))?;
            made.push(Report { name: one.to_string(), kind: one.kind().into(), answer, note, table });
        }
        Ok(made)
    }

    /// What the caller may see of all that reports tell of, in short: a bundle with reports is fetched by whoever still sees the
    /// same.
    ///
    /// # Errors
    /// None of the tenant's streams may be read.
    pub(super) fn sight_for_reports(&self, caller: &Caller, tenant: &TenantId) -> Result<String, Problem> {
        let (door, platform) = (self.door(), tenant_of(PLATFORM)?);
        let opened = door.read_all(caller, tenant, &TABLES)?;
        let of_tables = Table::ALL.map(|table| {
            [tenant, &platform].map(|of| door.is_granted(caller, table.action(), of, StreamKind::Control))
        });
        Ok(Hash::of(format!("{} {of_tables:?}", super::sight_of(&opened)).as_bytes()).to_hex())
    }

    /// Whether the caller may see what a report says, now.
    ///
    /// # Errors
    /// It is not granted.
    pub(super) fn may_report(&self, caller: &Caller, tenant: &TenantId, named: &Named) -> Result<(), Problem> {
        let (action, of, stream) = match named {
            Named::Access => (Action::ReadGrants, tenant.clone(), StreamKind::Control),
            Named::Certificates => (Action::ReadRetention, tenant.clone(), StreamKind::Control),
            Named::Incident(id) => {
                let incident = self.door().incident(caller, id)?;
                if incident.home() == *tenant && !names_others(&incident.to_json(), tenant.as_str()) {
                    return Ok(());
                }
                let why =
                    format!("the incident {id} is not {tenant}'s alone: it tells of others, and goes into no bundle");
                return Err(Problem::new(ProblemKind::Unprocessable, why));
            }
            Named::Keys => (Action::ReadKeys, tenant.clone(), StreamKind::Control),
            Named::Controls(_) | Named::Looks | Named::Residency => {
                (Action::ReadEvents, tenant.clone(), StreamKind::Access)
            }
            Named::Verification => (Action::ReadJobs, tenant_of(PLATFORM)?, StreamKind::Control),
        };
        self.door().may(caller, action, &of, stream).map(drop)
    }

    /// A report, and as a table where there is one.
    async fn report(
        &self,
        caller: &Caller,
        plan: &Plan,
        tenant: &TenantId,
        named: &Named,
    ) -> Result<(Value, Option<String>), Problem> {
        let answer = match named {
            Named::Controls(framework) => {
                let (from, until) = (plan.from.map(When), plan.until.map(When));
                let (tenant, framework) = (tenant.to_string(), Some(framework.clone()));
                let report = self.control_report(caller, ControlQuestion { tenant, framework, from, until }).await?;
                return Ok((written(&report)?, Some(controls::to_csv(&report)?)));
            }
            Named::Access => {
                let (tenants, now) = (vec![tenant.to_string()], self.door().now());
                let as_of = plan.until.map_or(now, |until| until.min(now));
                let since = plan.from.map(|from| format_micros(from.min(as_of)));
                let as_of = Some(format_micros(as_of));
                let question = AccessQuestion { tenants, as_of, since, ..AccessQuestion::default() };
                written(&self.entitlements(caller, question).await?.0)
            }
            Named::Certificates => self.certificates(caller, tenant).await,
            Named::Incident(id) => Ok(self.door().incident(caller, id)?.to_json()),
            Named::Keys => written(&self.key_register(caller, tenant).await?),
            Named::Looks => self.looks(caller, plan, tenant).await,
            Named::Residency => written(&self.residency(caller, tenant).await?),
            Named::Verification => self.verification(caller).await,
        };
        Ok((answer?, None))
    }

    /// What was purged and redacted, with the certificates, newest first: whenever it was, since what is of the period may have
    /// gone later.
    async fn certificates(&self, caller: &Caller, tenant: &TenantId) -> Result<Value, Problem> {
        let mut rows = self.door().table(caller, Table::Certificates, None).await?;
        rows.retain(|row| row["tenant"] == tenant.as_str());
        rows.sort_by(|one, other| other["made_at"].as_str().cmp(&one["made_at"].as_str()));
        let is_cut = rows.len() > MOST_LISTED;
        rows.truncate(MOST_LISTED);
        for opened in self.door().read_all(caller, tenant, &TABLES)? {
            must_see_all(&opened)?;
            let of_stream = rows.iter_mut().filter(|row| row["stream"] == opened.handle.kind().as_str());
            self.put_texts(&opened, of_stream.map(|row| (entry_of(row), row)).collect()).await?;
        }
        Ok(json!({"tenant": tenant.as_str(), "certificates": rows, "is_cut": is_cut}))
    }

    /// Puts the texts of certificates beside them, from the entries in which they stand in their stream: those alone, since any
    /// service may bring an event that looks like one. What aged out of the stream has no text.
    async fn put_texts(
        &self,
        opened: &Opened,
        mut rows_of: BTreeMap<String, &mut Map<String, Value>>,
    ) -> Result<(), Problem> {
        let stream = opened.handle.kind();
        let entries: Vec<String> = rows_of.keys().map(|entry| literal(entry)).collect();
        let seen = [seen(opened).await?];
        for some in entries.chunks(ASKED_AT_ONCE) {
            let entries = some.join(", ");
            let sql = format!("SELECT event_id, seq, attributes FROM {stream} WHERE event_id IN ({entries})");
            let found = rows(self.engine(), &seen, "certificates", sql).await?;
            let (ids, seqs, texts) = (found.texts(0)?, found.numbers(1)?, found.texts(2)?);
            for ((id, seq), text) in ids.iter().flatten().zip(seqs).zip(texts) {
                let Some(row) = rows_of.get_mut(id) else { continue };
                let text = text.unwrap_or_default();
                row.insert("seq".into(), seq.into());
                row.insert("text".into(), serde_json::from_str(&text).unwrap_or_else(|_| text.into()));
            }
        }
        Ok(())
    }

    /// Who looked at the tenant's data in the bundle's period, and how often that stands on record.
    async fn looks(&self, caller: &Caller, plan: &Plan, tenant: &TenantId) -> Result<Value, Problem> {
        let opened = self.door().read(caller, tenant, StreamKind::Access, Action::ReadEvents).await?;
        must_see_all(&opened)?;
        let mut condition = "NOT ends_with(event_id, '-end')".to_string();
        for (sign, at) in [(">=", plan.from), ("<", plan.until)] {
            at.into_iter().for_each(|at| condition += &format!(" AND recorded_at {sign} {}", moment(at)));
        }
        let sql = format!(
            "SELECT actor_id, elevation_id, action, outcome, count(*), min(occurred_at), max(occurred_at) FROM access \
             WHERE {condition} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4 LIMIT {}",
            MOST_LISTED + 1
        );
        let found = rows(self.engine(), &[seen(&opened).await?], "who looked", sql).await?;
        let (who, elevation, action, outcome) = (found.texts(0)?, found.texts(1)?, found.texts(2)?, found.texts(3)?);
        let (entries, first, last) = (found.numbers(4)?, found.times(5)?, found.times(6)?);
        let one = |row: usize| {
            json!({"who": who[row], "elevation": elevation[row], "what": action[row], "outcome": outcome[row],
                "entries": entries[row], "first": time(first[row]), "last": time(last[row])})
        };
        let is_cut = found.len() > MOST_LISTED;
        let looks: Vec<Value> = (0..found.len().min(MOST_LISTED)).map(one).collect();
        let limits =
            "An entry may stand for all requests of one credential in an hour; its end says how many there were.";
        Ok(
            json!({"tenant": tenant.as_str(), "from": plan.from.map(format_micros), "until": plan.until.map(format_micros),
            "looks": looks, "is_cut": is_cut, "limits": limits}),
        )
    }

    /// When the ledger was last verified by its own job. What that counted is of all tenants, and stays out.
    async fn verification(&self, caller: &Caller) -> Result<Value, Problem> {
        let rows = self.door().table(caller, Table::Jobs, None).await?;
        let found = rows.into_iter().find(|row| row["job"] == "verify");
        let of = |name: &str| found.as_ref().and_then(|row| row.get(name)).cloned().unwrap_or_default();
        let told = ["schedule", "succeeded_at"];
        let told: Map<String, Value> = told.iter().map(|name| (name.to_string(), of(name))).collect();
        Ok(json!({"job": told, "every_entry_read_since": of("result")["oldest_whole_at"],
            "limits": "The ledger's own word: piperoll-verify and a head that you kept are the proof."}))
    }
}

/// A name as a part of a file's name.
fn slug(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    name.chars().map(plain).collect()
}

fn must_see_all(opened: &Opened) -> Result<(), Problem> {
    if opened.sight.is_whole() {
        return Ok(());
    }
    let why = format!("a report is made for whoever sees all of {}, and you see a part of it", opened.handle.kind());
    Err(Problem::new(ProblemKind::Forbidden, why))
}

/// The id of the entry in its stream that a certificate stands in.
fn entry_of(row: &Map<String, Value>) -> String {
    let of = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
    access::certificate_entry(of("run"), of("commit"))
}

/// Members of an incident that list tenants by name.
const LISTS: [&str; 4] = ["tenants", "in_part", "newly_affected", "no_longer_affected"];

/// Whether something in it names another tenant than its own.
fn names_others(value: &Value, own: &str) -> bool {
    let is_other = |name: &Value| name.as_str().is_some_and(|name| name != own);
    match value {
        Value::Object(members) => members.iter().any(|(name, value)| match (name.as_str(), value) {
            ("tenant", name) if name.is_string() => is_other(name),
            (list, Value::Array(names)) if LISTS.contains(&list) && names.iter().all(Value::is_string) => {
                names.iter().any(is_other)
            }
            ("subtree", Value::String(_)) => true,
            (_, value) => names_others(value, own),
        }),
        Value::Array(values) => values.iter().any(|value| names_others(value, own)),
        _ => false,
    }
}

fn time(at: Option<i64>) -> Option<String> {
    at.map(format_micros)
}

fn written(report: &impl Serialize) -> Result<Value, Problem> {
    serde_json::to_value(report).map_err(|_| Problem::new(ProblemKind::Internal, "a report cannot be written"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incident_that_names_another_tenant_is_told_from_one_that_does_not() {
        for (incident, names) in [
            (json!({"tenant": "acme", "title": "of globex", "found": {"affected": [{"tenant": "acme"}]}}), false),
            (json!({"tenant": "acme", "question": {"tenants": ["acme"], "subtree": null}}), false),
            (json!({"tenant": "acme", "question": {"tenants": ["acme", "globex"]}}), true),
            (json!({"tenant": "acme", "question": {"subtree": "acme"}}), true),
            (json!({"tenant": "acme", "triage": [{"tenant": "globex", "decision": "affected"}]}), true),
            (json!({"tenant": "acme", "found": {"in_part": ["globex"]}}), true),
            (json!({"tenant": "acme", "difference": {"newly_affected": ["globex"]}}), true),
        ] {
            assert_eq!(names_others(&incident, "acme"), names, "{incident}");
        }
    }

    #[test]
    fn reports_are_named_as_they_are_asked_for_and_files_are_plain() {
        for (text, file) in [
            ("looks", "looks"),
            ("controls:SOC 2", "controls-soc-2"),
            ("controls:ISO 27001:2022", "controls-iso-27001-2022"),
        ] {
            assert_eq!(text.parse::<Named>().unwrap().to_string(), file);
        }
        for wrong in ["", "look", "incident:", "incident:x y"] {
            assert!(wrong.parse::<Named>().is_err(), "{wrong}");
        }
    }
}
