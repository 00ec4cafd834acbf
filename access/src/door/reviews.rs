//! Access reviews that are held: opened with their items, decided on, reminded of, closed.
//!
//! Not here: who has access and who reviews it (`query::review`), what is kept (`registry::reviews`).
//! Invariants: whoever was made a reviewer may see and decide on what is theirs, and on nothing else; what a decision takes
//! in the registry goes with it, in one append. If we crash between an opening and its items, the review is incomplete: it
//! can be closed, and nothing of it decided.

use super::Door;
use crate::authority;
use crate::caller::Caller;
use crate::policy::Action;
use crate::problem::{Problem, ProblemKind};
use crate::registry::change::{
    Change, FactAct, GrantFact, Narrowed, ReviewClose, ReviewConfirmations, ReviewDecision, ReviewEscalation,
    ReviewFact, ReviewItem, ReviewItems, ReviewReminder, Span, Verdict,
};
use crate::registry::names::FactId;
use crate::registry::{Grant, MOST_CHANGES, Made, Registry, Review, Right, numbers, spans};
use crate::sight::View;
use crate::visit::Touch;
use ledger::name::{StreamKind, TenantId};
use std::collections::BTreeSet;

/// Bytes of items in one entry.
const ITEM_BYTES: usize = 120_000;
/// Entries of items that are appended at once.
const AT_ONCE: usize = 40;
/// Spans in one entry.
const SPANS_AT_ONCE: usize = 5_000;
/// Reviewers that one reminder names.
const MOST_REMINDED: usize = 1_000;
/// The longest reason that an entry takes, in bytes.
const LONGEST_REASON: usize = 2_000;

impl Door {
    /// Opens a review with its items.
    ///
    /// # Errors
    /// It does not fit, is not granted to the caller, or the store does not accept.
    pub async fn open_review(&self, caller: &Caller, fact: ReviewFact, items: &[ReviewItem]) -> Result<Made, Problem> {
        let made = self.change(caller, vec![Change::OpenReview(Box::new(fact))]).await?.pop();
        let made = made.ok_or_else(|| Problem::new(ProblemKind::Internal, "a change that was made is not shown"))?;
        let Change::OpenReview(fact) = &made.change else { return Ok(made) };
        let Some(review) = fact.review.clone() else { return Ok(made) };
        let mut entries = Vec::new();
        let mut first = 0;
        while (first as usize) < items.len() {
            let rest = &items[first as usize..];
            let mut bytes = 0;
            let fits = rest.iter().take_while(|item| {
                bytes += serde_json::to_string(item).map_or(0, |text| text.len() + 1);
                bytes <= ITEM_BYTES
            });
            let count = fits.count().max(1);
            let of_entry = ReviewItems { review: review.clone(), first, items: rest[..count].to_vec() };
            entries.push(Change::AddReviewItems(of_entry));
            first += u32::try_from(count).unwrap_or(u32::MAX);
        }
        while !entries.is_empty() {
            let rest = entries.split_off(entries.len().min(AT_ONCE));
            self.0.book.note_all(std::mem::replace(&mut entries, rest)).await?;
        }
        Ok(made)
    }

    /// A review, and of which of its tenants the caller may see items that are for others to decide on: of all of them,
    /// who may read reviews there; of none, who is a reviewer and nothing else.
    ///
    /// # Errors
    /// There is none that the caller may see: said alike whether there is one or not.
    pub fn review(&self, caller: &Caller, id: &FactId) -> Result<(Review, ReviewSight), Problem> {
        let nothing = || Problem::new(ProblemKind::NotFound, format!("there is no review {id} that you may see"));
        let found = self.0.book.read().review(id).cloned().ok_or_else(nothing)?;
        let home = found.home();
        let reads = |tenant: &TenantId| self.decide(caller, Action::ReadReviews, tenant, StreamKind::Control).is_some();
        let of_items: BTreeSet<TenantId> = found.tenants();
        if reads(&home) {
            self.may(caller, Action::ReadReviews, &home, StreamKind::Control)?;
            let tenants: BTreeSet<TenantId> = of_items.iter().filter(|tenant| reads(tenant)).cloned().collect();
            let is_whole = tenants.len() == of_items.len();
            return Ok((found, ReviewSight { tenants, is_whole }));
        }
        let reaches = |tenant: &TenantId| caller.reaches(&self.0.book.read(), Action::DecideReviews, tenant);
        if !found.has_reviewer(caller.principal()) || !of_items.iter().any(reaches) {
            return Err(nothing());
        }
        self.touch_review(caller, &home, id, Action::DecideReviews);
        Ok((found, ReviewSight { tenants: BTreeSet::new(), is_whole: false }))
    }

