//! From a question to snapshots: which tenants can be looked at, and why not the others.
//!
//! Not here: what is counted ([`super::gather`]). Invariant: each stream comes from the door; of a tenant that the caller
//! may not know of nothing is said, not even that it was left out.

use super::compare::{CompareQuestion, Comparison, compare};
use super::question::{HeadAt, Misasked, ScopeQuestion};
use super::verdict::{ScopeAnswer, Unexamined};
use super::{Around, Cost, answer};
use crate::error::QueryError;
use crate::limits::Exceeded;
use crate::state::{QueryState, SNAPSHOTS_AT_ONCE, seen};
use crate::table::Seen;
use access::registry::PLATFORM;
use access::{Asking, Caller, Opened, Problem, ProblemKind};
use futures::{StreamExt, TryStreamExt};
use ledger::{Hash, StreamKind, TenantId};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Streams that are looked at: the question's, and who looked.
const STREAMS: [StreamKind; 3] = [StreamKind::Audit, StreamKind::Telemetry, StreamKind::Access];

/// Tenants that are looked at.
pub(crate) struct Reached {
    pub opened: Vec<Opened>,
    pub examined: BTreeSet<TenantId>,
    pub not_examined: Vec<Unexamined>,
    /// Their places in the quotas.
    pub asking: Vec<Asking>,
}

impl QueryState {
    /// The scope of an incident.
    ///
    /// # Errors
    /// The question is not well asked, nothing of it is granted to the caller, or see [`crate::QueryError`].
    pub async fn scope(&self, caller: &Caller, question: ScopeQuestion) -> Result<(ScopeAnswer, Cost), Problem> {
        let mut question = question.check()?;
        if !question.heads.is_empty() && question.subtree.is_some() {
            let why = "with heads, name the tenants: ask the question of the answer that the heads are of";
            return Err(Misasked(why.into()).into());
        }
        // Tenants and heads are left out: what is put on record of one tenant names no other.
        let noted = json!({"where": question.dimensions, "since": question.since, "until": question.until,
            "streams": question.streams});
        caller.visit().note("question", noted);
        let reached = self.reach(caller, question.named()?, question.subtree.take(), &STREAMS)?;
        question.tenants = reached.examined.iter().map(ToString::to_string).collect();
        let is_asked = reached.examined.iter().any(|tenant| tenant.as_str() == PLATFORM);
        let platform = if is_asked { None } else { self.releases(caller)? };
        let around =
            Around { in_part: self.in_part(caller, &question, &reached.examined), above: self.above(&reached) };
        let heads = std::mem::take(&mut question.heads);
        let seen = snapshots(reached.opened, &heads).await?;
        let platform = snapshots(platform.into_iter().collect(), &heads).await?.pop();
        let is_there = |head: &&HeadAt| {
            let is_its = |seen: &Seen| {
                seen.snapshot.tenant.as_str() == head.tenant && seen.snapshot.kind.as_str() == head.stream
            };
            seen.iter().chain(&platform).any(is_its)
        };
        if let Some(head) = heads.iter().filter(|head| head.size > 0).find(|head| !is_there(head)) {
            let why = format!("{}/{} of the heads is not one that you can ask now", head.tenant, head.stream);
            return Err(Problem::new(ProblemKind::Forbidden, why));
        }
        let found = answer(self.engine(), question, seen, platform, (reached.not_examined, around)).await?;
        drop(reached.asking);
        Ok(found)
    }

    /// Tenants of which the caller may not read all streams that are asked.
    fn in_part(&self, caller: &Caller, question: &ScopeQuestion, examined: &BTreeSet<TenantId>) -> BTreeSet<String> {
        let kinds = question.kinds();
        let misses = |tenant: &&TenantId| kinds.iter().any(|kind| !self.door().sees(caller, tenant, *kind));
        examined.iter().filter(misses).map(ToString::to_string).collect()
    }

    /// Who stands above each tenant.
    fn above(&self, reached: &Reached) -> BTreeMap<String, Vec<String>> {
        let registry = self.door().book().read();
        let line = |tenant: &TenantId| registry.line(tenant).map(ToString::to_string).collect();
        reached.examined.iter().map(|tenant| (tenant.to_string(), line(tenant))).collect()
    }

