//! What is wrong with who has access to what.
//!
//! Each finding names what it rests on. Not here: counting ([`super::entry`]), asking ([`super::asking`]).
//! Invariant: pure, and in a total order.

use super::entry::{Entry, Looked, REGISTRY, role_rule};
use super::people::Who;
use super::question::{DAY, Period};
use super::uses::{Outside, Purposes, Under};
use access::pattern::fits;
use access::registry::change::ReviewRules;
use ledger::time::format_micros;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// After how many days without use something is dormant, when the rules say nothing.
const DORMANT_DAYS: u32 = 90;
/// Whom access from outside is looked at of, when the rules say nothing.
pub(crate) const OUTSIDE: [&str; 2] = ["support", "partner"];
/// Second words of actions that an elevation is asked for with.
const ASKING: [&str; 3] = ["request", "requested", "ask"];
/// … that somebody agrees with.
const APPROVING: [&str; 3] = ["approve", "approved", "grant"];
/// The first word of what is done to an elevation, and not under it.
const ELEVATION: &str = "elevation.";

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Held by somebody who left.
    Orphaned,
    /// Held past the end of the contract, or past the time that it was given for.
    PastContract,
    /// Two things that nobody may have together.
    Conflict,
    /// Given without an approval.
    Unapproved,
    /// Approved by who got it.
    SelfApproved,
    /// Given by who got it.
    SelfGranted,
    /// There, though its revocation stands on record.
    CameBack,
    /// Never used.
    NeverUsed,
    /// Not used for long.
    Dormant,
    /// Only used for what less would do for.
    OverPrivileged,
    /// An elevation under which something was done, and that nobody approved.
    ElevationUnapproved,
    /// An elevation that who asked for it approved.
    ElevationSelfApproved,
    /// An elevation taken without approval, that nobody reviewed.
    ElevationUnreviewed,
    /// Classified data touched from outside, without an elevation.
    OutsideWithoutElevation,
    /// One credential, used by several.
    SharedCredential,
}

impl Kind {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Orphaned => "orphaned",
            Self::PastContract => "past_contract",
            Self::Conflict => "conflict",
            Self::Unapproved => "unapproved",
            Self::SelfApproved => "self_approved",
            Self::SelfGranted => "self_granted",
            Self::CameBack => "came_back",
            Self::NeverUsed => "never_used",
            Self::Dormant => "dormant",
            Self::OverPrivileged => "over_privileged",
            Self::ElevationUnapproved => "elevation_unapproved",
            Self::ElevationSelfApproved => "elevation_self_approved",
            Self::ElevationUnreviewed => "elevation_unreviewed",
            Self::OutsideWithoutElevation => "outside_without_elevation",
            Self::SharedCredential => "shared_credential",
        }
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// At which tenant.
    pub tenant: String,
    /// What kind.
    pub kind: Kind,
    /// About whom.
    pub subject: String,
    /// About which entitlement, or elevation, or credential.
    pub about: String,
    /// In words.
    pub what: String,
    /// The entry that it begins with, if there is one: stream and sequence number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<(&'static str, u64)>,
}

/// What is wrong with one tenant's entitlements: of each entry which kinds, and each in words.
pub(crate) fn of_entries(
    looked: &Looked<'_>,
    names: &HashMap<Who, (String, Vec<String>)>,
    purposes: &Purposes,
    period: Period,
) -> (Vec<BTreeSet<Kind>>, Vec<Finding>) {
    let looking = Looking { looked, names, purposes, period };
    let (mut kinds, mut all) = (Vec::with_capacity(looked.entries.len()), Vec::new());
    for entry in &looked.entries {
        let mut of_entry = looking.life(entry);
        of_entry.extend(looking.giving(entry));
        of_entry.extend(looking.use_of(entry));
        kinds.push(of_entry.iter().map(|(kind, _)| *kind).collect::<BTreeSet<_>>());
        all.extend(of_entry.into_iter().map(|(kind, what)| looking.finding(kind, entry, what)));
    }
    looking.conflicts(&mut kinds, &mut all);
    all.extend(looking.shared());
    (kinds, all)
}

struct Looking<'a> {
    looked: &'a Looked<'a>,
    names: &'a HashMap<Who, (String, Vec<String>)>,
    purposes: &'a Purposes,
    period: Period,
}

type Found = Vec<(Kind, String)>;

fn day(micros: i64) -> String {
    format_micros(micros).chars().take(10).collect()
}

/// An entitlement in few words.
pub(crate) fn words(entry: &Entry) -> String {
    let right = &entry.right;
    let on = right.target.as_ref().map(|target| format!(" on {target}")).unwrap_or_default();
    format!("{}: {}{on}", right.source, right.role)
}

