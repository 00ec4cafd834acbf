//! The control map and the framework report: for each control what satisfies it, asked now, with how fresh it is and what is
//! missing.
//!
//! The map is data ([`ControlMap`]); each evidence in it is a question that anybody could ask in SQL, with the caller's own
//! rights. Not here: routes ([`http`]), the bundle that a report goes into ([`crate::evidence`]).
//!
//! Invariants: nothing is said to be there that was not found just now; what may not be seen by the caller, is not kept here or
//! could not be asked is a gap that says so.

pub mod http;
mod map;

pub use self::map::{BUILT_IN, Control, ControlMap, Evidence, Kind, MapError};
use crate::answer::{Format, Writer, heads_json};
use crate::http::tenant_of;
use crate::registry;
use crate::run::HeadRead;
use crate::scope::{literal, moment};
use crate::session::TABLES;
use crate::state::QueryState;
use access::registry::names::When;
use access::registry::{PLATFORM, Table};
use access::{Caller, Opened, Problem, ProblemKind};
use ledger::time::{format_micros, parse_micros};
use ledger::{Hash, StreamKind, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Rows of each evidence that are shown; all of them are counted and hashed.
const MOST_SHOWN: usize = 20;
/// Rows of each evidence that are read.
const MOST_ROWS: usize = 100_000;
/// Bytes of rows of each evidence after which no more are read.
const MOST_BYTES: usize = 32 << 20;
/// A day in microseconds.
const DAY: i64 = 86_400_000_000;
/// How long the period is when nothing is said, in microseconds.
const PERIOD: i64 = 90 * DAY;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlQuestion {
    /// Of which tenant.
    pub tenant: String,
    /// Which framework; all, when left out.
    #[serde(default)]
    pub framework: Option<String>,
    /// Events from then on; of 90 days, when left out.
    #[serde(default)]
    pub from: Option<When>,
    /// Events before then; now, when left out.
    #[serde(default)]
    pub until: Option<When>,
}

/// How something stands, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is there, and fresh enough.
    Found,
    /// Nothing was found by a question for which that is an answer.
    Nothing,
    /// It is asked for by itself, when somebody needs it.
    OnRequest,
    /// The newest of it is older than it may be.
    Stale,
    /// It is not there.
    Gap,
}

/// What was found of one evidence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// Its id in the map.
    pub id: String,
    /// Whether it must be there.
    pub kind: Kind,
    /// In words.
    pub title: String,
    /// What was asked, filled in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// Why it was not asked, or not answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How many rows were found.
    pub rows: u64,
    /// Whether there are more, which were not read: rows and hash are those of the first.
    pub is_cut: bool,
    /// The newest of them, as far as they say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<String>,
    /// SHA-256 of all rows as lines of JSON, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The first rows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<Value>,
}

/// How a control stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stands {
    /// The control, as the map has it.
    #[serde(flatten)]
    pub control: Control,
    /// The worst of its evidence.
    pub state: State,
    /// Each evidence, by id.
    pub states: BTreeMap<String, State>,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ControlReport {
    /// The question, filled in.
    pub question: ControlQuestion,
    /// In one line.
    pub summary: String,
    /// When it was asked, and by whom.
    pub asked: (String, String),
    /// How each control stands, in the order of the map.
    pub controls: Vec<Stands>,
    /// What was found.
    pub evidence: Vec<Found>,
    /// The heads that it is the answer to.
    pub read: Value,
}

