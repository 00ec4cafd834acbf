//! The leaf: what an entry is hashed as, with its sections under salted commitments (FORMAT.md §3).
//!
//! Not here: the position of an entry, which the tree commits to; where salts are kept.
//!
//! Invariants: the first byte of everything that is hashed says what it is (00 leaf, 01 node, 02
//! section, 03 salt), so no input of one kind is an input of another. `details` is committed even when
//! empty, so each leaf holds a secret, and its hash says nothing once the salts are gone.

use crate::draft::Draft;
use crate::field::{self, HEADER_BYTES, Kind, Section};
use crate::sha::sha256;
use crate::tree::Hash;
use std::fmt;

/// What leaf data begins with: name and version of this encoding.
pub const LEAF_TAG: [u8; 4] = *b"PRL\x01";
/// Ids of commitments in the leaf are this plus the section's number.
pub const COMMITMENT_ID_BASE: u16 = 0x8000;
/// How many events one seed may serve.
pub const EVENTS_PER_SEED: u32 = 1_024;
/// Bytes of one commitment as a field, and of all five.
const COMMITMENT_BYTES: usize = HEADER_BYTES + 32;
const COMMITMENTS_BYTES: usize = 5 * COMMITMENT_BYTES;
const SECTION_DOMAIN: u8 = 2;
const SALT_DOMAIN: u8 = 3;

/// What makes a section's commitment unguessable; disclosed with the section, erased with it.
pub type Salt = [u8; 16];

/// Sixteen random bytes from which the salts of up to 1,024 events of one stream are derived.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seed(pub [u8; 16]);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(secret)")
    }
}

impl Seed {
    /// The salt of one section of the event at `index` under this seed.
    pub fn salt(&self, index: u32, section: Section) -> Salt {
        let mut input = [0u8; 22];
        input[0] = SALT_DOMAIN;
        input[1..17].copy_from_slice(&self.0);
        input[17..21].copy_from_slice(&index.to_be_bytes());
        input[21] = section.number();
        let mut salt = [0u8; 16];
        salt.copy_from_slice(&sha256(&[&input]).0[..16]);
        salt
    }
}

/// The commitment to one section: `SHA-256(02 ‖ section ‖ salt ‖ encoded fields)`.
pub fn commitment(section: Section, salt: &Salt, fields: &[u8]) -> Hash {
    sha256(&[&[SECTION_DOMAIN, section.number()], salt, fields])
}

/// The commitments of an event's sections; an absent section but `details` has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commitments([Option<Hash>; 5]);

impl Commitments {
    /// Commits to the sections of a draft with the salts at `index` of `seed`.
    pub fn of(draft: &Draft, seed: &Seed, index: u32) -> Self {
        Self::of_sections(|section| draft.section(section), seed, index)
    }

    /// Commits to sections whose encoded fields are looked up, as when rows are read back.
    pub fn of_sections<'f>(fields_of: impl Fn(Section) -> &'f [u8], seed: &Seed, index: u32) -> Self {
        Self(Section::COMMITTED.map(|section| {
            let fields = fields_of(section);
            let present = !fields.is_empty() || section == Section::Details;
            present.then(|| commitment(section, &seed.salt(index, section), fields))
        }))
    }

    /// Commitments that were disclosed or kept, in the order of [`Section::COMMITTED`].
    pub fn from_parts(parts: [Option<Hash>; 5]) -> Self {
        Self(parts)
    }

    /// The commitments, in the order of [`Section::COMMITTED`].
    pub fn parts(&self) -> &[Option<Hash>; 5] {
        &self.0
    }

    /// The commitments as fields, and how many bytes they take.
    fn encoded(&self) -> ([u8; COMMITMENTS_BYTES], usize) {
        let (mut out, mut at) = ([0u8; COMMITMENTS_BYTES], 0);
        for (section, hash) in Section::COMMITTED.iter().zip(&self.0) {
            if let Some(hash) = hash {
                let id = COMMITMENT_ID_BASE + u16::from(section.number());
                out[at..at + HEADER_BYTES].copy_from_slice(&field::header(id, Kind::Bytes, hash.0.len()));
                out[at + HEADER_BYTES..at + COMMITMENT_BYTES].copy_from_slice(&hash.0);
                at += COMMITMENT_BYTES;
            }
        }
        (out, at)
    }
}

