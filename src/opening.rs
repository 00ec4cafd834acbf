//! Opening the stores: the main one at the start, the others beside it and again and again until they answer; and
//! keeping the heads of each elsewhere.
//!
//! Not here: what a store is ([`ledger_store`]), who lives in which (`access`). Invariants: the service does not start
//! without its main store, and does not wait long for another; a store is opened by one task only.

use crate::heads::Keeping;
use crate::keyfile::KeyFile;
use crate::reach::access_to;
use crate::service::ServiceError;
use crate::settings::{Durable, Settings, StoreSettings};
use access::Stores;
use access::registry::change::StoreFact;
use ledger::group::Durability;
use ledger::name::{LedgerName, TenantId};
use ledger_store::{Ambient, HeadKeeper, KeySource, Store, StoreError, StoreOptions};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long the start waits for stores other than the main one.
const PATIENCE: Duration = Duration::from_secs(10);
/// After how long a store that could not be opened is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// The stores of a service, and what goes on around them.
pub struct Opening {
    stores: Stores,
    tasks: Vec<JoinHandle<()>>,
    keeping: Arc<Mutex<Vec<(Store, Keeping)>>>,
}

impl Opening {
    /// Opens the main store, and begins to open the others.
    ///
    /// # Errors
    /// The main store or the ledger's key are not to be had.
    pub async fn start(
        settings: &Settings,
        keys: &Arc<dyn KeySource>,
        ambient: &Arc<dyn Ambient>,
    ) -> Result<Self, ServiceError> {
        let main = open_store(settings, &settings.main, Some(Arc::clone(keys)), ambient).await?;
        let stores = Stores::new(main.clone(), facts(settings));
        let keeping = Arc::default();
        keep_heads(settings, ambient, &main, &keeping)?;
        let mut tasks = Vec::new();
        let (told, mut first) = tokio::sync::mpsc::channel::<()>(1);
        for other in settings.others.clone() {
            let (settings, ambient, stores) = (settings.clone(), Arc::clone(ambient), stores.clone());
            let keys = Arc::clone(keys);
            let (keeping, mut told) = (Arc::clone(&keeping), Some(told.clone()));
            tasks.push(tokio::spawn(async move {
                loop {
                    let opened = open_store(&settings, &other, Some(Arc::clone(&keys)), &ambient).await;
                    // Whoever waits for the first try waits no longer.
                    told.take();
                    let kept = opened.and_then(|store| {
                        keep_heads(&settings, &ambient, &store, &keeping)?;
                        Ok(store)
                    });
                    match kept {
                        Ok(store) => {
                            tracing::info!(store = %other.name, location = %other.location, "the store is open");
                            return stores.opened(store);
                        }
                        Err(error) => {
                            let error = &error as &dyn Error;
                            tracing::error!(store = %other.name, error, "the store cannot be opened; tried again");
                        }
                    }
                    ambient.sleep(AGAIN).await;
                }
            }));
        }
        drop(told);
        let _ = tokio::time::timeout(PATIENCE, first.recv()).await;
        Ok(Self { stores, tasks, keeping })
    }

    /// The stores.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Seals if told to, keeps the last heads, and closes what is open.
    ///
    /// # Errors
    /// A seal failed; what was to be sealed stays in the log.
    pub async fn stop(self, seal: bool) -> Result<(), StoreError> {
        self.tasks.iter().for_each(JoinHandle::abort);
        let mut sealed = Ok(());
        for store in self.stores.open().filter(|_| seal) {
            sealed = sealed.and(store.seal_all().await);
        }
        let keeping = std::mem::take(&mut *self.keeping.lock().unwrap_or_else(PoisonError::into_inner));
        for (store, keeping) in keeping {
            keeping.stop(&store).await;
        }
        for store in self.stores.open() {
            store.close().await;
        }
        sealed
    }
}

/// Where each store is, as the registry puts it on record.
pub fn facts(settings: &Settings) -> BTreeMap<TenantId, StoreFact> {
    let all = std::iter::once(&settings.main).chain(&settings.others);
    let fact = |store: &StoreSettings| StoreFact {
        location: store.location.to_string(),
        region: store.region.clone(),
        durability: store.durability.as_str().into(),
    };
    all.map(|store| (store.name.clone(), fact(store))).collect()
}

/// Begins to keep a store's heads elsewhere, if settings say where.
fn keep_heads(
    settings: &Settings,
    ambient: &Arc<dyn Ambient>,
    store: &Store,
    keeping: &Mutex<Vec<(Store, Keeping)>>,
) -> Result<(), ServiceError> {
    if let Some((to, every)) = &settings.heads {
        let elsewhere = to.open(&access_to(to)?, Arc::clone(ambient))?;
        let task = Keeping::start(store.clone(), HeadKeeper::new(elsewhere), *every);
        keeping.lock().unwrap_or_else(PoisonError::into_inner).push((store.clone(), task));
    }
    Ok(())
}

/// Opens one of the stores that settings name, with the ledger's key; makes the key when the main store is new.
///
/// # Errors
/// Key or store are not to be had.
pub async fn open_store(
    settings: &Settings,
    which: &StoreSettings,
    tenant_keys: Option<Arc<dyn KeySource>>,
    ambient: &Arc<dyn Ambient>,
) -> Result<Store, ServiceError> {
    let objects = which.location.open(&access_to(&which.location)?, Arc::clone(ambient))?;
    let is_old = which.name != settings.main.name || ledger_store::holds_anything(&objects).await?;
    let keys = key_of(settings, is_old, ambient.as_ref())?;
    ledger_store::probe(&objects, &which.location, ambient.as_ref()).await?;
    let durability = match which.durability {
        Durable::Wal => Durability::Wal,
        Durable::Object => Durability::Object,
    };
    let options = StoreOptions {
        objects,
        durability,
        log: which.folder.join("wal"),
        log_lost: settings.log_lost.as_ref() == Some(&which.name),
        cache: which.folder.join("cache"),
        ledger: keys.ledger,
        name: which.name.clone(),
        signing: keys.keys,
        keys: tenant_keys,
        limits: settings.limits.clone(),
        ambient: Arc::clone(ambient),
    };
    Ok(Store::open(options).await?)
}

/// Reads the ledger's key; makes one when the ledger is new.
fn key_of(settings: &Settings, is_old: bool, ambient: &dyn Ambient) -> Result<KeyFile, ServiceError> {
    let path = settings.key();
    if path.exists() || is_old {
        return Ok(KeyFile::read(&path)?);
    }
    let mut random = [0; 4];
    ambient.fill_random(&mut random);
    let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let ledger: LedgerName = format!("ledger-{name}").parse().expect("letters, a hyphen and hexadecimal digits");
    let made = KeyFile::create(&path, ledger, ambient)?;
    tracing::info!(ledger = %made.ledger, "made a new ledger key; keep a copy of keys/ledger.key in a safe place");
    Ok(made)
}
