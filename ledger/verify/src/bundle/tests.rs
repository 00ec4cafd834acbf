//! A bundle made by hand, and every way to change it.

use super::*;
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};
use ledger::bundle::range::RangeWriter;
use ledger::bundle::{Consistency, RangeHead, Shown, Stands, Stead};
use ledger::checkpoint::StreamHead;
use ledger::draft::DraftBuilder;
use ledger::field::{Field, Section};
use ledger::handover::first_record;
use ledger::key::LedgerKey;
use ledger::leaf::{self, Commitments, Seed};
use ledger::name::StreamKind;
use ledger::proof::{self, Span};
use ledger::report::ReportNote;
use ledger::sections::Sections;
use ledger::tlog_proof::TlogProof;
use ledger::tree::{Edge, root_of};
use std::io::Write;

/// An archive with these members, deflated.
pub(super) fn zip(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    let shorts =
        |out: &mut Vec<u8>, numbers: &[u16]| numbers.iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
    let longs =
        |out: &mut Vec<u8>, numbers: &[u32]| numbers.iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
    for (name, bytes) in members {
        let mut crc = Crc::new();
        crc.update(bytes);
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        let packed = encoder.finish().unwrap();
        let (at, sizes) = (out.len() as u32, [crc.sum(), packed.len() as u32, bytes.len() as u32]);
        longs(&mut out, &[0x0403_4b50]);
        shorts(&mut out, &[20, 0, 8, 0, 33]);
        longs(&mut out, &sizes);
        shorts(&mut out, &[name.len() as u16, 0]);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&packed);
        longs(&mut directory, &[0x0201_4b50]);
        shorts(&mut directory, &[20, 20, 0, 8, 0, 33]);
        longs(&mut directory, &sizes);
        shorts(&mut directory, &[name.len() as u16, 0, 0, 0, 0]);
        longs(&mut directory, &[0, at]);
        directory.extend_from_slice(name.as_bytes());
    }
    let at = out.len() as u32;
    out.extend_from_slice(&directory);
    longs(&mut out, &[0x0605_4b50]);
    shorts(&mut out, &[0, 0, members.len() as u16, members.len() as u16]);
    longs(&mut out, &[directory.len() as u32, at]);
    shorts(&mut out, &[0]);
    out
}

const SIZE: u64 = 300;
const RANGE: Span = Span { start: 40, end: 290 };
const FIRST_AT: i64 = 1_790_000_000_000_000;

/// The entry at a position, whole.
fn whole(seq: u64) -> (ledger::Draft, Commitments, Seed) {
    let mut builder = DraftBuilder::default();
    for (field, text) in [
        (Field::Tenant, "acme".to_string()),
        (Field::EventId, format!("e-{seq}")),
        (Field::Action, "report.export".into()),
        (Field::ActorType, "user".into()),
        (Field::ActorId, format!("u-{}", seq % 7)),
        (Field::SourceIp, "203.0.113.9".into()),
    ] {
        builder.text(field, text).unwrap();
    }
    builder.int(Field::OccurredAt, FIRST_AT).unwrap();
    let mut draft = builder.finish().unwrap();
    draft.stamp(FIRST_AT + seq as i64);
    let seed = Seed([seq as u8 / 64; 16]);
    (draft.clone(), Commitments::of(&draft, &seed, seq as u32), seed)
}

fn leaf_of(seq: u64) -> Hash {
    let (draft, commitments, _) = whole(seq);
    leaf::hash_of(&draft, &commitments)
}

/// The same as it is shown, without these sections.
fn shown(seq: u64, hidden: Sections, redacted: Sections) -> Shown {
    let (draft, commitments, seed) = whole(seq);
    let mut builder = DraftBuilder::default();
    for field in ledger::field::Fields::of(&draft).flatten() {
        if !hidden.contains(field.field.section()) {
            builder.raw(field.field, field.value).unwrap();
        }
    }
    let mut less = builder.finish().unwrap();
    less.stamp(draft.recorded_at());
    let stands = Section::COMMITTED.map(|section| match commitments.parts()[usize::from(section.number()) - 1] {
        None => Stands::Nothing,
        Some(hash) if redacted.contains(section) => Stands::Redacted(hash),
        Some(hash) if hidden.contains(section) => Stands::Withheld(hash),
        Some(_) => Stands::Salt(seed.salt(seq as u32, section)),
    });
    Shown { seq, draft: less, stands }
}

