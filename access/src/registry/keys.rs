//! Tenants' keys as the registry keeps them: which there are, in which state, and as the provider wrapped them.
//!
//! Not here: the keys themselves ([`crate::keys`]), what is encrypted under them (`ledger-store`).
//!
//! Invariants: a tenant has at most one key that is written under; keys are destroyed on the word of two people, never
//! while a hold holds anything of the tenant, and no hold is set on them once it is under way; a destroyed key stays
//! destroyed.

use super::change::{Change, KeyFact, Tier};
use super::check::{Checked, conflict, reason, require, wrong};
use super::names::FactId;
use super::rows::{Columns, Row, done};
use super::{PLATFORM, Registry, Stamp};
use ledger::name::TenantId;

/// How long the first of two people's word for a destruction stands: a week.
const WORD_MICROS: i64 = 7 * 86_400_000_000;
/// The columns of keys.
pub(super) const COLUMNS: &str = "key tenant provider state reason created_at created_by rotated_at rotated_by \
     disabled_at disabled_by destroying_at destroying_by destroyed_at destroyed_by";

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its id.
    pub id: FactId,
    /// Who wrapped it.
    pub provider: String,
    /// As it was wrapped; empty once it was destroyed.
    pub wrapped: String,
    /// Its making.
    pub made: Stamp,
    /// When another took its place.
    pub rotated: Option<Stamp>,
    /// When it was destroyed.
    pub destroyed: Option<Stamp>,
}

/// A tenant's keys, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantKeys {
    /// All that there ever were.
    pub keys: Vec<Key>,
    /// Since when nothing is read or taken, if so.
    pub disabled: Option<Stamp>,
    /// The first of two people who want them destroyed.
    pub word: Option<Stamp>,
    /// The intent to destroy them.
    pub destroying: Option<Stamp>,
}

impl TenantKeys {
    /// The key that is written under, if there is one.
    pub fn current(&self) -> Option<&Key> {
        self.keys.last().filter(|key| key.destroyed.is_none())
    }

    /// The destruction that was carried out last, if no key was made since.
    pub fn destroyed(&self) -> Option<&Stamp> {
        self.keys.last().and_then(|key| key.destroyed.as_ref())
    }

    fn state(&self, key: &Key) -> &'static str {
        match (&key.destroyed, &self.destroying, &self.disabled, &key.rotated) {
            (Some(_), ..) => "destroyed",
            (None, Some(_), ..) => "destroying",
            (None, None, Some(_), _) => "disabled",
            (None, None, None, Some(_)) => "rotated",
            _ => "current",
        }
    }
}

impl Change {
    /// Whether it is about tenants' keys.
    pub(crate) fn is_of_keys(&self) -> bool {
        self.keyed().is_some()
    }

    /// The tenant whose keys it is about.
    pub(crate) fn keyed(&self) -> Option<&TenantId> {
        match self {
            Self::CreateKey(fact) | Self::RotateKey(fact) => Some(&fact.tenant),
            Self::DisableKey(act) | Self::EnableKey(act) | Self::DestroyKey(act) | Self::EraseKey(act) => {
                Some(&act.tenant)
            }
            _ => None,
        }
    }
}

impl Registry {
    /// A tenant's keys, if it ever had one.
    pub fn keys_of(&self, tenant: &TenantId) -> Option<&TenantKeys> {
        self.keys.get(tenant)
    }

    /// Every tenant that ever had a key.
    pub fn keyed(&self) -> impl Iterator<Item = (&TenantId, &TenantKeys)> {
        self.keys.iter()
    }

    /// The tenants that are to have a key and never had one: those with keys of their own by their tier, or all.
    pub fn wants_key(&self, all: bool) -> impl Iterator<Item = &TenantId> {
        let wants = move |tenant: &super::Tenant| all || tenant.tier() != Tier::Shared;
        let never = |tenant: &&TenantId| tenant.as_str() != PLATFORM && !self.keys.contains_key(*tenant);
        self.tenants.iter().filter(move |(_, tenant)| wants(tenant)).map(|(tenant, _)| tenant).filter(never)
    }

