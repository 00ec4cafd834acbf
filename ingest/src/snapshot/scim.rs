//! Users and groups of SCIM 2.0 (RFC 7643), by themselves or in a list (RFC 7644 §3.4.2).

use super::{Entitlement, Said, Subject, list, text};
use serde_json::Value;

const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";
const LIST: &str = "urn:ietf:params:scim:api:messages:2.0:ListResponse";
const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

/// Of a list, how many resources it says that there are, and how many of them it holds.
pub(super) fn page(document: &Value) -> Option<(u64, u64)> {
    let total = document.get("totalResults")?.as_u64()?;
    Some((total, list(document, "Resources").count() as u64))
}

/// Reads a document; of a list, each of its resources.
pub(super) fn read(document: &Value) -> Result<Vec<Said>, String> {
    let is_list = list(document, "schemas").any(|one| one == LIST) || document.get("Resources").is_some();
    if is_list {
        return list(document, "Resources").map(read_one).collect();
    }
    Ok(vec![read_one(document)?])
}

fn read_one(document: &Value) -> Result<Said, String> {
    let is = |schema: &str| list(document, "schemas").any(|one| one == schema);
    // Some servers leave schemas out inside of lists.
    let is_unnamed = document.get("schemas").is_none();
    if is(USER) || (is_unnamed && document.get("userName").is_some()) {
        return user(document);
    }
    if is(GROUP) || (is_unnamed && document.get("members").is_some()) {
        return group(document);
    }
    Err("it is no User, no Group and no list of them".into())
}

fn user(document: &Value) -> Result<Said, String> {
    let subject = text(document.get("userName")).ok_or("it is a User without userName")?;
    let emails = list(document, "emails").filter_map(|one| text(one.get("value")));
    let ids = ["id", "externalId"].into_iter().filter_map(|name| text(document.get(name)));
    let names = ids.chain(emails).filter(|name| *name != subject).collect();
    let active = document.get("active").and_then(Value::as_bool);
    let manager = document.get(ENTERPRISE).and_then(|more| text(more.get("manager")?.get("value")));
    let of = |role: String, target: Option<String>| Entitlement {
        subject: subject.clone(),
        role,
        target,
        ..Entitlement::default()
    };
    let mut entitlements = Vec::new();
    for name in ["roles", "entitlements"] {
        entitlements.extend(list(document, name).filter_map(|one| Some(of(text(one.get("value"))?, None))));
    }
    for one in list(document, "groups") {
        if let Some(group) = text(one.get("display")).or_else(|| text(one.get("value"))) {
            entitlements.push(of("member".into(), Some(format!("group:{group}"))));
        }
    }
    let subjects = vec![Subject { subject, names, active, manager, until: None }];
    Ok(Said { entitlements, subjects, ..Said::default() })
}

fn group(document: &Value) -> Result<Said, String> {
    let name = text(document.get("displayName")).ok_or("it is a Group without displayName")?;
    let member = |one: &Value| {
        let is_group = one.get("type").is_some_and(|kind| kind == "Group");
        let subject = text(one.get("value"))?;
        let (role, target) = ("member".into(), Some(format!("group:{name}")));
        Some(Entitlement { subject, is_group, role, target, ..Entitlement::default() })
    };
    Ok(Said { entitlements: list(document, "members").filter_map(member).collect(), ..Said::default() })
}