#[derive(Clone)]
pub(super) struct Sample {
    members: BTreeMap<String, Vec<u8>>,
    manifest: Manifest,
    /// The key that signs, and the one before it.
    keys: (LedgerKey, LedgerKey),
}

fn log(key: &LedgerKey) -> VerifierKey {
    key.verifier("example/_main/log/0")
}

impl Sample {
    fn new() -> Self {
        let (old, key) = (LedgerKey::from_secret(&[7; 32]), LedgerKey::from_secret(&[8; 32]));
        let mut members = BTreeMap::new();
        let mut put = |name: &str, bytes: Vec<u8>| drop(members.insert(name.to_string(), bytes));
        put("README.txt", b"for people\n".to_vec());
        put("keys/1", first_record(&log(&old)).into_bytes());
        let groups = StreamHead { origin: "example/_main/log/0".into(), size: 9, root: Hash::of(b"groups") };
        let handover = Handover { key: log(&key), number: 2, before: log(&old), time: FIRST_AT, log: groups };
        put("keys/2", handover.sign(&old, &key).into_bytes());
        let leaves: Vec<Hash> = (0..SIZE).map(leaf_of).collect();
        let origin = "example/acme/audit/0".to_string();
        let head = StreamHead { origin: origin.clone(), size: SIZE, root: root_of(leaves.iter().copied()) };
        let checkpoint = head.sign(&[&key]);
        put("streams/audit/checkpoint", checkpoint.clone().into_bytes());
        // Two parts: of the first 256 leaves, and of the rest.
        for (number, part) in [Span::new(0, 256), Span::new(256, SIZE)].into_iter().enumerate() {
            let (mut writer, mut lines) = (RangeWriter::new(part.start), String::new());
            for seq in part.start..part.end {
                let origin = Section::Origin.into();
                let sections = match seq {
                    39 | 290 => Some(Sections::ALL),
                    _ if !(RANGE.start..RANGE.end).contains(&seq) => None,
                    100..110 | 200..232 => None,
                    _ => Some(origin),
                };
                let leaf = leaves[seq as usize];
                match sections {
                    Some(hidden) => {
                        writer.shown(leaf);
                        let redacted = if seq == 60 { Section::Actor.into() } else { Sections::default() };
                        shown(seq, hidden | redacted, redacted).push_line(&mut lines);
                    }
                    None if (200..232).contains(&seq) => writer.stands(Stead::Gone, 0, leaf),
                    None if (100..110).contains(&seq) => writer.stands(Stead::Withheld, 0, leaf),
                    None => writer.stands(Stead::Outside, 0, leaf),
                }
            }
            let head = RangeHead { origin: origin.clone(), size: SIZE, span: RANGE }.to_text();
            let text = if number == 0 { head } else { String::new() } + &writer.finish().0;
            put(&format!("streams/audit/range-{number:06}"), text.into_bytes());
            put(&format!("streams/audit/entries-{number:06}.ndjson"), lines.into_bytes());
            put(&format!("streams/audit/entries-{number:06}.parquet"), b"PAR1".to_vec());
        }
        let root_over = |span: &Span| root_of(leaves[span.start as usize..span.end as usize].iter().copied());
        let path = proof::inclusion_path(50, SIZE).unwrap().iter().map(root_over).collect();
        put("streams/audit/proofs/50.tlog-proof", TlogProof::new(50, path, checkpoint).to_text().into_bytes());
        let nodes = proof::consistency_path(77, SIZE).unwrap().iter().map(root_over).collect();
        let from = (77, root_over(&Span::new(0, 77)));
        let proof = Consistency { origin, from, to: (SIZE, head.root), nodes };
        put("streams/audit/from-77.consistency", proof.to_text().into_bytes());
        put("reports/residency.json", b"{\"answer\":1}".to_vec());
        let note = ReportNote { kind: "residency".into(), time: FIRST_AT, sha256: Hash::of(b"{\"answer\":1}") };
        put("reports/residency.note", note.sign(&"example".parse().unwrap(), &[&key]).into_bytes());
        let manifest = Manifest {
            id: "00112233445566778899aabbccddeeff".into(),
            ledger: "example".parse().unwrap(),
            tenant: "acme".parse().unwrap(),
            time: FIRST_AT,
            by: "auditor".into(),
            audience: "Big Buyer".into(),
            from: Some(FIRST_AT + 40),
            until: Some(FIRST_AT + 290),
            condition: None,
            withheld: Section::Origin.into(),
            previous: None,
            streams: vec![StreamKind::Audit],
            members: vec![],
        };
        Self { members, manifest, keys: (key, old) }
    }

