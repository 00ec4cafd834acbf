//! Who has what: the fold of one tenant's entries about access, in order of time.
//!
//! A grant begins something, a revocation ends it. A snapshot shows everything that there is at its moment in its part of
//! a source: what is not in it is over by then, what was not there before has come since the one before. Not here: reading
//! entries ([`super::facts`]), names ([`super::people`]), what is wrong with it ([`super::findings`]).
//!
//! Invariants: pure; a snapshot of which not all arrived ends nothing, and is named; entries of one moment are taken in
//! order of their numbers.

use super::facts::{Fact, Observed, Right, Told};
use super::people::{People, Who};
use access::registry::change::ReviewRules;
use std::collections::{BTreeMap, BTreeSet};

/// Something that a subject has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holding {
    /// Since when, in microseconds.
    pub since: i64,
    /// Whether a grant says so; else it is the first snapshot that shows it.
    pub is_granted: bool,
    /// The entry that says so.
    pub seq: u64,
    pub granted_by: Option<String>,
    pub approved_by: Option<String>,
    pub approval: Option<String>,
    pub until: Option<i64>,
    /// Last used, as a snapshot says.
    pub last_used: Option<i64>,
    /// Whether who has it is a group or the like, which never acts by itself.
    pub is_group: bool,
    /// The part of the source whose snapshots show it.
    part: Option<String>,
    /// Whether a revocation said that it is over, and a snapshot shows that it is not.
    pub came_back: bool,
}

/// What subjects have.
pub(crate) type Rights = BTreeSet<(Who, Right)>;
/// An entitlement of a snapshot, with the time and number of its entry.
type Arriving = (i64, u64, Observed);

/// What is known of a subject besides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Person {
    /// When it left, and which entry says so.
    pub left: Option<(i64, u64)>,
    pub manager: Option<String>,
    /// When its contract ends.
    pub until: Option<i64>,
}

/// A snapshot, and what changed since the one before of the same part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub source: String,
    pub part: Option<String>,
    /// The moments of the one before and of this one.
    pub from: i64,
    pub to: i64,
    /// Who has what in each.
    pub before: Rights,
    pub now: Rights,
}

/// What entries said between snapshots: given (or taken), to whom, of which right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub at: i64,
    pub seq: u64,
    pub who: Who,
    pub source: String,
    pub role: Option<String>,
    pub target: Option<String>,
    pub is_given: bool,
}

/// Where one tenant's access stands.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub people: People,
    pub holdings: BTreeMap<(Who, Right), Holding>,
    pub persons: BTreeMap<Who, Person>,
    pub steps: Vec<Step>,
    pub said: Vec<Said>,
    /// What ended and was not given again: by which entry, and when.
    pub ended: BTreeMap<(Who, Right), (u64, i64)>,
    /// Snapshots of which not all arrived: source, id, and how many entitlements did.
    pub incomplete: Vec<(String, String, u64)>,
    /// Of what ended, what a revocation did.
    revoked: Rights,
    /// Snapshots of which everything is there.
    whole: BTreeSet<(String, String)>,
    /// The parts of each source that there are snapshots of.
    parts: BTreeMap<String, BTreeSet<Option<String>>>,
    /// Of whole snapshots whose end did not come yet.
    pending: BTreeMap<(String, String), Vec<Arriving>>,
    /// The last snapshot of each part of a source.
    last: BTreeMap<(String, Option<String>), (i64, Rights)>,
}

impl Held {
    /// Folds one tenant's entries.
    pub fn of(rules: &ReviewRules, mut told: Vec<Told>) -> Self {
        told.sort_by_key(|one| (one.at, one.seq));
        let mut held = Self { people: People::of(rules, &told), ..Self::default() };
        held.arrived(&told);
        for one in told {
            held.take(one);
        }
        held
    }

