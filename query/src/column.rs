//! One column of some rows in memory, as SQL sees it: null, coded, or plain.
//!
//! Coded is what most text becomes: each distinct value once and a code of one, two or four bytes a row. A condition
//! is then tested once for each distinct value. Not here: where columns come from ([`crate::reader`]), what a
//! condition is ([`crate::condition`]).
//!
//! Invariant: the last of a coded column's values is null and no code is, so that null is a value like any other.

use crate::condition::Condition;
use crate::hex;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, StringViewBuilder, UInt8Array, UInt16Array, UInt32Array,
    new_null_array,
};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::{DataType, Int32Type};
use datafusion::error::{DataFusionError, Result};
use std::collections::HashSet;
use std::sync::Arc;

/// The values of a column for some rows.
#[derive(Debug, Clone)]
pub(crate) enum Column {
    /// Null in every row.
    Null(DataType),
    /// For each row the place of its value.
    Coded {
        /// Unsigned, no null among them.
        codes: ArrayRef,
        /// Distinct values, then null.
        values: ArrayRef,
    },
    /// For each row its value.
    Plain(ArrayRef),
}

/// Which rows pass a condition.
pub(crate) enum Passing {
    All,
    None,
    Some(BooleanBuffer),
}

impl Passing {
    fn of(mask: BooleanBuffer) -> Self {
        match mask.count_set_bits() {
            0 => Self::None,
            all if all == mask.len() => Self::All,
            _ => Self::Some(mask),
        }
    }

    /// The first rows of so many.
    pub fn first(shown: usize, rows: usize) -> Self {
        if shown >= rows { Self::All } else { Self::of(BooleanBuffer::collect_bool(rows, |row| row < shown)) }
    }

    /// The rows that pass this and the other.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, _) | (_, Self::None) => Self::None,
            (Self::All, one) | (one, Self::All) => one,
            (Self::Some(one), Self::Some(other)) => Self::of(&one & &other),
        }
    }
}

impl Column {
    /// A column from what a decoder or the tail gives.
    pub fn of(array: &ArrayRef) -> Result<Self> {
        if array.null_count() == array.len() {
            return Ok(Self::Null(sql_type(array.data_type())));
        }
        match array.data_type() {
            DataType::Dictionary(..) => coded(array),
            DataType::Utf8 => Ok(Self::Plain(cast(array, &DataType::Utf8View)?)),
            DataType::FixedSizeBinary(_) => {
                let bytes = array.as_any().downcast_ref::<FixedSizeBinaryArray>();
                let bytes = bytes.ok_or_else(|| DataFusionError::Internal("bytes that are none".into()))?;
                Ok(Self::Plain(hex::text_of(bytes)))
            }
            _ => Ok(Self::Plain(Arc::clone(array))),
        }
    }

    /// The same text in every row.
    pub fn constant(text: &str, rows: usize) -> Self {
        let mut values = StringViewBuilder::new();
        values.append_value(text);
        values.append_null();
        Self::Coded { codes: Arc::new(UInt8Array::from_value(0, rows)), values: Arc::new(values.finish()) }
    }

    /// Which of the rows pass a condition.
    pub fn passing(&self, condition: &Condition) -> Result<Passing> {
        match self {
            Self::Null(kind) => Ok(Passing::of(condition.holds(&new_null_array(kind, 1))?)),
            Self::Plain(array) => Ok(Passing::of(condition.holds(array)?)),
            Self::Coded { codes, values } => {
                let of_values = condition.holds(values)?;
                match of_values.count_set_bits() {
                    0 => Ok(Passing::None),
                    all if all == of_values.len() => Ok(Passing::All),
                    _ => Ok(Passing::of(by_code(codes, &of_values)?)),
                }
            }
        }
    }

    /// Which of the rows hold one of these texts; null is none.
    ///
    /// # Errors
    /// The column is no text.
    pub fn is_one_of(&self, texts: &HashSet<String>, rows: usize) -> Result<BooleanBuffer> {
        let test = |values: &ArrayRef| {
            let values = values.as_string_view_opt();
            let values = values.ok_or_else(|| DataFusionError::Internal("a scope that is no text".into()))?;
            let holds = |row: usize| values.is_valid(row) && texts.contains(values.value(row));
            Ok::<_, DataFusionError>(BooleanBuffer::collect_bool(values.len(), holds))
        };
        match self {
            Self::Null(_) => Ok(BooleanBuffer::new_unset(rows)),
            Self::Plain(array) => test(array),
            Self::Coded { codes, values } => by_code(codes, &test(values)?),
        }
    }

