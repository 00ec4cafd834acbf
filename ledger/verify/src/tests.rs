//! Each command as a user calls it, on documents made here: what holds, what does not, what cannot be read.

use super::*;
use crate::json::Json;
use ledger::checkpoint::StreamHead;
use ledger::commit::{Commit, SegmentRef, SignedCommit};
use ledger::group::{self, Durability, Group};
use ledger::handover::Handover;
use ledger::key::LedgerKey;
use ledger::proof::{Span, consistency_path, inclusion_path};
use ledger::receipt::{Covered, Receipt};
use ledger::tlog_proof::TlogProof;
use ledger::tree::{Edge, Hash, leaf_hash, root_of};
use std::path::PathBuf;
use tempfile::TempDir;

const STREAM: &str = "demo/acme/audit/0";
const OTHER: &str = "demo/globex/audit/0";
const LOG: &str = "demo/_main/log/0";

struct Desk {
    folder: TempDir,
    key: LedgerKey,
}

impl Desk {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), key: LedgerKey::from_secret(&[7; 32]) }
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path: PathBuf = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().into()
    }

    /// Calls the program with the ledger's key, given under the store log's name.
    fn call(&self, arguments: &[&str]) -> Printed {
        self.call_with(arguments, &[&self.key.verifier(LOG).to_string()])
    }

    fn call_with(&self, arguments: &[&str], keys: &[&str]) -> Printed {
        let keys = keys.iter().flat_map(|key| ["--key", key]);
        let all = ["piperoll-verify"].into_iter().chain(arguments.iter().copied()).chain(keys);
        answer(Arguments::try_parse_from(all).unwrap())
    }

    /// The same answer as JSON, and as an exit code.
    fn json(&self, arguments: &[&str]) -> (Json, u8) {
        let printed = self.call(&[arguments, &["--json"]].concat());
        assert_eq!(printed.err, "", "one object, on standard output");
        (Json::parse(&printed.out).unwrap(), printed.code)
    }

    fn head(&self, origin: &str, size: u64) -> StreamHead {
        StreamHead { origin: origin.into(), size, root: span(Span::new(0, size)) }
    }

    fn checkpoint(&self, origin: &str, size: u64) -> String {
        self.head(origin, size).sign(&[&self.key])
    }
}

fn leaf(n: u64) -> Hash {
    leaf_hash(format!("leaf-{n}").as_bytes())
}

fn span(span: Span) -> Hash {
    root_of((span.start..span.end).map(leaf))
}

fn hashes(spans: Vec<Span>) -> Vec<Hash> {
    spans.into_iter().map(span).collect()
}

fn text<'a>(json: &'a Json, key: &str) -> &'a str {
    match json.get(key) {
        Some(Json::Text(text)) => text,
        other => panic!("{key}: {other:?}"),
    }
}

#[test]
fn a_checkpoint_holds_under_the_ledgers_key_given_by_another_name() {
    let desk = Desk::new();
    let file = desk.put("c", desk.checkpoint(STREAM, 13));
    let printed = desk.call(&["checkpoint", &file]);
    assert_eq!((printed.code, printed.err.as_str()), (0, ""));
    let id = error::hex(desk.key.verifier(STREAM).id());
    for part in [
        "The checkpoint holds.\n  origin  demo/acme/audit/0\n  size    13\n",
        &format!(
            "signed  by the key {id} under the name {STREAM}; it is the public key that you gave under the name {LOG}\n"
        ),
        "Proven:\n  - the signer states that demo/acme/audit/0 had 13 entries",
        "Not proven:\n",
    ] {
        assert!(printed.out.contains(part), "{part}\nis not in\n{}", printed.out);
    }
    let (json, _) = desk.json(&["checkpoint", &file]);
    assert_eq!((json.get("holds"), json.get("size")), (Some(&Json::Bool(true)), Some(&Json::Number(13))));
    let Some(Json::List(signed)) = json.get("signed_by") else { panic!("{json}") };
    assert_eq!((text(&signed[0], "name"), text(&signed[0], "given_as")), (STREAM, LOG));
}