    /// Puts on record that somebody looks because they were made a reviewer.
    fn touch_review(&self, caller: &Caller, home: &TenantId, id: &FactId, action: Action) {
        caller.visit().touch(Touch {
            tenant: home.clone(),
            stream: StreamKind::Control,
            action,
            right: id.clone(),
            is_elevation: false,
            is_whole: false,
            brought: (0, 0),
        });
    }

    /// Puts a decision on record, and with it what it takes in the registry: answers both.
    ///
    /// # Errors
    /// It does not fit, the caller is not the reviewer, or the store does not accept.
    pub async fn decide_review(
        &self,
        caller: &Caller,
        decision: ReviewDecision,
    ) -> Result<(Vec<Made>, Vec<Made>), Problem> {
        let now = self.now();
        let carried = self.carried(caller, &decision, now)?;
        // An entry is bounded: many spans are several decisions, which stand together or not at all.
        let part = |items: &[Span]| Change::DecideReview(ReviewDecision { items: items.to_vec(), ..decision.clone() });
        let decided: Vec<Change> = decision.items.chunks(SPANS_AT_ONCE).map(part).collect();
        let may = |registry: &Registry, change: &Change| match change {
            Change::DecideReview(_) => {
                authority::may_change(&self.0.policies, registry, caller, change, now).map_err(|one| one.why)
            }
            // What follows from the decision was made here, and is as granted as that is.
            _ => Ok(()),
        };
        let count = decided.len();
        let changes = decided.into_iter().chain(carried).collect();
        let mut made = self.0.book.change(&caller.author(), changes, may).await?;
        let carried = made.split_off(count.min(made.len()));
        Ok((made, carried))
    }

    /// What a decision takes in the registry, or puts in the place of what is there.
    fn carried(&self, caller: &Caller, decision: &ReviewDecision, now: i64) -> Result<Vec<Change>, Problem> {
        let registry = self.0.book.read();
        let Some(review) = registry.review(&decision.review) else { return Ok(vec![]) };
        let wrong = |why: String| Problem::new(ProblemKind::Unprocessable, why);
        let of_registry = |number: u32| review.item(number).and_then(|item| item.grant.clone());
        let reason = because(decision);
        let covering = Covering { door: self, caller, registry: &registry, review, decision, now };
        let mut carried = Vec::new();
        match (decision.decision, &decision.to) {
            (Verdict::Revoke, _) => {
                let ids: BTreeSet<FactId> =
                    numbers(&decision.items).take(review.size() as usize).filter_map(of_registry).collect();
                for id in ids {
                    let act = FactAct { id: id.clone(), reason: reason.clone() };
                    let change = if registry.grant(&id).is_some_and(|grant| grant.revoked.is_none()) {
                        Change::RevokeGrant(act)
                    } else if registry.elevation(&id).is_some_and(|one| one.state(now) == "active") {
                        Change::RevokeElevation(act)
                    } else {
                        continue;
                    };
                    covering.check(&id, &change).map_err(wrong)?;
                    carried.push(change);
                }
                covering.keep_an_administrator(&carried).map_err(wrong)?;
                if carried.len() >= MOST_CHANGES {
                    return Err(wrong(format!("more than {MOST_CHANGES} grants at once: decide in parts")));
                }
            }
            (Verdict::Narrow, Some(to)) => {
                let mut ids = numbers(&decision.items).take(review.size() as usize).filter_map(of_registry);
                match (ids.next(), to) {
                    (None, Narrowed::Words(_)) => {}
                    (None, Narrowed::Grant(_)) => {
                        return Err(wrong(
                            "to is a grant, and the item is none of this registry: say it in words".into(),
                        ));
                    }
                    (Some(_), _) if decision.items != spans(numbers(&decision.items).take(1)) => {
                        return Err(wrong("grants of this registry are narrowed one by one".into()));
                    }
                    (Some(id), Narrowed::Grant(new)) => {
                        let old = registry.grant(&id).filter(|grant| grant.revoked.is_none());
                        let old = old.ok_or_else(|| wrong(format!("{id} is no grant that holds now")))?;
                        is_narrower(old, new).map_err(wrong)?;
                        let change = Change::RevokeGrant(FactAct { id: id.clone(), reason });
                        covering.check(&id, &change).map_err(wrong)?;
                        carried.push(change);
                        carried.push(Change::CreateGrant((**new).clone()));
                    }
                    (Some(_), Narrowed::Words(_)) => {
                        let why =
                            "the item is a grant of this registry: to is the grant that takes its place, within it";
                        return Err(wrong(why.into()));
                    }
                }
            }
            _ => {}
        }
        Ok(carried)
    }

