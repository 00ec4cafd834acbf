//! Who came, who went and who changed roles from one snapshot to the next; and whether events tell the same.
//!
//! Not here: snapshots by themselves ([`super::held`]). Invariants: pure but for the reading; what events do not speak of
//! is not held against them, nor what they speak of outside two snapshots.

use super::answer::{Incomplete, RulesRead};
use super::asking::Material;
use super::facts::Right;
use super::held::{Held, Said, Step};
use super::people::Who;
use super::question::AccessQuestion;
use crate::answer::heads_json;
use crate::run::HeadRead;
use crate::scope::Unexamined;
use crate::state::QueryState;
use access::pattern::fits;
use access::registry::change::ReviewRules;
use access::{Caller, Problem};
use ledger::time::format_micros;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Who has another role on something than before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Changed {
    /// Who.
    pub subject: String,
    /// On what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// As what before.
    pub before: BTreeSet<String>,
    /// As what now.
    pub now: BTreeSet<String>,
}

/// What an event says, that the snapshots before and after it do not show.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Disagreement {
    /// Who.
    pub subject: String,
    /// On what, if the event says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What the events say, in order: `granted`, `revoked`.
    pub said: Vec<&'static str>,
    /// What the snapshots show: `came`, `went`, `stayed` or `absent`.
    pub shown: &'static str,
    /// The entries of the `audit` stream that say so.
    pub entries: Vec<u64>,
}

/// From one snapshot to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// At which tenant.
    pub tenant: String,
    /// Of which source.
    pub source: String,
    /// Of which part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// When the one before was taken.
    pub from: String,
    /// When this one was taken.
    pub to: String,
    /// How many entitlements there are now.
    pub entitlements: u64,
    /// Who has something now, and had nothing before.
    pub joined: Vec<String>,
    /// Who had something before, and has nothing now.
    pub left: Vec<String>,
    /// Who has another role on something than before.
    pub changed: Vec<Changed>,
    /// Of those who came or went, how many an event tells the same of.
    pub agreed: u64,
    /// Who came or went, and no event says a word of it.
    pub unexplained: Vec<String>,
    /// What events say and snapshots do not show.
    pub disagreements: Vec<Disagreement>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChangesAnswer {
    /// The question, filled in.
    pub question: AccessQuestion,
    /// In one line.
    pub summary: String,
    /// Step by step.
    pub steps: Vec<Changes>,
    /// Snapshots that did not arrive whole: they are no step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub incomplete: Vec<Incomplete>,
    /// Tenants that could not be looked at, and why.
    pub not_examined: Vec<Unexamined>,
    /// The rules that it was held to.
    pub rules: Vec<RulesRead>,
    /// Tenants of which not all was seen, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub in_part: BTreeMap<String, String>,
    /// The heads that it is the answer to.
    pub read: Value,
}

impl QueryState {
    /// What changed from each snapshot to the next, in the period that is asked about.
    ///
    /// # Errors
    /// As [`QueryState::entitlements`].
    pub async fn access_changes(&self, caller: &Caller, question: AccessQuestion) -> Result<ChangesAnswer, Problem> {
        let material = self.material(caller, question).await?;
        let told = self.told(&material.seen, material.period, &material.rules).await?;
        let default = ReviewRules::default();
        let (mut steps, mut incomplete) = (Vec::new(), Vec::new());
        for (tenant, told) in told {
            let held = Held::of(material.rules.get(&tenant).map_or(&default, AsRef::as_ref), told);
            let names = held.people.all_names();
            incomplete.extend(Incomplete::of(&tenant, &held));
            let period = material.period.since..=material.period.as_of;
            let asked = held.steps.iter().filter(|step| period.contains(&step.to));
            let is_source = |step: &&Step| {
                let sources = &material.question.sources;
                sources.is_empty() || sources.iter().any(|pattern| fits(pattern, &step.source))
            };
            let of = Of { question: &material.question, tenant: &tenant, names: &names };
            steps.extend(asked.filter(is_source).map(|step| of.step(step, &held.said)));
        }
        steps.sort_by(|one, other| {
            (&one.tenant, &one.source, &one.part, &one.to).cmp(&(&other.tenant, &other.source, &other.part, &other.to))
        });
        let mut read: Vec<HeadRead> = material.seen.iter().map(|seen| HeadRead::of(&seen.snapshot)).collect();
        read.sort_by(|one, other| (&one.tenant, one.stream).cmp(&(&other.tenant, other.stream)));
        let summary = summary(&steps);
        drop(material.reached.asking);
        incomplete.sort();
        let Material { question, in_part, rules_read: rules, .. } = material;
        let (not_examined, read) = (material.reached.not_examined, heads_json(&read));
        Ok(ChangesAnswer { question, summary, steps, incomplete, not_examined, rules, in_part, read })
    }
}

/// Of each subject, by target, its roles.
type Roles = BTreeMap<Who, BTreeMap<Option<String>, BTreeSet<String>>>;

struct Of<'a> {
    question: &'a AccessQuestion,
    tenant: &'a str,
    names: &'a HashMap<Who, (String, Vec<String>)>,
}

