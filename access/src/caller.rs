//! Who is calling: found out once per request, before any handler runs.
//!
//! Not here: what they may do ([`crate::Door`]). Invariants: there is no anonymous caller; a handler gets a [`Caller`]
//! from the request and from nowhere else.

use crate::door::Door;
use crate::listener::Peer;
use crate::policy::Action;
use crate::problem::{Problem, ProblemKind};
use crate::registry::change::{IdentityKey, PrincipalKind};
use crate::registry::names::PrincipalId;
use crate::registry::{Author, Principal, Registry, Right};
use crate::secret::Presented;
use crate::token::{ClaimGrant, Proved, is_token};
use crate::visit::Visit;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ledger::name::TenantId;
use std::borrow::Cow;
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
    /// Rights that a token's claims give.
    claimed: Vec<ClaimGrant>,
    /// Until when what was proved holds, in microseconds.
    ends: Option<i64>,
    source_ip: String,
    visit: Visit,
}

impl Inner {
    fn of(principal: &Principal, credential: String, peer: &Peer) -> Self {
        Self {
            principal: principal.fact.principal.clone(),
            kind: principal.fact.kind,
            home: principal.fact.home.clone(),
            credential,
            method: "",
            tenants: vec![],
            actions: vec![],
            claimed: vec![],
            ends: None,
            source_ip: peer.address.ip().to_string(),
            visit: Visit::default(),
        }
    }

    /// Lets a principal in who proved to be it, unless it or its tenant is suspended.
    fn let_in(self, registry: &Registry, principal: &Principal) -> Result<Caller, Unknown> {
        let known = |why, code| Unknown { why, code, credential: Some(self.credential.clone()), is_known: true };
        if principal.suspended.is_some() {
            return Err(known("this principal is suspended; its administrator knows why", "suspended"));
        }
        if self.home.as_ref().is_some_and(|home| registry.is_suspended(home)) {
            return Err(known("the tenant of this principal is suspended; the platform knows why", "tenant_suspended"));
        }
        Ok(Caller(Arc::new(self)))
    }
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
    /// Finds out who is calling: by key, by token, or by the certificate that the connection showed.
    pub(crate) async fn of(door: &Door, headers: &HeaderMap, peer: &Peer) -> Result<Self, Unknown> {
        let unknown = |why, code| Unknown { why, code, credential: None, is_known: false };
        let Some(header) = headers.get(header::AUTHORIZATION) else {
            return Self::of_certificate(&door.book().read(), peer).unwrap_or_else(|| {
                Err(unknown("no credential came with the request: send Authorization: Bearer <key>", "missing"))
            });
        };
        let credential = header.to_str().ok().and_then(key_of).unwrap_or_default();
        if is_token(&credential) {
            let proved = door.tokens().check(&credential).await?;
            return Self::of_token(&door.book().read(), proved, peer);
        }
        let now = door.now();
        let found = Self::of_key(&door.book().read(), &credential, peer, now)?;
        if let Ok(id) = found.credential().parse() {
            door.used(id, now);
        }
        Ok(found)
    }

    fn of_key(registry: &Registry, key: &str, peer: &Peer, now: i64) -> Result<Self, Unknown> {
        let why = "this credential is not accepted: unknown, expired, revoked, or not valid yet";
        let unknown = |code| Unknown { why, code, credential: None, is_known: false };
        let presented = Presented::parse(key).ok_or_else(|| unknown("malformed"))?;
        let found = registry.credential(&presented.id);
        let found = found.filter(|found| found.secret.is_some_and(|hash| presented.matches(&hash)));
        let found = found.ok_or_else(|| unknown("unknown"))?;
        // From here on the secret was right: the record may say which credential it was.
        let credential = presented.id.to_string();
        let of_ours = |code| Unknown { credential: Some(credential.clone()), ..unknown(code) };
        if found.revoked.is_some() {
            return Err(of_ours("revoked"));
        }
        if found.expires_at.is_some_and(|end| now >= end) {
            return Err(of_ours("expired"));
        }
        if found.fact.not_before.is_some_and(|start| now < start.0) {
            return Err(of_ours("not_yet_valid"));
        }
        let principal = registry.principal(&found.fact.principal).ok_or_else(|| of_ours("unknown"))?;
        let (tenants, actions) = (found.fact.tenants.clone(), found.fact.actions.clone());
        let ends = found.expires_at;
        let inner = Inner { method: "key", tenants, actions, ends, ..Inner::of(principal, credential, peer) };
        inner.let_in(registry, principal)
    }