    /// Closes a review with what it came to.
    ///
    /// # Errors
    /// It does not fit, is not granted to the caller, or the store does not accept.
    pub async fn close_review(&self, caller: &Caller, close: ReviewClose) -> Result<Made, Problem> {
        let made = self.change(caller, vec![Change::CloseReview(Box::new(close))]).await?.pop();
        made.ok_or_else(|| Problem::new(ProblemKind::Internal, "a change that was made is not shown"))
    }

    /// Puts on record what events showed to be taken.
    ///
    /// # Errors
    /// The store does not accept.
    pub async fn confirm_review(&self, confirmations: ReviewConfirmations) -> Result<(), Problem> {
        self.0.book.note(Change::ConfirmReview(confirmations)).await?;
        Ok(())
    }

    /// Reminds reviewers, and gives what is open when it is due to whom the review says; answers how many of each. If we
    /// crash after it, a reminder on record is not given again.
    ///
    /// # Errors
    /// The store does not accept.
    pub async fn move_reviews_on(&self) -> Result<(usize, usize), Problem> {
        let due = due_of(&self.0.book.read(), self.now());
        let reminders = due.iter().filter(|change| matches!(change, Change::RemindReview(_))).count();
        let escalations = due.len() - reminders;
        if !due.is_empty() {
            self.0.book.note_all(due).await?;
        }
        Ok((reminders, escalations))
    }
}

/// What is due of all reviews.
fn due_of(registry: &Registry, now: i64) -> Vec<Change> {
    let mut due = Vec::new();
    for (id, review) in registry.reviews().filter(|(_, review)| review.state() == "open") {
        if let Some(days) = review.reminder(now) {
            let (review, mut open) = (id.clone(), review.open_by_reviewer());
            if !open.is_empty() {
                // An entry is bounded; who is left out is reminded by the review itself.
                open = open.into_iter().take(MOST_REMINDED).collect();
                due.push(Change::RemindReview(ReviewReminder { review, days, open }));
            }
        }
        let is_over = now >= review.fact.due_at.0 && review.escalated.is_none();
        if let Some(to) = review.heirs().find(|one| registry.can_review(one)).filter(|_| is_over) {
            // Nobody decides on what is theirs, not by inheritance either.
            let names = registry.own_names(to);
            let can = |number: &u32| review.item(*number).is_some_and(|item| !item.is_about(&names));
            let items = spans(review.open().filter(can));
            // Also when nothing can go to them: else it would be looked at again every second.
            let mut parts: Vec<Vec<Span>> = items.chunks(SPANS_AT_ONCE).map(<[Span]>::to_vec).collect();
            parts.extend(items.is_empty().then(Vec::new));
            for items in parts {
                let (review, to) = (id.clone(), to.clone());
                due.push(Change::EscalateReview(ReviewEscalation { review, items, to }));
            }
        }
    }
    due
}

/// What of a review somebody sees beyond what is theirs to decide on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewSight {
    /// Items at these tenants.
    pub tenants: BTreeSet<TenantId>,
    /// Whether those are all that it is about.
    pub is_whole: bool,
}

/// Why something was taken, as its entry says it.
fn because(decision: &ReviewDecision) -> String {
    let mut reason = format!("review {}: {}", decision.review, decision.reason);
    let fits = (0..=reason.len().min(LONGEST_REASON)).rev().find(|at| reason.is_char_boundary(*at));
    reason.truncate(fits.unwrap_or_default());
    reason
}

