//! Access reviews as the registry knows them: their rules, and those that are held, as the fold of their entries.
//!
//! Not here: who has access to what (`query::review`), who may decide (`crate::authority`).
//! Invariants: items never change, and there are as many as the opening said before anything is decided; a closed review
//! takes no more decisions, only confirmations; what was revoked stays revoked.

mod check;

use super::change::{
    Change, Confirmation, IdentityKey, ReviewClose, ReviewDecision, ReviewFact, ReviewItem, ReviewRules, Span, Verdict,
};
use super::names::{FactId, PrincipalId};
use super::rows::{Columns, done, time};
use super::{Registry, Row, Stamp, platform};
use ledger::name::TenantId;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// Items of one review.
pub const MOST_ITEMS: u32 = 200_000;
/// When reviewers are reminded if nothing is said, in days before it is due.
const REMIND_DAYS: [u32; 2] = [7, 1];
/// A day in microseconds.
const DAY: i64 = 86_400_000_000;

/// A review that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// What was opened.
    pub fact: ReviewFact,
    /// When and by whom.
    pub opened: Stamp,
    /// Its items, as they came. Shared by all copies of the registry.
    chunks: Vec<(u32, Arc<Vec<ReviewItem>>)>,
    /// How many of them are there.
    arrived: u32,
    /// Who decides on each now, by place in `people`.
    reviewers: Arc<Vec<u32>>,
    people: Vec<PrincipalId>,
    places: BTreeMap<PrincipalId, u32>,
    /// Of each, which of the decisions holds, counted from 1.
    decided: Arc<Vec<u32>>,
    /// Every decision, in order.
    pub decisions: Vec<Arc<(Stamp, ReviewDecision)>>,
    /// What events showed to be taken.
    pub confirmed: Arc<BTreeMap<u32, Confirmation>>,
    /// Which reminders were given, in days before it is due.
    pub reminded: BTreeMap<u32, Stamp>,
    /// When what was open went to somebody else.
    pub escalated: Option<Stamp>,
    /// Its end.
    pub closed: Option<(Stamp, ReviewClose)>,
}

impl Review {
    /// Whose it is.
    pub fn home(&self) -> TenantId {
        self.fact.tenant.clone().unwrap_or_else(platform)
    }

    /// How many items it has.
    pub fn size(&self) -> u32 {
        self.fact.items.unwrap_or_default()
    }

    /// Whether all its items are there.
    pub fn is_complete(&self) -> bool {
        self.arrived == self.size()
    }

