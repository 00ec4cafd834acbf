//! Source mappings: how a line of somebody else's audit log becomes a wire event of ours.
//!
//! A mapping is a TOML text (docs/mappings.md) that says, for each of our fields, where its value comes from.
//! The line itself, byte for byte, becomes the event's `attributes`, so a mapping can lose nothing. Not here:
//! reading files and unrolling documents (the command `ingest`), judging the event ([`crate`]'s admission), and
//! hashing: where an id comes from a line's content, the digest is handed in.
//!
//! Inside: `load` (TOML to a plan), `rule` (one value), `document` (the line), `field` (what the wire takes),
//! `pattern` (tables), `time`.
//!
//! Invariants: 1. [`Mapping::apply`] is a pure function of mapping and line; it knows no clock, so a line without
//! a time is rejected. 2. A rejection names fields and pointers, never a value. 3. Nothing is cut short: a
//! value that does not fit rejects the line, or where the mapping says so leaves its field out or asks the
//! next rule. 4. On an error the output is as it was.

use std::borrow::Cow;
use std::fmt;

mod document;
mod field;
mod load;
mod pattern;
mod rule;
mod time;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

use document::Document;
use field::{Field, Kind, Unfit, Values};
use load::{Fill, Overlong, Plan};
use rule::{Digest, Evaluation, Fault};

const BUILTIN: [(&str, &str); 5] = [
    ("cloudtrail", include_str!("../mappings/cloudtrail.toml")),
    ("github", include_str!("../mappings/github.toml")),
    ("kubernetes", include_str!("../mappings/kubernetes.toml")),
    ("okta", include_str!("../mappings/okta.toml")),
    ("windows", include_str!("../mappings/windows.toml")),
];

const BUILTIN_NAMES: [&str; 5] = [BUILTIN[0].0, BUILTIN[1].0, BUILTIN[2].0, BUILTIN[3].0, BUILTIN[4].0];

/// A mapping that is wrong; says where and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// The text is no TOML.
    #[error("line {line} of the mapping is not toml: {fault}")]
    Syntax {
        /// Where, counted from 1.
        line: usize,
        /// The reader's words.
        fault: String,
    },
    /// A key is unknown, missing, or has a wrong value.
    #[error("{key} in the mapping is wrong; right is {right}")]
    Key {
        /// Its path from the top, with dots; entries of arrays by their number from 0.
        key: String,
        /// What would be right.
        right: String,
    },
    /// The text is a mapping of a later version of the language.
    #[error("the mapping is of version {version} of the language: use a newer piperoll, or a mapping of version 1")]
    Newer {
        /// Which version.
        version: i64,
    },
    /// The text is too long to be a mapping.
    #[error("the mapping is longer than {limit} bytes")]
    TooLong {
        /// The bound.
        limit: usize,
    },
}

/// Why a line gives no event. Names fields and pointers, never what the line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The field of the event that cannot be filled, or `line` when the line itself is at fault.
    pub field: Cow<'static, str>,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

impl std::error::Error for Rejection {}

/// A parsed, checked, immutable mapping.
#[derive(Debug, Clone)]
pub struct Mapping {
    plan: Plan,
    digest: Option<Digest>,
    tenant: Option<Box<str>>,
}

impl Mapping {
    /// A mapping that ships with Piperoll, by name.
    pub fn builtin(name: &str) -> Option<Mapping> {
        let (_, text) = BUILTIN.iter().find(|(known, _)| *known == name)?;
        // A test parses every shipped text, so this `ok` hides nothing.
        Self::parse(text).ok()
    }

