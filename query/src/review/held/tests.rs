//! The fold against what a reader of the entries would say.

use super::*;

fn at(at: i64, fact: Fact) -> Told {
    Told { tenant: "acme".into(), seq: at as u64, at, by: Some("admin".into()), fact }
}

fn right(role: &str, target: Option<&str>) -> Right {
    Right { source: "github".into(), role: role.into(), target: target.map(str::to_string) }
}

fn grant(subject: &str, role: &str, target: &str) -> Fact {
    let (right, approval) = (right(role, Some(target)), Some("apr-1".into()));
    Fact::Grant { subject: subject.into(), right, until: None, approver: None, approval }
}

fn revoke(subject: &str, role: Option<&str>, target: &str) -> Fact {
    let (source, role) = ("github".into(), role.map(str::to_string));
    Fact::Revoke { subject: subject.into(), source, role, target: Some(target.into()) }
}

fn seen(snapshot: &str, part: &str, subject: &str, role: &str, target: &str) -> Fact {
    Fact::Observed(Box::new(Observed {
        snapshot: snapshot.into(),
        part: Some(part.into()),
        subject: subject.into(),
        is_group: false,
        right: right(role, Some(target)),
        since: None,
        until: None,
        approver: None,
        last_used: None,
    }))
}

fn end(snapshot: &str, part: &str, entitlements: u64) -> Fact {
    let (source, part) = ("github".into(), Some(part.into()));
    Fact::Snapshot { source, snapshot: snapshot.into(), part, entitlements }
}

/// Who has what, as text.
fn held(told: Vec<Told>) -> Vec<String> {
    shown(&Held::of(&ReviewRules::default(), told))
}

fn shown(held: &Held) -> Vec<String> {
    let names = held.people.all_names();
    let text = |((who, right), holding): (&(Who, Right), &Holding)| {
        let since = if holding.is_granted { "granted" } else { "seen" };
        format!("{} {} {} {since} {}", names[who].0, right.role, right.target.as_deref().unwrap_or("-"), holding.since)
    };
    held.holdings.iter().map(text).collect()
}

#[test]
fn grants_and_revocations_in_order_of_time() {
    let told = vec![
        at(5, revoke("ann", Some("member"), "org")),
        at(1, grant("Ann", "member", "org")),
        at(2, grant("bob", "member", "org")),
        at(3, grant("ann", "admin", "org")),
        at(4, grant("bob", "member", "org")),
    ];
    assert_eq!(
        held(told),
        ["bob member org granted 2", "ann admin org granted 3"]
            .iter()
            .map(ToString::to_string)
            .rev()
            .collect::<Vec<_>>()
    );
    // Without a role, everything on the target goes; of others and elsewhere nothing does.
    let told = vec![
        at(1, grant("ann", "member", "org")),
        at(2, grant("ann", "admin", "org")),
        at(3, grant("ann", "member", "org/team")),
        at(4, grant("bob", "member", "org")),
        at(5, revoke("ann", None, "org")),
    ];
    assert_eq!(held(told), ["ann member org/team granted 3", "bob member org granted 4"]);
}

#[test]
fn a_snapshot_shows_all_there_is_in_its_part() {
    let told = vec![
        at(1, grant("ann", "member", "org")),
        at(1, grant("zoe", "member", "other")),
        at(2, seen("s1", "org", "bob", "member", "org")),
        at(2, seen("s1", "org", "cid", "admin", "org")),
        at(2, end("s1", "org", 2)),
        at(3, seen("s2", "org", "bob", "admin", "org")),
        at(3, seen("s2", "org", "cid", "admin", "org")),
        at(3, end("s2", "org", 2)),
    ];
    let held = Held::of(&ReviewRules::default(), told);
    assert_eq!(shown(&held), ["zoe member other granted 1", "bob admin org seen 3", "cid admin org seen 2"]);
    let [step] = held.steps.as_slice() else { panic!("{:?}", held.steps) };
    assert_eq!((step.from, step.to, step.before.len(), step.now.len()), (2, 3, 2, 2));
    assert_eq!((held.incomplete.len(), held.said.len()), (0, 2));
}

#[test]
fn a_snapshot_that_did_not_arrive_whole_ends_nothing() {
    let told = |entitlements| {
        vec![
            at(1, grant("ann", "member", "org")),
            at(2, seen("s1", "org", "bob", "member", "org")),
            at(2, end("s1", "org", entitlements)),
        ]
    };
    let partial = Held::of(&ReviewRules::default(), told(2));
    assert_eq!(shown(&partial), ["ann member org granted 1", "bob member org seen 2"]);
    assert_eq!(partial.incomplete, [("github".to_string(), "s1".to_string(), 1)]);
    assert_eq!(held(told(1)), ["bob member org seen 2"]);
    // Its end never came.
    let mut open = told(1);
    open.pop();
    let open = Held::of(&ReviewRules::default(), open);
    assert_eq!((shown(&open).len(), open.incomplete.len()), (2, 1));
}

#[test]
fn who_is_called_otherwise_keeps_what_they_have() {
    let rename = Fact::Rename { from: "ann".into(), to: "ann.smith".into() };
    let told = vec![
        at(1, grant("ann", "member", "org")),
        at(2, rename),
        at(3, seen("s1", "org", "Ann.Smith", "member", "org")),
        at(3, end("s1", "org", 1)),
    ];
    assert_eq!(held(told), ["ann.smith member org granted 1"]);
}

#[test]
fn what_was_revoked_and_is_there_again_came_back() {
    let told = vec![
        at(1, grant("ann", "member", "org")),
        at(2, revoke("ann", Some("member"), "org")),
        at(3, seen("s1", "org", "ann", "member", "org")),
        at(3, end("s1", "org", 1)),
    ];
    let held = Held::of(&ReviewRules::default(), told);
    assert!(held.holdings.values().all(|holding| holding.came_back && !holding.is_granted));
    assert_eq!(shown(&held), ["ann member org seen 3"]);
}

#[test]
fn who_left_and_came_back_is_there() {
    let leave = || Fact::Leave { subject: "ann".into() };
    let back = Fact::Return { subject: "ANN".into() };
    let left = |told| {
        let held = Held::of(&ReviewRules::default(), told);
        held.persons.values().filter_map(|person| person.left).collect::<Vec<_>>()
    };
    assert_eq!(left(vec![at(1, leave()), at(2, leave())]), [(1, 1)]);
    assert_eq!(left(vec![at(1, leave()), at(2, back)]), []);
}
