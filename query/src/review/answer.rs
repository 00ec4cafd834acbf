//! The answer to a question about access: entitlements, findings, and what it rests on.
//!
//! Not here: what is found ([`super::findings`]). Invariant: order is total; the same material gives the same answer.

use super::entry::{Entry, Looked};
use super::facts::Right;
use super::findings::{self, Finding, Kind};
use super::held::Held;
use super::people::Who;
use super::question::{AccessQuestion, Period};
use super::uses::Purposes;
use crate::error::QueryError;
use crate::limits::Exceeded;
use crate::scope::Unexamined;
use access::pattern::fits;
use access::registry::names::FactId;
use ledger::time::format_micros;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Entitlements of one answer.
const MOST_ENTITLEMENTS: u64 = 200_000;

/// Something that somebody may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entitlement {
    /// At which tenant.
    pub tenant: String,
    /// From which system; `piperoll` is this registry.
    pub source: String,
    /// Who.
    pub subject: String,
    /// What else the subject is called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// Who answers for the subject, as far as a snapshot says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manager: Option<String>,
    /// As what.
    pub role: String,
    /// On what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Since when.
    pub since: String,
    /// `granted`, or `seen`: it was there in the first snapshot that shows it, and perhaps before.
    pub since_is: &'static str,
    /// The entry that says so: stream and sequence number.
    pub entry: (&'static str, u64),
    /// The grant or elevation of the registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<FactId>,
    /// Whether it was lent for a while.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_elevation: bool,
    /// Who gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granted_by: Option<String>,
    /// Who approved it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// The approval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
    /// Until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Last used, if ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used: Option<String>,
    /// Times used in the period.
    pub uses: u64,
    /// What counts as its use: visits that rest on the `right`, acts that the `role` is for, acts of the `subject`; or
    /// `nothing`, where no acts of anybody are on record.
    pub used_by: &'static str,
    /// How many others have the same.
    pub peers: u64,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub findings: BTreeSet<Kind>,
}

/// Rules that an answer was held to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RulesRead {
    /// The entry of `control` that set them; none of the question's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Their hash.
    pub sha256: String,
}

/// A snapshot of which not all arrived: it ends nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Incomplete {
    /// At which tenant.
    pub tenant: String,
    /// Of which source.
    pub source: String,
    /// Which.
    pub snapshot: String,
    /// How many entitlements of it are there.
    pub entitlements: u64,
}

impl Incomplete {
    /// Those of a tenant.
    pub(crate) fn of(tenant: &str, held: &Held) -> Vec<Self> {
        let one = |(source, snapshot, entitlements): &(String, String, u64)| {
            let (tenant, source, snapshot) = (tenant.to_string(), source.clone(), snapshot.clone());
            Self { tenant, source, snapshot, entitlements: *entitlements }
        };
        held.incomplete.iter().map(one).collect()
    }
}

