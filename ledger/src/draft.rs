//! A draft is an event before admission: valid fields, but no time of record and no position.
//!
//! Not here: reading wire JSON (`ingest`), sequence numbers (`ledger-store`), what is hashed
//! ([`crate::leaf`]).
//!
//! Invariants: a [`Draft`] that exists has its required fields, every field within its limit, no NUL,
//! no empty text, and its encoding is the canonical one; `recorded_at` is its first field, zero until
//! stamped, and is kept beside the other bytes, which never change and so can be shared.

mod outline;

pub use self::outline::Outline;
use crate::field::{self, Field, Fields, FieldsError, HEADER_BYTES, Kind, Section};
use crate::name::{StreamKind, TenantId};
use std::borrow::Cow;
use std::sync::Arc;

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

#[derive(Debug, Clone)]
enum Value<'a> {
    Text(Cow<'a, str>),
    Bytes([u8; 16], u8),
    Int(i64),
}

/// Collects the fields of one event in any order and checks each as it comes. One builder serves event after event.
#[derive(Debug, Clone)]
pub struct DraftBuilder<'a> {
    values: [Value<'a>; SLOTS],
    /// Which slots hold a value of this event; the others hold what an earlier event left.
    set: u64,
}

impl Default for DraftBuilder<'_> {
    fn default() -> Self {
        Self { values: std::array::from_fn(|_| Value::Int(0)), set: 0 }
    }
}

const fn bit(field: Field) -> u64 {
    1 << field.position()
}

/// Ascending, as they are asked for when they are missing.
const REQUIRED: u64 =
    bit(Field::Tenant) | bit(Field::EventId) | bit(Field::OccurredAt) | bit(Field::Action) | bit(Field::ActorType);

impl<'a> DraftBuilder<'a> {
    /// Forgets the fields of the event before.
    pub fn clear(&mut self) {
        self.set = 0;
    }

    fn place(&mut self, field: Field, value: Value<'a>) {
        self.set |= bit(field);
        self.values[field.position()] = value;
    }

    /// Whether the field has a value yet.
    pub fn has(&self, field: Field) -> bool {
        self.set & bit(field) != 0
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
        self.place(field, Value::Text(text));
        Ok(())
    }

    /// Sets an integer field.
    ///
    /// # Errors
    /// The field is no integer field, or the number lies outside of its range.
    pub fn int(&mut self, field: Field, value: i64) -> Result<(), Invalid> {
        check_int(field, value)?;
        self.place(field, Value::Int(value));
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
        self.place(field, Value::Bytes(bytes, length as u8));
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
                self.place(field, Value::Bytes(value, bytes.len() as u8));
                Ok(())
            }
        }
    }

    /// Encodes what was collected as a draft of its own.
    ///
    /// # Errors
    /// As [`DraftBuilder::encode`].
    pub fn finish(&self) -> Result<Draft, Invalid> {
        let mut bytes = Vec::with_capacity(self.encoded_bytes());
        let outline = self.encode(&mut bytes)?;
        Ok(Draft { bytes: Arc::new(bytes.into()), outline, recorded_at: 0 })
    }

    /// How many bytes the encoding has, but for defaults of what is not set.
    fn encoded_bytes(&self) -> usize {
        let is_set = |at: &usize| self.set >> at & 1 == 1;
        let bytes = |at: usize| match &self.values[at] {
            Value::Text(text) => text.len(),
            Value::Bytes(_, length) => usize::from(*length),
            Value::Int(_) => size_of::<i64>(),
        };
        (0..SLOTS).filter(is_set).map(|at| HEADER_BYTES + bytes(at)).sum()
    }

    /// Appends the encoding of what was collected, without the stamp, to those of other events.
    /// [`Draft::gather`] makes drafts of them.
    ///
    /// # Errors
    /// A required field is missing; nothing was appended then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<Outline, Invalid> {
        let missing = REQUIRED & !self.set;
        if missing != 0 {
            let field = Field::ALL[missing.trailing_zeros() as usize];
            return Err(Invalid { field, why: "is required" });
        }
        let start = out.len();
        let mut outline = Outline { at: start as u32, ends: [0; 6], id: (0, 0), stream: StreamKind::Audit };
        let mut left = self.set | bit(Field::Stream) | bit(Field::Outcome);
        while left != 0 {
            let at = left.trailing_zeros() as usize;
            left &= left - 1;
            let field = Field::ALL[at];
            match &self.values[at] {
                _ if self.set >> at & 1 == 0 => {
                    let default = if field == Field::Stream { StreamKind::Audit.as_str() } else { "unknown" };
                    field::put(out, field.id(), Kind::Text, default.as_bytes());
                }
                Value::Text(text) => {
                    field::put(out, field.id(), Kind::Text, text.as_bytes());
                    match field {
                        Field::EventId => outline.id = ((out.len() - start - text.len()) as u32, text.len() as u32),
                        Field::Stream => outline.stream = text.parse().unwrap_or(StreamKind::Audit),
                        _ => {}
                    }
                }
                Value::Int(value) => field::put(out, field.id(), Kind::Int, &value.to_be_bytes()),
                Value::Bytes(bytes, length) => field::put(out, field.id(), Kind::Bytes, &bytes[..usize::from(*length)]),
            }
            outline.ends[usize::from(field.section().number())] = (out.len() - start) as u32;
        }
        outline.fill_ends();
        Ok(outline)
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
        Field::Tenant if !TenantId::is_valid(text) => {
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

/// The valid fields of one event in their canonical encoding. Drafts that came together share their bytes.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Encodings without stamps, this one's among them. Boxed, because an `Arc<[u8]>` is made by copying.
    bytes: Arc<Box<[u8]>>,
    outline: Outline,
    recorded_at: i64,
}

