//! Tenants' keys as the door lets them be made, used and destroyed.
//!
//! Making one: the provider wraps it, then it is put on record; if that fails, a key of the provider's is there that wraps
//! nothing. Destroying: the intent is on record with two people's word; then, again and again until it is done, what is
//! unsealed is sealed, the provider destroys, and that is put on record. Not here: providers and chest
//! ([`crate::keys`]), the rules (`registry::keys`).
//!
//! Invariants: what is to have a key is not written plain meanwhile; nothing of the tenant is read or taken while its keys
//! are disabled, on their way out or gone, but heads and proofs from tiles; who may not make a key never reaches the
//! provider.

use super::Door;
use crate::authority;
use crate::caller::Caller;
use crate::keys::{KeyChest, KeyProvider, Missing, ProviderError};
use crate::policy::Action;
use crate::problem::{Problem, ProblemKind};
use crate::registry::change::{Change, KeyFact, TenantAct};
use crate::registry::{Registry, Stamp, TenantKeys};
use futures::StreamExt as _;
use ledger::name::TenantId;
use ledger_store::cipher::Secret;
use std::sync::Arc;
use std::time::Duration;

/// Keys that are unwrapped at the same time.
const AT_ONCE: usize = 8;

/// Keys that are put on record together.
const MADE_AT_ONCE: usize = 500;
/// After how long what failed is tried again.
const AGAIN_MICROS: i64 = 10_000_000;

/// How tenants' keys are kept.
#[derive(Clone, Default)]
pub struct KeySettings {
    /// Who wraps them; nobody, and none can be made.
    provider: Option<Arc<dyn KeyProvider>>,
    /// Where they are at hand.
    chest: KeyChest,
    /// Whether every tenant is to have one, and not only those whose tier says so.
    all: bool,
    /// Where the ledger's own keys are kept, if they may be changed.
    pub(super) ledger: Option<Arc<dyn super::LedgerKeyFile>>,
    /// Whoever rotates or retires them has it, from the first look to the last store.
    pub(super) ledger_turn: Arc<tokio::sync::Mutex<()>>,
    /// Whoever looks after them has it.
    turn: Arc<tokio::sync::Mutex<Looked>>,
}

/// The last look: at which version of the registry, and when to look again though it is the same.
#[derive(Default)]
struct Looked {
    version: u64,
    again: i64,
}

impl KeySettings {
    /// Keys wrapped by this provider; `all` for every tenant, or only for those whose tier says so.
    pub fn new(provider: Option<Arc<dyn KeyProvider>>, chest: KeyChest, all: bool) -> Self {
        Self { provider, chest, all, ledger: None, ledger_turn: Arc::default(), turn: Arc::default() }
    }

    /// The same, with the file that holds the ledger's own keys.
    pub fn with_ledger_keys(self, file: Arc<dyn super::LedgerKeyFile>) -> Self {
        Self { ledger: Some(file), ..self }
    }
}

/// The name of a provider's key.
fn named(registry: &Registry, tenant: &TenantId) -> String {
    format!("piperoll-{}-{tenant}", registry.ledger().unwrap_or_default())
}

/// What a wrapped key is bound to.
fn purpose(registry: &Registry, tenant: &TenantId, key: &str) -> String {
    format!("piperoll-tenant-key/v1\n{}\n{tenant}\n{key}\n", registry.ledger().unwrap_or_default())
}

fn unavailable(error: &ProviderError) -> Problem {
    Problem::new(ProblemKind::Unavailable, error.to_string())
}

/// Unwraps keys and puts them into the chest; answers whether any came.
pub(crate) async fn unwrap_all(
    provider: &dyn KeyProvider,
    chest: &KeyChest,
    registry: &Registry,
    missing: Vec<Missing>,
) -> bool {
    let unwrapped = futures::stream::iter(missing).map(|one| async move {
        let (name, of) = (named(registry, &one.tenant), purpose(registry, &one.tenant, one.key.as_str()));
        let opened = provider.unwrap(&name, &of, &one.wrapped).await;
        (one, opened)
    });
    let mut came = false;
    let mut unwrapped = std::pin::pin!(unwrapped.buffer_unordered(AT_ONCE));
    while let Some((one, opened)) = unwrapped.next().await {
        match opened {
            Ok(secret) => {
                chest.put(&one.tenant, one.key, secret);
                came = true;
            }
            // A stop came between its destruction and the record of that.
            Err(ProviderError::NoKey(_)) if one.closing => chest.forget(&one.tenant),
            Err(error) => {
                let (tenant, key) = (&one.tenant, one.key.as_str());
                tracing::error!(%tenant, key, error = error.to_string(), "a tenant's key is not at hand");
            }
        }
    }
    came
}