    /// The archive, with a manifest that names its members as they are.
    fn signed(&self) -> Vec<u8> {
        self.signed_by(&self.keys.0)
    }

    fn signed_by(&self, key: &LedgerKey) -> Vec<u8> {
        let of = |(name, bytes): (&String, &Vec<u8>)| Member {
            name: name.clone(),
            bytes: bytes.len() as u64,
            sha256: Hash::of(bytes),
        };
        let manifest = Manifest { members: self.members.iter().map(of).collect(), ..self.manifest.clone() };
        self.with(manifest.sign(&[key]))
    }

    fn with(&self, manifest: String) -> Vec<u8> {
        let mut all: Vec<_> = self.members.clone().into_iter().collect();
        all.push((MANIFEST.into(), manifest.into_bytes()));
        zip(&all)
    }

    fn edit(&self, name: &str, edit: impl FnOnce(&mut String)) -> Self {
        let mut other = self.clone();
        let bytes = other.members.get_mut(name).unwrap();
        let mut text = String::from_utf8(bytes.clone()).unwrap();
        edit(&mut text);
        assert_ne!(text.as_bytes(), bytes, "{name} was not changed");
        *bytes = text.into_bytes();
        other
    }
}

fn checked(bytes: &[u8], keys: &[VerifierKey], heads: &[Vec<u8>]) -> Result<Held, VerifyError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    check(file.path().to_str().unwrap(), keys, heads)
}

/// With the key that was trusted before the handover.
fn judged(sample: &Sample, bytes: &[u8]) -> Result<Held, VerifyError> {
    checked(bytes, &[log(&sample.keys.1)], &[])
}

fn why(outcome: Result<Held, VerifyError>) -> String {
    let error = outcome.map(|_| "it holds").unwrap_err();
    assert_eq!(error.exit_code(), crate::error::DOES_NOT_HOLD, "{error:?}");
    causes(&error)
}

#[test]
fn a_bundle_holds_and_says_what_is_in_it() {
    let sample = Sample::new();
    let held = judged(&sample, &sample.signed()).unwrap();
    let found = &held.streams[0];
    assert_eq!((found.entries, found.withheld, found.gone), (208, 10, 32));
    assert_eq!((found.masked, found.redacted, found.bounded, found.proofs), (208, 1, (true, true), 1));
    assert_eq!((found.span, found.compared.clone(), held.is_trusted), (RANGE, vec![77], true));
    assert_eq!(held.reports, [("reports/residency.json".to_string(), "residency".to_string())]);
    // By the key that it brought along it holds too, which is another thing.
    assert!(!checked(&sample.signed(), &[], &[]).unwrap().is_trusted);
    let stranger = LedgerKey::from_secret(&[9; 32]);
    let other = checked(&sample.signed(), &[log(&stranger)], &[]).unwrap_err();
    assert!(causes(&other).contains("no key that was given signed it"), "{other}");
}

