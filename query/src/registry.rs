//! The registry as tables in SQL: `tenants`, `principals`, `credentials`, `grants`, `elevations`, `incidents`, `reviews`,
//! `policies`, `holds`, `certificates`, `jobs`.
//!
//! A question gets those that its text names, with the rows that its caller may see, as of now. Not here: which rows
//! those are (`access`). Invariants: lists and objects are JSON text, for `json_text`; a column's type follows from its
//! name.

use access::registry::Table;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use serde_json::{Map, Value};
use std::sync::Arc;

/// A table's rows.
pub(crate) type Rows = (Table, Vec<Map<String, Value>>);

/// The tables that a text may be about: those whose names stand in it.
pub(crate) fn named_in(sql: &str) -> Vec<Table> {
    Table::ALL.into_iter().filter(|table| stands_in(sql, table.name())).collect()
}

/// Whether a name of small letters stands in a text as a word.
pub(crate) fn stands_in(sql: &str, name: &str) -> bool {
    let sql = sql.to_ascii_lowercase();
    let is_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    sql.match_indices(name).any(|(at, _)| {
        let before = at.checked_sub(1).and_then(|at| sql.as_bytes().get(at));
        !is_word(before) && !is_word(sql.as_bytes().get(at + name.len()))
    })
}

fn type_of(column: &str) -> DataType {
    match column {
        "version" | "minutes" | "entries" | "stored_bytes" | "items" | "open_items" | "missed" | "millis"
        | "findings" | "failed_runs" => DataType::Int64,
        "subtree" | "suspended" | "break_glass" => DataType::Boolean,
        time if time.ends_with("_at") => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        _ => DataType::Utf8View,
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// A table over these rows.
///
/// # Errors
/// None today; Arrow's functions answer one.
pub(crate) fn table_of((table, rows): &Rows) -> Result<MemTable> {
    let names = table.columns();
    let column = |name: &&str| -> ArrayRef {
        let values = rows.iter().map(|row| row.get(*name).unwrap_or(&Value::Null));
        match type_of(name) {
            DataType::Int64 => Arc::new(values.map(Value::as_i64).collect::<Int64Array>()),
            DataType::Boolean => Arc::new(values.map(Value::as_bool).collect::<BooleanArray>()),
            DataType::Timestamp(..) => {
                let times = values.map(|value| ledger::time::parse_micros(value.as_str()?).ok());
                Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
            }
            _ => Arc::new(values.map(text_of).collect::<StringViewArray>()),
        }
    };
    let fields: Vec<Field> = names.iter().map(|name| Field::new(*name, type_of(name), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), names.iter().map(column).collect())?;
    MemTable::try_new(schema, vec![vec![batch]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_named_as_words() {
        let names = |sql| named_in(sql).into_iter().map(Table::name).collect::<Vec<_>>();
        assert_eq!(names("SELECT * FROM grants g JOIN Principals p USING (principal)"), ["principals", "grants"]);
        assert_eq!(names("SELECT count(*) FROM audit WHERE action = 'grants_made'"), Vec::<&str>::new());
        assert_eq!(names("SELECT my_tenants FROM audit"), Vec::<&str>::new());
    }
}
