//! Fuzz harnesses of what comes in over the wire: packed bodies, batches, JSON, events. How to run and replay them:
//! docs/testing.md.
//!
//! Other people's JSON reader is the judge where there is one. Mappings stand beside theirs (`mapping/fuzz.rs`).

#[path = "../../tests/fuzz/changed.rs"]
pub(crate) mod changed;

use crate::batch::{self, Form, Packing};
use crate::json::{Fault, Reader, Value};
use crate::limits::IngestLimits;
use crate::wire::tests::admit_in;
use crate::wire::{self, Context};
use bytes::Bytes;
use changed::{fuzz, write_seed};
use ledger::draft::Draft;
use ledger::field::{Field, Fields};
use ledger::name::StreamKind;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::io::Write as _;

const EVENT: &str = r#"{"id":"0199c0ff-1","time":"2026-08-14T09:26:53.589793Z","tenant":"acme","stream":"audit","action":"invoice.update","outcome":"success","actor":{"type":"user","id":"u-0421c3"},"resource":{"type":"invoice","id":"inv-99812"},"source_ip":"203.0.113.9","session":"s-1f0c","service":"billing","severity":"warn","duration_us":1250,"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7","attributes":{"amount":"1250.00","tags":["a",{"b":[1,-0.5e3,null,true]}],"\u00e9":"\ud83d\ude00"}}"#;
const SMALL: &str =
    r#"{"time":"2026-08-14T11:26:53+02:00","tenant":"globex","action":"a.b","actor":{"type":"service"}}"#;

fn limits() -> IngestLimits {
    IngestLimits { unpacked_bytes: 1 << 16, events: 100, ..IngestLimits::default() }
}

#[test]
fn packed_bodies() {
    fn check(bytes: &[u8]) {
        let body = Bytes::copy_from_slice(bytes);
        for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
            if let Ok(out) = batch::unpack(body.clone(), packing, &limits()) {
                assert!(out.len() <= limits().unpacked_bytes.max(bytes.len()), "beyond the bound");
            }
        }
    }
    fuzz!("packed_bodies", check);
}

#[test]
fn batches() {
    fn check(bytes: &[u8]) {
        if let Ok(events) = batch::cut(bytes, Form::Lines, &limits()) {
            let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
            assert!(events.len() <= limits().events && lines.eq(events), "a line was dropped or changed");
        }
        let cut = batch::cut(bytes, Form::Json, &limits());
        assert!(cut.as_ref().map_or(0, Vec::len) <= limits().events);
        let Ok(theirs) = serde_json::from_slice::<Vec<&RawValue>>(bytes) else { return };
        if theirs.is_empty() || theirs.len() > limits().events {
            assert!(cut.is_err());
            return;
        }
        let theirs = theirs.iter().map(|event| event.get().as_bytes());
        assert!(theirs.eq(cut.expect("an array that is JSON")), "an event was cut elsewhere");
    }
    fuzz!("batches", check);
}

#[test]
fn json_texts() {
    fn check(bytes: &[u8]) {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let mut members: Vec<(String, Option<String>)> = Vec::new();
        let read = Reader::new(text, 100).object(|key: Cow<'_, str>, value: Value<'_>| {
            let shown = match value {
                Value::Text(text) => Some(text.into_owned()),
                Value::Number(text) | Value::Object(text) | Value::Array(text) => {
                    assert!(serde_json::from_str::<&RawValue>(text).is_ok(), "no JSON value: {text}");
                    None
                }
                Value::Null | Value::Bool(_) => None,
            };
            members.push((key.into_owned(), shown));
            Ok::<(), Fault>(())
        });
        let theirs = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text);
        match (read, theirs) {
            (Ok(()), Ok(theirs)) => {
                assert_eq!(members.len(), theirs.len(), "no key stands twice");
                for (key, text) in members {
                    let value = &theirs[&key];
                    assert_eq!(value.as_str(), text.as_deref(), "{key}");
                }
            }
            // A number too large for a float is kept as its text here.
            (Ok(()), Err(error)) => assert!(error.to_string().contains("out of range"), "{error}"),
            (Err(Fault::Syntax { .. }), theirs) => assert!(theirs.is_err(), "they read it"),
            (Err(_), _) => {}
        }
    }
    fuzz!("json_texts", check);
}

#[test]
fn events() {
    fn check(bytes: &[u8]) {
        let limits = IngestLimits::default();
        let (tenant, now) = ("acme".parse().unwrap(), 1_790_000_000_000_000);
        for address in [None, Some((&tenant, StreamKind::Audit))] {
            let context = Context { address, now, limits: &limits };
            let Ok(draft) = admit_in(bytes, &context) else { continue };
            let fields = draft.fields();
            assert_eq!(Draft::decode(&fields).as_ref(), Ok(&draft), "a draft that does not read back");
            assert!(address.is_none_or(|_| draft.tenant() == "acme" && draft.stream() == StreamKind::Audit));
            assert!(draft.stream().is_writable_by_services());
            let theirs: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
            for step in Fields::new(&fields).map(Result::unwrap) {
                match step.field {
                    Field::Attributes => {
                        let text = std::str::from_utf8(bytes).unwrap();
                        assert!(text.contains(step.text()), "attributes are not the text that came");
                    }
                    Field::EventId if step.text() == "made-1" => {}
                    Field::Tenant
                    | Field::EventId
                    | Field::Action
                    | Field::Session
                    | Field::Service
                    | Field::Reason
                        if theirs.is_object() =>
                    {
                        let there = &theirs[wire::wire_name(step.field)];
                        let is_addressed = address.is_some() && step.field == Field::Tenant;
                        assert!(there.as_str() == Some(step.text()) || is_addressed, "{} differs", step.field.name());
                    }
                    Field::OccurredAt => assert!((0..=now + limits.future_micros).contains(&step.int())),
                    _ => {}
                }
            }
        }
    }
    fuzz!("events", check);
}

/// Writes the seeds anew: `cargo test -p ingest write_seeds -- --ignored`.
#[test]
#[ignore = "writes into the tree"]
fn write_seeds() {
    let seed =
        |name: &str, seed: &str, bytes: &[u8]| write_seed(env!("CARGO_MANIFEST_DIR"), file!(), name, seed, bytes);
    let lines = format!("{SMALL}\r\n\n {SMALL}\n");
    let array = format!(" [ {SMALL} , {{\"a\":\"],[\",\"b\":[\"\\\\\\\"\"]}},\t1 ] ");
    seed("batches", "lines", lines.as_bytes());
    seed("batches", "array", array.as_bytes());
    seed("batches", "one", SMALL.as_bytes());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(lines.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    seed("packed_bodies", "gzip", &gzip);
    seed("packed_bodies", "two-gzips", &[&gzip[..], &gzip].concat());
    seed("packed_bodies", "zstd", &zstd::encode_all(lines.as_bytes(), 3).unwrap());
    for (name, text) in [("event", EVENT), ("small", SMALL)] {
        seed("json_texts", name, text.as_bytes());
        seed("events", name, text.as_bytes());
    }
    seed("json_texts", "empty", b" {} ");
    seed("json_texts", "large-number", br#"{"n":123456789012345678901234567890.5e-7,"a":[[],{},""]}"#);
}
