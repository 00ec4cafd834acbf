//! Whether a change of a review fits.
//!
//! Not here: what it does ([`super`]), who may make it (`crate::authority`).

use super::super::change::{Change, Narrowed, PrincipalKind, ReviewDecision, ReviewFact, RulesFact, Verdict};
use super::super::check::{Checked, conflict, reason, require, text, wrong};
use super::super::incidents::LARGEST_FINDING;
use super::super::names::{FactId, PrincipalId};
use super::super::{Refusal, Registry, platform};
use super::{MOST_ITEMS, Review, numbers};

/// Spans of one decision: with more than that, name them by what they have in common, in parts.
const MOST_SPANS: usize = 10_000;
/// Decisions of one review.
const MOST_DECISIONS: usize = 20_000;
/// Reviews of one tenant that are open at the same time.
const MOST_OPEN: usize = 50;
/// Rules of where reviewers are looked for.
const MOST_REVIEWER_RULES: usize = 20;

impl Registry {
    pub(in crate::registry) fn check_rules(&self, fact: &RulesFact) -> Checked {
        reason(&fact.reason)?;
        fact.tenant.as_ref().map_or(Ok(()), |tenant| self.need_tenant(tenant))?;
        fact.rules.check().map_err(wrong)
    }

    /// Whether a change of a review fits.
    pub(in crate::registry) fn check_review(&self, change: &Change, now: i64) -> Checked {
        match change {
            Change::OpenReview(fact) => self.check_new_review(fact, now),
            Change::DecideReview(made) => self.check_decision(made),
            Change::CloseReview(fact) => {
                reason(&fact.reason)?;
                let review = self.need_review(&fact.id)?;
                require(review.closed.is_none(), || conflict("it is closed already"))?;
                let said = fact.report.as_ref().and_then(|report| report["decisions_made"].as_u64());
                require(said.is_none_or(|said| said == review.decisions.len() as u64), || {
                    conflict("somebody decided while the report was made: close it again")
                })?;
                let size = fact.report.as_ref().map_or(0, |report| report.to_string().len());
                require(size <= LARGEST_FINDING, || wrong(format!("a report has at most {LARGEST_FINDING} bytes")))
            }
            _ => Err(wrong("this is written by the service itself")),
        }
    }

    fn need_review(&self, id: &FactId) -> Result<&Review, Refusal> {
        self.reviews.get(id).ok_or_else(|| wrong(format!("there is no review {id}")))
    }

    /// Whether somebody can be made a reviewer: a person who is there.
    pub fn can_review(&self, principal: &PrincipalId) -> bool {
        let found = self.principals.get(principal);
        found.is_some_and(|found| found.suspended.is_none() && found.fact.kind == PrincipalKind::User)
    }

    fn need_reviewer(&self, principal: &PrincipalId) -> Checked {
        // One answer for whoever cannot: who there is on the platform is not a reviewer's to know.
        require(self.can_review(principal), || wrong(format!("{principal} is nobody who could decide")))
    }

    fn check_new_review(&self, fact: &ReviewFact, now: i64) -> Checked {
        text("title", &fact.title)?;
        require(!fact.title.trim().is_empty(), || wrong("title is required: it names the review for people"))?;
        fact.tenant.as_ref().map_or(Ok(()), |tenant| self.need_tenant(tenant))?;
        let people = fact.owner.iter().chain(&fact.escalate_to);
        people.into_iter().try_for_each(|one| self.need_reviewer(one))?;
        require(fact.reviewers.len() <= MOST_REVIEWER_RULES, || {
            wrong(format!("reviewers names at most {MOST_REVIEWER_RULES} rules"))
        })?;
        let home = fact.tenant.clone().unwrap_or_else(platform);
        let open = self.reviews.values().filter(|one| one.closed.is_none() && one.home() == home).count();
        require(open < MOST_OPEN, || conflict(format!("{MOST_OPEN} reviews of {home} are open: close some first")))?;
        require(fact.due_at.0 > now, || wrong("due_at must lie in the future"))?;
        let days = fact.remind_days.as_deref().unwrap_or_default();
        require(days.len() <= 20 && days.iter().all(|days| *days <= 365), || {
            wrong("remind_days names at most 20, each at most 365")
        })?;
        require(fact.items.is_some_and(|items| (1..=MOST_ITEMS).contains(&items)), || {
            wrong(format!("a review has 1 to {MOST_ITEMS} items"))
        })
    }

    pub(super) fn check_decision(&self, made: &ReviewDecision) -> Checked {
        reason(&made.reason)?;
        let review = self.need_review(&made.review)?;
        require(review.closed.is_none(), || conflict("the review is closed"))?;
        require(review.is_complete(), || conflict("not all items of the review are there"))?;
        require((1..=MOST_SPANS).contains(&made.items.len()), || {
            wrong(format!("items must name 1 to {MOST_SPANS} spans"))
        })?;
        let in_order = made.items.windows(2).all(|pair| pair[0].1 < pair[1].0);
        let is_within = made.items.iter().all(|(first, last)| first <= last && *last < review.size());
        require(in_order && is_within, || {
            wrong(format!("items are spans in order, from the first to the last, below {}", review.size()))
        })?;
        let is_over = |number: &u32| {
            let decided = review.decision(*number).map(|(_, made)| made.decision);
            let is_taken = matches!(decided, Some(Verdict::Revoke | Verdict::Narrow));
            let is_ours = review.item(*number).is_some_and(|item| item.grant.is_some());
            (is_taken && is_ours) || review.confirmed.contains_key(number)
        };
        if let Some(over) = numbers(&made.items).find(is_over) {
            return Err(conflict(format!("item {over} was revoked or narrowed, and that was carried out")));
        }
        let is_gone = |number: &u32| {
            let grant = review.item(*number).and_then(|item| self.grants.get(item.grant.as_ref()?));
            grant.is_some_and(|grant| grant.revoked.is_some())
        };
        if made.decision == Verdict::Keep
            && let Some(gone) = numbers(&made.items).find(is_gone)
        {
            return Err(conflict(format!("the grant of item {gone} was revoked meanwhile: it cannot be kept")));
        }
        require(review.decisions.len() < MOST_DECISIONS, || {
            wrong(format!("a review takes at most {MOST_DECISIONS} decisions: close it, and open another"))
        })?;
        match (made.decision, &made.delegate, &made.to) {
            (Verdict::Delegate, Some(to), None) => {
                self.need_reviewer(to)?;
                let names = self.own_names(to);
                let own = |number: &u32| review.item(*number).is_some_and(|item| item.is_about(&names));
                match numbers(&made.items).find(own) {
                    Some(own) => Err(wrong(format!("item {own} is about {to}: nobody decides on what is theirs"))),
                    None => Ok(()),
                }
            }
            (Verdict::Delegate, ..) => Err(wrong("delegate goes with who decides, and with nothing else")),
            (Verdict::Narrow, None, Some(Narrowed::Words(words))) => text("to", words),
            (Verdict::Narrow, None, Some(Narrowed::Grant(_))) => Ok(()),
            (Verdict::Narrow, ..) => Err(wrong("narrow goes with to: what it becomes")),
            (_, None, None) => Ok(()),
            (other, ..) => Err(wrong(format!("{} goes with neither delegate nor to", other.as_str()))),
        }
    }
}
