//! The registry kept up to date with the `control` stream, and the one place that appends changes to it.
//!
//! A change is decided on what was folded, and appended only if the stream still holds exactly that much: so two
//! administrators cannot overwrite each other unseen. Not here: the rules ([`super::check`], [`crate::policy`]).
//!
//! Invariants: what is not durable is not folded; a request's changes stand together or not at all. If we crash between
//! append and fold, the next start folds it.

mod founding;
mod kept;
mod placed;
mod telling;

pub use self::founding::Founded;
use super::change::{Change, PrincipalKind};
use super::entry::{Author, EntryError};
use super::names::FactId;
use super::told::told_to;
use super::{PLATFORM, Refusal, Registry, Stamp, check};
use crate::secret;
use crate::stores::Stores;
use ledger::draft::{Draft, Invalid};
use ledger::name::{StreamKind, TenantId};
use ledger_store::{Ambient, AppendRequest, Appended, Store, StoreError, Verdict};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// The format of the ledger that a first entry names (FORMAT.md).
const FORMAT: u32 = 1;
/// How often a change is decided anew because something else was first.
const ATTEMPTS: usize = 16;
/// How many changes one request may bring.
pub const MOST_CHANGES: usize = 10_000;
/// Into how many tenants' own `access` streams one request's changes may be told.
const MOST_TOLD: usize = 1_000;

/// The registry could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry of the stream.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// A change cannot be an entry.
    #[error("a value of the change is not admissible: {0}")]
    Invalid(#[from] Invalid),
    /// A change does not fit; which of the request's, and why.
    #[error("change {at}: {refusal}")]
    Refused {
        /// Which of the request's changes, from 0.
        at: usize,
        /// Why.
        refusal: Refusal,
    },
    /// The caller may not make a change.
    #[error("change {at}: {why}")]
    Forbidden {
        /// Which of the request's changes, from 0.
        at: usize,
        /// What is missing.
        why: String,
    },
    /// Tenants live in a store that the settings do not name.
    #[error("{count} tenants live in the store {store}, {first} among them, and the settings do not name it")]
    NoStore {
        /// Which.
        store: TenantId,
        /// How many.
        count: usize,
        /// One of them.
        first: TenantId,
    },
    /// The settings say that a store is elsewhere than it was.
    #[error(
        "the store {store} was at {from} and the settings say {to}: if its objects were copied there whole, say \
         --store-moved {store}; else its tenants' histories would begin a second time"
    )]
    Moved {
        /// Which.
        store: TenantId,
        /// Where it was.
        from: String,
        /// Where the settings say that it is.
        to: String,
    },
    /// The settings put tenants where their policies do not allow.
    #[error("the settings do not fit a residency policy: {0}")]
    Misplaced(String),
    /// Too many changes were made at the same time.
    #[error("the registry changes too quickly; send again shortly")]
    Busy,
}

/// A change that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its entry's sequence number.
    pub seq: u64,
    /// The change as it stands in the entry.
    pub change: Change,
    /// The key of a new credential, which is shown this once.
    pub key: Option<String>,
    /// The tenants that are told of it in their own `access` streams, and in which stores they live.
    concerned: BTreeMap<TenantId, TenantId>,
}

/// What a request's changes came to.
pub type Decided = Result<Vec<Made>, BookError>;

/// The registry of one platform.
pub struct Book {
    stores: Stores,
    ambient: Arc<dyn Ambient>,
    registry: RwLock<Registry>,
    cursors: telling::Cursors,
    /// When to try to keep a snapshot again, after it failed.
    patience: AtomicI64,
    /// How many changes the last snapshot covers.
    kept: AtomicU64,
    /// Whoever changes something holds this.
    turn: tokio::sync::Mutex<()>,
}

