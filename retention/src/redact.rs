//! Redactions: what a data subject asked to have erased, found, shown, asked for by one and agreed to by another.
//!
//! A plan says which sections of which entries would go, and what stays and why. It is asked for by its hash, so what is
//! agreed to is what was looked at; whoever agrees has it judged again. The run itself is that of every erasure
//! ([`crate::run`]). Not here: finding a person ([`crate::subjects`]).
//!
//! Invariants: a plan and all that comes of it name positions, never identifiers; what is held, and what a policy keeps in
//! its original, stays whole.

use crate::due::rows_of;
use crate::judge::{Judge, Refusal};
use crate::run::{Report, Retention, run_in};
use crate::subjects::{Asked, SubjectQuestion, decoding, facts_of};
use access::registry::MOST_RANGES;
use access::registry::change::{Change, RedactedRows, RedactionApproval, RedactionFact};
use access::registry::names::FactId;
use access::{Action, Caller, Problem, ProblemKind};
use ledger::field::{Encoded, Field, Fields, Kind, Section};
use ledger::sections::Sections;
use ledger::time::format_micros;
use ledger::{Draft, Hash, StreamKind};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Bytes of one export: beyond it the time is to be narrowed.
const EXPORT_BYTES: usize = 64 << 20;

/// What would go, and what stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RedactionPlan {
    /// Of which tenant.
    pub tenant: String,
    /// In how many entries the person is named.
    pub found: u64,
    /// How many entries lose something.
    pub entries: u64,
    /// What they lose.
    pub goes: Vec<RedactedRows>,
    /// Entries that name the person and stay whole, because of a hold.
    pub held: BTreeMap<String, u64>,
    /// Entries that do and stay whole, because a policy keeps the original.
    pub kept: BTreeMap<String, u64>,
    /// Whether there is more than one redaction can name: the rest is found again once this one is carried out.
    pub is_part: bool,
}

impl RedactionPlan {
    /// SHA-256 of what it decides.
    pub fn sha256(&self) -> Hash {
        Hash::of(json!([self.tenant, self.goes]).to_string().as_bytes())
    }
}

/// Sections of entries, as they are found one after the other.
#[derive(Default)]
struct Found {
    rows: BTreeMap<(StreamKind, Sections), Vec<(u64, u64)>>,
    ranges: usize,
}

impl Found {
    /// Takes an entry; not when that would be a range too many.
    fn take(&mut self, stream: StreamKind, seq: u64, goes: Sections) -> bool {
        let ranges = self.rows.entry((stream, goes)).or_default();
        match ranges.last_mut().filter(|last| last.1 + 1 == seq) {
            Some(last) => last.1 = seq,
            None if self.ranges >= MOST_RANGES => return false,
            None => {
                self.ranges += 1;
                ranges.push((seq, seq));
            }
        }
        true
    }

    fn goes(self) -> Vec<RedactedRows> {
        let of = |((stream, sections), ranges): ((StreamKind, Sections), Vec<(u64, u64)>)| {
            let sections = sections.iter().map(|section| section.as_str().to_string()).collect();
            RedactedRows { stream, sections, ranges }
        };
        self.rows.into_iter().filter(|(_, ranges)| !ranges.is_empty()).map(of).collect()
    }
}

/// What goes of an entry in which these sections name the person: with who did it, from where; and what else was said.
pub(crate) fn along(named: Sections) -> Sections {
    let origin = if named.contains(Section::Actor) { Section::Origin.into() } else { Sections::default() };
    named | origin | Section::Details.into()
}

impl Retention {
    /// Where a person is named, what would go of it, and what stays and why. Nothing is changed.
    ///
    /// # Errors
    /// The question is malformed or not granted, or a store does not answer.
    pub async fn plan_redaction(&self, caller: &Caller, question: &SubjectQuestion) -> Result<RedactionPlan, Problem> {
        let wanted = wanted(&question.sections)?;
        let asked = self.ask(caller, question).await?;
        self.plan_asked(&asked, wanted)
    }

