//! Snapshots of who has access: how the documents of other systems become events of ours (docs/access-review.md).
//!
//! A snapshot becomes one event for each entitlement, one for each subject of which more is known, and one that says that
//! this was all of it. Not here: reading files (the command `access import`), what follows from snapshots
//! (`query::review`). Inside: `github` (organisations kept in files), `scim` (RFC 7643), `iam` (AWS), `rows` (CSV, NDJSON).
//!
//! Invariants: pure; a document that says nothing of access is rejected by itself, with the reason; the same documents give
//! the same events with the same ids, in whatever order they come.

mod github;
mod iam;
mod rows;
mod scim;

use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What a document is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// GitHub organisations kept in files, as Peribolos reads them: `admins`, `members`, `teams`.
    GithubOrg,
    /// Users and groups of SCIM 2.0 (RFC 7643), by themselves or in lists.
    Scim,
    /// Users, groups, roles and policies of AWS IAM.
    AwsIam,
    /// One entitlement or subject a line, as JSON or CSV with a header.
    Rows,
}

impl Form {
    /// All of them, by the names that people use.
    pub const ALL: [(&'static str, Self); 4] =
        [("github-org", Self::GithubOrg), ("scim", Self::Scim), ("aws-iam", Self::AwsIam), ("rows", Self::Rows)];

    /// The source that its entitlements are of, when nobody says another.
    fn source(self) -> &'static str {
        match self {
            Self::GithubOrg => "github",
            Self::Scim => "scim",
            Self::AwsIam => "aws-iam",
            Self::Rows => "rows",
        }
    }
}

/// Which snapshot something belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    tenant: String,
    part: Option<String>,
    as_of: String,
}

/// Something that somebody has.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Entitlement {
    subject: String,
    /// Whether the subject is a group, a role or the like, which never acts by itself.
    is_group: bool,
    role: String,
    target: Option<String>,
    since: Option<String>,
    until: Option<String>,
    approver: Option<String>,
    last_used: Option<String>,
}

/// What is known of a subject besides.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Subject {
    subject: String,
    names: BTreeSet<String>,
    active: Option<bool>,
    manager: Option<String>,
    until: Option<String>,
}

/// What a document says.
#[derive(Debug, Default)]
struct Said {
    tenant: Option<String>,
    part: Option<String>,
    as_of: Option<String>,
    entitlements: Vec<Entitlement>,
    subjects: Vec<Subject>,
}

/// What is said of documents from outside.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// The tenant, of documents that name none.
    pub tenant: Option<String>,
    /// The system that they are of.
    pub source: Option<String>,
    /// The part of it that a snapshot shows, of documents that name none: an organisation, an account.
    pub part: Option<String>,
    /// When they were taken, of documents that do not say it.
    pub as_of: Option<String>,
}

#[derive(Debug, Default)]
struct Gathered {
    entitlements: BTreeSet<Entitlement>,
    subjects: BTreeSet<Subject>,
}

/// Documents on their way to be snapshots.
#[derive(Debug)]
pub struct Snapshots {
    form: Form,
    given: Given,
    gathered: BTreeMap<Place, Gathered>,
    /// Of lists that come in pages: how many resources they say that there are, and how many came.
    pages: Option<(u64, u64)>,
    /// Whether something was not taken: what is left is not all that there is.
    is_partial: bool,
}

/// A snapshot as events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Whose.
    pub tenant: String,
    /// The part of the source that it shows.
    pub part: Option<String>,
    /// When it was taken.
    pub as_of: String,
    /// How many entitlements it holds.
    pub entitlements: u64,
    /// Its events, one JSON text each.
    pub events: Vec<String>,
}

impl Snapshots {
    /// For documents of a form.
    pub fn new(form: Form, given: Given) -> Self {
        Self { form, given, gathered: BTreeMap::new(), pages: None, is_partial: false }
    }

    /// Takes a document.
    ///
    /// # Errors
    /// It says nothing of access, or not whose or when; in words that name no value of it.
    pub fn take(&mut self, document: &Value) -> Result<(), String> {
        let taken = self.read(document);
        self.is_partial |= taken.is_err();
        taken
    }

    fn read(&mut self, document: &Value) -> Result<(), String> {
        if self.form == Form::Scim
            && let Some((total, came)) = scim::page(document)
        {
            let (_, so_far) = self.pages.unwrap_or_default();
            self.pages = Some((total, so_far + came));
        }
        let said = match self.form {
            Form::GithubOrg => vec![github::read(document, self.given.part.as_deref())?],
            Form::Scim => scim::read(document)?,
            Form::AwsIam => vec![iam::read(document)?],
            Form::Rows => vec![rows::read(document)?],
        };
        said.into_iter().try_for_each(|said| self.gather(said))
    }

