//! A strict reader of JSON (RFC 8259) for untrusted events: finds what lenient readers hide.
//!
//! Duplicate keys, lone surrogates, NUL, and nesting beyond a bound are faults here. Numbers are kept as
//! their text, so none loses digits. Not here: which fields an event has ([`crate::wire`]).
//!
//! Invariants: text is read once; recursion is bounded; nothing is allocated but keys and unescaped text; time grows
//! with the text as n log n at most, whatever its keys.

use std::borrow::Cow;

/// Keys of one object that are compared one with another; with more they are sorted.
const FEW_KEYS: usize = 32;

/// What is wrong with a JSON text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not JSON.
    #[error("not JSON: {why} at byte {at}")]
    Syntax {
        /// Where.
        at: usize,
        /// What was expected.
        why: &'static str,
    },
    /// One object has a key twice.
    #[error("an object has the key {0:?} twice; which one counts is for the sender to say")]
    DuplicateKey(String),
    /// A `\u` escape is half of a surrogate pair.
    #[error("a string holds a lone surrogate, which is no character")]
    LoneSurrogate,
    /// A string holds U+0000.
    #[error("a string holds a NUL character")]
    Nul,
    /// Nested too deeply.
    #[error("nested deeper than {0} levels")]
    Depth(usize),
}

/// A value, as far as an event's own fields need to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as its text.
    Number(&'a str),
    /// A string, unescaped.
    Text(Cow<'a, str>),
    /// An object, as its text.
    Object(&'a str),
    /// An array, as its text.
    Array(&'a str),
}

/// Reads one text of JSON.
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth_limit: usize,
    keys: Vec<Cow<'a, str>>,
}

impl<'a> Reader<'a> {
    /// A reader that refuses more than `depth_limit` levels of objects and arrays.
    pub fn new(text: &'a str, depth_limit: usize) -> Self {
        Self { text, at: 0, depth_limit, keys: Vec::new() }
    }

    /// Reads the text as one object and hands over each member; nothing but white space may follow.
    ///
    /// # Errors
    /// The fault of the text, or what `member` answers.
    pub fn object<E: From<Fault>>(
        mut self,
        mut member: impl FnMut(Cow<'a, str>, Value<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.space();
        if self.peek() != Some(b'{') {
            return Err(self.wrong("an object was expected").into());
        }
        self.members(0, &mut |key, value| member(key, value))?;
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.wrong("something follows the object").into()) }
    }

    fn wrong(&self, why: &'static str) -> Fault {
        Fault::Syntax { at: self.at, why }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8, why: &'static str) -> Result<(), Fault> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.wrong(why))
        }
    }

    /// Reads an object's members from its brace on.
    fn members<E: From<Fault>>(
        &mut self,
        depth: usize,
        member: &mut dyn FnMut(Cow<'a, str>, Value<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        if depth >= self.depth_limit {
            return Err(Fault::Depth(self.depth_limit).into());
        }
        self.at += 1;
        let own_keys = self.keys.len();
        let mut seen = 0;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            let key = self.string()?;
            self.space();
            self.eat(b':', "a colon was expected")?;
            let value = self.value(depth + 1)?;
            self.remember(own_keys, &mut seen, key.clone())?;
            member(key, value)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.wrong("a comma or a closing brace was expected").into()),
            }
        }
        self.at += 1;
        self.no_key_twice(own_keys).map_err(E::from)
    }

    /// Notes a key of the object whose keys begin at `own_keys`. `seen` tells of most keys that they are new.
    fn remember(&mut self, own_keys: usize, seen: &mut u64, key: Cow<'a, str>) -> Result<(), Fault> {
        let own = &self.keys[own_keys..];
        if own.len() < FEW_KEYS {
            let (first, last) = (key.as_bytes().first(), key.as_bytes().last());
            let mark = key.len() + 7 * usize::from(*first.unwrap_or(&0)) + 31 * usize::from(*last.unwrap_or(&0));
            let mark = 1 << (mark % 64);
            if *seen & mark != 0 && own.contains(&key) {
                return Err(twice(&key));
            }
            *seen |= mark;
        }
        self.keys.push(key);
        Ok(())
    }

    fn no_key_twice(&mut self, own_keys: usize) -> Result<(), Fault> {
        let own = &mut self.keys[own_keys..];
        let mut found = None;
        if own.len() > FEW_KEYS {
            own.sort_unstable();
            found = own.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| twice(&pair[0]));
        }
        self.keys.truncate(own_keys);
        found.map_or(Ok(()), Err)
    }

    fn elements(&mut self, depth: usize) -> Result<(), Fault> {
        if depth >= self.depth_limit {
            return Err(Fault::Depth(self.depth_limit));
        }
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.wrong("a comma or a closing bracket was expected")),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>, Fault> {
        self.space();
        let start = self.at;
        match self.peek() {
            Some(b'"') => self.string().map(Value::Text),
            Some(b'{') => {
                self.members::<Fault>(depth, &mut |_, _| Ok(()))?;
                Ok(Value::Object(&self.text[start..self.at]))
            }
            Some(b'[') => {
                self.elements(depth)?;
                Ok(Value::Array(&self.text[start..self.at]))
            }
            Some(b'-' | b'0'..=b'9') => {
                self.number()?;
                Ok(Value::Number(&self.text[start..self.at]))
            }
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<Value<'a>, Fault> {
        for (word, value) in [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))] {
            if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.wrong("a value was expected"))
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.wrong("a digit was expected")) }
    }

    fn number(&mut self) -> Result<(), Fault> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.eat(b'"', "a string was expected")?;
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut unescaped: Option<String> = None;
        let mut run = start;
        loop {
            self.at += plain(&bytes[self.at..]);
            match bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    let out = unescaped.get_or_insert_with(String::new);
                    out.push_str(&self.text[run..self.at]);
                    let found = escape(bytes, &mut self.at)?;
                    out.push(found);
                    run = self.at;
                }
                Some(0) => return Err(Fault::Nul),
                Some(_) => return Err(self.wrong("a control character must be escaped")),
                None => return Err(self.wrong("a string does not end")),
            }
        }
        let end = self.at;
        self.at += 1;
        Ok(match unescaped {
            None => Cow::Borrowed(&self.text[start..end]),
            Some(mut out) => {
                out.push_str(&self.text[run..end]);
                Cow::Owned(out)
            }
        })
    }
}

