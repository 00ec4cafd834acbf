//! Documents of each form, and what is wrong with those that say nothing.

use super::*;

fn snapshots(form: Form, given: Given, documents: &[Value]) -> Result<Vec<Written>, String> {
    let mut all = Snapshots::new(form, given);
    documents.iter().try_for_each(|document| all.take(document))?;
    Ok(all.finish(|bytes| ledger::Hash::of(bytes).0))
}

fn given() -> Given {
    Given { tenant: Some("acme".into()), as_of: Some("2026-08-14".into()), ..Given::default() }
}

/// `subject role target` of what a snapshot holds.
fn held(written: &Written) -> Vec<String> {
    let events = written.events.iter().map(|event| serde_json::from_str::<Value>(event).unwrap());
    let observed = events.filter(|event| event["action"] == "entitlement.observed");
    let text = |value: &Value| value.as_str().unwrap_or("-").to_string();
    observed
        .map(|event| {
            let more = &event["attributes"];
            format!("{} {} {}", text(&event["resource"]["id"]), text(&more["role"]), text(&more["target"]))
        })
        .collect()
}

fn one(form: Form, document: Value) -> Vec<String> {
    let given = Given { part: Some("org".into()), ..given() };
    held(&snapshots(form, given, &[document]).unwrap()[0])
}

#[test]
fn organisations_kept_in_files() {
    let doc = json!({"admins": ["ann"], "members": ["Bob", 249043822, "Bob"], "teams": {
        "sig": {"maintainers": null, "members": ["bob"], "repos": {"site": "write"},
            "teams": {"leads": {"members": ["ann"]}}}}});
    let expected = [
        "249043822 member org",
        "Bob member org",
        "ann admin org",
        "ann member org/sig/leads",
        "bob member org/sig",
        "org/sig write repository:site",
    ];
    assert_eq!(one(Form::GithubOrg, doc.clone()), expected);
    let wrapped = |path: &str, doc: Value| json!({"path": path, "snapshot": "2018-10-01", "doc": doc});
    let parts = [
        wrapped("config/Org/org.yaml", json!({"admins": ["ann"], "members": []})),
        wrapped("config/Org/sig/teams.yaml", json!({"teams": {"sig": {"members": ["ann"]}}})),
        wrapped("config/closed/org.yaml", json!({"members": []})),
    ];
    let written = snapshots(Form::GithubOrg, Given::default(), &parts).unwrap();
    let [closed, org] = written.as_slice() else { panic!("{written:?}") };
    assert_eq!((org.tenant.as_str(), org.entitlements, org.as_of.as_str()), ("org", 2, "2018-10-01T00:00:00.000000Z"));
    // That nobody is there any more is said as well.
    assert_eq!((closed.entitlements, closed.events.len()), (0, 1));
    assert!(snapshots(Form::GithubOrg, given(), &[doc]).unwrap_err().contains("--part"));
}

#[test]
fn the_same_documents_give_the_same_events_in_whatever_order() {
    let documents =
        [json!({"subject": "ann", "role": "admin", "target": "billing"}), json!({"subject": "bob", "role": "x"})];
    let mut turned = documents.clone();
    turned.reverse();
    let of = |documents: &[Value]| snapshots(Form::Rows, given(), documents).unwrap();
    assert_eq!(of(&documents), of(&turned));
    let other = snapshots(Form::Rows, given(), &documents[..1]).unwrap();
    assert!(other[0].events.iter().all(|event| !of(&documents)[0].events.contains(event)));
}

#[test]
fn users_and_groups_of_scim() {
    let user = json!({"schemas": [scim_schema("User")], "id": "7", "userName": "bjensen", "active": false,
        "emails": [{"value": "babs@example.com"}], "roles": [{"value": "clerk"}], "groups": [{"value": "g1", "display": "Guides"}],
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"manager": {"value": "9"}}});
    let group = json!({"schemas": [scim_schema("Group")], "displayName": "Guides",
        "members": [{"value": "7"}, {"value": "g2", "type": "Group"}]});
    let list = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"], "Resources": [user, group]});
    let written = snapshots(Form::Scim, given(), &[list]).unwrap();
    assert_eq!(
        held(&written[0]),
        ["7 member group:Guides", "bjensen clerk -", "bjensen member group:Guides", "g2 member group:Guides"]
    );
    let subject: Value = serde_json::from_str(&written[0].events[0]).unwrap();
    assert_eq!(subject["action"], "subject.observed");
    let more = &subject["attributes"];
    assert_eq!(
        (&more["names"], &more["active"], &more["manager"]),
        (&json!(["7", "babs@example.com"]), &json!(false), &json!("9"))
    );
    // A page of more is not all that there is: it ends nothing.
    let page = json!({"totalResults": 100, "Resources": [{"userName": "ann", "roles": [{"value": "clerk"}]}]});
    let mut all = Snapshots::new(Form::Scim, given());
    all.take(&page).unwrap();
    assert!(all.is_partial().unwrap().contains("100, and 1 came"));
    let written = all.finish(|bytes| ledger::Hash::of(bytes).0);
    assert!(!written[0].events.iter().any(|event| event.contains("access.snapshot")));
    let refused = snapshots(Form::Scim, given(), &[json!({"schemas": ["urn:x"], "detail": "secret"})]).unwrap_err();
    assert!(refused.contains("no User, no Group") && !refused.contains("secret"));
}