#[test]
fn a_key_is_not_believed_for_another_ledger_or_another_secret() {
    let desk = Desk::new();
    let file = desk.put("c", desk.checkpoint(STREAM, 13));
    let foreign = desk.key.verifier("other/_main/log/0").to_string();
    let elsewhere = LedgerKey::from_secret(&[8; 32]).verifier(LOG).to_string();
    for key in [foreign.as_str(), &elsewhere] {
        let printed = desk.call_with(&["checkpoint", &file], &[key]);
        assert_eq!(printed.code, 3);
        let named = format!("no key that was given signed it; its signature lines are of {STREAM} (key id ");
        assert!(printed.out.contains(&named), "{}", printed.out);
    }
    // The ledger's bare name serves, too, and so does a second key beside a stranger's.
    for keys in [vec![desk.key.verifier("demo").to_string()], vec![foreign, desk.key.verifier(STREAM).to_string()]] {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        assert_eq!(desk.call_with(&["checkpoint", &file], &keys).code, 0);
    }
}

#[test]
fn what_cannot_be_read_is_told_from_what_does_not_hold() {
    let desk = Desk::new();
    let good = desk.checkpoint(STREAM, 13);
    let missing = desk.folder.path().join("none").to_str().unwrap().to_string();
    let cases = [
        (missing, 1),
        (desk.put("cut", good.trim_end()), 1),
        (desk.put("text", "hello\n"), 1),
        (desk.put("large", vec![b'x'; 9 << 20]), 1),
        (desk.put("changed", good.replace("\n13\n", "\n14\n")), 3),
    ];
    for (file, code) in cases {
        let printed = desk.call(&["checkpoint", &file]);
        assert_eq!(printed.code, code, "{printed:?}");
        assert_eq!((printed.out.is_empty(), printed.err.is_empty()), (code == 1, code == 3), "{printed:?}");
        let (json, again) = desk.json(&["checkpoint", &file]);
        let holds = if code == 1 { Json::Null } else { Json::Bool(false) };
        assert_eq!((json.get("holds"), again, text(&json, "document")), (Some(&holds), code, "checkpoint"));
    }
}

#[test]
fn notes_name_their_signers_and_what_was_not_looked_at() {
    let desk = Desk::new();
    let witness = "witness.example/w1+04d2d833+BD1AF8PoQ4lakrcKp00bfrycmCzPLsSWjMDNVfEq9GYM";
    let log = "audit.example/t/acme+24cd0c22+AddamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
    let vector = "audit.example/t/acme\n13\nqO9IRMjh1bpJyBHNuG6VeR9dMsp9lwmv2ij99l6UmlM=\n\n\u{2014} audit.example/t/acme JM0MIh8LdYZYO3DS28wWPtJM3/0M+W0hXRSzCjJajT2CVbWfJxQUVkZHHQ9I3Qzj2bgxRJdyVdZN+akSqDv+A6xKcg4=\n\u{2014} witness.example/w1 BNLYMwAAAABqsTuAz3FV0SHVWSI7s/l5H3iRxwNesHIsWUez03L+Wdd/fS0xDcDT8MgaWXPySJi/3r39ieNyp6kHZOsMnymwt+C0Ag==\n";
    let file = desk.put("n", vector);
    let both = desk.call_with(&["note", &file], &[log, witness]);
    assert!(both.code == 0 && both.out.contains("04d2d833 under the name witness.example/w1\n"), "{both:?}");
    assert!(both.out.contains("\n  | audit.example/t/acme\n  | 13\n") && !both.out.contains("did not give"));
    let one = desk.call_with(&["note", &file], &[log]);
    assert!(one.code == 0 && one.out.contains("did not give: witness.example/w1 (key id 04d2d833)"), "{}", one.out);
    assert_eq!(desk.call_with(&["note", &file], &[witness]).code, 0, "a witness's note is a note");
    assert_eq!(desk.call_with(&["checkpoint", &file], &[witness]).code, 3, "but no checkpoint of the log");
    let steering = ledger::note::sign("a\u{9b}31mb\n", "demo", &[&desk.key]);
    let printed = desk.call(&["note", &desk.put("s", steering)]);
    assert!(printed.code == 0 && printed.out.contains("a\u{fffd}31mb"), "{printed:?}");
}

