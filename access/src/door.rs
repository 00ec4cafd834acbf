//! The one place that hands out handles to tenants' streams, after authorization.
//!
//! A decision asks the registry for the caller's rights on the tenant and the policies what each permits; it is kept
//! until the registry changes or a right ends. Not here: what a handle can do (`ledger-store`), what is recorded
//! ([`crate::record`]).
//!
//! Invariants: there is no default tenant and no optional one; a tenant that is not there and one that the caller has
//! no right on are answered alike; whatever is decided is noted in the caller's visit.

mod grants;
mod jobs;
mod keys;
mod purges;
mod quotas;
mod reading;
mod reviews;
mod signing;
mod tables;
mod used;

pub use self::grants::RegistrySeen;
pub use self::keys::KeySettings;
pub(crate) use self::keys::unwrap_all;
pub use self::purges::certificate_entry;
pub use self::reading::Opened;
pub use self::reviews::ReviewSight;
pub use self::signing::LedgerKeyFile;
use crate::authority;
use crate::caller::Caller;
use crate::fairness::Fairness;
use crate::policy::{Action, Policies, Question};
use crate::problem::{Problem, ProblemKind};
use crate::progress::Ongoing;
use crate::record::Recorder;
use crate::registry::change::{Change, FactAct};
use crate::registry::names::{FactId, PrincipalId};
use crate::registry::{Book, Elevation, Made, Registry};
use crate::sight::{Sight, View};
use crate::stores::Stores;
use crate::token::{Issuer, Tokens};
use crate::visit::{Denied, Touch};
use ledger::name::{StreamKind, TenantId};
use ledger_store::{Ambient, AppendHandle, AppendRequest, Appended, Store};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::Semaphore;

/// Decisions that are kept.
const MOST_KEPT: usize = 1 << 16;

/// Hands out handles, after authorization.
#[derive(Clone)]
pub struct Door(Arc<Inner>);

struct Inner {
    ambient: Arc<dyn Ambient>,
    book: Arc<Book>,
    policies: Policies,
    kept: RwLock<Kept>,
    recorder: Recorder,
    fairness: Arc<Fairness>,
    ongoing: Ongoing,
    keys: KeySettings,
    tokens: Tokens,
    /// Folds of the past at the same time.
    folds: Semaphore,
    /// When keys were used last since the start.
    used: Mutex<HashMap<FactId, i64>>,
    /// Whoever says what is kept has it, and whoever purges.
    kept_still: Arc<tokio::sync::Mutex<()>>,
}

/// Decisions on one version of the registry.
#[derive(Default)]
struct Kept {
    version: u64,
    decisions: HashMap<Asked, Decision>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Asked {
    principal: PrincipalId,
    /// Where the credential makes a difference to what the principal may: which.
    variant: Option<String>,
    method: &'static str,
    action: Action,
    tenant: TenantId,
    stream: StreamKind,
}

#[derive(Debug, Clone)]
struct Decision {
    sight: Option<Arc<Sight>>,
    /// Until when it holds, in microseconds.
    ends: i64,
}

impl Door {
    /// A door to the stores of a registry.
    pub fn new(
        book: Book,
        policies: Policies,
        issuers: Vec<Issuer>,
        keys: KeySettings,
        ambient: Arc<dyn Ambient>,
    ) -> Self {
        let tokens = Tokens::new(issuers, Arc::clone(&ambient));
        let book = Arc::new(book);
        let recorder = Recorder::new(Arc::clone(&book), Arc::clone(&ambient));
        Self(Arc::new(Inner {
            ambient,
            book,
            policies,
            kept: RwLock::default(),
            recorder,
            fairness: Arc::default(),
            ongoing: Ongoing::default(),
            keys,
            tokens,
            folds: Semaphore::new(2),
            used: Mutex::default(),
            kept_still: Arc::default(),
        }))
    }

    /// The registry.
    pub fn book(&self) -> &Book {
        &self.0.book
    }

    /// What checks tokens.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// Requests whose progress is watched.
    pub(crate) fn ongoing(&self) -> &Ongoing {
        &self.0.ongoing
    }

    /// What puts visits on record.
    pub(crate) fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    /// The time, in microseconds.
    pub fn now(&self) -> i64 {
        self.0.ambient.now_micros()
    }

    /// Whether the caller may do something to a tenant, or to a stream of it; and what they see of it.
    ///
    /// # Errors
    /// [`ProblemKind::Forbidden`]; [`ProblemKind::NotFound`] to who may know that there is no such tenant.
    pub fn may(
        &self,
        caller: &Caller,
        action: Action,
        tenant: &TenantId,
        stream: StreamKind,
    ) -> Result<Arc<Sight>, Problem> {
        self.may_bring(caller, action, tenant, stream, (0, 0))
    }

