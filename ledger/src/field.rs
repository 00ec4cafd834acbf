//! The fields of an event: number, name, section, type, and the field encoding that is hashed and logged.
//!
//! One encoding serves the leaf, the write-ahead log and memory: `u16 id, u8 type, u32 length, bytes`,
//! big-endian, ascending ids, absent fields skipped (FORMAT.md §2). Not here: which values are
//! admissible on the wire (`ingest`), what is committed how ([`crate::leaf`]).
//!
//! Invariants: ids ascend section by section, so that each section is one contiguous slice;
//! `recorded_at` has the lowest id and a fixed width, so that stamping it moves no byte.

use crate::draft::Draft;

/// A group of fields under one salted commitment; the skeleton is in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Section {
    /// What may outlive an erasure.
    Skeleton = 0,
    /// Who did it.
    Actor = 1,
    /// To what.
    Subject = 2,
    /// Inside which part of the tenant.
    Scope = 3,
    /// From where.
    Origin = 4,
    /// Everything else, as one JSON object.
    Details = 5,
}

impl Section {
    /// The sections that enter a leaf as a commitment, in order.
    pub const COMMITTED: [Section; 5] = [Self::Actor, Self::Subject, Self::Scope, Self::Origin, Self::Details];

    /// The section's number in hashes.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The section's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skeleton => "skeleton",
            Self::Actor => "actor",
            Self::Subject => "subject",
            Self::Scope => "scope",
            Self::Origin => "origin",
            Self::Details => "details",
        }
    }
}

/// What a field's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// UTF-8 text without NUL.
    Text = 1,
    /// Raw bytes of a fixed length.
    Bytes = 2,
    /// A signed 64-bit integer; times are microseconds since 1970-01-01 UTC.
    Int = 3,
}

/// Longest text of a skeleton field, in bytes: 18 such fields and the fixed ones stay below 3 KiB of leaf.
pub const SKELETON_TEXT_BYTES: usize = 128;
/// Longest text of an actor, subject, scope or origin field, in bytes.
pub const IDENTITY_TEXT_BYTES: usize = 2_048;
/// Longest attributes, in bytes; settings may lower it.
pub const ATTRIBUTES_BYTES: usize = 192 * 1_024;

macro_rules! fields {
    ($($variant:ident = $id:literal, $name:literal, $section:ident, $kind:ident, $limit:expr;)*) => {
        /// A field of an event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Field { $(#[doc = concat!("`", $name, "`")] $variant = $id),* }

        impl Field {
            /// All fields, ascending by id.
            pub const ALL: [Field; [$($id),*].len()] = [$(Field::$variant),*];

            /// The field with this id.
            pub fn from_id(id: u16) -> Option<Field> {
                match id { $($id => Some(Field::$variant),)* _ => None }
            }
            /// The column's name.
            pub const fn name(self) -> &'static str {
                match self { $(Field::$variant => $name),* }
            }
            /// The section it belongs to.
            pub const fn section(self) -> Section {
                match self { $(Field::$variant => Section::$section),* }
            }
            /// What its bytes are.
            pub const fn kind(self) -> Kind {
                match self { $(Field::$variant => Kind::$kind),* }
            }
            /// The most bytes it may have; for `Bytes` and `Int` the exact number.
            pub const fn limit(self) -> usize {
                match self { $(Field::$variant => $limit),* }
            }
        }
    };
}