#[test]
fn what_a_later_version_wrote_is_newer_and_has_an_exit_code_of_its_own() {
    let desk = Desk::new();
    let group = Group::new(vec![desk.head(STREAM, 13)]);
    let leaf_of_group = group.log_leaf(Durability::Wal, 1);
    let checkpoint = StreamHead { origin: LOG.into(), size: 1, root: leaf_of_group }.sign(&[&desk.key]);
    let (durability, epoch, checkpoint) = (Durability::Wal, 1, &checkpoint[..]);
    let covered = Covered { durability, epoch, group: &group, log_index: 0, path: &[], checkpoint };
    let receipt = Receipt::of(&covered, [STREAM]).to_text();
    let path = hashes(inclusion_path(7, 13).unwrap());
    let proof = TlogProof::new(7, path, desk.checkpoint(STREAM, 13)).to_text();
    let commit = format!("piperoll-commit/v2\norigin {STREAM}\nnumber 0\n");
    let commit = ledger::note::sign(&commit, STREAM, &[&desk.key]);
    let leaf_hash = leaf(7).to_base64();
    let cases = [
        (vec!["receipt"], receipt.replacen("/v1", "/v2", 1), "receipt"),
        (vec!["receipt"], receipt.replacen("\nlog ", "\nregion eu\nlog ", 1), "receipt"),
        (vec!["inclusion", "--leaf-hash", &leaf_hash], proof.replacen("@v1", "@v2", 1), "inclusion proof"),
        (vec!["commit"], commit, "commit"),
    ];
    for (mut arguments, document, kind) in cases {
        let file = desk.put("newer", document);
        arguments.insert(1, &file);
        let printed = desk.call(&arguments);
        assert_eq!((printed.code, printed.out.as_str()), (4, ""), "{printed:?}");
        assert!(printed.err.contains(&format!("is a {kind} in a newer format")), "{}", printed.err);
        assert_eq!(desk.json(&arguments).0.get("holds"), Some(&Json::Null));
    }
}

#[test]
fn an_entry_is_in_the_tree_or_is_not() {
    let desk = Desk::new();
    let path = hashes(inclusion_path(7, 13).unwrap());
    let proof = TlogProof::new(7, path, desk.checkpoint(STREAM, 13));
    let file = desk.put("p", proof.to_text());
    let data = desk.put("l", "leaf-7");
    for leaf_given in [["--leaf-hash", &leaf(7).to_base64()], ["--leaf", &data]] {
        let printed = desk.call(&[&["inclusion", &file], &leaf_given[..]].concat());
        assert!(printed.code == 0 && printed.out.contains("at sequence 7 among the 13 entries"), "{printed:?}");
    }
    let other = desk.call(&["inclusion", &file, "--leaf-hash", &leaf(8).to_base64()]);
    assert!(other.code == 3 && other.out.starts_with("The inclusion proof does NOT hold.\n"), "{other:?}");
    let moved = desk.put("m", proof.to_text().replace("index 7", "index 8"));
    assert_eq!(desk.call(&["inclusion", &moved, "--leaf", &data]).code, 3);
    let extra = desk.put("e", proof.with_extra(b"hi".to_vec()).to_text());
    assert!(
        desk.call(&["inclusion", &extra, "--leaf", &data]).out.contains("2 extra bytes, which no signature covers")
    );
    let usage = ["piperoll-verify", "inclusion", &file, "--key", "x"];
    assert_eq!(Arguments::try_parse_from(usage).unwrap_err().exit_code(), 2);
}

