//! How far each stream was found sound, as text: what the job keeps from run to run.
//!
//! A line for each stream: tenant, kind, size, root, commits, SHA-256 of the last commit, and when all of it was read last.
//! Not here: where it lies and which hash says that it is this (`access::Door::keep_memo`). Invariant: the same heads give the
//! same text.

use super::Named;
use ledger::Hash;
use ledger_store::Checked;
use std::collections::BTreeMap;
use std::fmt::Write as _;

const TAG: &str = "piperoll-checked/v1";

/// How far a stream was found sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Up to where.
    pub checked: Checked,
    /// When all of it was read last, in microseconds.
    pub whole_at: i64,
}

/// How far each stream was found sound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heads(BTreeMap<Named, Known>);

impl Heads {
    /// Reads what [`Heads::to_text`] wrote.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(bytes).ok()?.lines();
        (lines.next() == Some(TAG)).then_some(())?;
        let of_line = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let [tenant, kind, size, root, commits, last, whole_at] = words[..] else { return None };
            let (root, last) = (Hash::from_base64(root)?, Hash::from_base64(last)?);
            let checked = Checked { size: size.parse().ok()?, root, commits: commits.parse().ok()?, last };
            Some(((tenant.parse().ok()?, kind.parse().ok()?), Known { checked, whole_at: whole_at.parse().ok()? }))
        };
        lines.map(of_line).collect::<Option<_>>().map(Self)
    }

    /// As text.
    pub fn to_text(&self) -> String {
        let mut text = format!("{TAG}\n");
        for ((tenant, kind), Known { checked, whole_at }) in &self.0 {
            let Checked { size, root, commits, last } = checked;
            let _ = writeln!(text, "{tenant} {kind} {size} {root} {commits} {last} {whole_at}");
        }
        text
    }

    /// How far a stream was found sound.
    pub fn of(&self, named: &Named) -> Option<Known> {
        self.0.get(named).copied()
    }

    /// Notes how far a stream was found sound.
    pub fn put(&mut self, named: Named, known: Known) {
        self.0.insert(named, known);
    }

    /// The streams of which that is known.
    pub fn names(&self) -> impl Iterator<Item = &Named> {
        self.0.keys()
    }

    /// When the stream was read whole for which that is longest ago.
    pub fn oldest(&self) -> Option<i64> {
        self.0.values().map(|known| known.whole_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::StreamKind;

    #[test]
    fn heads_are_a_text_and_read_back() {
        let mut heads = Heads::default();
        for (name, kind) in [("globex", StreamKind::Audit), ("acme", StreamKind::Access), ("acme", StreamKind::Audit)] {
            let checked = Checked { size: 7, root: Hash::of(b"root"), commits: 2, last: Hash::of(b"last") };
            heads.put((name.parse().unwrap(), kind), Known { checked, whole_at: 9 });
        }
        let text = heads.to_text();
        assert_eq!(Heads::read(text.as_bytes()), Some(heads));
        assert!(text.lines().nth(1).unwrap().starts_with("acme "), "{text}");
        for wrong in [text.replace("/v1", "/v2"), text.replace(" 7 ", " seven "), text.replace(" 9\n", "\n")] {
            assert_eq!(Heads::read(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