    /// The names [`Mapping::builtin`] knows.
    pub fn builtin_names() -> &'static [&'static str] {
        &BUILTIN_NAMES
    }

    /// Parses and checks a mapping.
    ///
    /// # Errors
    /// [`MappingError`] names the line or key at fault; the author of the mapping corrects it.
    pub fn parse(toml: &str) -> Result<Mapping, MappingError> {
        Ok(Self { plan: load::load(toml)?, digest: None, tenant: None })
    }

    /// The mapping's own name.
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// The pointer to the array of events, for sources that deliver one JSON document instead of lines: the
    /// caller unrolls it and applies the mapping to each element's text.
    pub fn records(&self) -> Option<&str> {
        self.plan.records.as_deref()
    }

    /// Gives the digest that ids from content are made with.
    #[must_use]
    pub fn with_digest(mut self, digest: fn(&[u8]) -> [u8; 32]) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Gives the tenant of lines in which the mapping finds none. A tenant that the line does name stands.
    #[must_use]
    pub fn with_tenant(mut self, tenant: &str) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Maps one line of source JSON to one wire event, appended to `out` as JSON without line ends.
    ///
    /// # Errors
    /// [`Rejection`] when the line is no JSON object, lacks what every event must have, or has a value that
    /// its field does not take; `out` is then as before.
    pub fn apply(&self, line: &[u8], out: &mut Vec<u8>) -> Result<(), Rejection> {
        let text = std::str::from_utf8(line).map_err(|_| reject("line", "is not utf-8"))?;
        let text = text.trim_matches([' ', '\t', '\r', '\n']);
        let Some(outer) = Document::parse(text) else {
            return Err(reject("line", "is not one json object"));
        };
        let plan = &self.plan;
        let decoded = outer.decode(&plan.unwraps);
        if decoded.iter().all(Option::is_none) {
            return self.write(&outer, text, out);
        }
        let Some(mut document) = Document::parse(text) else {
            return Err(reject("line", "is not one json object"));
        };
        document.unwrap(&plan.unwraps, &decoded);
        self.write(&document, text, out)
    }

    fn write(&self, document: &Document<'_>, line: &str, out: &mut Vec<u8>) -> Result<(), Rejection> {
        let plan = &self.plan;
        let evaluation = Evaluation::new(document, line, &plan.absent, &plan.parts, self.digest);
        let mut values: Values<'_> = [const { None }; field::ALL.len()];
        let mut fills = plan.fills.iter().peekable();
        for (at, (field, slot)) in field::ALL.iter().zip(values.iter_mut()).enumerate() {
            let fill = fills.next_if(|fill| fill.at == at);
            *slot = self.fill(field, fill, &evaluation)?;
        }
        field::write_event(&values, line, out);
        Ok(())
    }

    /// The value of one field, if any.
    fn fill<'v>(
        &'v self,
        field: &Field,
        fill: Option<&'v Fill>,
        evaluation: &Evaluation<'v, '_>,
    ) -> Result<Option<Cow<'v, str>>, Rejection> {
        let overlong = fill.map_or(Overlong::Reject, |fill| fill.overlong);
        let fits = |value: &str| overlong != Overlong::Next || field.limit().is_none_or(|limit| value.len() <= limit);
        let found = fill
            .map_or(Ok(None), |fill| evaluation.first(&fill.rules, fits))
            .map_err(|fault| explain(field, &fault))?;
        let given = self.tenant.as_deref().filter(|_| field.kind == Kind::Tenant).map(Cow::Borrowed);
        let Some(value) = found.or(given) else {
            return if field.required { Err(missing(field, fill)) } else { Ok(None) };
        };
        match field.admit(value) {
            Ok(value) => Ok(Some(value)),
            Err(Unfit::Overlong(_)) if overlong == Overlong::Omit => Ok(None),
            Err(Unfit::Overlong(limit)) => Err(reject(field.name, format!("is longer than {limit} bytes"))),
            Err(Unfit::Invalid(right)) => Err(reject(field.name, format!("has a wrong form; right is {right}"))),
        }
    }
}

fn reject(field: &'static str, reason: impl Into<String>) -> Rejection {
    Rejection { field: field.into(), reason: reason.into() }
}

fn missing(field: &Field, fill: Option<&Fill>) -> Rejection {
    let tried = fill.map_or("", |fill| &fill.tried);
    let nothing = if tried.is_empty() {
        "the mapping has no rule for it".to_owned()
    } else {
        format!("nothing usable at {tried}")
    };
    match field.kind {
        Kind::Tenant => reject(field.name, format!("{nothing}, and no tenant was given beside the mapping")),
        _ => reject(field.name, nothing),
    }
}

fn explain(field: &Field, fault: &Fault) -> Rejection {
    match fault {
        Fault::NotUnicode(at) => reject(field.name, format!("the text at {at} is no valid unicode")),
        Fault::Time(at) => reject(field.name, format!("the value at {at} is in none of the formats its rule names")),
        Fault::NoDigest => {
            reject(field.name, "the id is to come from the content, and no digest was given beside the mapping")
        }
    }
}
