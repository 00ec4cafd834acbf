//! What single events say of somebody's access.
//!
//! An event is read by a form ([`GrantForm`]): those that are known from the start, or those of the rules; or it is one of
//! the three that an imported snapshot is made of (docs/access-review.md). Not here: what follows from many of them
//! ([`super::held`]). Invariant: an event that lacks what its form needs says nothing.

use access::registry::change::{GrantForm, Means, ReviewRules};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// One entitlement, as a snapshot shows it.
pub const OBSERVED: &str = "entitlement.observed";
/// One subject, as a snapshot shows it.
pub const SUBJECT: &str = "subject.observed";
/// The end of a snapshot: how much it holds.
pub const SNAPSHOT: &str = "access.snapshot";

/// The source of what names none.
const UNNAMED: &str = "events";

/// An entry that says something of access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// At which tenant.
    pub tenant: String,
    /// Which entry of its `audit` stream.
    pub seq: u64,
    /// When it happened, in microseconds.
    pub at: i64,
    /// Who did it.
    pub by: Option<String>,
    /// What it says.
    pub fact: Fact,
}

/// What somebody may do, on what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Right {
    /// From which system.
    pub source: String,
    /// As what.
    pub role: String,
    /// On what.
    pub target: Option<String>,
}

/// The longest name of a role, target, source or subject, in bytes: what is longer says nothing.
const LONGEST: usize = 1_024;

impl Right {
    fn of(source: String, role: String, target: Option<String>) -> Option<Self> {
        let fits =
            [Some(&source), Some(&role), target.as_ref()].into_iter().flatten().all(|text| text.len() <= LONGEST);
        fits.then(|| Self { role: named(&source, role), source, target })
    }
}

/// A role under one name, where a source has two: AWS IAM calls a policy by its ARN or by the end of it.
fn named(source: &str, role: String) -> String {
    let is_arn = source == "aws-iam" && role.starts_with("arn:") && role.contains(":policy/");
    if is_arn { role.rsplit('/').next().unwrap_or_default().to_string() } else { role }
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fact {
    Grant {
        subject: String,
        right: Right,
        until: Option<i64>,
        approver: Option<String>,
        approval: Option<String>,
    },
    /// Of one right; or, without a role, of all of a source (on a target, if there is one).
    Revoke {
        subject: String,
        source: String,
        role: Option<String>,
        target: Option<String>,
    },
    Leave {
        subject: String,
    },
    Return {
        subject: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Observed(Box<Observed>),
    Subject(Box<Subject>),
    Snapshot {
        source: String,
        snapshot: String,
        part: Option<String>,
        entitlements: u64,
    },
}

/// One entitlement of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Observed {
    pub snapshot: String,
    pub part: Option<String>,
    pub subject: String,
    /// Whether the subject is a group or the like, which never acts by itself.
    pub is_group: bool,
    pub right: Right,
    pub since: Option<i64>,
    pub until: Option<i64>,
    pub approver: Option<String>,
    pub last_used: Option<i64>,
}

/// One subject of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub subject: String,
    pub names: Vec<String>,
    pub active: Option<bool>,
    pub manager: Option<String>,
    pub until: Option<i64>,
}

/// The columns that an entry is read from.
#[derive(Debug, Default)]
pub(crate) struct Columns<'a> {
    pub action: &'a str,
    pub actor_id: Option<&'a str>,
    pub on_behalf_of: Option<&'a str>,
    pub resource_type: Option<&'a str>,
    pub resource_id: Option<&'a str>,
    pub resource_name: Option<&'a str>,
    pub approval_id: Option<&'a str>,
    pub attributes: Option<&'a str>,
}

/// The forms of a tenant, by action.
pub(crate) struct Forms<'r>(BTreeMap<Cow<'r, str>, Vec<Cow<'r, GrantForm>>>);

macro_rules! known {
    ($($action:literal $means:ident $source:literal $subject:literal $role:literal $target:literal)*) => {
        [$(($action, Means::$means, $source, $subject, $role, $target)),*]
    };
}

