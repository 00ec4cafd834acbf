//! Who is who: the names of one subject, over all that calls it otherwise.
//!
//! Names are joined by the rules, by events of renaming, by what snapshots list as one subject's, and where they differ by
//! case only (unless the rules say that case matters). Not here: what a subject has ([`super::held`]).
//! Invariant: the same facts give the same subjects and the same name of each, in whatever order they are joined.

use super::facts::{Fact, Told};
use access::registry::change::ReviewRules;
use std::collections::{BTreeSet, HashMap};

/// The subjects of one tenant.
#[derive(Debug, Default)]
pub(crate) struct People {
    case_sensitive: bool,
    /// Names that the rules join.
    ruled: BTreeSet<String>,
    /// By key of a name: which.
    places: HashMap<String, usize>,
    /// Of each name, the name that it was joined to, or itself.
    joined: Vec<usize>,
    /// Of each name, how it is written.
    written: Vec<String>,
    /// Of each name that somebody was called by as a subject: when, and by which entry.
    called: HashMap<usize, (u8, i64, u64)>,
}

/// One subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Who(usize);

impl People {
    /// The subjects that some entries are about, as the rules of the tenant join them.
    pub fn of(rules: &ReviewRules, told: &[Told]) -> Self {
        let mut people = Self { case_sensitive: rules.case_sensitive, ..Self::default() };
        for names in &rules.identities {
            people.join_all(names);
            let keys = names.iter().map(|name| key_of(name, rules.case_sensitive));
            people.ruled.extend(keys);
        }
        let (shared, own) = (shared(told, rules.case_sensitive), own(told, rules.case_sensitive));
        for one in told {
            let mut rank = 0;
            let (name, also): (&str, &[String]) = match &one.fact {
                Fact::Grant { subject, .. } | Fact::Revoke { subject, .. } => (subject, &[]),
                Fact::Leave { subject } | Fact::Return { subject } => (subject, &[]),
                Fact::Observed(observed) => (&observed.subject, &[]),
                Fact::Subject(subject) => {
                    rank = 1;
                    (&subject.subject, &subject.names)
                }
                Fact::Rename { from, to } => {
                    rank = 1;
                    // A name that was somebody's before is not what another is called: two people would be one.
                    let is_taken = own.get(&people.key(to)).is_some_and(|first| *first < one.at);
                    (to, if is_taken { &[] } else { std::slice::from_ref(from) })
                }
                Fact::Snapshot { .. } => continue,
            };
            let place = people.place(name);
            for other in also.iter().filter(|other| !shared.contains(&key_of(other, rules.case_sensitive))) {
                let other = people.place(other);
                people.join(place, other);
            }
            // Who says what subjects are called outranks who says what they have.
            let called = people.called.entry(place).or_insert((rank, one.at, one.seq));
            if (rank, one.at, one.seq) >= *called {
                *called = (rank, one.at, one.seq);
                // Of spellings that differ by case, the last.
                people.written[place] = name.to_string();
            }
        }
        people
    }

    fn key(&self, name: &str) -> String {
        key_of(name, self.case_sensitive)
    }

    fn place(&mut self, name: &str) -> usize {
        let key = self.key(name);
        if let Some(place) = self.places.get(&key) {
            return *place;
        }
        let place = self.joined.len();
        self.places.insert(key, place);
        self.joined.push(place);
        self.written.push(name.to_string());
        place
    }

    fn join_all(&mut self, names: &[String]) {
        let places: Vec<usize> = names.iter().map(|name| self.place(name)).collect();
        places.windows(2).for_each(|pair| self.join(pair[0], pair[1]));
    }

    fn root(&self, mut place: usize) -> usize {
        while self.joined[place] != place {
            place = self.joined[place];
        }
        place
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        // The smaller stays: the tree is shallow enough, since names of one subject are few.
        let (root, leaf) = (one.min(other), one.max(other));
        self.joined[leaf] = root;
    }

