//! The stores that the settings name.

use super::SettingsError;
use ledger::name::TenantId;
use ledger_store::{Location, LocationError};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// What an acknowledged event has survived to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Durable {
    /// The local disk, synced.
    Wal,
    /// The object store.
    Object,
}

impl Durable {
    /// As the settings say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wal => "wal",
            Self::Object => "object",
        }
    }
}

/// One of the stores.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// Its name.
    pub name: TenantId,
    /// Where its objects are.
    pub location: Location,
    /// In which region it lies, if that is known.
    pub region: Option<String>,
    /// What "durable" means in it.
    pub durability: Durable,
    /// The local folder with its log and caches.
    pub folder: PathBuf,
}

/// A store beside the main one, as the file describes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OtherStore {
    location: String,
    region: Option<String>,
    durability: Option<Durable>,
}

/// The name of the main store.
pub fn main_store() -> TenantId {
    access::registry::MAIN_STORE.parse().expect("a plain name")
}

pub(super) fn all_named<'s>(
    main: &'s StoreSettings,
    others: &'s [StoreSettings],
) -> impl Iterator<Item = &'s TenantId> {
    std::iter::once(&main.name).chain(others.iter().map(|other| &other.name))
}

/// A store beside the main one, its log and caches in a folder of its own.
pub(super) fn other_store(data: &Path, name: String, given: OtherStore) -> Result<StoreSettings, SettingsError> {
    let wrong = |why: String| SettingsError::Store { store: name.clone(), why };
    let rule = "a name is 1 to 63 of a-z 0-9 . _ -, beginning with a letter or digit";
    let parsed: TenantId = name.parse().map_err(|_| wrong(rule.into()))?;
    if parsed == main_store() {
        return Err(wrong("the main store is described by `store`, `region` and `durability`".into()));
    }
    let location = given.location.parse().map_err(|e: LocationError| wrong(e.to_string()))?;
    let (region, durability) = (given.region, given.durability.unwrap_or(Durable::Wal));
    Ok(StoreSettings { folder: data.join("stores").join(parsed.as_str()), name: parsed, location, region, durability })
}
