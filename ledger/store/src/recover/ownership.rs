//! Who may extend a store: its format, key and owner are stated, and each start takes an epoch.
//!
//! The owner is a log: the one on a disk with this id, or the one in the store's own objects. Its records are
//! numbered and never changed; the newest counts. A new one is made when the store is new, and when its log is
//! said to be lost: then it names another log, and the next generation.
//!
//! Not here: the records' texts ([`crate::log_head`]), the lock of the log's folder ([`crate::wal`]).
//!
//! Invariant: nothing of a store that belongs to another ledger, key or log is changed, and no log's folder is made
//! where one should have been.

use crate::error::StoreError;
use crate::layout;
use crate::log_head::{self, Owner};
use crate::objects::claim;
use crate::objects_of::list_numbers;
use crate::segment;
use crate::signing;
use crate::store::{Shared, StoreOptions};
use crate::wal::{LogFiles, LogFolder};
use ledger::group::Durability;
use ledger::name::Origin;
use object_store::path::Path;
use object_store::{ObjectStore, PutMode, PutOptions};
use std::sync::Arc;

/// The right to extend a store.
pub(super) struct Ownership {
    /// The generation in which its streams go on.
    pub generation: u32,
    /// The log's folder, if it has one.
    pub folder: Option<LogFolder>,
    /// The record that is still to be made.
    claim: Option<(u64, Owner)>,
}

/// The newest owner's record.
async fn newest_owner(objects: &Arc<dyn ObjectStore>) -> Result<Option<(u64, Owner)>, StoreError> {
    let owners = list_numbers(objects, &layout::owners(), layout::owner).await?;
    let Some(number) = owners.last().copied() else { return Ok(None) };
    let path = layout::owner(number);
    let bytes = segment::fetch(objects, &path).await?;
    let object = path.to_string();
    match (log_head::read_owner(&bytes), log_head::newer_record(&bytes, log_head::OWNER_FORM)) {
        (Some(owner), _) => Ok(Some((number, owner))),
        (None, Some(what)) => Err(StoreError::Newer { object, what: what.into() }),
        (None, None) => {
            Err(StoreError::Damaged { path: object, why: "it does not name the log that may extend this store" })
        }
    }
}

/// Finds out whether this log may extend the store, and takes its folder.
///
/// # Errors
/// The store belongs to another log or keeps another durability; or its log is not there.
pub(super) async fn find(options: &StoreOptions, files: Arc<dyn LogFiles>) -> Result<Ownership, StoreError> {
    let newest = newest_owner(&options.objects).await?;
    if let Some((_, owner)) = newest.as_ref().filter(|(_, owner)| owner.durability != options.durability) {
        return Err(StoreError::Foreign {
            what: "a store keeps the durability that it was made with; set that, or make a new store",
            found: owner.durability.as_str().into(),
            expected: options.durability.as_str().into(),
        });
    }
    match options.durability {
        Durability::Wal => find_on_disk(options, files, newest),
        Durability::Object if options.log_lost => Err(StoreError::LogNotLost),
        Durability::Object => {
            let first = Owner { durability: Durability::Object, log: "-".into(), generation: 0 };
            let generation = newest.as_ref().map_or(0, |(_, owner)| owner.generation);
            let claim = newest.is_none().then_some((1, first));
            Ok(Ownership { generation, folder: None, claim })
        }
    }
}