/// Forms that are known from the start: our own, and those of sources that mappings are there for.
const KNOWN: [(&str, Means, &str, &str, &str, &str); 26] = known! {
    "role.grant" Grant "/source" "resource_id" "/role" "/target"
    "role.revoke" Revoke "/source" "resource_id" "/role" "/target"
    "user.deactivate" Leave "" "resource_id" "" ""
    "user.delete" Leave "" "resource_id" "" ""
    "user.activate" Return "" "resource_id" "" ""
    "user.rename" Rename "" "resource_id" "" ""
    "org.add_member" Grant "=github" "/user" "=member" "/org"
    "org.remove_member" Revoke "=github" "/user" "" "/org"
    "team.add_member" Grant "=github" "/user" "=member" "/team"
    "team.remove_member" Revoke "=github" "/user" "" "/team"
    "repo.add_member" Grant "=github-repositories" "/user" "=collaborator" "/repo"
    "repo.remove_member" Revoke "=github-repositories" "/user" "" "/repo"
    "group.user_membership.add" Grant "=okta" "/target/0/alternateId" "=member" "/target/1/displayName"
    "group.user_membership.remove" Revoke "=okta" "/target/0/alternateId" "=member" "/target/1/displayName"
    "user.account.privilege.grant" Grant "=okta" "/target/0/alternateId" "/debugContext/debugData/privilegeGranted" ""
    "user.account.privilege.revoke" Revoke "=okta" "/target/0/alternateId" "/debugContext/debugData/privilegeRevoked" ""
    "user.lifecycle.deactivate" Leave "" "/target/0/alternateId" "" ""
    "user.lifecycle.activate" Return "" "/target/0/alternateId" "" ""
    "user.lifecycle.reactivate" Return "" "/target/0/alternateId" "" ""
    "iam.AttachUserPolicy" Grant "=aws-iam" "/requestParameters/userName" "/requestParameters/policyArn" ""
    "iam.DetachUserPolicy" Revoke "=aws-iam" "/requestParameters/userName" "/requestParameters/policyArn" ""
    "iam.PutUserPolicy" Grant "=aws-iam" "/requestParameters/userName" "/requestParameters/policyName" ""
    "iam.DeleteUserPolicy" Revoke "=aws-iam" "/requestParameters/userName" "/requestParameters/policyName" ""
    "iam.AddUserToGroup" Grant "=aws-iam" "/requestParameters/userName" "=member" "/requestParameters/groupName"
    "iam.RemoveUserFromGroup" Revoke "=aws-iam" "/requestParameters/userName" "=member" "/requestParameters/groupName"
    "iam.DeleteUser" Leave "" "/requestParameters/userName" "" ""
};

fn known() -> impl Iterator<Item = GrantForm> {
    KNOWN.into_iter().map(|(action, means, source, subject, role, target)| GrantForm {
        action: action.into(),
        means,
        source: source.into(),
        subject: subject.into(),
        role: role.into(),
        target: target.into(),
        until: "/until".into(),
        approver: "/approver".into(),
        to: "/to".into(),
    })
}

/// What of an entry its forms look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Looked {
    pub attributes: bool,
    pub columns: BTreeSet<String>,
}

/// The actions of entries that may say something of access under any of some rules, and what is looked at of each.
pub(crate) fn actions<'r>(rules: impl Iterator<Item = &'r ReviewRules>) -> BTreeMap<String, Looked> {
    let columns: BTreeSet<String> = ["resource_id", "resource_type"].map(str::to_string).into();
    let of_snapshot = Looked { attributes: true, columns };
    let mut all: BTreeMap<String, Looked> =
        [OBSERVED, SUBJECT, SNAPSHOT].map(|name| (name.to_string(), of_snapshot.clone())).into();
    for form in known().chain(rules.flat_map(|rules| rules.forms.iter().cloned())) {
        let looked = all.entry(form.action.clone()).or_default();
        for place in places(&form) {
            match place {
                place if place.starts_with('/') => looked.attributes = true,
                "" => _ = looked.columns.insert("resource_id".into()),
                place => _ = looked.columns.insert(place.into()),
            }
        }
        if form.means == Means::Grant {
            looked.columns.extend(["actor_id", "approval_id"].map(str::to_string));
        }
    }
    all
}

/// The places that a form looks at.
fn places(form: &GrantForm) -> Vec<&str> {
    match form.means {
        Means::Leave | Means::Return => vec![&form.subject],
        _ => vec![&form.subject, &form.source, &form.role, &form.target, &form.until, &form.approver, &form.to],
    }
}

impl<'r> Forms<'r> {
    /// The forms under some rules. One of the rules takes the place of those that are known of the same action.
    pub fn of(rules: &'r ReviewRules) -> Self {
        let mut forms: BTreeMap<Cow<'r, str>, Vec<Cow<'r, GrantForm>>> = BTreeMap::new();
        for form in &rules.forms {
            forms.entry(form.action.as_str().into()).or_default().push(Cow::Borrowed(form));
        }
        for form in known() {
            let action = Cow::Owned(form.action.clone());
            forms.entry(action).or_insert_with(|| vec![Cow::Owned(form)]);
        }
        Self(forms)
    }

