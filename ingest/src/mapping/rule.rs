//! How one value is made: where from, under which condition, changed how, looked up where.
//!
//! Not here: reading rules from TOML ([`super::load`]), what a field admits ([`super::field`]).
//! Neighbours: [`super::document`] gives the texts, [`super::pattern`] the tables, [`super::time`] the times.
//!
//! Invariants: 1. a rule that has nothing to say gives `None`, and the next one is asked; only a text that is
//! no Unicode and a time in a wrong format stop the line. 2. Parts never use parts, so evaluation ends.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

use super::document::{Document, Pointer};
use super::field;
use super::pattern::{Pattern, Table};
use super::time::{self, TimeFormat};

/// Where a value comes from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Pointer(Pointer),
    /// Texts and values in turn; without one of its values there is no text at all.
    Template(Vec<Piece>),
    /// A named intermediate value, by its place.
    Part(usize),
    Literal(Box<str>),
    /// The digest of the line; for `id` only.
    Content,
}

/// A stretch of a template.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    Text(Box<str>),
    Pointer(Pointer),
    Part(usize),
}

/// One change of a text. Cuts give nothing where the separator does not occur.
#[derive(Debug, Clone)]
pub(super) enum Step {
    BeforeFirst(Box<str>),
    AfterFirst(Box<str>),
    BeforeLast(Box<str>),
    AfterLast(Box<str>),
    Lower,
    Slug,
}

/// A shape that a value must have, else the next rule is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Uuid,
    Tenant,
    Domain,
    Dotted,
    Integer,
}

/// What happens to a value that its table does not list.
#[derive(Debug, Clone)]
pub(super) enum Unlisted {
    Next,
    Keep,
    Otherwise(Box<str>),
}

/// A condition on another value of the same line.
#[derive(Debug, Clone)]
pub(super) struct When {
    pub(super) subject: Source,
    pub(super) test: Test,
}

/// What the condition asks.
#[derive(Debug, Clone)]
pub(super) enum Test {
    Is(Vec<Pattern>),
    Present(bool),
}

/// One way to a value.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) source: Source,
    pub(super) when: Option<When>,
    pub(super) absent: Vec<Pattern>,
    pub(super) steps: Vec<Step>,
    pub(super) only: Option<Shape>,
    pub(super) table: Option<Arc<Table>>,
    pub(super) unlisted: Unlisted,
    pub(super) then: Option<Box<str>>,
    pub(super) formats: Vec<TimeFormat>,
    /// Nanoseconds in one unit of a duration.
    pub(super) unit_ns: Option<i64>,
}

/// Why a line cannot be mapped although its rules spoke; names the pointer, never the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    NotUnicode(Box<str>),
    Time(Box<str>),
    NoDigest,
}

/// SHA-256 or the like, handed in because hashing lives elsewhere.
pub(super) type Digest = fn(&[u8]) -> [u8; 32];

/// The evaluation of one line.
pub(super) struct Evaluation<'a, 'd> {
    document: &'a Document<'d>,
    line: &'a str,
    absent: &'a [Pattern],
    digest: Option<Digest>,
    part_rules: &'a [Vec<Rule>],
    parts: Vec<OnceCell<Option<Cow<'a, str>>>>,
}

type Found<'a> = Result<Option<Cow<'a, str>>, Fault>;