#[test]
fn a_head_that_was_kept_is_compared_where_it_can_be() {
    let sample = Sample::new();
    let (key, old) = &sample.keys;
    let head = |size: u64, root: Hash| StreamHead { origin: "example/acme/audit/0".into(), size, root };
    let own = |size: u64| head(size, root_of((0..size).map(leaf_of)));
    let judge =
        |head: StreamHead, by: &LedgerKey| checked(&sample.signed(), &[log(old)], &[head.sign(&[by]).into_bytes()]);
    for (size, is_compared) in [(77, true), (55, true), (256, true), (SIZE, true), (20, false), (105, false)] {
        let held = judge(own(size), old).unwrap();
        assert_eq!(held.compared.len() == 1, is_compared, "{size}");
        assert_eq!(held.uncompared.is_empty(), is_compared, "{size}");
    }
    assert_eq!(judge(head(400, Hash::of(b"x")), key).unwrap().uncompared[0].2, "it is newer than the bundle");
    for size in [77, 55, 256, SIZE] {
        assert!(why(judge(head(size, Hash::of(b"another history")), old)).contains("forked"), "{size}");
    }
    assert_eq!(judge(own(55), &LedgerKey::from_secret(&[9; 32])).unwrap_err().exit_code(), 3);
}

/// One at a time: each file with one byte changed, under the old manifest, and under one that somebody else signed.
#[test]
fn each_file_that_is_changed_is_caught() {
    let sample = Sample::new();
    let held = sample.signed();
    let manifest = {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &held).unwrap();
        let archive = Archive::open(file.path().to_str().unwrap()).unwrap();
        String::from_utf8(limited(&archive, MANIFEST, 1 << 20).unwrap()).unwrap()
    };
    let stranger = LedgerKey::from_secret(&[9; 32]);
    for name in sample.members.keys() {
        let mut other = sample.clone();
        let bytes = other.members.get_mut(name).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        why(judged(&sample, &other.with(manifest.clone())));
        why(judged(&sample, &other.signed_by(&stranger)));
        let mut fewer = sample.clone();
        fewer.members.remove(name);
        why(judged(&sample, &fewer.with(manifest.clone())));
    }
    let mut more = sample.clone();
    more.members.insert("more.txt".into(), vec![]);
    assert!(why(judged(&sample, &more.with(manifest.clone()))).contains("put here by somebody else"));
    why(judged(&sample, &sample.with(manifest.replace("Big Buyer", "Big Bayer"))));
}