impl Book {
    /// Folds the stream. When there is none, begins it: answers the administrator's key then, which is shown this once.
    ///
    /// # Errors
    /// The stream cannot be read, or the first entries cannot be appended.
    pub async fn open(stores: Stores, ambient: Arc<dyn Ambient>) -> Result<(Self, Option<Founded>), BookError> {
        let others = stores.facts().keys().filter(|name| *name != stores.main().name());
        let cursors = others.map(|name| (name.clone(), Default::default())).collect();
        let (registry, turn) = (RwLock::default(), tokio::sync::Mutex::default());
        let (kept, patience) = (AtomicU64::new(0), AtomicI64::new(0));
        let book = Self { stores, ambient, registry, cursors, patience, kept, turn };
        book.load().await?;
        book.refresh().await?;
        let founded = if book.read().size() == 0 { Some(book.found().await?) } else { None };
        Ok((book, founded))
    }

    /// The registry as it is now. Not to be held while waiting for anything.
    pub fn read(&self) -> RwLockReadGuard<'_, Registry> {
        // A panic while it was written leaves a fold of fewer entries, which is what it was before.
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stores.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    pub(crate) fn main(&self) -> &Store {
        self.stores.main()
    }

    /// Folds what the stream holds beyond what was folded.
    ///
    /// # Errors
    /// Stored bytes cannot be read, or an entry cannot.
    pub async fn refresh(&self) -> Result<(), BookError> {
        let platform = platform();
        let Ok(handle) = self.main().reader(&platform, StreamKind::Control) else { return Ok(()) };
        let mut read: Vec<(u64, Option<(Stamp, Change)>)> = Vec::new();
        let from = self.read().size();
        let each = |seq, draft: &Draft| {
            read.push((seq, Change::of_entry(seq, draft)?));
            Ok::<(), BookError>(())
        };
        handle.entries(from, each).await?;
        let mut registry = self.registry.write().unwrap_or_else(PoisonError::into_inner);
        for (seq, change) in read {
            // Another refresh may have folded it meanwhile.
            if seq == registry.size() {
                match change {
                    Some((stamp, change)) => registry.apply(stamp, &change),
                    None => registry.pass(seq),
                }
            }
        }
        Ok(())
    }

    /// The registry as it was at a moment, or when its stream held so many entries, folded from zero.
    ///
    /// # Errors
    /// As [`Book::refresh`].
    pub async fn as_of(&self, at: i64, size: Option<u64>) -> Result<Registry, BookError> {
        let mut registry = Registry::default();
        let Ok(handle) = self.main().reader(&platform(), StreamKind::Control) else { return Ok(registry) };
        let each = |seq, draft: &Draft| {
            // Times of record never decrease along a stream.
            if draft.recorded_at() <= at
                && size.is_none_or(|size| seq < size)
                && let Some((stamp, change)) = Change::of_entry(seq, draft)?
            {
                registry.apply(stamp, &change);
            }
            Ok::<(), BookError>(())
        };
        handle.entries(0, each).await?;
        Ok(registry)
    }

    /// Makes changes, together or not at all. `may` says whether the caller may make one, on the registry with those
    /// before it made.
    ///
    /// # Errors
    /// A change does not fit or may not be made, or the store does not accept.
    pub async fn change(
        &self,
        author: &Author,
        changes: Vec<Change>,
        may: impl Fn(&Registry, &Change) -> Result<(), String>,
    ) -> Decided {
        check::check_forms(&changes).map_err(|(at, refusal)| BookError::Refused { at, refusal })?;
        self.make(author, changes, |registry, change, now| {
            // First whether it may: what does not fit tells what there is.
            may(registry, change).map_err(Objection::Forbidden)?;
            registry.check(change, now).map_err(Objection::Refused)
        })
        .await
    }

    /// Makes a change that the service itself decides on.
    ///
    /// # Errors
    /// The store does not accept.
    pub async fn note(&self, change: Change) -> Decided {
        self.note_all(vec![change]).await
    }

    /// Makes changes that the service itself decides on, together or not at all.
    ///
    /// # Errors
    /// The store does not accept.
    pub async fn note_all(&self, changes: Vec<Change>) -> Decided {
        self.make(&Author::system(), changes, |_, _, _| Ok(())).await
    }

