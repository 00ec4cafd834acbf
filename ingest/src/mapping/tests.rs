//! Mappings: the language, the shipped five, and hostile lines and hostile mappings.
//!
//! Whole files of real data are compared with an independent count elsewhere (tests/oracle/mapping_counts.py);
//! here stands one line for each rule that those files do not reach.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::time::{TimeFormat, decimal_times, read_zone, write_rfc3339};
use super::*;

/// Not a digest that anybody should use: enough to see that the content decides.
fn sum(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0_u8; 32];
    for (at, byte) in bytes.iter().enumerate() {
        let slot = &mut out[at % 32];
        *slot = slot.wrapping_mul(31).wrapping_add(*byte);
    }
    out
}

fn shipped(name: &str) -> Mapping {
    let (_, text) = BUILTIN.iter().find(|(known, _)| *known == name).unwrap();
    Mapping::parse(text).unwrap().with_digest(sum)
}

fn map(mapping: &Mapping, line: &str) -> Result<Value, Rejection> {
    let mut out = b"before".to_vec();
    match mapping.apply(line.as_bytes(), &mut out) {
        Ok(()) => {
            let event = out.strip_prefix(b"before").unwrap();
            assert!(!event.contains(&b'\n'));
            Ok(serde_json::from_slice(event).unwrap())
        }
        Err(rejection) => {
            assert_eq!(out, b"before");
            Err(rejection)
        }
    }
}

/// A mapping with these lines under `[fields]`, what is required being literal.
fn small(fields: &str) -> Mapping {
    let time = if fields.contains("time =") {
        ""
    } else {
        "time = { literal = \"2024-01-01T00:00:00Z\", format = \"rfc3339\" }\n"
    };
    let action = if fields.contains("action =") { "" } else { "action = { literal = \"thing.do\" }\n" };
    let text = format!(
        "mapping = 1\nname = \"small\"\n[fields]\n{time}{action}\"actor.type\" = {{ literal = \"user\" }}\n{fields}"
    );
    Mapping::parse(&text).unwrap().with_tenant("acme").with_digest(sum)
}

fn field(fields: &str, name: &str, line: &str) -> Option<Value> {
    map(&small(fields), line).unwrap().get(name).cloned()
}

#[test]
fn every_shipped_mapping_loads_under_its_name() {
    assert_eq!(Mapping::builtin_names().len(), 5);
    for name in Mapping::builtin_names() {
        assert_eq!(shipped(name).name(), *name);
        assert!(Mapping::builtin(name).is_some());
    }
    assert!(Mapping::builtin("syslog").is_none());
    assert_eq!(shipped("cloudtrail").records(), Some("/Records"));
    assert_eq!(shipped("okta").records(), None);
}

#[test]
fn the_guide_names_every_field_and_key_and_its_examples_load() {
    const GUIDE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/mappings.md"));
    let keys = ["pointer", "template", "part", "literal", "content", "when", "absent", "steps", "only", "table"];
    let more = ["values", "unlisted", "then", "format", "unit", "overlong", "from", "uuid", "tenant", "domain"];
    for word in field::ALL.iter().map(|field| field.name).chain(keys).chain(more).chain(BUILTIN_NAMES) {
        assert!(GUIDE.contains(&format!("`{word}`")) || GUIDE.contains(&format!("`\"{word}\"`")), "{word}");
    }
    let examples: Vec<&str> = GUIDE.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let door = Mapping::parse(examples[0]).unwrap().with_digest(sum);
    let line = r#"{"at":"2024-01-01T08:00:00+01:00","site":"Mill","what":"open","badge":7,"result":"no access"}"#;
    let event = map(&door, line).unwrap();
    let wanted = json!({"type": "user", "id": "7"});
    assert_eq!(
        (&event["action"], &event["actor"], &event["outcome"]),
        (&json!("door.open"), &wanted, &json!("denied"))
    );
    assert_eq!((&event["time"], &event["tenant"]), (&json!("2024-01-01T07:00:00.000000Z"), &json!("mill")));
    let rest = "time = { pointer = '/t', format = 'rfc3339' }\naction = '/a'\n\"actor.type\" = '/x'\n";
    for example in &examples[1..] {
        let fields = if example.contains("[fields]") { "" } else { "[fields]\n" };
        Mapping::parse(&format!("mapping = 1\nname = 'e'\n{example}{fields}{rest}")).unwrap();
    }
}

