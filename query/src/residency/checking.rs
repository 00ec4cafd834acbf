//! The job that holds where every tenant's data is against its residency policy.
//!
//! Not here: what a report says ([`super`]). Invariant: a tenant that could not be looked at is no tenant whose data is where
//! it may be.

use super::{STREAMS, Violation};
use crate::state::QueryState;
use crate::table::Seen;
use access::Problem;
use access::job::{Found, Job, Outcome, Running, Work};
use ledger::TenantId;
use serde_json::json;

/// Checks residency.
pub struct Checking(QueryState);

impl Checking {
    /// Of the tenants behind this state's door.
    pub fn new(state: QueryState) -> Self {
        Self(state)
    }

    async fn check(&self, running: &Running) -> Result<Outcome, Problem> {
        let mut tenants: Vec<TenantId> = {
            let registry = self.0.door().book().read();
            let has_policy = |tenant: &&TenantId| registry.residency(tenant).is_some();
            registry.tenants().map(|(tenant, _)| tenant).filter(has_policy).cloned().collect()
        };
        tenants.sort();
        let (mut violations, mut unread) = (0, None);
        running.progress().next("where data is", tenants.len(), "tenants");
        for tenant in &tenants {
            match self.check_one(running, tenant).await {
                Ok(found) => violations += found,
                Err(problem) => {
                    tracing::warn!(%tenant, detail = problem.detail(), "where a tenant's data is cannot be told");
                    unread = unread.or(Some((tenant, problem)));
                }
            }
            running.progress().did(1);
        }
        match unread {
            Some((tenant, problem)) => {
                let why = format!("where the data of {tenant} is cannot be told: {}", problem.detail());
                Err(Problem::new(problem.kind(), why))
            }
            None => Ok(Outcome::of(json!({"tenants": tenants.len(), "violations": violations}))),
        }
    }

    async fn check_one(&self, running: &Running, tenant: &TenantId) -> Result<u64, Problem> {
        let store = self.0.door().book().store_of(tenant)?;
        // Who has nothing yet has nothing in the wrong place.
        let streams: Vec<_> = STREAMS.into_iter().filter_map(|stream| store.reader(tenant, stream).ok()).collect();
        let mut taken = Vec::with_capacity(streams.len());
        for stream in &streams {
            taken.push(Seen::from(stream.snapshot().await?));
        }
        if taken.is_empty() {
            return Ok(0);
        }
        let report = self.0.residency_of(tenant, &streams, taken).await?;
        for Violation { kind, what, entry } in &report.violations {
            let found = Found {
                tenant: Some(tenant.clone()),
                stream: entry.as_ref().and_then(|(stream, _)| stream.parse().ok()),
                entries: entry.as_ref().map(|(_, seq)| (*seq, *seq)),
                what: format!("{kind}: {what}"),
                advice: format!("the whole report: `piperoll residency {tenant}`"),
                ..Found::default()
            };
            running.found(found).await?;
        }
        Ok(report.violations.len() as u64)
    }
}

impl Job for Checking {
    fn name(&self) -> &'static str {
        "residency"
    }

    fn what(&self) -> &'static str {
        "holds where every tenant's data is against its residency policy"
    }

    fn schedule(&self) -> Option<&'static str> {
        Some("0 5 * * *")
    }

    fn run<'j>(&'j self, running: &'j Running) -> Work<'j> {
        Box::pin(self.check(running))
    }
}
