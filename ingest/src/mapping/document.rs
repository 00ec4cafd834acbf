//! One source line as a tree that is parsed only where somebody looks, and JSON pointers into it.
//!
//! Not here: what the values mean ([`super::rule`]). A number's text is the text of the source, so that
//! nothing beyond 2^53 changes on the way; an object's or array's inside is parsed at the first look into it.
//! Neighbours: [`super`] parses a line, [`super::rule`] asks for texts.
//!
//! Invariants: 1. the whole line was read once by a strict JSON reader before any lookup, so a later parse of
//! a part cannot fail for its syntax. 2. Of two members with one name the last counts. 3. Depth of descent is
//! the length of a pointer; the reader that skips values does not recurse.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A JSON pointer (RFC 6901), split and unescaped; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pointer {
    text: Box<str>,
    steps: Box<[Box<str>]>,
}

impl Pointer {
    /// Parses `/a/b~1c/0`; `None` unless it begins with `/` and every `~` is `~0` or `~1`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix('/')?;
        let steps = rest.split('/').map(unescape).collect::<Option<Box<[_]>>>()?;
        Some(Self { text: text.into(), steps })
    }

    /// The pointer as it was written.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// What is left of this pointer below `prefix`, when it leads through it.
    fn below<'p>(&'p self, prefix: &Pointer) -> Option<&'p [Box<str>]> {
        self.steps.strip_prefix(&*prefix.steps)
    }
}

fn unescape(step: &str) -> Option<Box<str>> {
    if !step.contains('~') {
        return Some(step.into());
    }
    let mut out = String::with_capacity(step.len());
    let mut chars = step.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '~' => match chars.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            other => other,
        });
    }
    Some(out.into())
}

/// A string of the source is no Unicode text (a lone surrogate); no value can be taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotUnicode;

/// One value, its inside parsed at the first look.
#[derive(Debug)]
struct Node<'a> {
    raw: &'a str,
    inside: OnceCell<Inside<'a>>,
}

#[derive(Debug)]
enum Inside<'a> {
    Members(Vec<(Cow<'a, str>, Node<'a>)>),
    Items(Vec<Node<'a>>),
    Nothing,
}

impl<'a> Node<'a> {
    fn new(raw: &'a str) -> Self {
        Self { raw, inside: OnceCell::new() }
    }

    fn step(&self, step: &str) -> Option<&Node<'a>> {
        match self.inside.get_or_init(|| parse_inside(self.raw)) {
            // From the end: of two members with one name the last counts.
            Inside::Members(members) => members.iter().rfind(|(name, _)| name == step).map(|(_, node)| node),
            Inside::Items(items) if step == "0" || !step.starts_with('0') => step
                .bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| step.parse::<usize>().ok())?
                .and_then(|at| items.get(at)),
            Inside::Items(_) | Inside::Nothing => None,
        }
    }

    fn descend(&self, steps: &[Box<str>]) -> Option<&Node<'a>> {
        steps.iter().try_fold(self, |node, step| node.step(step))
    }

    /// The scalar's text: a string's content, a number's digits as written, `true`, `false`.
    /// Null, objects and arrays have none.
    fn text(&self) -> Result<Option<Cow<'a, str>>, NotUnicode> {
        match self.raw.as_bytes().first() {
            Some(b'"') => {
                let inner = self.raw.get(1..self.raw.len().saturating_sub(1)).unwrap_or_default();
                if inner.contains('\\') {
                    serde_json::from_str::<String>(self.raw).map(|text| Some(Cow::Owned(text))).map_err(|_| NotUnicode)
                } else {
                    Ok(Some(Cow::Borrowed(inner)))
                }
            }
            Some(b't' | b'f' | b'-' | b'0'..=b'9') => Ok(Some(Cow::Borrowed(self.raw))),
            _ => Ok(None),
        }
    }
}

fn parse_inside(raw: &str) -> Inside<'_> {
    match raw.as_bytes().first() {
        Some(b'{') => serde_json::from_str::<Members<'_>>(raw).map_or(Inside::Nothing, |m| Inside::Members(m.0)),
        Some(b'[') => serde_json::from_str::<Items<'_>>(raw).map_or(Inside::Nothing, |i| Inside::Items(i.0)),
        _ => Inside::Nothing,
    }
}

struct Members<'a>(Vec<(Cow<'a, str>, Node<'a>)>);
struct Items<'a>(Vec<Node<'a>>);

#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Vec<(Cow<'de, str>, Node<'de>)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(32);
                while let Some((Name(name), raw)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    members.push((name, Node::new(raw.get())));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Read).map(Self)
    }
}

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Vec<Node<'de>>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(raw) = seq.next_element::<&'de RawValue>()? {
                    items.push(Node::new(raw.get()));
                }
                Ok(items)
            }
        }
        deserializer.deserialize_seq(Read).map(Self)
    }
}

/// A pointer at a string whose content is itself a JSON object.
#[derive(Debug, Clone)]
pub(super) struct Unwrap {
    /// Where the string stands.
    pub(super) pointer: Pointer,
    /// Whether pointers are tried inside it before the line itself.
    pub(super) lift: bool,
}

/// A line, and the objects that were found in its strings.
#[derive(Debug)]
pub(super) struct Document<'a> {
    root: Node<'a>,
    inner: Vec<(&'a Unwrap, Node<'a>)>,
}

/// The decoded strings that [`Document::unwrap`] parses; they outlive the document.
pub(super) type Decoded = Vec<Option<String>>;

impl<'a> Document<'a> {
    /// Reads a whole line; `None` unless it is one JSON object.
    pub(super) fn parse(line: &'a str) -> Option<Self> {
        let members = serde_json::from_str::<Members<'_>>(line).ok()?;
        Some(Self { root: Node { raw: line, inside: OnceCell::from(Inside::Members(members.0)) }, inner: Vec::new() })
    }

    /// The contents of the strings that `unwraps` point at, in their order.
    pub(super) fn decode(&self, unwraps: &[Unwrap]) -> Decoded {
        let text = |unwrap: &Unwrap| self.root.descend(&unwrap.pointer.steps)?.text().ok()?.map(Cow::into_owned);
        unwraps.iter().map(text).collect()
    }

    /// Puts the objects inside `decoded` in their places; a string that is no JSON object stays a string.
    pub(super) fn unwrap(&mut self, unwraps: &'a [Unwrap], decoded: &'a Decoded) {
        for (unwrap, text) in unwraps.iter().zip(decoded) {
            if let Some(inner) = text.as_deref().map(str::trim).and_then(Document::parse) {
                self.inner.push((unwrap, inner.root));
            }
        }
    }

    /// The text at a pointer: lifted objects first, then what lies below an unwrapped string, then the line.
    pub(super) fn text(&self, pointer: &Pointer) -> Result<Option<Cow<'a, str>>, NotUnicode> {
        let through = |(unwrap, node): &(&Unwrap, Node<'a>)| {
            let lifted = unwrap.lift.then(|| node.descend(&pointer.steps).map(Node::text)).flatten();
            lifted.or_else(|| pointer.below(&unwrap.pointer).and_then(|rest| node.descend(rest)).map(Node::text))
        };
        for inner in &self.inner {
            match through(inner) {
                None | Some(Ok(None)) => {}
                Some(found) => return found,
            }
        }
        self.root.descend(&pointer.steps).map_or(Ok(None), Node::text)
    }
}