#[test]
fn a_mapping_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Mapping>();
}

#[test]
fn attributes_are_the_line_byte_for_byte() {
    let line = r#"{"n":-9214364837600034816, "b" : 1e400,"s":"\u00e9\/","n":2}"#;
    let mut out = Vec::new();
    small("").apply(format!("  {line}\r\n").as_bytes(), &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().ends_with(&format!("\"attributes\":{line}}}")));
}

#[test]
fn line_ends_between_tokens_become_blanks() {
    let event = map(&small(""), "{\n\"a\": [1,\r\n 2]\n}").unwrap();
    assert_eq!(event["attributes"], json!({"a": [1, 2]}));
}

#[test]
fn numbers_keep_their_digits() {
    let line = r#"{"k":-9223372036854775808123,"f":1.10,"t":true,"z":null,"o":{},"e":""}"#;
    for (pointer, wanted) in [("/k", "-9223372036854775808123"), ("/f", "1.10"), ("/t", "true")] {
        assert_eq!(field(&format!("session = \"{pointer}\""), "session", line), Some(json!(wanted)));
    }
    for pointer in ["/z", "/o", "/e", "/none", "/k/deeper"] {
        assert_eq!(field(&format!("session = \"{pointer}\""), "session", line), None);
    }
}

#[test]
fn pointers_follow_rfc_6901() {
    let line = r#"{"a/b":{"c~d":["x",{"":"y"}]},"u\u0041":"z","d":1,"d":2}"#;
    for (pointer, wanted) in [("/a~1b/c~0d/0", "x"), ("/a~1b/c~0d/1/", "y"), ("/uA", "z"), ("/d", "2")] {
        assert_eq!(field(&format!("session = '{pointer}'"), "session", line), Some(json!(wanted)), "{pointer}");
    }
    for pointer in ["/a~1b/c~0d/00", "/a~1b/c~0d/+0", "/a~1b/c~0d/-", "/a~1b/c~0d/99999999999999999999"] {
        assert_eq!(field(&format!("session = '{pointer}'"), "session", line), None, "{pointer}");
    }
}

#[test]
fn rules_are_asked_in_order_and_changed_stepwise() {
    let line = r#"{"host":"WEB01.Corp.Example.com","kind":"b","user":"CORP\\ann","path":"a/b/c"}"#;
    let cases = [
        ("session = ['/none', '/kind']", "b"),
        ("session = { pointer = '/host', steps = ['after-first .', 'lower'] }", "corp.example.com"),
        ("session = { pointer = '/host', steps = ['before-last .', 'after-last .'] }", "Example"),
        ("session = [{ pointer = '/kind', steps = ['after-first .'] }, { literal = 'none' }]", "none"),
        ("session = { pointer = '/user', steps = ['slug'] }", "corp-ann"),
        ("session = { template = '{{{/kind}}}-{/path}' }", "{b}-a/b/c"),
        ("session = [{ template = '{/kind}{/none}' }, '/kind']", "b"),
        ("session = { pointer = '/kind', values = { b = 'bee' } }", "bee"),
        ("session = [{ pointer = '/kind', values = { c = 'cee' } }, '/path']", "a/b/c"),
        ("session = { pointer = '/kind', values = { c = 'cee' }, unlisted = 'keep' }", "b"),
        ("session = { pointer = '/kind', values = { c = 'cee' }, unlisted = { literal = 'x' } }", "x"),
        ("session = [{ pointer = '/kind', absent = 'b*' }, '/path']", "a/b/c"),
        ("session = { pointer = '/kind', then = 'yes' }", "yes"),
        (
            "session = [{ literal = 'w', when = { pointer = '/kind', is = ['a', 'c*'] } }, { literal = 'v', when = { pointer = '/none', present = false } }]",
            "v",
        ),
        (
            "session = [{ pointer = '/path', only = 'uuid' }, { pointer = '/host', only = 'domain' }]",
            "WEB01.Corp.Example.com",
        ),
    ];
    for (rule, wanted) in cases {
        assert_eq!(field(rule, "session", line), Some(json!(wanted)), "{rule}");
    }
}

