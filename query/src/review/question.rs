//! What can be asked about access, and what of it is well asked.
//!
//! Not here: asking ([`super::asking`]). Invariant: a question that passed [`AccessQuestion::check`] is bounded, and written
//! out it is the whole question: asked again, it means the same.

use crate::scope::{HeadAt, Misasked};
use access::registry::change::ReviewRules;
use ledger::TenantId;
use ledger::time::{format_micros, parse_micros};
use serde::{Deserialize, Serialize};

/// What a question says at most, of names and patterns together.
const MOST_NAMES: usize = 1_000;
/// The longest name or pattern, in bytes.
const LONGEST_NAME: usize = 1_024;
/// How long the period is in which use is counted, when nothing is said, in microseconds.
const PERIOD: i64 = 90 * DAY;
/// A day in microseconds.
pub(crate) const DAY: i64 = 86_400_000_000;

/// A question about who has access to what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessQuestion {
    /// These tenants.
    pub tenants: Vec<String>,
    /// This tenant and all below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subtree: Option<String>,
    /// As it was then; now, when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
    /// Use is counted from then on; 90 days before `as_of`, when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only entitlements from these sources, as patterns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// Only of these subjects, by any of their names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// Only of these roles, as patterns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Only on these targets, as patterns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// Rules in place of those that are on record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<ReviewRules>,
    /// As the streams were then: so many entries of each. The newest when left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<HeadAt>,
}

/// The time that a question is about, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Period {
    /// Use counts from then on.
    pub since: i64,
    /// What was later is not looked at.
    pub as_of: i64,
}

impl AccessQuestion {
    /// Checks the question, and fills in what follows from it and from the time.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn check(mut self, now: i64) -> Result<(Self, Period), Misasked> {
        let time = |name: &str, text: &Option<String>| {
            let parsed = text.as_deref().map(parse_micros).transpose();
            parsed.map_err(|e| Misasked(format!("{name} is {e}")))
        };
        let as_of = time("as_of", &self.as_of)?.unwrap_or(now);
        let since = time("since", &self.since)?.unwrap_or(as_of.saturating_sub(PERIOD));
        if as_of > now {
            return Err(Misasked("as_of lies in the future: nobody knows yet who will have access then".into()));
        }
        if since > as_of {
            return Err(Misasked("since must not be after as_of".into()));
        }
        let lists = [&self.sources, &self.subjects, &self.roles, &self.targets];
        let count: usize = lists.iter().map(|list| list.len()).sum();
        if count > MOST_NAMES {
            return Err(Misasked(format!("{count} names and patterns are asked for, and at most {MOST_NAMES} can be")));
        }
        if lists.into_iter().flatten().any(|name| name.is_empty() || name.len() > LONGEST_NAME) {
            return Err(Misasked(format!("names and patterns have 1 to {LONGEST_NAME} bytes")));
        }
        self.rules.as_ref().map_or(Ok(()), ReviewRules::check).map_err(Misasked)?;
        (self.as_of, self.since) = (Some(format_micros(as_of)), Some(format_micros(since)));
        for list in [&mut self.tenants, &mut self.sources, &mut self.subjects, &mut self.roles, &mut self.targets] {
            list.sort();
            list.dedup();
        }
        self.heads.sort();
        Ok((self, Period { since, as_of }))
    }

    /// The tenants that are named.
    ///
    /// # Errors
    /// A name is none.
    pub(crate) fn named(&self) -> Result<Vec<TenantId>, Misasked> {
        let parse = |name: &String| name.parse().map_err(|e: ledger::name::NameError| Misasked(e.to_string()));
        self.tenants.iter().map(parse).collect()
    }

    /// Whether it is about somebody with such names.
    pub(crate) fn is_about(&self, names: Option<&(String, Vec<String>)>) -> bool {
        let is_asked = |name: &String| {
            self.subjects.iter().any(|asked| name == asked || name.to_lowercase() == asked.to_lowercase())
        };
        self.subjects.is_empty() || names.is_some_and(|(name, also)| std::iter::once(name).chain(also).any(is_asked))
    }

    /// Whether it is about a part of what there is.
    pub(crate) fn is_narrowed(&self) -> bool {
        [&self.sources, &self.subjects, &self.roles, &self.targets].iter().any(|list| !list.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn checked(question: serde_json::Value) -> Result<AccessQuestion, String> {
        let question: AccessQuestion = serde_json::from_value(question).map_err(|e| e.to_string())?;
        question.check(parse_micros("2026-11-22T00:00:00Z").unwrap()).map(|(question, _)| question).map_err(|e| e.0)
    }

    #[test]
    fn a_question_is_filled_in_and_asks_the_same_again() {
        let asked = checked(json!({"tenants": ["b", "a", "b"], "roles": ["admin*"]})).unwrap();
        assert_eq!(asked.as_of.as_deref(), Some("2026-11-22T00:00:00.000000Z"));
        assert_eq!(asked.since.as_deref(), Some("2026-08-24T00:00:00.000000Z"));
        assert!(asked.is_narrowed() && asked.tenants == ["a", "b"]);
        assert_eq!(checked(json!(asked)).unwrap(), asked);
    }

    #[test]
    fn what_is_badly_asked_is_told_what_would_be_right() {
        let many: Vec<String> = (0..1_001).map(|n| n.to_string()).collect();
        for (question, why) in [
            (json!({"as_of": "yesterday"}), "as_of is"),
            (json!({"as_of": "2027-01-01T00:00:00Z"}), "in the future"),
            (json!({"as_of": "2026-01-01T00:00:00Z", "since": "2026-01-02T00:00:00Z"}), "not be after"),
            (json!({"roles": many}), "at most 1000"),
            (json!({"subjects": [""]}), "1 to 1024 bytes"),
            (json!({"rules": {"conflict": []}}), "unknown field `conflict`"),
            (json!({"rules": {"roles": {"a": {"lesser": "b"}}}}), "no rule says what b is for"),
        ] {
            let refused = checked(question.clone()).unwrap_err();
            assert!(refused.contains(why), "{question}: {refused}");
        }
    }
}