    /// What would go of what was asked for.
    ///
    /// # Errors
    /// A store does not answer.
    pub(crate) fn plan_asked(&self, asked: &Asked, wanted: Option<Sections>) -> Result<RedactionPlan, Problem> {
        let mut plan = RedactionPlan {
            tenant: asked.tenant.to_string(),
            found: 0,
            entries: 0,
            goes: vec![],
            held: BTreeMap::new(),
            kept: BTreeMap::new(),
            is_part: false,
        };
        let mut found = Found::default();
        for stream in &asked.streams {
            let judge = Judge::of(&self.door.book().read(), &asked.tenant, stream.kind(), self.door.now());
            asked.look(stream, |seq, draft, named| {
                plan.found += 1;
                let goes = filled(draft).and(wanted.unwrap_or_else(|| along(named)));
                match judge.refuses(&facts_of(seq, draft)) {
                    Some(Refusal::Hold(id)) => *plan.held.entry(id.to_string()).or_default() += 1,
                    Some(Refusal::Policy(name)) => *plan.kept.entry(name.to_string()).or_default() += 1,
                    None if goes.is_empty() => {}
                    None if found.take(stream.kind(), seq, goes) => plan.entries += 1,
                    None => plan.is_part = true,
                }
                Ok(())
            })?;
        }
        plan.goes = found.goes();
        Ok(plan)
    }

    /// All entries in which a person is named, one JSON object a line: the columns of SQL by name.
    ///
    /// # Errors
    /// As [`Retention::plan_redaction`]; more than one answer may hold.
    pub async fn export_subject(&self, caller: &Caller, question: &SubjectQuestion) -> Result<(u64, Vec<u8>), Problem> {
        if !question.sections.is_empty() {
            let why = "sections: all of an entry is exported; leave it out";
            return Err(Problem::new(ProblemKind::Unprocessable, why));
        }
        let asked = self.ask(caller, question).await?;
        let (mut lines, mut count) = (Vec::new(), 0);
        for stream in &asked.streams {
            asked.look(stream, |seq, draft, _| {
                count += 1;
                put_line(&mut lines, seq, draft);
                if lines.len() > EXPORT_BYTES {
                    let why = "more than 64 MiB: narrow it by streams, or by from and until";
                    return Err(Problem::new(ProblemKind::Unprocessable, why));
                }
                Ok(())
            })?;
        }
        Ok((count, lines))
    }

    /// Asks for a redaction that was planned and looked at; answers its id.
    ///
    /// # Errors
    /// It would be another one now, there is nothing to redact, or asking is not granted.
    pub async fn ask_redaction(
        &self,
        caller: &Caller,
        question: &SubjectQuestion,
        (plan, basis, reason): (&str, &str, &str),
    ) -> Result<FactId, Problem> {
        let now = self.plan_redaction(caller, question).await?;
        if now.sha256().to_hex() != plan {
            let why = "the plan is no longer what it was: plan again, and look at it again";
            return Err(Problem::new(ProblemKind::Conflict, why));
        }
        if now.entries == 0 {
            let why = "nothing is to be redacted: nothing was found, or all of it stays";
            return Err(Problem::new(ProblemKind::Unprocessable, why));
        }
        let fact = RedactionFact {
            redaction: None,
            tenant: now.tenant.parse().map_err(|_| Problem::new(ProblemKind::Internal, "a tenant's name was lost"))?,
            plan: plan.into(),
            goes: now.goes,
            entries: now.entries,
            basis: basis.into(),
            reason: reason.into(),
            by: None,
        };
        let made = self.door.change(caller, vec![Change::AskRedaction(Box::new(fact))]).await?;
        let id = match made.first().map(|made| &made.change) {
            Some(Change::AskRedaction(fact)) => fact.redaction.clone(),
            _ => None,
        };
        id.ok_or_else(|| Problem::new(ProblemKind::Internal, "a request that was recorded is not shown"))
    }

