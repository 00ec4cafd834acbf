//! What each role may do, as a table; and policies that deployers add.

use super::*;
use crate::registry::Stamp;
use crate::registry::change::{Change, GrantFact};

fn registry() -> Registry {
    let mut registry = Registry::default();
    let changes = [
        r#"{"change":"tenant.create","tenant":"platform"}"#,
        r#"{"change":"tenant.create","tenant":"acme","tier":"dedicated"}"#,
        r#"{"change":"principal.create","principal":"ada","kind":"user","home":"acme"}"#,
    ];
    for (seq, change) in changes.into_iter().enumerate() {
        let change: Change = serde_json::from_str(change).unwrap();
        let by = "administrator".parse().unwrap();
        registry.apply(Stamp { seq: seq as u64, at: 0, by, reason: String::new() }, &change);
    }
    registry
}

fn permits(policies: &Policies, role: &str, action: Action, stream: StreamKind, elevated: bool) -> bool {
    let (principal, tenant) = ("ada".parse().unwrap(), "acme".parse().unwrap());
    let role: Role = role.parse().unwrap();
    let granted: Role = "ingest-service".parse().unwrap();
    let granting =
        Granting { role: Some(&granted), kind: PrincipalKind::Service, own: true, is_self: false, subtree: false };
    let question = Question {
        principal: &principal,
        role: &role,
        action,
        tenant: &tenant,
        stream,
        elevated,
        purpose: "a test",
        method: "key",
        granting: action.is_of_grant().then_some(granting),
    };
    policies.permits(&registry(), &question)
}

/// The streams of which a role may read events.
fn reads(policies: &Policies, role: &str) -> Vec<&'static str> {
    let all = StreamKind::ALL.into_iter();
    all.filter(|stream| permits(policies, role, Action::ReadEvents, *stream, false)).map(StreamKind::as_str).collect()
}

#[test]
fn each_role_reads_what_it_is_for_and_nothing_else() {
    let policies = Policies::load(&[]).unwrap();
    for (role, streams) in [
        ("platform-administrator", &["control"][..]),
        ("platform-auditor", &["access", "control"]),
        ("security-analyst", &["audit", "telemetry", "access"]),
        ("sre", &["audit", "telemetry"]),
        ("support", &[]),
        ("compliance-officer", &["audit", "telemetry", "access"]),
        ("tenant-administrator", &["audit", "telemetry", "access"]),
        ("tenant-auditor", &["audit", "telemetry", "access"]),
        ("partner-administrator", &[]),
        ("external-auditor", &["audit", "telemetry", "access"]),
        ("ingest-service", &[]),
        ("retention-job", &[]),
        ("a-role-that-nobody-made", &[]),
    ] {
        assert_eq!(reads(&policies, role), streams, "{role}");
        assert!(role.starts_with("a-role") || policies.knows(&role.parse().unwrap()), "{role}");
        // Heads and proofs go with the events.
        for stream in StreamKind::ALL {
            let proofs = permits(&policies, role, Action::ReadProofs, stream, false);
            assert_eq!(proofs, streams.contains(&stream.as_str()), "{role} {stream}");
        }
        // Nobody but Piperoll writes where it alone writes.
        for stream in [StreamKind::Access, StreamKind::Control] {
            assert!(!permits(&policies, role, Action::AppendEvents, stream, false), "{role} {stream}");
        }
    }
}

#[test]
fn what_was_lent_for_a_while_hands_nothing_on() {
    let policies = Policies::load(&[]).unwrap();
    let may = |role, action, elevated| permits(&policies, role, action, StreamKind::Control, elevated);
    for role in ["platform-administrator", "tenant-administrator", "partner-administrator"] {
        for action in [Action::ManageGrants, Action::ManagePrincipals, Action::ManageCredentials] {
            assert!(may(role, action, false), "{role} {action:?}");
            assert!(!may(role, action, true), "{role} {action:?}");
        }
    }
    assert!(!may("tenant-administrator", Action::UnboundedGrants, false));
    assert!(may("support", Action::AskElevation, false) && !may("support", Action::DecideElevation, false));
}

#[test]
fn deployers_add_policies_that_fit_the_schema_and_no_others() {
    let file = |text: &str| [("own.cedar".to_string(), text.to_string())];
    let added = r#"@id("night") permit (principal in Role::"night-watch", action == Action::"events.read", resource)
        when { resource is Stream && resource.kind == "telemetry" };
        @id("no-keys-on-dedicated") forbid (principal, action == Action::"events.read", resource in Tenant::"acme")
        unless { context.method != "key" || principal.kind == "user" };"#;
    let policies = Policies::load(&file(added)).unwrap();
    assert_eq!(reads(&policies, "night-watch"), ["telemetry"]);
    assert!(policies.roles().contains(&"night-watch"));
    for (bad, says) in [
        ("permit (principal, action, resource", "malformed"),
        (r#"permit (principal, action == Action::"events.invent", resource);"#, "do not fit"),
        (
            r#"permit (principal, action == Action::"events.read", resource) when { resource.colour == "red" };"#,
            "do not fit",
        ),
        (r#"permit (principal == ?principal, action == Action::"tenant.read", resource);"#, "templates"),
        (r#"@id("sre") permit (principal in Role::"x", action == Action::"tenant.read", resource);"#, "malformed"),
    ] {
        let error = Policies::load(&file(bad)).err().unwrap().to_string();
        assert!(error.contains("own.cedar") && error.contains(says), "{bad}: {error}");
    }
}

#[test]
fn grants_keep_their_form() {
    let text = r#"{"principal":"ada","role":"sre","tenants":["acme"],"colour":"red"}"#;
    assert!(serde_json::from_str::<GrantFact>(text).is_err());
}

#[test]
fn the_default_policies_look_at_nothing_but_what_answers_are_kept_by() {
    // Named entities are roles and actions; of the resource its kind of stream; of how it is asked, what `Kept` holds.
    let code: String = DEFAULT.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    // Without what stands in quotes: names of roles and actions.
    let code: String = code.split('"').step_by(2).collect();
    for named in
        code.match_indices("::").map(|(at, _)| code[..at].rsplit(|c: char| !c.is_alphanumeric()).next().unwrap())
    {
        assert!(["Role", "Action"].contains(&named), "{named}");
    }
    let members = |of: &str| -> HashSet<String> {
        let after = code.match_indices(of).map(|(at, _)| &code[at + of.len()..]);
        after.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()).collect()
    };
    assert_eq!(members("resource."), HashSet::from(["kind".to_string()]));
    assert_eq!(members("principal."), HashSet::new());
    let asked = members("context.");
    for member in &asked {
        assert!(["elevated", "role", "kind", "own", "self", "subtree"].contains(&member.as_str()), "{member}");
    }
    assert!(!code.contains(" in resource") && !code.contains("resource in") && !code.contains("principal =="));
    // And what is kept is what is asked: with policies of a deployer nothing is kept, and answers are the same.
    let own = [("own.cedar".to_string(), r#"forbid (principal in Role::"nobody", action, resource);"#.to_string())];
    let (kept, asked) = (Policies::load(&[]).unwrap(), Policies::load(&own).unwrap());
    assert!(kept.kept.is_some() && asked.kept.is_none());
    for role in kept.roles() {
        for action in Action::ALL.iter().copied() {
            for stream in StreamKind::ALL {
                for elevated in [false, true] {
                    let answers = [0, 1].map(|_| permits(&kept, role, action, stream, elevated));
                    assert_eq!(
                        answers,
                        [permits(&asked, role, action, stream, elevated); 2],
                        "{role} {action:?} {stream}"
                    );
                }
            }
        }
    }
}
