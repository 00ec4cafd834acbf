//! One event as services send it (architecture §4.1) to a draft, or to the reason why not.
//!
//! Not here: bodies of many events ([`crate::batch`]), positions (`ledger-store`).
//!
//! Invariants: a field that is not known is refused by name, never dropped; `attributes` is kept as the very
//! text that came; a refusal names the field and what would be right, and quotes nothing of the event but
//! the name of an unknown field or a doubled key.

use crate::json::{Fault, Reader, Value};
use crate::limits::IngestLimits;
use ledger::draft::{ACTOR_TYPES, DraftBuilder, Invalid, OUTCOMES, Outline};
use ledger::field::Field;
use ledger::name::{StreamKind, TenantId};
use ledger::time;
use serde_json::{Map, Value as Json, json};
use std::borrow::Cow;

/// Why an event was not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Rejection {
    /// The wire name of the field, or `event` when it is about the whole.
    pub field: Cow<'static, str>,
    /// What is wrong and what would be right.
    pub reason: Cow<'static, str>,
    /// After how many seconds it would be taken as it is, if it would.
    pub retry_after: Option<u32>,
}

impl Rejection {
    /// A refusal of one field.
    pub fn new(field: impl Into<Cow<'static, str>>, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), reason: reason.into(), retry_after: None }
    }
}

impl From<Fault> for Rejection {
    fn from(fault: Fault) -> Self {
        Self::new("event", fault.to_string())
    }
}

impl From<Invalid> for Rejection {
    fn from(invalid: Invalid) -> Self {
        Self::new(wire_name(invalid.field), invalid.why)
    }
}

/// What surrounds an event: where it was sent, and what time it is.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Tenant and stream that the address names; events need not repeat them and must not contradict.
    pub address: Option<(&'a TenantId, StreamKind)>,
    /// The wall clock, in microseconds.
    pub now: i64,
    /// Bounds.
    pub limits: &'a IngestLimits,
}

/// The name of a field on the wire.
pub fn wire_name(field: Field) -> &'static str {
    match field {
        Field::EventId => "id",
        Field::OccurredAt => "time",
        Field::ActorType => "actor.type",
        Field::ActorId => "actor.id",
        Field::ActorName => "actor.name",
        Field::OnBehalfOf => "actor.on_behalf_of",
        Field::ResourceType => "resource.type",
        Field::ResourceId => "resource.id",
        Field::ResourceName => "resource.name",
        Field::DataClass => "resource.class",
        Field::Boundary => "resource.boundary",
        other => other.name(),
    }
}

/// The JSON Schema of an event.
pub fn schema() -> Json {
    let of = |field: Field| match field {
        Field::OccurredAt => json!({"type": "string", "format": "date-time"}),
        Field::Severity => json!({"type": ["integer", "string"]}),
        Field::DurationUs => json!({"type": "integer", "minimum": 0}),
        Field::Attributes => json!({"type": "object"}),
        Field::Tenant => json!({"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,62}$"}),
        Field::Stream => json!({"type": "string", "enum": ["audit", "telemetry"]}),
        Field::Outcome => json!({"type": "string", "enum": OUTCOMES}),
        Field::ActorType => json!({"type": "string", "enum": ACTOR_TYPES}),
        field => json!({"type": "string", "maxLength": field.limit()}),
    };
    let (mut top, mut actor, mut resource) = (Map::new(), Map::new(), Map::new());
    for field in Field::ALL.into_iter().filter(|field| *field != Field::RecordedAt) {
        match wire_name(field).split_once('.') {
            Some(("actor", name)) => actor.insert(name.into(), of(field)),
            Some((_, name)) => resource.insert(name.into(), of(field)),
            None => top.insert(wire_name(field).into(), of(field)),
        };
    }
    let object = |properties, required: &[&str]| json!({"type": "object", "additionalProperties": false, "properties": Json::Object(properties), "required": required});
    top.insert("actor".into(), object(actor, &["type"]));
    top.insert("resource".into(), object(resource, &[]));
    object(top, &["time", "action", "actor"])
}

/// The field that a top-level name stands for.
fn top_level(name: &str) -> Option<Field> {
    // By length first: few names share one, so that little is compared.
    let of_length: &[Field] = match name.len() {
        2 => &[Field::EventId],
        4 => &[Field::OccurredAt],
        6 => &[Field::Tenant, Field::Action, Field::Region, Field::Stream, Field::Reason, Field::Client],
        7 => &[
            Field::Outcome,
            Field::Session,
            Field::Release,
            Field::Service,
            Field::SpanId,
            Field::Project,
            Field::Partner,
        ],
        8 => &[Field::Workflow, Field::TraceId, Field::Severity],
        9 => &[Field::SourceIp],
        10 => &[Field::Attributes, Field::UserAgent, Field::Credential],
        11 => &[Field::Integration, Field::DurationUs, Field::ApprovalId],
        12 => &[Field::ElevationId, Field::LegalEntity],
        13 => &[Field::BusinessUnit],
        _ => &[],
    };
    of_length.iter().copied().find(|field| wire_name(*field) == name)
}

fn nested(object: &str, name: &str) -> Option<Field> {
    Some(match (object, name) {
        ("actor", "type") => Field::ActorType,
        ("actor", "id") => Field::ActorId,
        ("actor", "name") => Field::ActorName,
        ("actor", "on_behalf_of") => Field::OnBehalfOf,
        ("resource", "type") => Field::ResourceType,
        ("resource", "id") => Field::ResourceId,
        ("resource", "name") => Field::ResourceName,
        ("resource", "class") => Field::DataClass,
        ("resource", "boundary") => Field::Boundary,
        _ => return None,
    })
}