impl<'a, 'd: 'a> Evaluation<'a, 'd> {
    /// Begins; no part is computed yet.
    pub(super) fn new(
        document: &'a Document<'d>,
        line: &'a str,
        absent: &'a [Pattern],
        part_rules: &'a [Vec<Rule>],
        digest: Option<Digest>,
    ) -> Self {
        let parts = part_rules.iter().map(|_| OnceCell::new()).collect();
        Self { document, line, absent, digest, part_rules, parts }
    }

    /// The first value that one of the rules gives and `fits` lets pass.
    pub(super) fn first(&self, rules: &'a [Rule], mut fits: impl FnMut(&str) -> bool) -> Found<'a> {
        for rule in rules {
            match self.value(rule)? {
                Some(value) if fits(&value) => return Ok(Some(value)),
                _ => {}
            }
        }
        Ok(None)
    }

    fn value(&self, rule: &'a Rule) -> Found<'a> {
        if let Some(when) = &rule.when
            && !self.holds(when)?
        {
            return Ok(None);
        }
        let Some(value) = self.source(&rule.source)? else { return Ok(None) };
        if rule.absent.iter().any(|pattern| pattern.fits(&value)) {
            return Ok(None);
        }
        let changed = rule.steps.iter().try_fold(value, |value, step| step.apply(value));
        let Some(value) = changed.filter(|v| !v.is_empty() && rule.only.is_none_or(|shape| shape.fits(v))) else {
            return Ok(None);
        };
        let value = match (&rule.table, &rule.then) {
            (None, None) => value,
            (None, Some(then)) => Cow::Borrowed(&**then),
            (Some(table), _) => match (table.get(&value), &rule.unlisted) {
                (Some(listed), _) => Cow::Borrowed(listed),
                (None, Unlisted::Keep) => value,
                (None, Unlisted::Otherwise(text)) => Cow::Borrowed(&**text),
                (None, Unlisted::Next) => return Ok(None),
            },
        };
        Self::convert(rule, value)
    }

    /// Times and durations to the form of the wire.
    fn convert(rule: &'a Rule, value: Cow<'a, str>) -> Found<'a> {
        if !rule.formats.is_empty() {
            let us = rule.formats.iter().find_map(|format| format.read(&value));
            return us
                .map(|us| Some(Cow::Owned(time::write_rfc3339(us))))
                .ok_or_else(|| Fault::Time(rule.source.name()));
        }
        match rule.unit_ns {
            Some(unit_ns) => {
                Ok(time::decimal_times(&value, i128::from(unit_ns), 1_000).map(|us| Cow::Owned(us.to_string())))
            }
            None => Ok(Some(value)),
        }
    }

    fn holds(&self, when: &'a When) -> Result<bool, Fault> {
        let value = self.source(&when.subject)?;
        Ok(match &when.test {
            Test::Present(wanted) => value.is_some() == *wanted,
            Test::Is(patterns) => value.is_some_and(|value| patterns.iter().any(|pattern| pattern.fits(&value))),
        })
    }

    fn source(&self, source: &'a Source) -> Found<'a> {
        match source {
            Source::Pointer(pointer) => self.look(pointer),
            Source::Part(at) => self.part(*at),
            Source::Literal(text) => Ok(Some(Cow::Borrowed(text))),
            Source::Template(pieces) => self.template(pieces),
            Source::Content => {
                let digest = self.digest.ok_or(Fault::NoDigest)?;
                Ok(Some(Cow::Owned(content_id(&digest(self.line.as_bytes())))))
            }
        }
    }

    fn look(&self, pointer: &Pointer) -> Found<'a> {
        let text = self.document.text(pointer).map_err(|_| Fault::NotUnicode(pointer.as_str().into()))?;
        Ok(text.filter(|text| !text.is_empty() && !self.absent.iter().any(|pattern| pattern.fits(text))))
    }

    fn part(&self, at: usize) -> Found<'a> {
        let (Some(cell), Some(rules)) = (self.parts.get(at), self.part_rules.get(at)) else { return Ok(None) };
        if let Some(known) = cell.get() {
            return Ok(known.clone());
        }
        let value = self.first(rules, |_| true)?;
        Ok(cell.get_or_init(|| value).clone())
    }

    fn template(&self, pieces: &'a [Piece]) -> Found<'a> {
        let mut whole = String::with_capacity(64);
        for piece in pieces {
            let value = match piece {
                Piece::Text(text) => Some(Cow::Borrowed(&**text)),
                Piece::Pointer(pointer) => self.look(pointer)?,
                Piece::Part(at) => self.part(*at)?,
            };
            match value {
                Some(value) => whole.push_str(&value),
                None => return Ok(None),
            }
        }
        Ok(Some(Cow::Owned(whole)))
    }
}

