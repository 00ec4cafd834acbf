//! Reviews as a fold: items, decisions, reminders.

use super::super::change::ReviewItems;
use super::*;
use crate::registry::names::When;

fn stamp(seq: u64) -> Stamp {
    Stamp { seq, at: seq as i64, by: "owner".parse().unwrap(), reason: String::new() }
}

fn item(subject: &str, reviewer: &str, grant: Option<&str>) -> ReviewItem {
    ReviewItem {
        tenant: "acme".parse().unwrap(),
        source: "github".into(),
        subject: subject.into(),
        also: vec![],
        role: "admin".into(),
        target: None,
        since: When(0),
        last_used: None,
        uses: 0,
        findings: vec![],
        grant: grant.map(|id| id.parse().unwrap()),
        reviewer: reviewer.parse().unwrap(),
    }
}

fn opened(items: u32) -> Registry {
    let mut registry = Registry::default();
    let fact = ReviewFact {
        review: Some("r1".parse().unwrap()),
        tenant: None,
        title: "autumn".into(),
        owner: Some("owner".parse().unwrap()),
        reviewers: vec![],
        due_at: When(100 * DAY),
        remind_days: None,
        escalate_to: None,
        question: None,
        heads_sha256: None,
        items: Some(items),
        items_sha256: None,
    };
    registry.apply(stamp(0), &Change::OpenReview(Box::new(fact)));
    registry
}

fn bring(registry: &mut Registry, seq: u64, first: u32, items: Vec<ReviewItem>) {
    let review = "r1".parse().unwrap();
    registry.apply(stamp(seq), &Change::AddReviewItems(ReviewItems { review, first, items }));
}

fn decision(items: Vec<Span>, decision: Verdict) -> ReviewDecision {
    let (review, reason) = ("r1".parse().unwrap(), "looked at".into());
    ReviewDecision { review, items, decision, reason, delegate: None, to: None }
}

fn of(registry: &Registry) -> &Review {
    registry.review(&"r1".parse().unwrap()).unwrap()
}

#[test]
fn items_arrive_in_order_and_only_then_anything_is_decided() {
    let mut registry = opened(3);
    bring(&mut registry, 1, 0, vec![item("ann", "rita", None)]);
    // Not the next: a gap would shift all numbers after it.
    bring(&mut registry, 2, 2, vec![item("dan", "rita", None)]);
    assert_eq!(of(&registry).state(), "incomplete");
    let refused = registry.check_decision(&decision(vec![(0, 0)], Verdict::Keep)).unwrap_err();
    assert!(refused.why.contains("not all items"), "{refused}");
    bring(&mut registry, 3, 1, vec![item("bob", "rita", None), item("cid", "omar", Some("g1"))]);
    let review = of(&registry);
    assert_eq!((review.state(), review.open().count()), ("open", 3));
    let subjects: Vec<&str> = (0..4).filter_map(|n| review.item(n)).map(|item| item.subject.as_str()).collect();
    assert_eq!(subjects, ["ann", "bob", "cid"]);
    assert_eq!(review.open_by_reviewer(), [("omar".parse().unwrap(), 1), ("rita".parse().unwrap(), 2)].into());
}

#[test]
fn decisions_hold_until_another_and_what_was_carried_out_stays() {
    let mut registry = opened(3);
    let items = vec![item("ann", "rita", None), item("bob", "rita", None), item("cid", "rita", Some("g1"))];
    bring(&mut registry, 1, 0, items);
    let decide = |registry: &mut Registry, seq, made: ReviewDecision| {
        registry.check_decision(&made).unwrap();
        registry.apply(stamp(seq), &Change::DecideReview(made));
    };
    decide(&mut registry, 2, decision(vec![(0, 2)], Verdict::Keep));
    decide(&mut registry, 3, decision(vec![(1, 2)], Verdict::Revoke));
    let review = of(&registry);
    assert_eq!(review.counts(), [("keep", 1), ("narrow", 0), ("revoke", 2)].into());
    assert_eq!(review.outstanding().collect::<Vec<_>>(), [1]);
    // The grant is gone; what is elsewhere may still be decided otherwise, until an event confirms it.
    let refused = registry.check_decision(&decision(vec![(2, 2)], Verdict::Keep)).unwrap_err();
    assert!(refused.is_conflict && refused.why.contains("item 2"), "{refused}");
    registry.check_decision(&decision(vec![(1, 1)], Verdict::Keep)).unwrap();
    let confirmed = vec![Confirmation { item: 1, seq: 9, at: When(9) }];
    let review = "r1".parse().unwrap();
    let change = Change::ConfirmReview(super::super::change::ReviewConfirmations { review, confirmed });
    registry.apply(stamp(4), &change);
    assert_eq!(of(&registry).outstanding().count(), 0);
    assert!(registry.check_decision(&decision(vec![(1, 1)], Verdict::Keep)).is_err());
}