/// What the ledger's own key signed and is wrong all the same: the deeper checks.
#[test]
fn each_entry_proof_and_line_that_is_changed_is_caught_whoever_signed_it() {
    let sample = Sample::new();
    let entries = String::from_utf8(sample.members["streams/audit/entries-000000.ndjson"].clone()).unwrap();
    let refused = |other: &Sample| why(judged(&sample, &other.signed()));
    for (at, line) in entries.lines().enumerate() {
        let name = "streams/audit/entries-000000.ndjson";
        let changed = line.replacen("report.export", "report.import", 1);
        refused(&sample.edit(name, |text| *text = text.replacen(line, &changed, 1)));
        refused(&sample.edit(name, |text| *text = text.replacen(&format!("{line}\n"), "", 1)));
        refused(&sample.edit(name, |text| *text = text.replacen(line, &format!("{line}\n{line}"), 1)));
        if at % 20 == 0 {
            for key in ["salts", "withheld"] {
                let Some(place) = line.find(&format!("\"{key}\":")) else { continue };
                let digit = place + line[place..].find(":\"").unwrap() + 2;
                let other = if &line[digit..=digit] == "0" { "1" } else { "0" };
                let changed = format!("{}{other}{}", &line[..digit], &line[digit + 1..]);
                refused(&sample.edit(name, |text| *text = text.replacen(line, &changed, 1)));
            }
        }
    }
    for number in 0..2 {
        let name = format!("streams/audit/range-{number:06}");
        let text = String::from_utf8(sample.members[&name].clone()).unwrap();
        for line in text.lines() {
            refused(&sample.edit(&name, |text| *text = text.replacen(&format!("{line}\n"), "", 1)));
            refused(&sample.edit(&name, |text| *text = text.replacen(line, &format!("{line}\n{line}"), 1)));
            if let Some((front, hash)) = line.rsplit_once(' ').filter(|(_, hash)| hash.len() == 44) {
                let other = Hash::of(hash.as_bytes());
                refused(&sample.edit(&name, |text| *text = text.replacen(line, &format!("{front} {other}"), 1)));
            }
            // What is withheld may be called gone, which is the ledger's word; what is outside may not be called either.
            if let Some(rest) = line.strip_prefix("outside") {
                refused(&sample.edit(&name, |text| *text = text.replacen(line, &format!("withheld{rest}"), 1)));
            }
        }
    }
    for (name, old, new) in [
        ("streams/audit/range-000000", "range 40", "range 39"),
        ("streams/audit/range-000000", "size 300", "size 299"),
        ("streams/audit/range-000000", "acme", "acma"),
        ("streams/audit/checkpoint", "acme", "acma"),
        ("streams/audit/proofs/50.tlog-proof", "index 50", "index 51"),
        ("streams/audit/from-77.consistency", "from 77", "from 78"),
        ("reports/residency.json", "1", "2"),
        ("reports/residency.note", "residency", "residence"),
        ("keys/2", "number 2", "number 3"),
    ] {
        refused(&sample.edit(name, |text| *text = text.replacen(old, new, 1)));
    }
    let mut proof = sample.clone();
    let moved = proof.members.remove("streams/audit/proofs/50.tlog-proof").unwrap();
    proof.members.insert("streams/audit/proofs/51.tlog-proof".into(), moved);
    refused(&proof);
    for (from, until) in
        [(None, Some(290)), (Some(40), None), (Some(41), Some(290)), (Some(39), Some(290)), (Some(40), Some(291))]
    {
        let mut other = sample.clone();
        (other.manifest.from, other.manifest.until) = (from.map(|at| FIRST_AT + at), until.map(|at| FIRST_AT + at));
        refused(&other);
    }
    let mut unmasked = sample.clone();
    unmasked.manifest.withheld = Section::Actor.into();
    refused(&unmasked);
    let mut other = sample.clone();
    other.manifest.tenant = "globex".parse().unwrap();
    refused(&other);
}

#[test]
fn a_file_that_belongs_nowhere_is_refused() {
    let sample = Sample::new();
    for name in ["keys/4", "keys/x", "streams/audit/entries.ndjson", "streams/telemetry/checkpoint", "reports/x.json"] {
        let mut other = sample.clone();
        other.members.insert(name.into(), b"x".to_vec());
        assert!(why(judged(&sample, &other.signed())).contains(name), "{name}");
    }
    let mut beside = sample.clone();
    beside.members.insert("controls.csv".into(), b"x".to_vec());
    assert!(judged(&sample, &beside.signed()).is_ok());
}

#[test]
fn a_stream_that_is_cut_off_and_folds_to_nothing_is_no_proof() {
    // A range that claims to be all, with nothing in it.
    let sample = Sample::new();
    let mut other = sample.clone();
    for name in ["streams/audit/range-000001", "streams/audit/entries-000001.ndjson"] {
        other.members.remove(name);
    }
    assert!(why(judged(&sample, &other.signed())).contains("nothing"));
    assert_eq!(Edge::default().root(), root_of([]));
}

#[test]
fn what_is_newer_is_told_from_what_does_not_hold() {
    let sample = Sample::new();
    let newer = |other: &Sample| judged(&sample, &other.signed()).unwrap_err().exit_code();
    for (name, old, new) in [
        ("streams/audit/range-000000", "piperoll-range/v1", "piperoll-range/v2"),
        ("streams/audit/range-000000", "\noutside", "\nhidden 0 0 x\noutside"),
        ("streams/audit/from-77.consistency", "/v1", "/v2"),
    ] {
        assert_eq!(newer(&sample.edit(name, |text| *text = text.replacen(old, new, 1))), crate::error::NEWER, "{new}");
    }
}
