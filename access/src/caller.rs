//! Who is calling: found out once per request, before any handler runs.
//!
//! Not here: what they may do ([`crate::Door`]). Invariants: there is no anonymous caller; a handler gets a [`Caller`]
//! from the request and from nowhere else.

use crate::policy::Action;
use crate::problem::{Problem, ProblemKind};
use crate::registry::Author;
use crate::registry::Registry;
use crate::registry::change::PrincipalKind;
use crate::registry::names::PrincipalId;
use crate::secret::Presented;
use crate::visit::Visit;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use ledger::name::TenantId;
use std::sync::Arc;

/// A principal who proved to be it, and how.
#[derive(Debug, Clone)]
pub struct Caller(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    principal: PrincipalId,
    kind: PrincipalKind,
    home: Option<TenantId>,
    credential: String,
    method: &'static str,
    tenants: Vec<TenantId>,
    actions: Vec<Action>,
    source_ip: String,
    visit: Visit,
}

/// Why somebody is not known, in words that help the right ones and tell the wrong ones nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// What is told.
    pub why: &'static str,
    /// What is put on record besides.
    pub code: &'static str,
    /// The credential that was presented, if it is one of ours.
    pub credential: Option<String>,
    /// Whether the caller is known and not let in.
    pub is_known: bool,
}

impl Caller {
    /// Finds out who is calling from a request's headers.
    pub(crate) fn of(registry: &Registry, headers: &HeaderMap, source_ip: String, now: i64) -> Result<Self, Unknown> {
        let unknown = |why, code| Unknown { why, code, credential: None, is_known: false };
        let Some(header) = headers.get(header::AUTHORIZATION) else {
            return Err(unknown("no credential came with the request: send Authorization: Bearer <key>", "missing"));
        };
        let bearer = header.to_str().ok().and_then(|text| text.split_once(' '));
        let key = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, key)| key.trim());
        let refused = "this credential is not accepted: unknown, expired, revoked, or not valid yet";
        let Some(presented) = key.and_then(Presented::parse) else { return Err(unknown(refused, "malformed")) };
        let found = registry.credential(&presented.id);
        let Some(found) = found.filter(|found| found.secret.is_some_and(|hash| presented.matches(&hash))) else {
            return Err(unknown(refused, "unknown"));
        };
        // From here on the secret was right: the record may say which credential it was.
        let of_ours = |why, code| Unknown { credential: Some(presented.id.to_string()), ..unknown(why, code) };
        if found.revoked.is_some() {
            return Err(of_ours(refused, "revoked"));
        }
        if found.expires_at.is_some_and(|end| now >= end) {
            return Err(of_ours(refused, "expired"));
        }
        if found.fact.not_before.is_some_and(|start| now < start.0) {
            return Err(of_ours(refused, "not_yet_valid"));
        }
        let principal = registry.principal(&found.fact.principal).ok_or_else(|| of_ours(refused, "unknown"))?;
        let known = |why, code| Unknown { is_known: true, ..of_ours(why, code) };
        if principal.suspended.is_some() {
            return Err(known("this principal is suspended; its administrator knows why", "suspended"));
        }
        let home = principal.fact.home.clone();
        if home.as_ref().is_some_and(|home| registry.is_suspended(home)) {
            return Err(known("the tenant of this principal is suspended; the platform knows why", "tenant_suspended"));
        }
        Ok(Self(Arc::new(Inner {
            principal: found.fact.principal.clone(),
            kind: principal.fact.kind,
            home,
            credential: presented.id.to_string(),
            method: "key",
            tenants: found.fact.tenants.clone(),
            actions: found.fact.actions.clone(),
            source_ip,
            visit: Visit::default(),
        })))
    }

    /// Who it is.
    pub fn principal(&self) -> &PrincipalId {
        &self.0.principal
    }

    /// What kind of principal.
    pub fn kind(&self) -> PrincipalKind {
        self.0.kind
    }

    /// The tenant whose it is; none for the platform's own.
    pub fn home(&self) -> Option<&TenantId> {
        self.0.home.as_ref()
    }

    /// With which credential.
    pub fn credential(&self) -> &str {
        &self.0.credential
    }

    /// After which proof of identity, as policies call it.
    pub(crate) fn method(&self) -> &'static str {
        self.0.method
    }

    /// Whether the credential can be used for this at all.
    pub(crate) fn reaches(&self, registry: &Registry, action: Action, tenant: &TenantId) -> bool {
        let inner = &self.0;
        let acts = inner.actions.is_empty() || inner.actions.contains(&action);
        let reaches = |above: &TenantId| registry.is_within(tenant, above);
        acts && (inner.tenants.is_empty() || inner.tenants.iter().any(reaches))
    }

    /// Whether the credential can be used for less than its principal may do.
    pub(crate) fn is_narrowed(&self) -> bool {
        !self.0.actions.is_empty() || !self.0.tenants.is_empty()
    }

    /// Who it is, as entries say it.
    pub fn author(&self) -> Author {
        let inner = &self.0;
        let actor_type = match inner.kind {
            PrincipalKind::User => "user",
            PrincipalKind::Service | PrincipalKind::Job => "service",
        };
        let (principal, credential) = (inner.principal.clone(), inner.credential.clone());
        Author { principal, actor_type, credential, source_ip: inner.source_ip.clone() }
    }

    /// What the request did, for the record.
    pub fn visit(&self) -> &Visit {
        &self.0.visit
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // The guard put it there; a route without a guard serves nobody.
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Problem::new(ProblemKind::Internal, "this route is not guarded, so it serves nobody"))
    }
}