#[test]
fn the_most_particular_pattern_wins_whatever_the_order() {
    let rule = "outcome = { pointer = '/c', values = { '4*' = 'failure', '403' = 'denied', '*' = 'unknown', '40*' = 'error' } }";
    for (code, wanted) in [("403", "denied"), ("404", "error"), ("499", "failure"), ("200", "unknown")] {
        assert_eq!(field(rule, "outcome", &format!("{{\"c\":{code}}}")), Some(json!(wanted)));
    }
    let pattern = pattern::Pattern::new("a*b*c");
    for (text, fits) in
        [("abc", true), ("a--b--c", true), ("abcc", true), ("ac", false), ("abcd", false), ("bc", false)]
    {
        assert_eq!(pattern.fits(text), fits, "{text}");
    }
    assert!(!pattern::Pattern::new("aa*aa").fits("aaa"));
}

#[test]
fn strings_of_json_are_read_through_and_may_be_lifted() {
    let head = "mapping = 1\nname = \"w\"\n[[unwrap]]\npointer = \"/log\"\nlift = true\n[fields]\n";
    let rest = "time = { pointer = \"/t\", format = \"epoch-s\" }\naction = { template = \"{/r}.{/v}\" }\n\"actor.type\" = { literal = \"user\" }\n\
                session = \"/log/deep/0\"\nservice = \"/outer\"";
    let mapping = Mapping::parse(&format!("{head}{rest}")).unwrap().with_tenant("acme");
    let line = json!({"log": json!({"r": "pods", "v": "get", "t": 0, "deep": ["x"]}).to_string(), "outer": "o", "r": "hidden"}).to_string();
    let event = map(&mapping, &line).unwrap();
    assert_eq!(
        (&event["action"], &event["session"], &event["service"]),
        (&json!("pods.get"), &json!("x"), &json!("o"))
    );
    for log in ["no json", "[1]", "{", "{\"a\":1} {}"] {
        let line = json!({"log": log, "t": 1.5, "r": "r", "v": "v"}).to_string();
        assert_eq!(map(&mapping, &line).unwrap()["time"], json!("1970-01-01T00:00:01.500000Z"));
    }
}

#[test]
fn times_come_out_in_utc_microseconds() {
    let utc = TimeFormat::DateTime { east_minutes: 0 };
    let ms = TimeFormat::Epoch { unit_ns: 1_000_000 };
    let good = [
        (TimeFormat::Rfc3339, "2021-08-02T13:11:39.7724491Z", "2021-08-02T13:11:39.772449Z"),
        (TimeFormat::Rfc3339, "2021-08-02t01:11:39-02:30", "2021-08-02T03:41:39.000000Z"),
        (utc, "2025-01-21 17:39:10.000000000", "2025-01-21T17:39:10.000000Z"),
        (utc, "2000-02-29 23:59:59,9999999", "2000-02-29T23:59:59.999999Z"),
        (utc, "2019-01-01 00:20:04.000 +01:00", "2018-12-31T23:20:04.000000Z"),
        (TimeFormat::DateTime { east_minutes: 60 }, "0001-01-01 01:00:00", "0001-01-01T00:00:00.000000Z"),
        (ms, "1621305118553", "2021-05-18T02:31:58.553000Z"),
        (ms, "1621305118553.0009", "2021-05-18T02:31:58.553000Z"),
        (ms, "1.621305118553E12", "2021-05-18T02:31:58.553000Z"),
        (TimeFormat::Epoch { unit_ns: 1_000_000_000 }, "-0.0000001", "1969-12-31T23:59:59.999999Z"),
        (TimeFormat::Epoch { unit_ns: 1 }, "1", "1970-01-01T00:00:00.000000Z"),
        (TimeFormat::Epoch { unit_ns: 1_000_000_000 }, "253402300799", "9999-12-31T23:59:59.000000Z"),
    ];
    for (format, text, wanted) in good {
        assert_eq!(format.read(text).map(write_rfc3339).as_deref(), Some(wanted), "{text}");
    }
    let bad = [
        "",
        "2024",
        "2023-02-29T00:00:00Z",
        "2024-13-01T00:00:00Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:00:60Z",
        "2024-01-01T00:00:00.Z",
        "2024-01-01T00:00:00Zz",
        "2024-01-01T00:00:00",
        "2024-01-01T00:00:00+24:00",
        "2024-01-01 00:0\u{e9}:00Z",
        "+024-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
    ];
    for text in bad {
        assert_eq!(TimeFormat::Rfc3339.read(text), None, "{text}");
    }
    for text in ["1e99", "1e31", "", "-", ".", "1.2.3", "0x10", "99999999999999999999", "--1", "1e", "\u{663}"] {
        assert_eq!(ms.read(text), None, "{text}");
    }
    assert_eq!(read_zone("-03:30"), Some(-210));
    assert_eq!(decimal_times("1.5", 1_000_000, 1_000), Some(1_500));
}

