//! An investigator's questions to audit logs that nobody here wrote, asked in SQL and as an incident's scope, and held
//! against a plain script over the raw lines.
//!
//! The logs lie beside the checkout; without them the tests say so. The script is `oracle/raw_answers.py`, which shares
//! nothing with the mappings. Not here: that each line is accounted for (`real_data`).

use crate::program::{Service, run_json_in};
use crate::vectors::shared;
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Rows of an answer; the last three columns of the script's are how many events, the first and the last of them.
type Rows = Vec<Vec<Value>>;

/// How many events, the first and the last of them, by tenant.
type Extents = BTreeMap<String, (u64, String, String)>;

/// The values of a dimension that are asked for, those of most events.
const MOST: usize = 6;

fn files_of(folder: &str) -> Option<Vec<PathBuf>> {
    let names = std::fs::read_dir(shared(folder)?).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = names.filter(|path| path.to_str().is_some_and(|p| p.contains(".ndjson"))).collect();
    files.sort();
    Some(files)
}

/// Files that were loaded into a service.
struct Log {
    service: Service,
    files: Vec<PathBuf>,
    /// Of lines that name none.
    tenant: &'static str,
    tenants: Vec<String>,
    /// What the script answered to questions that were asked at once.
    answers: BTreeMap<String, Value>,
    _data: TempDir,
}

impl Log {
    /// Loads the files, and asks the script questions of which the first is that for all events by tenant.
    async fn load(map: &str, questions: &[&str], tenant: &'static str, files: Vec<PathBuf>, flags: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let service = Service::start(data.path(), flags);
        let (tenants, answers) = (vec![], BTreeMap::new());
        let mut log = Self { service, files, tenant, tenants, answers, _data: data };
        log.answers = serde_json::from_value(log.script(questions, &[])).unwrap();
        let by_tenant = questions[0];
        let expected: Rows = serde_json::from_value(log.raw(by_tenant, &[])).unwrap();
        log.tenants = expected.iter().map(|row| row[0].as_str().unwrap().to_string()).collect();
        log.service.register(&log.names());
        let mut arguments = vec!["ingest", "--json", "--url", &log.service.url, "--map", map];
        arguments.extend(["--tenant", tenant].into_iter().filter(|_| !tenant.is_empty()));
        arguments.extend(log.files.iter().map(|file| file.to_str().unwrap()));
        let tally = run_json_in(&[("PIPEROLL_KEY", log.service.key.clone())], &arguments);
        let stored: u64 = expected.iter().map(|row| row[1].as_u64().unwrap()).sum();
        assert_eq!(tally["accepted"], stored, "{tally}");
        log.holds(by_tenant, &[], &["tenant"], "true").await;
        log
    }

    fn names(&self) -> Vec<&str> {
        self.tenants.iter().map(String::as_str).collect()
    }

    /// What the script answers to a question.
    fn raw(&self, question: &str, more: &[&str]) -> Value {
        let known = self.answers.get(question).filter(|_| more.is_empty());
        known.cloned().unwrap_or_else(|| self.script(&[question], more))
    }

    fn script(&self, questions: &[&str], more: &[&str]) -> Value {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/raw_answers.py");
        let mut command = Command::new("python3");
        command.arg(script).args(questions.iter().flat_map(|question| ["--question", question]));
        command.args(["--tenant", self.tenant]).args(more);
        let output = command.args(&self.files).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Asks in SQL for the events of each combination of the columns, and holds that against the script.
    async fn holds(&self, question: &str, more: &[&str], columns: &[&str], condition: &str) -> Rows {
        let expected: Rows = serde_json::from_value(self.raw(question, more)).unwrap();
        let places = (1..=columns.len()).map(|place| place.to_string()).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "SELECT {}, count(*), min(occurred_at), max(occurred_at) FROM audit WHERE {condition} \
             GROUP BY {places} ORDER BY {places}",
            columns.join(", ")
        );
        assert_eq!(self.service.rows(&self.names(), &sql).await, expected, "{question}: {sql}");
        let events: u64 = expected.iter().map(|row| row[columns.len()].as_u64().unwrap()).sum();
        eprintln!("{question} {more:?}: {} rows, {events} events", expected.len());
        expected
    }