    fn of_token(registry: &Registry, proved: Proved, peer: &Peer) -> Result<Self, Unknown> {
        let key = IdentityKey::Token(proved.issuer, proved.subject);
        let principal = registry.identity(&key).ok_or(Unknown {
            why: "the token is good, and its subject is bound to no principal here (identity.bind)",
            code: "not_bound",
            credential: None,
            is_known: false,
        })?;
        let (claimed, ends) = (proved.grants, Some(proved.ends));
        let inner = Inner { method: "token", claimed, ends, ..Inner::of(principal, "token".into(), peer) };
        inner.let_in(registry, principal)
    }

    fn of_certificate(registry: &Registry, peer: &Peer) -> Option<Result<Self, Unknown>> {
        let named = |name: &String| registry.identity(&IdentityKey::Certificate(name.clone()));
        let principal = peer.names.iter().find_map(named)?;
        let inner = Inner { method: "certificate", ..Inner::of(principal, "certificate".into(), peer) };
        Some(inner.let_in(registry, principal))
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

    /// What tells decisions about this caller from others about the same principal: a key that can be used for less, or
    /// claims that give more.
    pub(crate) fn variant(&self) -> Option<String> {
        let inner = &self.0;
        if !inner.claimed.is_empty() {
            let ids: Vec<&str> = inner.claimed.iter().map(|grant| grant.id.as_str()).collect();
            return Some(ids.join(" "));
        }
        self.is_narrowed().then(|| inner.credential.clone())
    }

    /// Whether the key can be used for less than its principal may do.
    pub(crate) fn is_narrowed(&self) -> bool {
        !self.0.actions.is_empty() || !self.0.tenants.is_empty()
    }

    /// Until when what proved the caller holds, in microseconds, if it ends.
    pub(crate) fn ends(&self) -> Option<i64> {
        self.0.ends
    }

    /// Rights on a tenant that come with the token and not from the registry.
    pub(crate) fn claimed<'c>(
        &'c self,
        registry: &'c Registry,
        tenant: &'c TenantId,
    ) -> impl Iterator<Item = Right<'c>> {
        let reaches = move |grant: &&ClaimGrant| {
            let within = |above: &TenantId| registry.is_within(tenant, above);
            grant.tenants.contains(tenant) || grant.subtree && grant.tenants.iter().any(within)
        };
        let right = move |grant: &'c ClaimGrant| Right {
            role: &grant.role,
            limits: None,
            id: &grant.id,
            is_elevation: false,
            ends: None,
            subtree: grant.subtree,
        };
        self.0.claimed.iter().filter(reaches).map(right)
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

/// The key in an `Authorization` header: a bearer (RFC 6750), or the password of a pair whose name says nothing, for
/// tools that know no other way (RFC 7617).
fn key_of(header: &str) -> Option<Cow<'_, str>> {
    let (scheme, value) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().into());
    }
    let pair = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(value.trim()).ok()).flatten()?;
    let pair = String::from_utf8(pair).ok()?;
    let (name, password) = pair.split_once(':')?;
    Some(if password.is_empty() { name } else { password }.to_string().into())
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // The guard put it there; a route without a guard serves nobody.
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Problem::new(ProblemKind::Internal, "this route is not guarded, so it serves nobody"))
    }
}
