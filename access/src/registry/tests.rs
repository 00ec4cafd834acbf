//! The registry beside a plain model, and changes as entries and back.

use super::change::*;
use super::names::*;
use super::*;
use proptest::prelude::*;
use serde_json::json;

#[test]
fn a_snapshot_is_the_changes_alone_and_reads_back_to_the_same_registry() {
    let changes = [
        json!({"change": "tenant.create", "tenant": "acme", "store": "main"}),
        json!({"change": "principal.create", "principal": "ann", "kind": "user"}),
        json!({"change": "tenant.suspend", "tenant": "acme", "reason": "a \"quote\"\u{2028}"}),
    ];
    let (mut text, mut direct) = (SnapshotText::default(), Registry::default());
    for (change, seq) in changes.into_iter().zip([0, 4, 5]) {
        let change: Change = serde_json::from_value(change).unwrap();
        direct.apply(stamp(seq), &change);
        text.add(&stamp(seq), &change);
    }
    direct.pass(8);
    let root = ledger::Hash::of(b"root");
    let (bytes, hash) = text.finish(9, &root);
    assert_eq!((SnapshotText::head_of(&bytes).unwrap(), ledger::Hash::of(&bytes)), ((9, root), hash));
    let (again, read) = SnapshotText::open(&bytes).unwrap();
    assert_eq!((again, read), (text, direct));
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let swapped = [lines[0], lines[2], lines[1], lines[3]].concat();
    assert_eq!(SnapshotText::open(&swapped).unwrap_err().line, 3);
    for cut in 0..lines[0].len() - 1 {
        assert!(SnapshotText::open(&bytes[..cut]).is_err());
    }
    let beyond = String::from_utf8(bytes.clone()).unwrap().replace("\"size\":9", "\"size\":5");
    assert!(SnapshotText::open(beyond.as_bytes()).is_err());
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: impl AsRef<str>) -> T {
    text.as_ref().parse().unwrap()
}

fn stamp(seq: u64) -> Stamp {
    Stamp { seq, at: seq as i64 * 1_000_000, by: name("administrator"), reason: String::new() }
}

/// Something done to one of a few tenants, principals or grants.
#[derive(Debug, Clone)]
enum Step {
    Tenant { tenant: u8, parent: u8 },
    Grant { principal: u8, tenants: Vec<u8>, subtree: bool, role: u8, seconds: Option<u8> },
    Elevation { principal: u8, tenant: u8, minutes: u8 },
    Approve(u8),
    Revoke(u8),
    RevokeElevation(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..8u8, 0..9u8).prop_map(|(tenant, parent)| Step::Tenant { tenant, parent }),
        (0..4u8, proptest::collection::vec(0..9u8, 1..4), any::<bool>(), 0..3u8, proptest::option::of(0..90u8))
            .prop_map(|(principal, tenants, subtree, role, seconds)| Step::Grant {
                principal,
                tenants,
                subtree,
                role,
                seconds
            }),
        (0..4u8, 0..8u8, 1..3u8).prop_map(|(principal, tenant, minutes)| Step::Elevation {
            principal,
            tenant,
            minutes
        }),
        (0..20u8).prop_map(Step::Approve),
        (0..20u8).prop_map(Step::Revoke),
        (0..20u8).prop_map(Step::RevokeElevation),
    ]
}

fn tenant(n: u8) -> TenantId {
    name(if n == 8 { PLATFORM.to_string() } else { format!("t{n}") })
}

/// The model: every grant and elevation in a list, and the parent of each tenant.
#[derive(Default)]
struct Model {
    parents: Vec<(TenantId, TenantId)>,
    rights: Vec<ModelRight>,
}

struct ModelRight {
    id: String,
    principal: String,
    role: String,
    tenants: Vec<TenantId>,
    subtree: bool,
    from: Option<i64>,
    until: i64,
    ended: bool,
    minutes: i64,
}

impl Model {
    fn above(&self, tenant: &TenantId) -> Vec<TenantId> {
        let mut line = vec![tenant.clone()];
        while line.last().unwrap().as_str() != PLATFORM {
            let last = line.last().unwrap();
            let parent = self.parents.iter().find(|(child, _)| child == last).map(|(_, parent)| parent.clone());
            line.push(parent.unwrap_or_else(|| name(PLATFORM)));
        }
        line
    }