/// `content-` and the digest in hexadecimal: 72 bytes.
fn content_id(digest: &[u8; 32]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    let mut id = String::from("content-");
    digest.iter().for_each(|byte| id.extend([digit(byte >> 4), digit(*byte)]));
    id
}

impl Source {
    /// Names of what is looked at, for a rejection: pointers, or the word for what has none.
    pub(super) fn name(&self) -> Box<str> {
        match self {
            Self::Pointer(pointer) => pointer.as_str().into(),
            Self::Template(_) => "a template".into(),
            Self::Part(_) => "a part".into(),
            Self::Literal(_) => "a literal".into(),
            Self::Content => "the content".into(),
        }
    }

    /// Appends every pointer this looks at, through parts, each once.
    pub(super) fn pointers<'s>(&'s self, parts: &'s [Vec<Rule>], into: &mut Vec<&'s str>) {
        let mut add = |pointer: &'s Pointer| {
            if !into.contains(&pointer.as_str()) {
                into.push(pointer.as_str());
            }
        };
        let through = match self {
            Self::Pointer(pointer) => return add(pointer),
            Self::Literal(_) | Self::Content => return,
            Self::Part(at) => vec![*at],
            Self::Template(pieces) => {
                let mut through = Vec::new();
                for piece in pieces {
                    match piece {
                        Piece::Text(_) => {}
                        Piece::Pointer(pointer) => add(pointer),
                        Piece::Part(at) => through.push(*at),
                    }
                }
                through
            }
        };
        for rule in through.into_iter().filter_map(|at| parts.get(at)).flatten() {
            rule.source.pointers(parts, into);
        }
    }
}

impl Step {
    fn apply<'v>(&self, value: Cow<'v, str>) -> Option<Cow<'v, str>> {
        match self {
            Self::BeforeFirst(by) => cut(value, |v| v.find(&**by).map(|at| (0, at))),
            Self::AfterFirst(by) => cut(value, |v| v.find(&**by).map(|at| (at + by.len(), v.len()))),
            Self::BeforeLast(by) => cut(value, |v| v.rfind(&**by).map(|at| (0, at))),
            Self::AfterLast(by) => cut(value, |v| v.rfind(&**by).map(|at| (at + by.len(), v.len()))),
            Self::Lower => Some(field::lower(value)),
            Self::Slug => Some(Cow::Owned(slug(&value))),
        }
    }
}

fn cut<'v>(value: Cow<'v, str>, range: impl Fn(&str) -> Option<(usize, usize)>) -> Option<Cow<'v, str>> {
    let (from, to) = range(&value)?;
    match value {
        Cow::Borrowed(text) => text.get(from..to).map(Cow::Borrowed),
        Cow::Owned(text) => text.get(from..to).map(|part| Cow::Owned(part.to_owned())),
    }
}

/// ASCII letters lower-cased, digits and `_` kept, every other run one hyphen, none at the ends.
fn slug(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            out.push(c.to_ascii_lowercase());
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    out.truncate(out.trim_end_matches('-').len());
    out
}

impl Shape {
    /// The names a mapping may use.
    pub(super) const NAMES: [(&'static str, Shape); 5] = [
        ("uuid", Self::Uuid),
        ("tenant", Self::Tenant),
        ("domain", Self::Domain),
        ("dotted", Self::Dotted),
        ("integer", Self::Integer),
    ];

    fn fits(self, text: &str) -> bool {
        let bytes = text.as_bytes();
        match self {
            Self::Uuid => {
                bytes.len() == 36
                    && bytes.iter().enumerate().all(|(at, b)| match at {
                        8 | 13 | 18 | 23 => *b == b'-',
                        _ => b.is_ascii_hexdigit(),
                    })
            }
            Self::Tenant => field::is_tenant(&field::lower(Cow::Borrowed(text))),
            Self::Domain => Self::Tenant.fits(text) && Self::Dotted.fits(text),
            Self::Dotted => text.rsplit_once('.').is_some_and(|(noun, verb)| !noun.is_empty() && !verb.is_empty()),
            Self::Integer => {
                let digits = text.strip_prefix('-').unwrap_or(text);
                !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
            }
        }
    }
}