#[test]
fn an_earlier_tree_is_the_beginning_of_a_later_one_or_is_not() {
    let desk = Desk::new();
    let (old, new) = (desk.put("5", desk.checkpoint(STREAM, 5)), desk.put("13", desk.checkpoint(STREAM, 13)));
    let path = hashes(consistency_path(5, 13).unwrap());
    let list = Json::list(path.iter().map(|hash| hash.to_base64()));
    let proof = desk.put("p", format!("{{\"from\":5,\"hashes\":{list},\"to\":13}}"));
    let lines = desk.put("q", path.iter().map(|hash| format!("{hash}\n")).collect::<String>());
    for proof in [&proof, &lines] {
        let printed = desk.call(&["consistency", "--from", &old, "--to", &new, "--proof", proof]);
        assert!(printed.code == 0 && printed.out.contains("first 5 of the 13 entries"), "{printed:?}");
    }
    assert_eq!(desk.call(&["consistency", "--from", &old, "--to", &old]).code, 0, "equal heads need no proof");
    let forked = StreamHead { root: leaf(1), ..desk.head(STREAM, 5) }.sign(&[&desk.key]);
    let forked = desk.put("f", forked);
    let cases = [
        (&old, &new, None, 2, "--proof is needed"),
        (&new, &old, Some(&proof), 2, "swap"),
        (&old, &forked, None, 3, "the log was forked"),
        (&forked, &new, Some(&proof), 3, "entries below 5 were changed or removed"),
        (&old, &desk.put("12", desk.checkpoint(STREAM, 12)), Some(&proof), 3, "the proof goes from 5 to 13"),
        (&old, &desk.put("o", desk.checkpoint(OTHER, 13)), Some(&proof), 3, "of two trees"),
        (&old, &new, Some(&old), 1, "is no consistency proof"),
    ];
    for (from, to, proof, code, why) in cases {
        let proof: Vec<&str> = proof.iter().flat_map(|proof| ["--proof", proof]).collect();
        let printed = desk.call(&[&["consistency", "--from", from, "--to", to], &proof[..]].concat());
        assert!(printed.code == code && format!("{}{}", printed.out, printed.err).contains(why), "{why}: {printed:?}");
    }
}

fn receipt(desk: &Desk) -> Receipt {
    let moved = Group::new(vec![desk.head(STREAM, 13), desk.head(OTHER, 2)]);
    let earlier = group::log_leaf(Durability::Wal, 3, 1, &leaf(0));
    let later = moved.log_leaf(Durability::Wal, 3);
    let checkpoint = StreamHead { origin: LOG.into(), size: 2, root: root_of([earlier, later]) }.sign(&[&desk.key]);
    let covered = Covered {
        durability: Durability::Wal,
        epoch: 3,
        group: &moved,
        log_index: 1,
        path: &[earlier],
        checkpoint: &checkpoint,
    };
    Receipt::of(&covered, [STREAM, OTHER])
}