    /// The values of a run of rows.
    pub fn range(&self, from: usize, count: usize) -> Result<ArrayRef> {
        Ok(match self {
            Self::Null(kind) => new_null_array(kind, count),
            Self::Coded { codes, values } => take(values, &codes.slice(from, count), None)?,
            Self::Plain(array) => array.slice(from, count),
        })
    }

    /// The values of these rows.
    pub fn rows(&self, rows: &UInt32Array) -> Result<ArrayRef> {
        Ok(match self {
            Self::Null(kind) => new_null_array(kind, rows.len()),
            Self::Coded { codes, values } => take(values, &take(codes, rows, None)?, None)?,
            Self::Plain(array) => take(array, rows, None)?,
        })
    }

    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Null(_) => 0,
            Self::Coded { codes, values } => codes.get_array_memory_size() + values.get_array_memory_size(),
            Self::Plain(array) => array.get_array_memory_size(),
        }
    }
}

/// How SQL sees a stored type.
pub(crate) fn sql_type(stored: &DataType) -> DataType {
    match stored {
        DataType::Utf8 | DataType::Dictionary(..) | DataType::FixedSizeBinary(_) => DataType::Utf8View,
        other => other.clone(),
    }
}

/// For each code, whether its value passes.
fn by_code(codes: &ArrayRef, passes: &BooleanBuffer) -> Result<BooleanBuffer> {
    let of = |code: usize| passes.value(code);
    if let Some(codes) = codes.as_any().downcast_ref::<UInt8Array>() {
        let codes = codes.values();
        return Ok(BooleanBuffer::collect_bool(codes.len(), |row| of(usize::from(codes[row]))));
    }
    if let Some(codes) = codes.as_any().downcast_ref::<UInt16Array>() {
        let codes = codes.values();
        return Ok(BooleanBuffer::collect_bool(codes.len(), |row| of(usize::from(codes[row]))));
    }
    let Some(codes) = codes.as_any().downcast_ref::<UInt32Array>() else {
        return Err(DataFusionError::Internal("codes of another width".into()));
    };
    let codes = codes.values();
    Ok(BooleanBuffer::collect_bool(codes.len(), |row| of(codes[row] as usize)))
}

fn coded(array: &ArrayRef) -> Result<Column> {
    let given = array.as_dictionary::<Int32Type>();
    let texts = given.values().as_string_opt::<i32>();
    let texts = texts.ok_or_else(|| DataFusionError::Internal("codes of something else than text".into()))?;
    let mut values = StringViewBuilder::with_capacity(texts.len() + 1);
    texts.iter().for_each(|text| values.append_option(text));
    values.append_null();
    let null = texts.len();
    let codes = given.keys().iter().map(|key| key.map_or(null, |key| key as usize));
    // The places were checked to be those of the values when the array was made.
    let codes: ArrayRef = match null {
        0..=0xff => Arc::new(UInt8Array::from_iter_values(codes.map(|code| code as u8))),
        0x100..=0xffff => Arc::new(UInt16Array::from_iter_values(codes.map(|code| code as u16))),
        _ => Arc::new(UInt32Array::from_iter_values(codes.map(|code| code as u32))),
    };
    Ok(Column::Coded { codes, values: Arc::new(values.finish()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{DictionaryArray, StringViewArray};

    #[test]
    fn codes_of_every_width_give_back_their_texts_and_nulls() {
        for distinct in [1usize, 255, 256, 65_535, 65_536] {
            let texts: Vec<Option<String>> =
                (0..distinct + 10).map(|n| (n != 3).then(|| format!("value number {}", n % distinct))).collect();
            let stored: DictionaryArray<Int32Type> = texts.iter().map(Option::as_deref).collect();
            let column = Column::of(&(Arc::new(stored) as ArrayRef)).unwrap();
            let expected: StringViewArray = texts.iter().map(Option::as_deref).collect();
            assert_eq!(column.range(0, texts.len()).unwrap().as_string_view(), &expected, "{distinct}");
            let rows = UInt32Array::from(vec![3, 0, distinct as u32]);
            let some: StringViewArray = [3, 0, distinct].iter().map(|at| texts[*at].as_deref()).collect();
            assert_eq!(column.rows(&rows).unwrap().as_string_view(), &some, "{distinct}");
        }
    }

    #[test]
    fn nothing_but_null_takes_no_memory() {
        let column = Column::of(&new_null_array(&DataType::Utf8, 9)).unwrap();
        assert_eq!((column.bytes(), column.range(2, 4).unwrap().null_count()), (0, 4));
        assert_eq!(column.range(0, 1).unwrap().data_type(), &DataType::Utf8View);
    }
}
