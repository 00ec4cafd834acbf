//! From a question about access to what is read for it: streams through the door, the registry as it was, rules.
//!
//! Not here: what an entry says ([`super::facts`]), the answer ([`super::answer`]). Invariant: each stream comes from the
//! door; grants of the registry are shown to who may read them, and nobody else learns that there are any.

use super::answer::{self, AccessAnswer, Read, RulesRead};
use super::entry::{Given, Looked, Sees};
use super::facts::{Columns, Forms, Told, actions};
use super::findings;
use super::held::Holding;
use super::question::{AccessQuestion, Period};
use super::uses::{Acts, DONE, Purposes, Uses};
use crate::answer::heads_json;
use crate::error::QueryError;
use crate::run::HeadRead;
use crate::scope::{Cost, Misasked, Reached, Rows, literal, moment, rows, snapshots};
use crate::state::QueryState;
use crate::table::Seen;
use access::registry::PLATFORM;
use access::registry::change::ReviewRules;
use access::{Caller, Problem, RegistrySeen};
use ledger::{Hash, StreamKind, TenantId};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is looked at: what was done and what was given, and who visited.
const STREAMS: [StreamKind; 2] = [StreamKind::Audit, StreamKind::Access];

/// Columns that an entry may be read from, besides its attributes.
const COLUMNS: [&str; 6] = ["actor_id", "on_behalf_of", "resource_type", "resource_id", "resource_name", "approval_id"];

/// Tenants of which not all is seen, and why.
type InPart = BTreeMap<String, String>;
/// Streams of which not all is seen.
type Partly = BTreeSet<(String, StreamKind)>;

/// What a question about access is answered from.
pub(crate) struct Material {
    pub question: AccessQuestion,
    pub period: Period,
    pub seen: Vec<Seen>,
    pub rules: BTreeMap<String, Arc<ReviewRules>>,
    /// The rules that were held to, each once.
    pub rules_read: Vec<RulesRead>,
    pub registry: RegistrySeen,
    pub reached: Reached,
    /// Tenants of which not all was seen, and why.
    pub in_part: InPart,
    /// Streams of which that is so.
    pub partly: Partly,
    /// Whether tenants above may have grants that reach down and are not shown to the caller.
    pub is_above_hidden: bool,
}

impl QueryState {
    /// Who has access to what, how it is used, and what is wrong with it.
    ///
    /// # Errors
    /// The question is not well asked, nothing of it is granted to the caller, or see [`QueryError`].
    pub async fn entitlements(
        &self,
        caller: &Caller,
        question: AccessQuestion,
    ) -> Result<(AccessAnswer, Cost), Problem> {
        let material = self.material(caller, question).await?;
        let uses = Uses { engine: self.engine(), seen: &material.seen, period: material.period };
        let default = Arc::new(ReviewRules::default());
        let rules = material.rules.values().chain([&default]);
        let outside: BTreeSet<&str> = rules.flat_map(|rules| outside_of(rules)).collect();
        let rules = || material.rules.values().map(AsRef::as_ref);
        let purposes = Purposes::of(rules(), actions(rules()).into_keys().collect())?;
        // Two at a time: while rows of the one are read, the other is worked on.
        let (told, acts) =
            tokio::try_join!(self.told(&material.seen, material.period, &material.rules), uses.acts(&purposes))?;
        let (outside, under) = tokio::try_join!(uses.outside(&outside), uses.under_elevations())?;
        let visits = uses.visits().await?;
        let mut acts_of: BTreeMap<String, Vec<Acts>> = BTreeMap::new();
        for one in acts {
            acts_of.entry(one.tenant.clone()).or_default().push(one);
        }
        let given = given(&material.registry, &material.reached.examined, material.period.as_of);
        let mut told = told;
        let mut given_of: BTreeMap<String, Vec<Given>> = given;
        let tenants: BTreeSet<String> = told.keys().chain(given_of.keys()).chain(acts_of.keys()).cloned().collect();
        let mut looked: Vec<Looked<'_>> = Vec::with_capacity(tenants.len());
        for tenant in tenants {
            let rules = material.rules.get(&tenant).unwrap_or(&default);
            let acts = acts_of.remove(&tenant).unwrap_or_default();
            let (told, given) =
                (told.remove(&tenant).unwrap_or_default(), given_of.remove(&tenant).unwrap_or_default());
            let sees = Sees {
                acts: !material.partly.contains(&(tenant.clone(), StreamKind::Audit)),
                visits: tenant != PLATFORM && !material.partly.contains(&(tenant.clone(), StreamKind::Access)),
            };
            looked.push(Looked::of((tenant, rules), told, given, acts, sees));
        }
        looked.iter_mut().for_each(|one| one.attribute(&purposes, &visits));
        let mut findings = findings::of_elevations(&under, material.period, |tenant, one, other| {
            one == other || same_subject(&looked, tenant, one, other)
        });
        let is_outside = |one: &&super::uses::Outside| {
            let rules = material.rules.get(&one.tenant).unwrap_or(&default);
            outside_of(rules).any(|kind| kind == one.kind)
        };
        let outside: Vec<_> = outside.iter().filter(is_outside).cloned().collect();
        findings.extend(findings::of_outside(&outside));
        findings.extend(unreviewed(&material.registry, &material.reached.examined, material.period.as_of));
        let cost = Cost::of(&material.seen);
        let mut read: Vec<HeadRead> = material.seen.iter().map(|seen| HeadRead::of(&seen.snapshot)).collect();
        read.sort_by(|one, other| (&one.tenant, one.stream).cmp(&(&other.tenant, other.stream)));
        let mut heads = heads_json(&read);
        if let Some(heads) = heads.as_array_mut() {
            heads.push(json!({"tenant": PLATFORM, "stream": StreamKind::Control.as_str(),
                "size": material.registry.size, "root": material.registry.root.to_base64()}));
        }
        let read = Read {
            heads,
            rules: material.rules_read,
            in_part: material.in_part,
            not_examined: material.reached.not_examined,
            is_above_hidden: material.is_above_hidden,
            purposes,
        };
        drop(material.reached.asking);
        Ok((answer::answer(material.question, material.period, &looked, findings, read)?, cost))
    }