    fn may_bring(
        &self,
        caller: &Caller,
        action: Action,
        tenant: &TenantId,
        stream: StreamKind,
        brought: (u64, u64),
    ) -> Result<Arc<Sight>, Problem> {
        let decision = self.decide(caller, action, tenant, stream);
        let registry = self.0.book.read();
        let exists = registry.tenant(tenant).is_some();
        match decision {
            Some(sight) if exists => {
                self.touch(caller, action, tenant, stream, &sight, brought);
                Ok(sight)
            }
            Some(_) => Err(Problem::new(ProblemKind::NotFound, format!("there is no tenant {tenant}"))),
            None => {
                caller.visit().deny(Denied { tenant: tenant.clone(), exists, stream, action });
                let (of, action) =
                    (if action.is_of_stream() { format!("/{stream}") } else { String::new() }, action.as_str());
                let detail = format!(
                    "{action} on {tenant}{of} is not granted to you; whoever administers that tenant can grant it"
                );
                Err(Problem::new(ProblemKind::Forbidden, detail))
            }
        }
    }

    fn touch(
        &self,
        caller: &Caller,
        action: Action,
        tenant: &TenantId,
        stream: StreamKind,
        sight: &Sight,
        brought: (u64, u64),
    ) {
        for (at, view) in sight.views().iter().enumerate() {
            caller.visit().touch(Touch {
                tenant: tenant.clone(),
                stream,
                action,
                right: view.right.clone(),
                is_elevation: view.is_elevation,
                is_whole: sight.is_whole(),
                // Counted once, under the first of the rights that allow it.
                brought: if at == 0 { brought } else { (0, 0) },
            });
        }
    }

    fn decide(&self, caller: &Caller, action: Action, tenant: &TenantId, stream: StreamKind) -> Option<Arc<Sight>> {
        let now = self.now();
        let asked = Asked {
            principal: caller.principal().clone(),
            variant: caller.variant(),
            method: caller.method(),
            action,
            tenant: tenant.clone(),
            stream,
        };
        let registry = self.0.book.read();
        let version = registry.version();
        {
            let kept = self.0.kept.read().unwrap_or_else(PoisonError::into_inner);
            let found = kept.decisions.get(&asked).filter(|decision| kept.version == version && now < decision.ends);
            if let Some(decision) = found {
                return decision.sight.clone();
            }
        }
        let decision = self.ask(&registry, caller, &asked, now);
        let sight = decision.sight.clone();
        let mut kept = self.0.kept.write().unwrap_or_else(PoisonError::into_inner);
        if kept.version != version || kept.decisions.len() >= MOST_KEPT {
            kept.decisions.clear();
            kept.version = version;
        }
        kept.decisions.insert(asked, decision);
        sight
    }

    fn ask(&self, registry: &Registry, caller: &Caller, asked: &Asked, now: i64) -> Decision {
        let Asked { action, tenant, stream, .. } = asked;
        // A token's claims hold as long as the token.
        let mut ends = caller.ends().unwrap_or(i64::MAX);
        // What is suspended takes nothing in; it can still be looked at, and set up again.
        let is_shut = *action == Action::AppendEvents && registry.is_suspended(tenant);
        if is_shut || !caller.reaches(registry, *action, tenant) {
            return Decision { sight: None, ends };
        }
        let mut views = Vec::new();
        let rights = registry.rights(caller.principal(), tenant, now).chain(caller.claimed(registry, tenant));
        for right in rights {
            let is_of_stream =
                right.limits.is_none_or(|limits| limits.streams.is_empty() || limits.streams.contains(stream));
            if action.is_of_stream() && !is_of_stream {
                continue;
            }
            let question = Question::of(caller, &right, *action, tenant, *stream);
            if self.0.policies.permits(registry, &question) {
                ends = ends.min(right.ends.unwrap_or(i64::MAX));
                views.push(View::of(&right));
            }
        }
        Decision { sight: Sight::of(views).map(Arc::new), ends }
    }

