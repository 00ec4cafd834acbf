//! A draft is an event before admission: valid fields, but no time of record and no position.
//!
//! Not here: reading wire JSON (`ingest`), sequence numbers (`ledger-store`), what is hashed
//! ([`crate::leaf`]).
//!
//! Invariants: a [`Draft`] that exists has its required fields, every field within its limit, no NUL,
//! no empty text, and its encoding is the canonical one; `recorded_at` is its first field, at a fixed
//! place, zero until stamped.

use crate::field::{self, Field, Fields, FieldsError, HEADER_BYTES, Kind, Section};
use crate::name::{StreamKind, TenantId};
use std::borrow::Cow;

/// A value is not admissible for its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", .field.name())]
pub struct Invalid {
    /// Which field.
    pub field: Field,
    /// What is wrong and what would be right; never the value.
    pub why: &'static str,
}

/// Values of `outcome`.
pub const OUTCOMES: [&str; 5] = ["success", "failure", "denied", "error", "unknown"];
/// Values of `actor_type`.
pub const ACTOR_TYPES: [&str; 7] = ["user", "service", "agent", "support", "partner", "system", "anonymous"];
/// Bytes of the stamped `recorded_at` field, which comes first.
pub const STAMP_BYTES: usize = HEADER_BYTES + 8;

/// Fields that every encoding has.
const ALWAYS: [Field; 8] = [
    Field::RecordedAt,
    Field::Tenant,
    Field::Stream,
    Field::EventId,
    Field::OccurredAt,
    Field::Action,
    Field::Outcome,
    Field::ActorType,
];

const SLOTS: usize = Field::ALL.len();

#[derive(Debug, Clone, Default)]
enum Value<'a> {
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Bytes([u8; 16], u8),
    Int(i64),
}

/// Collects the fields of one event in any order and checks each as it comes.
#[derive(Debug, Clone)]
pub struct DraftBuilder<'a> {
    values: [Value<'a>; SLOTS],
}

impl Default for DraftBuilder<'_> {
    fn default() -> Self {
        Self { values: std::array::from_fn(|_| Value::Absent) }
    }
}

const fn slot(field: Field) -> usize {
    let mut at = 0;
    while at < SLOTS {
        if Field::ALL[at] as u16 == field as u16 {
            return at;
        }
        at += 1;
    }
    0
}

/// Slots by field id, so that setting a field looks nothing up.
const SLOT_OF_ID: [u8; 65] = {
    let mut slots = [0u8; 65];
    let mut at = 0;
    while at < SLOTS {
        slots[Field::ALL[at] as usize] = at as u8;
        at += 1;
    }
    slots
};

