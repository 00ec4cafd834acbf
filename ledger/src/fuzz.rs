//! Fuzz harnesses of this crate's parsers; how to run and replay them: docs/testing.md.
//!
//! Each says what must hold of whatever its parser accepts. Where a signature stands before the parser, the
//! harness signs what the fuzzer made, so that the parser is reached; where it is the signature that must stop
//! it, nothing but the seeds was ever signed. Not here: the changes themselves (`tests/fuzz/changed.rs`).

#[path = "../../tests/fuzz/changed.rs"]
pub(crate) mod changed;

use crate::checkpoint::{Checkpoint, StreamHead};
use crate::commit::{Commit, CommitError, Erased, Erasure, SegmentRef, SignedCommit};
use crate::draft::{Draft, DraftBuilder, STAMP_BYTES};
use crate::field::{Field, Fields, Section};
use crate::gone::{Gone, GoneError, GoneRef, cut};
use crate::group::{Durability, Group};
use crate::handover::{Handover, KeyHistory};
use crate::key::{LedgerKey, VerifierKey, is_key_name};
use crate::leaf::{self, Commitments, Seed};
use crate::name::{LedgerName, Origin, StreamKind, TenantId};
use crate::note::{self, Note};
use crate::proof::{self, Span};
use crate::receipt::{Covered, Receipt};
use crate::tile::Tile;
use crate::time::{format_micros, parse_micros};
use crate::tlog_proof::TlogProof;
use crate::tree::{Edge, Hash, leaf_hash, root_of};
use crate::verify::ChainVerifier;
use changed::{fuzz, write_seed};

const ORIGIN: &str = "example/acme/audit/0";
const LOG: &str = "example/_main/log/0";
/// What stands between the texts of several commits.
const GAP: &str = "%\n";

fn key() -> LedgerKey {
    LedgerKey::from_secret(&[3; 32])
}

fn leaves(size: u64) -> Vec<Hash> {
    (0..size).map(|n| leaf_hash(format!("leaf-{n}").as_bytes())).collect()
}

fn edge(size: u64) -> Edge {
    let mut edge = Edge::default();
    leaves(size).into_iter().for_each(|leaf| edge.push(leaf));
    edge
}

fn head(origin: &str, size: u64) -> StreamHead {
    StreamHead { origin: origin.into(), size, root: edge(size).root() }
}

fn hashes(spans: Vec<Span>, leaves: &[Hash]) -> Vec<Hash> {
    spans.iter().map(|span| root_of(leaves[span.start as usize..span.end as usize].iter().copied())).collect()
}

#[test]
fn notes() {
    fn check(bytes: &[u8]) {
        let Ok(note) = Note::parse(bytes) else { return };
        let lines = note.signatures().iter().map(|line| {
            let payload = crate::text::encode(&[&line.id[..], &line.payload].concat());
            format!("\u{2014} {} {payload}\n", line.name)
        });
        let printed = format!("{}\n{}", note.text(), lines.collect::<String>());
        assert_eq!(printed.as_bytes(), bytes, "a note has one spelling");
        let text = note.text().to_string();
        let trusted = [key().verifier(ORIGIN), key().verifier(LOG)];
        if let Ok(verified) = note.verify(&trusted) {
            assert!(verified.text() == text && signed_texts().contains(&text), "nobody signed this: {text:?}");
        }
    }
    fuzz!("notes", check);
}

/// Every text under a seed's signature.
fn signed_texts() -> Vec<String> {
    let heads = [head(ORIGIN, 0), head(ORIGIN, 13), head(LOG, 5)];
    heads.iter().map(StreamHead::to_text).collect()
}