    /// Asks for the scope of what matches: tenant, events, failures, denied, first, last of each that was touched.
    async fn touched(&self, matching: Value, since: Option<&str>, until: Option<&str>) -> Rows {
        let mut question = json!({"subtree": "platform", "streams": ["audit"], "affected_when": "touched"});
        question["where"] = matching;
        for (name, time) in [("since", since), ("until", until)] {
            if let Some(time) = time {
                question[name] = json!(time);
            }
        }
        let headers = [("content-type", "application/json")];
        let (status, answer) = self.service.post_with("/v1/incidents/scope", question.to_string(), &headers).await;
        assert_eq!(status, 200, "{question}: {answer}");
        assert_eq!(answer["answer"]["not_examined"].as_array().map_or(0, Vec::len), 0, "{answer}");
        let tenants = answer["answer"]["tenants"].as_array().unwrap();
        // All tenants, and the platform itself.
        assert!(tenants.len() > self.tenants.len(), "{answer}");
        let mut rows = Rows::new();
        for one in tenants {
            let counts = &one["matching"];
            assert_eq!(one["affected"], counts["events"] != 0, "{question}: {one}");
            if one["affected"] == true {
                let [events, failures, denied] = ["events", "failures", "denied"].map(|name| counts[name].clone());
                rows.push(vec![
                    one["tenant"].clone(),
                    events,
                    failures,
                    denied,
                    one["first"].clone(),
                    one["last"].clone(),
                ]);
            }
        }
        rows.sort_by_key(|row| row[0].as_str().map(str::to_string));
        rows
    }

    /// The same, of which only how many events, the first and the last are wanted.
    async fn extents(&self, matching: Value, since: Option<&str>, until: Option<&str>) -> Extents {
        let rows = self.touched(matching, since, until).await;
        by_tenant(&rows.into_iter().map(|row| [&row[..2], &row[4..]].concat()).collect::<Rows>())
    }

    /// The scope of a dimension's most frequent values, against the script's question by them.
    async fn scopes(&self, question: &str, dimension: &str, but: &[&str], spelt: impl Fn(&str) -> Value) {
        let answer: BTreeMap<String, Rows> = serde_json::from_value(self.raw(question, &[])).unwrap();
        let mut values: Vec<(String, Rows)> =
            answer.into_iter().filter(|(value, _)| !but.contains(&value.as_str())).collect();
        let events = |rows: &Rows| rows.iter().filter_map(|row| row[1].as_u64()).sum::<u64>();
        values.sort_by_key(|(_, rows)| Reverse(events(rows)));
        assert!(values.len() >= MOST, "{question}: {values:?}");
        for (value, expected) in &values[..MOST] {
            let found = self.touched(json!({ dimension: spelt(value) }), None, None).await;
            assert_eq!(found, *expected, "{question}: {dimension} {value}");
        }
        eprintln!("{question}: {MOST} of {} values asked as a scope", values.len());
    }
}

/// Adds rows up by their first column, the tenant.
fn by_tenant(rows: &Rows) -> Extents {
    let mut found = Extents::new();
    for row in rows {
        let [.., events, first, last] = &row[..] else { panic!("{row:?}") };
        let [first, last] = [first, last].map(|time| time.as_str().unwrap().to_string());
        let one = found.entry(row[0].as_str().unwrap().to_string()).or_insert((0, first.clone(), last.clone()));
        one.0 += events.as_u64().unwrap();
        one.1 = one.1.clone().min(first);
        one.2 = one.2.clone().max(last);
    }
    found
}

/// The different values of a column.
fn distinct(rows: &Rows, column: usize) -> BTreeSet<&str> {
    rows.iter().map(|row| row[column].as_str().unwrap()).collect()
}

async fn cloudtrail() -> Option<Log> {
    // Small segments, so that sealed and unsealed events are asked together.
    let flags = ["--seal-bytes", "50000"];
    let questions = ["accounts", "roles-assumed", "refused-calls", "logins-without-mfa", "buckets-touched"];
    Some(Log::load("cloudtrail", &questions, "", files_of("cloudtrail")?, &flags).await)
}