    /// Which snapshots are whole, which are not, and of which parts of a source there are any.
    fn arrived(&mut self, told: &[Told]) {
        let mut counts: BTreeMap<(String, String), (u64, Option<u64>)> = BTreeMap::new();
        for one in told {
            match &one.fact {
                Fact::Observed(one) => {
                    let key = (one.right.source.clone(), one.snapshot.clone());
                    counts.entry(key).or_default().0 += 1;
                }
                Fact::Snapshot { source, snapshot, part, entitlements } => {
                    let key = (source.clone(), snapshot.clone());
                    counts.entry(key).or_default().1 = Some(*entitlements);
                    self.parts.entry(source.clone()).or_default().insert(part.clone());
                }
                _ => {}
            }
        }
        for ((source, snapshot), (arrived, expected)) in counts {
            if expected == Some(arrived) {
                self.whole.insert((source, snapshot));
            } else {
                self.incomplete.push((source, snapshot, arrived));
            }
        }
    }

    fn take(&mut self, told: Told) {
        let Told { seq, at, by, fact, .. } = told;
        match fact {
            Fact::Grant { .. } => self.grant(at, seq, by, fact),
            Fact::Revoke { .. } => self.revoke(at, seq, fact),
            Fact::Leave { subject } => {
                let who = self.people.named(&subject);
                self.persons.entry(who).or_default().left.get_or_insert((at, seq));
            }
            Fact::Return { subject } => {
                let who = self.people.named(&subject);
                self.persons.entry(who).or_default().left = None;
            }
            // The names were joined before.
            Fact::Rename { .. } => {}
            Fact::Observed(one) => {
                let key = (one.right.source.clone(), one.snapshot.clone());
                match self.whole.contains(&key) {
                    true => self.pending.entry(key).or_default().push((at, seq, *one)),
                    // It is there all the same, then; only what is missing says nothing.
                    false => _ = self.observe(at, seq, *one),
                }
            }
            Fact::Subject(one) => {
                let who = self.people.named(&one.subject);
                let person = self.persons.entry(who).or_default();
                match one.active {
                    Some(true) => person.left = None,
                    Some(false) => _ = person.left.get_or_insert((at, seq)),
                    None => {}
                }
                // What a newer one leaves out holds no more.
                (person.manager, person.until) = (one.manager, one.until);
            }
            Fact::Snapshot { source, snapshot, part, .. } => self.snapshot((at, seq), source, snapshot, part),
        }
    }

    fn grant(&mut self, at: i64, seq: u64, by: Option<String>, fact: Fact) {
        let Fact::Grant { subject, right, until, approver, approval } = fact else { return };
        let who = self.people.named(&subject);
        self.said.push(said(at, seq, who, &right, true));
        self.revoked.remove(&(who, right.clone()));
        self.ended.remove(&(who, right.clone()));
        let (part, came_back, is_group, last_used) = (None, false, false, None);
        let (granted_by, approved_by) = (by, approver);
        let new = Holding {
            since: at,
            is_granted: true,
            seq,
            granted_by,
            approved_by,
            approval,
            until,
            last_used,
            is_group,
            part,
            came_back,
        };
        self.holdings.entry((who, right)).and_modify(|old| old.granted_again(&new)).or_insert(new);
    }

    fn revoke(&mut self, at: i64, seq: u64, fact: Fact) {
        let Fact::Revoke { subject, source, role, target } = fact else { return };
        let who = self.people.named(&subject);
        self.said.push(Said {
            at,
            seq,
            who,
            source: source.clone(),
            role: role.clone(),
            target: target.clone(),
            is_given: false,
        });
        let is_meant = |right: &Right| {
            right.source == source
                && role.as_ref().is_none_or(|role| *role == right.role)
                && (target.is_none() || target == right.target)
        };
        let own = self.holdings.range((who, Right::default())..).map(|(key, _)| key).take_while(|(of, _)| *of == who);
        let gone: Vec<_> = own.filter(|(_, right)| is_meant(right)).cloned().collect();
        // Also of what nobody saw given: that it was taken stands on record.
        let named = role.map(|role| (who, Right { source, role, target }));
        for key in gone.into_iter().chain(named) {
            self.holdings.remove(&key);
            self.ended.insert(key.clone(), (seq, at));
            self.revoked.insert(key);
        }
    }