    pub(super) fn check_keys(&self, change: &Change) -> Checked {
        let nobody = TenantKeys::default();
        let Some(tenant) = change.keyed() else { return Ok(()) };
        self.need_tenant(tenant)?;
        let found = self.keys.get(tenant).unwrap_or(&nobody);
        let needs = || require(found.current().is_some(), || wrong(format!("{tenant} has no key")));
        require(found.destroying.is_none(), || conflict("its keys are being destroyed"))?;
        match change {
            Change::CreateKey(KeyFact { reason: why, .. }) => {
                reason(why)?;
                let is_tenant = tenant.as_str() != PLATFORM;
                require(is_tenant, || wrong("the platform's own streams hold what keys are known by: they have none"))?;
                require(found.current().is_none(), || conflict("it has a key already: rotate it"))
            }
            Change::RotateKey(KeyFact { reason: why, .. }) => {
                reason(why)?;
                needs()
            }
            Change::DisableKey(act) => {
                reason(&act.reason)?;
                needs()?;
                require(found.disabled.is_none(), || conflict("they are disabled already"))
            }
            Change::EnableKey(act) => {
                reason(&act.reason)?;
                needs()?;
                require(found.disabled.is_some(), || conflict("they are not disabled"))
            }
            Change::DestroyKey(act) => {
                reason(&act.reason)?;
                needs()?;
                self.check_no_hold(tenant)
            }
            _ => Err(wrong("this is written by the service itself")),
        }
    }

    fn check_no_hold(&self, tenant: &TenantId) -> Checked {
        let holding = self.holds().find(|(_, hold)| self.is_within(tenant, &hold.fact.tenant));
        match holding {
            Some((id, _)) => Err(conflict(format!("the hold {id} holds something of {tenant}: release it first"))),
            None => Ok(()),
        }
    }

    /// Whether a hold may be set on a tenant: not on what is being destroyed.
    pub(super) fn check_not_destroying(&self, tenant: &TenantId) -> Checked {
        let is_it = |(of, keys): &(&TenantId, &TenantKeys)| keys.destroying.is_some() && self.is_within(of, tenant);
        match self.keys.iter().find(is_it) {
            Some((of, _)) => Err(conflict(format!("the keys of {of} are being destroyed"))),
            None => Ok(()),
        }
    }

    /// Whether somebody gave the first of two words for a destruction, and it still stands.
    pub fn word_to_destroy(&self, tenant: &TenantId, now: i64) -> Option<&Stamp> {
        self.keys.get(tenant)?.word.as_ref().filter(|word| now - word.at < WORD_MICROS)
    }

    pub(super) fn apply_to_keys(&mut self, stamp: Stamp, change: &Change) {
        let Some(tenant) = change.keyed() else { return };
        let found = self.keys.entry(tenant.clone()).or_default();
        let because = |reason: &String| Stamp { reason: reason.clone(), ..stamp.clone() };
        match change {
            Change::CreateKey(fact) | Change::RotateKey(fact) => {
                let Some(id) = fact.key.clone() else { return };
                let made = because(&fact.reason);
                if let Some(before) = found.keys.last_mut().filter(|key| key.destroyed.is_none()) {
                    before.rotated.get_or_insert(made.clone());
                }
                let (provider, wrapped) = (fact.provider.clone(), fact.wrapped.clone());
                found.keys.push(Key { id, provider, wrapped, made, rotated: None, destroyed: None });
            }
            Change::DisableKey(act) => found.disabled = Some(because(&act.reason)),
            Change::EnableKey(_) => found.disabled = None,
            Change::DestroyKey(act) => {
                let said = because(&act.reason);
                let stands = found.word.take().filter(|word| said.at - word.at < WORD_MICROS);
                match stands {
                    Some(word) if word.by != said.by => {
                        found.destroying.get_or_insert(said);
                    }
                    _ => found.word = Some(said),
                }
            }
            Change::EraseKey(_) => {
                // Whose word it was, and not that the service carried it out.
                let by = found.destroying.take().unwrap_or_else(|| stamp.clone());
                for key in found.keys.iter_mut().filter(|key| key.destroyed.is_none()) {
                    key.wrapped.clear();
                    key.destroyed = Some(Stamp { at: stamp.at, seq: stamp.seq, ..by.clone() });
                }
                (found.word, found.disabled) = (None, None);
            }
            _ => {}
        }
    }

    pub(super) fn key_rows(&self) -> Vec<Row> {
        let of = |(tenant, keys): (&TenantId, &TenantKeys)| {
            keys.keys.iter().map(|key| row(tenant, keys, key)).collect::<Vec<_>>()
        };
        self.keys.iter().flat_map(of).collect()
    }
}