#[test]
fn badly_made_decisions_are_told_what_would_be_right() {
    let mut registry = opened(2);
    bring(&mut registry, 1, 0, vec![item("ann", "rita", None), item("omar", "rita", None)]);
    let principal = super::super::change::PrincipalFact {
        principal: "omar".parse().unwrap(),
        kind: super::super::change::PrincipalKind::User,
        name: String::new(),
        home: None,
    };
    registry.apply(stamp(2), &Change::CreatePrincipal(principal));
    let delegate =
        |to: &str, items| ReviewDecision { delegate: Some(to.parse().unwrap()), ..decision(items, Verdict::Delegate) };
    for (made, why) in [
        (decision(vec![], Verdict::Keep), "1 to"),
        (decision(vec![(1, 0)], Verdict::Keep), "in order"),
        (decision(vec![(1, 1), (0, 0)], Verdict::Keep), "in order"),
        (decision(vec![(0, 1), (1, 1)], Verdict::Keep), "in order"),
        (decision(vec![(0, 2)], Verdict::Keep), "below 2"),
        (decision(vec![(0, u32::MAX)], Verdict::Keep), "below 2"),
        (decision(vec![(0, 0)], Verdict::Narrow), "narrow goes with to"),
        (decision(vec![(0, 0)], Verdict::Delegate), "delegate goes with"),
        (delegate("nobody", vec![(0, 0)]), "nobody who could decide"),
        (delegate("omar", vec![(0, 1)]), "item 1 is about omar"),
        (ReviewDecision { reason: " ".into(), ..decision(vec![(0, 0)], Verdict::Keep) }, "reason is required"),
    ] {
        let refused = registry.check_decision(&made).unwrap_err();
        assert!(refused.why.contains(why), "{made:?}: {refused}");
    }
    let made = delegate("omar", vec![(0, 0)]);
    registry.check_decision(&made).unwrap();
    registry.apply(stamp(3), &Change::DecideReview(made));
    let review = of(&registry);
    assert_eq!((review.reviewer(0).unwrap().as_str(), review.reviewer(1).unwrap().as_str()), ("omar", "rita"));
    assert_eq!(review.open().count(), 2);
}

#[test]
fn reminders_come_once_each_and_the_last_speaks_for_those_that_are_late() {
    let mut registry = opened(1);
    bring(&mut registry, 1, 0, vec![item("ann", "rita", None)]);
    assert_eq!(of(&registry).reminder(92 * DAY), None);
    assert_eq!(of(&registry).reminder(93 * DAY), Some(7));
    let remind = |registry: &mut Registry, seq, days| {
        let (review, open) = ("r1".parse().unwrap(), BTreeMap::new());
        registry.apply(stamp(seq), &Change::RemindReview(super::super::change::ReviewReminder { review, days, open }));
    };
    let mut late = registry.clone();
    assert_eq!(of(&late).reminder(99 * DAY), Some(1));
    remind(&mut late, 2, 1);
    assert_eq!(of(&late).reminder(99 * DAY), None);
    remind(&mut registry, 2, 7);
    assert_eq!(of(&registry).reminder(95 * DAY), None);
    assert_eq!(of(&registry).reminder(99 * DAY), Some(1));
    assert_eq!(of(&registry).reminder(100 * DAY), None);
}

#[test]
fn spans_say_the_same_as_their_numbers() {
    for numbers_in in [vec![], vec![3], vec![0, 1, 2, 7, 9, 10]] {
        assert_eq!(numbers(&spans(numbers_in.clone())).collect::<Vec<_>>(), numbers_in);
    }
}
