//! TOML to a checked plan: every key is known, every name resolves, or the error names the key and what would
//! be right.
//!
//! Not here: what rules do with a line ([`super::rule`]). docs/mappings.md describes the language; each key
//! here has its paragraph there.
//!
//! Invariant: a [`Plan`] that exists can be applied to any line without looking at the TOML again.

use std::sync::Arc;

use toml::{Table as Toml, Value};

use super::MappingError;
use super::document::{Pointer, Unwrap};
use super::field::{self, Field, Kind};
use super::pattern::{Pattern, Table};
use super::rule::Rule;

mod rules;

use rules::{load_pairs, load_rules};

/// Longest mapping file in bytes; the largest shipped one has a tenth of it.
pub(super) const MAPPING_BYTES: usize = 256 * 1_024;

/// What to do with a value longer than its field takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overlong {
    Reject,
    Omit,
    Next,
}

/// How one field is filled.
#[derive(Debug, Clone)]
pub(super) struct Fill {
    /// Its place in [`field::ALL`].
    pub(super) at: usize,
    pub(super) rules: Vec<Rule>,
    pub(super) overlong: Overlong,
    /// The pointers its rules look at, for rejections.
    pub(super) tried: Box<str>,
}

/// A mapping, checked.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) name: Box<str>,
    pub(super) records: Option<Box<str>>,
    pub(super) absent: Vec<Pattern>,
    pub(super) unwraps: Vec<Unwrap>,
    pub(super) parts: Vec<Vec<Rule>>,
    /// In the order of [`field::ALL`].
    pub(super) fills: Vec<Fill>,
}

type Loaded<T> = Result<T, MappingError>;

fn wrong<T>(key: &str, right: impl Into<String>) -> Loaded<T> {
    Err(MappingError::Key { key: key.into(), right: right.into() })
}

/// One TOML table while its keys are taken out of it.
struct Keys<'k> {
    path: String,
    table: Toml,
    known: &'k [&'k str],
}

impl<'k> Keys<'k> {
    fn new(path: &str, table: Toml, known: &'k [&'k str]) -> Loaded<Self> {
        match table.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => wrong(&join(path, key), format!("no such key; here stand {}", known.join(", "))),
            None => Ok(Self { path: path.into(), table, known }),
        }
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        debug_assert!(self.known.contains(&key));
        self.table.remove(key)
    }

    fn at(&self, key: &str) -> String {
        join(&self.path, key)
    }

    fn text(&mut self, key: &str) -> Loaded<Option<String>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
            Some(_) => wrong(&self.at(key), "a text that is not empty"),
        }
    }

    fn flag(&mut self, key: &str) -> Loaded<Option<bool>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Boolean(flag)) => Ok(Some(flag)),
            Some(_) => wrong(&self.at(key), "true or false"),
        }
    }

    /// A text or an array of texts.
    fn texts(&mut self, key: &str) -> Loaded<Vec<String>> {
        let path = self.at(key);
        let text = |value: Value| match value {
            Value::String(text) => Ok(text),
            _ => wrong(&path, "a text or an array of texts"),
        };
        match self.take(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => values.into_iter().map(text).collect(),
            Some(value) => Ok(vec![text(value)?]),
        }
    }

    fn subtable(&mut self, key: &str) -> Loaded<Toml> {
        match self.take(key) {
            None => Ok(Toml::new()),
            Some(Value::Table(table)) => Ok(table),
            Some(_) => wrong(&self.at(key), "a table"),
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.into() } else { format!("{path}.{key}") }
}

/// Parses and checks a whole mapping.
pub(super) fn load(text: &str) -> Loaded<Plan> {
    if text.len() > MAPPING_BYTES {
        return Err(MappingError::TooLong { limit: MAPPING_BYTES });
    }
    let root = text.parse::<Toml>().map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        MappingError::Syntax { line: before.bytes().filter(|b| *b == b'\n').count() + 1, fault: error.message().into() }
    })?;
    if let Some(Value::Integer(version @ 2..)) = root.get("mapping") {
        return Err(MappingError::Newer { version: *version });
    }
    let mut keys =
        Keys::new("", root, &["mapping", "name", "about", "records", "absent", "unwrap", "tables", "parts", "fields"])?;
    if keys.take("mapping") != Some(Value::Integer(1)) {
        return wrong("mapping", "1, the version of the language");
    }
    let name = match keys.text("name")? {
        Some(name) if field::is_tenant(&name) => name,
        _ => return wrong("name", field::TENANT_RULE),
    };
    keys.text("about")?;
    let records = keys.text("records")?;
    if records.as_deref().is_some_and(|pointer| Pointer::parse(pointer).is_none()) {
        return wrong("records", POINTER_RULE);
    }
    let absent = patterns(keys.texts("absent")?);
    let unwraps = load_unwraps(keys.take("unwrap"))?;
    let mut scope = Scope { tables: load_tables(keys.subtable("tables")?)?, parts: Vec::new(), rules: 0 };
    let parts = load_parts(&mut scope, keys.subtable("parts")?)?;
    let fills = load_fields(&mut scope, keys.subtable("fields")?, &parts)?;
    Ok(Plan { name: name.into(), records: records.map(Into::into), absent, unwraps, parts, fills })
}