    /// What an entry says; nothing if it lacks what its form needs.
    pub fn read(&self, columns: &Columns<'_>) -> Vec<Fact> {
        let attributes = columns.attributes.and_then(|text| serde_json::from_str::<Value>(text).ok());
        let attributes = attributes.unwrap_or_default();
        let of_snapshot = match columns.action {
            OBSERVED => observed(columns, &attributes),
            SUBJECT => subject(columns, &attributes),
            SNAPSHOT => snapshot(columns, &attributes),
            action => {
                let forms = self.0.get(action).map(Vec::as_slice).unwrap_or_default();
                return forms.iter().filter_map(|form| of_form(form, columns, &attributes)).collect();
            }
        };
        of_snapshot.into_iter().collect()
    }
}

/// What stands at a place of an entry.
fn at(place: &str, columns: &Columns<'_>, attributes: &Value) -> Option<String> {
    if let Some(literal) = place.strip_prefix('=') {
        return Some(literal.to_string());
    }
    if place.starts_with('/') {
        return text_of(attributes.pointer(place)?);
    }
    let column = match place {
        "actor_id" => columns.actor_id,
        "on_behalf_of" => columns.on_behalf_of,
        "resource_id" => columns.resource_id,
        "resource_name" => columns.resource_name,
        "approval_id" => columns.approval_id,
        _ => None,
    };
    column.map(str::to_string)
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

fn time_of(text: Option<String>) -> Option<i64> {
    ledger::time::parse_micros(&text?).ok()
}

fn of_form(form: &GrantForm, columns: &Columns<'_>, attributes: &Value) -> Option<Fact> {
    let find = |place: &str| if place.is_empty() { None } else { at(place, columns, attributes) };
    let subject = find(if form.subject.is_empty() { "resource_id" } else { &form.subject })?;
    let source = || find(&form.source).unwrap_or_else(|| UNNAMED.into());
    let (role, target) = (find(&form.role), find(&form.target));
    Some(match form.means {
        Means::Grant => Fact::Grant {
            subject,
            right: Right::of(source(), role?, target)?,
            until: time_of(find(&form.until)),
            approver: find(&form.approver),
            approval: columns.approval_id.map(str::to_string),
        },
        // A form that names where the role stands, in an entry without one, says nothing: it would take all.
        Means::Revoke if !form.role.is_empty() && role.is_none() => return None,
        Means::Revoke => {
            let role = role.map(|role| named(&source(), role));
            Fact::Revoke { subject, source: source(), role, target }
        }
        Means::Leave => Fact::Leave { subject },
        Means::Return => Fact::Return { subject },
        Means::Rename => Fact::Rename { from: subject, to: find(&form.to)? },
    })
}

/// A member of an entry's attributes, as text.
fn member(attributes: &Value, name: &str) -> Option<String> {
    text_of(attributes.get(name)?)
}

fn observed(columns: &Columns<'_>, attributes: &Value) -> Option<Fact> {
    let text = |name| member(attributes, name);
    Some(Fact::Observed(Box::new(Observed {
        snapshot: text("snapshot")?,
        part: text("part"),
        subject: columns.resource_id?.to_string(),
        is_group: columns.resource_type == Some("group"),
        right: Right::of(text("source")?, text("role")?, text("target"))?,
        since: time_of(text("since")),
        until: time_of(text("until")),
        approver: text("approver"),
        last_used: time_of(text("last_used")),
    })))
}

fn subject(columns: &Columns<'_>, attributes: &Value) -> Option<Fact> {
    let names = attributes.get("names").and_then(Value::as_array);
    Some(Fact::Subject(Box::new(Subject {
        subject: columns.resource_id?.to_string(),
        names: names.into_iter().flatten().filter_map(text_of).collect(),
        active: attributes.get("active").and_then(Value::as_bool),
        manager: member(attributes, "manager"),
        until: time_of(member(attributes, "until")),
    })))
}

fn snapshot(columns: &Columns<'_>, attributes: &Value) -> Option<Fact> {
    Some(Fact::Snapshot {
        source: columns.resource_id?.to_string(),
        snapshot: member(attributes, "snapshot")?,
        part: member(attributes, "part"),
        entitlements: attributes.get("entitlements").and_then(Value::as_u64)?,
    })
}
