//! Users, groups, roles and policies of AWS IAM, as its API and inventories of accounts show them.
//!
//! The account of its ARN is whose a document is, and the part of the source that it shows.

use super::{Entitlement, Said, Subject, list, text};
use serde_json::Value;
use std::collections::BTreeSet;

/// When a credential was used last, in a credential report.
const USED: [&str; 3] = ["PasswordLastUsed", "AccessKey1LastUsedDate", "AccessKey2LastUsedDate"];
/// What AWS writes for never.
const NEVER: &str = "0001-01-01";

/// Reads a document.
pub(super) fn read(document: &Value) -> Result<Said, String> {
    let any = |names: &[&str]| names.iter().find_map(|name| text(document.get(name)));
    let arn = any(&["Arn", "ARN"]).unwrap_or_default();
    let kind = arn.split(':').nth(5).unwrap_or_default().split('/').next().unwrap_or_default().to_string();
    let name = any(&["UserName", "GroupName", "RoleName", "PolicyName", "Name"]);
    let account = arn.split(':').nth(4).filter(|account| !account.is_empty() && *account != "aws");
    let account = any(&["AccountId"]).or(account.map(str::to_string));
    let mut said = match (kind.as_str(), name) {
        ("user" | "root", Some(name)) => user(document, name, &arn),
        ("group", Some(name)) => group(document, &name),
        ("role", Some(name)) => role(document, &name, &arn)?,
        ("policy", Some(name)) => policy(document, &name),
        ("user" | "root" | "group" | "role" | "policy", None) => return Err("it has no name".into()),
        _ => return Err("it is no user, group, role or policy: its Arn says which".into()),
    };
    (said.tenant, said.part) = (account.clone(), account);
    Ok(said)
}

fn of(subject: &str, role: String, target: Option<String>) -> Entitlement {
    Entitlement { subject: subject.into(), role, target, ..Entitlement::default() }
}

/// The name of a policy, which its ARN ends with.
fn policy_name(name: &str) -> String {
    if name.contains(":policy/") { name.rsplit('/').next().unwrap_or(name).to_string() } else { name.to_string() }
}

/// Policies that are attached, and those that stand in the document itself; as inventories and as the API call them.
fn policies(document: &Value) -> BTreeSet<String> {
    let places = [
        "ManagedPolicyNames",
        "ManagedPolicyARNs",
        "AttachedManagedPolicies",
        "InlinePolicyNames",
        "InlinePolicies",
        "UserPolicyList",
        "GroupPolicyList",
        "RolePolicyList",
    ];
    let listed = places.into_iter().flat_map(|name| list(document, name));
    let listed = listed.filter_map(|one| text(Some(one)).or_else(|| text(one.get("PolicyName"))));
    let keyed = document.get("InlinePolicies").and_then(Value::as_object).into_iter().flatten();
    listed.chain(keyed.map(|(name, _)| name.clone())).map(|name| policy_name(&name)).collect()
}

fn user(document: &Value, name: String, arn: &str) -> Said {
    let report = document.get("CredentialReport");
    let used = USED.iter().filter_map(|place| text(report?.get(place)));
    let used = used.chain(text(document.get("PasswordLastUsed"))).filter(|time| !time.starts_with(NEVER));
    let last_used = used.filter_map(|time| super::time(&time)).max();
    let groups = list(document, "Groups").filter_map(|one| text(one.get("GroupName")));
    let groups = groups.chain(list(document, "GroupList").filter_map(|one| text(Some(one))));
    let groups = groups.map(|group| of(&name, "member".into(), Some(group)));
    let held = policies(document).into_iter().map(|policy| of(&name, policy, None)).chain(groups);
    let root = arn.ends_with(":root").then(|| of(&name, "root".into(), None));
    let held = held.chain(root).map(|one| Entitlement { last_used: last_used.clone(), ..one });
    let entitlements = held.collect();
    let ids = ["UserId", "UserID", "Id"].into_iter().filter_map(|place| text(document.get(place)));
    let names = ids.chain([arn.to_string()]).collect();
    let subject = Subject { subject: name, names, active: None, manager: None, until: None };
    Said { entitlements, subjects: vec![subject], ..Said::default() }
}

fn group(document: &Value, name: &str) -> Said {
    let members = list(document, "Users").filter_map(|one| text(one.get("UserName")));
    let members = members.map(|user| of(&user, "member".into(), Some(name.to_string())));
    let held = policies(document).into_iter().map(|policy| grouped(of(&format!("group:{name}"), policy, None)));
    Said { entitlements: members.chain(held).collect(), ..Said::default() }
}

fn grouped(one: Entitlement) -> Entitlement {
    Entitlement { is_group: true, ..one }
}

fn role(document: &Value, name: &str, arn: &str) -> Result<Said, String> {
    // A user may have the same name.
    let own = format!("role:{name}");
    let held = policies(document).into_iter().map(|policy| grouped(of(&own, policy, None)));
    // The API gives it as text, inventories as what the text says.
    let trust = match document.get("AssumeRolePolicyDocument") {
        Some(Value::String(text)) => serde_json::from_str(text)
            .map_err(|_| "AssumeRolePolicyDocument cannot be read: give it as JSON, not percent-encoded")?,
        other => other.cloned().unwrap_or_default(),
    };
    let statements: Vec<Value> = many(trust.get("Statement")).cloned().collect();
    let mut entitlements: Vec<Entitlement> = held.collect();
    for statement in statements.iter().filter(|one| one.get("Effect").is_none_or(|effect| effect == "Allow")) {
        if statement.get("NotPrincipal").is_some() {
            return Err("who may assume it is said by NotPrincipal, which names nobody".into());
        }
        let principals = match statement.get("Principal") {
            Some(Value::Object(kinds)) => kinds.values().flat_map(|of| many(Some(of))).collect(),
            Some(one) => vec![one],
            None => vec![],
        };
        let names = principals.into_iter().filter_map(|one| text(Some(one)));
        // The root of an account stands for everybody in it, and not for the user of that name.
        let whole = |one: String| one.strip_suffix(":root").map_or(one.clone(), |account| format!("{account}:*"));
        let assumed = names.map(|one| grouped(of(&whole(one), "assume".into(), Some(own.clone()))));
        entitlements.extend(assumed);
    }
    let names = [arn.to_string()].into_iter().chain(text(document.get("RoleId"))).collect();
    let subject = Subject { subject: own, names, ..Subject::default() };
    Ok(Said { entitlements, subjects: vec![subject], ..Said::default() })
}

/// One, or those of a list.
fn many(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    let (one, list) = match value {
        Some(Value::Array(list)) => (None, list.as_slice()),
        other => (other, [].as_slice()),
    };
    one.into_iter().chain(list)
}

fn policy(document: &Value, name: &str) -> Said {
    let entities = document.get("Entities").unwrap_or(&Value::Null);
    let named = |list_of: &'static str, member: &'static str| {
        list(entities, list_of).filter_map(move |one| text(one.get(member)))
    };
    let users = named("PolicyUsers", "UserName").map(|user| of(&user, name.into(), None));
    let groups = named("PolicyGroups", "GroupName").map(|one| grouped(of(&format!("group:{one}"), name.into(), None)));
    let roles = named("PolicyRoles", "RoleName").map(|one| grouped(of(&format!("role:{one}"), name.into(), None)));
    Said { entitlements: users.chain(groups).chain(roles).collect(), ..Said::default() }
}