/// The data of a leaf: tag, the skeleton's encoded fields, the commitments.
pub fn leaf_data(skeleton: &[u8], commitments: &Commitments) -> Vec<u8> {
    let (encoded, length) = commitments.encoded();
    [&LEAF_TAG, skeleton, &encoded[..length]].concat()
}

/// The leaf data of a stamped draft.
pub fn data_of(draft: &Draft, commitments: &Commitments) -> Vec<u8> {
    leaf_data(&draft.skeleton(), commitments)
}

/// The hash of a leaf, `SHA-256(00 ‖ leaf data)`, without building the data.
pub fn leaf_hash(skeleton: &[u8], commitments: &Commitments) -> Hash {
    let (encoded, length) = commitments.encoded();
    sha256(&[&[0], &LEAF_TAG, skeleton, &encoded[..length]])
}

/// The leaf hash of a stamped draft.
pub fn hash_of(draft: &Draft, commitments: &Commitments) -> Hash {
    let (encoded, length) = commitments.encoded();
    sha256(&[&[0], &LEAF_TAG, &draft.stamp_field(), draft.skeleton_after_stamp(), &encoded[..length]])
}

/// The first eight bytes of an event id's SHA-256: what the duplicate index keeps.
pub fn id_fingerprint(event_id: &str) -> u64 {
    let hash = sha256(&[event_id.as_bytes()]).0;
    u64::from_be_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::DraftBuilder;
    use crate::field::Field;

    fn draft(attributes: Option<&str>) -> Draft {
        let mut builder = DraftBuilder::default();
        for (field, text) in [
            (Field::Tenant, "acme"),
            (Field::EventId, "e-1"),
            (Field::Action, "report.export"),
            (Field::Outcome, "success"),
            (Field::ActorType, "user"),
            (Field::ActorId, "u-17"),
            (Field::SourceIp, "203.0.113.9"),
        ] {
            builder.text(field, text).unwrap();
        }
        builder.int(Field::OccurredAt, 1_790_000_000_000_123).unwrap();
        if let Some(text) = attributes {
            builder.text(Field::Attributes, text).unwrap();
        }
        let mut draft = builder.finish().unwrap();
        draft.stamp(1_790_000_000_500_000);
        draft
    }

    #[test]
    fn the_field_encoder_holds_the_fact_sheets_vector() {
        let mut out = Vec::new();
        for (id, text) in [(20, "u-17"), (21, "203.0.113.9"), (22, "r-900"), (23, "{\"rows\":9007199254740993}")] {
            field::put(&mut out, id, Kind::Text, text.as_bytes());
        }
        let hex: String = out.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "00140100000004752d31370015010000000b3230332e302e3131332e3900160100000005722d393030001701000000197b22726f7773223a393030373139393235343734303939337d"
        );
    }

    #[test]
    fn the_leaf_hash_is_the_hash_of_the_leaf_data() {
        let seed = Seed(*b"0123456789abcdef");
        for draft in [draft(None), draft(Some("{\"rows\":9007199254740993}"))] {
            let commitments = Commitments::of(&draft, &seed, 7);
            let data = data_of(&draft, &commitments);
            assert!(data.starts_with(&LEAF_TAG) && data.len() < 8_192);
            assert_eq!(leaf_hash(&draft.skeleton(), &commitments), crate::tree::leaf_hash(&data));
            assert_eq!(hash_of(&draft, &commitments), crate::tree::leaf_hash(&data));
            assert_eq!(commitments.parts().map(|c| c.is_some()), [true, false, false, true, true]);
        }
    }

    #[test]
    fn a_section_salt_position_or_stamp_that_differs_changes_the_leaf() {
        let seed = Seed([7; 16]);
        let leaf = |draft: &Draft, seed: &Seed, index| hash_of(draft, &Commitments::of(draft, seed, index));
        let first = leaf(&draft(None), &seed, 0);
        let mut stamped = draft(None);
        stamped.stamp(1);
        for other in [
            leaf(&draft(Some("{}")), &seed, 0),
            leaf(&draft(None), &seed, 1),
            leaf(&draft(None), &Seed([8; 16]), 0),
            leaf(&stamped, &seed, 0),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn vector_of_format_md() {
        let commitments = Commitments::of(&draft(None), &Seed(*b"0123456789abcdef"), 7);
        assert_eq!(hash_of(&draft(None), &commitments).to_hex(), VECTOR);
    }
    const VECTOR: &str = "c24d9dad78e8ccd16445c13c62620b7c090df1950b4142206f27c280f25e521f";
}
