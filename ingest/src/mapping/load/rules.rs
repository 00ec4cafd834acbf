//! Rules from TOML: sources, templates, steps, tables, formats.
//!
//! Not here: the mapping around them ([`super`]) and what rules do with a line ([`super::super::rule`]).
//!
//! Invariant: a rule that loads has exactly one source, and every name in it resolves.

use std::sync::Arc;

use toml::{Table as Toml, Value};

use super::super::field::{Field, Kind};
use super::super::pattern::Table;
use super::super::rule::{Piece, Rule, Shape, Source, Step, Test, Unlisted, When};
use super::super::time::{TimeFormat, read_zone};
use super::{Keys, Loaded, Scope, join, patterns, pointer, wrong};

/// Most rules of a mapping, those of parts included: work per line is bounded by it.
const RULES: usize = 2_000;

/// A rule, or an array of rules.
pub(super) fn load_rules(scope: &mut Scope, path: &str, value: Value, field: Option<Field>) -> Loaded<Vec<Rule>> {
    let values = match value {
        Value::Array(values) if values.is_empty() => return wrong(path, "at least one rule"),
        Value::Array(values) => values,
        value => vec![value],
    };
    scope.rules += values.len();
    if scope.rules > RULES {
        return wrong(path, format!("at most {RULES} rules in a mapping"));
    }
    let several = values.len() > 1;
    let place = |at: usize| if several { format!("{path}.{at}") } else { path.to_owned() };
    values.into_iter().enumerate().map(|(at, value)| load_rule(scope, &place(at), value, field)).collect()
}

const RULE_KEYS: [&str; 16] = [
    "pointer", "template", "part", "literal", "content", "when", "absent", "steps", "only", "table", "values",
    "unlisted", "then", "format", "zone", "unit",
];

fn load_rule(scope: &Scope, path: &str, value: Value, field: Option<Field>) -> Loaded<Rule> {
    let table = match value {
        Value::String(text) => Toml::from_iter([("pointer".to_owned(), Value::String(text))]),
        Value::Table(table) => table,
        _ => return wrong(path, "a rule: a json pointer, or a table with pointer, template, part or literal"),
    };
    let mut keys = Keys::new(path, table, &RULE_KEYS)?;
    let source = load_source(scope, &mut keys, field)?;
    let when = match keys.take("when") {
        None => None,
        Some(Value::Table(table)) => Some(load_when(scope, &keys.at("when"), table)?),
        Some(_) => {
            return wrong(
                &keys.at("when"),
                "a table: { pointer = \"/x\", is = [..] } or { pointer = \"/x\", present = true }",
            );
        }
    };
    let absent = patterns(keys.texts("absent")?);
    let steps_at = keys.at("steps");
    let steps = keys.texts("steps")?.iter().map(|step| load_step(&steps_at, step)).collect::<Loaded<_>>()?;
    let only = load_only(&mut keys)?;
    let (table, unlisted) = load_lookup(scope, &mut keys)?;
    let then = keys.text("then")?.map(Into::into);
    if then.is_some() && table.is_some() {
        return wrong(&keys.at("then"), "nothing beside a table: the table already says what follows");
    }
    let formats = load_formats(&mut keys, field)?;
    let unit_ns = load_unit(&mut keys, field)?;
    Ok(Rule { source, when, absent, steps, only, table, unlisted, then, formats, unit_ns })
}

fn load_source(scope: &Scope, keys: &mut Keys<'_>, field: Option<Field>) -> Loaded<Source> {
    let mut sources = Vec::new();
    if let Some(text) = keys.text("pointer")? {
        sources.push(Source::Pointer(pointer(&keys.at("pointer"), &text)?));
    }
    if let Some(text) = keys.text("template")? {
        sources.push(Source::Template(load_template(scope, &keys.at("template"), &text)?));
    }
    if let Some(name) = keys.text("part")? {
        sources.push(Source::Part(find_part(scope, &keys.at("part"), &name)?));
    }
    if let Some(text) = keys.text("literal")? {
        sources.push(Source::Literal(text.into()));
    }
    if let Some(flag) = keys.flag("content")? {
        if !flag || field.is_none_or(|field| field.name != "id") {
            return wrong(&keys.at("content"), "true, and for the field id only");
        }
        sources.push(Source::Content);
    }
    match (sources.pop(), sources.is_empty()) {
        (Some(source), true) => Ok(source),
        _ => wrong(&keys.path, "exactly one of pointer, template, part, literal, content"),
    }
}

