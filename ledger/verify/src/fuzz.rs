//! Fuzz harnesses of what an auditor opens: every command on whatever a file holds, and the reader of JSON.
//!
//! How to run and replay them: docs/testing.md. The key signs the seeds and nothing else, so what holds must be made
//! of them.

#[path = "../../../tests/fuzz/changed.rs"]
pub(crate) mod changed;

use super::*;
use crate::json::Json;
use changed::{fuzz, write_seed};
use ledger::checkpoint::StreamHead;
use ledger::commit::{Commit, SegmentRef};
use ledger::group::{Durability, Group};
use ledger::key::LedgerKey;
use ledger::proof::{Span, consistency_path, inclusion_path};
use ledger::receipt::{Covered, Receipt};
use ledger::tlog_proof::TlogProof;
use ledger::tree::{Edge, Hash, leaf_hash, root_of};

const STREAM: &str = "demo/acme/audit/0";
const LOG: &str = "demo/_main/log/0";

fn key() -> LedgerKey {
    LedgerKey::from_secret(&[7; 32])
}

fn leaf(n: u64) -> Hash {
    leaf_hash(format!("leaf-{n}").as_bytes())
}

fn hashes(spans: Vec<Span>) -> Vec<Hash> {
    spans.into_iter().map(|span| root_of((span.start..span.end).map(leaf))).collect()
}

fn head(size: u64) -> StreamHead {
    StreamHead { origin: STREAM.into(), size, root: root_of((0..size).map(leaf)) }
}

/// A folder that is gone afterwards, in memory where the machine has such: a harness makes thousands.
fn folder() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

#[test]
fn json_texts() {
    fn check(bytes: &[u8]) {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        if let Ok(value) = Json::parse(text) {
            assert_eq!(Json::parse(&value.to_string()).as_ref(), Ok(&value), "{text}");
        }
    }
    fuzz!("json_texts", check);
}

#[test]
fn documents() {
    fn check(bytes: &[u8]) {
        let folder = folder();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path.to_str().unwrap().to_string()
        };
        let (given, leaf_file) = (file("given", bytes), file("leaf", b"leaf-7"));
        let (from, to) =
            (file("from", head(7).sign(&[&key()]).as_bytes()), file("to", head(13).sign(&[&key()]).as_bytes()));
        let vkey = key().verifier(LOG).to_string();
        for arguments in [
            vec!["note", &given],
            vec!["checkpoint", &given],
            vec!["receipt", &given, "--json"],
            vec!["receipt", &given, "--narrow", STREAM],
            vec!["commit", &given],
            vec!["inclusion", &given, "--leaf", &leaf_file],
            vec!["consistency", "--from", &from, "--to", &to, "--proof", &given],
            vec!["consistency", "--from", &given, "--to", &to],
        ] {
            let all = ["piperoll-verify"].into_iter().chain(arguments.iter().copied()).chain(["--key", &vkey]);
            let printed = answer(Arguments::try_parse_from(all).unwrap_or_else(|error| panic!("{error}")));
            assert!(printed.code <= error::NEWER, "{}", printed.code);
            assert!(!printed.out.is_empty() || !printed.err.is_empty(), "an answer without a word");
            if printed.code == 0 && arguments[0] != "consistency" {
                let text = String::from_utf8_lossy(bytes);
                assert!(
                    signed().iter().any(|signed| text.contains(signed)),
                    "{arguments:?} holds, and nobody signed it"
                );
            }
        }
    }
    fuzz!("documents", check);
}

/// Every text that the key has signed.
fn signed() -> Vec<String> {
    let log = log();
    vec![head(7).to_text(), head(13).to_text(), log.0.to_text(), commit().to_text()]
}

fn log() -> (StreamHead, Receipt) {
    let group = Group::new(vec![head(13), StreamHead { origin: "demo/globex/audit/0".into(), ..head(7) }]);
    let leaf = group.log_leaf(Durability::Wal, 1);
    let log = StreamHead { origin: LOG.into(), size: 1, root: leaf };
    let checkpoint = log.sign(&[&key()]);
    let (durability, epoch, checkpoint) = (Durability::Wal, 1, &checkpoint[..]);
    let covered = Covered { durability, epoch, group: &group, log_index: 0, path: &[], checkpoint };
    let receipt = Receipt::of(&covered, [STREAM, "demo/globex/audit/0"]);
    (log, receipt)
}

fn commit() -> Commit {
    let mut edge = Edge::default();
    (0..13).for_each(|n| edge.push(leaf(n)));
    let add = SegmentRef {
        path: "2026-09/x.parquet".into(),
        first: 0,
        span: 13,
        rows: 13,
        bytes: 99,
        sha256: Hash::of(b"x"),
        root: edge.root(),
    };
    let (origin, time, adds, removes) = (STREAM.into(), 1_790_000_000_000_000, vec![add], vec![]);
    Commit { origin, number: 0, previous: None, epoch: 1, time, adds, removes, erasure: None, edge }
}

/// Writes the seeds anew: `cargo test -p piperoll-verify write_seeds -- --ignored`.
#[test]
#[ignore = "writes into the tree"]
fn write_seeds() {
    let seed =
        |name: &str, seed: &str, bytes: &[u8]| write_seed(env!("CARGO_MANIFEST_DIR"), file!(), name, seed, bytes);
    let path = hashes(consistency_path(7, 13).unwrap());
    let proof = Json::object([
        ("from", 7u64.into()),
        ("to", 13u64.into()),
        ("hashes", Json::list(path.iter().map(|hash| hash.to_base64()))),
    ])
    .to_string();
    seed("json_texts", "proof", proof.as_bytes());
    seed("json_texts", "all", br#" {"a":[null,true,false,0,18446744073709551615,"\u00e9\"\\\n"],"b":{"c":[]}} "#);
    seed("documents", "consistency", proof.as_bytes());
    for size in [7, 13] {
        seed("documents", &format!("head-{size}"), head(size).sign(&[&key()]).as_bytes());
    }
    let inclusion = TlogProof::new(7, hashes(inclusion_path(7, 13).unwrap()), head(13).sign(&[&key()]));
    seed("documents", "inclusion", inclusion.to_text().as_bytes());
    seed("documents", "receipt", log().1.to_text().as_bytes());
    seed("documents", "commit", commit().sign(&key()).bytes());
}
