//! Redactions as the registry keeps them: asked for by one, agreed to by another, then a run.
//!
//! Not here: which entries a subject is found in (`retention`), taking sections away (`ledger_store`). Invariant: nobody
//! agrees to what they asked for themselves, and nothing is agreed to twice.

use super::change::{Change, FactAct, PurgeFact, RedactedRows, RedactionApproval, RedactionFact};
use super::check::{Checked, conflict, reason, require, text, wrong};
use super::names::{FactId, When};
use super::rows::{Columns, Row, done};
use super::{Registry, Run, Stamp};
use ledger::name::StreamKind;
use ledger::sections::Sections;
use serde_json::json;

/// Ranges that one redaction names: some 24 bytes each, in an entry of 192 KiB.
pub const MOST_RANGES: usize = 4_000;
/// The columns of redactions.
pub(super) const COLUMNS: &str = "redaction tenant state entries goes plan basis reason asked_at asked_by approved_at \
     approved_by approved_because refused_at refused_by refused_because run";

/// A redaction, with all that became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redaction {
    /// What is asked for.
    pub fact: RedactionFact,
    /// When, and by whom.
    pub asked: Stamp,
    /// Who agreed, and the run.
    pub approved: Option<(Stamp, FactId)>,
    /// Who did not.
    pub refused: Option<Stamp>,
}

impl Redaction {
    fn state(&self) -> &'static str {
        match (&self.approved, &self.refused) {
            (Some(_), _) => "approved",
            (None, Some(_)) => "refused",
            (None, None) => "asked",
        }
    }
}

/// The sections with these names; none when one is no name of such.
pub fn sections_of(names: &[String]) -> Option<Sections> {
    names.iter().try_fold(Sections::default(), |all, name| Some(all | Sections::named(name)?))
}

fn check_rows(rows: &RedactedRows) -> Checked {
    require(rows.stream != StreamKind::Control, || wrong("control is the registry itself: it is kept whole"))?;
    let sections = sections_of(&rows.sections).filter(|sections| !sections.is_empty());
    require(sections.is_some(), || wrong("sections must be of actor, subject, scope, origin, details"))?;
    let ascend = rows.ranges.iter().all(|(first, last)| first <= last)
        && rows.ranges.windows(2).all(|pair| pair[0].1 < pair[1].0);
    require(ascend && !rows.ranges.is_empty(), || wrong("ranges must ascend and not overlap"))
}

impl Registry {
    /// The redactions, by id.
    pub fn redaction(&self, id: &FactId) -> Option<&Redaction> {
        self.redactions.get(id)
    }

    pub(super) fn check_redaction(&self, change: &Change) -> Checked {
        match change {
            Change::AskRedaction(fact) => {
                reason(&fact.reason)?;
                require(!fact.basis.trim().is_empty(), || wrong("basis is required: the law behind it"))?;
                text("basis", &fact.basis)?;
                self.need_tenant(&fact.tenant)?;
                let is_hash = ledger::Hash::from_hex(&fact.plan).is_some();
                require(is_hash, || wrong("plan must be the SHA-256 of a plan, in hexadecimal"))?;
                fact.goes.iter().try_for_each(check_rows)?;
                let ranges: usize = fact.goes.iter().map(|rows| rows.ranges.len()).sum();
                require((1..=MOST_RANGES).contains(&ranges), || wrong(format!("ranges must be 1 to {MOST_RANGES}")))
            }
            Change::ApproveRedaction(act) => {
                reason(&act.reason)?;
                self.must_be_open(&act.redaction)?;
                self.no_run_is_open()?;
                require(act.version == self.retention_version(), || {
                    conflict("a policy or hold was changed a moment ago: look at it again")
                })
            }
            Change::RefuseRedaction(act) => {
                reason(&act.reason)?;
                self.must_be_open(&act.id)
            }
            _ => Err(wrong("this is no redaction")),
        }
    }

    fn must_be_open(&self, id: &FactId) -> Checked {
        let found = self.redactions.get(id).ok_or_else(|| wrong(format!("there is no redaction {id}")))?;
        require(found.state() == "asked", || conflict(format!("it is {} already", found.state())))
    }

    pub(super) fn apply_to_redactions(&mut self, stamp: Stamp, change: &Change) {
        match change {
            Change::AskRedaction(fact) => {
                let Some(id) = fact.redaction.clone() else { return };
                let asked = Stamp { reason: fact.reason.clone(), ..stamp };
                let (approved, refused) = (None, None);
                self.redactions.insert(id, Redaction { fact: fact.as_ref().clone(), asked, approved, refused });
            }
            Change::ApproveRedaction(RedactionApproval { redaction, run, version, reason }) => {
                let (Some(found), Some(run)) = (self.redactions.get_mut(redaction), run.clone()) else { return };
                let fact = PurgeFact {
                    run: Some(run.clone()),
                    as_of: When(stamp.at),
                    version: *version,
                    plan: found.fact.plan.clone(),
                    tenants: vec![found.fact.tenant.clone()],
                    entries: found.fact.entries,
                    by: Some(stamp.by.clone()),
                };
                let (certified, ended, erased) = Default::default();
                let redaction = Some(redaction.clone());
                self.runs.insert(run.clone(), Run { fact, redaction, begun: stamp.clone(), certified, ended, erased });
                found.approved.get_or_insert((Stamp { reason: reason.clone(), ..stamp }, run));
            }
            Change::RefuseRedaction(FactAct { id, reason }) => {
                if let Some(found) = self.redactions.get_mut(id) {
                    found.refused.get_or_insert(Stamp { reason: reason.clone(), ..stamp });
                }
            }
            _ => {}
        }
    }

    pub(super) fn redaction_rows(&self) -> Vec<Row> {
        self.redactions.iter().map(|(id, redaction)| of_redaction(id, redaction)).collect()
    }
}

fn of_redaction(id: &FactId, redaction: &Redaction) -> Row {
    let (fact, mut columns) = (&redaction.fact, Columns::new());
    let goes = fact
        .goes
        .iter()
        .map(|rows| json!({"stream": rows.stream.as_str(), "sections": rows.sections, "ranges": rows.ranges.len()}));
    columns.insert("redaction".into(), id.as_str().into());
    columns.insert("tenant".into(), fact.tenant.as_str().into());
    columns.insert("state".into(), redaction.state().into());
    columns.insert("entries".into(), fact.entries.into());
    columns.insert("goes".into(), goes.collect());
    columns.insert("plan".into(), fact.plan.as_str().into());
    columns.insert("basis".into(), fact.basis.as_str().into());
    columns.insert("reason".into(), fact.reason.as_str().into());
    done(&mut columns, "asked", &redaction.asked);
    if let Some((stamp, run)) = &redaction.approved {
        done(&mut columns, "approved", stamp);
        columns.insert("approved_because".into(), stamp.reason.as_str().into());
        columns.insert("run".into(), run.as_str().into());
    }
    if let Some(stamp) = &redaction.refused {
        done(&mut columns, "refused", stamp);
        columns.insert("refused_because".into(), stamp.reason.as_str().into());
    }
    Row { tenants: vec![fact.tenant.clone()], columns }
}
