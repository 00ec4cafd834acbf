//! Patterns with a star, and tables from them to values.
//!
//! A pattern is a text in which every `*` stands for any run of characters, none included; there is no
//! escape, because no value of a shipped source holds a star that matters. Not here: which table is asked for
//! what ([`super::rule`]).
//!
//! Invariant: the answer of a table does not depend on the order it was written in: an exact key wins, then
//! the pattern with most characters beside its stars, then the first in byte order.

use std::collections::HashMap;

/// A text with stars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Box<str>);

impl Pattern {
    /// Any text is a pattern.
    pub(super) fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Whether the whole of `value` fits.
    pub(super) fn fits(&self, value: &str) -> bool {
        access::pattern::fits(&self.0, value)
    }

    fn weight(&self) -> usize {
        self.0.bytes().filter(|b| *b != b'*').count()
    }
}

/// From source values to ours.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    exact: HashMap<Box<str>, Box<str>>,
    patterns: Vec<(Pattern, Box<str>)>,
}

impl Table {
    /// Builds a table from its keys (with or without stars) and values.
    pub(super) fn new<'k>(pairs: impl Iterator<Item = (&'k str, &'k str)>) -> Self {
        let mut table = Self::default();
        for (key, value) in pairs {
            if key.contains('*') {
                table.patterns.push((Pattern::new(key), value.into()));
            } else {
                table.exact.insert(key.into(), value.into());
            }
        }
        table.patterns.sort_by(|(a, _), (b, _)| b.weight().cmp(&a.weight()).then_with(|| a.0.cmp(&b.0)));
        table
    }

    /// The value for a key.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let by_pattern = || self.patterns.iter().find(|(pattern, _)| pattern.fits(key)).map(|(_, value)| value);
        self.exact.get(key).or_else(by_pattern).map(|value| &**value)
    }
}
