//! The fields of the wire event that a mapping can fill, what each admits, and how they are written.
//!
//! Not here: where a value comes from ([`super::rule`]). The server judges the event again; the checks stand
//! here as well so that a line is rejected under the name of its mapping's field, before it travels.
//! Neighbours: [`super::load`] finds a field by its name, [`super`] writes the event.
//!
//! Invariants: 1. `ALL` is in the order of judgement: of several faults of one line the first in this order is
//! reported. 2. What [`Field::admit`] lets pass is valid on the wire.

use std::borrow::Cow;

/// Longest skeleton string in bytes (the ledger's bound).
const SKELETON_BYTES: usize = 128;
/// Longest identity string in bytes (the ledger's bound).
const IDENTITY_BYTES: usize = 2_048;

/// What values a field takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text of at most so many bytes.
    Text(usize),
    /// `noun.verb`, at most so many bytes.
    Action(usize),
    /// RFC 3339 UTC; rules state how the source writes it.
    Time,
    /// `[a-z0-9][a-z0-9._-]{0,62}`; ASCII letters are lower-cased, nothing else is changed.
    Tenant,
    /// One of a few words.
    Word(&'static [&'static str]),
    /// 1 to 24, or one of six names.
    Severity,
    /// Microseconds, a whole number of 0 or more; rules state the unit.
    Duration,
    /// So many lower-case hexadecimal digits, not all zero.
    Hex(usize),
}

/// A field of the wire event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    /// Its name in mappings and rejections; a dot for what stands inside `actor` or `resource`.
    pub(super) name: &'static str,
    /// What it takes.
    pub(super) kind: Kind,
    /// Whether an event without it is no event.
    pub(super) required: bool,
}

const SKELETON: Kind = Kind::Text(SKELETON_BYTES);
const IDENTITY: Kind = Kind::Text(IDENTITY_BYTES);
const STREAMS: Kind = Kind::Word(&["audit", "telemetry"]);
const OUTCOMES: Kind = Kind::Word(&["success", "failure", "denied", "error", "unknown"]);
const ACTORS: Kind = Kind::Word(&["user", "service", "agent", "support", "partner", "system", "anonymous"]);
const SEVERITIES: [&str; 6] = ["trace", "debug", "info", "warn", "error", "fatal"];

const fn need(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: true }
}

const fn may(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: false }
}

/// Every field a mapping can fill, in the order of judgement; those of one object stand together.
pub(super) const ALL: [Field; 36] = [
    need("time", Kind::Time),
    need("tenant", Kind::Tenant),
    need("action", Kind::Action(SKELETON_BYTES)),
    need("actor.type", ACTORS),
    may("actor.id", IDENTITY),
    may("actor.name", IDENTITY),
    may("actor.on_behalf_of", IDENTITY),
    may("id", SKELETON),
    may("stream", STREAMS),
    may("outcome", OUTCOMES),
    may("reason", SKELETON),
    may("resource.type", SKELETON),
    may("resource.id", IDENTITY),
    may("resource.name", IDENTITY),
    may("resource.class", SKELETON),
    may("resource.boundary", SKELETON),
    may("legal_entity", IDENTITY),
    may("business_unit", IDENTITY),
    may("client", IDENTITY),
    may("project", IDENTITY),
    may("partner", IDENTITY),
    may("source_ip", IDENTITY),
    may("session", IDENTITY),
    may("user_agent", IDENTITY),
    may("credential", IDENTITY),
    may("service", SKELETON),
    may("workflow", SKELETON),
    may("integration", SKELETON),
    may("release", SKELETON),
    may("region", SKELETON),
    may("severity", Kind::Severity),
    may("duration_us", Kind::Duration),
    may("trace_id", Kind::Hex(32)),
    may("span_id", Kind::Hex(16)),
    may("elevation_id", SKELETON),
    may("approval_id", SKELETON),
];

/// Why a value cannot stand in a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Longer than the field's bound, in bytes.
    Overlong(usize),
    /// Not what the field takes; says what would be right.
    Invalid(Cow<'static, str>),
}

impl Field {
    /// The place of a field in [`ALL`].
    pub(super) fn find(name: &str) -> Option<usize> {
        ALL.iter().position(|field| field.name == name)
    }

    /// The most bytes it takes, where that is its own bound.
    pub(super) fn limit(&self) -> Option<usize> {
        match self.kind {
            Kind::Text(limit) | Kind::Action(limit) => Some(limit),
            _ => None,
        }
    }