impl Of<'_> {
    fn is_asked(&self, role: &str, target: Option<&str>) -> bool {
        let any = |patterns: &[String], value: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| fits(pattern, value))
        };
        any(&self.question.roles, role) && any(&self.question.targets, target.unwrap_or_default())
    }

    fn is_about(&self, who: Who) -> bool {
        self.question.is_about(self.names.get(&who))
    }

    fn name(&self, who: Who) -> String {
        self.names.get(&who).map(|(name, _)| name.clone()).unwrap_or_default()
    }

    fn sorted(&self, who: impl Iterator<Item = Who>) -> Vec<String> {
        let mut names: Vec<String> = who.map(|who| self.name(who)).collect();
        names.sort();
        names
    }

    fn step(&self, step: &Step, said: &[Said]) -> Changes {
        let asked = |all: &super::held::Rights| -> Roles {
            let mut of: Roles = BTreeMap::new();
            let is_asked = |(who, right): &&(Who, Right)| {
                self.is_about(*who) && self.is_asked(&right.role, right.target.as_deref())
            };
            for (who, right) in all.iter().filter(is_asked) {
                of.entry(*who).or_default().entry(right.target.clone()).or_default().insert(right.role.clone());
            }
            of
        };
        let (before, now) = (asked(&step.before), asked(&step.now));
        let joined: BTreeSet<Who> = now.keys().filter(|who| !before.contains_key(who)).copied().collect();
        let left: BTreeSet<Who> = before.keys().filter(|who| !now.contains_key(who)).copied().collect();
        let changed = self.changed(&before, &now);
        let heard = self.heard(step, said);
        let spoken: BTreeSet<Who> = heard.keys().map(|(who, _)| *who).collect();
        let (mut agreed, mut disagreements) = (BTreeSet::new(), Vec::new());
        for ((who, target), said) in &heard {
            let has =
                |all: &Roles| all.get(who).is_some_and(|targets| target.is_none() || targets.contains_key(target));
            let shown = (has(&before), has(&now));
            // What is said first tells what was before, what is said last what is after.
            let told = (!said[0].is_given, said[said.len() - 1].is_given);
            if told == shown {
                agreed.insert(*who);
                continue;
            }
            disagreements.push(Disagreement {
                subject: self.name(*who),
                target: target.clone(),
                said: said.iter().map(|one| if one.is_given { "granted" } else { "revoked" }).collect(),
                shown: match shown {
                    (false, true) => "came",
                    (true, false) => "went",
                    (true, true) => "stayed",
                    (false, false) => "absent",
                },
                entries: said.iter().map(|one| one.seq).collect(),
            });
        }
        disagreements.sort();
        let moved = || joined.iter().chain(&left).copied();
        let agreed = moved().filter(|who| agreed.contains(who)).count() as u64;
        let unexplained = self.sorted(moved().filter(|who| !spoken.contains(who)));
        Changes {
            tenant: self.tenant.to_string(),
            source: step.source.clone(),
            part: step.part.clone(),
            from: format_micros(step.from),
            to: format_micros(step.to),
            entitlements: now.values().flat_map(BTreeMap::values).map(|roles| roles.len() as u64).sum(),
            joined: self.sorted(joined.iter().copied()),
            left: self.sorted(left.iter().copied()),
            changed,
            agreed,
            unexplained,
            disagreements,
        }
    }

    /// Who has other roles on something than before.
    fn changed(&self, before: &Roles, now: &Roles) -> Vec<Changed> {
        let mut changed = Vec::new();
        for (who, targets) in now {
            for (target, roles) in targets {
                let had = before.get(who).and_then(|targets| targets.get(target));
                if let Some(had) = had.filter(|had| *had != roles) {
                    let (subject, target) = (self.name(*who), target.clone());
                    changed.push(Changed { subject, target, before: had.clone(), now: roles.clone() });
                }
            }
        }
        changed.sort();
        changed
    }

    /// What events say between two snapshots, of whom and of what, in order.
    fn heard<'s>(&self, step: &Step, said: &'s [Said]) -> BTreeMap<(Who, Option<String>), Vec<&'s Said>> {
        let mut heard: BTreeMap<(Who, Option<String>), Vec<&Said>> = BTreeMap::new();
        let is_between = |one: &&Said| one.source == step.source && step.from < one.at && one.at <= step.to;
        let is_of_part = |one: &&Said| match (&step.part, &one.target) {
            (Some(part), Some(target)) => {
                target == part || target.strip_prefix(part.as_str()).is_some_and(|rest| rest.starts_with('/'))
            }
            _ => true,
        };
        let is_asked = |one: &&Said| {
            let any_role = one.role.is_none() && self.question.roles.is_empty();
            any_role || self.is_asked(one.role.as_deref().unwrap_or_default(), one.target.as_deref())
        };
        let is_about = |one: &&Said| self.is_about(one.who);
        let is_target = |one: &&Said| self.question.targets.is_empty() || one.target.is_some();
        for one in said.iter().filter(is_between).filter(is_of_part).filter(is_asked).filter(is_target).filter(is_about)
        {
            heard.entry((one.who, one.target.clone())).or_default().push(one);
        }
        heard
    }
}

fn summary(steps: &[Changes]) -> String {
    let sum = |of: fn(&Changes) -> usize| steps.iter().map(of).sum::<usize>();
    format!(
        "{} steps: {} joined, {} left, {} changed roles; events agree on {}, say nothing of {}, and disagree on {}",
        steps.len(),
        sum(|one| one.joined.len()),
        sum(|one| one.left.len()),
        sum(|one| one.changed.len()),
        sum(|one| one.agreed as usize),
        sum(|one| one.unexplained.len()),
        sum(|one| one.disagreements.len())
    )
}