fn find_part(scope: &Scope, key: &str, name: &str) -> Loaded<usize> {
    let found = scope.parts.iter().position(|part| part == name);
    found.map_or_else(|| wrong(key, "the name of a part under [parts]; parts themselves use none"), Ok)
}

/// `{/pointer}` and `{part}` between texts; `{{` and `}}` for the braces themselves.
fn load_template(scope: &Scope, key: &str, template: &str) -> Loaded<Vec<Piece>> {
    const RIGHT: &str = "texts with {/pointer} and {part} between them, {{ and }} for braces";
    let (mut pieces, mut text, mut rest) = (Vec::new(), String::new(), template);
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        let (brace, after) = (&rest[at..=at], &rest[at + 1..]);
        if let Some(after) = after.strip_prefix(brace) {
            text.push_str(brace);
            rest = after;
            continue;
        }
        let Some((name, after)) = after.split_once('}').filter(|(name, _)| brace == "{" && !name.is_empty()) else {
            return wrong(key, RIGHT);
        };
        if !text.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut text).into()));
        }
        pieces.push(match name.starts_with('/') {
            true => Piece::Pointer(pointer(key, name)?),
            false => Piece::Part(find_part(scope, key, name)?),
        });
        rest = after;
    }
    text.push_str(rest);
    if !text.is_empty() {
        pieces.push(Piece::Text(text.into()));
    }
    Ok(pieces)
}

fn load_when(scope: &Scope, path: &str, table: Toml) -> Loaded<When> {
    let mut keys = Keys::new(path, table, &["pointer", "template", "part", "literal", "content", "is", "present"])?;
    let subject = load_source(scope, &mut keys, None)?;
    let is = patterns(keys.texts("is")?);
    let test = match (is.is_empty(), keys.flag("present")?) {
        (false, None) => Test::Is(is),
        (true, Some(wanted)) => Test::Present(wanted),
        _ => return wrong(path, "either is, with at least one pattern, or present"),
    };
    Ok(When { subject, test })
}

fn load_step(key: &str, step: &str) -> Loaded<Step> {
    let (verb, by) = step.split_once(' ').unwrap_or((step, ""));
    match (verb, by.is_empty()) {
        ("lower", true) if step == verb => Ok(Step::Lower),
        ("slug", true) if step == verb => Ok(Step::Slug),
        ("before-first", false) => Ok(Step::BeforeFirst(by.into())),
        ("after-first", false) => Ok(Step::AfterFirst(by.into())),
        ("before-last", false) => Ok(Step::BeforeLast(by.into())),
        ("after-last", false) => Ok(Step::AfterLast(by.into())),
        _ => {
            wrong(key, "lower, slug, or before-first, after-first, before-last, after-last, a blank and the separator")
        }
    }
}

fn load_only(keys: &mut Keys<'_>) -> Loaded<Option<Shape>> {
    let Some(name) = keys.text("only")? else { return Ok(None) };
    match Shape::NAMES.iter().find(|(known, _)| *known == name) {
        Some((_, shape)) => Ok(Some(*shape)),
        None => wrong(&keys.at("only"), format!("one of {}", Shape::NAMES.map(|(name, _)| name).join(", "))),
    }
}