    /// In one word or two.
    pub fn state(&self) -> &'static str {
        match (&self.closed, self.is_complete()) {
            (Some(_), _) => "closed",
            (None, false) => "incomplete",
            (None, true) => "open",
        }
    }

    /// An item.
    pub fn item(&self, number: u32) -> Option<&ReviewItem> {
        let at = self.chunks.partition_point(|(first, _)| *first <= number).checked_sub(1)?;
        let (first, items) = &self.chunks[at];
        items.get((number - first) as usize)
    }

    /// Who decides on an item now.
    pub fn reviewer(&self, number: u32) -> Option<&PrincipalId> {
        self.people.get(*self.reviewers.get(number as usize)? as usize)
    }

    /// Whether somebody was made a reviewer of any of it, by now or before.
    pub fn has_reviewer(&self, principal: &PrincipalId) -> bool {
        self.people.contains(principal)
    }

    /// The decision on an item that holds, with who made it.
    pub fn decision(&self, number: u32) -> Option<&(Stamp, ReviewDecision)> {
        self.decisions.get(self.decided.get(number as usize)?.checked_sub(1)? as usize).map(Arc::as_ref)
    }

    /// Numbers of the items on which nothing is decided.
    pub fn open(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.arrived).filter(|number| self.is_open(*number))
    }

    /// Who has how many items open.
    pub fn open_by_reviewer(&self) -> BTreeMap<PrincipalId, u32> {
        let mut open = BTreeMap::new();
        for reviewer in self.open().filter_map(|number| self.reviewer(number)) {
            *open.entry(reviewer.clone()).or_default() += 1;
        }
        open
    }

    /// Items that are to be taken or narrowed elsewhere, and of which no event shows yet that they were.
    pub fn outstanding(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.arrived).filter(|number| self.is_outstanding(*number))
    }

    fn is_open(&self, number: u32) -> bool {
        self.decided.get(number as usize) == Some(&0)
    }

    fn is_outstanding(&self, number: u32) -> bool {
        let made = self.decision(number).map(|(_, made)| made.decision);
        let is_to_go = matches!(made, Some(Verdict::Revoke | Verdict::Narrow));
        let is_elsewhere = || self.item(number).is_some_and(|item| item.grant.is_none());
        is_to_go && is_elsewhere() && !self.confirmed.contains_key(&number)
    }

    /// The reminder that is due at a moment, if one is: in days before the review is.
    pub(crate) fn reminder(&self, now: i64) -> Option<u32> {
        let days = self.fact.remind_days.as_deref().unwrap_or(&REMIND_DAYS);
        let is_due = |days: &&u32| {
            let at = self.fact.due_at.0.saturating_sub(i64::from(**days) * DAY);
            // One that was given nearer to the end spoke for those before it.
            let is_given = self.reminded.keys().any(|given| given <= *days);
            at <= now && now < self.fact.due_at.0 && !is_given
        };
        // Of several that are late, the last speaks for all.
        days.iter().filter(is_due).min().copied()
    }

    /// Who gets what is open when it is due: the first of them who can.
    pub(crate) fn heirs(&self) -> impl Iterator<Item = &PrincipalId> {
        self.fact.escalate_to.iter().chain(&self.fact.owner)
    }

    /// The tenants that its items are at.
    pub fn tenants(&self) -> BTreeSet<TenantId> {
        let items = self.chunks.iter().flat_map(|(_, items)| items.iter());
        let mut tenants: Vec<&TenantId> = items.map(|item| &item.tenant).collect();
        tenants.dedup();
        tenants.into_iter().cloned().collect()
    }

    /// Counts of what was decided, by decision.
    pub fn counts(&self) -> BTreeMap<&'static str, u32> {
        let mut counts: BTreeMap<&str, u32> = Verdict::ALL.map(|verdict| (verdict.as_str(), 0)).into();
        counts.remove(Verdict::Delegate.as_str());
        for number in 0..self.arrived {
            let decided = self.decision(number).map_or("open", |(_, made)| made.decision.as_str());
            *counts.entry(decided).or_default() += 1;
        }
        counts
    }

    /// What there is to see of it, without its items.
    pub fn to_json(&self) -> Value {
        let mut all = self.columns();
        all.insert("decisions".into(), json!(self.counts()));
        all.insert("open_by_reviewer".into(), json!(self.open_by_reviewer()));
        all.insert("outstanding".into(), self.outstanding().count().into());
        all.insert("confirmed".into(), self.confirmed.len().into());
        all.insert("reviewers".into(), json!(self.fact.reviewers));
        all.insert("question".into(), self.fact.question.clone().unwrap_or_default());
        all.insert("items_sha256".into(), json!(self.fact.items_sha256));
        let reminders = self.reminded.iter().map(|(days, stamp)| json!({"days": days, "at": time(stamp.at)}));
        all.insert("reminders".into(), reminders.collect());
        Value::Object(all)
    }

    fn columns(&self) -> Columns {
        let mut columns = Columns::new();
        columns.insert("review".into(), json!(self.fact.review));
        columns.insert("tenant".into(), self.home().as_str().into());
        columns.insert("title".into(), self.fact.title.as_str().into());
        columns.insert("state".into(), self.state().into());
        columns.insert("owner".into(), json!(self.fact.owner));
        columns.insert("items".into(), self.size().into());
        columns.insert("open_items".into(), self.open().count().into());
        columns.insert("due_at".into(), time(self.fact.due_at.0));
        done(&mut columns, "opened", &self.opened);
        columns.insert("escalated_at".into(), self.escalated.as_ref().map_or(Value::Null, |stamp| time(stamp.at)));
        if let Some((stamp, _)) = &self.closed {
            done(&mut columns, "closed", stamp);
            columns.insert("closed_because".into(), stamp.reason.as_str().into());
        }
        columns
    }

    pub(super) fn row(&self) -> Row {
        Row { tenants: vec![self.home()], columns: self.columns() }
    }

    fn person(&mut self, principal: &PrincipalId) -> u32 {
        if let Some(at) = self.places.get(principal) {
            return *at;
        }
        let at = u32::try_from(self.people.len()).unwrap_or(u32::MAX);
        self.people.push(principal.clone());
        self.places.insert(principal.clone(), at);
        at
    }

    fn arrive(&mut self, first: u32, items: &[ReviewItem]) {
        // Anything but the next items would shift the numbers of those that come after.
        if first != self.arrived {
            return;
        }
        let of: Vec<u32> = items.iter().map(|item| self.person(&item.reviewer)).collect();
        Arc::make_mut(&mut self.reviewers).extend(of);
        Arc::make_mut(&mut self.decided).resize(first as usize + items.len(), 0);
        self.arrived += u32::try_from(items.len()).unwrap_or(u32::MAX);
        self.chunks.push((first, Arc::new(items.to_vec())));
    }

    fn decide(&mut self, stamp: Stamp, made: &ReviewDecision) {
        let delegate = made.delegate.as_ref().map(|to| self.person(to));
        let numbers = || numbers(&made.items).filter(|number| *number < self.arrived);
        match delegate {
            Some(to) => {
                let reviewers = Arc::make_mut(&mut self.reviewers);
                let arrived = self.arrived;
                spans_below(&made.items, arrived).for_each(|number| reviewers[number as usize] = to);
            }
            None => {
                let which = u32::try_from(self.decisions.len()).unwrap_or(u32::MAX - 1) + 1;
                let chosen: Vec<u32> = numbers().collect();
                let decided = Arc::make_mut(&mut self.decided);
                chosen.into_iter().for_each(|number| decided[number as usize] = which);
            }
        }
        self.decisions.push(Arc::new((stamp, made.clone())));
    }
}