    /// Checks a value, and lower-cases a tenant.
    pub(super) fn admit<'v>(&self, value: Cow<'v, str>) -> Result<Cow<'v, str>, Unfit> {
        let invalid = |right: &'static str| Err(Unfit::Invalid(right.into()));
        if value.contains('\0') {
            return invalid("text without the character u+0000");
        }
        match self.kind {
            Kind::Text(limit) | Kind::Action(limit) if value.len() > limit => Err(Unfit::Overlong(limit)),
            Kind::Action(_) if !has_noun_and_verb(&value) => invalid("a noun, a dot and a verb"),
            Kind::Text(_) | Kind::Action(_) | Kind::Time => Ok(value),
            Kind::Tenant => {
                let value = lower(value);
                if is_tenant(&value) { Ok(value) } else { invalid(TENANT_RULE) }
            }
            Kind::Word(words) if words.contains(&&*value) => Ok(value),
            Kind::Word(words) => Err(Unfit::Invalid(format!("one of {}", words.join(", ")).into())),
            Kind::Severity if SEVERITIES.contains(&&*value) || is_severity_number(&value) => Ok(value),
            Kind::Severity => invalid("1 to 24, or one of trace, debug, info, warn, error, fatal"),
            Kind::Duration if value.parse::<i64>().is_ok_and(|us| us >= 0) => Ok(value),
            Kind::Duration => invalid("a whole number of microseconds, 0 or more"),
            Kind::Hex(digits) if is_lower_hex(&value, digits) => Ok(value),
            Kind::Hex(digits) => {
                Err(Unfit::Invalid(format!("{digits} lower-case hexadecimal digits, not all zero").into()))
            }
        }
    }

    /// Appends the admitted value as JSON.
    fn write_value(&self, value: &str, out: &mut Vec<u8>) {
        match self.kind {
            Kind::Duration => out.extend_from_slice(value.as_bytes()),
            Kind::Severity if value.bytes().all(|b| b.is_ascii_digit()) => out.extend_from_slice(value.as_bytes()),
            _ => write_string(value, out),
        }
    }
}

/// What a right tenant looks like.
pub(super) const TENANT_RULE: &str = "1 to 63 of a-z 0-9 . _ -, beginning with a letter or digit";

/// Whether a text can be a tenant as it stands.
pub(super) fn is_tenant(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|b| plain(b) || matches!(b, b'.' | b'_' | b'-'))
}

/// ASCII lower case, without a copy where nothing changes.
pub(super) fn lower(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) { Cow::Owned(text.to_ascii_lowercase()) } else { text }
}

fn has_noun_and_verb(text: &str) -> bool {
    text.rsplit_once('.').is_some_and(|(noun, verb)| !noun.is_empty() && !verb.is_empty())
}

fn is_severity_number(text: &str) -> bool {
    !text.starts_with('0')
        && text.bytes().all(|b| b.is_ascii_digit())
        && text.parse::<u8>().is_ok_and(|n| (1..=24).contains(&n))
}

fn is_lower_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        && text.bytes().any(|b| b != b'0')
}

/// Appends a JSON string.
fn write_string(text: &str, out: &mut Vec<u8>) {
    // Writing a str into a Vec has no way to fail: no IO, and every str is a JSON string.
    let written = serde_json::to_writer(&mut *out, text);
    debug_assert!(written.is_ok());
}

/// The values of one event, by place in [`ALL`].
pub(super) type Values<'v> = [Option<Cow<'v, str>>; ALL.len()];

/// Appends the event; `attributes` is the JSON text of an object.
pub(super) fn write_event(values: &Values<'_>, attributes: &str, out: &mut Vec<u8>) {
    out.push(b'{');
    let mut open = "";
    for (field, value) in ALL.iter().zip(values) {
        let Some(value) = value else { continue };
        let (object, name) = field.name.split_once('.').unwrap_or(("", field.name));
        if object != open {
            close_object(open, out);
            if !object.is_empty() {
                write_string(object, out);
                out.extend_from_slice(b":{");
            }
            open = object;
        }
        write_string(name, out);
        out.push(b':');
        field.write_value(value, out);
        out.push(b',');
    }
    close_object(open, out);
    out.extend_from_slice(b"\"attributes\":");
    let from = out.len();
    out.extend_from_slice(attributes.as_bytes());
    // Between tokens JSON allows line ends, inside strings it does not: so each is white space and becomes a blank.
    out[from..].iter_mut().filter(|b| matches!(b, b'\n' | b'\r')).for_each(|b| *b = b' ');
    out.push(b'}');
}

fn close_object(open: &str, out: &mut Vec<u8>) {
    if !open.is_empty() {
        if out.last() == Some(&b',') {
            out.pop();
        }
        out.extend_from_slice(b"},");
    }
}