impl<'a> DraftBuilder<'a> {
    fn place(&mut self, field: Field) -> &mut Value<'a> {
        &mut self.values[usize::from(SLOT_OF_ID[field as usize])]
    }

    /// Whether the field has a value yet.
    pub fn has(&self, field: Field) -> bool {
        !matches!(self.values[usize::from(SLOT_OF_ID[field as usize])], Value::Absent)
    }

    /// Sets a text field; empty text leaves it absent.
    ///
    /// # Errors
    /// The field is no text field, or the text is too long, holds NUL, or is none of the field's values.
    pub fn text(&mut self, field: Field, text: impl Into<Cow<'a, str>>) -> Result<(), Invalid> {
        let text = text.into();
        if text.is_empty() {
            return Ok(());
        }
        check_text(field, &text)?;
        *self.place(field) = Value::Text(text);
        Ok(())
    }

    /// Sets an integer field.
    ///
    /// # Errors
    /// The field is no integer field, or the number lies outside of its range.
    pub fn int(&mut self, field: Field, value: i64) -> Result<(), Invalid> {
        check_int(field, value)?;
        *self.place(field) = Value::Int(value);
        Ok(())
    }

    /// Sets `trace_id` or `span_id` from lower-case hexadecimal text.
    ///
    /// # Errors
    /// The text is not of the right length, not lower-case hexadecimal, or all zeros (W3C Trace Context).
    pub fn hex(&mut self, field: Field, text: &str) -> Result<(), Invalid> {
        if text.is_empty() {
            return Ok(());
        }
        let why = if field == Field::TraceId {
            "must be 32 lower-case hexadecimal digits, not all zero"
        } else {
            "must be 16 lower-case hexadecimal digits, not all zero"
        };
        let wrong = Invalid { field, why };
        let length = field.limit();
        if field.kind() != Kind::Bytes || text.len() != 2 * length {
            return Err(wrong);
        }
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0u8; 16];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else { return Err(wrong) };
            *byte = high << 4 | low;
        }
        if bytes == [0u8; 16] {
            return Err(wrong);
        }
        *self.place(field) = Value::Bytes(bytes, length as u8);
        Ok(())
    }

    /// Sets a field from the bytes of its encoding: how stored rows become drafts again.
    ///
    /// # Errors
    /// As for the field's own type.
    pub fn raw(&mut self, field: Field, bytes: &'a [u8]) -> Result<(), Invalid> {
        let wrong = Invalid { field, why: "has bytes of another type" };
        match field.kind() {
            Kind::Text => self.text(field, std::str::from_utf8(bytes).map_err(|_| wrong)?),
            Kind::Int => self.int(field, i64::from_be_bytes(bytes.try_into().map_err(|_| wrong)?)),
            Kind::Bytes => {
                let mut value = [0u8; 16];
                value
                    .get_mut(..bytes.len())
                    .filter(|_| bytes.len() == field.limit())
                    .ok_or(wrong)?
                    .copy_from_slice(bytes);
                *self.place(field) = Value::Bytes(value, bytes.len() as u8);
                Ok(())
            }
        }
    }

    /// Encodes what was collected.
    ///
    /// # Errors
    /// A required field is missing, or tenant or stream is malformed.
    pub fn finish(self) -> Result<Draft, Invalid> {
        for field in [Field::Tenant, Field::EventId, Field::OccurredAt, Field::Action, Field::ActorType] {
            if !self.has(field) {
                return Err(Invalid { field, why: "is required" });
            }
        }
        let mut fields = Vec::with_capacity(self.encoded_bytes());
        let mut ends = [0u32; 6];
        let mut id = (0, 0);
        field::put(&mut fields, Field::RecordedAt.id(), Kind::Int, &0i64.to_be_bytes());
        for (at, field) in Field::ALL.into_iter().enumerate() {
            match &self.values[at] {
                Value::Absent if field == Field::Stream => {
                    field::put(&mut fields, field.id(), Kind::Text, StreamKind::Audit.as_str().as_bytes())
                }
                Value::Absent if field == Field::Outcome => field::put(&mut fields, field.id(), Kind::Text, b"unknown"),
                Value::Absent => {}
                Value::Text(text) => field::put(&mut fields, field.id(), Kind::Text, text.as_bytes()),
                Value::Int(value) => field::put(&mut fields, field.id(), Kind::Int, &value.to_be_bytes()),
                Value::Bytes(bytes, length) => {
                    field::put(&mut fields, field.id(), Kind::Bytes, &bytes[..usize::from(*length)])
                }
            }
            if field == Field::EventId
                && let Value::Text(text) = &self.values[at]
            {
                id = (fields.len() - text.len(), text.len());
            }
            for end in &mut ends[usize::from(field.section().number())..] {
                *end = fields.len() as u32;
            }
        }
        Ok(Draft { stream: self.stream(), fields, ends, id: (id.0 as u32, id.1 as u32) })
    }

    fn stream(&self) -> StreamKind {
        match &self.values[slot(Field::Stream)] {
            Value::Text(text) => text.parse().unwrap_or(StreamKind::Audit),
            _ => StreamKind::Audit,
        }
    }

    fn encoded_bytes(&self) -> usize {
        let value = |value: &Value<'_>| match value {
            Value::Absent => 0,
            Value::Text(text) => HEADER_BYTES + text.len(),
            Value::Int(_) => STAMP_BYTES,
            Value::Bytes(_, length) => HEADER_BYTES + usize::from(*length),
        };
        STAMP_BYTES + 32 + self.values.iter().map(value).sum::<usize>()
    }
}