#[test]
fn every_day_of_ten_thousand_years_reads_back() {
    for day in (-719_162..2_932_897_i64).step_by(13) {
        let us = day * 86_400_000_000 + 1;
        assert_eq!(TimeFormat::Rfc3339.read(&write_rfc3339(us)), Some(us));
    }
}

#[test]
fn rejections_name_fields_and_pointers_and_never_values() {
    let secret = "s3cr3t";
    let cases = [
        (
            "time = { pointer = '/t', format = 'rfc3339' }",
            json!({"t": secret}),
            "time: the value at /t is in none of the formats its rule names",
        ),
        (
            "time = [{ pointer = '/t', format = 'rfc3339' }, { pointer = '/u', format = 'epoch-s' }]",
            json!({"x": secret}),
            "time: nothing usable at /t, /u",
        ),
        (
            "outcome = '/o'",
            json!({"o": secret}),
            "outcome: has a wrong form; right is one of success, failure, denied, error, unknown",
        ),
        (
            "tenant = '/o'",
            json!({"o": "acme corp"}),
            "tenant: has a wrong form; right is 1 to 63 of a-z 0-9 . _ -, beginning with a letter or digit",
        ),
        ("action = '/o'", json!({"o": secret}), "action: has a wrong form; right is a noun, a dot and a verb"),
        (
            "severity = '/o'",
            json!({"o": 25}),
            "severity: has a wrong form; right is 1 to 24, or one of trace, debug, info, warn, error, fatal",
        ),
        (
            "session = '/o'",
            json!({"o": "a\u{0}b"}),
            "session: has a wrong form; right is text without the character u+0000",
        ),
        ("reason = '/o'", json!({"o": "x".repeat(129)}), "reason: is longer than 128 bytes"),
    ];
    for (fields, line, wanted) in cases {
        let rejection = map(&small(fields), &line.to_string()).unwrap_err();
        assert_eq!(rejection.to_string(), wanted);
        assert!(!rejection.reason.contains(secret));
    }
    let lone = map(&small("session = '/o'"), r#"{"o":"\ud800"}"#).unwrap_err();
    assert_eq!(lone.to_string(), "session: the text at /o is no valid unicode");
}

#[test]
fn what_no_rule_asks_for_is_left_to_the_server() {
    let line = br#"{"a":"1","o":"\ud800","a":"2"}"#;
    assert!(small("session = '/a'").apply(line, &mut Vec::new()).is_ok());
}

#[test]
fn overlong_values_follow_the_mapping() {
    let line = json!({"long": "x".repeat(200), "short": "y"}).to_string();
    assert_eq!(field("reason = { from = ['/long', '/short'], overlong = 'next' }", "reason", &line), Some(json!("y")));
    assert_eq!(field("reason = { from = ['/long', '/short'], overlong = 'omit' }", "reason", &line), None);
    assert_eq!(map(&small("reason = ['/long', '/short']"), &line).unwrap_err().field, "reason");
}

#[test]
fn a_tenant_is_lower_cased_and_one_given_only_fills_in() {
    let mapping = small("tenant = '/t'");
    assert_eq!(map(&mapping, r#"{"t":"Globex-1"}"#).unwrap()["tenant"], json!("globex-1"));
    assert_eq!(map(&mapping, "{}").unwrap()["tenant"], json!("acme"));
    let alone = Mapping { tenant: None, ..mapping };
    let rejection = map(&alone, "{}").unwrap_err();
    assert_eq!(rejection.to_string(), "tenant: nothing usable at /t, and no tenant was given beside the mapping");
    assert_eq!(map(&alone.with_tenant("No Tenant"), "{}").unwrap_err().field, "tenant");
}

#[test]
fn ids_from_content_repeat_for_the_same_bytes_only() {
    let mapping = small("id = { content = true }");
    let id = |line: &str| map(&mapping, line).unwrap()["id"].as_str().unwrap().to_owned();
    assert_eq!(id(r#"{"a":1}"#), id("  {\"a\":1}\r"));
    assert_ne!(id(r#"{"a":1}"#), id(r#"{"a": 1}"#));
    assert_eq!(id("{}").len(), 72);
    let without = Mapping { digest: None, ..mapping };
    assert_eq!(map(&without, "{}").unwrap_err().field, "id");
}

#[test]
fn durations_and_severities_are_numbers_on_the_wire() {
    assert_eq!(
        field("duration_us = { pointer = '/d', unit = 'ms' }", "duration_us", r#"{"d":"1.5"}"#),
        Some(json!(1500))
    );
    assert_eq!(
        map(&small("duration_us = { pointer = '/d', unit = 's' }"), r#"{"d":-1}"#).unwrap_err().field,
        "duration_us"
    );
    assert_eq!(field("severity = '/s'", "severity", r#"{"s":17}"#), Some(json!(17)));
    assert_eq!(field("severity = '/s'", "severity", r#"{"s":"warn"}"#), Some(json!("warn")));
}

#[test]
fn lines_that_are_no_object_are_rejected_without_a_panic() {
    let deep = "[".repeat(200_000);
    let nested = format!("{{\"a\":{}{}}}", "{\"a\":".repeat(5_000), "1".to_owned() + &"}".repeat(5_000));
    let lines: [&[u8]; 13] = [
        b"",
        b" ",
        b"[]",
        b"null",
        b"\"{}\"",
        b"{",
        b"{} {}",
        b"{\"a\":1,}",
        b"{\"a\":\x01}",
        b"{\"a\":\"\n\"}",
        b"\xff{}",
        b"{a:1}",
        deep.as_bytes(),
    ];
    for name in Mapping::builtin_names() {
        let mapping = shipped(name).with_tenant("acme");
        for line in lines {
            let mut out = Vec::new();
            assert_eq!(mapping.apply(line, &mut out).unwrap_err().field, "line");
            assert!(out.is_empty());
        }
        assert_ne!(mapping.apply(nested.as_bytes(), &mut Vec::new()).unwrap_err().field, "line");
    }
}

#[test]
fn wrong_mappings_are_refused_with_the_key_and_what_is_right() {
    let head = "mapping = 1\nname = \"m\"\n";
    let base =
        "[fields]\ntime = { pointer = \"/t\", format = \"rfc3339\" }\naction = \"/a\"\n\"actor.type\" = \"/x\"\n";
    let cases = [
        ("fields = 3", "fields in the mapping is wrong; right is a table"),
        (
            "[fields]\naction = \"/a\"",
            "fields.time in the mapping is wrong; right is required: an event without it is none",
        ),
        ("[fields]\ntime = \"/t\"", "fields.time.format in the mapping is wrong; right is required for time"),
        ("[fields]\ntime = { pointer = \"/t\", format = \"datetime\" }", "fields.time.zone"),
        ("[fields]\ntime = { pointer = \"/t\", format = \"rfc3339\", zone = \"utc\" }", "fields.time.zone"),
        ("[fields]\nwhen = \"/a\"", "fields.when in the mapping is wrong; right is a field of the event"),
        ("surplus = 1", "surplus in the mapping is wrong; right is no such key; here stand mapping, name"),
        ("records = \"Records\"", "records in the mapping is wrong; right is a json pointer"),
        ("[[unwrap]]\nlift = true", "unwrap.0.pointer"),
        ("[parts]\na = { part = \"b\" }\nb = \"/b\"", "parts.a.part"),
    ];
    for (text, wanted) in cases {
        let error = Mapping::parse(&format!("{head}{text}\n")).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{error}");
    }
    let fields = [
        ("session = \"a\"", "fields.session.pointer"),
        ("session = { literal = \"a\", pointer = \"/a\" }", "fields.session "),
        ("session = []", "fields.session "),
        ("session = [\"/a\", { pointer = \"/a~2\" }]", "fields.session.1.pointer"),
        ("session = { pointer = \"/a\", steps = \"upper\" }", "fields.session.steps"),
        ("session = { pointer = \"/a\", table = \"none\" }", "fields.session.table"),
        ("session = { pointer = \"/a\", unlisted = \"keep\" }", "fields.session.unlisted"),
        ("session = { pointer = \"/a\", values = { a = 1 } }", "fields.session.values.a"),
        ("session = { pointer = \"/a\", only = \"email\" }", "fields.session.only"),
        ("session = { template = \"{/a\" }", "fields.session.template"),
        ("session = { template = \"a}b\" }", "fields.session.template"),
        ("session = { template = \"{}\" }", "fields.session.template"),
        ("session = { content = true }", "fields.session.content"),
        ("session = { pointer = \"/a\", format = \"epoch-s\" }", "fields.session.format"),
        ("session = { pointer = \"/a\", when = { pointer = \"/b\" } }", "fields.session.when"),
        ("session = { from = \"/a\", overlong = \"cut\" }", "fields.session.overlong"),
        ("session = { pointer = \"/a\", then = \"x\", values = { a = \"b\" } }", "fields.session.then"),
        ("session = { pointer = \"/a\", color = \"x\" }", "fields.session.color"),
        ("tenant = { from = \"/a\", overlong = \"omit\" }", "fields.tenant.overlong"),
        ("duration_us = \"/a\"", "fields.duration_us.unit"),
    ];
    for (text, wanted) in fields {
        let error = Mapping::parse(&format!("{head}{base}{text}\n")).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{error}");
    }
    assert_eq!(
        Mapping::parse("mapping = 0\n").unwrap_err().to_string(),
        "mapping in the mapping is wrong; right is 1, the version of the language"
    );
    assert_eq!(Mapping::parse("mapping = 2\nsurplus = 1\n").unwrap_err(), MappingError::Newer { version: 2 });
    assert!(
        Mapping::parse("mapping = 1\nname = = 2")
            .unwrap_err()
            .to_string()
            .starts_with("line 2 of the mapping is not toml")
    );
    assert!(matches!(Mapping::parse(&" ".repeat(300_000)), Err(MappingError::TooLong { .. })));
    assert!(Mapping::parse(&format!("a = {}", "[".repeat(100_000))).is_err());
}

#[test]
fn cloudtrail_tells_people_roles_and_services_apart() {
    let mapping = shipped("cloudtrail");
    let actor = |identity: Value| {
        let line = json!({"eventTime": "2024-01-01T00:00:00Z", "eventSource": "iam.amazonaws.com", "eventName": "CreateUser", "recipientAccountId": "1", "userIdentity": identity});
        map(&mapping, &line.to_string()).map(|event| event["actor"]["type"].clone())
    };
    assert_eq!(actor(json!({"type": "IAMUser"})).unwrap(), json!("user"));
    assert_eq!(
        actor(json!({"type": "AssumedRole", "arn": "arn:aws:sts::1:assumed-role/build/x"})).unwrap(),
        json!("service")
    );
    assert_eq!(
        actor(json!({"type": "AssumedRole", "arn": "arn:aws:sts::1:assumed-role/AWSReservedSSO_Admin_0/ann"})).unwrap(),
        json!("user")
    );
    assert_eq!(actor(json!({"type": "AWSService", "invokedBy": "ec2.amazonaws.com"})).unwrap(), json!("system"));
    assert_eq!(actor(json!({"type": "AWSAccount", "accountId": "anonymous"})).unwrap(), json!("anonymous"));
    assert_eq!(actor(json!({})).unwrap_err().field, "actor.type");
}

#[test]
fn kubernetes_reads_the_three_envelopes_alike() {
    let plain = json!({"stage": "ResponseComplete", "auditID": "01234567-89ab-cdef-0123-456789abcdef", "verb": "create", "user": {"username": "system:serviceaccount:kube-system:x"},
        "objectRef": {"resource": "pods", "subresource": "exec", "namespace": "default", "name": "web"}, "responseStatus": {"code": 403}, "requestReceivedTimestamp": "2024-01-01T00:00:00.000000Z"});
    let aks = json!({"time": "2024-01-01T00:00:05Z", "resourceId": "/SUBSCRIPTIONS/X/MANAGEDCLUSTERS/PROD", "properties": {"log": plain.to_string()}});
    let gke = json!({"timestamp": "2024-01-01T00:00:00Z", "insertId": "i1", "resource": {"labels": {"cluster_name": "prod"}}, "protoPayload": {"methodName": "io.k8s.core.v1.pods.exec.create",
        "resourceName": "core/v1/namespaces/default/pods/web/exec", "authenticationInfo": {"principalEmail": "x@p.iam.gserviceaccount.com"}, "status": {"code": 7}}});
    let mapping = shipped("kubernetes").with_tenant("prod");
    let ids = [
        "01234567-89ab-cdef-0123-456789abcdef/ResponseComplete",
        "01234567-89ab-cdef-0123-456789abcdef/ResponseComplete",
        "i1/2024-01-01T00:00:00Z",
    ];
    for (line, id) in [plain, aks, gke].iter().zip(ids) {
        let event = map(&mapping, &line.to_string()).unwrap();
        for (name, wanted) in [
            ("tenant", "prod"),
            ("action", "pods.exec.create"),
            ("outcome", "denied"),
            ("time", "2024-01-01T00:00:00.000000Z"),
            ("id", id),
        ] {
            assert_eq!(event[name], json!(wanted), "{name}");
        }
        assert_eq!(event["actor"]["type"], json!("service"));
    }
}

#[test]
fn windows_names_what_happened_and_who_did_it() {
    let mapping = shipped("windows");
    let base = |extra: Value| {
        let mut line = json!({"@timestamp": "2020-10-22T08:29:48.785Z", "Hostname": "DC1.Corp.local", "Channel": "Security", "SourceName": "Microsoft-Windows-Security-Auditing", "RecordNumber": 7});
        line.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        map(&mapping, &line.to_string()).unwrap()
    };
    let event = base(
        json!({"EventID": 4624, "TargetDomainName": "CORP", "TargetUserName": "ann", "SubjectDomainName": "-", "SubjectUserName": "-", "Keywords": "0x8020000000000000"}),
    );
    assert_eq!(
        (&event["action"], &event["outcome"], &event["actor"]),
        (&json!("session.logon"), &json!("success"), &json!({"type": "user", "id": "CORP\\ann", "name": "ann"}))
    );
    assert_eq!((&event["tenant"], &event["id"]), (&json!("corp.local"), &json!("DC1.Corp.local/Security/7")));
    let event = base(json!({"EventID": 5157, "SubjectUserName": "DC1$", "SubjectDomainName": "CORP"}));
    assert_eq!(
        (&event["action"], &event["outcome"], &event["actor"]["type"]),
        (&json!("connection.block"), &json!("denied"), &json!("service"))
    );
    assert_eq!(base(json!({"EventID": 9999}))["action"], json!("security.event-9999"));
    assert_eq!(
        base(json!({"EventID": 9999, "SourceName": "Some Provider"}))["action"],
        json!("some-provider.event-9999")
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "eventTime",
        "published",
        "action",
        "org",
        "@timestamp",
        "userIdentity",
        "type",
        "log",
        "properties",
        "EventID",
        "Hostname",
        "created_at",
        "a",
    ]);
    let texts = prop_oneof![
        "[ -~]{0,12}",
        ".{0,6}",
        Just("2024-01-01T00:00:00Z".to_owned()),
        Just("org.create".to_owned()),
        Just("{\"verb\":\"get\"}".to_owned())
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        texts.prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 48, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_line_gives_an_event_that_keeps_it_or_leaves_no_trace(value in any_json()) {
        let line = value.to_string();
        for name in Mapping::builtin_names() {
            if let Ok(event) = map(&shipped(name).with_tenant("acme"), &line) {
                prop_assert_eq!(&event["attributes"], &value);
                for required in ["time", "tenant", "action", "actor"] {
                    prop_assert!(event.get(required).is_some());
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut out = Vec::new();
        prop_assert_eq!(shipped("windows").apply(&bytes, &mut out).is_ok(), !out.is_empty());
    }

    #[test]
    fn any_text_is_a_mapping_or_an_error(text in "(mapping|name|fields|parts|[a-z]{1,4}|[=\\[\\]{}\"'/.,\n ]|[0-9]){0,60}") {
        let _ = Mapping::parse(&text);
    }
}
