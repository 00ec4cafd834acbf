//! Lines are written and read back, and every other line is refused. Not here: the JSON by itself.

use super::*;
use crate::leaf::Seed;
use proptest::prelude::*;

fn shown(texts: &[(Field, String)], hides: u8, recorded_at: i64) -> (Shown, Hash) {
    let mut builder = DraftBuilder::default();
    for (field, text) in
        [(Field::Tenant, "acme"), (Field::EventId, "e-1"), (Field::Action, "a.b"), (Field::ActorType, "user")]
    {
        builder.text(field, text).unwrap();
    }
    builder.int(Field::OccurredAt, -5).unwrap();
    builder.int(Field::DurationUs, i64::MAX).unwrap();
    builder.hex(Field::SpanId, "00f067aa0ba902b7").unwrap();
    let seed = Seed([9; 16]);
    let mut whole = builder.clone();
    texts.iter().for_each(|(field, text)| whole.text(*field, text.as_str()).unwrap());
    let mut whole = whole.finish().unwrap();
    whole.stamp(recorded_at);
    let commitments = Commitments::of(&whole, &seed, 3);
    let leaf = leaf::hash_of(&whole, &commitments);
    // Of each section that is hidden the fields go and the commitment stays.
    let is_hidden = |section: Section| hides >> (section.number() - 1) & 1 == 1;
    for (field, text) in texts.iter().filter(|(field, _)| !is_hidden(field.section())) {
        builder.text(*field, text.as_str()).unwrap();
    }
    let mut draft = builder.finish().unwrap();
    draft.stamp(recorded_at);
    let stands = Section::COMMITTED.map(|section| match commitments.parts()[usize::from(section.number()) - 1] {
        None => Stands::Nothing,
        Some(hash) if is_hidden(section) && section == Section::Actor => Stands::Redacted(hash),
        Some(hash) if is_hidden(section) => Stands::Withheld(hash),
        Some(_) => Stands::Salt(seed.salt(3, section)),
    });
    (Shown { seq: 41, draft, stands }, leaf)
}

fn texts() -> impl Strategy<Value = Vec<(Field, String)>> {
    let fields = [Field::ActorId, Field::ResourceName, Field::Project, Field::UserAgent, Field::Attributes];
    let text = prop_oneof!["[^\u{0}]{1,30}", r#"["\\\n\t\u{1}\u{7f}a]{1,12}"#, "\\PC{1,10}"];
    prop::collection::vec((prop::sample::select(fields.to_vec()), text), 0..5)
}

proptest! {
    #[test]
    fn what_is_written_reads_back_to_the_same_leaf(
        texts in texts(), hides in 0u8..32, at in -62_135_596_800_000_000i64..253_402_300_799_999_999,
    ) {
        let (entry, leaf) = shown(&texts, hides, at);
        let mut line = String::new();
        entry.push_line(&mut line);
        prop_assert_eq!(line.matches('\n').count(), 1);
        let read = Shown::parse(line.trim_end_matches('\n').as_bytes()).unwrap();
        prop_assert_eq!(&read, &entry);
        prop_assert_eq!(read.leaf(), leaf);
    }

    /// One byte changed: refused, or another entry or leaf.
    #[test]
    fn a_changed_byte_is_noticed(hides in 0u8..32, at in any::<prop::sample::Index>(), byte: u8) {
        let (entry, leaf) = shown(&[(Field::ActorId, "u-17".into()), (Field::SourceIp, "10.0.0.1".into())], hides, 7);
        let mut line = String::new();
        entry.push_line(&mut line);
        let mut bytes = line.trim_end().as_bytes().to_vec();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        if let Ok(read) = Shown::parse(&bytes) {
            // Withheld and redacted have the same leaf: it is the service's word which of the two.
            prop_assert!(read.leaf() != leaf || read.seq != entry.seq, "{}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn nothing_panics(text in ".{0,200}") {
        let _ = Shown::parse(text.as_bytes());
    }
}

#[test]
fn every_way_to_write_another_line_is_refused() {
    let (entry, leaf) = shown(&[(Field::ActorId, "u-17".into())], 0, 7);
    let mut line = String::new();
    entry.push_line(&mut line);
    let line = line.trim_end();
    let salt = &line[line.find("\"actor\":\"").unwrap() + 9..][..32];
    for (old, new) in [
        ("{\"seq\":41", "{\"seq\":-1"),
        ("{\"seq\":41", "{\"seq\":4.1"),
        ("{\"seq\":41", "{\"seq\":041"),
        ("{\"seq\":41", "{\"seq\":41,\"seq\":41"),
        ("\"actor_id\":\"u-17\"", "\"actor_id\":\"\""),
        ("\"actor_id\":\"u-17\"", "\"actor_id\":null"),
        ("\"actor_id\":\"u-17\",", ""),
        ("\"actor_id\":\"u-17\"", "\"actor_id\":\"u-17\",\"actor_id\":\"u-17\""),
        ("\"outcome\":\"unknown\",", ""),
        ("000007Z", "000007+00:00"),
        ("000007Z", "0000070Z"),
        ("00f067aa0ba902b7", "00F067AA0BA902B7"),
        ("00f067aa0ba902b7", "0000000000000000"),
        ("\"salts\":{", "\"salts\":{},\"salts\":{"),
        ("\"salts\":{\"actor\"", "\"salts\":{\"origin\""),
        (salt, &salt[..30]),
        (salt, &salt.to_uppercase()),
        ("u-17", "\\ud800"),
        ("u-17", "\\ud800\\u0041"),
        ("u-17", "\\x"),
        ("u-17", "a\tb"),
        ("u-17", "a\\u0000b"),
        ("}}", "}}}"),
        ("}}", "}"),
    ] {
        let bad = line.replacen(old, new, 1);
        assert_ne!(bad, line, "{old}");
        assert!(matches!(Shown::parse(bad.as_bytes()), Err(BundleError::Malformed(_))), "{bad}");
    }
    // A name that is not on the page is of a later one.
    for (old, new) in
        [("{\"seq\"", "{\"sequence\""), ("\"salts\"", "\"salt\""), ("\"salts\":{\"actor\"", "\"salts\":{\"skeleton\"")]
    {
        assert_eq!(Shown::parse(line.replacen(old, new, 1).as_bytes()), Err(BundleError::Newer), "{new}");
    }
    assert!(Shown::parse(b"\xff").is_err());
    // Order, spaces and escapes are free.
    let other = line.replace("u-17", "\\u0075-17").replace("{\"seq\":41,", " {\t").replace("}}", "} , \"seq\" : 41 } ");
    assert_eq!(Shown::parse(other.as_bytes()).unwrap().leaf(), leaf);
}