fn check_int(field: Field, value: i64) -> Result<(), Invalid> {
    let why = match field {
        Field::Severity if !(1..=24).contains(&value) => "must be a severity number from 1 to 24",
        Field::DurationUs if value < 0 => "must not be negative",
        Field::RecordedAt => "is stamped by the ledger",
        _ if field.kind() != Kind::Int => "is not a number",
        _ => return Ok(()),
    };
    Err(Invalid { field, why })
}

fn check_text(field: Field, text: &str) -> Result<(), Invalid> {
    let wrong = |why| Err(Invalid { field, why });
    if text.len() > field.limit() {
        return wrong(match field.limit() {
            field::SKELETON_TEXT_BYTES => "must be at most 128 bytes; words for people go into attributes",
            field::IDENTITY_TEXT_BYTES => "must be at most 2048 bytes",
            field::ATTRIBUTES_BYTES => "must be at most 192 KiB",
            _ => "is too long",
        });
    }
    if text.as_bytes().contains(&0) {
        return wrong("must not hold a NUL character");
    }
    match field {
        Field::Tenant if text.parse::<TenantId>().is_err() => {
            wrong("must be 1 to 63 of a-z 0-9 . _ -, beginning with a letter or digit")
        }
        Field::Stream if text.parse::<StreamKind>().is_err() => wrong("must be audit or telemetry"),
        Field::Outcome if !OUTCOMES.contains(&text) => wrong("must be success, failure, denied, error or unknown"),
        Field::ActorType if !ACTOR_TYPES.contains(&text) => {
            wrong("must be user, service, agent, support, partner, system or anonymous")
        }
        _ if field.kind() != Kind::Text => wrong("is not a text field"),
        _ => Ok(()),
    }
}

/// What the walk over encoded fields does not look at: whether the value is one that a draft may have.
fn check_encoded(step: &field::Encoded<'_>) -> Result<(), &'static str> {
    match step.field {
        field if field.kind() == Kind::Text && step.value.is_empty() => Err("an empty text is never written"),
        field if field.kind() == Kind::Text => check_text(field, step.text()).map_err(|invalid| invalid.why),
        Field::TraceId | Field::SpanId if step.value.iter().all(|byte| *byte == 0) => Err("an id of zeros is none"),
        Field::Severity | Field::DurationUs => check_int(step.field, step.int()).map_err(|invalid| invalid.why),
        _ => Ok(()),
    }
}

/// The valid fields of one event in their canonical encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    stream: StreamKind,
    fields: Vec<u8>,
    ends: [u32; 6],
    id: (u32, u32),
}

impl Draft {
    /// Reads back a canonical encoding, as the write-ahead log keeps it.
    ///
    /// # Errors
    /// The bytes are not exactly such an encoding.
    pub fn decode(fields: Vec<u8>) -> Result<Self, FieldsError> {
        let mut ends = [0u32; 6];
        let mut id = None;
        let mut stream = None;
        let mut missing = ALWAYS.to_vec();
        for step in Fields::new(&fields) {
            let step = step?;
            let end = step.at + HEADER_BYTES + step.value.len();
            check_encoded(&step).map_err(|why| FieldsError { at: step.at, why })?;
            missing.retain(|field| *field != step.field);
            ends[usize::from(step.field.section().number())..].fill(end as u32);
            match step.field {
                Field::EventId => id = Some(((step.at + HEADER_BYTES) as u32, step.value.len() as u32)),
                Field::Stream => stream = step.text().parse().ok(),
                _ => {}
            }
        }
        match (stream, id, &missing[..]) {
            (Some(stream), Some(id), []) => Ok(Self { stream, fields, ends, id }),
            _ => Err(FieldsError { at: 0, why: "a field that every event has is missing" }),
        }
    }

    /// The whole encoding.
    pub fn fields(&self) -> &[u8] {
        &self.fields
    }

    /// The encoding without the stamp: what two drafts share exactly when they are the same event.
    pub fn content(&self) -> &[u8] {
        &self.fields[STAMP_BYTES..]
    }

    /// The encoded fields of one section; empty when it has none.
    pub fn section(&self, section: Section) -> &[u8] {
        let at = usize::from(section.number());
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        &self.fields[start..self.ends[at] as usize]
    }