impl Door {
    /// Fills in the keys that changes make: they are wrapped before they are put on record.
    ///
    /// # Errors
    /// A key may not be made, or the provider does not wrap it.
    pub(super) async fn with_keys(&self, caller: &Caller, mut changes: Vec<Change>) -> Result<Vec<Change>, Problem> {
        let now = self.now();
        for (at, change) in changes.iter_mut().enumerate() {
            let rotates = matches!(change, Change::RotateKey(_));
            let (Change::CreateKey(fact) | Change::RotateKey(fact)) = change else { continue };
            // These are for nobody else to say.
            (fact.key, fact.provider, fact.wrapped) = Default::default();
            let registry = self.book().read().clone();
            let found = authority::may_change(&self.0.policies, &registry, caller, change, now);
            if let Err(missing) = found {
                missing.denied.into_iter().for_each(|denied| caller.visit().deny(denied));
                return Err(Problem::new(ProblemKind::Forbidden, format!("change {at}: {}", missing.why)));
            }
            // What does not fit is refused with the others, in their place.
            if registry.check(change, now).is_err() {
                continue;
            }
            if let Change::CreateKey(fact) | Change::RotateKey(fact) = change {
                self.wrap(&registry, fact, rotates).await.map_err(|error| unavailable(&error))?;
            }
        }
        Ok(changes)
    }

    /// Makes a key and has it wrapped.
    async fn wrap(&self, registry: &Registry, fact: &mut KeyFact, rotates: bool) -> Result<(), ProviderError> {
        let none = || ProviderError::Refused("there is none: the settings say so ([keys] provider)".into());
        let provider = self.0.keys.provider.as_ref().ok_or_else(none)?;
        let name = named(registry, &fact.tenant);
        match rotates {
            true => provider.rotate(&name).await?,
            false => provider.create(&name).await?,
        }
        let mut random = [0; 8];
        self.0.ambient.fill_random(&mut random);
        let id = format!("t{}", random.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let secret = Secret::random(|bytes| self.0.ambient.fill_random(bytes));
        fact.wrapped = provider.wrap(&name, &purpose(registry, &fact.tenant, &id), &secret).await?;
        fact.provider = provider.name().into();
        // A letter and hexadecimal digits.
        fact.key = id.parse().ok();
        Ok(())
    }

    /// Brings the keys that are at hand up to the registry: makes those that are to be there, unwraps those that are, and
    /// goes on with what is to be destroyed. What fails is tried again.
    pub async fn look_after_keys(&self) {
        let mut looked = self.0.keys.turn.lock().await;
        let (version, now) = (self.book().read().version(), self.now());
        if looked.version == version && now < looked.again {
            return;
        }
        *looked = Looked { version, again: now + AGAIN_MICROS };
        self.make_wanted().await;
        self.unwrap_missing().await;
        let closing: Vec<TenantId> = {
            let registry = self.book().read();
            let is_closing = |(_, keys): &(&TenantId, &TenantKeys)| keys.destroying.is_some();
            registry.keyed().filter(is_closing).map(|(tenant, _)| tenant.clone()).collect()
        };
        for tenant in closing {
            if let Err(error) = self.destroy_keys(&tenant).await {
                tracing::error!(%tenant, error = error.to_string(), "keys are not destroyed yet; tried again");
            }
        }
    }

    /// Makes the keys that tenants are to have by their tier or the settings.
    async fn make_wanted(&self) {
        if self.0.keys.provider.is_none() {
            return;
        }
        let wanted: Vec<TenantId> = self.book().read().wants_key(self.0.keys.all).cloned().collect();
        if wanted.is_empty() {
            return;
        }
        let registry = self.book().read().clone();
        for some in wanted.chunks(MADE_AT_ONCE) {
            let (made, failed) = self.fresh(&registry, some, "this tenant is to have keys of its own", false).await;
            for (tenant, error) in failed {
                tracing::error!(%tenant, error, "a key could not be made: nothing of this tenant is taken");
            }
            if let Err(error) = self.book().note_all(made).await {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "keys that were made could not be put on record; tried again");
            }
        }
    }

    /// Makes a key for each of these tenants, its first or its next; and tells for whom it could not and why.
    async fn fresh(
        &self,
        registry: &Registry,
        tenants: &[TenantId],
        reason: &str,
        rotates: bool,
    ) -> (Vec<Change>, Vec<(TenantId, String)>) {
        let (mut made, mut failed) = (Vec::with_capacity(tenants.len()), Vec::new());
        for tenant in tenants {
            let (key, provider, wrapped) = Default::default();
            let mut fact = KeyFact { tenant: tenant.clone(), key, provider, wrapped, reason: reason.into() };
            match self.wrap(registry, &mut fact, rotates).await {
                Ok(()) if rotates => made.push(Change::RotateKey(fact)),
                Ok(()) => made.push(Change::CreateKey(fact)),
                Err(error) => failed.push((fact.tenant, error.to_string())),
            }
        }
        (made, failed)
    }