    /// Puts the deployer's policies on record, if they are others than those that are.
    ///
    /// # Errors
    /// The store does not accept.
    pub async fn note_policies(&self, added: &[(String, String)]) -> Result<(), BookError> {
        let hash = |text: &String| ledger::Hash::of(text.as_bytes()).to_hex();
        let files: BTreeMap<String, String> = added.iter().map(|(name, text)| (name.clone(), hash(text))).collect();
        if *self.read().policies() != files {
            self.note(Change::SetPolicies { files }).await?;
        }
        Ok(())
    }

    async fn make(
        &self,
        author: &Author,
        changes: Vec<Change>,
        allowed: impl Fn(&Registry, &Change, i64) -> Result<(), Objection>,
    ) -> Decided {
        let _turn = self.turn.lock().await;
        let mut made: Vec<Made> = Vec::with_capacity(changes.len());
        for _ in 0..ATTEMPTS {
            self.refresh().await?;
            let now = self.ambient.now_micros();
            made.clear();
            let mut drafts = Vec::with_capacity(changes.len());
            let size = self.check_all(author, &changes, &allowed, now, &mut made)?;
            // Ids that were never used: after a lost log, positions are given again, and tenants remember the old ones.
            let request = self.new_id("c");
            let mut told = BTreeMap::new();
            for one in &made {
                drafts.push(one.change.entry(format!("{request}-{}", drafts.len()), author, now)?);
                if let (Some(credential), Some(sha256)) = (one.change.credential(), hash_of(one)) {
                    let secret = Change::Secret { credential, sha256 };
                    drafts.push(secret.entry(format!("{request}-{}", drafts.len()), author, now)?);
                }
                told.extend(one.concerned.clone());
            }
            let control = self.main().appender(&platform(), StreamKind::Control);
            let mut parts = vec![(control, drafts)];
            if told.len() > MOST_TOLD {
                let why = format!(
                    "the changes concern {} tenants, and each is told: send them in parts of {MOST_TOLD}",
                    told.len()
                );
                return Err(BookError::Refused { at: 0, refusal: Refusal { is_conflict: false, why } });
            }
            // Who lives in another store is told after it stands, from the stream itself.
            for (tenant, _) in told.into_iter().filter(|(_, store)| store == self.main().name()) {
                let its = made.iter().filter(|one| one.concerned.contains_key(&tenant));
                let entries: Result<Vec<_>, Invalid> =
                    its.map(|one| told_to(&tenant, one.seq, &one.change, &request, author, now)).collect();
                parts.push((self.main().appender(&tenant, StreamKind::Access), entries?));
            }
            let request = AppendRequest { parts, atomic: true, expects: Some(size), ..Default::default() };
            match self.main().append(request).await {
                Ok(Appended::Done { verdicts, .. }) => {
                    let first = verdicts.first().and_then(|verdicts| verdicts.first());
                    if !matches!(first, Some(Verdict::Accepted(_)) | None) {
                        return Err(BookError::Busy);
                    }
                    self.refresh().await?;
                    // Loud: whoever watches the service's own log hears of it now.
                    for one in made.iter().filter(|one| matches!(one.change, Change::BreakGlass(_))) {
                        tracing::warn!(seq = one.seq, principal = %author.principal, "an elevation was taken without approval");
                    }
                    return Ok(made);
                }
                Ok(_) | Err(StoreError::Moved { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(BookError::Busy)
    }

    /// Checks each change on the registry with those before it made, and completes it. Answers how much was folded.
    fn check_all(
        &self,
        author: &Author,
        changes: &[Change],
        allowed: &impl Fn(&Registry, &Change, i64) -> Result<(), Objection>,
        now: i64,
        made: &mut Vec<Made>,
    ) -> Result<u64, BookError> {
        // On a copy: policies are asked many questions, and nobody else should wait for the answers.
        let mut registry = self.read().clone();
        let size = registry.size();
        let mut next = size;
        for (at, change) in changes.iter().enumerate() {
            allowed(&registry, change, now).map_err(|objection| match objection {
                Objection::Refused(refusal) => BookError::Refused { at, refusal },
                Objection::Forbidden(why) => BookError::Forbidden { at, why },
            })?;
            let (change, key) = self.complete(&registry, author, change.clone());
            let (seq, by) = (next, author.principal.clone());
            next += 1 + u64::from(key.is_some());
            registry.apply(Stamp { seq, at: now, by, reason: String::new() }, &change);
            let concerned = registry.concerned(&change);
            let concerned = concerned.into_iter().map(|tenant| (tenant.clone(), registry.placement(&tenant).clone()));
            made.push(Made { seq, change, key, concerned: concerned.collect() });
        }
        Ok(size)
    }

    /// Fills in what the service decides: ids, who asks, the secret.
    fn complete(&self, registry: &Registry, author: &Author, mut change: Change) -> (Change, Option<String>) {
        let mut key = None;
        match &mut change {
            Change::CreateTenant(fact) => {
                let parent = fact.parent.clone().unwrap_or_else(platform);
                fact.store.get_or_insert_with(|| registry.placement_below(&parent).clone());
                fact.tier.get_or_insert(registry.tier_below(&parent));
            }
            Change::UpdateTenant(fact) => {
                let tier = registry.tenant(&fact.tenant).map(super::Tenant::tier);
                fact.tier.get_or_insert(tier.unwrap_or_default());
            }
            Change::CreateCredential(fact) => {
                let id = fact.credential.insert(self.new_id("k")).clone();
                let kind = registry.principal(&fact.principal).map(|found| found.fact.kind);
                let mut random = [0; 32];
                self.ambient.fill_random(&mut random);
                key = Some(secret::make(kind.unwrap_or(PrincipalKind::User), &id, &random).0);
            }
            Change::CreateGrant(fact) => fact.grant = Some(self.new_id("g")),
            Change::OpenIncident(fact) => {
                fact.incident = Some(self.new_id("i"));
                fact.owner.get_or_insert(author.principal.clone());
            }
            Change::OpenReview(fact) => {
                fact.review = Some(self.new_id("r"));
                fact.owner.get_or_insert(author.principal.clone());
            }
            Change::SetHold(fact) => fact.hold = Some(self.new_id("h")),
            Change::AskRedaction(fact) => {
                fact.redaction = Some(self.new_id("x"));
                fact.by = Some(author.principal.clone());
            }
            Change::ApproveRedaction(act) => act.run = Some(self.new_id("p")),
            Change::BeginPurge(fact) => {
                fact.run = Some(self.new_id("p"));
                fact.by = Some(author.principal.clone());
            }
            Change::BeginJob(fact) => fact.run = Some(self.new_id("j")),
            Change::AskElevation(fact) | Change::BreakGlass(fact) => {
                fact.elevation = Some(self.new_id("e"));
                fact.principal = Some(author.principal.clone());
            }
            _ => {}
        }
        (change, key)
    }

    fn new_id(&self, kind: &str) -> FactId {
        let mut random = [0; 8];
        self.ambient.fill_random(&mut random);
        let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{kind}{digits}").parse().expect("a letter and hexadecimal digits")
    }
}

enum Objection {
    Refused(Refusal),
    Forbidden(String),
}

/// The platform's own tenant.
pub(crate) fn platform() -> TenantId {
    PLATFORM.parse().expect("a plain name")
}

/// A tenant that is not there: only rights on all tenants reach it.
pub(crate) fn nowhere() -> TenantId {
    "0".repeat(63).parse().expect("a plain name")
}

fn hash_of(made: &Made) -> Option<String> {
    let secret = made.key.as_deref()?.rsplit('_').next()?;
    Some(ledger::Hash::of(secret.as_bytes()).to_hex())
}