fn spans_below(spans: &[Span], end: u32) -> impl Iterator<Item = u32> + '_ {
    numbers(spans).filter(move |number| *number < end)
}

/// The numbers of some spans.
pub fn numbers(spans: &[Span]) -> impl Iterator<Item = u32> + '_ {
    spans.iter().flat_map(|(first, last)| *first..=*last)
}

/// Numbers in order as spans.
pub fn spans(numbers: impl IntoIterator<Item = u32>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for number in numbers {
        match spans.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => spans.push((number, number)),
        }
    }
    spans
}

/// Names of the columns of a row.
pub(super) const COLUMNS: &str = "review tenant title state owner items open_items due_at opened_at opened_by escalated_at closed_at closed_by \
     closed_because";

impl Registry {
    /// The rules that a tenant's access is reviewed by: its own, or those of the nearest tenant above that has some.
    pub fn review_rules(&self, tenant: &TenantId) -> Option<&(ReviewRules, Stamp)> {
        self.line(tenant).find_map(|one| self.review_rules.get(one))
    }

    /// A review.
    pub fn review(&self, id: &FactId) -> Option<&Review> {
        self.reviews.get(id)
    }

    /// Every review, by id.
    pub fn reviews(&self) -> impl Iterator<Item = (&FactId, &Review)> {
        self.reviews.iter()
    }

    /// Names that a principal is known by: its own, and what identity providers call it; without regard to case.
    pub fn own_names(&self, principal: &PrincipalId) -> HashSet<String> {
        let named = |(key, whose): (&IdentityKey, &PrincipalId)| match key {
            _ if whose != principal => None,
            IdentityKey::Certificate(name) => Some(name.to_lowercase()),
            IdentityKey::Token(_, subject) => Some(subject.to_lowercase()),
        };
        let own = std::iter::once(principal.as_str().to_lowercase());
        own.chain(self.identities.iter().filter_map(named)).collect()
    }

    /// Applies a change of a review; others change nothing here.
    pub(super) fn apply_to_review(&mut self, stamp: Stamp, change: &Change) {
        if let Change::OpenReview(fact) = change {
            let Some(id) = fact.review.clone() else { return };
            let review = Review {
                fact: (**fact).clone(),
                opened: stamp,
                chunks: vec![],
                arrived: 0,
                reviewers: Arc::default(),
                people: vec![],
                places: BTreeMap::new(),
                decided: Arc::default(),
                decisions: vec![],
                confirmed: Arc::default(),
                reminded: BTreeMap::new(),
                escalated: None,
                closed: None,
            };
            self.reviews.insert(id, review);
            return;
        }
        let Some(review) = change.review().and_then(|id| self.reviews.get_mut(id)) else { return };
        match change {
            Change::AddReviewItems(fact) => review.arrive(fact.first, &fact.items),
            Change::DecideReview(made) => review.decide(Stamp { reason: made.reason.clone(), ..stamp }, made),
            Change::RemindReview(fact) => _ = review.reminded.insert(fact.days, stamp),
            Change::EscalateReview(fact) => {
                let to = review.person(&fact.to);
                // What was decided while this was on its way stays with who decided.
                let open: Vec<u32> = numbers(&fact.items).filter(|number| review.is_open(*number)).collect();
                let reviewers = Arc::make_mut(&mut review.reviewers);
                open.into_iter().for_each(|number| reviewers[number as usize] = to);
                review.escalated.get_or_insert(stamp);
            }
            Change::ConfirmReview(fact) => {
                // Of what was decided otherwise while somebody looked, nothing is confirmed.
                let shown: Vec<_> =
                    fact.confirmed.iter().filter(|one| review.is_outstanding(one.item)).cloned().collect();
                let confirmed = Arc::make_mut(&mut review.confirmed);
                confirmed.extend(shown.into_iter().map(|one| (one.item, one)));
            }
            Change::CloseReview(fact) => {
                review.closed = Some((Stamp { reason: fact.reason.clone(), ..stamp }, (**fact).clone()));
            }
            _ => {}
        }
    }
}

impl ReviewItem {
    /// Whether its subject is one of these names, which are in lower case.
    pub fn is_about(&self, names: &HashSet<String>) -> bool {
        self.also.iter().chain([&self.subject]).any(|name| names.contains(&name.to_lowercase()))
    }
}

impl Change {
    /// Whether it opens or changes a review.
    pub(crate) fn is_of_review(&self) -> bool {
        matches!(self, Self::OpenReview(_)) || self.review().is_some()
    }

    /// The review that it changes.
    pub(crate) fn review(&self) -> Option<&FactId> {
        match self {
            Self::AddReviewItems(fact) => Some(&fact.review),
            Self::DecideReview(fact) => Some(&fact.review),
            Self::RemindReview(fact) => Some(&fact.review),
            Self::EscalateReview(fact) => Some(&fact.review),
            Self::ConfirmReview(fact) => Some(&fact.review),
            Self::CloseReview(fact) => Some(&fact.id),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