    /// Reads what a question is answered from.
    pub(crate) async fn material(&self, caller: &Caller, question: AccessQuestion) -> Result<Material, Problem> {
        let is_now = question.as_of.is_none() && question.heads.is_empty();
        let (mut question, period) = question.check(self.door().now())?;
        if !question.heads.is_empty() && question.subtree.is_some() {
            let why = "with heads, name the tenants: ask the question of the answer that the heads are of";
            return Err(Misasked(why.into()).into());
        }
        caller.visit().note(
            "question",
            json!({"as_of": question.as_of, "since": question.since,
            "roles": question.roles, "sources": question.sources, "targets": question.targets}),
        );
        let mut reached = self.reach(caller, question.named()?, question.subtree.take(), &STREAMS)?;
        // Also those that cannot be looked at: asked again, that is said again.
        let asked = reached.examined.iter().map(ToString::to_string);
        let asked: BTreeSet<String> = asked.chain(reached.not_examined.iter().map(|one| one.tenant.clone())).collect();
        question.tenants = asked.into_iter().collect();
        let control = question.heads.iter().find(|head| head.tenant == PLATFORM && head.stream == "control");
        let as_of = (!is_now).then_some(period.as_of);
        let size = control.map(|head| (head.size, head.root.as_deref().and_then(Hash::from_base64)));
        let registry = self.door().registry_seen(caller, &reached.examined, as_of, size).await?;
        let (in_part, partly) = self.seen_in_part(caller, &reached, &registry);
        let above =
            |tenant: &TenantId| registry.registry.line(tenant).skip(1).any(|one| !registry.readable.contains(one));
        let is_above_hidden = reached.examined.iter().any(above);
        let of_streams: Vec<_> = question.heads.iter().filter(|head| head.stream != "control").cloned().collect();
        let seen = match question.heads.is_empty() {
            true => snapshots(std::mem::take(&mut reached.opened), &[]).await?,
            false => snapshots(std::mem::take(&mut reached.opened), &of_streams).await?,
        };
        let (rules, rules_read) = rules_of(&question, &registry, &reached.examined);
        question.heads.clear();
        Ok(Material { question, period, seen, rules, rules_read, registry, reached, in_part, partly, is_above_hidden })
    }

    /// What the caller does not see of tenants that are asked about.
    fn seen_in_part(&self, caller: &Caller, reached: &Reached, registry: &RegistrySeen) -> (InPart, Partly) {
        // Whether a stream is there, and whether all of it is seen.
        let opened: BTreeMap<(&TenantId, StreamKind), bool> =
            reached.opened.iter().map(|one| ((one.handle.tenant(), one.handle.kind()), one.sight.is_whole())).collect();
        let (mut in_part, mut partly) = (InPart::new(), Partly::new());
        for tenant in &reached.examined {
            let mut missing: Vec<String> = Vec::new();
            for kind in STREAMS {
                match opened.get(&(tenant, kind)) {
                    Some(true) => continue,
                    Some(false) => missing.push(format!("you see part of {kind}")),
                    None if self.door().sees(caller, tenant, kind) => continue,
                    None => missing.push(format!("{kind} is not granted to you")),
                }
                partly.insert((tenant.to_string(), kind));
            }
            if !registry.readable.contains(tenant) {
                missing.push("grant.read is not granted to you".into());
            }
            if !missing.is_empty() {
                in_part.insert(tenant.to_string(), missing.join(", "));
            }
        }
        (in_part, partly)
    }