impl Looking<'_> {
    fn name(&self, who: Who) -> &str {
        self.names.get(&who).map_or("", |(name, _)| name)
    }

    fn rules(&self) -> &ReviewRules {
        self.looked.rules
    }

    fn finding(&self, kind: Kind, entry: &Entry, what: String) -> Finding {
        let (tenant, subject, about) = (self.looked.tenant.clone(), self.name(entry.who).to_string(), words(entry));
        let stream = if entry.right.source == REGISTRY { "control" } else { "audit" };
        Finding { tenant, kind, subject, about, what, entry: Some((stream, entry.holding.seq)) }
    }

    /// Whether who has it should have it still.
    fn life(&self, entry: &Entry) -> Found {
        let mut found = Found::new();
        let person = self.looked.held.persons.get(&entry.who);
        if let Some((at, _)) = person.and_then(|person| person.left) {
            found.push((Kind::Orphaned, format!("left on {}, and has it still", day(at))));
        }
        let names = self.names.get(&entry.who);
        let contract = names
            .into_iter()
            .flat_map(|(name, also)| std::iter::once(name).chain(also))
            .find_map(|name| super::entry::longest(&self.rules().contracts, name).map(|end| end.0));
        let contract = contract.or(person.and_then(|person| person.until));
        // What the registry gives for a while ends by itself.
        let own = entry.holding.until.filter(|_| entry.id.is_none());
        for (end, whose) in [(contract, "the contract"), (own, "what it was given for")] {
            if let Some(end) = end.filter(|end| *end <= self.period.as_of) {
                found.push((Kind::PastContract, format!("{whose} ended on {}", day(end))));
            }
        }
        if entry.holding.came_back {
            found.push((Kind::CameBack, "a revocation stands on record, and a later snapshot shows it".into()));
        }
        found
    }

    /// Whether it was given as it should.
    fn giving(&self, entry: &Entry) -> Found {
        let holding = &entry.holding;
        let is_subject = |name: &Option<String>| {
            let people = &self.looked.held.people;
            let find = |name: &str| match entry.id {
                Some(_) => people.find_principal(name),
                None => people.actor(&self.looked.tenant, name),
            };
            name.as_ref().is_some_and(|name| find(name) == Some(entry.who))
        };
        let mut found = Found::new();
        if is_subject(&holding.approved_by) {
            found.push((Kind::SelfApproved, "approved by who got it".into()));
        }
        if is_subject(&holding.granted_by) && !entry.is_elevation {
            found.push((Kind::SelfGranted, "given by who got it".into()));
        }
        // In the registry a policy decides who may give it: that it was given is the approval.
        let is_approved = holding.approval.is_some() || holding.approved_by.is_some() || entry.id.is_some();
        if holding.is_granted && !is_approved {
            let by = holding.granted_by.as_deref().unwrap_or("somebody");
            found.push((Kind::Unapproved, format!("given by {by} on {}, approved by nobody", day(holding.since))));
        }
        found
    }

    /// Whether it is used.
    fn use_of(&self, entry: &Entry) -> Found {
        // What is lent ends by itself; and of what nobody records use, nobody can say that it is not used.
        let is_known = entry.used_by != "nothing" || entry.used.last.is_some();
        if entry.is_elevation || !is_known {
            return Found::new();
        }
        let mut found = Found::new();
        let days = self.rules().dormant_days.unwrap_or(DORMANT_DAYS);
        let idle_since = self.period.as_of.saturating_sub(i64::from(days) * DAY);
        let had_days = (self.period.as_of - entry.holding.since) / DAY;
        match entry.used.last {
            None if entry.holding.since <= idle_since => {
                found.push((Kind::NeverUsed, format!("held for {had_days} days, and never used")));
            }
            Some(last) if last <= idle_since => {
                let idle = (self.period.as_of - last) / DAY;
                found.push((Kind::Dormant, format!("last used on {}, {idle} days before", day(last))));
            }
            _ => {}
        }
        let lesser = role_rule(self.rules(), &entry.right.role).and_then(|rule| rule.lesser.as_ref());
        let lesser = lesser.and_then(|name| Some((name, self.purposes.bit(&self.rules().roles.get(name)?.uses))));
        if let (Some((name, bit)), Some(by_purpose)) = (lesser, self.looked.by_purpose.get(&entry.who)) {
            let in_period = || by_purpose.iter().filter(|(_, used)| used.times > 0);
            let times: u64 = in_period().map(|(_, used)| used.times).sum();
            // Who has it since yesterday did the rest of the period without.
            let had_it = entry.holding.since <= self.period.since;
            if had_it && times > 0 && in_period().all(|(of, _)| of & bit != 0) {
                let what = format!("all that was done in the period, {times} times, is what {name} is for");
                found.push((Kind::OverPrivileged, what));
            }
        }
        found
    }

    fn conflicts(&self, kinds: &mut [BTreeSet<Kind>], all: &mut Vec<Finding>) {
        if self.rules().conflicts.is_empty() {
            return;
        }
        let mut of: BTreeMap<Who, Vec<usize>> = BTreeMap::new();
        for (at, entry) in self.looked.entries.iter().enumerate() {
            of.entry(entry.who).or_default().push(at);
        }
        for conflict in &self.rules().conflicts {
            let fit = |patterns: &[String], at: &usize| {
                let role = &self.looked.entries[*at].right.role;
                patterns.iter().any(|pattern| fits(pattern, role))
            };
            for held in of.values() {
                let side = |patterns| held.iter().filter(|at| fit(patterns, at)).copied().collect::<Vec<usize>>();
                let (ones, others) = (side(&conflict.one), side(&conflict.other));
                for at in held {
                    // Each that stands on one side while something else stands on the other.
                    let against = match (ones.contains(at), others.contains(at)) {
                        (true, _) if others.iter().any(|other| other != at) => &others,
                        (_, true) if ones.iter().any(|one| one != at) => &ones,
                        _ => continue,
                    };
                    let Some(with) = against.iter().find(|other| *other != at) else { continue };
                    kinds[*at].insert(Kind::Conflict);
                    let what = format!("{}: has {} as well", conflict.name, words(&self.looked.entries[*with]));
                    all.push(self.finding(Kind::Conflict, &self.looked.entries[*at], what));
                }
            }
        }
    }

    fn shared(&self) -> Vec<Finding> {
        let finding = |(credential, who): (&String, &BTreeSet<Who>)| {
            let mut names: Vec<&str> = who.iter().map(|who| self.name(*who)).collect();
            names.sort_unstable();
            let what = format!("used in the period by {} subjects: {}", names.len(), cut(&names));
            let (tenant, about, subject) = (self.looked.tenant.clone(), credential.clone(), names[0].to_string());
            Finding { tenant, kind: Kind::SharedCredential, subject, about, what, entry: None }
        };
        self.looked.credentials.iter().map(finding).collect()
    }
}