impl PartialEq for Draft {
    fn eq(&self, other: &Self) -> bool {
        self.recorded_at == other.recorded_at && self.content() == other.content()
    }
}

impl Eq for Draft {}

impl Draft {
    /// Drafts of events that were encoded into `bytes`, in one allocation of their own.
    pub fn gather(bytes: &[u8], outlines: &[Outline]) -> Vec<Self> {
        let total = outlines.iter().map(|outline| outline.ends[5] as usize).sum();
        let mut own = Vec::with_capacity(total);
        let mut moved = Vec::with_capacity(outlines.len());
        for outline in outlines {
            moved.push(Outline { at: own.len() as u32, ..*outline });
            own.extend_from_slice(outline.content(bytes));
        }
        let own = Arc::new(own.into_boxed_slice());
        moved.into_iter().map(|outline| Self { bytes: Arc::clone(&own), outline, recorded_at: 0 }).collect()
    }

    /// The same draft with bytes of its own: it keeps none of those that came with it in memory.
    pub fn detached(&self) -> Self {
        Self { bytes: Arc::new(self.content().into()), outline: Outline { at: 0, ..self.outline }, ..*self }
    }

    /// Reads back a canonical encoding with its stamp, as the write-ahead log keeps it.
    ///
    /// # Errors
    /// The bytes are not exactly such an encoding.
    pub fn decode(fields: &[u8]) -> Result<Self, FieldsError> {
        let mut outline = Outline { at: 0, ends: [0; 6], id: (0, 0), stream: StreamKind::Audit };
        let (mut stream, mut recorded_at, mut missing) = (None, None, ALWAYS.len());
        for step in Fields::new(fields) {
            let step = step?;
            check_encoded(&step).map_err(|why| FieldsError { at: step.at, why })?;
            // No field comes twice: ids ascend.
            missing -= usize::from(ALWAYS.contains(&step.field));
            if step.field == Field::RecordedAt {
                // The lowest id, and so the first field.
                recorded_at = Some(step.int());
                continue;
            }
            let value_at = (step.at + HEADER_BYTES).saturating_sub(STAMP_BYTES) as u32;
            let length = step.value.len() as u32;
            outline.ends[usize::from(step.field.section().number())] = value_at + length;
            match step.field {
                Field::EventId => outline.id = (value_at, length),
                Field::Stream => stream = step.text().parse().ok(),
                _ => {}
            }
        }
        match (stream, recorded_at) {
            (Some(stream), Some(recorded_at)) if missing == 0 => {
                outline.stream = stream;
                outline.fill_ends();
                Ok(Self { bytes: Arc::new(fields[STAMP_BYTES..].into()), outline, recorded_at })
            }
            _ => Err(FieldsError { at: 0, why: "a field that every event has is missing" }),
        }
    }

    /// Appends the whole encoding, stamp first.
    pub fn put_fields(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.stamp_field());
        out.extend_from_slice(self.content());
    }

    /// The whole encoding, stamp first.
    pub fn fields(&self) -> Vec<u8> {
        let mut fields = Vec::with_capacity(self.fields_bytes());
        self.put_fields(&mut fields);
        fields
    }

    /// How many bytes the whole encoding has.
    pub fn fields_bytes(&self) -> usize {
        STAMP_BYTES + self.content().len()
    }

    /// The encoding without the stamp: what two drafts share exactly when they are the same event.
    pub fn content(&self) -> &[u8] {
        self.outline.content(&self.bytes)
    }

    /// The encoded fields of a section other than the skeleton; empty when it has none.
    pub fn section(&self, section: Section) -> &[u8] {
        let at = usize::from(section.number());
        let start = if at == 0 { 0 } else { self.outline.ends[at - 1] as usize };
        &self.content()[start..self.outline.ends[at] as usize]
    }

    /// The encoded fields of the skeleton, of which the stamp is the first.
    pub fn skeleton(&self) -> Vec<u8> {
        [&self.stamp_field(), self.skeleton_after_stamp()].concat()
    }

    pub(crate) fn skeleton_after_stamp(&self) -> &[u8] {
        self.section(Section::Skeleton)
    }

    pub(crate) fn stamp_field(&self) -> [u8; STAMP_BYTES] {
        let mut field = [0; STAMP_BYTES];
        field[..HEADER_BYTES].copy_from_slice(&field::header(Field::RecordedAt.id(), Kind::Int, 8));
        field[HEADER_BYTES..].copy_from_slice(&self.recorded_at.to_be_bytes());
        field
    }

    /// Whose event it is; a valid [`TenantId`].
    pub fn tenant(&self) -> &str {
        self.outline.tenant(&self.bytes)
    }

    /// Which stream it is for.
    pub fn stream(&self) -> StreamKind {
        self.outline.stream
    }

    /// The event's own id.
    pub fn event_id(&self) -> &str {
        let start = (self.outline.at + self.outline.id.0) as usize;
        std::str::from_utf8(&self.bytes[start..start + self.outline.id.1 as usize]).unwrap_or_default()
    }

    /// When it was recorded, in microseconds; 0 before it was stamped.
    pub fn recorded_at(&self) -> i64 {
        self.recorded_at
    }

    /// Stamps the time of record, in microseconds.
    pub fn stamp(&mut self, recorded_at: i64) {
        self.recorded_at = recorded_at;
    }
}

#[cfg(test)]
mod tests;
