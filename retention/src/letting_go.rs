//! The job that lets go what is due of all tenants.
//!
//! Not here: planning and carrying out ([`crate::run`]), going on with what a stop left open ([`crate::keeper`]).
//! Invariant: nothing is planned while a run is open: what it still has to do would be due a second time.

use crate::run::{Report, Retention};
use access::job::{Found, Job, Outcome, Running, Work};
use access::{Action, Problem, ProblemKind};
use serde_json::json;

/// Lets go what is due.
pub struct LettingGo(Retention);

impl LettingGo {
    /// Of the tenants behind retention's door.
    pub fn new(retention: Retention) -> Self {
        Self(retention)
    }

    async fn let_go(&self, running: &Running) -> Result<Outcome, Problem> {
        let retention = &self.0;
        let open = {
            let registry = retention.door.book().read();
            registry.runs().find(|(_, run)| run.ended.is_none()).map(|(id, _)| id.clone())
        };
        if let Some(id) = open {
            match retention.carry_out(&id, None, running.progress()).await {
                Ok(report) => came_to_its_end(&report)?,
                // Whoever was at it came to its end meanwhile.
                Err(problem) if problem.kind() == ProblemKind::Conflict => {}
                Err(problem) => return Err(problem),
            }
        }
        let as_of = retention.door.now();
        let plan = retention.plan_at(as_of, &[], running.progress()).await?;
        for (stream, why) in &plan.unread {
            let what = format!("what is due of {stream} cannot be told, and nothing of it goes: {why}");
            let advice = "the service's own log says which object; `piperoll fsck` says what to do".into();
            running.found(Found { what, advice, ..Found::default() }).await?;
        }
        let (held, kept) = (plan.held, plan.kept);
        if plan.entries == 0 {
            return Ok(Outcome::of(json!({"entries": 0, "streams": 0, "held": held, "kept": kept})));
        }
        let report = retention.carry_out_due(as_of, &plan, running.progress()).await?;
        came_to_its_end(&report)?;
        let (entries, streams) = (report.entries, report.streams.len());
        Ok(Outcome::of(json!({"entries": entries, "streams": streams, "held": held, "kept": kept, "run": report.run})))
    }
}

fn came_to_its_end(report: &Report) -> Result<(), Problem> {
    match report.outcome.as_str() {
        "done" | "nothing to do" => Ok(()),
        outcome => {
            let run = report.run.as_deref().unwrap_or_default();
            let why = format!("run {run}: {outcome}, {} streams could not be purged", report.failed.len());
            Err(Problem::new(ProblemKind::Unavailable, why))
        }
    }
}

impl Job for LettingGo {
    fn name(&self) -> &'static str {
        "retention"
    }

    fn what(&self) -> &'static str {
        "lets go what policies let go of all tenants"
    }

    /// No default deletes anything.
    fn schedule(&self) -> Option<&'static str> {
        None
    }

    fn needs(&self) -> Option<Action> {
        Some(Action::RunRetention)
    }

    fn run<'j>(&'j self, running: &'j Running) -> Work<'j> {
        Box::pin(self.let_go(running))
    }
}