fn scim_schema(name: &str) -> String {
    format!("urn:ietf:params:scim:schemas:core:2.0:{name}")
}

#[test]
fn users_groups_roles_and_policies_of_iam() {
    let arn = |what: &str| format!("arn:aws:iam::123456789012:{what}");
    let user = json!({"Arn": arn("user/ops/bob"), "UserName": "bob", "UserId": "AIDA1", "ManagedPolicyNames": ["ReadOnly"],
        "InlinePolicyNames": ["own"], "Groups": [{"GroupName": "admins"}],
        "CredentialReport": {"PasswordLastUsed": "2026-01-02T00:00:00Z", "AccessKey1LastUsedDate": "0001-01-01T00:00:00Z"}});
    let group = json!({"Arn": arn("group/admins"), "GroupName": "admins", "ManagedPolicyARNs": ["arn:aws:iam::aws:policy/p"],
        "Users": [{"UserName": "bob"}]});
    let trust = r#"{"Statement":[{"Effect":"Allow","Principal":{"AWS":["arn:x","arn:y"],"Service":"ec2.amazonaws.com"}},
        {"Effect":"Deny","Principal":"*"}]}"#;
    let role = json!({"Arn": arn("role/deployer"), "RoleName": "deployer", "AssumeRolePolicyDocument": trust,
        "InlinePolicies": {"put": {}}});
    let policy = json!({"Arn": arn("policy/p"), "PolicyName": "p", "Entities": {"PolicyUsers": [{"UserName": "bob"}],
        "PolicyRoles": [{"RoleName": "deployer"}], "PolicyGroups": null}});
    let given = Given { as_of: Some("2026-08-14".into()), ..Given::default() };
    let written = snapshots(Form::AwsIam, given.clone(), &[user, group, role, policy]).unwrap();
    let [written] = written.as_slice() else { panic!("{written:?}") };
    assert_eq!((written.tenant.as_str(), written.part.as_deref()), ("123456789012", Some("123456789012")));
    let mut expected = [
        "bob ReadOnly -",
        "bob own -",
        "bob member admins",
        "group:admins p -",
        "arn:x assume role:deployer",
        "arn:y assume role:deployer",
        "ec2.amazonaws.com assume role:deployer",
        "role:deployer put -",
        "bob p -",
        "role:deployer p -",
        "bob member admins",
    ];
    let mut found = held(written);
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
    assert!(written.events.iter().any(|event| event.contains("2026-01-02T00:00:00.000000Z")));
    for wrong in
        [json!({"Arn": arn("instance/i")}), json!({"UserName": "x"}), json!({"Arn": arn("user/x")}), json!([1])]
    {
        assert!(snapshots(Form::AwsIam, given.clone(), std::slice::from_ref(&wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn rows_say_what_is_wrong_with_them() {
    let row = json!({"subject": "ann", "role": "admin", "also": "a.smith; 17", "active": "no", "since": "2026-01-01",
        "tenant": "acme", "as_of": "2026-08-14T00:00:00+02:00"});
    let written = snapshots(Form::Rows, Given::default(), &[row]).unwrap();
    assert_eq!((written[0].as_of.as_str(), written[0].events.len()), ("2026-08-13T22:00:00.000000Z", 3));
    for (row, why) in [
        (json!({"subject": "ann", "rolle": "x"}), "no column \"rolle\""),
        (json!({"role": "x"}), "no subject"),
        (json!({"subject": "ann"}), "neither a role"),
        (json!({"subject": "ann", "role": ["admin"], "active": true}), "role is no text"),
        (json!({"subject": "ann", "role": "x", "since": "soon"}), "since is no"),
        (json!({"subject": "ann", "role": "x", "active": "maybe"}), "active is"),
        (json!({"subject": "ann", "role": "x", "kind": "robot"}), "kind is"),
        (json!({"subject": "ann", "role": "x", "as_of": "then"}), "was taken at"),
        (json!("ann"), "no object"),
    ] {
        let refused = snapshots(Form::Rows, given(), std::slice::from_ref(&row)).unwrap_err();
        assert!(refused.contains(why), "{row}: {refused}");
    }
    // A row that is not taken leaves the snapshot without its end; and that nobody is left is said.
    let ends = |rows: &[Value]| {
        let mut all = Snapshots::new(Form::Rows, given());
        rows.iter().for_each(|row| drop(all.take(row)));
        let written = all.finish(|bytes| ledger::Hash::of(bytes).0);
        written.iter().flat_map(|one| &one.events).filter(|event| event.contains("access.snapshot")).count()
    };
    let row = json!({"subject": "ann", "role": "x"});
    assert_eq!((ends(std::slice::from_ref(&row)), ends(&[row, json!({"role": "x"})]), ends(&[])), (1, 0, 1));
    let nobody = Given { as_of: Some("2026-08-14".into()), ..Given::default() };
    let refused = snapshots(Form::Rows, nobody, &[json!({"subject": "ann", "role": "x"})]).unwrap_err();
    assert!(refused.contains("--tenant"), "{refused}");
}