impl QueryState {
    /// How a framework's controls stand for a tenant.
    ///
    /// # Errors
    /// The framework is not in the map, the period is none, or nothing of the tenant may be seen by the caller.
    pub async fn control_report(&self, caller: &Caller, question: ControlQuestion) -> Result<ControlReport, Problem> {
        let tenant = tenant_of(&question.tenant)?;
        let map = self.controls();
        let framework = question.framework.clone();
        if let Some(name) = framework.as_ref().filter(|name| map.of(Some(name)).next().is_none()) {
            let why = format!("the map has no framework {name:?}: it has {}", map.frameworks().join(", "));
            return Err(Problem::new(ProblemKind::Unprocessable, why));
        }
        let now = self.door().now();
        let until = question.until.map_or(now, |until| until.0.min(now));
        let from = question.from.map_or(until.saturating_sub(PERIOD), |from| from.0);
        if from >= until {
            return Err(Problem::new(ProblemKind::Unprocessable, "from must be before until, and before now"));
        }
        // To who may know nothing of the tenant nothing is reported.
        let sees =
            Sees { state: self, caller, tenant: &tenant, opened: self.door().read_all(caller, &tenant, &TABLES)? };
        caller.visit().note("framework", framework.as_deref().unwrap_or("all"));
        let places = places(&tenant, from, until);
        let wanted: BTreeSet<&String> = map.of(framework.as_deref()).flat_map(|control| &control.evidence).collect();
        let (mut found, mut read) = (BTreeMap::new(), BTreeMap::new());
        for (id, evidence) in map.evidence.iter().filter(|(id, _)| wanted.contains(id)) {
            found.insert(id.clone(), self.found(&sees, (id, evidence), &places, &mut read).await?);
        }
        let controls: Vec<Stands> =
            map.of(framework.as_deref()).map(|control| stands(control, &found, until)).collect();
        let question = ControlQuestion { from: Some(When(from)), until: Some(When(until)), ..question };
        Ok(ControlReport {
            summary: summary(&controls),
            question,
            asked: (format_micros(now), caller.principal().to_string()),
            controls,
            evidence: found.into_values().collect(),
            read: heads_json(&read.into_values().collect::<Vec<_>>()),
        })
    }

    async fn found(
        &self,
        sees: &Sees<'_>,
        (id, evidence): (&str, &Evidence),
        places: &BTreeMap<&str, String>,
        read: &mut BTreeMap<(TenantId, &'static str), HeadRead>,
    ) -> Result<Found, Problem> {
        let mut found = Found {
            id: id.into(),
            kind: evidence.kind,
            title: evidence.title.clone(),
            sql: evidence.sql.as_deref().map(|sql| map::filled(sql, places)),
            why: evidence.absent.clone(),
            rows: 0,
            is_cut: false,
            newest: None,
            sha256: None,
            first: vec![],
        };
        let Some(sql) = found.sql.clone() else { return Ok(found) };
        if let Some(why) = sees.hides(&sql)? {
            found.why = Some(why);
            return Ok(found);
        }
        match self.lines(sees.caller, sees.tenant, &sql, read).await {
            Ok((lines, is_cut)) => {
                found.take(&lines);
                found.is_cut = is_cut;
            }
            Err(problem) if problem.kind() == ProblemKind::Internal => return Err(problem),
            Err(problem) => found.why = Some(problem.detail().to_string()),
        }
        Ok(found)
    }

    /// The rows of an answer, as lines of JSON.
    async fn lines(
        &self,
        caller: &Caller,
        tenant: &TenantId,
        sql: &str,
        read: &mut BTreeMap<(TenantId, &'static str), HeadRead>,
    ) -> Result<(Vec<u8>, bool), Problem> {
        let mut answer = self.answer_sql(caller, std::slice::from_ref(tenant), sql).await?;
        read.extend(answer.read.iter().map(|head| ((head.tenant.clone(), head.stream.as_str()), head.clone())));
        let mut writer = Writer::new(Format::Ndjson, &answer.schema, vec![])?;
        let (mut lines, mut left) = (Vec::new(), MOST_ROWS);
        while let Some(batch) = answer.next().await {
            let batch = batch?;
            let some = batch.slice(0, batch.num_rows().min(left));
            lines.extend_from_slice(&writer.write(&some)?);
            left -= some.num_rows();
            if some.num_rows() < batch.num_rows() || lines.len() > MOST_BYTES {
                return Ok((lines, true));
            }
        }
        lines.extend_from_slice(&writer.finish()?);
        Ok((lines, false))
    }
}

/// What the caller sees of a tenant.
struct Sees<'s> {
    state: &'s QueryState,
    caller: &'s Caller,
    tenant: &'s TenantId,
    opened: Vec<Opened>,
}

impl Sees<'_> {
    /// Why a question cannot be answered in full to this caller: what one does not see must not be told as not being there.
    fn hides(&self, sql: &str) -> Result<Option<String>, Problem> {
        let door = self.state.door();
        // What stands in quotes names nothing.
        let names: String = sql.split('\'').step_by(2).collect();
        for stream in TABLES.into_iter().filter(|stream| registry::stands_in(&names, stream.as_str())) {
            let opened = self.opened.iter().find(|one| one.handle.kind() == stream);
            if !door.sees(self.caller, self.tenant, stream) {
                return Ok(Some(format!("{stream} of {} is not granted to you", self.tenant)));
            }
            if opened.is_some_and(|one| !one.sight.is_whole()) {
                return Ok(Some(format!("you see a part of {stream} of {}", self.tenant)));
            }
        }
        for table in registry::named_in(&names) {
            let is_platforms = matches!(table, Table::Jobs | Table::LedgerKeys);
            let of = if is_platforms { tenant_of(PLATFORM)? } else { self.tenant.clone() };
            if !door.is_granted(self.caller, table.action(), &of, StreamKind::Control) {
                return Ok(Some(format!(
                    "{}: {} on {of} is not granted to you",
                    table.name(),
                    table.action().as_str()
                )));
            }
        }
        Ok(None)
    }
}