fn twice(key: &str) -> Fault {
    Fault::DuplicateKey(key.chars().take(64).collect())
}

/// How many bytes from the front are plain inside of a string: no quote, no backslash, no control character.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    // A byte's high bit is set when the byte is below `n`. A byte above one that was found may be marked wrongly, and
    // never one below it: the lowest mark is right.
    let below = |word: u64, n: u8| word.wrapping_sub(ONES * u64::from(n)) & !word;
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        let marks = (quote | backslash | below(word, 0x20)) & (ONES << 7);
        if marks != 0 {
            return 8 * at + (marks.trailing_zeros() / 8) as usize;
        }
    }
    let stop = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
    bytes.len() - rest.len() + stop.unwrap_or(rest.len())
}

/// Reads one escape, at the backslash, and leaves `at` behind it.
fn escape(bytes: &[u8], at: &mut usize) -> Result<char, Fault> {
    let wrong = Fault::Syntax { at: *at, why: "no such escape" };
    let kind = *bytes.get(*at + 1).ok_or_else(|| wrong.clone())?;
    *at += 2;
    Ok(match kind {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let first = four_hex(bytes, at).ok_or_else(|| wrong.clone())?;
            let code = match first {
                0xd800..=0xdbff => {
                    let pair = bytes.get(*at..*at + 2) == Some(b"\\u");
                    *at += 2;
                    let second = if pair { four_hex(bytes, at) } else { None };
                    let low = second.filter(|low| (0xdc00..=0xdfff).contains(low)).ok_or(Fault::LoneSurrogate)?;
                    0x1_0000 + ((first - 0xd800) << 10) + (low - 0xdc00)
                }
                0 => return Err(Fault::Nul),
                other => other,
            };
            char::from_u32(code).ok_or(Fault::LoneSurrogate)?
        }
        _ => return Err(wrong),
    })
}

fn four_hex(bytes: &[u8], at: &mut usize) -> Option<u32> {
    let digits = bytes.get(*at..*at + 4)?;
    *at += 4;
    digits.iter().try_fold(0, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests;