fn row(tenant: &TenantId, keys: &TenantKeys, key: &Key) -> Row {
    let mut columns = Columns::new();
    columns.insert("key".into(), key.id.as_str().into());
    columns.insert("tenant".into(), tenant.as_str().into());
    columns.insert("provider".into(), key.provider.as_str().into());
    columns.insert("state".into(), keys.state(key).into());
    columns.insert("reason".into(), key.made.reason.as_str().into());
    done(&mut columns, "created", &key.made);
    let lives = key.destroyed.is_none();
    let stamps = [
        ("rotated", key.rotated.as_ref()),
        ("disabled", keys.disabled.as_ref().filter(|_| lives)),
        ("destroying", keys.destroying.as_ref().filter(|_| lives)),
        ("destroyed", key.destroyed.as_ref()),
    ];
    for (what, stamp) in stamps {
        if let Some(stamp) = stamp {
            done(&mut columns, what, stamp);
        }
    }
    Row { tenants: vec![tenant.clone()], columns }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::change::{FactAct, HoldFact, TenantAct, TenantFact};

    fn stamp(seq: u64, by: &str) -> Stamp {
        Stamp { seq, at: seq as i64 * 1_000_000, by: by.parse().unwrap(), reason: String::new() }
    }

    fn acme() -> TenantId {
        "acme".parse().unwrap()
    }

    fn registry() -> Registry {
        let mut registry = Registry::default();
        let fact = |tenant: &str| TenantFact {
            tenant: tenant.parse().unwrap(),
            name: String::new(),
            parent: None,
            tier: None,
            store: None,
            version: None,
        };
        registry.apply(stamp(0, "a"), &Change::CreateTenant(fact(PLATFORM)));
        registry.apply(stamp(1, "a"), &Change::CreateTenant(fact("acme")));
        registry
    }

    fn made(key: &str) -> KeyFact {
        let (provider, wrapped) = ("keyring".to_string(), "wrapped".to_string());
        KeyFact { tenant: acme(), key: Some(key.parse().unwrap()), provider, wrapped, reason: "needed".into() }
    }

    fn act() -> TenantAct {
        TenantAct { tenant: acme(), reason: "the contract ended".into() }
    }

    #[test]
    fn keys_go_on_the_word_of_two_and_stay_gone() {
        let mut registry = registry();
        assert!(registry.check(&Change::RotateKey(made("k1")), 0).is_err(), "none to rotate");
        registry.apply(stamp(2, "a"), &Change::CreateKey(made("k1")));
        assert!(registry.check(&Change::CreateKey(made("k2")), 0).is_err(), "one already");
        registry.apply(stamp(3, "a"), &Change::RotateKey(made("k2")));
        let destroy = Change::DestroyKey(act());
        assert!(registry.check(&destroy, 0).is_ok());
        registry.apply(stamp(4, "a"), &destroy);
        registry.apply(stamp(5, "a"), &destroy);
        assert!(registry.keys_of(&acme()).unwrap().destroying.is_none(), "one person twice is one person");
        let late = Stamp { at: stamp(5, "b").at + WORD_MICROS, ..stamp(6, "b") };
        let mut other = registry.clone();
        other.apply(late, &destroy);
        assert!(other.keys_of(&acme()).unwrap().destroying.is_none(), "a word stands for a week");
        registry.apply(stamp(6, "b"), &destroy);
        assert!(registry.keys_of(&acme()).unwrap().destroying.is_some());
        assert!(registry.check(&destroy, 0).is_err() && registry.check(&Change::RotateKey(made("k3")), 0).is_err());
        registry.apply(stamp(7, "piperoll"), &Change::EraseKey(act()));
        let keys = registry.keys_of(&acme()).unwrap();
        assert!(keys.current().is_none() && keys.keys.iter().all(|key| key.wrapped.is_empty()));
        assert_eq!(keys.destroyed().unwrap().by.as_str(), "b");
        let states: Vec<_> = registry.key_rows().iter().map(|row| row.columns["state"].clone()).collect();
        assert_eq!(states, ["destroyed", "destroyed"]);
        assert!(!format!("{:?}", registry.key_rows()).contains("wrapped"));
        assert!(registry.check(&Change::CreateKey(made("k3")), 0).is_ok(), "another may follow");
    }

    #[test]
    fn a_hold_keeps_keys_from_being_destroyed_and_the_other_way_round() {
        let mut registry = registry();
        registry.apply(stamp(2, "a"), &Change::CreateKey(made("k1")));
        let hold: HoldFact = serde_json::from_value(serde_json::json!({"hold": "h1", "tenant": PLATFORM,
            "matter": "case 7", "reason": "asked for"}))
        .unwrap();
        registry.apply(stamp(3, "a"), &Change::SetHold(hold.clone()));
        let refused = registry.check(&Change::DestroyKey(act()), 0).unwrap_err();
        assert!(refused.is_conflict && refused.why.contains("h1"), "{refused}");
        let release = FactAct { id: "h1".parse().unwrap(), reason: "over".into() };
        registry.apply(stamp(4, "a"), &Change::ReleaseHold(release));
        for (seq, by) in [(5, "a"), (6, "b")] {
            assert!(registry.check(&Change::DestroyKey(act()), 0).is_ok());
            registry.apply(stamp(seq, by), &Change::DestroyKey(act()));
        }
        assert!(registry.check(&Change::SetHold(hold), 0).unwrap_err().why.contains("being destroyed"));
    }
}
