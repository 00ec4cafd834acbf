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
    ReviewFact, ReviewItem, ReviewItems, ReviewReminder, Verdict,
};
use crate::registry::names::FactId;
use crate::registry::{Grant, Made, Registry, Review, Right, numbers, spans};
use crate::sight::View;
use crate::visit::Touch;
use ledger::name::{StreamKind, TenantId};

/// Bytes of items in one entry.
const ITEM_BYTES: usize = 120_000;
/// Entries of items that are appended at once.
const AT_ONCE: usize = 40;

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

    /// A review, as far as the caller may know of it: all of it, or that they are a reviewer.
    ///
    /// # Errors
    /// There is none that the caller may see: said alike whether there is one or not.
    pub fn review(&self, caller: &Caller, id: &FactId) -> Result<(Review, bool), Problem> {
        let nothing = || Problem::new(ProblemKind::NotFound, format!("there is no review {id} that you may see"));
        let found = self.0.book.read().review(id).cloned().ok_or_else(nothing)?;
        let home = found.home();
        if self.decide(caller, Action::ReadReviews, &home, StreamKind::Control).is_some() {
            self.may(caller, Action::ReadReviews, &home, StreamKind::Control)?;
            return Ok((found, true));
        }
        let reaches = caller.reaches(&self.0.book.read(), Action::DecideReviews, &home);
        if !found.has_reviewer(caller.principal()) || !reaches {
            return Err(nothing());
        }
        self.touch_review(caller, &home, id, Action::DecideReviews);
        Ok((found, false))
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

    /// Puts a decision on record, and with it what it takes in the registry.
    ///
    /// # Errors
    /// It does not fit, the caller is not the reviewer, or the store does not accept.
    pub async fn decide_review(&self, caller: &Caller, decision: ReviewDecision) -> Result<Vec<Made>, Problem> {
        let now = self.now();
        let carried = self.carried(&decision, now)?;
        let changes: Vec<Change> = std::iter::once(Change::DecideReview(decision)).chain(carried).collect();
        let decided = changes[0].clone();
        let may = |registry: &Registry, change: &Change| match change {
            // What follows from the decision was made here, and is as granted as that is.
            change if *change != decided => Ok(()),
            change => authority::may_change(&self.0.policies, registry, caller, change, now).map_err(|one| one.why),
        };
        Ok(self.0.book.change(&caller.author(), changes, may).await?)
    }

    /// What a decision takes in the registry, or puts in the place of what is there.
    fn carried(&self, decision: &ReviewDecision, now: i64) -> Result<Vec<Change>, Problem> {
        let registry = self.0.book.read();
        let Some(review) = registry.review(&decision.review) else { return Ok(vec![]) };
        let wrong = |why: String| Problem::new(ProblemKind::Unprocessable, why);
        let of_registry = |number: u32| review.item(number).and_then(|item| item.grant.clone());
        let reason = format!("review {}: {}", decision.review, decision.reason);
        let mut carried = Vec::new();
        match (decision.decision, &decision.to) {
            (Verdict::Revoke, _) => {
                let ids: std::collections::BTreeSet<FactId> =
                    numbers(&decision.items).take(review.size() as usize).filter_map(of_registry).collect();
                for id in ids {
                    let act = FactAct { id: id.clone(), reason: reason.clone() };
                    if registry.grant(&id).is_some_and(|grant| grant.revoked.is_none()) {
                        carried.push(Change::RevokeGrant(act));
                    } else if registry.elevation(&id).is_some_and(|one| one.state(now) == "active") {
                        carried.push(Change::RevokeElevation(act));
                    }
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
                        carried.push(Change::RevokeGrant(FactAct { id, reason }));
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

    /// Reminds reviewers, and gives what is open when it is due to whom the review says.
    pub(super) async fn tick_reviews(&self, now: i64) {
        let due = due_of(&self.0.book.read(), now);
        for change in due {
            let name = change.name();
            match self.0.book.note(change).await {
                Ok(_) => tracing::info!(change = name, "a review moved on by time"),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, change = name, "a step of a review could not be put on record");
                }
            }
        }
    }
}

/// What is due of all reviews.
fn due_of(registry: &Registry, now: i64) -> Vec<Change> {
    let mut due = Vec::new();
    for (id, review) in registry.reviews().filter(|(_, review)| review.state() == "open") {
        if let Some(days) = review.reminder(now) {
            let (review, open) = (id.clone(), review.open_by_reviewer());
            if !open.is_empty() {
                due.push(Change::RemindReview(ReviewReminder { review, days, open }));
            }
        }
        let is_over = now >= review.fact.due_at.0 && review.escalated.is_none();
        if let Some(to) = review.heir().filter(|_| is_over) {
            // Nobody decides on what is theirs, not by inheritance either.
            let names = registry.own_names(to);
            let can = |number: &u32| review.item(*number).is_some_and(|item| !item.is_about(&names));
            let items = spans(review.open().filter(can));
            if !items.is_empty() {
                let (review, to) = (id.clone(), to.clone());
                due.push(Change::EscalateReview(ReviewEscalation { review, items, to }));
            }
        }
    }
    due
}

/// Whether a grant gives the same principal as the same role no more than another.
fn is_narrower(old: &Grant, new: &GrantFact) -> Result<(), String> {
    let was = &old.fact;
    if new.principal != was.principal || new.role != was.role {
        return Err(format!("to must be of {} as {}: another grant is not a narrower one", was.principal, was.role));
    }
    let beyond = new.tenants.iter().find(|tenant| !was.tenants.contains(tenant));
    if let Some(tenant) = beyond {
        return Err(format!("to reaches {tenant}, which the grant does not name"));
    }
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
    let shows_less = view(new).zip(view(was)).is_some_and(|(new, was)| new.is_within(&was));
    let is_less = shows_less && is_of_streams && ends(new) <= ends(was) && (was.subtree || !new.subtree);
    if is_less {
        Ok(())
    } else {
        Err("to gives more than the grant does: streams, rows, sections, period or end".into())
    }
}