fn find_on_disk(
    options: &StoreOptions,
    files: Arc<dyn LogFiles>,
    newest: Option<(u64, Owner)>,
) -> Result<Ownership, StoreError> {
    let is_made = LogFolder::is_made(&options.log);
    if let Some((_, owner)) = newest.as_ref().filter(|_| !is_made && !options.log_lost) {
        return Err(StoreError::LogMissing { log: owner.log.clone() });
    }
    let folder = LogFolder::take(&options.log, files, || {
        let mut id = [0; 16];
        options.ambient.fill_random(&mut id);
        id.iter().map(|byte| format!("{byte:02x}")).collect()
    })?;
    let named = |generation| Owner { durability: Durability::Wal, log: folder.id().into(), generation };
    let (generation, claim) = match newest {
        None if options.log_lost => return Err(StoreError::LogNotLost),
        None => (0, Some((1, named(0)))),
        Some((_, owner)) if owner.log == folder.id() => match options.log_lost {
            true => return Err(StoreError::LogNotLost),
            false => (owner.generation, None),
        },
        // A try that stopped before it made its record leaves an empty log.
        Some((number, owner)) if options.log_lost && folder.files()?.is_empty() => {
            let (number, generation) = (number.saturating_add(1), owner.generation.saturating_add(1));
            (generation, Some((number, named(generation))))
        }
        Some((_, owner)) => {
            return Err(StoreError::Foreign {
                what: "the store is extended by another write-ahead log",
                found: owner.log,
                expected: folder.id().into(),
            });
        }
    };
    Ok(Ownership { generation, folder: Some(folder), claim })
}

impl Ownership {
    /// Makes the owner's record, when there is one to be made. From then on this log alone may extend the store.
    ///
    /// # Errors
    /// Somebody else was first.
    pub(super) async fn claim(&mut self, shared: &Shared) -> Result<(), StoreError> {
        if let Some((number, owner)) = &self.claim {
            let what = "the store is extended by another write-ahead log";
            state(shared, &layout::owner(*number), &log_head::owner_text(owner), what).await?;
        }
        self.claim = None;
        Ok(())
    }
}

/// States the store's format and key when it is new; refuses it when they are others, or the key is not at hand.
pub(super) async fn own(shared: &Shared, first_origin: &Origin) -> Result<(), StoreError> {
    let origin = first_origin.as_str();
    let (format, what) = (log_head::format_text(origin), "the store is of another format or ledger");
    state(shared, &layout::format(), &format, what).await?;
    signing::own(shared, first_origin).await
}

/// Creates a record, or finds that it says the same.
async fn state(shared: &Shared, path: &Path, text: &str, what: &'static str) -> Result<(), StoreError> {
    match shared.objects.put_opts(path, text.to_string().into(), PutOptions::from(PutMode::Create)).await {
        Ok(_) => Ok(()),
        Err(object_store::Error::AlreadyExists { .. }) => {
            let found = segment::fetch(&shared.objects, path).await?;
            if found == text.as_bytes() {
                return Ok(());
            }
            if let Some(what) = log_head::newer_record(&found, text) {
                return Err(StoreError::Newer { object: path.to_string(), what: what.into() });
            }
            let found = String::from_utf8_lossy(&found).trim_end().replace('\n', ", ");
            Err(StoreError::Foreign { what, found, expected: text.trim_end().replace('\n', ", ") })
        }
        Err(source) => Err(StoreError::Objects { path: path.to_string(), source }),
    }
}

/// Takes the next writer epoch; creating its record is what makes it ours.
///
/// It is above `last`, the highest that commits and log name, also when records of epochs are gone: commits
/// with a lower one would not be believed.
pub(super) async fn next_epoch(shared: &Shared, last: u64) -> Result<u64, StoreError> {
    loop {
        let recorded = list_numbers(&shared.objects, &layout::epochs(), layout::epoch).await?;
        let last = recorded.into_iter().next_back().unwrap_or_default().max(last);
        let path = layout::epoch(last);
        let exhausted = || StoreError::Damaged { path: path.to_string(), why: "no epoch is left above this one" };
        let epoch = last.checked_add(1).ok_or_else(exhausted)?;
        let path = layout::epoch(epoch);
        let text = log_head::epoch_text(epoch);
        // Each writer would write the same bytes: a claim, so that no two believe it theirs.
        match shared.objects.put_opts(&path, text.into(), claim()).await {
            Ok(_) => return Ok(epoch),
            Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(source) => return Err(StoreError::Objects { path: path.to_string(), source }),
        }
    }
}
