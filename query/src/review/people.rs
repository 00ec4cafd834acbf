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
    /// By key of a name: which.
    places: HashMap<String, usize>,
    /// Of each name, the name that it was joined to, or itself.
    joined: Vec<usize>,
    /// Of each name, how it is written.
    written: Vec<String>,
    /// Of each name that somebody was called by as a subject: when, and by which entry.
    called: HashMap<usize, (i64, u64)>,
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
        }
        for one in told {
            let (name, also): (&str, &[String]) = match &one.fact {
                Fact::Grant { subject, .. } | Fact::Revoke { subject, .. } => (subject, &[]),
                Fact::Leave { subject } | Fact::Return { subject } => (subject, &[]),
                Fact::Observed(observed) => (&observed.subject, &[]),
                Fact::Subject(subject) => (&subject.subject, &subject.names),
                Fact::Rename { from, to } => (to, std::slice::from_ref(from)),
                Fact::Snapshot { .. } => continue,
            };
            let place = people.place(name);
            for other in also {
                let other = people.place(other);
                people.join(place, other);
            }
            let called = people.called.entry(place).or_insert((one.at, one.seq));
            if (one.at, one.seq) >= *called {
                *called = (one.at, one.seq);
                // Of spellings that differ by case, the last.
                people.written[place] = name.to_string();
            }
        }
        people
    }

    fn key(&self, name: &str) -> String {
        if self.case_sensitive { name.to_string() } else { name.to_lowercase() }
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
        self.find(name).or_else(|| self.find(of_account(tenant, name)?))
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

/// What the name of a user, or of a session of a role, of an AWS account ends with.
fn of_account<'n>(account: &str, name: &'n str) -> Option<&'n str> {
    let rest = name.strip_prefix("arn:aws:iam::").or_else(|| name.strip_prefix("arn:aws:sts::"))?;
    let rest = rest.strip_prefix(account)?.strip_prefix(':')?;
    match rest.split_once('/')? {
        ("user" | "role", path) => path.rsplit('/').next(),
        ("assumed-role", session) => session.split('/').next(),
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
    fn names_of_an_account_are_its_own_alone() {
        assert_eq!(of_account("123456789012", "arn:aws:iam::123456789012:user/ops/bob"), Some("bob"));
        assert_eq!(of_account("123456789012", "arn:aws:sts::123456789012:assumed-role/deployer/i-1"), Some("deployer"));
        assert_eq!(of_account("123456789012", "arn:aws:iam::999999999999:user/bob"), None);
        assert_eq!(of_account("123456789012", "bob"), None);
    }
}