fields! {
    RecordedAt = 1, "recorded_at", Skeleton, Int, 8;
    Tenant = 2, "tenant", Skeleton, Text, 63;
    Stream = 3, "stream", Skeleton, Text, 16;
    EventId = 4, "event_id", Skeleton, Text, SKELETON_TEXT_BYTES;
    OccurredAt = 5, "occurred_at", Skeleton, Int, 8;
    Action = 6, "action", Skeleton, Text, SKELETON_TEXT_BYTES;
    Outcome = 7, "outcome", Skeleton, Text, 16;
    Reason = 8, "reason", Skeleton, Text, SKELETON_TEXT_BYTES;
    ActorType = 9, "actor_type", Skeleton, Text, 16;
    ResourceType = 10, "resource_type", Skeleton, Text, SKELETON_TEXT_BYTES;
    DataClass = 11, "data_class", Skeleton, Text, SKELETON_TEXT_BYTES;
    Boundary = 12, "boundary", Skeleton, Text, SKELETON_TEXT_BYTES;
    Service = 13, "service", Skeleton, Text, SKELETON_TEXT_BYTES;
    Workflow = 14, "workflow", Skeleton, Text, SKELETON_TEXT_BYTES;
    Integration = 15, "integration", Skeleton, Text, SKELETON_TEXT_BYTES;
    Release = 16, "release", Skeleton, Text, SKELETON_TEXT_BYTES;
    Region = 17, "region", Skeleton, Text, SKELETON_TEXT_BYTES;
    Severity = 18, "severity", Skeleton, Int, 8;
    DurationUs = 19, "duration_us", Skeleton, Int, 8;
    TraceId = 20, "trace_id", Skeleton, Bytes, 16;
    SpanId = 21, "span_id", Skeleton, Bytes, 8;
    ElevationId = 22, "elevation_id", Skeleton, Text, SKELETON_TEXT_BYTES;
    ApprovalId = 23, "approval_id", Skeleton, Text, SKELETON_TEXT_BYTES;
    ActorId = 32, "actor_id", Actor, Text, IDENTITY_TEXT_BYTES;
    ActorName = 33, "actor_name", Actor, Text, IDENTITY_TEXT_BYTES;
    OnBehalfOf = 34, "on_behalf_of", Actor, Text, IDENTITY_TEXT_BYTES;
    ResourceId = 40, "resource_id", Subject, Text, IDENTITY_TEXT_BYTES;
    ResourceName = 41, "resource_name", Subject, Text, IDENTITY_TEXT_BYTES;
    LegalEntity = 48, "legal_entity", Scope, Text, IDENTITY_TEXT_BYTES;
    BusinessUnit = 49, "business_unit", Scope, Text, IDENTITY_TEXT_BYTES;
    Client = 50, "client", Scope, Text, IDENTITY_TEXT_BYTES;
    Project = 51, "project", Scope, Text, IDENTITY_TEXT_BYTES;
    Partner = 52, "partner", Scope, Text, IDENTITY_TEXT_BYTES;
    SourceIp = 56, "source_ip", Origin, Text, IDENTITY_TEXT_BYTES;
    Session = 57, "session", Origin, Text, IDENTITY_TEXT_BYTES;
    UserAgent = 58, "user_agent", Origin, Text, IDENTITY_TEXT_BYTES;
    Credential = 59, "credential", Origin, Text, IDENTITY_TEXT_BYTES;
    Attributes = 64, "attributes", Details, Text, ATTRIBUTES_BYTES;
}

impl Field {
    /// The field's id in the encoding.
    pub const fn id(self) -> u16 {
        self as u16
    }

    /// The field's place in [`Field::ALL`].
    pub const fn position(self) -> usize {
        POSITION_OF_ID[self as usize] as usize
    }
}

/// Places by field id, so that nothing is looked up.
const POSITION_OF_ID: [u8; 65] = {
    let mut positions = [0u8; 65];
    let mut at = 0;
    while at < Field::ALL.len() {
        positions[Field::ALL[at] as usize] = at as u8;
        at += 1;
    }
    positions
};

/// Bytes that come before a field's value: id, type, length.
pub const HEADER_BYTES: usize = 7;

/// Appends one field.
pub fn put(out: &mut Vec<u8>, id: u16, kind: Kind, value: &[u8]) {
    out.extend_from_slice(&header(id, kind, value.len()));
    out.extend_from_slice(value);
}

/// What comes before a field's value.
pub(crate) fn header(id: u16, kind: Kind, length: usize) -> [u8; HEADER_BYTES] {
    let ([i0, i1], [l0, l1, l2, l3]) = (id.to_be_bytes(), (length as u32).to_be_bytes());
    [i0, i1, kind as u8, l0, l1, l2, l3]
}

/// Encoded fields were malformed; `at` is the byte where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("encoded fields are malformed at byte {at}: {why}")]
pub struct FieldsError {
    /// Offset of the fault.
    pub at: usize,
    /// What is wrong.
    pub why: &'static str,
}

/// One field as it stands in the encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded<'a> {
    /// Which field.
    pub field: Field,
    /// Its bytes, checked for the type and limit of the field.
    pub value: &'a [u8],
    /// Where the field begins.
    pub at: usize,
}