#[test]
fn checkpoints() {
    fn check(bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(head) = StreamHead::parse(&text) {
            assert_eq!(head.to_text(), text);
        }
        let trusted = [key().verifier(ORIGIN), key().verifier(LOG)];
        if let Ok(opened) = Checkpoint::open(bytes, &trusted) {
            assert!(signed_texts().contains(&opened.head().to_text()), "nobody signed this: {:?}", opened.head());
        }
        // What the fuzzer made, signed: so the reader of heads is reached behind the signature.
        if let Some(body) = text.split_inclusive('\n').take(3).map(str::to_string).reduce(|a, b| a + &b)
            && body.ends_with('\n')
            && let Some(name) = body.lines().next().filter(|name| is_key_name(name))
            && body.lines().last() != Some("")
        {
            let signed = note::sign(&body, name, &[&key()]);
            if let Ok(opened) = Checkpoint::open(signed.as_bytes(), &[key().verifier(name)]) {
                assert_eq!(opened.head().to_text(), body);
            }
        }
    }
    fuzz!("checkpoints", check);
}

/// Signs a commit's text as it is; none where no note can hold it.
fn signed_commit(text: &str) -> Option<(String, Vec<u8>)> {
    let origin = text.lines().nth(1)?.strip_prefix("origin ").filter(|name| is_key_name(name))?;
    let is_note_text = text.ends_with('\n') && !text.ends_with("\n\n");
    is_note_text.then(|| (origin.to_string(), note::sign(text, origin, &[&key()]).into_bytes()))
}

#[test]
fn commits() {
    fn check(bytes: &[u8]) {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let Some((origin, signed)) = signed_commit(text) else { return };
        match SignedCommit::open(&signed, &[key().verifier(&origin)]) {
            Ok(opened) => {
                let commit = opened.commit();
                assert_eq!((commit.to_text().as_str(), opened.bytes()), (text, &signed[..]));
                assert!(commit.adds.windows(2).all(|pair| pair[0].end() <= pair[1].first));
                assert!(commit.adds.iter().all(|add| add.rows > 0 && !add.path.split('/').any(|part| part == "..")));
                assert_eq!(commit.edge.nodes().len(), commit.edge.size().count_ones() as usize);
            }
            Err(CommitError::Newer) => assert!(text.starts_with("piperoll-commit/v")),
            Err(_) => {}
        }
        assert!(SignedCommit::open(&signed, &[key().verifier(LOG)]).is_err() || origin == LOG);
    }
    fuzz!("commits", check);
}

