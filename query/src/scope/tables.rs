//! Rows of a small answer as plain values.
//!
//! Not here: which are asked for ([`super::gather`]). Invariant: a column that is not there, or of another kind, is an
//! error and never an empty value.

use crate::error::QueryError;
use crate::run::{Engine, Question};
use crate::table::Seen;
use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampMicrosecondType};

/// The rows of an answer.
pub(crate) struct Rows {
    batches: Vec<RecordBatch>,
}

/// Asks in SQL of our own making; `doing` says what for, to whoever asks how far it is.
///
/// # Errors
/// See [`QueryError`].
pub(crate) async fn rows(engine: &Engine, seen: &[Seen], doing: &'static str, sql: String) -> Result<Rows, QueryError> {
    // All meters of one request share its progress.
    seen.first().into_iter().for_each(|seen| seen.meter.progress().next(doing, 0, "segments"));
    let answer = engine.ask(seen.to_vec(), Question::Sql(sql, vec![])).await?;
    Ok(Rows { batches: answer.collect().await? })
}

const WRONG: QueryError = QueryError::Internal("an answer does not have the columns that were asked for");

impl Rows {
    fn columns(&self, at: usize, kind: &DataType) -> Result<Vec<ArrayRef>, QueryError> {
        let column =
            |batch: &RecordBatch| batch.columns().get(at).and_then(|array| cast(array, kind).ok()).ok_or(WRONG);
        self.batches.iter().map(column).collect()
    }

    /// A column of texts.
    pub fn texts(&self, at: usize) -> Result<Vec<Option<String>>, QueryError> {
        let mut all = Vec::new();
        for array in self.columns(at, &DataType::Utf8)? {
            all.extend(array.as_string::<i32>().iter().map(|text| text.map(str::to_string)));
        }
        Ok(all)
    }

    /// A column of whole numbers; nothing is 0.
    pub fn numbers(&self, at: usize) -> Result<Vec<u64>, QueryError> {
        let mut all = Vec::new();
        for array in self.columns(at, &DataType::Int64)? {
            let numbers = array.as_primitive::<Int64Type>();
            all.extend(numbers.iter().map(|number| u64::try_from(number.unwrap_or_default()).unwrap_or_default()));
        }
        Ok(all)
    }

    /// A column of moments, in microseconds.
    pub fn times(&self, at: usize) -> Result<Vec<Option<i64>>, QueryError> {
        let mut all = Vec::new();
        for array in self.columns(at, &DataType::Timestamp(TimeUnit::Microsecond, None))? {
            all.extend(array.as_primitive::<TimestampMicrosecondType>().iter());
        }
        Ok(all)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}