impl<'a> Encoded<'a> {
    /// The text of a text field; empty for others.
    pub fn text(&self) -> &'a str {
        match self.field.kind() {
            Kind::Text => std::str::from_utf8(self.value).unwrap_or_default(),
            Kind::Bytes | Kind::Int => "",
        }
    }

    /// The number of an integer field; 0 for others.
    pub fn int(&self) -> i64 {
        self.value.try_into().map(i64::from_be_bytes).unwrap_or_default()
    }
}

/// Walks encoded fields strictly: known ids only, ascending, of the right type and size, nothing left over.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    last: u16,
    is_text_checked: bool,
}

impl<'a> Fields<'a> {
    /// Starts at the first field of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, last: 0, is_text_checked: false }
    }

    /// Walks fields of a draft, whose text was found to be UTF-8 when it was made: all else is checked again.
    pub fn of(draft: &'a Draft) -> Self {
        Self { is_text_checked: true, ..Self::new(draft.content()) }
    }

    fn step(&mut self) -> Result<Encoded<'a>, &'static str> {
        let rest = &self.bytes[self.at..];
        let (header, rest) = rest.split_at_checked(HEADER_BYTES).ok_or("cut short in a field's header")?;
        let id = u16::from_be_bytes([header[0], header[1]]);
        let length = u32::from_be_bytes([header[3], header[4], header[5], header[6]]) as usize;
        let field = Field::from_id(id).ok_or("unknown field id")?;
        if id <= self.last {
            return Err("field ids do not ascend");
        }
        if header[2] != field.kind() as u8 {
            return Err("field has another type than its id demands");
        }
        let fits = match field.kind() {
            Kind::Text => length <= field.limit(),
            Kind::Bytes | Kind::Int => length == field.limit(),
        };
        if !fits {
            return Err("field is longer than its limit or not of its fixed length");
        }
        let value = rest.get(..length).ok_or("cut short in a field's value")?;
        if field.kind() == Kind::Text && !self.is_text_checked && std::str::from_utf8(value).is_err() {
            return Err("text is not UTF-8");
        }
        let found = Encoded { field, value, at: self.at };
        self.at += HEADER_BYTES + length;
        self.last = id;
        Ok(found)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Encoded<'a>, FieldsError>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let at = self.at;
        Some(self.step().map_err(|why| {
            self.at = self.bytes.len();
            FieldsError { at, why }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ascend_section_by_section_and_names_are_unique() {
        for pair in Field::ALL.windows(2) {
            assert!(pair[0].id() < pair[1].id() && pair[0].section() <= pair[1].section());
        }
        let mut names: Vec<_> = Field::ALL.iter().map(|f| f.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Field::ALL.len());
        assert!(Field::ALL.iter().all(|f| Field::from_id(f.id()) == Some(*f) && Field::ALL[f.position()] == *f));
    }

    #[test]
    fn a_skeleton_of_longest_fields_stays_below_eight_kibibytes() {
        let bytes: usize =
            Field::ALL.iter().filter(|f| f.section() == Section::Skeleton).map(|f| HEADER_BYTES + f.limit()).sum();
        assert!(bytes + 4 + 5 * (HEADER_BYTES + 32) < 8_192, "{bytes}");
    }

    #[test]
    fn the_walk_is_strict() {
        let mut good = Vec::new();
        put(&mut good, 1, Kind::Int, &7i64.to_be_bytes());
        put(&mut good, 2, Kind::Text, b"acme");
        let seen: Vec<_> = Fields::new(&good).map(Result::unwrap).collect();
        assert_eq!((seen[0].int(), seen[1].text(), seen[1].at), (7, "acme", 15));
        let mut swapped = good[15..].to_vec();
        swapped.extend_from_slice(&good[..15]);
        let mut unknown = good.clone();
        put(&mut unknown, 31, Kind::Text, b"x");
        let mut mistyped = Vec::new();
        put(&mut mistyped, 2, Kind::Bytes, b"acme");
        let mut not_utf8 = Vec::new();
        put(&mut not_utf8, 2, Kind::Text, b"\xff");
        for bad in [&good[..good.len() - 1], &good[..20], &swapped[..], &unknown[..], &mistyped[..], &not_utf8[..]] {
            assert!(Fields::new(bad).any(|step| step.is_err()), "{bad:?}");
        }
    }
}