    fn observe(&mut self, at: i64, seq: u64, one: Observed) -> (Who, Right) {
        let who = self.people.named(&one.subject);
        let key = (who, one.right);
        let came_back = self.revoked.remove(&key);
        self.ended.remove(&key);
        let new = Holding {
            since: one.since.unwrap_or(at).min(at),
            is_granted: false,
            seq,
            granted_by: None,
            approved_by: one.approver,
            approval: None,
            until: one.until,
            // A time that has not come yet is no use.
            last_used: one.last_used.filter(|last| *last <= at),
            is_group: one.is_group,
            part: one.part,
            came_back,
        };
        self.holdings.entry(key.clone()).and_modify(|old| old.seen_again(&new)).or_insert(new);
        key
    }

    fn snapshot(&mut self, (at, seq): (i64, u64), source: String, snapshot: String, part: Option<String>) {
        let key = (source.clone(), snapshot);
        // A second end of the same is as good as none.
        if !self.whole.remove(&key) {
            return;
        }
        let observed = self.pending.remove(&key).unwrap_or_default();
        let now: Rights = observed.into_iter().map(|(at, seq, one)| self.observe(at, seq, one)).collect();
        let is_only_part = self.parts.get(&source).is_none_or(|parts| parts.len() <= 1);
        let is_of_part = |right: &Right, holding: &Holding| match (&part, &right.target) {
            (None, _) => true,
            (Some(_), _) if holding.part == part => true,
            // Granted by an entry, which names no part: by what it is on.
            (Some(part), Some(target)) => {
                target == part || target.strip_prefix(part).is_some_and(|t| t.starts_with('/'))
            }
            // Without a target it can be of the only part that there is.
            (Some(_), None) => is_only_part,
        };
        let stays = |key: &(Who, Right), holding: &Holding| {
            now.contains(key) || key.1.source != source || !is_of_part(&key.1, holding)
        };
        let ended = &mut self.ended;
        self.holdings.retain(|key, holding| {
            let stays = stays(key, holding);
            if !stays {
                ended.insert(key.clone(), (seq, at));
            }
            stays
        });
        let last = self.last.insert((source.clone(), part.clone()), (at, now.clone()));
        if let Some((from, before)) = last {
            self.steps.push(Step { source, part, from, to: at, before, now });
        }
    }
}

fn said(at: i64, seq: u64, who: Who, right: &Right, is_given: bool) -> Said {
    let Right { source, role, target } = right.clone();
    Said { at, seq, who, source, role: Some(role), target, is_given }
}

impl Holding {
    /// What a grant of the registry gives.
    pub fn granted(since: i64, seq: u64, by: &str, approved_by: Option<&str>, until: Option<i64>) -> Self {
        let (granted_by, approved_by) = (Some(by.to_string()), approved_by.map(str::to_string));
        let (approval, last_used, part, came_back, is_granted) = (None, None, None, false, true);
        let is_group = false;
        Self { since, is_granted, seq, granted_by, approved_by, approval, until, last_used, is_group, part, came_back }
    }

    /// It is given to who has it: since then it stands on the newer approval.
    fn granted_again(&mut self, new: &Self) {
        let Self { is_granted, seq, granted_by, approved_by, approval, until, .. } = new.clone();
        let (since, last_used, is_group, part) = (self.since, self.last_used, self.is_group, self.part.take());
        let came_back = false;
        *self = Self {
            since,
            is_granted,
            seq,
            granted_by,
            approved_by,
            approval,
            until,
            last_used,
            is_group,
            part,
            came_back,
        };
    }

    fn seen_again(&mut self, new: &Self) {
        self.since = self.since.min(new.since);
        self.part = new.part.clone();
        self.approved_by = self.approved_by.take().or(new.approved_by.clone());
        self.until = if self.is_granted { new.until.or(self.until) } else { new.until };
        self.last_used = new.last_used.max(self.last_used);
    }
}

#[cfg(test)]
mod tests;
