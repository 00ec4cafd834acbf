//! `trace_id` and `span_id` are text in SQL and raw bytes in segments: the way out and the way back in.
//!
//! Back in is for Bloom filters, which know the bytes. Not here: reading ([`crate::reader`]).

use datafusion::arrow::array::{Array, ArrayRef, FixedSizeBinaryArray, StringViewBuilder};
use std::sync::Arc;

/// Bytes as lower-hex text; null stays null.
pub(crate) fn text_of(bytes: &FixedSizeBinaryArray) -> ArrayRef {
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

/// The bytes that a lower-hex text stands for; none if it is no such text of this width.
pub(crate) fn bytes_of(text: &str, width: usize) -> Option<Vec<u8>> {
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