/// Puts the hash of the commit before into a commit's text, so that a changed chain is still a chain.
fn linked(text: &str, previous: Option<Hash>) -> String {
    let previous = previous.map_or("-".into(), |hash| hash.to_base64());
    let line = |line: &str| match line.strip_prefix("previous ") {
        Some(_) => format!("previous {previous}\n"),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[test]
fn chains() {
    fn check(bytes: &[u8]) {
        let Ok(all) = std::str::from_utf8(bytes) else { return };
        let mut chain = ChainVerifier::new(ORIGIN, vec![key().verifier(ORIGIN)]);
        for text in all.split(GAP) {
            let before = chain.clone();
            let Some((_, signed)) = signed_commit(&linked(text, chain.last_hash())) else { break };
            if chain.commit(&signed).is_err() {
                assert_eq!((chain.commits(), chain.edge()), (before.commits(), before.edge()), "a fault changed it");
                break;
            }
            let gone = chain.gone().map_or(0, |gone| gone.entries);
            let (mut covered, mut rows) = (0, gone);
            for held in chain.live() {
                assert!(held.segment.first >= covered, "an overlap");
                assert!(held.segment.first == covered || gone > 0, "a gap, and nothing is gone");
                (covered, rows) = (held.segment.end(), rows + held.segment.rows);
            }
            assert_eq!((rows, chain.commits()), (chain.edge().size(), before.commits() + 1));
            assert!(chain.edge().size() >= before.edge().size() && chain.epoch() >= before.epoch());
        }
        // Leaves that are none of the segments' own: every one of them must end in a fault, and none in a panic.
        let Ok(mut leaves) = chain.into_leaves(None) else { return };
        for seq in 0..40 {
            let fed = leaves.leaf(seq, Hash([7; 32]), &mut ());
            if fed.is_err() || leaves.end_segment().is_err() {
                break;
            }
        }
    }
    fuzz!("chains", check);
}

#[test]
fn gone() {
    fn check(bytes: &[u8]) {
        match Gone::parse(bytes) {
            Ok(gone) => {
                assert_eq!(gone.to_text().as_bytes(), bytes, "another spelling");
                for hole in gone.holes() {
                    let steps = gone.steps(hole.start, hole.end).expect("each of its holes has its hashes");
                    let covered: u64 = steps.iter().map(|(height, _)| 1u64 << height).sum();
                    assert_eq!(covered, hole.len());
                }
            }
            Err(GoneError::Newer) => assert!(bytes.starts_with(b"piperoll-gone/v")),
            Err(GoneError::Malformed(_)) => {}
        }
    }
    fuzz!("gone", check);
}

fn group(at: u64) -> Group {
    Group::new((0..7).map(|s| head(&format!("example/t-{s}/audit/0"), at * 3 + s)).collect())
}

fn receipt(at: u64, groups: u64, streams: &[u64]) -> Receipt {
    let leaves: Vec<Hash> = (0..groups).map(|g| group(g).log_leaf(Durability::Wal, 2)).collect();
    let path = hashes(proof::inclusion_path(at, groups).unwrap(), &leaves);
    let log = StreamHead { origin: LOG.into(), size: groups, root: root_of(leaves) };
    let checkpoint = log.sign(&[&key()]);
    let group = group(at);
    let (durability, epoch, path, checkpoint) = (Durability::Wal, 2, &path[..], &checkpoint[..]);
    let covered = Covered { durability, epoch, group: &group, log_index: at, path, checkpoint };
    let origins: Vec<String> = streams.iter().map(|s| format!("example/t-{s}/audit/0")).collect();
    Receipt::of(&covered, origins.iter().map(String::as_str))
}

#[test]
fn handovers() {
    fn check(bytes: &[u8]) {
        let (before, after) = (key(), LedgerKey::from_secret(&[8; 32]));
        if let Ok(handover) = Handover::open(bytes) {
            // Signatures of Ed25519 are the same each time, so whoever has the keys would have written these bytes.
            assert!(std::str::from_utf8(bytes).unwrap().starts_with(&handover.to_text()), "two spellings");
        }
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        if !text.ends_with('\n') || text.ends_with("\n\n") {
            return;
        }
        let signed = note::sign(text, LOG, &[&before, &after]);
        if let Ok(handover) = Handover::open(signed.as_bytes()) {
            assert_eq!((handover.to_text().as_str(), handover.sign(&before, &after)), (text, signed));
            let mut history = KeyHistory::begin(before.verifier(LOG));
            assert_eq!(history.take(handover.sign(&before, &after).as_bytes()).is_ok(), handover.number == 2);
        }
    }
    fuzz!("handovers", check);
}

#[test]
fn receipts() {
    fn check(bytes: &[u8]) {
        let Ok(receipt) = Receipt::parse(bytes) else { return };
        assert_eq!(receipt.to_text().as_bytes(), bytes);
        // Narrowing takes what merely parsed.
        let narrowed = receipt.narrow(|origin| origin.contains("t-3"));
        let trusted = [key().verifier(LOG)];
        let Ok(verified) = receipt.verify(&trusted) else { return };
        let groups: Vec<Group> = (0..5).map(group).collect();
        for head in &verified.heads {
            assert!(groups.iter().any(|group| group.heads().contains(head)), "nobody signed this: {head:?}");
        }
        let mine = verified.heads.iter().filter(|head| head.origin.contains("t-3")).cloned().collect::<Vec<_>>();
        assert_eq!(narrowed.verify(&trusted).map(|narrowed| narrowed.heads).unwrap_or_default(), mine);
    }
    fuzz!("receipts", check);
}

fn tlog_proof(index: u64, size: u64) -> TlogProof {
    let path = hashes(proof::inclusion_path(index, size).unwrap(), &leaves(size));
    TlogProof::new(index, path, head(ORIGIN, size).sign(&[&key()]))
}

#[test]
fn tlog_proofs() {
    fn check(bytes: &[u8]) {
        let Ok(proof) = TlogProof::parse(bytes) else { return };
        assert_eq!(proof.to_text().as_bytes(), bytes);
        for (at, leaf) in leaves(13).iter().enumerate() {
            if proof.verify(leaf, &[key().verifier(ORIGIN)]).is_ok() {
                assert_eq!(proof.index(), at as u64, "the leaf is not there");
            }
        }
    }
    fuzz!("tlog_proofs", check);
}

#[test]
fn merkle_proofs() {
    /// Three numbers, then hashes of one byte each, then the leaf or the two roots, also by one byte.
    fn check(bytes: &[u8]) {
        let number = |at: usize| bytes.get(8 * at..8 * at + 8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
        let (Some(a), Some(b), Some(c)) = (number(0), number(1), number(2)) else { return };
        let leaves = leaves(13);
        let hash = |byte: &u8| leaves.get(usize::from(*byte)).copied().unwrap_or(Hash([*byte; 32]));
        let path: Vec<Hash> = bytes[24..].iter().take(70).map(hash).collect();
        let root = root_of(leaves.iter().copied());
        for (at, leaf) in leaves.iter().enumerate() {
            let holds = proof::check_inclusion(a, 13, &path, leaf, &root);
            assert!(!holds || a == at as u64, "leaf {at} is not at {a}");
        }
        let _ = proof::check_consistency(a, b, &path, &leaves[0], &root);
        let _ = proof::check_subtree(Span::new(a, b), c, &path, &leaves[0], &root);
        if let Ok(spans) = proof::subtree_path(Span::new(a, b), c) {
            assert!(spans.len() <= 128 && spans.iter().all(|span| span.end <= c && span.is_subtree()));
        }
        let _ = (proof::inclusion_path(a, c), proof::consistency_path(b, c));
        let shown: Vec<(u64, Hash)> = [a, b].into_iter().map(|at| (at, leaves[1])).collect();
        let _ = proof::root_from_leaves(c, &shown, &path);
        if a < b && b < c {
            let wanted = [Span::new(a, a + 1), Span::new(b, b + 1)];
            let missing: u64 = proof::complement(c, &wanted).iter().map(Span::len).sum();
            assert_eq!(missing, c - 2, "with the two leaves, the whole tree is covered once");
        }
        let _ = Edge::from_parts(a, path);
    }
    fuzz!("merkle_proofs", check);
}

#[test]
fn keys_names_times_and_tiles() {
    fn check(bytes: &[u8]) {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        for text in text.lines().chain([text]) {
            let printed = [
                text.parse::<VerifierKey>().map(|key| key.to_string()).ok(),
                text.parse::<TenantId>().map(|tenant| tenant.to_string()).ok(),
                text.parse::<LedgerName>().map(|ledger| ledger.to_string()).ok(),
                text.parse::<StreamKind>().map(|kind| kind.to_string()).ok(),
                text.parse::<Origin>().map(|origin| origin.to_string()).ok(),
                Hash::from_base64(text).map(|hash| hash.to_base64()),
                Tile::parse(text).map(|tile| tile.path()),
            ];
            printed.into_iter().flatten().for_each(|printed| assert_eq!(printed, text, "two spellings"));
            if let Some(tile) = Tile::parse(text) {
                assert!(tile.range().end >= tile.range().start && (1..=256).contains(&tile.width));
                let _ = (tile.is_within(u64::MAX), tile.is_within(0));
            }
            if let Ok(micros) = parse_micros(text) {
                let again = format_micros(micros);
                let in_years = (-62_167_219_200_000_000..253_402_300_800_000_000).contains(&micros);
                assert!(!in_years || parse_micros(&again) == Ok(micros), "{text} is {micros}, which is {again}");
            }
        }
    }
    fuzz!("keys_names_times_and_tiles", check);
}

fn draft(full: bool) -> Draft {
    let mut builder = DraftBuilder::default();
    for (field, text) in
        [(Field::Tenant, "acme"), (Field::EventId, "e-1"), (Field::Action, "report.export"), (Field::ActorType, "user")]
    {
        builder.text(field, text).unwrap();
    }
    builder.int(Field::OccurredAt, 1_790_000_000_000_123).unwrap();
    if full {
        builder.text(Field::Attributes, "{\"rows\":9007199254740993}").unwrap();
        builder.text(Field::ActorId, "u-17").unwrap();
        builder.text(Field::Client, "c").unwrap();
        builder.text(Field::SourceIp, "203.0.113.9").unwrap();
        builder.hex(Field::TraceId, "4bf92f3577b34da6a3ce929d0e0e4736").unwrap();
        builder.int(Field::Severity, 9).unwrap();
    }
    let mut draft = builder.finish().unwrap();
    draft.stamp(1_790_000_000_500_000);
    draft
}

#[test]
fn drafts() {
    fn check(bytes: &[u8]) {
        let walked = Fields::new(bytes).collect::<Result<Vec<_>, _>>();
        let Ok(draft) = Draft::decode(bytes) else { return };
        let mut builder = DraftBuilder::default();
        for step in walked.unwrap().iter().filter(|step| step.field != Field::RecordedAt) {
            builder.raw(step.field, step.value).unwrap();
        }
        let again = builder.finish().unwrap();
        assert_eq!((again.content(), &again.fields()[..7]), (&bytes[STAMP_BYTES..], &bytes[..7]), "not canonical");
        assert_eq!((again.event_id(), again.stream()), (draft.event_id(), draft.stream()));
        draft.tenant().parse::<TenantId>().unwrap();
        let sections = Section::COMMITTED.map(|section| draft.section(section));
        assert_eq!([&draft.skeleton()[..], &sections.concat()].concat(), bytes);
        let data = leaf::leaf_data(&draft.skeleton(), &Commitments::of(&draft, &Seed([1; 16]), 0));
        assert!(data.len() < 8 << 10);
    }
    fuzz!("drafts", check);
}

/// Writes the seeds anew: `cargo test -p ledger write_seeds -- --ignored`.
#[test]
#[ignore = "writes into the tree"]
fn write_seeds() {
    let seed =
        |name: &str, seed: &str, bytes: &[u8]| write_seed(env!("CARGO_MANIFEST_DIR"), file!(), name, seed, bytes);
    let signed = head(ORIGIN, 13).sign(&[&key()]);
    let stranger = LedgerKey::from_secret(&[4; 32]).signature_line("witness.example/w", &head(ORIGIN, 13).to_text());
    for name in ["notes", "checkpoints"] {
        seed(name, "head", signed.as_bytes());
        seed(name, "empty", head(ORIGIN, 0).sign(&[&key()]).as_bytes());
        seed(name, "log", head(LOG, 5).sign(&[&key()]).as_bytes());
        seed(name, "witnessed", format!("{signed}{stranger}").as_bytes());
    }
    let add = |first: u64, end: u64, number: u64| SegmentRef {
        path: format!("2026-09/{first:020}-1-{number}.parquet"),
        first,
        span: end - first,
        rows: end - first,
        bytes: 4_096,
        sha256: Hash::of(b"file"),
        root: root_of(leaves(end)[first as usize..].iter().copied()),
    };
    let commit = |number: u64, adds: Vec<SegmentRef>, removes: Vec<String>, size: u64| {
        let previous = (number > 0).then(|| Hash::of(b"before"));
        let time = 1_790_000_000_500_000;
        let (origin, edge) = (ORIGIN.into(), edge(size));
        Commit { origin, number, previous, epoch: 1, time, adds, removes, erasure: None, edge }
    };
    let old = [add(0, 3, 0), add(3, 7, 1)];
    let first = commit(0, vec![old[0].clone()], vec![], 3).to_text();
    let second = commit(1, vec![old[1].clone()], vec![], 7).to_text();
    let removes: Vec<String> = old.iter().map(|segment| segment.path.clone()).collect();
    let third = commit(2, vec![add(0, 7, 2), add(7, 13, 2)], removes.clone(), 13).to_text();
    // Of the seven entries the first goes, and two between.
    let all = leaves(7);
    let holes = vec![Span::new(0, 1), Span::new(4, 6)];
    let hashes = [0, 4, 5].map(|at| (at, all[at as usize])).to_vec();
    let gone = Gone::new(ORIGIN, (2, 7), holes, vec![], hashes, vec![]).unwrap().to_text();
    let sparse = SegmentRef { span: 6, rows: 4, ..add(1, 7, 2) };
    let (sha256, newest) = (Hash::of(gone.as_bytes()), 1_790_000_000_500_000);
    let named = GoneRef { commit: 2, epoch: 1, sha256, bytes: gone.len() as u64, entries: 3, newest };
    let erasure = Some(Erasure { removes, what: Erased::Entries(named), basis: 41, plan: Hash::of(b"plan") });
    let purging = Commit { erasure, ..commit(2, vec![sparse], vec![], 7) }.to_text();
    seed("commits", "purging", purging.as_bytes());
    seed("chains", "purged", [first.as_str(), &second, &purging].join(GAP).as_bytes());
    seed("gone", "three", gone.as_bytes());
    let block = root_of(leaves(256));
    let holes = vec![Span::new(0, 257)];
    let nodes = cut(192).into_iter().map(|node| {
        let (from, to) = (node.index << node.height, (node.index + 1) << node.height);
        root_of(leaves(256)[from as usize..to as usize].iter().copied())
    });
    let (leaf, head) = (leaves(257)[256], (192, nodes.collect()));
    let gone = Gone::new(ORIGIN, (2, 300), holes, vec![(0, block)], vec![(256, leaf)], vec![head]);
    seed("gone", "block", gone.unwrap().to_text().as_bytes());
    seed("commits", "first", first.as_bytes());
    seed("commits", "second", second.as_bytes());
    seed("commits", "rewriting", third.as_bytes());
    seed("chains", "two", [first.as_str(), &second].join(GAP).as_bytes());
    seed("chains", "three", [first, second, third].join(GAP).as_bytes());
    seed("receipts", "all", receipt(4, 5, &[0, 1, 2, 3, 4, 5, 6]).to_text().as_bytes());
    seed("receipts", "some", receipt(2, 5, &[1, 3]).to_text().as_bytes());
    seed("receipts", "one", receipt(0, 1, &[3]).to_text().as_bytes());
    seed("tlog_proofs", "seven", tlog_proof(7, 13).to_text().as_bytes());
    let (before, after) = (key(), LedgerKey::from_secret(&[8; 32]));
    let (to, from, log) = (after.verifier(LOG), before.verifier(LOG), self::head(LOG, 5));
    let handover = Handover { key: to, number: 2, before: from, time: 1_790_000_000_000_000, log };
    seed("handovers", "text", handover.to_text().as_bytes());
    seed("handovers", "signed", handover.sign(&before, &after).as_bytes());
    seed("tlog_proofs", "extra", tlog_proof(12, 13).with_extra(b"hi".to_vec()).to_text().as_bytes());
    seed("tlog_proofs", "single", tlog_proof(0, 1).to_text().as_bytes());
    let numbers = |a: u64, b: u64, c: u64| [a, b, c].map(u64::to_be_bytes).concat();
    seed("merkle_proofs", "small", &[numbers(7, 8, 13), vec![6, 20, 21, 22]].concat());
    seed("merkle_proofs", "large", &[numbers(1 << 62, (1 << 62) + 1, u64::MAX), (0..64).collect()].concat());
    seed("merkle_proofs", "ends", &numbers(0, u64::MAX, u64::MAX));
    let lines = format!(
        "{}\n{ORIGIN}\n{LOG}\naudit\nacme\n{}\ntile/3/x001/x234/067\ntile/entries/000.p/5\n2026-08-14T09:26:53.589793Z\n\
         2024-02-29T23:59:60+05:30\n0000-01-01T00:00:00-23:59\n",
        key().verifier(LOG),
        Hash::of(b"x")
    );
    seed("keys_names_times_and_tiles", "lines", lines.as_bytes());
    for line in lines.lines() {
        seed("keys_names_times_and_tiles", &format!("line-{:02}", line.len()), line.as_bytes());
    }
    seed("drafts", "small", &draft(false).fields());
    seed("drafts", "full", &draft(true).fields());
}
