//! Rules of access reviews: what is read as a grant, what is too much, who answers for what. Data of those who use them.
//!
//! Not here: what the rules find (`query::review`). Invariant: a rule names things by patterns in which `*` stands for any
//! run of characters, and by nothing else.

use super::super::names::{PrincipalId, When, text};
use ledger::name::TenantId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an event of a form says of somebody's access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Means {
    /// The subject has the role from then on.
    Grant,
    /// The subject has it no more.
    Revoke,
    /// The subject left: what it still has is orphaned.
    Leave,
    /// The subject is back.
    Return,
    /// The subject is called otherwise from then on.
    Rename,
}

/// How an event in an `audit` stream says that somebody was given something, or that it was taken from them.
///
/// A place is the name of a column, a JSON pointer into `attributes` (it begins with `/`), or, after `=`, the text itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantForm {
    /// The event's action.
    pub action: String,
    /// What it says.
    pub means: Means,
    /// Where it stands which system grants: entitlements of one source are told apart from those of another.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Where the subject stands; `resource_id`, when left out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// Where the role stands.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub role: String,
    /// Where it stands on what.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// Where it stands until when.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub until: String,
    /// Where it stands who approved; `approval_id` speaks for an approval in any case.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub approver: String,
    /// Where the new name stands, of somebody who is called otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub to: String,
}

/// What a role is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RoleRule {
    /// Actions that it is used with, as patterns; any action of the subject, when left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uses: Vec<String>,
    /// A lesser role. Who does only what that one is for has too much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lesser: Option<String>,
}

/// Roles that nobody may have together (segregation of duties): one of each side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conflict {
    /// What it is called.
    pub name: String,
    /// Patterns of roles.
    pub one: Vec<String>,
    /// Patterns of roles.
    pub other: Vec<String>,
}

/// The rules of one tenant, and of those below it that have none of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReviewRules {
    /// What else is read as a grant, besides what is known from the start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forms: Vec<GrantForm>,
    /// What roles are for, by pattern.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<String, RoleRule>,
    /// What nobody may have together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<Conflict>,
    /// Kinds of actors that may touch classified data under an elevation only; `support` and `partner`, when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outside: Option<Vec<String>>,
    /// Names that are one subject's, each list one subject.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<Vec<String>>,
    /// Whether names are told apart by case; in most systems they are not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub case_sensitive: bool,
    /// Who answers for what is granted, by pattern of target or role.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub owners: BTreeMap<String, PrincipalId>,
    /// Who answers for whom, by pattern of subject.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub managers: BTreeMap<String, PrincipalId>,
    /// When contracts end, by pattern of subject.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub contracts: BTreeMap<String, When>,
    /// After how many days without use something is dormant; 90, when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dormant_days: Option<u32>,
}

/// Entries of all lists of some rules together.
const MOST_RULES: usize = 5_000;
/// After at most so many days something is dormant.
const MOST_DAYS: u32 = 36_500;
/// The longest text in them, in bytes.
const LONGEST_TEXT: usize = 1_024;

impl ReviewRules {
    /// Whether they can be held to.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn check(&self) -> Result<(), String> {
        let forms = self.forms.iter().flat_map(|form| {
            [&form.action, &form.source, &form.subject, &form.role, &form.target, &form.until, &form.approver, &form.to]
        });
        let roles = self.roles.iter().flat_map(|(name, rule)| rule.uses.iter().chain(&rule.lesser).chain([name]));
        let conflicts = self.conflicts.iter().flat_map(|one| one.one.iter().chain(&one.other).chain([&one.name]));
        let people = self.owners.keys().chain(self.managers.keys()).chain(self.contracts.keys());
        let names = self.identities.iter().flatten().chain(self.outside.iter().flatten());
        let texts: Vec<&String> = forms.chain(roles).chain(conflicts).chain(people).chain(names).collect();
        if self.dormant_days.is_some_and(|days| days > MOST_DAYS) {
            return Err(format!("dormant_days is at most {MOST_DAYS}"));
        }
        if texts.len() > MOST_RULES {
            return Err(format!("the rules say {} things, and at most {MOST_RULES} can be said", texts.len()));
        }
        if texts.iter().any(|text| text.len() > LONGEST_TEXT) {
            return Err(format!("a text of the rules is longer than {LONGEST_TEXT} bytes"));
        }
        for form in &self.forms {
            form.check()?;
        }
        for lesser in self.roles.values().filter_map(|rule| rule.lesser.as_ref()) {
            if self.roles.get(lesser).is_none_or(|rule| rule.uses.is_empty()) {
                return Err(format!("no rule says what {lesser} is for: give it uses"));
            }
        }
        let is_half = |one: &&Conflict| one.one.is_empty() || one.other.is_empty() || one.name.is_empty();
        match self.conflicts.iter().find(is_half) {
            Some(conflict) => Err(format!("the conflict {:?} needs a name, and patterns on both sides", conflict.name)),
            None => Ok(()),
        }
    }
}

impl GrantForm {
    fn check(&self) -> Result<(), String> {
        let is_place =
            |text: &&String| text.is_empty() || text.starts_with(['/', '=']) || PLACES.contains(&text.as_str());
        let places = [&self.source, &self.subject, &self.role, &self.target, &self.until, &self.approver, &self.to];
        if let Some(place) = places.into_iter().find(|text| !is_place(text)) {
            let columns = PLACES.join(", ");
            return Err(format!("{place:?} is no place: one of {columns}, a JSON pointer, or = and the text itself"));
        }
        match self.means {
            _ if self.action.is_empty() => Err("a form needs an action".into()),
            Means::Grant if self.role.is_empty() => Err(format!("the form of {} does not say which role", self.action)),
            Means::Rename if self.to.is_empty() => Err(format!("the form of {} does not say to what", self.action)),
            _ => Ok(()),
        }
    }
}

/// Columns that a form may name.
pub const PLACES: [&str; 5] = ["actor_id", "on_behalf_of", "resource_id", "resource_name", "approval_id"];

/// Rules from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RulesFact {
    /// Whose; everybody's who has none, when left out.
    #[schemars(with = "Option<String>")]
    #[serde(default, with = "text::optional", skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// The rules; they take the place of what was there.
    pub rules: ReviewRules,
    /// Why.
    pub reason: String,
}
