//! One entitlement or subject a row, for every system that has no form of its own.
//!
//! A row with a role is an entitlement; one with what is known of the subject (`also`, `active`, `manager`, `contract_end`)
//! is that as well. A value that no column takes is an error: a column that is spelled wrong would be lost.

use super::{Entitlement, Said, Subject, text, time};
use serde_json::Value;

const COLUMNS: [&str; 15] = [
    "tenant",
    "part",
    "as_of",
    "subject",
    "kind",
    "role",
    "target",
    "since",
    "until",
    "approved_by",
    "last_used",
    "also",
    "active",
    "manager",
    "contract_end",
];

/// Reads a row.
pub(super) fn read(row: &Value) -> Result<Said, String> {
    let members = row.as_object().ok_or("it is no object")?;
    if let Some(unknown) = members.keys().find(|name| !COLUMNS.contains(&name.as_str())) {
        return Err(format!("there is no column {unknown:?}; known are {}", COLUMNS.join(", ")));
    }
    let is_odd = |(name, value): &(&String, &Value)| {
        (value.is_object() || value.is_array() || value.is_boolean()) && !["also", "active"].contains(&name.as_str())
    };
    if let Some((name, _)) = members.iter().find(is_odd) {
        return Err(format!("{name} is no text and no number"));
    }
    let get = |name: &str| text(members.get(name));
    let moment = |name: &str| {
        let given = get(name).map(|text| time(&text).ok_or(format!("{name} is no RFC 3339 time and no date")));
        given.transpose()
    };
    let subject = get("subject").ok_or("it names no subject")?;
    let is_group = match get("kind").as_deref() {
        None | Some("user") => false,
        Some("group") => true,
        Some(_) => return Err("kind is user or group".into()),
    };
    let also: Vec<String> = match members.get("also") {
        Some(Value::Array(names)) => names.iter().filter_map(|name| text(Some(name))).collect(),
        other => text(other).iter().flat_map(|names| names.split(';')).map(|name| name.trim().to_string()).collect(),
    };
    let active = match members.get("active") {
        None | Some(Value::Null) => None,
        Some(Value::Bool(active)) => Some(*active),
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::String(text)) if ["true", "yes"].contains(&text.to_lowercase().as_str()) => Some(true),
        Some(Value::String(text)) if ["false", "no"].contains(&text.to_lowercase().as_str()) => Some(false),
        Some(_) => return Err("active is true or false".into()),
    };
    let (manager, until) = (get("manager"), moment("contract_end")?);
    let mut said = Said { tenant: get("tenant"), part: get("part"), as_of: get("as_of"), ..Said::default() };
    if let Some(role) = get("role") {
        said.entitlements.push(Entitlement {
            subject: subject.clone(),
            is_group,
            role,
            target: get("target"),
            since: moment("since")?,
            until: moment("until")?,
            approver: get("approved_by"),
            last_used: moment("last_used")?,
        });
    }
    let names = also.into_iter().filter(|name| !name.is_empty()).collect();
    let known = Subject { subject, names, active, manager, until };
    let is_known =
        !known.names.is_empty() || known.active.is_some() || known.manager.is_some() || known.until.is_some();
    if is_known {
        said.subjects.push(known);
    }
    if said.entitlements.is_empty() && said.subjects.is_empty() {
        return Err("it has neither a role nor anything else about the subject".into());
    }
    Ok(said)
}
