//! The worked examples of FORMAT.md, made anew and compared with the page, byte for byte.
//!
//! Each example stands in a fenced block whose info string is `example` and a name. A block that differs is
//! printed as it should be. Not here: the other way round, reading a store by the page alone, which
//! `tests/recompute.py` does.

use crate::checkpoint::StreamHead;
use crate::commit::{Commit, Erased, Erasure, SegmentRef};
use crate::draft::{Draft, DraftBuilder};
use crate::field::{Field, Section};
use crate::gone::{Gone, GoneRef};
use crate::group::{self, Durability, Group};
use crate::handover::{Handover, KeyHistory};
use crate::key::LedgerKey;
use crate::leaf::{self, Commitments, Seed};
use crate::note::tests::log_key;
use crate::proof::Span;
use crate::receipt::{Covered, Receipt};
use crate::tree::{self, Edge, Hash};

const PAGE: &str = include_str!("../FORMAT.md");
const ORIGIN: &str = "example/acme/audit/0";
const LOG: &str = "example/_main/log/0";
const SEED: Seed = Seed(*b"0123456789abcdef");
const RECORDED: i64 = 1_790_000_000_500_000;

fn example(name: &str) -> &'static str {
    let start = format!("\n```example {name}\n");
    let (_, rest) = PAGE.split_once(&start).unwrap_or_else(|| panic!("FORMAT.md has no example {name}"));
    let (body, _) = rest.split_once("\n```").unwrap();
    &rest[..body.len() + 1]
}