/// What an answer was made from, besides entries.
pub(crate) struct Read {
    pub heads: Value,
    pub rules: Vec<RulesRead>,
    pub in_part: BTreeMap<String, String>,
    pub not_examined: Vec<Unexamined>,
    pub is_above_hidden: bool,
    pub purposes: Purposes,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AccessAnswer {
    /// The question, filled in: asked again with `read` as its `heads`, it gives the same.
    pub question: AccessQuestion,
    /// In one line.
    pub summary: String,
    /// Who has what.
    pub entitlements: Vec<Entitlement>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// How many findings of each kind.
    pub counts: BTreeMap<Kind, u64>,
    /// Snapshots that did not arrive whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub incomplete: Vec<Incomplete>,
    /// Tenants of which not all was seen, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub in_part: BTreeMap<String, String>,
    /// Whether tenants above may have grants that reach down, which you may not read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub grants_above_not_shown: bool,
    /// Tenants that could not be looked at, and why.
    pub not_examined: Vec<Unexamined>,
    /// The rules that it was held to.
    pub rules: Vec<RulesRead>,
    /// The heads that it is the answer to.
    pub read: Value,
}

/// Puts an answer together.
///
/// # Errors
/// There are more entitlements than an answer can hold.
pub(crate) fn answer(
    question: AccessQuestion,
    period: Period,
    looked: &[Looked<'_>],
    of_acts: Vec<Finding>,
    read: Read,
) -> Result<AccessAnswer, QueryError> {
    let is_narrowed = question.is_narrowed();
    let (mut entitlements, mut findings) = (Vec::new(), if is_narrowed { vec![] } else { of_acts });
    let mut incomplete = Vec::new();
    for one in looked {
        let names = one.held.people.all_names();
        let (kinds, found) = findings::of_entries(one, &names, &read.purposes, period);
        let peers = peers(one);
        let mut kept: BTreeSet<(String, String)> = BTreeSet::new();
        for (entry, kinds) in one.entries.iter().zip(kinds) {
            if !is_asked(&question, entry, names.get(&entry.who)) {
                continue;
            }
            kept.insert((
                names.get(&entry.who).map(|(name, _)| name.clone()).unwrap_or_default(),
                findings::words(entry),
            ));
            entitlements.push(shown(one, entry, &names, kinds, &peers));
        }
        let is_kept =
            |finding: &Finding| !is_narrowed || kept.contains(&(finding.subject.clone(), finding.about.clone()));
        findings.extend(found.into_iter().filter(is_kept));
        incomplete.extend(Incomplete::of(&one.tenant, &one.held));
        if entitlements.len() as u64 > MOST_ENTITLEMENTS {
            return Err(Exceeded::Rows { rows: MOST_ENTITLEMENTS }.into());
        }
    }
    entitlements.sort_by(|one, other| key(one).cmp(&key(other)));
    findings.sort();
    let mut counts: BTreeMap<Kind, u64> = BTreeMap::new();
    findings.iter().for_each(|finding| *counts.entry(finding.kind).or_default() += 1);
    let summary = summary(&entitlements, &counts);
    let Read { heads, rules, in_part, not_examined, is_above_hidden, .. } = read;
    let grants_above_not_shown = is_above_hidden;
    incomplete.sort();
    let read = heads;
    Ok(AccessAnswer {
        question,
        summary,
        entitlements,
        findings,
        counts,
        incomplete,
        in_part,
        grants_above_not_shown,
        not_examined,
        rules,
        read,
    })
}

type Key<'e> = (&'e str, &'e str, Option<&'e str>, &'e str, &'e str, Option<&'e FactId>);

fn key(one: &Entitlement) -> Key<'_> {
    (&one.tenant, &one.source, one.target.as_deref(), &one.role, &one.subject, one.grant.as_ref())
}

fn is_asked(question: &AccessQuestion, entry: &Entry, names: Option<&(String, Vec<String>)>) -> bool {
    let any =
        |patterns: &[String], value: &str| patterns.is_empty() || patterns.iter().any(|pattern| fits(pattern, value));
    any(&question.sources, &entry.right.source)
        && any(&question.roles, &entry.right.role)
        && any(&question.targets, entry.right.target.as_deref().unwrap_or_default())
        && question.is_about(names)
}

/// How many subjects have the same right.
fn peers<'l>(looked: &'l Looked<'_>) -> HashMap<&'l Right, BTreeSet<Who>> {
    let mut peers: HashMap<&Right, BTreeSet<Who>> = HashMap::new();
    for entry in &looked.entries {
        peers.entry(&entry.right).or_default().insert(entry.who);
    }
    peers
}

fn shown(
    looked: &Looked<'_>,
    entry: &Entry,
    names: &HashMap<Who, (String, Vec<String>)>,
    findings: BTreeSet<Kind>,
    peers: &HashMap<&Right, BTreeSet<Who>>,
) -> Entitlement {
    let (subject, also) = names.get(&entry.who).cloned().unwrap_or_default();
    let holding = &entry.holding;
    let manager = looked.held.persons.get(&entry.who).and_then(|person| person.manager.clone());
    // By the name that people know, where one is known.
    let known = manager.as_ref().and_then(|name| names.get(&looked.held.people.find(name)?));
    let manager = known.map(|(name, _)| name.clone()).or(manager);
    Entitlement {
        tenant: looked.tenant.clone(),
        source: entry.right.source.clone(),
        subject,
        also,
        manager,
        role: entry.right.role.clone(),
        target: entry.right.target.clone(),
        since: format_micros(holding.since),
        since_is: if holding.is_granted { "granted" } else { "seen" },
        entry: (if entry.id.is_some() { "control" } else { "audit" }, holding.seq),
        grant: entry.id.clone(),
        is_elevation: entry.is_elevation,
        granted_by: holding.granted_by.clone(),
        approved_by: holding.approved_by.clone(),
        approval: holding.approval.clone(),
        until: holding.until.map(format_micros),
        last_used: entry.used.last.map(format_micros),
        uses: entry.used.times,
        used_by: entry.used_by,
        peers: peers.get(&entry.right).map_or(0, |all| all.len() as u64 - 1),
        findings,
    }
}

fn summary(entitlements: &[Entitlement], counts: &BTreeMap<Kind, u64>) -> String {
    let count = |of: fn(&Entitlement) -> (&str, &str)| entitlements.iter().map(of).collect::<BTreeSet<_>>().len();
    let (subjects, tenants) = (count(|one| (&one.tenant, &one.subject)), count(|one| (&one.tenant, "")));
    let plural = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let held = format!(
        "{} of {} at {}",
        plural(entitlements.len(), "entitlement"),
        plural(subjects, "subject"),
        plural(tenants, "tenant")
    );
    let found: Vec<String> =
        counts.iter().map(|(kind, count)| format!("{count} {}", kind.as_str().replace('_', " "))).collect();
    if found.is_empty() {
        format!("{held}; nothing is wrong with them")
    } else {
        format!("{held}; {}", found.join(", "))
    }
}
