//! Fuzz harnesses of source lines, of mapping files, and of the times that sources write (docs/testing.md).
//!
//! Not here: what each rule means (`tests`).

use super::time::{TimeFormat, decimal_times, read_zone, write_rfc3339};
use super::*;
use crate::fuzz::changed::{fuzz, write_seed};
use crate::limits::IngestLimits;
use crate::wire::Context;
use crate::wire::tests::admit_in;
use std::sync::LazyLock;

/// One line of each source that a mapping ships for.
const LINES: [(&str, &str); 5] = [
    (
        "cloudtrail",
        r#"{"eventVersion":"1.08","userIdentity":{"type":"IAMUser","principalId":"AIDA1","arn":"arn:aws:iam::111122223333:user/a","accountId":"111122223333","userName":"a"},"eventTime":"2021-08-02T13:11:39Z","eventSource":"s3.amazonaws.com","eventName":"GetObject","awsRegion":"eu-central-1","sourceIPAddress":"203.0.113.9","userAgent":"cli","errorCode":"AccessDenied","requestParameters":{"bucketName":"b","key":"k"},"eventID":"e-1","eventType":"AwsApiCall","recipientAccountId":"111122223333"}"#,
    ),
    (
        "github",
        r#"{"@timestamp":1635448123456,"_document_id":"d-1","action":"repo.create","actor":"a","actor_ip":"203.0.113.9","org":"acme","repo":"acme/x","user":"b","visibility":"private"}"#,
    ),
    (
        "kubernetes",
        r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"a-1","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/n/pods","verb":"list","user":{"username":"system:serviceaccount:n:s","groups":["system:authenticated"]},"sourceIPs":["203.0.113.9"],"userAgent":"kubectl","objectRef":{"resource":"pods","namespace":"n","apiVersion":"v1"},"responseStatus":{"code":200},"requestReceivedTimestamp":"2021-08-02T13:11:39.772449Z","stageTimestamp":"2021-08-02T13:11:39.774000Z"}"#,
    ),
    (
        "okta",
        r#"{"actor":{"id":"00u1","type":"User","alternateId":"a@example.com","displayName":"A"},"client":{"userAgent":{"rawUserAgent":"m"},"ipAddress":"203.0.113.9"},"eventType":"user.session.start","outcome":{"result":"FAILURE","reason":"INVALID_CREDENTIALS"},"published":"2021-08-02T13:11:39.772Z","severity":"WARN","uuid":"u-1","target":[{"id":"t","type":"AppInstance","displayName":"T"}],"authenticationContext":{"externalSessionId":"s"}}"#,
    ),
    (
        "windows",
        r#"{"@timestamp":"2020-09-04T14:32:11.123Z","EventID":4624,"Channel":"Security","Hostname":"h.example","TargetUserName":"a","TargetUserSid":"S-1-5-18","IpAddress":"203.0.113.9","LogonType":3,"RecordNumber":17,"EventTime":"2020-09-04 10:32:11","Message":"An account was logged on"}"#,
    ),
];

const MAPPING: &str = r#"mapping = 1
name = "seed"
records = "/Records"
absent = ["-", "none*"]
[[unwrap]]
pointer = "/message"
lift = true
[tables]
kinds = { "User*" = "user", Service = "service" }
[parts]
who = [{ pointer = "/actor/id" }, "/user"]
[fields]
time = { pointer = "/t", format = ["rfc3339", "epoch-ms"] }
action = { template = "{/kind}.{/verb}", steps = ["lower"] }
id = { content = true }
"actor.type" = [{ pointer = "/actor/type", table = "kinds" }, { literal = "user" }]
"actor.id" = { from = [{ part = "who" }], overlong = "omit" }
outcome = { literal = "failure", when = { pointer = "/error", present = true } }
"#;

/// Not a digest that anybody should use.
fn digest(bytes: &[u8]) -> [u8; 32] {
    [bytes.len() as u8; 32]
}