fn holds(name: &str, expected: &str) {
    assert!(example(name) == expected, "example {name} should be:\n{expected}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn event(id: &str) -> Draft {
    let mut builder = DraftBuilder::default();
    for (field, text) in [
        (Field::Tenant, "acme"),
        (Field::EventId, id),
        (Field::Action, "report.export"),
        (Field::Outcome, "success"),
        (Field::ActorType, "user"),
        (Field::ActorId, "u-17"),
        (Field::SourceIp, "203.0.113.9"),
    ] {
        builder.text(field, text.to_string()).unwrap();
    }
    builder.int(Field::OccurredAt, 1_790_000_000_000_123).unwrap();
    let mut draft = builder.finish().unwrap();
    draft.stamp(RECORDED);
    draft
}

fn leaf_of(id: &str, index: u32) -> Hash {
    let draft = event(id);
    leaf::hash_of(&draft, &Commitments::of(&draft, &SEED, index))
}

fn leaves() -> [Hash; 3] {
    [leaf_of("e-1", 7), leaf_of("e-2", 8), leaf_of("e-3", 9)]
}

fn edge_of(leaves: &[Hash]) -> Edge {
    let mut edge = Edge::default();
    leaves.iter().for_each(|leaf| edge.push(*leaf));
    edge
}

fn head(origin: &str, edge: &Edge) -> StreamHead {
    StreamHead { origin: origin.into(), size: edge.size(), root: edge.root() }
}

fn keys() -> (LedgerKey, String) {
    let key = log_key();
    let lines = format!("stream {}\nlog    {}\n", key.verifier(ORIGIN), key.verifier(LOG));
    (key, lines)
}

#[test]
fn leaf() {
    let draft = event("e-1");
    let commitments = Commitments::of(&draft, &SEED, 7);
    let mut out = format!("skeleton   {}\n", hex(&draft.skeleton()));
    for section in Section::COMMITTED {
        if let Some(commitment) = commitments.parts()[usize::from(section.number()) - 1] {
            let name = section.as_str();
            let fields = hex(draft.section(section));
            out += &format!("{name:<7} fields     {}\n", if fields.is_empty() { "none" } else { &fields });
            out += &format!("{name:<7} salt       {}\n", hex(&SEED.salt(7, section)));
            out += &format!("{name:<7} commitment {}\n", commitment.to_hex());
        }
    }
    out += &format!("leaf data  {}\n", hex(&leaf::data_of(&draft, &commitments)));
    out += &format!("leaf hash  {}\n", leaf_of("e-1", 7).to_hex());
    holds("leaf", &out);
}

#[test]
fn tree() {
    let [a, b, c] = leaves();
    let ab = tree::node_hash(&a, &b);
    let root = edge_of(&[a, b, c]).root();
    let line = |name: &str, hash: Hash| format!("{name:<6} {}\n", hash.to_hex());
    let all = [("leaf 0", a), ("leaf 1", b), ("leaf 2", c), ("[0,2)", ab), ("[0,3)", root)];
    holds("tree", &all.map(|(name, hash)| line(name, hash)).concat());
    holds("head", &head(ORIGIN, &edge_of(&[a, b, c])).to_text());
    let (key, lines) = keys();
    holds("keys", &lines);
    holds("checkpoint", &head(ORIGIN, &edge_of(&[a, b, c])).sign(&[&key]));
}

#[test]
fn handover() {
    let second = crate::note::tests::hex32("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
    let (first, second) = (keys().0, LedgerKey::from_secret(&second));
    // The store log as it is in the example of a receipt.
    let text = example("receipt");
    let log = text.split_once("\n\n").and_then(|(_, note)| note.split_once("\n\n")).unwrap();
    let log = StreamHead::parse(&format!("{}\n", log.0)).unwrap();
    let [key, before] = [&second, &first].map(|key| key.verifier(LOG));
    let handover = Handover { key, number: 2, before: before.clone(), time: RECORDED, log };
    let record = handover.sign(&first, &second);
    let mut history = KeyHistory::begin(before);
    assert_eq!(history.take(record.as_bytes()).unwrap(), handover);
    holds("handover", &record);
}

#[test]
fn commit() {
    let (key, [a, b, c]) = (keys().0, leaves());
    let add = |path: &str, first, bytes, text: &[u8], own: &[Hash]| SegmentRef {
        path: path.into(),
        first,
        span: own.len() as u64,
        rows: own.len() as u64,
        bytes,
        sha256: Hash::of(text),
        root: edge_of(own).root(),
    };
    let make = |number, previous, segment, edge| {
        let (origin, time, adds, removes) = (ORIGIN.into(), RECORDED, vec![segment], vec![]);
        Commit { origin, number, previous, epoch: 1, time, adds, removes, erasure: None, edge }.sign(&key)
    };
    let one = add("2026-09/00000000000000000000-1-0.parquet", 0, 7, b"first\r\n", &[a, b]);
    let first = make(0, None, one, edge_of(&[a, b]));
    let two = add("2026-09/00000000000000000002-1-1.parquet", 2, 8, b"second\r\n", &[c]);
    let second = make(1, Some(first.hash()), two, edge_of(&[a, b, c]));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    holds("commit-0", &text(first.bytes()));
    holds("commit-1", &text(second.bytes()));
    // The middle one goes.
    let hole = Span::new(1, 2);
    let gone = Gone::new(ORIGIN, (2, 3), vec![hole], vec![], vec![(1, b)], vec![]).unwrap().to_text();
    holds("gone-2", &gone);
    let (sha256, bytes) = (Hash::of(gone.as_bytes()), gone.len() as u64);
    let named = GoneRef { commit: 2, epoch: 1, sha256, bytes, entries: 1, newest: RECORDED };
    let removes = vec![first.commit().adds[0].path.clone()];
    let erasure = Some(Erasure { removes, what: Erased::Entries(named), basis: 41, plan: Hash::of(b"the plan") });
    let stays = add("2026-09/00000000000000000000-1-2.parquet", 0, 7, b"stays\r\n", &[a]);
    let (previous, edge) = (Some(second.hash()), edge_of(&[a, b, c]));
    let third = Commit { number: 2, previous, erasure, adds: vec![stays], edge, ..second.commit().clone() };
    let third = third.sign(&key);
    holds("commit-2", &text(third.bytes()));
    // Of the last one a section goes.
    let removes = vec![second.commit().adds[0].path.clone()];
    let what = Erased::Sections(1);
    let erasure = Some(Erasure { removes, what, basis: 57, plan: Hash::of(b"another plan") });
    let less = add("2026-09/00000000000000000002-1-m0.parquet", 2, 6, b"less\r\n", &[c]);
    let (previous, adds) = (Some(third.hash()), vec![less]);
    let fourth = Commit { number: 3, previous, erasure, adds, ..third.commit().clone() };
    holds("commit-3", &text(fourth.sign(&key).bytes()));
}

#[test]
fn receipt() {
    let (key, [a, b, c]) = (keys().0, leaves());
    let other = Hash::of(b"a root of globex");
    let globex = StreamHead { origin: "example/globex/audit/0".into(), size: 9, root: other };
    let before = Group::new(vec![head(ORIGIN, &edge_of(&[a, b]))]);
    let moved = Group::new(vec![globex, head(ORIGIN, &edge_of(&[a, b, c]))]);
    let (durability, epoch) = (Durability::Wal, 1);
    let [first, second] = [&before, &moved].map(|group| group.log_leaf(durability, epoch));
    let log = edge_of(&[first, second]);
    let checkpoint = head(LOG, &log).sign(&[&key]);
    let path = [first];
    let covered = Covered { durability, epoch, group: &moved, log_index: 1, path: &path, checkpoint: &checkpoint };
    let whole = Receipt::of(&covered, [ORIGIN, "example/globex/audit/0"]);
    whole.verify(&[key.verifier(LOG)]).unwrap();
    let line = |name: &str, hash: Hash| format!("{name:<13} {}\n", hash.to_hex());
    let mut out = moved.heads().iter().map(|h| line("group leaf", group::head_leaf(h))).collect::<String>();
    out += &line("group root", moved.root());
    out += &line("log leaf 0", first);
    out += &line("log leaf 1", second);
    out += &line("log root", log.root());
    // The page shows what the second leaf of the store log is the hash of.
    assert!(tree::leaf_hash(example("log-leaf-1").as_bytes()) == second, "its root should be {}", moved.root());
    holds("group", &out);
    holds("receipt", &whole.to_text());
    holds("receipt-narrowed", &whole.narrow(|origin| origin == ORIGIN).to_text());
}
