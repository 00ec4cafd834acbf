//! The JSON of an entry's line: strings, whole numbers, and objects of these.
//!
//! By hand, because `ledger` has no JSON library, and to borrow what needs no unescaping. Invariants: what is written is
//! valid (RFC 8259); what is read is strict: no other value, no control character, no lone surrogate, nothing left over.

use std::borrow::Cow;

type Read<T> = Result<T, &'static str>;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Appends bytes as a string of lower-case hexadecimal.
pub(super) fn push_hex(bytes: &[u8], out: &mut String) {
    out.push('"');
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out.push('"');
}

/// Bytes of so many from lower-case hexadecimal.
pub(super) fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Appends a text as a string.
pub(super) fn push_text(text: &str, out: &mut String) {
    out.push('"');
    let is_escaped = |b: &u8| *b < 0x20 || matches!(b, b'"' | b'\\' | 0x7f);
    let ends = |word| specials(word) | below(word ^ all(0x7f), 1);
    let mut left = text;
    loop {
        let at = until(left.as_bytes(), ends, is_escaped);
        out.push_str(&left[..at]);
        let Some(byte) = left.as_bytes().get(at) else { break };
        left = &left[at + 1..];
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            byte => {
                out.push_str("\\u00");
                out.push(char::from(DIGITS[usize::from(byte >> 4)]));
                out.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
    out.push('"');
}

/// How many bytes from the beginning on stand for themselves in a string: neither its end, nor an escape, nor a control
/// character. Eight are looked at together, since most of a bundle is such bytes.
fn plain(bytes: &[u8]) -> usize {
    let is_plain = |b: &u8| *b >= 0x20 && !matches!(b, b'"' | b'\\');
    until(bytes, specials, |byte| !is_plain(byte))
}

/// The high bit of each control character, quote and backslash, and perhaps of some bytes behind the first of these.
const fn specials(word: u64) -> u64 {
    below(word, 0x20) | below(word ^ all(b'"'), 1) | below(word ^ all(b'\\'), 1)
}

/// How many bytes there are before the first line feed.
pub(super) fn line(bytes: &[u8]) -> usize {
    until(bytes, |word| below(word ^ all(b'\n'), 1), |byte| *byte == b'\n')
}

/// The same byte eight times.
const fn all(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The high bit of each byte that is below a bound, and perhaps of some behind the first of these.
const fn below(word: u64, bound: u8) -> u64 {
    word.wrapping_sub(all(bound)) & !word & all(0x80)
}

/// How many bytes there are before the first that is looked for: eight at a time, by the high bits that `ends` leaves, then one at
/// a time.
fn until(bytes: &[u8], ends: impl Fn(u64) -> u64, is_end: impl Fn(&u8) -> bool) -> usize {
    let mut at = 0;
    for eight in bytes.chunks_exact(8) {
        let found = ends(u64::from_le_bytes(eight.try_into().unwrap_or_default()));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + bytes[at..].iter().take_while(|byte| !is_end(byte)).count()
}

/// Reads a text from its beginning.
pub(super) struct Reader<'l> {
    text: &'l str,
    at: usize,
}

impl<'l> Reader<'l> {
    pub(super) fn new(text: &'l str) -> Self {
        Self { text, at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let is_it = self.peek() == Some(byte);
        self.at += usize::from(is_it);
        is_it
    }

    /// An object; `member` reads each value.
    pub(super) fn object<E: From<&'static str>>(
        &mut self,
        mut member: impl FnMut(&mut Self, Cow<'l, str>) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.take(b'{') {
            return Err("no object where one must be".into());
        }
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let name = self.text()?;
            if !self.take(b':') {
                return Err("no colon after a member's name".into());
            }
            member(self, name)?;
            if self.take(b'}') {
                return Ok(());
            }
            if !self.take(b',') {
                return Err("no comma between members".into());
            }
        }
    }

    /// A string.
    pub(super) fn text(&mut self) -> Read<Cow<'l, str>> {
        if !self.take(b'"') {
            return Err("no string where one must be");
        }
        let mut owned: Option<String> = None;
        loop {
            let from = self.at;
            self.at += plain(&self.text.as_bytes()[from..]);
            let plain = &self.text[from..self.at];
            let end = self.peek().ok_or("a string without end")?;
            self.at += 1;
            match (end, &mut owned) {
                (b'"', None) => return Ok(Cow::Borrowed(plain)),
                (b'"', Some(text)) => {
                    text.push_str(plain);
                    return Ok(Cow::Owned(owned.unwrap_or_default()));
                }
                (b'\\', owned) => {
                    let text = owned.get_or_insert_default();
                    text.push_str(plain);
                    let c = self.escaped()?;
                    text.push(c);
                }
                _ => return Err("a control character in a string"),
            }
        }
    }

    fn escaped(&mut self) -> Read<char> {
        let byte = self.peek().ok_or("a string without end")?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.unit()?;
                let code = if (0xd800..0xdc00).contains(&high) {
                    let follows = self.text.as_bytes().get(self.at..self.at + 2) == Some(b"\\u");
                    self.at += 2;
                    let low = if follows { self.unit()? } else { 0 };
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err("half of a surrogate pair in a string");
                    }
                    0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
                } else {
                    high
                };
                char::from_u32(code).ok_or("half of a surrogate pair in a string")?
            }
            _ => return Err("an escape that JSON does not have"),
        })
    }

    fn unit(&mut self) -> Read<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).ok_or("a string without end")?;
        self.at += 4;
        digits.iter().try_fold(0, |sum, digit| {
            char::from(*digit).to_digit(16).map(|digit| 16 * sum + digit).ok_or("an escape that is not hexadecimal")
        })
    }

    /// A whole number.
    pub(super) fn int(&mut self) -> Read<i64> {
        self.space();
        let from = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        self.at += self.text.as_bytes()[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        let text = &self.text[from..self.at];
        let digits = text.trim_start_matches('-');
        if digits.is_empty() || (digits.starts_with('0') && digits.len() > 1) || text == "-0" {
            return Err("no whole number where one must be");
        }
        if matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            return Err("a number that is not whole");
        }
        text.parse().map_err(|_| "a number beyond 64 bits")
    }

    /// Nothing is left.
    pub(super) fn end(&mut self) -> Read<()> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err("something follows the object") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn eight_at_a_time_find_what_one_at_a_time_finds(
            bytes in prop::collection::vec(prop_oneof![8 => any::<u8>(), 4 => 0x20u8..0x7f, 1 => Just(b'"'), 1 => Just(b'\\'), 1 => Just(b'\n')], 0..64),
            skip in 0usize..8,
        ) {
            let bytes = bytes.get(skip..).unwrap_or_default();
            let one = bytes.iter().take_while(|b| **b >= 0x20 && !matches!(**b, b'"' | b'\\')).count();
            prop_assert_eq!(plain(bytes), one);
            prop_assert_eq!(line(bytes), bytes.iter().take_while(|b| **b != b'\n').count());
        }
    }
}