fn unknown(prefix: &str, name: &str) -> Rejection {
    let shown: String = name.chars().take(64).collect();
    Rejection::new(format!("{prefix}{shown}"), "is no field of an event; put it into attributes")
}

fn severity(name: &str) -> Option<i64> {
    let names = [("trace", 1), ("debug", 5), ("info", 9), ("warn", 13), ("error", 17), ("fatal", 21)];
    names.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

fn set_time<'a>(builder: &mut DraftBuilder<'a>, text: &str, context: &Context<'_>) -> Result<(), Rejection> {
    let micros = time::parse_micros(text).map_err(|error| Rejection::new("time", error.to_string()))?;
    if micros < 0 {
        return Err(Rejection::new("time", "lies before 1970; check the unit of the clock"));
    }
    if micros > context.now.saturating_add(context.limits.future_micros) {
        return Err(Rejection::new("time", "lies more than 24 hours in the future; check clock and zone"));
    }
    Ok(builder.int(Field::OccurredAt, micros)?)
}

fn set<'a>(
    builder: &mut DraftBuilder<'a>,
    field: Field,
    value: Value<'a>,
    context: &Context<'_>,
) -> Result<(), Rejection> {
    let must = |what| Err(Rejection::new(wire_name(field), what));
    match (field, value) {
        (_, Value::Null) => Ok(()),
        (_, Value::Text(text)) if text.is_empty() => Ok(()),
        (Field::OccurredAt, Value::Text(text)) => set_time(builder, &text, context),
        (Field::TraceId | Field::SpanId, Value::Text(text)) => Ok(builder.hex(field, &text)?),
        (Field::Severity, Value::Text(name)) => match severity(&name) {
            Some(number) => Ok(builder.int(field, number)?),
            None => must("must be 1 to 24, or one of trace, debug, info, warn, error, fatal"),
        },
        (Field::Severity | Field::DurationUs, Value::Number(text)) => match text.parse::<i64>() {
            Ok(number) => Ok(builder.int(field, number)?),
            Err(_) => must("must be a whole number"),
        },
        (Field::Attributes, Value::Object(text)) if text.len() > context.limits.attributes_bytes => {
            must("must be at most 192 KiB, or less where settings say so")
        }
        (Field::Attributes, Value::Object(text)) => Ok(builder.text(field, text)?),
        (Field::Attributes, _) => must("must be one JSON object"),
        (Field::Severity | Field::DurationUs, _) => must("must be a whole number"),
        (_, Value::Text(text)) => Ok(builder.text(field, text)?),
        _ => must("must be a string"),
    }
}

/// Reads one event and appends its encoding to `out`; `builder` serves event after event. `new_id` makes an id for an
/// event that has none.
///
/// # Errors
/// The reason why it is not admitted; nothing is appended then.
pub fn read<'a>(
    bytes: &'a [u8],
    context: &Context<'_>,
    builder: &mut DraftBuilder<'a>,
    out: &mut Vec<u8>,
    new_id: impl FnOnce() -> String,
) -> Result<Outline, Rejection> {
    if bytes.len() > context.limits.event_bytes {
        return Err(Rejection::new("event", format!("is larger than {} KiB", context.limits.event_bytes >> 10)));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Rejection::new("event", format!("is not UTF-8 at byte {}", error.valid_up_to())))?;
    builder.clear();
    // One level is the event's own object; attributes may have all of the bound below it.
    let depth = context.limits.attributes_depth + 1;
    Reader::new(text, depth).object(|key, value| match (top_level(&key), key.as_ref(), value) {
        (Some(field), _, value) => set(builder, field, value, context),
        (None, "actor" | "resource", Value::Null) => Ok(()),
        (None, object @ ("actor" | "resource"), Value::Object(inner)) => {
            Reader::new(inner, depth).object(|name, value| match nested(object, &name) {
                Some(field) => set(builder, field, value, context),
                None => Err(unknown(&format!("{object}."), &name)),
            })
        }
        (None, object @ ("actor" | "resource"), _) => Err(Rejection::new(object.to_string(), "must be an object")),
        (None, name, _) => Err(unknown("", name)),
    })?;
    let start = out.len();
    let outline = complete(builder, context, out, new_id);
    if outline.is_err() {
        out.truncate(start);
    }
    outline
}

fn complete(
    builder: &mut DraftBuilder<'_>,
    context: &Context<'_>,
    out: &mut Vec<u8>,
    new_id: impl FnOnce() -> String,
) -> Result<Outline, Rejection> {
    if !builder.has(Field::OccurredAt) {
        return Err(Rejection::new("time", "is required: when it happened, as in 2026-08-14T09:26:53.589793Z"));
    }
    if !builder.has(Field::EventId) {
        builder.text(Field::EventId, new_id())?;
    }
    if let Some((tenant, kind)) = context.address {
        if !builder.has(Field::Tenant) {
            builder.text(Field::Tenant, tenant.as_str().to_string())?;
        }
        if !builder.has(Field::Stream) {
            builder.text(Field::Stream, kind.as_str())?;
        }
    }
    let outline = builder.encode(out)?;
    if let Some((tenant, kind)) = context.address {
        if outline.tenant(out) != tenant.as_str() {
            return Err(Rejection::new("tenant", "contradicts the tenant of the address"));
        }
        if outline.stream() != kind {
            return Err(Rejection::new("stream", "contradicts the stream of the address"));
        }
    }
    if !outline.stream().is_writable_by_services() {
        return Err(Rejection::new("stream", "must be audit or telemetry; the others are written by Piperoll alone"));
    }
    Ok(outline)
}

#[cfg(test)]
pub(crate) mod tests;