    /// Two releases beside each other.
    ///
    /// # Errors
    /// As [`QueryState::scope`].
    pub async fn compare(&self, caller: &Caller, mut question: CompareQuestion) -> Result<Comparison, Problem> {
        if question.from.is_empty() || question.to.is_empty() || question.from == question.to {
            return Err(Misasked("from and to name two releases".into()).into());
        }
        for (name, time) in [("since", &question.since), ("until", &question.until)] {
            let parsed = time.as_deref().map(ledger::time::parse_micros).transpose();
            parsed.map_err(|e| Misasked(format!("{name} is {e}")))?;
        }
        let noted = json!({"from": question.from, "to": question.to, "since": question.since, "until": question.until});
        caller.visit().note("question", noted);
        let named = question.tenants.iter().map(|name| name.parse()).collect::<Result<Vec<TenantId>, _>>();
        let named = named.map_err(|e| Misasked(e.to_string()))?;
        let reached = self.reach(caller, named, question.subtree.take(), &STREAMS)?;
        question.tenants = reached.examined.iter().map(ToString::to_string).collect();
        let seen = snapshots(reached.opened, &[]).await?;
        let found = compare(self.engine(), question, &seen).await?;
        drop(reached.asking);
        Ok(found)
    }

    /// Opens what can be opened of the tenants that are named, and of those below another.
    pub(crate) fn reach(
        &self,
        caller: &Caller,
        named: Vec<TenantId>,
        subtree: Option<String>,
        streams: &[StreamKind],
    ) -> Result<Reached, Problem> {
        let mut wanted: BTreeSet<TenantId> = named.into_iter().collect();
        if let Some(above) = subtree {
            let above: TenantId = above.parse().map_err(|e: ledger::name::NameError| Misasked(e.to_string()))?;
            wanted.extend(self.door().known_below(caller, &above));
        }
        if wanted.is_empty() {
            let why =
                "no tenant is named that you know of: name some in tenants, or one with those below it in subtree";
            return Err(Problem::new(ProblemKind::Malformed, why));
        }
        let most = self.engine().limits().tenants;
        if wanted.len() > most {
            return Err(QueryError::from(Exceeded::Tenants { tenants: most }).into());
        }
        let (mut reached, mut last) =
            (Reached { opened: vec![], examined: BTreeSet::new(), not_examined: vec![], asking: vec![] }, None);
        caller.visit().progress().next("opening", 0, "streams");
        for tenant in wanted {
            let opened = self.door().read_all(caller, &tenant, streams);
            match opened.and_then(|opened| Ok((opened, self.door().ask_about(&tenant)?))) {
                Ok((opened, asking)) => {
                    reached.opened.extend(opened);
                    reached.asking.push(asking);
                    reached.examined.insert(tenant);
                }
                Err(problem) => {
                    let why = problem.detail().to_string();
                    reached.not_examined.push(Unexamined { tenant: tenant.to_string(), why });
                    last = Some(problem);
                }
            }
        }
        match last {
            Some(problem) if reached.examined.is_empty() => Err(problem),
            _ => Ok(reached),
        }
    }

    /// The platform's own trail, where releases stand, if the caller may read it.
    fn releases(&self, caller: &Caller) -> Result<Option<Opened>, Problem> {
        let platform: TenantId = PLATFORM.parse().map_err(|_| Problem::new(ProblemKind::Internal, "no name"))?;
        if !self.door().sees(caller, &platform, StreamKind::Audit) {
            return Ok(None);
        }
        Ok(self.door().read_all(caller, &platform, &[StreamKind::Audit])?.pop())
    }
}

/// Streams as of now, or as of the heads that are given: then those alone.
pub(crate) async fn snapshots(opened: Vec<Opened>, heads: &[HeadAt]) -> Result<Vec<Seen>, Problem> {
    let taken = futures::stream::iter(opened).map(|opened| async move { as_of(&opened, heads).await });
    let taken: Vec<Option<Seen>> = taken.buffered(SNAPSHOTS_AT_ONCE).try_collect().await?;
    Ok(taken.into_iter().flatten().collect())
}

async fn as_of(opened: &Opened, heads: &[HeadAt]) -> Result<Option<Seen>, Problem> {
    let now = seen(opened).await?;
    if heads.is_empty() {
        return Ok(Some(now));
    }
    let (tenant, stream) = (opened.handle.tenant().as_str(), opened.handle.kind());
    let head = heads.iter().find(|head| head.tenant == tenant && head.stream == stream.as_str());
    let Some(head) = head.filter(|head| head.size > 0) else { return Ok(None) };
    let root = opened.handle.consistency(head.size, None).await?.from_root;
    let is_other = head.root.as_deref().is_some_and(|given| Hash::from_base64(given) != Some(root));
    if is_other {
        let why = format!("{tenant}/{stream} of {} entries has another root than the one in heads", head.size);
        return Err(Problem::new(ProblemKind::Conflict, why));
    }
    Ok(Some(now.cut_at(head.size, root)))
}
