//! Which filters a scan answers by itself: comparisons of one column with literals.
//!
//! They are tested on values in memory, once for each distinct one where a column is coded, before any other column
//! of a row is looked at. What is not of that form stays above the scan. Not here: leaving out whole segments
//! ([`crate::prune`]).
//!
//! Invariants: a condition cannot fail because of a value, so it can tell nobody which values there are; a row passes
//! exactly when SQL's own filter would let it pass.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::physical_expr::PhysicalExpr;
use std::fmt;
use std::sync::Arc;

/// Columns whose every value is long or its own: they are not kept in memory.
pub(crate) const WIDE: [&str; 4] = ["event_id", "trace_id", "span_id", "attributes"];

/// A filter of one column.
#[derive(Clone)]
pub(crate) struct Condition {
    /// Which column of the table.
    pub column: usize,
    /// Texts of which the column must equal one, if the filter says so.
    pub equals: Option<Vec<String>>,
    schema: SchemaRef,
    test: Arc<dyn PhysicalExpr>,
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.test)
    }
}

impl Condition {
    /// The condition that a filter is; none if the scan cannot answer it.
    ///
    /// # Errors
    /// The filter does not fit the column.
    pub fn of(filter: &Expr, table: &Schema, session: &dyn Session) -> Result<Option<Self>> {
        let Some(column) = column_of(filter, table) else { return Ok(None) };
        let field = table.field(column).clone().with_nullable(true);
        let equals = equals(filter);
        let schema = Arc::new(Schema::new(vec![field]));
        let test = session.create_physical_expr(filter.clone(), &DFSchema::try_from(Arc::clone(&schema))?)?;
        Ok(Some(Self { column, equals, schema, test }))
    }

    /// The test, as plans show and walk it.
    pub fn test(&self) -> &Arc<dyn PhysicalExpr> {
        &self.test
    }

    /// Which values pass; what is neither true nor false does not.
    ///
    /// # Errors
    /// The values are of another type.
    pub fn holds(&self, values: &ArrayRef) -> Result<BooleanBuffer> {
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), vec![Arc::clone(values)])?;
        let held = self.test.evaluate(&batch)?.into_array(values.len())?;
        let held = held.as_boolean();
        Ok(match held.nulls() {
            Some(valid) => held.values() & valid.inner(),
            None => held.values().clone(),
        })
    }
}

/// The one column that a filter of the right form is about.
pub(crate) fn column_of(filter: &Expr, table: &Schema) -> Option<usize> {
    let columns = filter.column_refs();
    let mut names = columns.iter().map(|column| column.name());
    let (name, None) = (names.next()?, names.next()) else { return None };
    // Long texts are left to be read for the rows that pass everything else.
    let fits = name != "attributes" && compares(filter);
    if fits { table.index_of(name).ok() } else { None }
}

fn compares(filter: &Expr) -> bool {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
            compares(left) && compares(right)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
            let orders = matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom);
            orders && (is_column(left) && is_literal(right) || is_literal(left) && is_column(right))
        }
        Expr::Not(inner) => compares(inner),
        Expr::IsNull(inner) | Expr::IsNotNull(inner) => is_column(inner),
        Expr::InList(list) => is_column(&list.expr) && list.list.iter().all(is_literal),
        Expr::Between(between) => is_column(&between.expr) && is_literal(&between.low) && is_literal(&between.high),
        Expr::Like(like) => like.escape_char.is_none() && is_column(&like.expr) && is_literal(&like.pattern),
        _ => false,
    }
}

fn is_column(expr: &Expr) -> bool {
    matches!(expr, Expr::Column(_))
}

fn is_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(..))
}

/// The texts of which a filter's column must equal one.
fn equals(filter: &Expr) -> Option<Vec<String>> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            Some([equals(left)?, equals(right)?].concat())
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => equals(left).or_else(|| equals(right)),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            text(left).or_else(|| text(right)).map(|text| vec![text])
        }
        Expr::InList(list) if !list.negated => list.list.iter().map(text).collect(),
        _ => None,
    }
}

fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Literal(
            ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)),
            _,
        ) => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::{DataType, Field};
    use datafusion::prelude::{col, lit};

    fn table() -> Schema {
        let field = |name: &str| Field::new(name, DataType::Utf8View, true);
        Schema::new(vec![field("action"), field("session"), field("attributes")])
    }

    #[test]
    fn only_comparisons_of_one_column_with_literals_are_answered() {
        let table = table();
        for (filter, column) in [
            (col("session").eq(lit("s")), Some(1)),
            (lit("s").lt(col("action")), Some(0)),
            (col("action").in_list(vec![lit("a"), lit("b")], true), Some(0)),
            (col("action").is_null().or(col("action").eq(lit("a"))), Some(0)),
            (col("action").like(lit("a%")), Some(0)),
            (col("session").eq(col("action")), None),
            (col("session").eq(col("session")), None),
            (col("session").eq(lit("s")).or(col("action").eq(lit("a"))), None),
            (datafusion::logical_expr::cast(col("session"), DataType::Int32).eq(lit(1)), None),
            (col("attributes").is_not_null(), None),
            (col("nowhere").eq(lit("s")), None),
        ] {
            assert_eq!(column_of(&filter, &table), column, "{filter}");
        }
    }

    #[test]
    fn what_a_column_must_equal_is_found() {
        let s = || col("session");
        for (filter, texts) in [
            (s().eq(lit("a")), Some(vec!["a"])),
            (lit("a").eq(s()).or(s().in_list(vec![lit("b"), lit("c")], false)), Some(vec!["a", "b", "c"])),
            (s().eq(lit("a")).and(s().lt(lit("z"))), Some(vec!["a"])),
            (s().eq(lit("a")).or(s().is_null()), None),
            (s().in_list(vec![lit("a")], true), None),
            (s().gt(lit("a")), None),
        ] {
            let texts = texts.map(|texts| texts.into_iter().map(String::from).collect::<Vec<_>>());
            assert_eq!(equals(&filter), texts, "{filter}");
        }
    }
}
