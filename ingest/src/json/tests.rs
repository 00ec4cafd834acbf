//! Strict JSON: what is read, and each fault by name.

use super::*;
use proptest::prelude::*;

fn read(text: &str) -> Result<Vec<(String, String)>, Fault> {
    let mut members = Vec::new();
    let member = |key: Cow<'_, str>, value: Value<'_>| {
        members.push((key.into_owned(), format!("{value:?}")));
        Ok::<(), Fault>(())
    };
    Reader::new(text, 8).object(member).map(|()| members)
}

#[test]
fn values_are_kept_exactly() {
    let mut seen = Vec::new();
    let text =
        r#" {"a":9007199254740993,"b":-0.10e+5,"c":"\ud83d\ude00\n\u00e9","d":{ "x" : [1, {}] },"e":null,"f":true} "#;
    let member = |key: Cow<'_, str>, value| {
        seen.push((key.into_owned(), value));
        Ok::<(), Fault>(())
    };
    Reader::new(text, 8).object(member).unwrap();
    let expected = [
        Value::Number("9007199254740993"),
        Value::Number("-0.10e+5"),
        Value::Text("\u{1f600}\n\u{e9}".into()),
        Value::Object(r#"{ "x" : [1, {}] }"#),
        Value::Null,
        Value::Bool(true),
    ];
    assert_eq!(seen.into_iter().map(|(_, value)| value).collect::<Vec<_>>(), expected);
}

#[test]
fn what_lenient_readers_hide_is_a_fault() {
    for (text, fault) in [
        (r#"{"a":1,"a":2}"#, Fault::DuplicateKey("a".into())),
        (r#"{"x":{"a":1,"\u0061":2}}"#, Fault::DuplicateKey("a".into())),
        (r#"{"a":"\ud83d"}"#, Fault::LoneSurrogate),
        (r#"{"a":"\ude00\ud83d"}"#, Fault::LoneSurrogate),
        (r#"{"a":"\ud83d\u0041"}"#, Fault::LoneSurrogate),
        (r#"{"a":"\u0000"}"#, Fault::Nul),
        ("{\"a\":\"\0\"}", Fault::Nul),
        (r#"{"a":[[[[[[[[1]]]]]]]]}"#, Fault::Depth(8)),
    ] {
        assert_eq!(read(text), Err(fault), "{text}");
    }
    for text in [
        "",
        "[]",
        "1",
        "{",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        r#"{a:1}"#,
        r#"{"a":01}"#,
        r#"{"a":1.}"#,
        r#"{"a":+1}"#,
        r#"{"a":.5}"#,
        r#"{"a":NaN}"#,
        r#"{"a":"\x"}"#,
        r#"{"a":"\u12"}"#,
        "{\"a\":\"\n\"}",
        r#"{"a":1} x"#,
        r#"{"a":[1,]}"#,
        r#"{"a":tru}"#,
        r#"{"a":"x}"#,
        r#"{'a':1}"#,
    ] {
        assert!(matches!(read(text), Err(Fault::Syntax { .. })), "{text}");
    }
}

#[test]
fn one_key_twice_is_found_among_many() {
    let keys = |count: usize| (0..count).map(|n| format!("\"k{n}\":{n}")).collect::<Vec<_>>();
    for count in [2, 31, 32, 33, 34, 500] {
        let plain = format!("{{{}}}", keys(count).join(","));
        assert_eq!(read(&plain).unwrap().len(), count);
        for twice in [0, count / 2, count - 1] {
            let text = format!("{{{},\"k{twice}\":0}}", keys(count).join(","));
            assert_eq!(read(&text), Err(Fault::DuplicateKey(format!("k{twice}"))), "{count}");
        }
    }
}

#[test]
fn equal_keys_in_different_objects_are_no_duplicates() {
    read(r#"{"a":{"a":1,"b":{"a":2}},"b":[{"a":1},{"a":2}]}"#).unwrap();
}

proptest! {
    #[test]
    fn plain_stops_where_a_walk_by_bytes_does(bytes in proptest::collection::vec(0x18u8..0x60, 0..40), high in proptest::collection::vec(any::<u8>(), 0..20)) {
        for bytes in [&bytes, &high] {
            let stop = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
            prop_assert_eq!(plain(bytes), stop.unwrap_or(bytes.len()));
        }
    }

    #[test]
    fn agrees_with_serde_json(text in r#"[\{\}\[\]":,0-9a-c\\u\. eE+-]{0,40}"#) {
        // Where serde_json refuses, so must we; where it accepts, we refuse only for our own reasons.
        let theirs = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text);
        match read(&text) {
            Ok(_) => prop_assert!(theirs.is_ok() || theirs.unwrap_err().to_string().contains("out of range")),
            Err(Fault::Syntax { .. }) => prop_assert!(theirs.is_err()),
            Err(_) => {}
        }
    }

    #[test]
    fn whatever_serde_json_writes_is_read(map in proptest::collection::btree_map(".{0,8}", ".{0,20}", 0..6)) {
        let clean = map.iter().all(|(key, value)| !key.contains('\0') && !value.contains('\0'));
        let read = read(&serde_json::to_string(&map).unwrap());
        match read {
            Ok(members) => {
                prop_assert!(clean);
                let expected: Vec<_> = map.iter().map(|(k, v)| (k.clone(), format!("{:?}", Value::Text(v.into())))).collect();
                prop_assert_eq!(members, expected);
            }
            Err(fault) => prop_assert!(!clean, "{}", fault),
        }
    }
}
