//! Fuzz harnesses of the log's frames and of reading whole files of it (docs/testing.md).
//!
//! Lengths and checksums are set right around what the fuzzer made, or nothing would get past them. Not here: what
//! frames mean to streams.

use super::frame::{self, Found, Frame, Takeover};
use super::tests::read_all;
use super::{Batch, Fact, GroupFrame, Part, ReadRun, Run};
use crate::columns::tests::entry;
use crate::entry::Entry;
use crate::fuzz::changed::{fuzz, write_seed};
use crate::fuzz::folder;
use ledger::name::{StreamKind, TenantId};
use ledger::tree::Hash;

fn again(run: &ReadRun) -> Run<'_> {
    match run {
        ReadRun::Plain(entries) => Run::Plain(entries.iter().collect()),
        ReadRun::Locked(run) => Run::Locked(run),
    }
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut out = Vec::new();
    match frame {
        Frame::Group(group) => group.encode(&mut out),
        Frame::Takeover(takeover) => takeover.encode(&mut out),
        Frame::Batch(batch) => {
            let parts = batch.parts.iter().map(|part| Part {
                tenant: &part.tenant,
                kind: part.kind,
                first: part.first,
                run: again(&part.run),
            });
            Batch { facts: batch.facts.iter().collect(), parts: parts.collect() }.encode(&mut out);
        }
    }
    out
}

fn sealed(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::seal(&mut out, |out| out.extend_from_slice(body));
    out
}

/// The same bytes with the checksum of every frame set right, as far as their lengths lead.
fn resealed(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some(body) = behind.get(4..).and_then(|behind| behind.get(..length)) else { break };
        out.extend(sealed(body));
        rest = &behind[4 + length..];
    }
    out.extend_from_slice(rest);
    out
}

#[test]
fn log_frames() {
    fn check(body: &[u8]) {
        match frame::read(&sealed(body)) {
            Found::Frame(frame, length) => {
                assert_eq!((encoded(&frame).as_slice(), length), (body, frame::HEADER + body.len()), "two spellings")
            }
            Found::Torn => assert!(body.is_empty(), "a whole frame is no torn one"),
            Found::Unknown => {}
        }
        let _ = (frame::read(body), frame::group_at(body));
    }
    fuzz!("log_frames", check);
}

#[test]
fn log_files() {
    fn check(bytes: &[u8]) {
        for bytes in [bytes.to_vec(), resealed(bytes)] {
            let folder = folder();
            let file = folder.path().join(super::file_name(0));
            std::fs::write(&file, &bytes).unwrap();
            let Ok((groups, read)) = read_all(&folder) else {
                assert_eq!(std::fs::read(&file).unwrap(), bytes, "a log that is refused is not touched");
                continue;
            };
            let mut out = Vec::new();
            for group in &groups {
                for batch in &group.batches {
                    let parts = batch.parts.iter().map(|part| Part {
                        tenant: &part.tenant,
                        kind: part.kind,
                        first: part.first,
                        run: again(&part.run),
                    });
                    let batch = Batch { facts: batch.facts.iter().collect(), parts: parts.collect() };
                    frame::seal(&mut out, |out| batch.encode(out));
                }
                frame::seal(&mut out, |out| group.frame.encode(out));
            }
            let kept = std::fs::read(&file).unwrap();
            assert!(bytes.starts_with(&out) && kept == out, "what was read is what stays");
            let end = read.end.map_or(0, |end| end.offset);
            assert_eq!((end, read.cut_bytes), (out.len() as u64, (bytes.len() - out.len()) as u64));
            let (same, again) = read_all(&folder).unwrap();
            assert_eq!((again.end, again.cut_bytes, same.len()), (read.end, 0, groups.len()));
        }
    }
    fuzz!("log_files", check);
}

/// Writes the seeds anew: `cargo test -p ledger-store write_seeds -- --ignored`.
#[test]
#[ignore = "writes into the tree"]
fn write_seeds() {
    let seed =
        |name: &str, seed: &str, bytes: &[u8]| write_seed(env!("CARGO_MANIFEST_DIR"), file!(), name, seed, bytes);
    let tenants: Vec<TenantId> = ["acme", "globex"].iter().map(|name| name.parse().unwrap()).collect();
    let entries: Vec<Entry> = (0..4).map(|n| entry("acme", n)).collect();
    let fact = Fact { key: [1; 32], body: [2; 32], expires: 1_790_000_000_000_000, answer: b"answer".to_vec() };
    let part = |tenant, first, entries| Part { tenant, kind: StreamKind::Audit, first, run: Run::Plain(entries) };
    let first = Batch { facts: vec![&fact], parts: vec![part(&tenants[0], 0, vec![&entries[0], &entries[1]])] };
    let second = Batch {
        facts: vec![],
        parts: vec![part(&tenants[0], 2, vec![&entries[2]]), part(&tenants[1], 0, vec![&entries[3]])],
    };
    let head = |name: &str, size| (format!("example/{name}/audit/0"), size, Hash::of(name.as_bytes()));
    let mut file = Vec::new();
    let mut ended = 0;
    for (index, (batch, heads)) in
        [(first, vec![head("acme", 2)]), (second, vec![head("acme", 3), head("globex", 1)])].into_iter().enumerate()
    {
        let group = GroupFrame {
            index: index as u64,
            epoch: 1,
            previous_file: 0,
            previous_offset: ended,
            previous_root: Hash::of(b"log"),
            oldest: 0,
            heads,
        };
        let (mut first, mut second) = (Vec::new(), Vec::new());
        batch.encode(&mut first);
        group.encode(&mut second);
        for (name, body) in [("batch", first), ("group", second)] {
            seed("log_frames", &format!("{name}-{index}"), &body);
            file.extend(sealed(&body));
        }
        ended = file.len() as u64;
        seed("log_files", &format!("groups-{}", index + 1), &file);
    }
    let mut body = Vec::new();
    Takeover { epoch: 2, previous_file: 0, previous_offset: ended, oldest: 0 }.encode(&mut body);
    seed("log_frames", "takeover", &body);
    seed("log_files", "torn", &file[..file.len() - 9]);
}
