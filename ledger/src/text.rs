//! Strict base64 and decimal, shared by the text formats of this crate.
//!
//! Not here: any format itself. Invariant: each value has exactly one accepted spelling.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Standard padded base64.
pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Decodes standard padded base64; spare bits must be zero, padding must be there.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// An unsigned decimal without sign or leading zeros.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let canonical =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}