#[test]
fn a_receipt_says_what_it_covers_and_is_narrowed() {
    let desk = Desk::new();
    let text = receipt(&desk).to_text();
    let file = desk.put("r", &text);
    let printed = desk.call(&["receipt", &file]);
    for part in [
        "demo/acme/audit/0  sequence 0 to 12\n",
        "demo/globex/audit/0  sequence 0 to 1\n",
        "  epoch       3\n",
        "durability and epoch, as the signer states them",
    ] {
        assert!(printed.code == 0 && printed.out.contains(part), "{part}\nis not in\n{}", printed.out);
    }
    let narrowed = desk.call(&["receipt", &file, "--narrow", OTHER]);
    assert!(narrowed.code == 0 && narrowed.err.starts_with("The receipt holds.\n") && !narrowed.out.contains(STREAM));
    let again = desk.call(&["receipt", &desk.put("n", &narrowed.out)]);
    assert!(again.code == 0 && again.out.contains(OTHER) && !again.out.contains(STREAM), "{again:?}");
    let (json, _) = desk.json(&["receipt", &file, "--narrow", OTHER]);
    assert_eq!(super::tests::text(&json, "receipt"), narrowed.out);
    let unnamed = desk.call(&["receipt", &file, "--narrow", "demo/nobody/audit/0"]);
    assert!(unnamed.code == 2 && unnamed.out.is_empty() && unnamed.err.contains(STREAM), "{unnamed:?}");
    let changed = desk.call(&["receipt", &desk.put("c", text.replace("audit/0 13 ", "audit/0 14 "))]);
    assert!(changed.code == 3 && changed.out.contains("does NOT hold"), "{changed:?}");
    for (stated, other) in [("durability wal", "durability object"), ("epoch 3", "epoch 4")] {
        assert_eq!(desk.call(&["receipt", &desk.put("s", text.replace(stated, other))]).code, 3, "{other}");
    }
    let trailing = desk.call(&["receipt", &desk.put("t", format!("{text}\n"))]);
    assert!(trailing.code == 1 && trailing.err.contains("jq -j"), "{trailing:?}");
}

/// Three commits of two segments each, of ten entries.
fn commits(desk: &Desk) -> Vec<Vec<u8>> {
    let mut edge = Edge::default();
    let mut previous = None;
    let mut out = Vec::new();
    for number in 0..3u64 {
        let first = edge.size();
        (first..first + 10).for_each(|n| edge.push(leaf(n)));
        let path = format!("2026-11/{first:020}-1-{number}.parquet");
        let root = span(Span::new(first, first + 10));
        let adds = vec![SegmentRef { path, first, span: 10, rows: 10, bytes: 99, sha256: leaf(number), root }];
        let commit = Commit {
            origin: STREAM.into(),
            number,
            previous,
            epoch: 1,
            time: 1_790_000_000_000_000,
            adds,
            removes: vec![],
            erasure: None,
            edge: edge.clone(),
        };
        let signed = commit.sign(&desk.key);
        previous = Some(signed.hash());
        out.push(signed.bytes().to_vec());
    }
    out
}

#[test]
fn commits_are_one_chain_or_the_file_is_named() {
    let desk = Desk::new();
    let made = commits(&desk);
    let files: Vec<String> =
        (0..).zip(&made).map(|(n, bytes): (u64, _)| desk.put(&format!("{n:020}"), bytes)).collect();
    let call = |files: &[&String]| {
        let files: Vec<&str> = files.iter().map(|file| file.as_str()).collect();
        desk.call(&[&["commit"], &files[..]].concat())
    };
    let whole = call(&[&files[0], &files[1], &files[2]]);
    for part in [
        "  commits      3\n",
        "  size         30\n",
        "recorded to  2026-09-21T14:13:20.000000Z\n",
        "sequence 20 to 29, 99 bytes, added by commit 2",
        STREAM,
    ] {
        assert!(whole.code == 0 && whole.out.contains(part), "{part}\nis not in\n{}", whole.out);
    }
    let parts: Vec<&[u8]> = made.iter().map(Vec::as_slice).collect();
    let packed = desk.put("pack", ledger::pack::pack(0, &parts[..2]));
    assert_eq!(call(&[&packed, &files[2]]).out, whole.out);
    assert_eq!(call(&[&packed, &files[1], &files[2]]).out, whole.out);
    assert_eq!(call(&[&packed, &files[0]]).code, 0);
    let cut = desk.put("cut", &ledger::pack::pack(0, &parts[..2])[..200]);
    let unreadable = call(&[&cut]);
    assert!(unreadable.code == 1 && unreadable.err.contains("pack of commits"), "{unreadable:?}");
    let gap = call(&[&files[0], &files[2]]);
    assert!(gap.code == 3 && gap.out.contains("00000000000000000002") && gap.out.contains("another number"), "{gap:?}");
    let late = call(&[&files[1], &files[2]]);
    assert!(late.code == 2 && late.err.contains("from commit 0 on"), "{late:?}");
    let text = String::from_utf8(made[1].clone()).unwrap();
    let changed = desk.put("changed", text.replace(" 10 99 ", " 10 98 "));
    let found = call(&[&files[0], &changed, &files[2]]);
    assert!(
        found.code == 3 && found.out.contains("commit 1 does not hold") && found.out.contains("signature"),
        "{found:?}"
    );
    let foreign = desk.put("foreign", ledger::note::sign("x\n", "other", &[&LedgerKey::from_secret(&[9; 32])]));
    assert_eq!(call(&[&files[0], &foreign]).code, 3);
    assert_eq!(call(&[&desk.put("none", "x")]).code, 1);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let (json, code) = desk.json(&[&["commit"], &files[..]].concat());
    let Some(Json::List(segments)) = json.get("segments") else { panic!("{json}") };
    assert_eq!((code, segments.len(), segments[2].get("last")), (0, 3, Some(&Json::Number(29))));
}