    /// The entries that say something of access, by tenant.
    pub(super) async fn told(
        &self,
        seen: &[Seen],
        period: Period,
        rules: &BTreeMap<String, Arc<ReviewRules>>,
    ) -> Result<BTreeMap<String, Vec<Told>>, QueryError> {
        let all = actions(rules.values().map(Arc::as_ref));
        let mut told: BTreeMap<String, Vec<Told>> = BTreeMap::new();
        // Apart: the column of attributes is the largest, and most entries that say something are read without it.
        for with_attributes in [true, false] {
            let of = || all.iter().filter(|(_, looked)| looked.attributes == with_attributes);
            let actions: Vec<String> = of().map(|(name, _)| literal(name)).collect();
            if actions.is_empty() {
                continue;
            }
            let is_looked_at = |column: &str| of().any(|(_, looked)| looked.columns.contains(column));
            let column = |column: &str| match is_looked_at(column) {
                true => column.to_string(),
                false => format!("NULL AS {column}"),
            };
            let columns = COLUMNS.map(column).join(", ");
            let sql = format!(
                "SELECT tenant, seq, occurred_at, action, {columns}, {} FROM audit \
                 WHERE {DONE} AND occurred_at <= {} AND action IN ({})",
                if with_attributes { "attributes" } else { "NULL AS attributes" },
                moment(period.as_of),
                actions.join(", ")
            );
            read_into(&mut told, &rows(self.engine(), seen, "what gave, took and used access", sql).await?, rules)?;
        }
        Ok(told)
    }
}

/// Reads rows of entries that may say something of access.
fn read_into(
    told: &mut BTreeMap<String, Vec<Told>>,
    found: &Rows,
    rules: &BTreeMap<String, Arc<ReviewRules>>,
) -> Result<(), QueryError> {
    let (seq, at) = (found.numbers(1)?, found.times(2)?);
    let texts = |column| found.texts(column);
    let (tenant, action, actor, on_behalf_of) = (texts(0)?, texts(3)?, texts(4)?, texts(5)?);
    let (kind, resource, name, approval, attributes) = (texts(6)?, texts(7)?, texts(8)?, texts(9)?, texts(10)?);
    let default = ReviewRules::default();
    let mut forms: BTreeMap<&str, Forms<'_>> = BTreeMap::new();
    for row in 0..found.len() {
        let (Some(tenant), Some(action), Some(at)) = (&tenant[row], &action[row], at[row]) else { continue };
        let own = || Forms::of(rules.get(tenant).map_or(&default, Arc::as_ref));
        let columns = Columns {
            action,
            actor_id: actor[row].as_deref(),
            on_behalf_of: on_behalf_of[row].as_deref(),
            resource_type: kind[row].as_deref(),
            resource_id: resource[row].as_deref(),
            resource_name: name[row].as_deref(),
            approval_id: approval[row].as_deref(),
            attributes: attributes[row].as_deref(),
        };
        for fact in forms.entry(tenant).or_insert_with(own).read(&columns) {
            let (tenant, seq, by) = (tenant.clone(), seq[row], actor[row].clone());
            told.entry(tenant.clone()).or_default().push(Told { tenant, seq, at, by, fact });
        }
    }
    Ok(())
}

fn outside_of(rules: &ReviewRules) -> impl Iterator<Item = &str> {
    let own = rules.outside.iter().flatten().map(String::as_str);
    let known = findings::OUTSIDE.into_iter().filter(|_| rules.outside.is_none());
    own.chain(known)
}