/// Whether a decision covers what it takes.
struct Covering<'a> {
    door: &'a Door,
    caller: &'a Caller,
    registry: &'a Registry,
    review: &'a Review,
    decision: &'a ReviewDecision,
    now: i64,
}

impl Covering<'_> {
    /// A grant goes at every tenant that it names: so each of them must be an item of the review that is decided so, or the
    /// caller must be one who could take it without a review.
    fn check(&self, id: &FactId, change: &Change) -> Result<(), String> {
        let named = match (self.registry.grant(id), self.registry.elevation(id)) {
            (Some(grant), _) => &grant.fact.tenants,
            (None, Some(elevation)) => &elevation.fact.tenants,
            (None, None) => return Ok(()),
        };
        let is_to_go = |number: u32| {
            let is_now = self.decision.items.iter().any(|(first, last)| (*first..=*last).contains(&number));
            let was = self.review.decision(number).is_some_and(|(_, made)| made.decision == self.decision.decision);
            is_now || was
        };
        let covered: BTreeSet<&TenantId> = (0..if named.len() == 1 { 0 } else { self.review.size() })
            .filter_map(|number| Some((number, self.review.item(number)?)))
            .filter(|(number, item)| item.grant.as_ref() == Some(id) && is_to_go(*number))
            .map(|(_, item)| &item.tenant)
            .collect();
        if named.len() == 1 || named.iter().all(|tenant| covered.contains(tenant)) {
            return Ok(());
        }
        let Door(inner) = self.door;
        let plainly = authority::may_change(&inner.policies, self.registry, self.caller, change, self.now);
        plainly.map_err(|_| {
            format!("{id} reaches further than the items that are decided on: who may revoke it there decides")
        })
    }

    /// Somebody must be able to administer the platform afterwards.
    fn keep_an_administrator(&self, carried: &[Change]) -> Result<(), String> {
        let gone: BTreeSet<&FactId> = carried
            .iter()
            .filter_map(|change| match change {
                Change::RevokeGrant(act) => Some(&act.id),
                _ => None,
            })
            .collect();
        let administers = |(_, grant): &(&FactId, &Grant)| {
            grant.fact.role.as_str() == "platform-administrator"
                && grant.revoked.is_none()
                && grant.fact.limits.expires_at.is_none_or(|end| self.now < end.0)
        };
        let all = || self.registry.grants().filter(administers);
        let is_touched = all().any(|(id, _)| gone.contains(id));
        let is_left = all().any(|(id, _)| !gone.contains(id));
        if !is_touched || is_left { Ok(()) } else { Err("nobody would be left to administer the platform".into()) }
    }
}

/// Whether a grant gives the same principal as the same role less than another.
fn is_narrower(old: &Grant, new: &GrantFact) -> Result<(), String> {
    let was = &old.fact;
    let ends = |fact: &GrantFact| fact.limits.expires_at.map_or(i64::MAX, |end| end.0);
    let streams = &was.limits.streams;
    let is_of_streams = streams.is_empty()
        || (!new.limits.streams.is_empty() && new.limits.streams.iter().all(|stream| streams.contains(stream)));
    let view = |fact: &GrantFact| {
        let id = was.grant.clone()?;
        Some(View::of(&Right {
            role: &fact.role,
            limits: Some(&fact.limits),
            id: &id,
            is_elevation: false,
            ends: None,
            subtree: fact.subtree,
        }))
    };
    let is_same = new.principal == was.principal && new.role == was.role && new.limits.purpose == was.limits.purpose;
    let shows_less = view(new).zip(view(was)).is_some_and(|(new, was)| new.is_within(&was));
    let reaches_less = new.tenants.iter().all(|tenant| was.tenants.contains(tenant)) && (was.subtree || !new.subtree);
    let is_other = GrantFact { grant: was.grant.clone(), ..new.clone() } != *was;
    let is_less = is_same && shows_less && reaches_less && is_of_streams && ends(new) <= ends(was) && is_other;
    // One answer for all of it: which tenants a grant names is not for everybody to find out.
    let why = "to is not a narrower grant: the same principal, role and purpose, and less of tenants, streams, rows, \
               sections, period or time";
    if is_less { Ok(()) } else { Err(why.into()) }
}
