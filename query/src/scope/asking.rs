//! From a question to snapshots: which tenants can be looked at, and why not the others.
//!
//! Not here: what is counted ([`super::gather`]). Invariant: each stream comes from the door; of a tenant that the caller
//! may not know of nothing is said, not even that it was left out.

use super::compare::{CompareQuestion, Comparison, compare};
use super::question::{HeadAt, Misasked, ScopeQuestion};
use super::verdict::{ScopeAnswer, Unexamined};
use super::{Cost, answer};
use crate::error::QueryError;
use crate::limits::Exceeded;
use crate::state::{QueryState, SNAPSHOTS_AT_ONCE, seen};
use crate::table::Seen;
use access::registry::PLATFORM;
use access::{Asking, Caller, Opened, Problem, ProblemKind};
use futures::{StreamExt, TryStreamExt};
use ledger::{Hash, StreamKind, TenantId};
use std::collections::BTreeSet;

/// Streams that are looked at: the question's, and who looked.
const STREAMS: [StreamKind; 3] = [StreamKind::Audit, StreamKind::Telemetry, StreamKind::Access];

/// Tenants that are looked at.
struct Reached {
    opened: Vec<Opened>,
    examined: BTreeSet<TenantId>,
    not_examined: Vec<Unexamined>,
    /// Their places in the quotas.
    asking: Vec<Asking>,
}

impl QueryState {
    /// The scope of an incident.
    ///
    /// # Errors
    /// The question is not well asked, nothing of it is granted to the caller, or see [`crate::QueryError`].
    pub async fn scope(&self, caller: &Caller, question: ScopeQuestion) -> Result<(ScopeAnswer, Cost), Problem> {
        let mut question = question.check()?;
        caller.visit().note("question", serde_json::to_value(&question).unwrap_or_default());
        let reached = self.reach(caller, question.named()?, question.subtree.take())?;
        question.tenants = reached.examined.iter().map(ToString::to_string).collect();
        let platform = if reached.examined.iter().any(|tenant| tenant.as_str() == PLATFORM) {
            None
        } else {
            self.releases(caller).await?
        };
        let heads = std::mem::take(&mut question.heads);
        let seen = snapshots(reached.opened, &heads).await?;
        let found = answer(self.engine(), question, seen, platform, reached.not_examined).await?;
        drop(reached.asking);
        Ok(found)
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
        caller.visit().note("question", serde_json::to_value(&question).unwrap_or_default());
        let named = question.tenants.iter().map(|name| name.parse()).collect::<Result<Vec<TenantId>, _>>();
        let named = named.map_err(|e| Misasked(e.to_string()))?;
        let reached = self.reach(caller, named, question.subtree.take())?;
        question.tenants = reached.examined.iter().map(ToString::to_string).collect();
        let seen = snapshots(reached.opened, &[]).await?;
        let found = compare(self.engine(), question, &seen).await?;
        drop(reached.asking);
        Ok(found)
    }

    /// Opens what can be opened of the tenants that are named, and of those below another.
    fn reach(&self, caller: &Caller, named: Vec<TenantId>, subtree: Option<String>) -> Result<Reached, Problem> {
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
        for tenant in wanted {
            let opened = self.door().read_all(caller, &tenant, &STREAMS);
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
    async fn releases(&self, caller: &Caller) -> Result<Option<Seen>, Problem> {
        let platform: TenantId = PLATFORM.parse().map_err(|_| Problem::new(ProblemKind::Internal, "no name"))?;
        if !self.door().sees(caller, &platform, StreamKind::Audit) {
            return Ok(None);
        }
        match self.door().read_all(caller, &platform, &[StreamKind::Audit])?.first() {
            Some(opened) => Ok(Some(seen(opened).await?)),
            None => Ok(None),
        }
    }
}

/// Streams as of now, or as of the heads that are given: then those alone.
async fn snapshots(opened: Vec<Opened>, heads: &[HeadAt]) -> Result<Vec<Seen>, Problem> {
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
