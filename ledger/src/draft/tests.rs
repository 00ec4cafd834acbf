//! Drafts: what a builder takes, what it refuses, and what reads back.

use super::*;

fn minimal() -> DraftBuilder<'static> {
    let mut builder = DraftBuilder::default();
    for (field, text) in [
        (Field::Tenant, "acme"),
        (Field::EventId, "e-1"),
        (Field::Action, "invoice.update"),
        (Field::ActorType, "user"),
    ] {
        builder.text(field, text).unwrap();
    }
    builder.int(Field::OccurredAt, 1).unwrap();
    builder
}

#[test]
fn a_draft_reads_back_and_knows_its_parts() {
    let mut builder = minimal();
    builder.hex(Field::TraceId, "4bf92f3577b34da6a3ce929d0e0e4736").unwrap();
    builder.text(Field::Session, "s").unwrap();
    builder.text(Field::ActorId, "u").unwrap();
    let mut draft = builder.finish().unwrap();
    draft.stamp(99);
    assert_eq!(
        (draft.tenant(), draft.event_id(), draft.stream(), draft.recorded_at()),
        ("acme", "e-1", StreamKind::Audit, 99)
    );
    assert_eq!(draft.section(Section::Scope), b"");
    assert_eq!(draft.section(Section::Origin), [&57u16.to_be_bytes()[..], &[1, 0, 0, 0, 1, b's']].concat());
    assert_eq!(Draft::decode(&draft.fields()).unwrap(), draft);
    let fields = draft.fields();
    let mut again = DraftBuilder::default();
    for step in Fields::new(&fields) {
        let step = step.unwrap();
        if step.field != Field::RecordedAt {
            again.raw(step.field, step.value).unwrap();
        }
    }
    assert_eq!(again.finish().unwrap().content(), draft.content());
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    for field in [Field::Tenant, Field::EventId, Field::Action, Field::ActorType, Field::OccurredAt] {
        let mut builder = minimal();
        builder.set &= !bit(field);
        assert_eq!(builder.finish().unwrap_err(), Invalid { field, why: "is required" });
    }
    let mut builder = minimal();
    for (field, text) in [
        (Field::Tenant, "ACME"),
        (Field::Outcome, "ok"),
        (Field::ActorType, "robot"),
        (Field::Stream, "logs"),
        (Field::Reason, "a\0b"),
        (Field::Severity, "x"),
    ] {
        assert_eq!(builder.text(field, text).unwrap_err().field, field);
    }
    assert!(
        builder.text(Field::Action, "x".repeat(129)).is_err()
            && builder.text(Field::Session, "x".repeat(2_048)).is_ok()
    );
    for bad in [
        "4BF92F3577B34DA6A3CE929D0E0E4736",
        "4bf9",
        "00000000000000000000000000000000",
        "4bf92f3577b34da6a3ce929d0e0e473é",
    ] {
        assert!(builder.hex(Field::TraceId, bad).is_err());
    }
    assert!(
        builder.int(Field::Severity, 25).is_err()
            && builder.int(Field::DurationUs, -1).is_err()
            && builder.int(Field::RecordedAt, 1).is_err()
    );
}
