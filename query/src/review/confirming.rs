//! Looks whether what reviewers took from somebody elsewhere is gone there: by an event that says so, or a snapshot that
//! shows it no more.
//!
//! Not here: what is taken in the registry, which goes with the decision (`access`). Invariant: a stream is read again only
//! when it grew; what cannot be read now is looked at the next time. If we crash before a confirmation is on record, it is
//! found again.

use super::facts::Right;
use super::held::Held;
use super::question::Period;
use crate::state::QueryState;
use crate::table::Seen;
use access::registry::change::{Confirmation, ReviewConfirmations, ReviewItem, ReviewRules};
use access::registry::names::{FactId, When};
use access::{Door, Problem};
use ledger::StreamKind;
use ledger::name::TenantId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Looks for confirmations of what reviews decided.
pub struct Confirming {
    state: QueryState,
    /// Of what was looked at: as of what, and from when on it is looked at again, in microseconds.
    looked: BTreeMap<(FactId, TenantId), (AsOf, i64)>,
}

/// Entries of a stream, the items that were outstanding, and the rules that entries were read by.
type AsOf = (u64, Vec<u32>, u64);

/// How many confirmations an entry holds.
const AT_ONCE: usize = 1_000;
/// How much longer than a look took the next one waits.
const PATIENCE: i64 = 20;

/// Items of a review that are outstanding, by tenant.
type Outstanding = Vec<(FactId, BTreeMap<TenantId, Vec<(u32, ReviewItem)>>)>;

impl Confirming {
    /// Looks for a service.
    pub fn new(state: QueryState) -> Self {
        Self { state, looked: BTreeMap::new() }
    }

    /// Looks once at everything that is outstanding.
    pub async fn tick(&mut self) {
        for (review, tenants) in outstanding(self.state.door()) {
            for (tenant, items) in tenants {
                if let Err(problem) = self.look(&review, &tenant, &items).await {
                    tracing::warn!(%review, %tenant, detail = problem.detail(), "a review could not be confirmed");
                }
            }
        }
    }

    async fn look(&mut self, review: &FactId, tenant: &TenantId, items: &[(u32, ReviewItem)]) -> Result<(), Problem> {
        let door = self.state.door();
        let Ok(audit) = door.book().store_of(tenant)?.reader(tenant, StreamKind::Audit) else { return Ok(()) };
        let snapshot = audit.snapshot().await?;
        let (rules, version) = {
            let registry = door.book().read();
            let found = registry.review_rules(tenant).map(|(rules, set)| (rules.clone(), set.seq));
            found.unwrap_or_default()
        };
        let numbers: Vec<u32> = items.iter().map(|(number, _)| *number).collect();
        let as_of = (snapshot.head.size, numbers, version);
        let key = (review.clone(), tenant.clone());
        let begin = door.now();
        if self.looked.get(&key).is_some_and(|(looked, next)| *looked == as_of || begin < *next) {
            return Ok(());
        }
        let confirmed = self.gone(Seen::from(snapshot), rules, tenant, items).await;
        // Also after a failure it waits: what cannot be read is not read again and again.
        let as_of = if confirmed.is_ok() { as_of } else { AsOf::default() };
        self.looked.insert(key, (as_of, self.state.door().now() + (self.state.door().now() - begin) * PATIENCE));
        for confirmed in confirmed?.chunks(AT_ONCE) {
            let (review, confirmed) = (review.clone(), confirmed.to_vec());
            self.state.door().confirm_review(ReviewConfirmations { review, confirmed }).await?;
        }
        Ok(())
    }

    async fn gone(
        &self,
        seen: Seen,
        rules: ReviewRules,
        tenant: &TenantId,
        items: &[(u32, ReviewItem)],
    ) -> Result<Vec<Confirmation>, Problem> {
        // Also what is dated a little ahead of our clock.
        let as_of = i64::MAX;
        let rules = BTreeMap::from([(tenant.to_string(), Arc::new(rules))]);
        let told = self.state.told(&[seen], Period { since: i64::MIN, as_of }, &rules).await?;
        let held = Held::of(&rules[tenant.as_str()], told.into_values().next().unwrap_or_default());
        let confirmation = |(number, item): &(u32, ReviewItem)| {
            let who = held.people.find(&item.subject)?;
            let right = Right { source: item.source.clone(), role: item.role.clone(), target: item.target.clone() };
            let (seq, at) = held.ended.get(&(who, right))?;
            Some(Confirmation { item: *number, seq: *seq, at: When(*at) })
        };
        Ok(items.iter().filter_map(confirmation).collect())
    }
}

fn outstanding(door: &Door) -> Outstanding {
    let registry = door.book().read();
    let of_review = |(id, review): (&FactId, &access::registry::Review)| {
        let mut tenants: BTreeMap<TenantId, Vec<(u32, ReviewItem)>> = BTreeMap::new();
        for number in review.outstanding() {
            if let Some(item) = review.item(number) {
                tenants.entry(item.tenant.clone()).or_default().push((number, item.clone()));
            }
        }
        (!tenants.is_empty()).then(|| (id.clone(), tenants))
    };
    registry.reviews().filter_map(of_review).collect()
}