    /// Whose event it is; a valid [`TenantId`].
    pub fn tenant(&self) -> &str {
        // Second field: its length stands in the four bytes after id and type.
        let start = STAMP_BYTES + HEADER_BYTES;
        let length = u32::from_be_bytes([
            self.fields[start - 4],
            self.fields[start - 3],
            self.fields[start - 2],
            self.fields[start - 1],
        ]) as usize;
        std::str::from_utf8(&self.fields[start..start + length]).unwrap_or_default()
    }

    /// Which stream it is for.
    pub fn stream(&self) -> StreamKind {
        self.stream
    }

    /// The event's own id.
    pub fn event_id(&self) -> &str {
        let start = self.id.0 as usize;
        std::str::from_utf8(&self.fields[start..start + self.id.1 as usize]).unwrap_or_default()
    }

    /// When it was recorded, in microseconds; 0 before it was stamped.
    pub fn recorded_at(&self) -> i64 {
        self.fields[HEADER_BYTES..STAMP_BYTES].try_into().map(i64::from_be_bytes).unwrap_or_default()
    }

    /// Stamps the time of record, in microseconds.
    pub fn stamp(&mut self, recorded_at: i64) {
        self.fields[HEADER_BYTES..STAMP_BYTES].copy_from_slice(&recorded_at.to_be_bytes());
    }

    /// Gives up the encoding.
    pub fn into_fields(self) -> Vec<u8> {
        self.fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal() -> DraftBuilder<'static> {
        let mut builder = DraftBuilder::default();
        for (field, text) in [
            (Field::Tenant, "acme"),
            (Field::EventId, "e-1"),
            (Field::Action, "invoice.update"),
            (Field::ActorType, "user"),
        ] {
            builder.text(field, text).unwrap();
        }
        builder.int(Field::OccurredAt, 1).unwrap();
        builder
    }

    #[test]
    fn a_draft_reads_back_and_knows_its_parts() {
        let mut builder = minimal();
        builder.hex(Field::TraceId, "4bf92f3577b34da6a3ce929d0e0e4736").unwrap();
        builder.text(Field::Session, "s").unwrap();
        builder.text(Field::ActorId, "u").unwrap();
        let mut draft = builder.finish().unwrap();
        draft.stamp(99);
        assert_eq!(
            (draft.tenant(), draft.event_id(), draft.stream(), draft.recorded_at()),
            ("acme", "e-1", StreamKind::Audit, 99)
        );
        assert_eq!(draft.section(Section::Scope), b"");
        assert_eq!(draft.section(Section::Origin), [&57u16.to_be_bytes()[..], &[1, 0, 0, 0, 1, b's']].concat());
        assert_eq!(Draft::decode(draft.fields().to_vec()).unwrap(), draft);
        let mut again = DraftBuilder::default();
        for step in Fields::new(draft.fields()) {
            let step = step.unwrap();
            if step.field != Field::RecordedAt {
                again.raw(step.field, step.value).unwrap();
            }
        }
        assert_eq!(again.finish().unwrap().content(), draft.content());
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for field in [Field::Tenant, Field::EventId, Field::Action, Field::ActorType, Field::OccurredAt] {
            let mut builder = minimal();
            *builder.place(field) = Value::Absent;
            assert_eq!(builder.finish().unwrap_err(), Invalid { field, why: "is required" });
        }
        let mut builder = minimal();
        for (field, text) in [
            (Field::Tenant, "ACME"),
            (Field::Outcome, "ok"),
            (Field::ActorType, "robot"),
            (Field::Stream, "logs"),
            (Field::Reason, "a\0b"),
            (Field::Severity, "x"),
        ] {
            assert_eq!(builder.text(field, text).unwrap_err().field, field);
        }
        assert!(
            builder.text(Field::Action, "x".repeat(129)).is_err()
                && builder.text(Field::Session, "x".repeat(2_048)).is_ok()
        );
        for bad in [
            "4BF92F3577B34DA6A3CE929D0E0E4736",
            "4bf9",
            "00000000000000000000000000000000",
            "4bf92f3577b34da6a3ce929d0e0e473é",
        ] {
            assert!(builder.hex(Field::TraceId, bad).is_err());
        }
        assert!(
            builder.int(Field::Severity, 25).is_err()
                && builder.int(Field::DurationUs, -1).is_err()
                && builder.int(Field::RecordedAt, 1).is_err()
        );
    }
}