#[test]
fn each_help_teaches_by_example() {
    use clap::CommandFactory as _;
    let mut program = Arguments::command();
    program.build();
    for command in program.get_subcommands_mut().filter(|command| command.get_name() != "help") {
        let help = command.render_long_help().to_string();
        assert!(help.contains("Example") && help.contains("piperoll-verify ") && help.contains("--key"), "{help}");
    }
}

#[test]
fn a_key_that_handed_over_is_followed_both_ways() {
    let desk = Desk::new();
    let keys: Vec<LedgerKey> = [7, 8, 9].map(|seed| LedgerKey::from_secret(&[seed; 32])).into();
    let public = |at: usize| keys[at].verifier(LOG);
    let record = |number: u64| {
        let (before, key) = (number as usize - 2, number as usize - 1);
        let time = 1_790_000_000_000_000;
        let handover = Handover { key: public(key), number, before: public(before), time, log: desk.head(LOG, 3) };
        desk.put(&format!("handover-{number}"), handover.sign(&keys[before], &keys[key]))
    };
    let (second, third) = (record(2), record(3));
    // Commits of which each key signed one.
    let mut files = Vec::new();
    let mut previous = None;
    for (number, bytes) in (0u64..).zip(commits(&desk)) {
        let commit = SignedCommit::open(&bytes, &[keys[0].verifier(STREAM)]).unwrap().commit().clone();
        let signed = Commit { previous, ..commit }.sign(&keys[number as usize]);
        previous = Some(signed.hash());
        files.push(desk.put(&format!("{number:020}"), signed.bytes()));
    }
    let call = |trusted: usize, handovers: &[&String]| {
        let mut arguments = vec!["commit"];
        arguments.extend(files.iter().map(String::as_str));
        handovers.iter().for_each(|file| arguments.extend(["--handover", file.as_str()]));
        desk.call_with(&arguments, &[&public(trusted).to_string()]).code
    };
    for trusted in 0..3 {
        assert_eq!(call(trusted, &[&third, &second]), 0, "whoever trusts key {trusted}");
        assert_ne!(call(trusted, &[&second]), 0, "without the record of one");
    }
    let forged = desk.put("forged", std::fs::read_to_string(&third).unwrap().replace("number 3", "number 4"));
    assert_ne!(call(0, &[&second, &forged]), 0);
    // Given by hand, the order is theirs: a key of the past does not sign behind a later one.
    let by_hand = |order: [usize; 3]| {
        let given: Vec<String> = order.iter().map(|at| public(*at).to_string()).collect();
        let given: Vec<&str> = given.iter().map(String::as_str).collect();
        let mut arguments = vec!["commit"];
        arguments.extend(files.iter().map(String::as_str));
        desk.call_with(&arguments, &given)
    };
    assert_eq!(by_hand([0, 1, 2]).code, 0);
    let refused = by_hand([2, 1, 0]);
    let said = format!("{}{}", refused.out, refused.err);
    assert!(refused.code != 0 && said.contains("oldest first"), "{said}");
}
