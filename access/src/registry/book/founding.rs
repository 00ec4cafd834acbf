//! The first entries of a platform, and the way back in when every key is lost.
//!
//! Not here: who else may make keys (`crate::authority`). Invariant: both stand on record as the service's own.

use super::super::change::{Change, PrincipalAct, PrincipalFact, PrincipalKind, TenantFact};
use super::super::entry::Author;
use super::super::names::PrincipalId;
use super::super::{CredentialFact, GrantFact, GrantLimits};
use super::{Book, BookError, FORMAT, platform};
use ledger::name::StreamKind;

impl Book {
    /// The first entries of a platform: whose ledger it is, its root tenant, and an administrator with a key.
    pub(super) async fn found(&self) -> Result<Founded, BookError> {
        let administrator: PrincipalId = "administrator".parse().expect("a plain name");
        let begin = Change::Begin {
            ledger: self.main().ledger().clone(),
            format: FORMAT,
            vkey: self.main().verifier().to_string(),
        };
        let root = TenantFact {
            tenant: platform(),
            name: "The platform itself".into(),
            parent: None,
            tier: None,
            store: None,
            version: None,
        };
        let (kind, name, home) = (PrincipalKind::User, "Made at the first start".to_string(), None);
        let who = PrincipalFact { principal: administrator.clone(), kind, name, home };
        let changes = vec![
            begin,
            Change::CreateTenant(root),
            Change::CreatePrincipal(who),
            Change::CreateGrant(administrators_grant(&administrator)),
            Change::CreateCredential(credential_of(&administrator)),
        ];
        let made = self.make(&Author::system(), changes, |_, _, _| Ok(())).await?;
        let key = made.into_iter().find_map(|one| one.key).unwrap_or_default();
        let first = self.main().reader(&platform(), StreamKind::Control)?.inclusion(0, None).await?;
        let hash = first.leaf.to_hex();
        Ok(Founded { key, hash })
    }

    /// A new key for the administrator, for whoever holds the machine: the way back in when all keys are lost.
    ///
    /// # Errors
    /// The store does not accept.
    pub async fn recover_administrator(&self) -> Result<String, BookError> {
        let administrator: PrincipalId = "administrator".parse().expect("a plain name");
        let mut changes = vec![Change::CreateCredential(credential_of(&administrator))];
        let now = self.ambient.now_micros();
        let can_grant = self
            .read()
            .rights(&administrator, &platform(), now)
            .any(|right| right.role.as_str() == "platform-administrator");
        if self.read().principal(&administrator).is_some_and(|found| found.suspended.is_some()) {
            let reason = "a key was made on the machine that keeps the ledger".into();
            changes.push(Change::ResumePrincipal(PrincipalAct { principal: administrator.clone(), reason }));
        }
        if !can_grant {
            changes.insert(0, Change::CreateGrant(administrators_grant(&administrator)));
        }
        let made = self.make(&Author::system(), changes, |_, _, _| Ok(())).await?;
        Ok(made.into_iter().find_map(|one| one.key).unwrap_or_default())
    }
}

/// What a platform's first start leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founded {
    /// The administrator's key.
    pub key: String,
    /// The hash of the first entry, in hexadecimal: what the platform is known by.
    pub hash: String,
}

fn administrators_grant(administrator: &PrincipalId) -> GrantFact {
    let role = "platform-administrator".parse().expect("a plain name");
    let limits = GrantLimits { purpose: "administers the platform".into(), ..Default::default() };
    let (principal, tenants) = (administrator.clone(), vec![platform()]);
    GrantFact { grant: None, principal, role, tenants, subtree: true, limits }
}

fn credential_of(principal: &PrincipalId) -> CredentialFact {
    CredentialFact {
        credential: None,
        principal: principal.clone(),
        not_before: None,
        expires_at: None,
        tenants: vec![],
        actions: vec![],
        replaces: None,
        overlap_minutes: None,
    }
}