#[tokio::test]
async fn who_took_roles_was_refused_or_called_from_elsewhere() {
    let Some(log) = cloudtrail().await else { return };
    // Where a record says no more of a user than the name, that is who it was.
    let who = "coalesce(actor_id, actor_name)";
    let role = "coalesce(json_text(attributes, '/requestParameters/roleArn'), '')";
    let took = "action LIKE 'sts.AssumeRole%' AND outcome = 'success'";
    let roles = log.holds("roles-assumed", &[], &["tenant", who, role], took).await;
    for arn in distinct(&roles, 2).into_iter().filter(|arn| !arn.is_empty()) {
        let its: Rows = roles.iter().filter(|row| row[2] == arn).cloned().collect();
        let matching = json!({"resource": arn, "action": "sts.AssumeRole", "outcome": "success"});
        assert_eq!(log.extents(matching, None, None).await, by_tenant(&its), "{arn}");
    }
    let refused = log.holds("refused-calls", &[], &["tenant", "reason"], "outcome = 'denied'").await;
    assert_eq!(log.extents(json!({"outcome": "denied"}), None, None).await, by_tenant(&refused));
    let codes = distinct(&refused, 1);
    assert_eq!(log.extents(json!({"reason": codes}), None, None).await, by_tenant(&refused));
    let home = ["--region", "us-east-1", "--region", "us-west-2"];
    let elsewhere = "region NOT IN ('us-east-1', 'us-west-2')";
    let outside = log.holds("outside-regions", &home, &["tenant", "region"], elsewhere).await;
    let regions = distinct(&outside, 1);
    assert_eq!(log.extents(json!({"region": regions}), None, None).await, by_tenant(&outside));
    let in_session = "coalesce(json_text(attributes, '/userIdentity/sessionContext/attributes/mfaAuthenticated'), '')";
    let without = "action = 'signin.ConsoleLogin' AND outcome = 'success' \
                   AND json_text(attributes, '/additionalEventData/MFAUsed') = 'No'";
    let logins = log.holds("logins-without-mfa", &[], &["tenant", who, in_session], without).await;
    let bucket = "json_text(attributes, '/requestParameters/bucketName')";
    let buckets =
        log.holds("buckets-touched", &[], &["tenant", bucket, "action"], &format!("{bucket} IS NOT NULL")).await;
    assert!([&roles, &refused, &outside, &logins, &buckets].iter().all(|rows| rows.len() > 7));
    log.service.stop();
}

#[tokio::test]
async fn who_called_with_a_client_and_what_each_principal_session_or_address_touched() {
    let Some(log) = cloudtrail().await else { return };
    let who = ["tenant", "coalesce(actor_id, actor_name)"];
    let (since, until) = ("2024-01-15T10:45:30.000000Z", "2024-01-17T13:00:00.000000Z");
    let asked = ["--client", "aws-cli/2.13.0", "--since", since, "--until", until];
    let condition = format!(
        "release = 'aws-cli/2.13.0' AND occurred_at >= TIMESTAMP '{since}' AND occurred_at < TIMESTAMP '{until}'"
    );
    let callers = log.holds("client-callers", &asked, &who, &condition).await;
    let ever = log.holds("client-callers", &asked[..2], &who, "release = 'aws-cli/2.13.0'").await;
    assert!(!callers.is_empty() && callers.len() < ever.len(), "the time cuts nothing off");
    let matching = json!({"release": "aws-cli/2.13.0"});
    assert_eq!(log.extents(matching.clone(), Some(since), Some(until)).await, by_tenant(&callers));
    assert_eq!(log.extents(matching, None, None).await, by_tenant(&ever));
    // S3 puts the agent into square brackets.
    let copied =
        log.holds("client-callers", &["--client", "aws-cli/1.18.136"], &who, "release = 'aws-cli/1.18.136'").await;
    assert!(!copied.is_empty());
    for dimension in ["actor", "session", "credential", "source_ip", "region", "action", "reason"] {
        log.scopes(&format!("by-{dimension}"), dimension, &[], |value| json!(value)).await;
    }
    log.scopes("by-client", "release", &[], |value| json!(value)).await;
    log.service.stop();
}