    /// Agrees to a redaction and carries it out.
    ///
    /// # Errors
    /// Something of it is held or kept now, it is over already, or agreeing is not granted.
    pub async fn approve_redaction(&self, caller: &Caller, id: &FactId, reason: &str) -> Result<Report, Problem> {
        let fact = self.redaction(caller, id)?;
        let version = self.door.book().read().retention_version();
        self.judge_again(&fact)?;
        let act = RedactionApproval { redaction: id.clone(), run: None, version, reason: reason.into() };
        let made = self.door.change(caller, vec![Change::ApproveRedaction(act)]).await?;
        self.carry_out_apart(&run_in(&made)?, None, caller.visit().progress()).await
    }

    /// What is asked for.
    ///
    /// # Errors
    /// There is none, or seeing it is not granted.
    pub fn redaction(&self, caller: &Caller, id: &FactId) -> Result<RedactionFact, Problem> {
        let found = self.door.book().read().redaction(id).map(|found| found.fact.clone());
        let nothing =
            || Problem::new(ProblemKind::NotFound, format!("there is no redaction {id}, or it is not yours to see"));
        let fact = found.ok_or_else(nothing)?;
        self.must_may(caller, Action::ReadRetention, std::slice::from_ref(&fact.tenant)).map_err(|_| nothing())?;
        Ok(fact)
    }

    /// Whether policies and holds of now let all of it go; what they do not is named.
    fn judge_again(&self, fact: &RedactionFact) -> Result<(), Problem> {
        for ((tenant, stream), rows) in rows_of(fact) {
            let judge = Judge::of(&self.door.book().read(), &tenant, stream, self.door.now());
            let handle = self.door.book().store_of(&tenant)?.reader(&tenant, stream)?;
            let from = rows.first().map_or(0, |(span, _)| span.start);
            decoding(handle.entries(from, |seq, draft| {
                let at = rows.partition_point(|(span, _)| span.end <= seq);
                if rows.get(at).is_none_or(|(span, _)| seq < span.start) {
                    return Ok(());
                }
                let why = match judge.refuses(&facts_of(seq, draft)) {
                    Some(Refusal::Hold(id)) => {
                        format!("entry {seq} of {tenant}/{stream} is held now by {id}: plan again")
                    }
                    Some(Refusal::Policy(name)) => {
                        format!("policy {name} keeps entry {seq} of {tenant}/{stream} in its original: plan again")
                    }
                    None => return Ok(()),
                };
                Err(Problem::new(ProblemKind::Conflict, why))
            }))?;
        }
        Ok(())
    }
}

fn wanted(names: &[String]) -> Result<Option<Sections>, Problem> {
    if names.is_empty() {
        return Ok(None);
    }
    let sections = access::registry::sections_of(names);
    let why = "sections must be of actor, subject, scope, origin, details; the skeleton is never redacted";
    sections.map(Some).ok_or_else(|| Problem::new(ProblemKind::Unprocessable, why))
}

fn filled(draft: &Draft) -> Sections {
    Section::COMMITTED.into_iter().filter(|section| !draft.section(*section).is_empty()).collect()
}

/// One entry as a line: fields by the names of columns, attributes as they are.
fn put_line(out: &mut Vec<u8>, seq: u64, draft: &Draft) {
    let mut line = Map::new();
    line.insert("seq".into(), seq.into());
    line.insert(Field::RecordedAt.name().into(), format_micros(draft.recorded_at()).into());
    for field in Fields::of(draft).flatten() {
        line.insert(field.field.name().into(), shown(&field));
    }
    out.extend_from_slice(Value::Object(line).to_string().as_bytes());
    out.push(b'\n');
}

fn shown(field: &Encoded<'_>) -> Value {
    match field.field.kind() {
        _ if field.field == Field::OccurredAt => format_micros(field.int()).into(),
        Kind::Int => field.int().into(),
        Kind::Bytes => field.value.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
        Kind::Text => field.text().into(),
    }
}
