//! The keys that the ledger's stores were and are signed with, as the registry keeps them: which, since when, on whose word.
//!
//! Not here: handing over (`ledger_store`), who asks for it (`crate::door`). Invariants: a key of a store is noted once; what
//! stands here is what the store's own records say.

use super::Registry;
use super::Stamp;
use super::change::{Change, SignsFact};
use super::check::{Checked, reason, wrong};
use super::rows::{Columns, Row, time};
use std::collections::BTreeMap;

/// The columns.
pub(super) const COLUMNS: &str = "store number vkey state since_at until_at rotated_at rotated_by reason";

/// The keys of all stores.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerKeys {
    /// By store and number.
    known: BTreeMap<(String, u64), Known>,
    /// Who asked last that another one sign.
    asked: Option<Stamp>,
    /// Since when those of before do not sign along any more.
    retired: Option<Stamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    vkey: String,
    since: Option<i64>,
    /// Who wanted it, if it was asked for here.
    asked: Option<Stamp>,
}

impl Change {
    /// Whether it is about the ledger's own keys.
    pub(crate) fn is_of_ledger_keys(&self) -> bool {
        matches!(self, Self::RotateLedgerKey(_) | Self::RetireLedgerKeys(_) | Self::LedgerKeySigns(_))
    }

    /// The name of such a change.
    pub(super) fn ledger_key_name(&self) -> &'static str {
        match self {
            Self::RotateLedgerKey(_) => "ledger_key.rotate",
            Self::RetireLedgerKeys(_) => "ledger_key.retire",
            _ => "ledger_key.signs",
        }
    }
}

impl Registry {
    /// How many keys of a store stand on record.
    pub(crate) fn ledger_keys_of(&self, store: &str) -> u64 {
        self.ledger_keys.known.range((store.to_string(), 0)..=(store.to_string(), u64::MAX)).count() as u64
    }

    pub(super) fn check_ledger_keys(&self, change: &Change) -> Checked {
        match change {
            Change::RotateLedgerKey(act) | Change::RetireLedgerKeys(act) => reason(&act.reason),
            _ => Err(wrong("this is written by the service itself")),
        }
    }

    pub(super) fn apply_to_ledger_keys(&mut self, stamp: Stamp, change: &Change) {
        let keys = &mut self.ledger_keys;
        match change {
            Change::RotateLedgerKey(act) => keys.asked = Some(Stamp { reason: act.reason.clone(), ..stamp }),
            Change::RetireLedgerKeys(act) => keys.retired = Some(Stamp { reason: act.reason.clone(), ..stamp }),
            Change::LedgerKeySigns(SignsFact { store, number, vkey, since }) => {
                let asked = keys.asked.clone().filter(|asked| since.is_some_and(|since| asked.at <= since.0));
                let known = Known { vkey: vkey.clone(), since: since.map(|since| since.0), asked };
                keys.known.entry((store.clone(), *number)).or_insert(known);
            }
            _ => {}
        }
    }

    pub(super) fn ledger_key_rows(&self) -> Vec<Row> {
        let keys = &self.ledger_keys;
        let row = |((store, number), known): (&(String, u64), &Known)| {
            let next = keys.known.get(&(store.clone(), number + 1));
            let is_retired = |next: &Known| keys.retired.as_ref().is_some_and(|retired| Some(retired.at) >= next.since);
            let state = match next {
                None => "signs",
                Some(next) if is_retired(next) => "retired",
                Some(_) => "signs along",
            };
            let mut columns = Columns::new();
            columns.insert("store".into(), store.as_str().into());
            columns.insert("number".into(), number.to_string().into());
            columns.insert("vkey".into(), known.vkey.as_str().into());
            columns.insert("state".into(), state.into());
            for (name, at) in [("since_at", known.since), ("until_at", next.and_then(|next| next.since))] {
                if let Some(at) = at {
                    columns.insert(name.into(), time(at));
                }
            }
            if let Some(asked) = &known.asked {
                super::rows::done(&mut columns, "rotated", asked);
                columns.insert("reason".into(), asked.reason.as_str().into());
            }
            Row { tenants: vec![], columns }
        };
        keys.known.iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::change::Why;
    use crate::registry::names::When;

    #[test]
    fn keys_are_dated_and_say_on_whose_word() {
        let mut registry = Registry::default();
        let stamp = |seq: u64| Stamp { seq, at: seq as i64 * 10, by: "a".parse().unwrap(), reason: String::new() };
        let signs = |number, since| {
            let (store, vkey) = ("main".to_string(), format!("key-{number}"));
            Change::LedgerKeySigns(SignsFact { store, number, vkey, since: Some(When(since)) })
        };
        let why = || Why { reason: "yearly".into() };
        registry.apply(stamp(1), &signs(1, 5));
        registry.apply(stamp(2), &Change::RotateLedgerKey(why()));
        registry.apply(stamp(3), &signs(2, 25));
        registry.apply(stamp(4), &signs(2, 99));
        let shown = |registry: &Registry| -> Vec<String> {
            let rows = registry.ledger_key_rows();
            rows.iter().map(|row| format!("{} {}", row.columns["vkey"], row.columns["state"])).collect()
        };
        assert_eq!(shown(&registry), ["\"key-1\" \"signs along\"", "\"key-2\" \"signs\""]);
        assert_eq!(registry.ledger_key_rows()[1].columns["reason"], "yearly");
        registry.apply(stamp(5), &Change::RetireLedgerKeys(why()));
        assert_eq!(shown(&registry), ["\"key-1\" \"retired\"", "\"key-2\" \"signs\""]);
        // A key that was put into the file by hand was asked for by nobody here.
        registry.apply(stamp(6), &signs(3, 15));
        assert!(!registry.ledger_key_rows()[2].columns.contains_key("reason"));
        assert_eq!(registry.ledger_keys_of("main"), 3);
        assert!(registry.check(&signs(4, 1), 0).is_err());
        assert!(registry.check(&Change::RotateLedgerKey(Why { reason: String::new() }), 0).is_err());
    }
}