    /// Who is called so; nobody, if no entry and no rule names them.
    pub fn find(&self, name: &str) -> Option<Who> {
        self.places.get(&self.key(name)).map(|place| Who(self.root(*place)))
    }

    /// Who acts, by the name of an actor: as it stands, or the user or role that a name of AWS IAM of this very account
    /// ends with.
    pub fn actor(&self, tenant: &str, name: &str) -> Option<Who> {
        self.find(name).or_else(|| self.find(&of_account(tenant, name)?))
    }

    /// A principal of the registry: somebody else than who is called so elsewhere, unless the rules name it.
    pub fn principal(&mut self, name: &str) -> Who {
        if self.is_joined(name) {
            return self.named(name);
        }
        let key = format!("\0{name}");
        let place = self.places.get(&key).copied().unwrap_or_else(|| {
            let place = self.joined.len();
            self.places.insert(key, place);
            self.joined.push(place);
            self.written.push(name.to_string());
            place
        });
        Who(self.root(place))
    }

    /// A principal of the registry, if it has anything.
    pub fn find_principal(&self, name: &str) -> Option<Who> {
        let own = self.places.get(&format!("\0{name}")).map(|place| Who(self.root(*place)));
        own.or_else(|| self.find(name).filter(|_| self.is_joined(name)))
    }

    fn is_joined(&self, name: &str) -> bool {
        self.ruled.contains(&self.key(name))
    }

    /// Who is called so, who may be somebody new.
    pub fn named(&mut self, name: &str) -> Who {
        let place = self.place(name);
        Who(self.root(place))
    }

    /// Of every subject, the name that it was called by last, and what else it is called.
    pub fn all_names(&self) -> HashMap<Who, (String, Vec<String>)> {
        let mut places: HashMap<Who, Vec<usize>> = HashMap::new();
        for place in 0..self.joined.len() {
            places.entry(Who(self.root(place))).or_default().push(place);
        }
        let named = |(who, places): (Who, Vec<usize>)| {
            // By time, then by name: who was never called by any is called by the first in order.
            let last = places
                .iter()
                .max_by_key(|place| (self.called.get(place), std::cmp::Reverse(self.written[**place].as_str())));
            let name = last.map(|place| self.written[*place].clone()).unwrap_or_default();
            let also: BTreeSet<String> =
                places.iter().map(|place| self.written[*place].clone()).filter(|other| *other != name).collect();
            (who, (name, also.into_iter().collect()))
        };
        places.into_iter().map(named).collect()
    }
}

fn key_of(name: &str, case_sensitive: bool) -> String {
    if case_sensitive { name.to_string() } else { name.to_lowercase() }
}

/// Names that snapshots list of more than one subject, such as the address of a team: they say nothing of who is who.
fn shared(told: &[Told], case_sensitive: bool) -> BTreeSet<String> {
    let mut of: HashMap<String, String> = HashMap::new();
    let mut shared = BTreeSet::new();
    for one in told {
        let Fact::Subject(subject) = &one.fact else { continue };
        let whose = key_of(&subject.subject, case_sensitive);
        for name in &subject.names {
            let key = key_of(name, case_sensitive);
            if *of.entry(key.clone()).or_insert_with(|| whose.clone()) != whose {
                shared.insert(key);
            }
        }
    }
    shared
}

/// When each name was first a subject's own.
fn own(told: &[Told], case_sensitive: bool) -> HashMap<String, i64> {
    let mut own = HashMap::new();
    for one in told {
        let name = match &one.fact {
            Fact::Grant { subject, .. } | Fact::Revoke { subject, .. } => subject,
            Fact::Leave { subject } | Fact::Return { subject } => subject,
            Fact::Observed(observed) => &observed.subject,
            Fact::Subject(subject) => &subject.subject,
            Fact::Rename { .. } | Fact::Snapshot { .. } => continue,
        };
        let first = own.entry(key_of(name, case_sensitive)).or_insert(one.at);
        *first = (*first).min(one.at);
    }
    own
}

