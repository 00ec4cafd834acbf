//! What a caller sees of a stream: the union of what each of their rights shows.
//!
//! Not here: enforcing it in queries (`query`). Invariant: a row is seen if one view shows it, and a section of it if
//! a view that shows the row does not mask it; so a further right never takes anything away.

use crate::registry::Right;
use crate::registry::change::RowScope;
use crate::registry::names::FactId;
use ledger::field::Section;
use std::collections::BTreeSet;

/// What one right shows of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Which rows; all of a dimension that is not named.
    pub rows: RowScope,
    /// Sections that are not shown.
    pub masked: BTreeSet<Section>,
    /// Only what occurred since then, in microseconds.
    pub since: Option<i64>,
    /// Only what occurred before then, in microseconds.
    pub until: Option<i64>,
    /// The grant or elevation.
    pub right: FactId,
    /// Whether it is an elevation.
    pub is_elevation: bool,
    /// What for.
    pub purpose: String,
}

impl View {
    /// What a right shows.
    pub(crate) fn of(right: &Right<'_>) -> Self {
        let limits = right.limits.cloned().unwrap_or_default();
        Self {
            rows: limits.rows,
            masked: limits.masked.into_iter().map(|masked| masked.0).collect(),
            since: limits.since.map(|when| when.0),
            until: limits.until.map(|when| when.0),
            right: right.id.clone(),
            is_elevation: right.is_elevation,
            purpose: limits.purpose,
        }
    }

    /// Whether it shows everything.
    pub fn is_whole(&self) -> bool {
        self.shows_all_rows() && self.masked.is_empty()
    }

    /// Whether it shows every row.
    pub fn shows_all_rows(&self) -> bool {
        self.rows.is_empty() && self.since.is_none() && self.until.is_none()
    }

    /// Whether it shows nothing that `other` does not show.
    pub fn is_within(&self, other: &View) -> bool {
        let rows = other.rows.iter().all(|(dimension, allowed)| {
            self.rows.get(dimension).is_some_and(|own| own.iter().all(|value| allowed.contains(value)))
        });
        let begins = other.since.is_none_or(|since| self.since.is_some_and(|own| own >= since));
        let ends = other.until.is_none_or(|until| self.until.is_some_and(|own| own <= until));
        rows && begins && ends && other.masked.is_subset(&self.masked)
    }
}

/// What a caller sees of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    views: Vec<View>,
}

impl Sight {
    /// The union of views; none without any.
    pub fn of(mut views: Vec<View>) -> Option<Self> {
        // A standing grant before an elevation: what one has anyway is not lent.
        views.sort_by_key(|view| (!view.is_whole(), view.is_elevation));
        if views.first()?.is_whole() {
            views.truncate(1);
        }
        Some(Self { views })
    }

    /// Its views, at least one.
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// Whether everything is seen.
    pub fn is_whole(&self) -> bool {
        self.views[0].is_whole()
    }

    /// The elevations that it rests on.
    pub fn elevations(&self) -> impl Iterator<Item = &FactId> {
        self.views.iter().filter(|view| view.is_elevation).map(|view| &view.right)
    }
}