    fn rights(&self, principal: &str, tenant: &TenantId, now: i64) -> Vec<(String, String)> {
        let line = self.above(tenant);
        let holds = |right: &&ModelRight| {
            let reaches = right.tenants.contains(tenant)
                || right.subtree && right.tenants.iter().any(|named| line.contains(named));
            let from = right.from.is_some_and(|from| from <= now);
            right.principal == principal && reaches && from && now < right.until && !right.ended
        };
        let mut found: Vec<_> =
            self.rights.iter().filter(holds).map(|right| (right.id.clone(), right.role.clone())).collect();
        found.sort();
        found
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn rights_are_those_of_a_plain_list_and_entries_fold_to_the_same(steps in proptest::collection::vec(step(), 1..40)) {
        let (mut registry, mut model) = (Registry::default(), Model::default());
        let mut entries = Vec::new();
        let far = i64::MAX;
        let root = TenantFact { tenant: name(PLATFORM), name: String::new(), parent: None, tier: None, store: None, version: None };
        let mut make = |registry: &mut Registry, change: Change| {
            let seq = registry.size();
            entries.push(change.entry(format!("e-{seq}"), &Author::system(), 0).unwrap());
            registry.apply(stamp(seq), &change);
        };
        make(&mut registry, Change::CreateTenant(root));
        for (at, step) in steps.iter().enumerate() {
            let now = registry.size() as i64 * 1_000_000;
            match step {
                Step::Tenant { tenant: t, parent } => {
                    let (child, parent) = (tenant(*t), tenant(*parent));
                    if registry.tenant(&child).is_some() || registry.tenant(&parent).is_none() {
                        continue;
                    }
                    model.parents.push((child.clone(), parent.clone()));
                    let fact = TenantFact { tenant: child, name: String::new(), parent: Some(parent), tier: None, store: None, version: None };
                    make(&mut registry, Change::CreateTenant(fact));
                }
                Step::Grant { principal, tenants, subtree, role, seconds } => {
                    let tenants: Vec<TenantId> = tenants.iter().map(|n| tenant(*n)).collect();
                    let until = seconds.map(|seconds| now + i64::from(seconds) * 1_000_000);
                    let (id, principal, role) = (format!("g{at}"), format!("p{principal}"), format!("r{role}"));
                    let limits = GrantLimits { expires_at: until.map(When), ..GrantLimits::default() };
                    model.rights.push(ModelRight { id: id.clone(), principal: principal.clone(), role: role.clone(),
                        tenants: tenants.clone(), subtree: *subtree, from: Some(i64::MIN), until: until.unwrap_or(far), ended: false, minutes: 0 });
                    make(&mut registry, Change::CreateGrant(GrantFact { grant: Some(name(id)), principal: name(principal),
                        role: name(role), tenants, subtree: *subtree, limits }));
                }
                Step::Elevation { principal, tenant: t, minutes } => {
                    let (id, principal) = (format!("e{at}"), format!("p{principal}"));
                    model.rights.push(ModelRight { id: id.clone(), principal: principal.clone(), role: "lent".into(),
                        tenants: vec![tenant(*t)], subtree: false, from: None, until: far, ended: false, minutes: i64::from(*minutes) });
                    make(&mut registry, Change::AskElevation(ElevationFact { elevation: Some(name(id)), principal: Some(name(principal)),
                        role: name("lent"), tenants: vec![tenant(*t)], reason: "asked".into(), ticket: String::new(), minutes: u32::from(*minutes) }));
                }
                Step::Approve(which) => {
                    let id: FactId = name(format!("e{which}"));
                    let act = Change::ApproveElevation(FactAct { id: id.clone(), reason: "yes".into() });
                    if registry.check(&act, now).is_err() { continue }
                    let right = model.rights.iter_mut().find(|right| right.id == id.as_str()).unwrap();
                    right.from = Some(now);
                    right.until = now + right.minutes * 60_000_000;
                    make(&mut registry, act);
                }
                Step::Revoke(which) => {
                    let id: FactId = name(format!("g{which}"));
                    let act = Change::RevokeGrant(FactAct { id: id.clone(), reason: "over".into() });
                    if registry.check(&act, now).is_err() { continue }
                    model.rights.iter_mut().find(|right| right.id == id.as_str()).unwrap().ended = true;
                    make(&mut registry, act);
                }
                Step::RevokeElevation(which) => {
                    let id: FactId = name(format!("e{which}"));
                    let act = Change::RevokeElevation(FactAct { id: id.clone(), reason: "over".into() });
                    if registry.check(&act, now).is_err() { continue }
                    model.rights.iter_mut().find(|right| right.id == id.as_str()).unwrap().ended = true;
                    make(&mut registry, act);
                }
            }
            for principal in 0..4 {
                for t in 0..9 {
                    for now in [now, now + 30_000_000, now + 100_000_000, now + 300_000_000] {
                        let (principal, tenant) = (format!("p{principal}"), tenant(t));
                        let of: PrincipalId = name(&principal);
                        let mut found: Vec<(String, String)> = registry
                            .rights(&of, &tenant, now)
                            .map(|right| (right.id.to_string(), right.role.to_string()))
                            .collect();
                        found.sort();
                        found.dedup();
                        prop_assert_eq!(found, model.rights(&principal, &tenant, now), "{} {} {}", principal, tenant, now);
                    }
                }
            }
        }
        // What is written is what is read: the fold of the entries is the same registry.
        let mut folded = Registry::default();
        for (seq, mut entry) in entries.into_iter().enumerate() {
            entry.stamp(seq as i64 * 1_000_000);
            let (stamp, change) = Change::of_entry(seq as u64, &entry).unwrap().unwrap();
            folded.apply(Stamp { by: name("administrator"), ..stamp }, &change);
        }
        prop_assert_eq!(folded, registry);
    }
}

#[test]
fn changes_are_a_closed_form_that_says_what_is_wrong() {
    let read = |change: serde_json::Value| serde_json::from_value::<Change>(change).map_err(|e| e.to_string());
    let good = json!({"change": "grant.create", "principal": "a", "role": "sre", "tenants": ["acme"],
        "masked": ["actor"], "rows": {"business_unit": ["north"]}, "streams": ["audit"],
        "since": "2026-01-01T00:00:00Z", "expires_at": "2027-01-01T00:00:00Z"});
    let change = read(good.clone()).unwrap();
    assert_eq!(read(serde_json::to_value(&change).unwrap()).unwrap(), change);
    for (key, value, says) in [
        ("change", json!("grant.invent"), "grant.invent"),
        ("principal", json!("Upper"), "principal is malformed"),
        ("tenants", json!(["Acme"]), "tenant is malformed"),
        ("masked", json!(["skeleton"]), "section is malformed"),
        ("rows", json!({"colour": ["red"]}), "colour"),
        ("streams", json!(["logs"]), "stream is malformed"),
        ("since", json!("yesterday"), "time is malformed"),
        ("colour", json!("red"), "colour"),
    ] {
        let mut bad = good.clone();
        bad[key] = value;
        let error = read(bad).unwrap_err();
        assert!(error.contains(says), "{key}: {error}");
    }
}

#[test]
fn what_names_nothing_that_is_there_is_refused_with_its_reason() {
    let mut registry = Registry::default();
    let changes = [
        json!({"change": "tenant.create", "tenant": "platform"}),
        json!({"change": "tenant.create", "tenant": "acme"}),
        json!({"change": "principal.create", "principal": "ada", "kind": "user", "home": "acme"}),
    ];
    for (seq, change) in changes.into_iter().enumerate() {
        let change: Change = serde_json::from_value(change).unwrap();
        registry.check(&change, 0).unwrap();
        registry.apply(stamp(seq as u64), &change);
    }
    let version = registry.tenant(&name("acme")).unwrap().changed.seq;
    for (change, says, is_conflict) in [
        (json!({"change": "tenant.create", "tenant": "acme"}), "there is a tenant acme already", true),
        (json!({"change": "tenant.create", "tenant": "b", "parent": "nowhere"}), "no tenant nowhere", false),
        (json!({"change": "tenant.update", "tenant": "acme"}), "version must be 1", true),
        (json!({"change": "tenant.update", "tenant": "acme", "version": version, "parent": "acme"}), "parent", false),
        (json!({"change": "tenant.suspend", "tenant": "acme", "reason": " "}), "reason is required", false),
        (json!({"change": "tenant.suspend", "tenant": "platform", "reason": "x"}), "platform itself", false),
        (json!({"change": "tenant.resume", "tenant": "acme", "reason": "x"}), "not suspended", true),
        (json!({"change": "principal.create", "principal": "ada", "kind": "user"}), "already", true),
        (json!({"change": "credential.create", "principal": "eve"}), "no principal eve", false),
        (
            json!({"change": "credential.create", "principal": "ada", "expires_at": "1969-01-01T00:00:00Z"}),
            "future",
            false,
        ),
        (json!({"change": "credential.create", "principal": "ada", "replaces": "k1"}), "no credential k1", false),
        (json!({"change": "grant.create", "principal": "ada", "role": "sre", "tenants": []}), "1 to 1000", false),
        (
            json!({"change": "grant.create", "principal": "ada", "role": "sre", "tenants": ["acme"], "rows": {"client": []}}),
            "must name a value",
            false,
        ),
        (json!({"change": "elevation.approve", "id": "e1", "reason": "x"}), "no elevation e1", false),
        (
            json!({"change": "elevation.ask", "role": "sre", "tenants": ["acme"], "reason": "x", "minutes": 0}),
            "minutes",
            false,
        ),
        (json!({"change": "quota.set", "tenant": "acme", "tier": "shared", "reason": "x"}), "either", false),
        (json!({"change": "credential.secret", "credential": "k1", "sha256": "00"}), "service itself", false),
    ] {
        let parsed: Change = serde_json::from_value(change.clone()).unwrap();
        let refusal = registry.check(&parsed, 0).unwrap_err();
        assert!(refusal.why.contains(says) && refusal.is_conflict == is_conflict, "{change}: {refusal}");
    }
}
