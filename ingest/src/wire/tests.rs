//! Each defined outcome of a wire event.

use super::*;
use ledger::draft::Draft;
use ledger::field::{Fields, Section};
use proptest::prelude::*;

const NOW: i64 = 1_786_700_000_000_000;

fn context(limits: &IngestLimits) -> Context<'_> {
    Context { address: None, now: NOW, limits }
}

fn admit(text: &str) -> Result<Draft, Rejection> {
    admit_in(text.as_bytes(), &context(&IngestLimits::default()))
}

pub(crate) fn admit_in(bytes: &[u8], context: &Context<'_>) -> Result<Draft, Rejection> {
    let mut out = b"an event before it".to_vec();
    let outline = read(bytes, context, &mut DraftBuilder::default(), &mut out, || "made-1".into());
    assert!(outline.is_ok() || out == b"an event before it", "a refused event leaves nothing behind");
    Ok(Draft::gather(&out, &[outline?]).remove(0))
}

#[test]
fn every_field_has_its_name_and_no_other() {
    for field in Field::ALL {
        let name = wire_name(field);
        let own = field != Field::RecordedAt && !name.contains('.');
        assert_eq!(top_level(name), own.then_some(field), "{name}");
        assert!(own && name == field.name() || top_level(field.name()).is_none(), "{name}");
    }
}

fn rejected(text: &str) -> (String, String) {
    let rejection = admit(text).expect_err(text);
    (rejection.field.into_owned(), rejection.reason.into_owned())
}

fn with(member: &str) -> String {
    format!(
        r#"{{"id":"e-1","time":"2026-08-14T09:26:53.589793Z","tenant":"acme","action":"invoice.update","actor":{{"type":"user"}},{member}}}"#
    )
}

fn values(draft: &Draft) -> Vec<(Field, String)> {
    let text = |step: ledger::field::Encoded<'_>| match step.field.kind() {
        ledger::field::Kind::Text => step.text().to_string(),
        ledger::field::Kind::Int => step.int().to_string(),
        ledger::field::Kind::Bytes => step.value.iter().map(|b| format!("{b:02x}")).collect(),
    };
    Fields::new(&draft.fields()).map(|step| step.map(|step| (step.field, text(step))).unwrap()).collect()
}

