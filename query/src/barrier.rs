//! What stands between stored rows and a question whose caller sees only some of them.
//!
//! Each view of a sight is a test of a row's scope and a set of masked sections. A row passes if a view shows it, and a
//! section of it is shown if a view that shows the row does not mask it. Not here: who sees what (`access`), reading
//! ([`crate::group`]).
//!
//! Invariants: scope is tested on stored values, also of sections that the caller sees masked, before any condition of
//! the caller's; a row whose scope is null passes no view that names its dimension; nothing that is known of hidden rows
//! leaves: no statistics, no counts, no bounds.

use crate::column::Column;
use access::Sight;
use access::registry::change::Dimension;
use datafusion::arrow::array::BooleanArray;
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::compute::nullif;
use datafusion::arrow::datatypes::{Schema, TimestampMicrosecondType};
use datafusion::error::Result;
use ledger::{Field, Section};
use std::collections::{BTreeSet, HashSet};

/// The views of one caller on one stream.
#[derive(Debug)]
pub(crate) struct Barrier {
    views: Vec<View>,
    /// Columns that scopes are tested on, ascending.
    tested: Vec<usize>,
    /// The section of each column of the table.
    sections: Vec<Section>,
}

#[derive(Debug)]
struct View {
    values: Vec<(usize, HashSet<String>)>,
    occurred_at: usize,
    since: Option<i64>,
    until: Option<i64>,
    masked: BTreeSet<Section>,
}

/// Which rows of a group each view shows.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    of_views: Vec<BooleanBuffer>,
    /// Rows that some view shows.
    pub any: BooleanBuffer,
}

impl Barrier {
    /// The barrier of a sight over a table; none if all is seen.
    pub fn of(sight: &Sight, table: &Schema) -> Option<Self> {
        if sight.is_whole() {
            return None;
        }
        let at = |name: &str| table.index_of(name).ok();
        let view = |view: &access::View| {
            let values = view.rows.iter().map(|(dimension, values)| {
                // A dimension without a column would show nothing: the place is one that no table has.
                let column = at(field_of(*dimension).name()).unwrap_or(usize::MAX);
                (column, values.iter().cloned().collect())
            });
            View {
                values: values.collect(),
                occurred_at: at(Field::OccurredAt.name()).unwrap_or(usize::MAX),
                since: view.since,
                until: view.until,
                masked: view.masked.clone(),
            }
        };
        let views: Vec<View> = sight.views().iter().map(view).collect();
        let mut tested = BTreeSet::new();
        for view in &views {
            tested.extend(view.values.iter().map(|(column, _)| *column));
            if view.since.is_some() || view.until.is_some() {
                tested.insert(view.occurred_at);
            }
        }
        let section = |name: &str| {
            let field = Field::ALL.into_iter().find(|field| field.name() == name);
            field.map_or(Section::Skeleton, Field::section)
        };
        let sections = table.fields().iter().map(|field| section(field.name())).collect();
        Some(Self { views, tested: tested.into_iter().collect(), sections })
    }

    /// The columns that scopes are tested on, ascending.
    pub fn tested(&self) -> &[usize] {
        &self.tested
    }

    /// Whether no view shows a column: it is not read then.
    pub fn masks(&self, column: usize) -> bool {
        let section = self.sections[column];
        self.views.iter().all(|view| view.masked.contains(&section))
    }

    /// Which rows are shown, from the columns that scopes are tested on.
    ///
    /// # Errors
    /// A column is of another type than its field.
    pub fn shown(&self, tested: &[Column], rows: usize) -> Result<Shown> {
        let mut of_views = Vec::with_capacity(self.views.len());
        for view in &self.views {
            let mut shown = BooleanBuffer::new_set(rows);
            for (column, allowed) in &view.values {
                shown = &shown & &self.column(tested, *column).is_one_of(allowed, rows)?;
            }
            if view.since.is_some() || view.until.is_some() {
                let times = self.column(tested, view.occurred_at).range(0, rows)?;
                let times = times.as_primitive::<TimestampMicrosecondType>();
                let (since, until) = (view.since.unwrap_or(i64::MIN), view.until.unwrap_or(i64::MAX));
                let within = |row: usize| times.is_valid(row) && (since..until).contains(&times.value(row));
                shown = &shown & &BooleanBuffer::collect_bool(rows, within);
            }
            of_views.push(shown);
        }
        let any = of_views.iter().skip(1).fold(of_views[0].clone(), |any, one| &any | one);
        Ok(Shown { of_views, any })
    }

    fn column<'c>(&self, tested: &'c [Column], column: usize) -> &'c Column {
        &tested[self.tested.partition_point(|one| *one < column)]
    }

    /// The values of a column at some rows of a group, null where no view shows them.
    ///
    /// # Errors
    /// None today; Arrow's functions answer one.
    pub fn masked(&self, column: usize, values: ArrayRef, shown: &Shown, rows: &[u32]) -> Result<ArrayRef> {
        let section = self.sections[column];
        if !self.views.iter().any(|view| view.masked.contains(&section)) {
            return Ok(values);
        }
        let unmasking: Vec<&BooleanBuffer> = self
            .views
            .iter()
            .zip(&shown.of_views)
            .filter(|(view, _)| !view.masked.contains(&section))
            .map(|(_, rows)| rows)
            .collect();
        let is_hidden = |at: usize| !unmasking.iter().any(|shown| shown.value(rows[at] as usize));
        let hidden = BooleanArray::new(BooleanBuffer::collect_bool(values.len(), is_hidden), None::<NullBuffer>);
        Ok(nullif(&values, &hidden)?)
    }
}

/// The column by which a dimension keeps rows apart.
fn field_of(dimension: Dimension) -> Field {
    match dimension {
        Dimension::LegalEntity => Field::LegalEntity,
        Dimension::BusinessUnit => Field::BusinessUnit,
        Dimension::Client => Field::Client,
        Dimension::Project => Field::Project,
        Dimension::Partner => Field::Partner,
        Dimension::Region => Field::Region,
    }
}