fn places(tenant: &TenantId, from: i64, until: i64) -> BTreeMap<&'static str, String> {
    let (since, end) = (moment(from), moment(until));
    BTreeMap::from([
        ("tenant", literal(tenant.as_str())),
        ("quoted", literal(&json!(tenant.as_str()).to_string())),
        ("period", format!("occurred_at >= {since} AND occurred_at < {end}")),
        ("since", since),
        ("until", end),
    ])
}

impl Found {
    fn take(&mut self, lines: &[u8]) {
        let rows: Vec<&[u8]> = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        self.rows = rows.len() as u64;
        self.sha256 = Some(Hash::of(lines).to_hex());
        let parsed = rows.iter().filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        let mut newest: Option<i64> = None;
        for (at, row) in parsed.enumerate() {
            newest = newest.max(row["newest"].as_str().and_then(|time| parse_micros(time).ok()));
            if at < MOST_SHOWN {
                self.first.push(row);
            }
        }
        self.newest = newest.map(format_micros);
    }

    /// How it stands for a control that takes it for fresh for so many days before a moment.
    fn state(&self, until: i64, days: u32) -> State {
        let oldest = until.saturating_sub(i64::from(days).saturating_mul(DAY));
        match (&self.sql, &self.why, self.rows) {
            (None, _, _) if self.kind == Kind::Query => State::OnRequest,
            (None, _, _) | (Some(_), Some(_), _) => State::Gap,
            (Some(_), None, 0) if self.kind == Kind::Query => State::Nothing,
            (Some(_), None, 0) => State::Gap,
            (Some(_), None, _) => {
                let newest = self.newest.as_deref().and_then(|time| parse_micros(time).ok());
                if newest.is_some_and(|newest| newest < oldest) { State::Stale } else { State::Found }
            }
        }
    }
}

fn stands(control: &Control, found: &BTreeMap<String, Found>, until: i64) -> Stands {
    let state = |id: &String| found.get(id).map_or(State::Gap, |found| found.state(until, control.days));
    let states: BTreeMap<String, State> = control.evidence.iter().map(|id| (id.clone(), state(id))).collect();
    let worst = states.values().max().copied().unwrap_or(State::Gap);
    Stands { control: control.clone(), state: worst, states }
}

fn summary(controls: &[Stands]) -> String {
    let count = |is: &dyn Fn(State) -> bool| controls.iter().filter(|one| is(one.state)).count();
    let (gaps, stale) = (count(&|state| state == State::Gap), count(&|state| state == State::Stale));
    let rest = controls.len() - gaps - stale;
    format!("of {} controls {gaps} have a gap, {stale} something stale, {rest} neither", controls.len())
}