/// Names as far as a person reads them.
fn cut(names: &[&str]) -> String {
    let shown = names.iter().take(5).copied().collect::<Vec<_>>().join(", ");
    if names.len() > 5 { format!("{shown} and {} more", names.len() - 5) } else { shown }
}

/// What is wrong with how elevations that events name came about.
pub(crate) fn of_elevations(under: &[Under], period: Period, same: impl Fn(&str, &str, &str) -> bool) -> Vec<Finding> {
    let mut found = Vec::new();
    for of_one in under.chunk_by(|one, other| (&one.tenant, &one.elevation) == (&other.tenant, &other.elevation)) {
        let word = |one: &Under| one.action.strip_prefix(ELEVATION).map(str::to_string);
        let having = |words: &[&str]| -> Vec<&Under> {
            of_one.iter().filter(|one| word(one).is_some_and(|word| words.contains(&word.as_str()))).collect()
        };
        let (asked, approved) = (having(&ASKING), having(&APPROVING));
        let used: Vec<&Under> = of_one.iter().filter(|one| word(one).is_none()).collect();
        let first = &of_one[0];
        let finding = |kind, subject: &Option<String>, what: String, seq| Finding {
            tenant: first.tenant.clone(),
            kind,
            subject: subject.clone().unwrap_or_default(),
            about: first.elevation.clone(),
            what,
            entry: Some(("audit", seq)),
        };
        let is_own = |one: &&&Under| {
            let for_whom = one.on_behalf_of.as_ref().or(asked.first().and_then(|asked| asked.actor.as_ref()));
            one.actor.as_ref().zip(for_whom).is_some_and(|(by, whom)| same(&one.tenant, by, whom))
        };
        if let Some(one) = approved.iter().find(is_own) {
            found.push(finding(
                Kind::ElevationSelfApproved,
                &one.actor,
                "approved by who asked for it".into(),
                one.first_seq,
            ));
        }
        let agreed = approved.iter().map(|one| one.first).min();
        let early = used.iter().filter(|one| agreed.is_none_or(|agreed| one.first < agreed)).collect::<Vec<_>>();
        if let Some(one) = early.first().filter(|_| early.iter().any(|one| one.last >= period.since)) {
            let times: u64 = early.iter().map(|one| one.times).sum();
            let what = match agreed {
                None => format!("{times} acts under it, and nobody approved it"),
                Some(at) => format!("used on {}, before its approval at {}", day(one.first), format_micros(at)),
            };
            found.push(finding(Kind::ElevationUnapproved, &one.actor, what, one.first_seq));
        }
    }
    found
}

/// Access from outside without an elevation.
pub(crate) fn of_outside(outside: &[Outside]) -> Vec<Finding> {
    let finding = |one: &Outside| Finding {
        tenant: one.tenant.clone(),
        kind: Kind::OutsideWithoutElevation,
        subject: one.actor.clone(),
        about: one.kind.clone(),
        what: format!(
            "{} acts on classified data, from {} to {}, and no elevation",
            one.times,
            format_micros(one.first),
            format_micros(one.last)
        ),
        entry: Some(("audit", one.first_seq)),
    };
    outside.iter().map(finding).collect()
}