    /// A stream of a tenant, for appending so many events of so many bytes, which are taken out of the tenant's quota.
    ///
    /// # Errors
    /// As [`Door::may`]; [`ProblemKind::TooManyRequests`] with the bound that was reached.
    pub fn append_to(
        &self,
        caller: &Caller,
        tenant: &TenantId,
        stream: StreamKind,
        brought: (u64, u64),
    ) -> Result<AppendHandle, Problem> {
        // Only who may bring something takes anything out of the quota, and only what is taken is put on record.
        if self.decide(caller, Action::AppendEvents, tenant, stream).is_some() {
            self.may_use_keys(tenant, Action::AppendEvents)?;
            // What is for a store that is not open costs nothing.
            self.0.book.store_of(tenant)?;
            self.take(tenant, brought).map_err(|over| over.problem(tenant))?;
        }
        self.may_bring(caller, Action::AppendEvents, tenant, stream, brought)?;
        Ok(self.0.book.store_of(tenant)?.appender(tenant, stream))
    }

    /// Appends what handles of this door allow, all of them of one store.
    ///
    /// # Errors
    /// As [`ledger_store::Store::append`].
    pub async fn append(&self, request: AppendRequest) -> Result<Appended, Problem> {
        let stores = self.0.book.stores();
        let store = request.parts.first().map_or(stores.main().name(), |(handle, _)| handle.store()).clone();
        Ok(stores.get(&store)?.append(request).await?)
    }

    /// Makes changes of the registry, together or not at all.
    ///
    /// # Errors
    /// A change does not fit or is not granted to the caller, or the store does not accept.
    pub async fn change(&self, caller: &Caller, changes: Vec<Change>) -> Result<Vec<Made>, Problem> {
        let now = self.now();
        let changes = self.with_keys(caller, changes).await?;
        let _turn = self.may_change_ledger_keys(caller, &changes).await?;
        let decides = changes.iter().any(Change::decides_retention);
        let _still = if decides { Some(self.hold_still().await?) } else { None };
        let refused = Mutex::new(None);
        let may = |registry: &Registry, change: &Change| {
            // It did not fit before the changes that come with it.
            let is_unmade = matches!(change, Change::CreateKey(fact) | Change::RotateKey(fact) if fact.key.is_none());
            if is_unmade && registry.check(change, now).is_ok() {
                return Err("a key is made in a request after that which makes it fit".into());
            }
            let found = authority::may_change(&self.0.policies, registry, caller, change, now);
            found.map_err(|missing| {
                *refused.lock().unwrap_or_else(PoisonError::into_inner) = missing.denied;
                missing.why
            })
        };
        let made = self.0.book.change(&caller.author(), changes, may).await;
        if let Some(denied) = refused.into_inner().unwrap_or_else(PoisonError::into_inner) {
            caller.visit().deny(denied);
        }
        let made = made?;
        if made.iter().any(|one| {
            one.change.is_of_keys() || matches!(one.change, Change::CreateTenant(_) | Change::UpdateTenant(_))
        }) {
            self.look_after_keys().await;
        }
        for one in &made {
            self.carry_out_for_ledger_keys(&one.change).await?;
        }
        Ok(made)
    }

    /// Time passes: what others appended is folded, elevations whose time is over are put on record as such, and so are
    /// counts of hours that are over.
    pub async fn tick(&self) {
        if let Err(error) = self.0.book.refresh().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the registry could not be brought up to date");
        }
        for store in self.0.book.stores().open().skip(1) {
            // Each by itself: one that hangs holds up nobody.
            let (door, store) = (self.clone(), store.name().clone());
            tokio::spawn(async move {
                if let Err(error) = door.0.book.tell(&store).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(%store, error, "tenants of a store are told of changes later");
                }
            });
        }
        let now = self.now();
        let over: Vec<FactId> = {
            let registry = self.0.book.read();
            let is_over = |elevation: &Elevation| elevation.expired.is_none() && elevation.state(now) == "expired";
            registry.elevations().filter(|(_, elevation)| is_over(elevation)).map(|(id, _)| id.clone()).collect()
        };
        for id in over {
            let change = Change::ExpireElevation(FactAct { id, reason: "its time is over".into() });
            if let Err(error) = self.0.book.note(change).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "an expiry could not be put on record");
            }
        }
        self.look_after_keys().await;
        self.look_after_ledger_keys().await;
        self.note_use(now).await;
        if let Err(error) = self.0.book.keep().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "no snapshot of the registry could be kept");
        }
        self.0.recorder.tick(false).await;
    }

    /// Puts the counts of what goes on on record, before the store closes.
    pub async fn close(&self) {
        self.0.recorder.tick(true).await;
    }

    /// Brings the metrics that say how the stores are up to this moment.
    pub fn observe(&self) {
        self.stores().open().for_each(Store::observe);
    }

    /// The stores behind it.
    pub fn stores(&self) -> &Stores {
        self.0.book.stores()
    }
}
