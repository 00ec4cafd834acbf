//! Planning over all streams that are asked about: several threads, since it is decoding.
//!
//! Not here: what goes of one stream ([`crate::plan`]), carrying out ([`crate::run`]). Invariant: a stream that cannot be read
//! is said to be so, and nothing of it goes.

use crate::due::Named;
use crate::judge::Judge;
use crate::plan::{Plan, StreamPlan, plan_stream};
use crate::run::{Retention, for_callers};
use access::{Problem, Progress};
use ledger::TenantId;
use ledger_store::StoreError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads that plan: half of a large machine's cores would still leave requests the rest.
const THREADS: usize = 4;

impl Retention {
    /// The streams of these tenants, or of all.
    pub(crate) fn streams(&self, tenants: &[TenantId]) -> Vec<Named> {
        let mut streams = self.door.kept_streams();
        streams.retain(|(tenant, _)| tenants.is_empty() || tenants.contains(tenant));
        streams
    }

    /// What goes and stays of all streams of these tenants, or of all tenants, at a moment.
    pub(crate) async fn plan_at(&self, as_of: i64, tenants: &[TenantId], progress: &Progress) -> Result<Plan, Problem> {
        let streams = self.streams(tenants);
        let (version, judges) = self.judges(&streams, as_of);
        let (mut plans, mut unread) = (Vec::new(), Vec::new());
        progress.next("planning", streams.len(), "streams");
        let planned = self.plan_each(streams.iter().cloned().zip(judges).collect(), progress).await;
        for (one, planned) in streams.iter().zip(planned) {
            match planned {
                Ok(planned) => plans.extend(planned),
                Err(error) => {
                    tracing::warn!(tenant = %one.0, stream = %one.1, "what is due of a stream cannot be told");
                    unread.push((format!("{}/{}", one.0, one.1), for_callers(error)));
                }
            }
        }
        Ok(Plan { unread, ..Plan::of(as_of, version, tenants, plans) })
    }

    pub(crate) fn judges(&self, streams: &[Named], as_of: i64) -> (u64, Vec<Judge>) {
        let registry = self.door.book().read();
        let judges = streams.iter().map(|(tenant, stream)| Judge::of(&registry, tenant, *stream, as_of)).collect();
        (registry.retention_version(), judges)
    }

    /// What goes and stays of several streams, in their order.
    pub(crate) async fn plan_each(
        &self,
        streams: Vec<(Named, Judge)>,
        progress: &Progress,
    ) -> Vec<Result<Option<StreamPlan>, StoreError>> {
        let mut plans: Vec<_> = streams.iter().map(|_| Err(StoreError::Stopping)).collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
        let (streams, next) = (Arc::new(streams), Arc::new(AtomicUsize::new(0)));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..threads {
            let (retention, streams, next) = (self.clone(), Arc::clone(&streams), Arc::clone(&next));
            let progress = progress.clone();
            tasks.spawn(async move {
                let mut done = Vec::new();
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((one, judge)) = streams.get(at) else { return done };
                    done.push((at, retention.plan_one(one, judge).await));
                    progress.did(1);
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            for (at, plan) in done.into_iter().flatten() {
                plans[at] = plan;
            }
        }
        plans
    }

    async fn plan_one(&self, (tenant, stream): &Named, judge: &Judge) -> Result<Option<StreamPlan>, StoreError> {
        if judge.due_before().is_none() {
            return Ok(None);
        }
        let handle = self.door.book().store_of(tenant)?.reader(tenant, *stream)?;
        plan_stream(&handle, judge).await
    }
}