fn load_lookup(scope: &Scope, keys: &mut Keys<'_>) -> Loaded<(Option<Arc<Table>>, Unlisted)> {
    let inline = match keys.take("values") {
        None => None,
        Some(Value::Table(pairs)) => Some(Arc::new(load_pairs(&keys.at("values"), &pairs)?)),
        Some(_) => return wrong(&keys.at("values"), "a table from source values to ours"),
    };
    let table = match (keys.text("table")?, inline) {
        (None, inline) => inline,
        (Some(_), Some(_)) => return wrong(&keys.at("values"), "table or values, not both"),
        (Some(name), None) => match scope.tables.iter().find(|(known, _)| *known == name) {
            Some((_, table)) => Some(Arc::clone(table)),
            None => return wrong(&keys.at("table"), "the name of a table under [tables]"),
        },
    };
    let unlisted = match keys.take("unlisted") {
        None => Unlisted::Next,
        Some(_) if table.is_none() => return wrong(&keys.at("unlisted"), "only beside table or values"),
        Some(Value::String(word)) if word == "next" => Unlisted::Next,
        Some(Value::String(word)) if word == "keep" => Unlisted::Keep,
        Some(Value::Table(pairs)) => match (pairs.len(), pairs.get("literal")) {
            (1, Some(Value::String(text))) if !text.is_empty() => Unlisted::Otherwise(text.as_str().into()),
            _ => return wrong(&keys.at("unlisted"), UNLISTED_RULE),
        },
        Some(_) => return wrong(&keys.at("unlisted"), UNLISTED_RULE),
    };
    Ok((table, unlisted))
}

const UNLISTED_RULE: &str = "\"next\", \"keep\" or { literal = \"..\" }";

fn load_formats(keys: &mut Keys<'_>, field: Option<Field>) -> Loaded<Vec<TimeFormat>> {
    let (names, zone) = (keys.texts("format")?, keys.text("zone")?);
    let is_time = field.is_some_and(|field| field.kind == Kind::Time);
    let wants_zone = names.iter().any(|name| name == "datetime");
    if is_time == names.is_empty() {
        let right = if is_time {
            "required for time: rfc3339, datetime, epoch-s, epoch-ms, epoch-us, epoch-ns"
        } else {
            "for the field time only"
        };
        return wrong(&keys.at("format"), right);
    }
    let east_minutes = match (wants_zone, zone.as_deref().map(read_zone)) {
        (true, Some(Some(minutes))) => minutes,
        (false, None) => 0,
        (true, _) => return wrong(&keys.at("zone"), "required for datetime: utc, +hh:mm or -hh:mm"),
        (false, Some(_)) => return wrong(&keys.at("zone"), "only beside the format datetime"),
    };
    let one = |name: &String| match name.as_str() {
        "rfc3339" => Ok(TimeFormat::Rfc3339),
        "datetime" => Ok(TimeFormat::DateTime { east_minutes }),
        epoch => match epoch.strip_prefix("epoch-").and_then(unit_ns) {
            Some(unit_ns) => Ok(TimeFormat::Epoch { unit_ns }),
            None => wrong(&keys.at("format"), "rfc3339, datetime, epoch-s, epoch-ms, epoch-us or epoch-ns"),
        },
    };
    names.iter().map(one).collect()
}

fn unit_ns(name: &str) -> Option<i64> {
    match name {
        "s" => Some(1_000_000_000),
        "ms" => Some(1_000_000),
        "us" => Some(1_000),
        "ns" => Some(1),
        _ => None,
    }
}

fn load_unit(keys: &mut Keys<'_>, field: Option<Field>) -> Loaded<Option<i64>> {
    let is_duration = field.is_some_and(|field| field.kind == Kind::Duration);
    match (is_duration, keys.text("unit")?.map(|name| unit_ns(&name))) {
        (true, Some(Some(ns))) => Ok(Some(ns)),
        (false, None) => Ok(None),
        (true, _) => wrong(&keys.at("unit"), "required for duration_us: s, ms, us or ns"),
        (false, Some(_)) => wrong(&keys.at("unit"), "for the field duration_us only"),
    }
}

/// A table's pairs.
pub(super) fn load_pairs(path: &str, pairs: &Toml) -> Loaded<Table> {
    let pair = |(key, value): (&String, &Value)| match value {
        Value::String(text) if !text.is_empty() => Ok((key.clone(), text.clone())),
        _ => wrong(&join(path, key), "a text that is not empty"),
    };
    let pairs = pairs.iter().map(pair).collect::<Loaded<Vec<_>>>()?;
    Ok(Table::new(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))))
}