fn same_subject(looked: &[Looked<'_>], tenant: &str, one: &str, other: &str) -> bool {
    let found = looked.binary_search_by(|looked| looked.tenant.as_str().cmp(tenant)).ok();
    let people = found.map(|at| &looked[at].held.people);
    people.and_then(|people| people.find(one).zip(people.find(other))).is_some_and(|(one, other)| one == other)
}

/// The rules of each tenant: those of the question, or those on record. And what was held to, each once.
fn rules_of(
    question: &AccessQuestion,
    seen: &RegistrySeen,
    examined: &BTreeSet<TenantId>,
) -> (BTreeMap<String, Arc<ReviewRules>>, Vec<RulesRead>) {
    // Those above too, of whom something may be shown that reaches down.
    let tenants: BTreeSet<&TenantId> = examined.iter().chain(&seen.readable).collect();
    if let Some(rules) = &question.rules {
        let read = RulesRead { version: None, sha256: hash(rules) };
        let rules = Arc::new(rules.clone());
        return (tenants.iter().map(|tenant| (tenant.to_string(), Arc::clone(&rules))).collect(), vec![read]);
    }
    let mut by_version: BTreeMap<u64, Arc<ReviewRules>> = BTreeMap::new();
    let mut rules = BTreeMap::new();
    for tenant in tenants {
        if let Some((found, set)) = seen.registry.review_rules(tenant) {
            let one = by_version.entry(set.seq).or_insert_with(|| Arc::new(found.clone()));
            rules.insert(tenant.to_string(), Arc::clone(one));
        }
    }
    let read = by_version.iter().map(|(seq, rules)| RulesRead { version: Some(*seq), sha256: hash(rules) });
    (rules, read.collect())
}

fn hash(rules: &ReviewRules) -> String {
    Hash::of(json!(rules).to_string().as_bytes()).to_hex()
}

/// Grants and elevations of the registry that hold at a moment, by the tenant that they name.
fn given(seen: &RegistrySeen, examined: &BTreeSet<TenantId>, as_of: i64) -> BTreeMap<String, Vec<Given>> {
    let registry = &seen.registry;
    let mut given: BTreeMap<String, Vec<Given>> = BTreeMap::new();
    let suspended = |principal| {
        registry.principal(principal).and_then(|found| found.suspended.as_ref()).map(|stamp| (stamp.at, stamp.seq))
    };
    // Of who stands above, only what reaches down.
    let is_shown =
        |tenant: &TenantId, subtree: bool| seen.readable.contains(tenant) && (examined.contains(tenant) || subtree);
    for (id, grant) in registry.grants() {
        let ends = grant.fact.limits.expires_at.map(|end| end.0);
        if grant.revoked.is_some() || ends.is_some_and(|end| end <= as_of) || grant.made.at > as_of {
            continue;
        }
        for tenant in grant.fact.tenants.iter().filter(|tenant| is_shown(tenant, grant.fact.subtree)) {
            given.entry(tenant.to_string()).or_default().push(Given {
                id: id.clone(),
                principal: grant.fact.principal.to_string(),
                role: grant.fact.role.to_string(),
                subtree: grant.fact.subtree,
                holding: Holding::granted(grant.made.at, grant.made.seq, grant.made.by.as_str(), None, ends),
                is_elevation: false,
                suspended: suspended(&grant.fact.principal),
            });
        }
    }
    for (id, elevation) in registry.elevations() {
        let Some((start, end)) = elevation.term().filter(|(start, end)| (*start..*end).contains(&as_of)) else {
            continue;
        };
        let Some(principal) = &elevation.fact.principal else { continue };
        let approved = elevation.approved.as_ref().filter(|_| !elevation.is_break_glass);
        for tenant in elevation.fact.tenants.iter().filter(|tenant| is_shown(tenant, false)) {
            let by = approved.map(|stamp| stamp.by.as_str());
            given.entry(tenant.to_string()).or_default().push(Given {
                id: id.clone(),
                principal: principal.to_string(),
                role: elevation.fact.role.to_string(),
                subtree: false,
                holding: Holding::granted(start, elevation.asked.seq, elevation.asked.by.as_str(), by, Some(end)),
                is_elevation: true,
                suspended: suspended(principal),
            });
        }
    }
    // The registry's maps have no order.
    given.values_mut().for_each(|all| all.sort_by(|one, other| one.id.cmp(&other.id)));
    given
}

/// Elevations of the registry that were taken without approval and looked at by nobody.
fn unreviewed(seen: &RegistrySeen, examined: &BTreeSet<TenantId>, as_of: i64) -> Vec<findings::Finding> {
    let is_shown = |tenant: &TenantId| examined.contains(tenant) && seen.readable.contains(tenant);
    let mut found = Vec::new();
    for (id, elevation) in seen.registry.elevations() {
        if !elevation.is_break_glass || elevation.reviewed.is_some() || elevation.asked.at > as_of {
            continue;
        }
        for tenant in elevation.fact.tenants.iter().filter(|one| is_shown(one)) {
            found.push(findings::Finding {
                tenant: tenant.to_string(),
                kind: findings::Kind::ElevationUnreviewed,
                subject: elevation.fact.principal.as_ref().map(ToString::to_string).unwrap_or_default(),
                about: id.to_string(),
                what: "taken without approval, and nobody reviewed what was done under it".into(),
                entry: Some(("control", elevation.asked.seq)),
            });
        }
    }
    found
}
