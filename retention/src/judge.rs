//! What becomes of an entry: a pure function of policies, holds and time.
//!
//! Of several policies that fit an entry the longest minimum keeps it, and the shortest maximum lets it go. Where both are
//! there, the minimum wins. Days count from when the entry was recorded. Not here: reading entries ([`crate::plan`]).
//!
//! Invariant: without a policy that lets it go, an entry stays.

use access::pattern;
use access::registry::Registry;
use access::registry::change::{HoldFact, RetentionFact};
use access::registry::names::FactId;
use ledger::{StreamKind, TenantId};
use ledger_store::EntryFacts;

const DAY: i64 = 86_400_000_000;

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No policy lets it go yet.
    Young,
    /// A policy would let it go, and this one keeps it for longer.
    Kept(usize),
    /// A policy would let it go, and this hold holds it.
    Held(usize),
    /// It goes, by this policy.
    Goes(usize),
}

/// Why nothing of an entry may be redacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal<'j> {
    /// This hold holds it.
    Hold(&'j FactId),
    /// This policy keeps the original.
    Policy(&'j str),
}

/// The policies and holds that are about one stream.
#[derive(Debug, Clone)]
pub struct Judge {
    now: i64,
    policies: Vec<RetentionFact>,
    holds: Vec<(FactId, HoldFact)>,
}

fn lists(list: &[String], value: Option<&str>) -> bool {
    list.is_empty() || value.is_some_and(|value| list.iter().any(|one| one == value))
}

fn fits(list: &[String], action: &str) -> bool {
    list.is_empty() || list.iter().any(|one| pattern::fits(one, action))
}

/// Whether a policy is about an entry of a stream that it is about.
fn is_about(policy: &RetentionFact, entry: &EntryFacts<'_>) -> bool {
    fits(&policy.actions, entry.action) && lists(&policy.classes, entry.class)
}

/// Whether a hold holds an entry of a stream that it is about.
fn holds(hold: &HoldFact, entry: &EntryFacts<'_>) -> bool {
    let people = [entry.actor, entry.on_behalf_of];
    let any = |list: &[String], values: &[Option<&str>]| {
        list.is_empty() || values.iter().flatten().any(|value| list.iter().any(|one| one == value))
    };
    any(&hold.actors, &people)
        && any(&hold.resources, &[entry.resource])
        && any(&hold.subjects, &[entry.actor, entry.on_behalf_of, entry.resource])
        && fits(&hold.actions, entry.action)
        && lists(&hold.classes, entry.class)
        && hold.from.is_none_or(|from| entry.occurred_at >= from.0)
        && hold.until.is_none_or(|until| entry.occurred_at < until.0)
}

impl Judge {
    /// What is about a tenant's stream, as of a moment in microseconds.
    pub fn of(registry: &Registry, tenant: &TenantId, stream: StreamKind, now: i64) -> Self {
        let policies = registry.retention().map(|policy| &policy.fact);
        let policies = policies.filter(|fact| fact.applies(registry, tenant, stream)).cloned().collect();
        let holds = registry.holds().filter(|(_, hold)| hold.fact.applies(registry, tenant, stream));
        let holds = holds.map(|(id, hold)| (id.clone(), hold.fact.clone())).collect();
        Self { now, policies, holds }
    }

    /// The policies, by the numbers that verdicts name.
    pub fn policies(&self) -> &[RetentionFact] {
        &self.policies
    }

    /// The holds, by the numbers that verdicts name.
    pub fn holds(&self) -> &[(FactId, HoldFact)] {
        &self.holds
    }

    /// Recorded before this, in microseconds, an entry may be due; none when no policy lets anything go.
    pub fn due_before(&self) -> Option<i64> {
        let shortest = self.policies.iter().filter_map(|policy| policy.at_most_days).min()?;
        Some(self.now.saturating_sub(i64::from(shortest) * DAY))
    }

    /// Whether all entries that were recorded at the same time fare alike, whatever they are.
    pub fn is_uniform(&self) -> bool {
        let plain = |policy: &RetentionFact| policy.actions.is_empty() && policy.classes.is_empty();
        self.policies.iter().all(plain) && self.holds.iter().all(|(_, hold)| hold.is_whole())
    }

    /// The holds that hold an entry, due or not.
    pub fn holding<'j>(&'j self, entry: &'j EntryFacts<'_>) -> impl Iterator<Item = usize> + 'j {
        self.holds.iter().enumerate().filter(|(_, (_, hold))| holds(hold, entry)).map(|(at, _)| at)
    }

    /// Why nothing of an entry may be redacted, if nothing may.
    pub fn refuses(&self, entry: &EntryFacts<'_>) -> Option<Refusal<'_>> {
        if let Some((id, _)) = self.holds.iter().find(|(_, hold)| holds(hold, entry)) {
            return Some(Refusal::Hold(id));
        }
        let keeps = |policy: &&RetentionFact| {
            policy.keep_original
                && is_about(policy, entry)
                && policy.at_least_days.is_some_and(|d| !self.is_older(entry, d))
        };
        self.policies.iter().find(keeps).map(|policy| Refusal::Policy(&policy.policy))
    }

    /// Whether an entry was recorded so many days ago.
    fn is_older(&self, entry: &EntryFacts<'_>, days: u32) -> bool {
        entry.recorded_at.saturating_add(i64::from(days) * DAY) <= self.now
    }

    /// What becomes of an entry.
    pub fn verdict(&self, entry: &EntryFacts<'_>) -> Verdict {
        let about = || self.policies.iter().enumerate().filter(|(_, policy)| is_about(policy, entry));
        let most = about().filter_map(|(at, policy)| Some((policy.at_most_days?, at))).min();
        let age = |days: u32| self.is_older(entry, days);
        let Some((_, by)) = most.filter(|(days, _)| age(*days)) else { return Verdict::Young };
        let least = about().filter_map(|(at, policy)| Some((policy.at_least_days?, at))).max_by_key(|(days, _)| *days);
        if let Some((_, at)) = least.filter(|(days, _)| !age(*days)) {
            return Verdict::Kept(at);
        }
        match self.holds.iter().position(|(_, hold)| holds(hold, entry)) {
            Some(at) => Verdict::Held(at),
            None => Verdict::Goes(by),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use access::registry::names::When;
    use proptest::prelude::*;

    fn policy(name: &str) -> RetentionFact {
        RetentionFact {
            policy: name.into(),
            tenant: None,
            tier: None,
            streams: vec![],
            actions: vec![],
            classes: vec![],
            at_least_days: None,
            at_most_days: None,
            keep_original: false,
            locked: false,
            basis: "contract".into(),
            reason: "asked".into(),
        }
    }

    fn hold() -> HoldFact {
        HoldFact {
            hold: None,
            tenant: "acme".parse().unwrap(),
            streams: vec![],
            actors: vec![],
            resources: vec![],
            subjects: vec![],
            actions: vec![],
            classes: vec![],
            from: None,
            until: None,
            incident: None,
            matter: "case 7".into(),
            reason: "asked".into(),
            two_people: false,
        }
    }

    fn judge(policies: Vec<RetentionFact>, holds: Vec<HoldFact>, now: i64) -> Judge {
        Judge { now, policies, holds: holds.into_iter().map(|hold| ("h-1".parse().unwrap(), hold)).collect() }
    }

    fn entry(days: i64) -> EntryFacts<'static> {
        EntryFacts {
            seq: 0,
            recorded_at: days * DAY,
            occurred_at: days * DAY,
            action: "invoice.update",
            class: Some("financial"),
            actor: Some("u-1"),
            on_behalf_of: None,
            resource: Some("inv-9"),
        }
    }

    #[test]
    fn nothing_goes_unless_a_policy_lets_it() {
        let now = 1_000 * DAY;
        assert_eq!(judge(vec![], vec![], now).verdict(&entry(0)), Verdict::Young);
        let least = RetentionFact { at_least_days: Some(30), ..policy("least") };
        assert_eq!(judge(vec![least.clone()], vec![], now).verdict(&entry(0)), Verdict::Young);
        let most = RetentionFact { at_most_days: Some(90), ..policy("most") };
        let both = judge(vec![least, most], vec![], now);
        assert_eq!(both.verdict(&entry(910)), Verdict::Goes(1));
        assert_eq!(both.verdict(&EntryFacts { recorded_at: 910 * DAY + 1, ..entry(910) }), Verdict::Young);
        assert_eq!(both.due_before(), Some(910 * DAY));
    }

    #[test]
    fn the_longer_minimum_wins_and_says_so() {
        let most = RetentionFact { at_most_days: Some(90), ..policy("most") };
        let tax = RetentionFact { at_least_days: Some(3_650), classes: vec!["financial".into()], ..policy("tax") };
        let judge = judge(vec![most, tax], vec![], 1_000 * DAY);
        assert_eq!(judge.verdict(&entry(0)), Verdict::Kept(1));
        assert_eq!(judge.verdict(&EntryFacts { class: Some("public"), ..entry(0) }), Verdict::Goes(0));
        assert!(!judge.is_uniform());
    }

    #[test]
    fn a_hold_holds_what_all_of_it_fits() {
        let most = || vec![RetentionFact { at_most_days: Some(90), ..policy("most") }];
        let verdict = |hold: HoldFact| judge(most(), vec![hold], 1_000 * DAY).verdict(&entry(100));
        for held in [
            hold(),
            HoldFact { actors: vec!["u-1".into()], ..hold() },
            HoldFact { subjects: vec!["inv-9".into()], ..hold() },
            HoldFact { actions: vec!["invoice.*".into()], classes: vec!["financial".into()], ..hold() },
            HoldFact { from: Some(When(100 * DAY)), until: Some(When(100 * DAY + 1)), ..hold() },
        ] {
            assert_eq!(verdict(held), Verdict::Held(0));
        }
        for free in [
            HoldFact { actors: vec!["u-2".into()], ..hold() },
            HoldFact { actors: vec!["u-1".into()], resources: vec!["inv-8".into()], ..hold() },
            HoldFact { actions: vec!["invoice".into()], ..hold() },
            HoldFact { until: Some(When(100 * DAY)), ..hold() },
        ] {
            assert_eq!(verdict(free), Verdict::Goes(0));
        }
    }

    #[test]
    fn nothing_held_and_no_original_that_a_law_needs_is_redacted() {
        let least = RetentionFact { at_least_days: Some(30), ..policy("least") };
        assert_eq!(judge(vec![least.clone()], vec![], 0).refuses(&entry(0)), None);
        let law = RetentionFact { keep_original: true, classes: vec!["financial".into()], ..least };
        let judged = judge(vec![law.clone()], vec![], 29 * DAY);
        assert_eq!(judged.refuses(&entry(0)), Some(Refusal::Policy("least")));
        assert_eq!(judged.refuses(&EntryFacts { class: None, ..entry(0) }), None);
        assert_eq!(judge(vec![law], vec![], 30 * DAY).refuses(&entry(0)), None);
        let held = judge(vec![], vec![hold()], 0);
        assert!(matches!(held.refuses(&entry(0)), Some(Refusal::Hold(_))));
    }

    proptest! {
        #[test]
        fn what_goes_stays_gone_and_what_is_held_never_goes(
            least in proptest::option::of(0u32..400), most in proptest::option::of(1u32..400),
            recorded in 0i64..800, now in 0i64..900, is_held: bool,
        ) {
            let policies = vec![RetentionFact { at_least_days: least, at_most_days: most, ..policy("one") }];
            let holds = if is_held { vec![hold()] } else { vec![] };
            let at = |now: i64| judge(policies.clone(), holds.clone(), now * DAY).verdict(&entry(recorded));
            let goes = |verdict| matches!(verdict, Verdict::Goes(_));
            let expected = most.is_some_and(|most| recorded + i64::from(most.max(least.unwrap_or(0))) <= now);
            prop_assert_eq!(goes(at(now)), expected && !is_held);
            prop_assert!(!goes(at(now)) || goes(at(now + 1)));
        }
    }
}