    /// Gives a new key to every tenant whose key is so old, unless it is disabled or on its way out. Answers how many, and
    /// for whom none could be made and why. Died in between: the provider has a version more, and the older ones open as
    /// before.
    ///
    /// # Errors
    /// The registry does not accept.
    pub async fn rotate_keys(&self, after: Duration) -> Result<(u64, Vec<(TenantId, String)>), Problem> {
        let registry = self.book().read().clone();
        let before = self.now().saturating_sub(after.as_micros() as i64);
        let is_due = |keys: &&TenantKeys| {
            let is_old = keys.current().is_some_and(|key| key.made.at <= before);
            is_old && keys.disabled.is_none() && keys.destroying.is_none()
        };
        let due = registry.keyed().filter(|(_, keys)| is_due(keys)).map(|(tenant, _)| tenant.clone());
        let reason = format!("it was {} days old", after.as_secs() / 86_400);
        let (mut rotated, mut failed) = (0, Vec::new());
        for some in due.collect::<Vec<TenantId>>().chunks(MADE_AT_ONCE) {
            let (made, unmade) = self.fresh(&registry, some, &reason, true).await;
            failed.extend(unmade);
            rotated += made.len() as u64;
            self.book().note_all(made).await?;
        }
        self.unwrap_missing().await;
        Ok((rotated, failed))
    }

    async fn unwrap_missing(&self) {
        let keys = &self.0.keys;
        // Where there is no provider, nothing is wanted of it.
        let wants = keys.provider.as_ref().map(|_| keys.all);
        let (missing, registry) = {
            let registry = self.book().read();
            (keys.chest.follow(&registry, wants), registry.clone())
        };
        let Some(provider) = keys.provider.as_ref().filter(|_| !missing.is_empty()) else { return };
        if unwrap_all(provider.as_ref(), &keys.chest, &registry, missing).await {
            for store in self.stores().open() {
                if let Err(error) = store.unlock().await {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(store = %store.name(), error, "what was locked could not be opened with its key");
                }
            }
        }
    }

    /// Carries out a destruction whose intent is on record. Died at any point: the intent stands, and all of it is done
    /// again. What was sealed is sealed; a key that is gone is found gone.
    async fn destroy_keys(&self, tenant: &TenantId) -> Result<(), Problem> {
        let keys = &self.0.keys;
        let none = || Problem::new(ProblemKind::Unavailable, "the settings name no key provider");
        let provider = keys.provider.as_ref().ok_or_else(none)?;
        // 1. What is unsealed is sealed, so that nothing waits in the log for a key that never comes.
        match self.book().store_of(tenant)?.settle_tenant(tenant).await {
            // It was destroyed before a stop.
            Err(ledger_store::StoreError::Key(error)) if error.is_destroyed() => {}
            settled => settled?,
        }
        // 2. The provider destroys. From here on nothing opens them again, here or in any copy.
        let name = named(&self.book().read(), tenant);
        provider.destroy(&name).await.map_err(|error| unavailable(&error))?;
        keys.chest.forget(tenant);
        // 3. It is put on record, and the tenant told.
        let reason = format!("destroyed at its provider ({})", provider.name());
        self.book().note(Change::EraseKey(TenantAct { tenant: tenant.clone(), reason })).await?;
        self.unwrap_missing().await;
        tracing::warn!(%tenant, "a tenant's keys were destroyed");
        Ok(())
    }

    /// Whether a tenant's keys let something be read of it or brought to it.
    ///
    /// # Errors
    /// They are disabled, on their way out, or gone: by whom and when.
    pub(super) fn may_use_keys(&self, tenant: &TenantId, action: Action) -> Result<(), Problem> {
        let registry = self.book().read();
        let Some(keys) = registry.keys_of(tenant) else { return Ok(()) };
        // Heads, tiles and what follows from them need no key.
        if action == Action::ReadProofs {
            return Ok(());
        }
        let said = |stamp: &Stamp| {
            let because = if stamp.reason.is_empty() { String::new() } else { format!(" ({})", stamp.reason) };
            format!("on {} by {}{because}", ledger::time::format_micros(stamp.at), stamp.by)
        };
        let (kind, why) = match (&keys.destroying, keys.destroyed(), &keys.disabled) {
            (Some(stamp), ..) => (ProblemKind::Gone, format!("are being destroyed, as was decided {}", said(stamp))),
            (None, Some(stamp), _) => (
                ProblemKind::Gone,
                format!("were destroyed {}: what was under them cannot be read any more", said(stamp)),
            ),
            (None, None, Some(stamp)) => {
                (ProblemKind::Forbidden, format!("were disabled {}; who manages keys can enable them", said(stamp)))
            }
            _ => return Ok(()),
        };
        Err(Problem::new(kind, format!("the keys of {tenant} {why}")))
    }

    /// Under which keys a tenant's sealed content is: by name (none is plain), segments, entries and bytes.
    ///
    /// # Errors
    /// The caller may not see it, or the tenant's store does not answer.
    pub async fn key_use(
        &self,
        caller: &Caller,
        tenant: &TenantId,
    ) -> Result<Vec<(Option<String>, u64, u64, u64)>, Problem> {
        self.may(caller, Action::ReadKeys, tenant, ledger::name::StreamKind::Control)?;
        let used = self.book().store_of(tenant)?.key_use(tenant).await?;
        let named = used
            .into_iter()
            .map(|(key, (segments, entries, bytes))| (key.map(|key| key.to_string()), segments, entries, bytes));
        Ok(named.collect())
    }
}
