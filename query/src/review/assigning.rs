//! Who reviews what: the first that the rules give, and never the subject itself.
//!
//! Not here: who may decide (`access`). Invariant: a reviewer is a person who is there.

use super::answer::Entitlement;
use super::entry::longest;
use access::registry::change::{ReviewItem, ReviewRules, ReviewerRule};
use access::registry::names::{FactId, PrincipalId, When};
use access::registry::{Grant, Registry};
use ledger::name::TenantId;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What else a subject is called, as far as an item says it.
const MOST_NAMES: usize = 20;

/// Who reviews what.
pub(super) struct Assigning<'r> {
    registry: &'r Registry,
    reviewers: &'r [ReviewerRule],
    /// Who decides where no rule gives anybody.
    last: Vec<&'r PrincipalId>,
    administrators: BTreeMap<TenantId, Vec<&'r PrincipalId>>,
    names: std::cell::RefCell<HashMap<PrincipalId, HashSet<String>>>,
}

impl<'r> Assigning<'r> {
    pub fn new(
        registry: &'r Registry,
        now: i64,
        reviewers: &'r [ReviewerRule],
        last: [Option<&'r PrincipalId>; 2],
    ) -> Self {
        let mut administrators: BTreeMap<TenantId, BTreeSet<&PrincipalId>> = BTreeMap::new();
        let holds = |(_, grant): &(&FactId, &Grant)| {
            grant.revoked.is_none() && grant.fact.limits.expires_at.is_none_or(|end| now < end.0)
        };
        for (_, grant) in registry.grants().filter(holds) {
            if grant.fact.role.as_str() == "tenant-administrator" {
                for tenant in &grant.fact.tenants {
                    administrators.entry(tenant.clone()).or_default().insert(&grant.fact.principal);
                }
            }
        }
        let administrators =
            administrators.into_iter().map(|(tenant, who)| (tenant, who.into_iter().collect())).collect();
        let last = last.into_iter().flatten().collect();
        Self { registry, reviewers, last, administrators, names: Default::default() }
    }

    /// An entitlement as an item, with its reviewer.
    pub fn item(&self, one: &Entitlement) -> Result<ReviewItem, String> {
        let wrong = |_| format!("{} is no name", one.tenant);
        let tenant: TenantId = one.tenant.parse().map_err(wrong)?;
        let time = |text: &str| text.parse::<When>().unwrap_or(When(0));
        let mut item = ReviewItem {
            tenant,
            source: one.source.clone(),
            subject: one.subject.clone(),
            also: one.also.iter().take(MOST_NAMES).cloned().collect(),
            role: one.role.clone(),
            target: one.target.clone(),
            since: time(&one.since),
            last_used: one.last_used.as_deref().map(time),
            uses: one.uses,
            findings: one.findings.iter().map(|kind| kind.as_str().to_string()).collect(),
            grant: one.grant.clone(),
            reviewer: self.last.first().map(|one| (*one).clone()).ok_or("a review needs an owner")?,
        };
        let of_rules = self.reviewers.iter().flat_map(|rule| self.candidates(rule, &item, one));
        let mut candidates = of_rules.chain(self.last.iter().map(|one| (*one).clone()));
        item.reviewer = candidates.find(|candidate| self.can(candidate, &item)).ok_or_else(|| {
            format!(
                "nobody but {} could decide on their {}: name an owner or escalate_to who can",
                item.subject, item.role
            )
        })?;
        Ok(item)
    }

    fn candidates(&self, rule: &ReviewerRule, item: &ReviewItem, one: &Entitlement) -> Vec<PrincipalId> {
        let rules = self.registry.review_rules(&item.tenant).map(|(rules, _)| rules);
        let longest = |patterns: fn(&ReviewRules) -> &BTreeMap<String, PrincipalId>, value: &str| {
            longest(patterns(rules?), value).cloned()
        };
        match rule {
            ReviewerRule::ResourceOwner => {
                let target = item.target.as_deref().and_then(|target| longest(|rules| &rules.owners, target));
                target.into_iter().chain(longest(|rules| &rules.owners, &item.role)).collect()
            }
            ReviewerRule::Manager => {
                let names = std::iter::once(&item.subject).chain(&item.also);
                let ruled = names.filter_map(|name| longest(|rules| &rules.managers, name));
                // Who brings events says who manages whom: that gives nobody from elsewhere a say, and none over grants.
                let is_of_tenant = |one: &PrincipalId| {
                    let found = self.registry.principal(one);
                    found.is_some_and(|found| found.fact.home.as_ref() == Some(&item.tenant)) && item.grant.is_none()
                };
                let shown = one.manager.as_ref().and_then(|name| name.to_lowercase().parse().ok());
                ruled.chain(shown.filter(is_of_tenant)).collect()
            }
            ReviewerRule::TenantAdministrator => {
                let own = self.administrators.get(&item.tenant).into_iter().flatten();
                own.map(|one| (*one).clone()).collect()
            }
            ReviewerRule::Principal(one) => vec![one.clone()],
        }
    }

    /// Whether somebody can decide on an item: a person who is there, and not its subject.
    fn can(&self, candidate: &PrincipalId, item: &ReviewItem) -> bool {
        let mut names = self.names.borrow_mut();
        let own = names.entry(candidate.clone()).or_insert_with(|| self.registry.own_names(candidate));
        self.registry.can_review(candidate) && !item.is_about(own)
    }
}