#[test]
fn the_event_of_the_design_becomes_its_fields() {
    let text = r#"{"id":"0199c0ff-1","time":"2026-08-14T09:26:53.589793Z","tenant":"acme","stream":"audit","action":"invoice.update","outcome":"success",
     "actor":{"type":"user","id":"u-0421c3"},"resource":{"type":"invoice","id":"inv-99812"},"source_ip":"203.0.113.9","session":"s-1f0c",
     "service":"billing","workflow":"wf-017","integration":"stripe","release":"2026.8.2","region":"eu-central-1",
     "trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","attributes":{"amount":"1250.00", "n":9007199254740993}}"#;
    let draft = admit(text).unwrap();
    let values = values(&draft);
    let of = |field| values.iter().find(|(f, _)| *f == field).map(|(_, v)| v.as_str());
    assert_eq!(of(Field::OccurredAt), Some("1786699613589793"));
    assert_eq!(of(Field::ActorId), Some("u-0421c3"));
    assert_eq!(of(Field::TraceId), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
    assert_eq!(of(Field::Attributes), Some(r#"{"amount":"1250.00", "n":9007199254740993}"#), "kept as it came");
    assert_eq!(values.len(), 20);
    assert_eq!(draft.section(Section::Scope), b"");
}

#[test]
fn defaults_nulls_and_empty_text() {
    let draft =
        admit(&with(r#""outcome":null,"session":"","severity":"","trace_id":"","resource":null,"attributes":null"#))
            .unwrap();
    let values = values(&draft);
    assert!(values.contains(&(Field::Outcome, "unknown".into())) && values.contains(&(Field::Stream, "audit".into())));
    assert!(!values.iter().any(|(field, _)| matches!(field, Field::Session | Field::Attributes)));
    let no_id = with(r#""reason":"x""#).replace(r#""id":"e-1","#, "");
    assert_eq!(admit(&no_id).unwrap().event_id(), "made-1");
}

#[test]
fn each_wrong_event_is_refused_by_field_and_reason() {
    for (member, field, reason) in [
        (r#""colour":"red""#, "colour", "attributes"),
        (r#""actor_id":"x""#, "actor_id", "attributes"),
        (r#""recorded_at":"2026-01-01T00:00:00Z""#, "recorded_at", "attributes"),
        (r#""resource":{"kind":"x"}"#, "resource.kind", "attributes"),
        (r#""resource":"x""#, "resource", "object"),
        (r#""session":7"#, "session", "string"),
        (r#""severity":30"#, "severity", "1 to 24"),
        (r#""severity":"loud""#, "severity", "1 to 24"),
        (r#""severity":1.5"#, "severity", "whole"),
        (r#""duration_us":1e3"#, "duration_us", "whole"),
        (r#""duration_us":9223372036854775808"#, "duration_us", "whole"),
        (r#""duration_us":-1"#, "duration_us", "negative"),
        (r#""trace_id":"XYZ""#, "trace_id", "hexadecimal"),
        (r#""span_id":"0000000000000000""#, "span_id", "zero"),
        (r#""outcome":"ok""#, "outcome", "success"),
        (r#""stream":"access""#, "stream", "Piperoll alone"),
        (r#""stream":"logs""#, "stream", "audit or telemetry"),
        (r#""attributes":[1]"#, "attributes", "object"),
        (r#""attributes":{"a":1,"a":2}"#, "event", "twice"),
        (r#""attributes":{"a":"\ud800"}"#, "event", "surrogate"),
        (r#""attributes":{"a":"\u0000"}"#, "event", "NUL"),
        (r#""id":"e-2""#, "event", "twice"),
        (r#""reason":"\u0000""#, "event", "NUL"),
    ] {
        let (at, why) = rejected(&with(member));
        assert!(at == field && why.contains(reason), "{member}: {at}: {why}");
    }
    let long = "x".repeat(129);
    assert_eq!(rejected(&with(&format!(r#""service":"{long}""#))).0, "service");
    let deep = format!(r#""attributes":{}1{}"#, r#"{"a":"#.repeat(33), "}".repeat(33));
    assert!(rejected(&with(&deep)).1.contains("levels"));
    let fits = format!(r#""attributes":{}1{}"#, r#"{"a":"#.repeat(32), "}".repeat(32));
    admit(&with(&fits)).unwrap();
    let wide = format!(r#""attributes":{{"a":"{}"}}"#, "x".repeat(200 << 10));
    assert_eq!(rejected(&with(&wide)).0, "attributes");
    let huge = format!(r#""attributes":{{"a":"{}"}}"#, "x".repeat(260 << 10));
    assert_eq!(rejected(&with(&huge)).0, "event");
}

#[test]
fn times_and_required_fields() {
    for (time, reason) in [
        ("1969-12-31T23:59:59Z", "before 1970"),
        ("2026-08-16T09:26:53Z", "future"),
        ("2026-08-14 09:26", "RFC 3339"),
        ("1786699613", "RFC 3339"),
    ] {
        let text = with(r#""reason":"x""#).replace("2026-08-14T09:26:53.589793Z", time);
        let (field, why) = rejected(&text);
        assert!(field == "time" && why.contains(reason), "{time}: {why}");
    }
    assert_eq!(rejected(&with(r#""reason":"x""#).replace(r#""2026-08-14T09:26:53.589793Z""#, "1786699613")).0, "time");
    for (drop, field) in [
        (r#""tenant":"acme","#, "tenant"),
        (r#""action":"invoice.update","#, "action"),
        (r#""time":"2026-08-14T09:26:53.589793Z","#, "time"),
        (r#""type":"user""#, "actor.type"),
    ] {
        assert_eq!(rejected(&with(r#""reason":"x""#).replace(drop, "")).0, field);
    }
}

#[test]
fn the_address_fills_in_and_is_not_contradicted() {
    let limits = IngestLimits::default();
    let acme: TenantId = "acme".parse().unwrap();
    let at = |kind| Context { address: Some((&acme, kind)), ..context(&limits) };
    let bare = with(r#""reason":"x""#).replace(r#""tenant":"acme","#, "");
    let draft = admit_in(bare.as_bytes(), &at(StreamKind::Telemetry)).unwrap();
    assert_eq!((draft.tenant(), draft.stream()), ("acme", StreamKind::Telemetry));
    let other = with(r#""reason":"x""#).replace("\"acme\"", "\"globex\"");
    assert_eq!(admit_in(other.as_bytes(), &at(StreamKind::Audit)).unwrap_err().field, "tenant");
    let stream = with(r#""stream":"audit""#);
    assert_eq!(admit_in(stream.as_bytes(), &at(StreamKind::Telemetry)).unwrap_err().field, "stream");
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let mut bytes = with(r#""reason":"x""#).into_bytes();
    bytes[20] = 0xff;
    let rejection = admit_in(&bytes, &context(&IngestLimits::default())).unwrap_err();
    assert_eq!(rejection.reason, "is not UTF-8 at byte 20");
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = admit_in(&bytes, &context(&IngestLimits::default()));
    }

    #[test]
    fn no_changed_event_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = with(r#""attributes":{"a":[1,{"b":"\u00e9"}]},"severity":"warn","resource":{"id":"r"}"#).into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = admit_in(&bytes, &context(&IngestLimits::default()));
    }
}