#[tokio::test]
async fn who_cleared_a_log_whose_logons_were_refused_and_what_a_logon_did() {
    let Some(files) = files_of("windows-security") else { return };
    let questions = ["domains", "logs-cleared", "logons-refused", "by-logon", "by-address"];
    let log = Log::load("windows", &questions, "", files, &[]).await;
    let said = "split_part(json_text(attributes, '/Message'), chr(13), 1)";
    let columns = ["tenant", "json_text(attributes, '/Hostname')", "coalesce(actor_id, '')", said];
    let cleared = log.holds("logs-cleared", &[], &columns, "action = 'log.clear'").await;
    assert_eq!(log.extents(json!({"action": "log.clear"}), None, None).await, by_tenant(&cleared));
    let asker = r"json_text(attributes, '/SubjectDomainName') || '\' || json_text(attributes, '/SubjectUserName')";
    let station = "json_text(attributes, '/WorkstationName')";
    let columns = ["tenant", "actor_id", asker, "coalesce(source_ip, '')", station, "reason"];
    let condition = "action = 'session.logon' AND outcome = 'failure'";
    let refused = log.holds("logons-refused", &[], &columns, condition).await;
    let matching = json!({"action": "session.logon", "outcome": "failure"});
    assert_eq!(log.extents(matching, None, None).await, by_tenant(&refused));
    for tried in distinct(&refused, 1) {
        let its: Rows = refused.iter().filter(|row| row[1] == tried).cloned().collect();
        let matching = json!({"actor": tried, "action": "session.logon", "outcome": "failure"});
        assert_eq!(log.extents(matching, None, None).await, by_tenant(&its), "{tried}");
    }
    assert!(cleared.len() > 7 && refused.len() > 7);
    log.scopes("by-logon", "session", &[], |value| json!(value)).await;
    // An address is kept as it was written, and logons write one of IPv4 as IPv6 does.
    log.scopes("by-address", "source_ip", &[], |value| json!([value, format!("::ffff:{value}")])).await;
    log.service.stop();
}

const QUESTIONS: [&str; 4] = ["clusters", "calls", "roles-changed", "by-who"];
/// Cluster, who, what, verb, object and outcome of a call.
const CALL: [&str; 6] = [
    "tenant",
    "actor_id",
    "substr(action, 1, length(action) - strpos(reverse(action), '.'))",
    "split_part(action, '.', -1)",
    "coalesce(resource_id, '')",
    "outcome",
];
const OF_ROLES: &str =
    "regexp_like(action, '^(cluster)?role(binding)?s[.](create|update|patch|delete|deletecollection)$')";

#[tokio::test]
async fn who_called_what_in_clusters() {
    let Some(files) = files_of("kubernetes-audit") else { return };
    let log = Log::load("kubernetes", &QUESTIONS, "cluster-1", files, &[]).await;
    assert!(log.holds("calls", &[], &CALL, "true").await.len() > 10);
    // The records about roles carry no time, hence are no events.
    assert!(log.holds("roles-changed", &[], &CALL, OF_ROLES).await.is_empty());
    log.service.stop();
}

/// The files with a time on each line that has none, which follows from the line alone: repeats stay repeats.
fn timed(files: &[PathBuf], folder: &Path) -> Vec<PathBuf> {
    let time = |line: &str| {
        format!(r#"{{"p_event_time":"2024-03-01T00:{:02}:{:02}Z","#, line.len() / 60 % 60, line.len() % 60)
    };
    let write = |file: &PathBuf| {
        let mut text = String::new();
        GzDecoder::new(std::fs::File::open(file).unwrap()).read_to_string(&mut text).unwrap();
        let is_timed = |line: &str| line.contains(r#""p_event_time""#);
        let lines = text.lines().map(|line| match is_timed(line) {
            true => format!("{line}\n"),
            false => format!("{}{}\n", time(line), line.strip_prefix('{').unwrap()),
        });
        let copy = folder.join(file.file_stem().unwrap());
        std::fs::write(&copy, lines.collect::<String>()).unwrap();
        copy
    };
    files.iter().map(write).collect()
}

#[tokio::test]
async fn who_changed_roles_and_how_it_ended() {
    let Some(files) = files_of("kubernetes-audit") else { return };
    let folder = tempfile::tempdir().unwrap();
    let log = Log::load("kubernetes", &QUESTIONS, "cluster-1", timed(&files, folder.path()), &[]).await;
    let changed = log.holds("roles-changed", &[], &CALL, OF_ROLES).await;
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let actions: BTreeSet<String> = changed.iter().map(|row| [text(&row[2]), text(&row[3])].join(".")).collect();
    assert_eq!(log.extents(json!({"action": actions}), None, None).await, by_tenant(&changed));
    let denied: Rows = changed.iter().filter(|row| row[5] == "denied").cloned().collect();
    let matching = json!({"action": actions, "outcome": "denied"});
    assert_eq!(log.extents(matching, None, None).await, by_tenant(&denied));
    assert!(!denied.is_empty() && denied.len() < changed.len() && changed.len() > 40);
    assert!(log.holds("calls", &[], &CALL, "true").await.len() > changed.len());
    log.scopes("by-who", "actor", &[], |value| json!(value)).await;
    log.service.stop();
}