fn holds(mapping: &Mapping, line: &[u8]) {
    let mut out = b"before".to_vec();
    let Ok(()) = mapping.apply(line, &mut out) else {
        assert_eq!(out, b"before", "what failed has written");
        return;
    };
    let event = out.strip_prefix(b"before").unwrap();
    assert!(!event.contains(&b'\n'));
    let written: serde_json::Value = serde_json::from_slice(event).unwrap_or_else(|error| {
        // The line itself may hold what this reader does not take, as a number beyond a float.
        assert!(serde_json::from_slice::<serde_json::Value>(line.trim_ascii()).is_err(), "{error}");
        serde_json::Value::Null
    });
    let source = serde_json::from_slice::<serde_json::Value>(line.trim_ascii());
    assert!(source.map_or(true, |source| written["attributes"] == source), "the line is not what is kept");
    let limits = IngestLimits::default();
    let context = Context { address: None, now: 1_900_000_000_000_000, limits: &limits };
    let Err(rejection) = admit_in(event, &context) else { return };
    // What a mapping admits, admission refuses only for the line that it carries, or for its time.
    let fields = ["attributes", "event", "time"];
    assert!(fields.contains(&rejection.field.as_ref()), "the mapping wrote what admission refuses: {rejection}");
}

#[test]
fn mapped_lines() {
    fn check(line: &[u8]) {
        static SHIPPED: LazyLock<Vec<Mapping>> = LazyLock::new(|| {
            let shipped = Mapping::builtin_names().iter().map(|name| Mapping::builtin(name).unwrap());
            let own = Mapping::parse(MAPPING).unwrap_or_else(|error| panic!("{error}"));
            shipped.chain([own]).map(|mapping| mapping.with_digest(digest).with_tenant("acme")).collect()
        });
        let (own, shipped) = SHIPPED.split_last().unwrap();
        holds(&shipped[line.len() % shipped.len()], line);
        holds(own, line);
    }
    fuzz!("mapped_lines", check);
}

#[test]
fn mapping_files() {
    fn check(bytes: &[u8]) {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let Ok(mapping) = Mapping::parse(text) else { return };
        assert!(!mapping.name().is_empty());
        let mapping = mapping.with_tenant("acme").with_digest(digest);
        for (_, line) in LINES {
            holds(&mapping, line.as_bytes());
        }
        holds(&mapping, br#"{"t":"1700000000000","kind":"A","verb":"B","actor":{"type":"Userx"},"message":"{}"}"#);
    }
    fuzz!("mapping_files", check);
}

#[test]
fn source_times() {
    fn check(bytes: &[u8]) {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let ours = TimeFormat::Rfc3339.read(text);
        if let (Some(ours), Ok(strict)) = (ours, ledger::time::parse_micros(text)) {
            assert_eq!(ours, strict, "two readers of one time: {text}");
        }
        let formats = [
            TimeFormat::DateTime { east_minutes: -720 },
            TimeFormat::Epoch { unit_ns: 1 },
            TimeFormat::Epoch { unit_ns: 1_000_000_000 },
        ];
        for micros in formats.into_iter().filter_map(|format| format.read(text)).chain(ours) {
            let written = write_rfc3339(micros);
            assert_eq!(TimeFormat::Rfc3339.read(&written), Some(micros), "{written}");
            assert_eq!(ledger::time::parse_micros(&written), Ok(micros), "{written}");
        }
        assert!(read_zone(text).is_none_or(|east| east.abs() < 24 * 60));
        let _ = (decimal_times(text, i128::from(i64::MAX), 1), decimal_times(text, 1, 1_000));
    }
    fuzz!("source_times", check);
}

/// Writes the seeds anew: `cargo test -p ingest write_seeds -- --ignored`.
#[test]
#[ignore = "writes into the tree"]
fn write_seeds() {
    let seed =
        |name: &str, seed: &str, bytes: &[u8]| write_seed(env!("CARGO_MANIFEST_DIR"), file!(), name, seed, bytes);
    for (name, line) in LINES {
        seed("mapped_lines", name, line.as_bytes());
    }
    seed(
        "mapped_lines",
        "own",
        br#"{"t":"2021-08-02T13:11:39Z","kind":"Door","verb":"Open","message":"{\"user\":\"x\"}"}"#,
    );
    seed("mapping_files", "own", MAPPING.as_bytes());
    seed("mapping_files", "github", include_str!("../../mappings/github.toml").as_bytes());
    for (name, text) in [
        ("zulu", "2024-01-31T23:59:59.1234567Z"),
        ("east", "2024-02-29 00:00:00,5 +05:30"),
        ("epoch", "-1700000000.123456789"),
        ("exponent", "1.7E+9"),
    ] {
        seed("source_times", name, text.as_bytes());
    }
}