/// The report as CSV: a line for each control and evidence.
///
/// # Errors
/// None today; the writer's functions answer one.
pub(crate) fn to_csv(report: &ControlReport) -> Result<String, Problem> {
    let failed = |_| Problem::new(ProblemKind::Internal, "a report cannot be written as CSV");
    let mut out = csv::Writer::from_writer(Vec::new());
    let heads =
        ["framework", "control", "asks", "owner", "kind", "id", "title", "state", "rows", "newest", "days", "sha256"];
    out.write_record(heads).map_err(failed)?;
    let found: BTreeMap<&str, &Found> = report.evidence.iter().map(|found| (found.id.as_str(), found)).collect();
    for one in &report.controls {
        for (id, state) in &one.states {
            let Some(of) = found.get(id.as_str()) else { continue };
            let word = |value: Value| value.as_str().unwrap_or_default().to_string();
            let control = &one.control;
            out.write_record([
                control.framework.as_str(),
                &control.control,
                &control.asks,
                &control.owner,
                &word(json!(of.kind)),
                id,
                &of.title,
                &word(json!(state)),
                &of.rows.to_string(),
                of.newest.as_deref().unwrap_or_default(),
                &control.days.to_string(),
                of.sha256.as_deref().unwrap_or_default(),
            ])
            .map_err(failed)?;
        }
    }
    let bytes =
        out.into_inner().map_err(|_| Problem::new(ProblemKind::Internal, "a report cannot be written as CSV"))?;
    String::from_utf8(bytes).map_err(|_| Problem::new(ProblemKind::Internal, "a report that is no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(kind: Kind, sql: bool, why: bool, rows: &str) -> Found {
        let mut found = Found {
            id: "X".into(),
            kind,
            title: "t".into(),
            sql: sql.then(|| "SELECT".into()),
            why: why.then(|| "because".into()),
            rows: 0,
            is_cut: false,
            newest: None,
            sha256: None,
            first: vec![],
        };
        if sql && !why {
            found.take(rows.as_bytes());
        }
        found
    }

    #[test]
    fn nothing_is_said_to_be_there_that_was_not_found() {
        let until = parse_micros("2026-11-29T00:00:00Z").unwrap();
        let row = |day: &str| format!("{{\"a\":1,\"newest\":\"2026-11-{day}T00:00:00.000000Z\"}}\n");
        let old_and_new = row("01") + &row("20");
        for (kind, sql, why, rows, state) in [
            (Kind::Query, true, false, old_and_new.as_str(), State::Found),
            (Kind::Artefact, true, false, &old_and_new, State::Found),
            (Kind::Query, true, false, &row("01"), State::Stale),
            (Kind::Artefact, true, false, "{\"a\":1}\n", State::Found),
            (Kind::Query, true, false, "", State::Nothing),
            (Kind::Artefact, true, false, "", State::Gap),
            (Kind::Query, true, true, "", State::Gap),
            (Kind::Query, false, true, "", State::OnRequest),
            (Kind::Artefact, false, true, "", State::Gap),
        ] {
            assert_eq!(found(kind, sql, why, rows).state(until, 10), state, "{kind:?} {sql} {why} {rows}");
        }
    }

    #[test]
    fn a_control_stands_as_the_worst_of_its_evidence() {
        let control = |evidence: &[&str]| Control {
            framework: "F".into(),
            control: "1".into(),
            asks: "a".into(),
            evidence: evidence.iter().map(|id| id.to_string()).collect(),
            days: 1,
            owner: "o".into(),
        };
        let there = found(Kind::Query, true, false, "{}\n");
        let all = BTreeMap::from([
            ("A".to_string(), there),
            ("B".to_string(), found(Kind::Query, true, false, "")),
            ("C".to_string(), found(Kind::Artefact, true, false, "")),
        ]);
        for (evidence, state) in [
            (&["A"][..], State::Found),
            (&["A", "B"], State::Nothing),
            (&["A", "C", "B"], State::Gap),
            (&["D"], State::Gap),
        ] {
            assert_eq!(stands(&control(evidence), &all, 0).state, state, "{evidence:?}");
        }
    }

    #[test]
    fn all_rows_are_counted_and_hashed_and_some_are_shown() {
        let rows: String = (0..MOST_SHOWN + 5).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        let found = found(Kind::Query, true, false, &rows);
        assert_eq!((found.rows as usize, found.first.len()), (MOST_SHOWN + 5, MOST_SHOWN));
        assert_eq!(found.sha256, Some(Hash::of(rows.as_bytes()).to_hex()));
    }
}
