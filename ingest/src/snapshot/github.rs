//! GitHub organisations kept in files, as Peribolos reads them: who is admin, member, and in which team.
//!
//! A document is an organisation's, a part of one (teams alone), or either in a wrapper with `path` (its second part is
//! the organisation), `snapshot` (when) and `doc`. Teams nest under `teams`.

use super::{Entitlement, Said, list, text};
use serde_json::Value;

/// Reads a document.
pub(super) fn read(document: &Value, part: Option<&str>) -> Result<Said, String> {
    let (doc, mut said) = match document.get("doc") {
        Some(doc) => {
            let path = document.get("path").and_then(Value::as_str).ok_or("it has doc and no path")?;
            let org = path.split('/').nth(1).ok_or("its path does not name an organisation")?.to_string();
            let as_of = text(document.get("snapshot")).or_else(|| text(document.get("committed_at")));
            (doc, Said { tenant: Some(org.to_lowercase()), part: Some(org), as_of, ..Said::default() })
        }
        None => {
            let org = part.ok_or("it does not say of which organisation it is: give --part")?.to_string();
            (document, Said { tenant: Some(org.to_lowercase()), part: Some(org), ..Said::default() })
        }
    };
    if !["admins", "members", "teams"].iter().any(|name| doc.get(name).is_some()) {
        return Err("it has none of admins, members and teams".into());
    }
    let org = said.part.clone().unwrap_or_default();
    for (name, role) in [("admins", "admin"), ("members", "member")] {
        said.entitlements.extend(logins(doc, name).map(|login| of(login, role, &org)));
    }
    teams(doc, &org, &mut said.entitlements);
    Ok(said)
}

fn logins<'d>(of: &'d Value, name: &str) -> impl Iterator<Item = String> + use<'d> {
    list(of, name).filter_map(|login| text(Some(login)))
}

fn of(subject: String, role: &str, target: &str) -> Entitlement {
    Entitlement { subject, role: role.into(), target: Some(target.into()), ..Entitlement::default() }
}

/// Teams and those in them; as deep as the document is, which its reader bounds.
fn teams(of_whom: &Value, path: &str, into: &mut Vec<Entitlement>) {
    for (name, team) in of_whom.get("teams").and_then(Value::as_object).into_iter().flatten() {
        let path = format!("{path}/{name}");
        for (list, role) in [("maintainers", "maintainer"), ("members", "member")] {
            into.extend(logins(team, list).map(|login| of(login, role, &path)));
        }
        for (repository, permission) in team.get("repos").and_then(Value::as_object).into_iter().flatten() {
            if let Some(role) = text(Some(permission)) {
                let target = format!("repository:{repository}");
                into.push(Entitlement { is_group: true, ..of(path.clone(), &role, &target) });
            }
        }
        teams(team, &path, into);
    }
}