    fn gather(&mut self, said: Said) -> Result<(), String> {
        let given = &self.given;
        // Who imports knows best whose it is.
        let tenant = given.tenant.clone().or(said.tenant).ok_or("it names no tenant: give one with --tenant")?;
        let as_of = said.as_of.or(given.as_of.clone()).ok_or("it does not say when it was taken: give --as-of")?;
        let as_of = time(&as_of).ok_or("the time that it was taken at is no RFC 3339 time and no date")?;
        let part = said.part.or(given.part.clone());
        let gathered = self.gathered.entry(Place { tenant, part, as_of }).or_default();
        gathered.entitlements.extend(said.entitlements);
        gathered.subjects.extend(said.subjects);
        Ok(())
    }

    /// Why what was taken is not all that there is, if it is not.
    pub fn is_partial(&self) -> Option<String> {
        match self.pages {
            _ if self.is_partial => Some("documents were not taken".into()),
            Some((total, came)) if came < total => {
                Some(format!("the lists say that there are {total}, and {came} came"))
            }
            _ => None,
        }
    }

    /// The snapshots, in order. Those that are not all there is lack their end, so that nothing is over by them. `digest`
    /// is SHA-256.
    pub fn finish(mut self, digest: impl Fn(&[u8]) -> [u8; 32]) -> Vec<Written> {
        let is_whole = self.is_partial().is_none();
        // That there is nothing any more is said as well, of what was named.
        let named = self.given.tenant.clone().zip(self.given.as_of.as_deref().and_then(time));
        if let Some((tenant, as_of)) = named.filter(|_| self.gathered.is_empty() && is_whole) {
            let part = self.given.part.clone();
            self.gathered.insert(Place { tenant, part, as_of }, Gathered::default());
        }
        let source = self.given.source.clone().unwrap_or_else(|| self.form.source().to_string());
        self.gathered.into_iter().map(|(place, gathered)| write(place, &source, gathered, &digest, is_whole)).collect()
    }
}

/// A time as RFC 3339 has it; a date is its first moment.
fn time(text: &str) -> Option<String> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_string() };
    ledger::time::parse_micros(&whole).ok().map(ledger::time::format_micros)
}

fn write(
    place: Place,
    source: &str,
    gathered: Gathered,
    digest: impl Fn(&[u8]) -> [u8; 32],
    is_whole: bool,
) -> Written {
    let Place { tenant, part, as_of } = place;
    let Gathered { entitlements, subjects } = gathered;
    let content = json!([source, part, as_of, entitlements, subjects]).to_string();
    let snapshot: String = digest(content.as_bytes())[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let event = |id: String, action: &str, resource: Value, more: Value| {
        let mut attributes = Map::from_iter([("snapshot".to_string(), json!(snapshot))]);
        attributes.extend(part.as_ref().map(|part| ("part".to_string(), json!(part))));
        let present = more.as_object().cloned().unwrap_or_default().into_iter().filter(|(_, value)| !value.is_null());
        attributes.extend(present);
        json!({"id": id, "tenant": tenant, "time": as_of, "action": action, "outcome": "success",
            "actor": {"type": "system"}, "service": "access-import", "resource": resource, "attributes": attributes})
        .to_string()
    };
    let mut events = Vec::with_capacity(entitlements.len() + subjects.len() + 1);
    for (at, one) in subjects.iter().enumerate() {
        let more = json!({"source": source, "names": one.names, "active": one.active, "manager": one.manager,
            "until": one.until});
        let resource = json!({"type": "user", "id": one.subject});
        events.push(event(format!("snap-{snapshot}-s{at}"), "subject.observed", resource, more));
    }
    for (at, one) in entitlements.iter().enumerate() {
        let more = json!({"source": source, "role": one.role, "target": one.target, "since": one.since,
            "until": one.until, "approver": one.approver, "last_used": one.last_used});
        let kind = if one.is_group { "group" } else { "user" };
        let resource = json!({"type": kind, "id": one.subject});
        events.push(event(format!("snap-{snapshot}-{at}"), "entitlement.observed", resource, more));
    }
    let count = entitlements.len() as u64;
    let resource = json!({"type": "access-source", "id": source});
    if is_whole {
        events.push(event(format!("snap-{snapshot}-end"), "access.snapshot", resource, json!({"entitlements": count})));
    }
    Written { tenant, part, as_of, entitlements: count, events }
}

/// A scalar as text; nothing for null, empty, objects and arrays.
fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The elements of a member that may be missing or null.
fn list<'d>(document: &'d Value, name: &str) -> impl Iterator<Item = &'d Value> + use<'d> {
    document.get(name).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests;
