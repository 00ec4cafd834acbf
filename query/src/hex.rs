//! `trace_id` and `span_id` are text in SQL and raw bytes in segments: the way out and the way back in.
//!
//! Out: a function that no session registers writes bytes as lower-hex text. Back in: a filter that compares such a
//! column with literals becomes the same filter over the bytes, so that it reaches pages and Bloom filters.
//! Not here: the scan that uses both ([`crate::table`]).
//!
//! Invariant: the rewritten filter lets pass every row that the written one does (it may let pass more; the
//! written one still runs above).

use datafusion::arrow::array::{Array, ArrayRef, FixedSizeBinaryArray, StringViewBuilder};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::{ScalarValue, exec_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr as PhysicalBinary, Column, lit};
use std::sync::Arc;

/// Bytes to lower-hex text; null stays null.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct HexText {
    signature: Signature,
}

impl HexText {
    /// The function.
    pub fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for HexText {
    fn name(&self) -> &str {
        "hex_text"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = arguments.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8View, nullable)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let Some(bytes) = arrays.first().and_then(|array| array.as_any().downcast_ref::<FixedSizeBinaryArray>()) else {
            return exec_err!("hex_text takes fixed-size binary");
        };
        Ok(ColumnarValue::Array(text_of(bytes)))
    }
}

fn text_of(bytes: &FixedSizeBinaryArray) -> ArrayRef {
    let mut out = StringViewBuilder::with_capacity(bytes.len());
    let mut text = String::with_capacity(2 * bytes.value_length().max(0) as usize);
    for value in bytes {
        match value {
            None => out.append_null(),
            Some(value) => {
                text.clear();
                push_hex(&mut text, value);
                out.append_value(&text);
            }
        }
    }
    Arc::new(out.finish())
}

/// Appends bytes as lower hex.
pub(crate) fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// The filter over raw bytes that a conjunct over hex text implies, if it compares `trace_id` or `span_id` with literals.
pub(crate) fn over_bytes(filter: &Expr, raw: &Schema) -> Option<Arc<dyn PhysicalExpr>> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            match (over_bytes(left, raw), over_bytes(right, raw)) {
                (Some(left), Some(right)) => Some(binary(left, Operator::And, right)),
                (left, right) => left.or(right),
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            Some(binary(over_bytes(left, raw)?, Operator::Or, over_bytes(right, raw)?))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            equality(left, right, raw).or_else(|| equality(right, left, raw))
        }
        Expr::InList(list) if !list.negated => {
            let choices: Option<Vec<_>> = list.list.iter().map(|choice| equality(&list.expr, choice, raw)).collect();
            choices?.into_iter().reduce(|left, right| binary(left, Operator::Or, right))
        }
        _ => None,
    }
}

fn binary(left: Arc<dyn PhysicalExpr>, op: Operator, right: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    Arc::new(PhysicalBinary::new(left, op, right))
}

fn equality(column: &Expr, literal: &Expr, raw: &Schema) -> Option<Arc<dyn PhysicalExpr>> {
    let (Expr::Column(column), Expr::Literal(value, _)) = (column, literal) else { return None };
    let (index, field) = raw.column_with_name(column.name())?;
    let DataType::FixedSizeBinary(width) = field.data_type() else { return None };
    let text = match value {
        ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)) => text,
        _ => return None,
    };
    Some(match bytes_of(text, usize::try_from(*width).ok()?) {
        Some(bytes) => binary(
            Arc::new(Column::new(column.name(), index)),
            Operator::Eq,
            lit(ScalarValue::FixedSizeBinary(*width, Some(bytes))),
        ),
        // Text of another length or in upper case equals no lower-hex text of this column.
        None => lit(false),
    })
}

fn bytes_of(text: &str, width: usize) -> Option<Vec<u8>> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks_exact(2);
    if text.len() != 2 * width {
        return None;
    }
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}