const POINTER_RULE: &str = "a json pointer: /name/name, with ~1 for / and ~0 for ~ inside a name";

fn patterns(texts: Vec<String>) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::new(text)).collect()
}

fn pointer(key: &str, text: &str) -> Loaded<Pointer> {
    Pointer::parse(text).map_or_else(|| wrong(key, POINTER_RULE), Ok)
}

fn load_unwraps(value: Option<Value>) -> Loaded<Vec<Unwrap>> {
    let entries = match value {
        None => Vec::new(),
        Some(Value::Array(entries)) => entries,
        Some(_) => return wrong("unwrap", "[[unwrap]], an array of tables"),
    };
    let one = |(at, entry): (usize, Value)| {
        let path = format!("unwrap.{at}");
        let Value::Table(table) = entry else { return wrong(&path, "a table with a pointer") };
        let mut keys = Keys::new(&path, table, &["pointer", "lift"])?;
        let Some(text) = keys.text("pointer")? else { return wrong(&keys.at("pointer"), POINTER_RULE) };
        Ok(Unwrap { pointer: pointer(&keys.at("pointer"), &text)?, lift: keys.flag("lift")?.unwrap_or(false) })
    };
    entries.into_iter().enumerate().map(one).collect()
}

/// What rules may refer to by name.
struct Scope {
    tables: Vec<(String, Arc<Table>)>,
    parts: Vec<String>,
    rules: usize,
}

fn load_tables(tables: Toml) -> Loaded<Vec<(String, Arc<Table>)>> {
    let one = |(name, value): (String, Value)| {
        let path = join("tables", &name);
        let Value::Table(pairs) = value else { return wrong(&path, "a table from source values to ours") };
        Ok((name, Arc::new(load_pairs(&path, &pairs)?)))
    };
    tables.into_iter().map(one).collect()
}

fn load_parts(scope: &mut Scope, parts: Toml) -> Loaded<Vec<Vec<Rule>>> {
    let mut names = Vec::new();
    let mut rules = Vec::new();
    for (name, value) in parts {
        // The scope has no part's name yet: so a part that refers to a part is refused.
        rules.push(load_rules(scope, &join("parts", &name), value, None)?);
        names.push(name);
    }
    scope.parts = names;
    Ok(rules)
}

fn load_fields(scope: &mut Scope, fields: Toml, parts: &[Vec<Rule>]) -> Loaded<Vec<Fill>> {
    let mut fills = Vec::new();
    for (name, value) in fields {
        let path = join("fields", &name);
        let Some(at) = Field::find(&name) else {
            let names: Vec<_> = field::ALL.iter().map(|field| field.name).collect();
            return wrong(&path, format!("a field of the event, a dotted one in quotes: {}", names.join(", ")));
        };
        fills.push(load_fill(scope, &path, at, value, parts)?);
    }
    fills.sort_by_key(|fill| fill.at);
    let filled = |at: usize| fills.iter().any(|fill| fill.at == at);
    let missing =
        field::ALL.iter().enumerate().find(|(at, field)| field.required && field.kind != Kind::Tenant && !filled(*at));
    match missing {
        Some((_, field)) => wrong(&join("fields", field.name), "required: an event without it is none"),
        None => Ok(fills),
    }
}

fn load_fill(scope: &mut Scope, path: &str, at: usize, value: Value, parts: &[Vec<Rule>]) -> Loaded<Fill> {
    let (value, overlong) = match value {
        Value::Table(table) if table.contains_key("from") => {
            let mut keys = Keys::new(path, table, &["from", "overlong"])?;
            let overlong = match keys.text("overlong")?.as_deref() {
                None | Some("reject") => Overlong::Reject,
                Some("omit") if !field::ALL[at].required => Overlong::Omit,
                Some("next") => Overlong::Next,
                Some(_) => {
                    return wrong(&keys.at("overlong"), "reject, next, or for a field that is not required omit");
                }
            };
            (keys.take("from").unwrap_or(Value::Array(Vec::new())), overlong)
        }
        value => (value, Overlong::Reject),
    };
    let rules = load_rules(scope, path, value, Some(field::ALL[at]))?;
    let mut tried = Vec::new();
    rules.iter().for_each(|rule| rule.source.pointers(parts, &mut tried));
    Ok(Fill { at, overlong, tried: tried.join(", ").into(), rules })
}
