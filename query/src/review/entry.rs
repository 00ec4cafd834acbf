//! Entitlements of one tenant, from its entries and from the registry, with how they are used.
//!
//! Not here: what is wrong with them ([`super::findings`]). Invariant: pure.

use super::facts::{Right, Told};
use super::held::{Held, Holding};
use super::people::Who;
use super::uses::{Acts, Purposes, Use, Visits};
use access::pattern::fits;
use access::registry::change::{ReviewRules, RoleRule};
use access::registry::names::FactId;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The source of what stands in the registry.
pub(crate) const REGISTRY: &str = "piperoll";

/// Something that the registry gives, on one tenant.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub id: FactId,
    pub principal: String,
    pub role: String,
    /// Whether it reaches the tenants below, too.
    pub subtree: bool,
    pub holding: Holding,
    pub is_elevation: bool,
    /// When the principal was suspended, and by which entry.
    pub suspended: Option<(i64, u64)>,
}

/// An entitlement.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub who: Who,
    pub right: Right,
    pub holding: Holding,
    /// The grant or elevation, where it is one of the registry, and of whom.
    pub id: Option<FactId>,
    pub principal: String,
    pub is_elevation: bool,
    pub used: Use,
    /// What use was counted by: `subject`, `role`, `right` or `nothing`.
    pub used_by: &'static str,
}

/// What the caller sees of a tenant whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sees {
    pub acts: bool,
    pub visits: bool,
}

/// One tenant, with all that was found out about it.
pub(crate) struct Looked<'r> {
    pub tenant: String,
    pub rules: &'r ReviewRules,
    pub held: Held,
    pub entries: Vec<Entry>,
    /// Acts of each subject.
    pub acts: HashMap<Who, Use>,
    /// The same by what they were for.
    pub by_purpose: HashMap<Who, BTreeMap<u64, Use>>,
    /// Whether acts of anybody are on record: without, nobody can be said to use nothing.
    pub is_observed: bool,
    /// Whether all visits to the tenant are seen.
    pub sees_visits: bool,
    /// Of each credential, who used it in the period.
    pub credentials: BTreeMap<String, BTreeSet<Who>>,
}

/// A rule of a role: the one of its name, or the longest pattern that fits.
pub(crate) fn role_rule<'r>(rules: &'r ReviewRules, role: &str) -> Option<&'r RoleRule> {
    longest(&rules.roles, role)
}

/// What the longest pattern that fits stands for.
pub(crate) fn longest<'r, T>(patterns: &'r BTreeMap<String, T>, value: &str) -> Option<&'r T> {
    if let Some(found) = patterns.get(value) {
        return Some(found);
    }
    let fitting = patterns.iter().filter(|(pattern, _)| fits(pattern, value));
    fitting.max_by_key(|(pattern, _)| (pattern.len(), std::cmp::Reverse(*pattern))).map(|(_, found)| found)
}

impl<'r> Looked<'r> {
    /// Puts together what one tenant's entries and the registry say. Acts are of this tenant alone.
    pub fn of(
        (tenant, rules): (String, &'r ReviewRules),
        told: Vec<Told>,
        given: Vec<Given>,
        acts: Vec<Acts>,
        sees: Sees,
    ) -> Self {
        let mut held = Held::of(rules, told);
        let mut entries = Vec::with_capacity(held.holdings.len() + given.len());
        for one in given {
            let who = held.people.principal(&one.principal);
            if let Some(suspended) = one.suspended {
                held.persons.entry(who).or_default().left.get_or_insert(suspended);
            }
            let target = one.subtree.then(|| format!("{tenant} and below"));
            let right = Right { source: REGISTRY.into(), role: one.role, target };
            let (id, is_elevation, used) = (Some(one.id), one.is_elevation, Use::default());
            let (principal, holding, used_by) = (one.principal, one.holding, "right");
            entries.push(Entry { who, right, holding, id, principal, is_elevation, used, used_by });
        }
        for ((who, right), holding) in &held.holdings {
            let (who, right, holding) = (*who, right.clone(), holding.clone());
            let (id, is_elevation, used, used_by) = (None, false, Use::default(), "subject");
            let principal = String::new();
            entries.push(Entry { who, right, holding, id, principal, is_elevation, used, used_by });
        }
        let mut looked = Self {
            tenant,
            rules,
            held,
            entries,
            acts: HashMap::new(),
            by_purpose: HashMap::new(),
            is_observed: sees.acts && acts.iter().any(|one| !one.are_of_access()),
            sees_visits: sees.visits,
            credentials: BTreeMap::new(),
        };
        looked.count(acts);
        looked
    }

    fn count(&mut self, acts: Vec<Acts>) {
        for one in acts {
            // Who has nothing may still share a credential with somebody who has.
            let who = match self.held.people.actor(&self.tenant, &one.actor) {
                Some(who) => who,
                None if one.credential.is_some() => self.held.people.named(&one.actor),
                None => continue,
            };
            self.acts.entry(who).or_default().add(one.used);
            self.by_purpose.entry(who).or_default().entry(one.purposes).or_default().add(one.used);
            if let Some(credential) = one.credential.filter(|_| one.used.times > 0) {
                self.credentials.entry(credential).or_default().insert(who);
            }
        }
        self.credentials.retain(|_, who| who.len() > 1);
    }

    /// Counts the use of each entitlement.
    pub fn attribute(&mut self, purposes: &Purposes, visits: &Visits) {
        let of_tenant = (self.tenant.clone(), String::new())..;
        for ((_, principal), actions) in visits.actions.range(of_tenant).take_while(|((of, _), _)| *of == self.tenant) {
            let Some(who) = self.held.people.find_principal(principal) else { continue };
            let of_who = self.by_purpose.entry(who).or_default();
            for action in actions {
                of_who.entry(purposes.of_action(action)).or_default().add(Use { times: 1, last: None });
            }
        }
        for entry in &mut self.entries {
            let rule = role_rule(self.rules, &entry.right.role).filter(|rule| !rule.uses.is_empty());
            let mut used = match (&entry.id, rule) {
                (Some(id), _) => {
                    let mut used = Use::default();
                    // What reaches below may have been used where nobody looks now.
                    let is_below = entry.right.target.is_some();
                    let all = visits
                        .by_right
                        .iter()
                        .filter(|((tenant, right), _)| right == id.as_str() && (is_below || *tenant == self.tenant));
                    all.for_each(|(_, one)| used.add(*one));
                    if let Some(changes) = visits.by_principal.get(&(self.tenant.clone(), entry.principal.clone())) {
                        used.add(*changes);
                    }
                    if used.last.is_none() && (is_below || !self.sees_visits) {
                        entry.used_by = "nothing";
                    }
                    used
                }
                (None, Some(rule)) => {
                    entry.used_by = "role";
                    let mut used = Use::default();
                    let bit = purposes.bit(&rule.uses);
                    let all = self.by_purpose.get(&entry.who).into_iter().flatten();
                    all.filter(|(of, _)| *of & bit != 0).for_each(|(_, one)| used.add(*one));
                    used
                }
                (None, None) if !self.is_observed || entry.holding.is_group => {
                    entry.used_by = "nothing";
                    Use::default()
                }
                (None, None) => self.acts.get(&entry.who).copied().unwrap_or_default(),
            };
            // What was done before it was given was not done with it.
            used.last = used.last.filter(|last| *last >= entry.holding.since || !entry.holding.is_granted);
            if used.last.is_none() {
                used.times = 0;
            }
            used.last = used.last.max(entry.holding.last_used);
            entry.used = used;
        }
    }
}