/// What the name of a user, or of a session of a role, of an AWS account ends with.
fn of_account(account: &str, name: &str) -> Option<String> {
    let mut parts = name.splitn(6, ':');
    let is_aws = parts.next() == Some("arn") && parts.next()?.starts_with("aws");
    let is_identity = matches!(parts.next()?, "iam" | "sts") && parts.next()?.is_empty();
    if !is_aws || !is_identity || parts.next()? != account {
        return None;
    }
    match parts.next()?.split_once('/')? {
        ("user", path) => path.rsplit('/').next().map(str::to_string),
        ("role", path) => path.rsplit('/').next().map(|role| format!("role:{role}")),
        ("assumed-role", session) => session.split('/').next().map(|role| format!("role:{role}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(at: i64, fact: Fact) -> Told {
        Told { tenant: "acme".into(), seq: at as u64, at, by: None, fact }
    }

    #[test]
    fn one_subject_under_all_its_names() {
        let leave = |name: &str| Fact::Leave { subject: name.into() };
        let rename = |from: &str, to: &str| Fact::Rename { from: from.into(), to: to.into() };
        let told = [told(1, leave("Alice")), told(2, rename("alice", "asmith")), told(3, leave("bob"))];
        let rules = ReviewRules {
            identities: vec![vec!["ASmith".into(), "alice@example.com".into()]],
            ..ReviewRules::default()
        };
        let people = People::of(&rules, &told);
        let alice = people.find("ALICE").unwrap();
        assert_eq!(people.find("alice@example.com"), Some(alice));
        assert_ne!(people.find("bob"), Some(alice));
        assert_eq!(people.find("carol"), None);
        assert_eq!(people.all_names()[&alice], ("asmith".into(), vec!["Alice".into(), "alice@example.com".into()]));
        let strict = ReviewRules { case_sensitive: true, ..ReviewRules::default() };
        let people = People::of(&strict, &told);
        assert_ne!(people.find("Alice"), people.find("alice"));
    }

    #[test]
    fn two_people_do_not_become_one() {
        let subject = |subject: &str, names: &[&str]| {
            let names = names.iter().map(ToString::to_string).collect();
            let (active, manager, until) = (None, None, None);
            Fact::Subject(Box::new(super::super::facts::Subject {
                subject: subject.into(),
                names,
                active,
                manager,
                until,
            }))
        };
        let rename = |from: &str, to: &str| Fact::Rename { from: from.into(), to: to.into() };
        let leave = |name: &str| Fact::Leave { subject: name.into() };
        let told = [
            // An address of a team, and a name that was given to another.
            told(1, subject("svc-a", &["ops@example.com", "17"])),
            told(2, subject("svc-b", &["ops@example.com"])),
            told(3, leave("bob")),
            told(4, rename("ann", "bob")),
        ];
        let mut people = People::of(&ReviewRules::default(), &told);
        assert_ne!(people.find("svc-a"), people.find("svc-b"));
        assert_eq!(people.find("17"), people.find("svc-a"));
        assert_ne!(people.named("ann"), people.named("bob"));
        // A principal of the registry is not a tenant's user of the same name.
        assert_ne!(people.principal("bob"), people.named("bob"));
        assert_eq!(people.find_principal("bob"), Some(people.principal("bob")));
    }

    #[test]
    fn names_of_an_account_are_its_own_alone() {
        assert_eq!(of_account("123456789012", "arn:aws:iam::123456789012:user/ops/bob"), Some("bob".into()));
        assert_eq!(of_account("123456789012", "arn:aws-us-gov:iam::123456789012:user/bob"), Some("bob".into()));
        assert_eq!(
            of_account("123456789012", "arn:aws:sts::123456789012:assumed-role/deployer/i-1"),
            Some("role:deployer".into())
        );
        assert_eq!(of_account("123456789012", "arn:aws:iam::999999999999:user/bob"), None);
        assert_eq!(of_account("123456789012", "bob"), None);
    }
}
