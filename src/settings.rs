//! Settings: defaults, then one TOML file, then the environment, then flags.
//!
//! Read once, before anything starts; each part gets its own small struct. Not here: what a limit means
//! (`limits.rs` of each crate). Invariant: an unknown key is an error that names it.

mod documents;
mod keys;
mod stores;

pub use self::keys::{KeyPlace, KeysSettings};
pub use self::stores::{Durable, StoreSettings, main_store};
use self::stores::{OtherStore, all_named, other_store};
use access::{ClaimGrant, Issuer, TlsFiles};
use clap::Args;
use ledger::name::TenantId;
use ledger_store::{Limits, Location, LocationError};
use query::controls::{ControlMap, MapError};
use retention::jobs::schedule::Malformed;
use retention::jobs::{LEASE, Schedules, read_schedules};
use retention::verification::BYTES;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Settings could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{path}, which holds settings or policies, cannot be read")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file is malformed.
    #[error("the settings file {path} is malformed")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A store's location is malformed.
    #[error("the setting {setting} is malformed")]
    Location {
        /// Which setting.
        setting: &'static str,
        /// What is wrong with it.
        #[source]
        source: LocationError,
    },
    /// Keys and events would cross a network in the clear.
    #[error(
        "listen address {0} is not a loopback address: set [tls] with certificate and key, or say --insecure where \
         something in front of the service encrypts"
    )]
    NotLoopback(SocketAddr),
    /// The control map does not hold together.
    #[error("the control map {path} cannot be used")]
    Controls {
        /// Which file.
        path: PathBuf,
        /// Where and why not.
        #[source]
        source: MapError,
    },
    /// A store beside the main one is not described well.
    #[error("the setting stores.{store} is malformed: {why}")]
    Store {
        /// Which.
        store: String,
        /// What is wrong with it.
        why: String,
    },
    /// A name in the settings is malformed.
    #[error("the setting {setting} is malformed: {why}")]
    Name {
        /// Which setting.
        setting: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// When a job is due is malformed.
    #[error("the setting jobs.{job} is malformed")]
    Schedule {
        /// Which job.
        job: String,
        /// What is wrong with it, and what would be right.
        #[source]
        source: Malformed,
    },
    /// Keys of an issuer would be fetched in the clear.
    #[error("jwks {0} must be https, or lie on this machine")]
    ClearJwks(String),
}

/// Where the ledger lives: shared by every command that touches it.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// The settings file (TOML)
    #[arg(long, env = "PIPEROLL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The folder with key, log and store
    #[arg(long, env = "PIPEROLL_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// The settings file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    data: Option<PathBuf>,
    store: Option<String>,
    region: Option<String>,
    stores: BTreeMap<String, OtherStore>,
    heads_to: Option<String>,
    heads_every_minutes: Option<u64>,
    listen: Option<SocketAddr>,
    durability: Option<Durable>,
    policies: Option<PathBuf>,
    controls: Option<PathBuf>,
    insecure: bool,
    tls: Option<Tls>,
    oidc: Vec<Oidc>,
    jobs: BTreeMap<String, String>,
    keys: keys::Keys,
    log: Log,
    limits: StoreLimits,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    clients: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Oidc {
    issuer: String,
    audience: String,
    jwks: String,
    #[serde(default)]
    grants: Vec<OidcGrant>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct OidcGrant {
    claim: String,
    value: String,
    role: String,
    tenants: Vec<String>,
    #[serde(default)]
    subtree: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Log {
    format: Option<LogFormat>,
    level: Option<String>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StoreLimits {
    seal_bytes: Option<usize>,
    seal_age_seconds: Option<u64>,
    unsealed_bytes: Option<usize>,
    query_kept_bytes: Option<usize>,
    duplicate_window_seconds: Option<u64>,
    idempotency_window_seconds: Option<u64>,
    merge_bytes: Option<u64>,
    merge_inputs: Option<usize>,
    removed_grace_seconds: Option<u64>,
    undo_seconds: Option<u64>,
    job_lease_seconds: Option<u64>,
    verify_bytes: Option<u64>,
}

/// Everything that `serve` needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder with key and log, and the store when it is nowhere else.
    pub data: PathBuf,
    /// The store of the platform's own streams, and of every tenant that names no other.
    pub main: StoreSettings,
    /// The other stores.
    pub others: Vec<StoreSettings>,
    /// How tenants' keys are kept.
    pub keys: KeysSettings,
    /// Where heads are kept, and how often.
    pub heads: Option<(Location, Duration)>,
    /// When jobs are due that are due otherwise than they say themselves.
    pub jobs: Schedules,
    /// How long a run of a job is taken to be run when nothing more is heard of it.
    pub job_lease: Duration,
    /// Bytes of whole streams that a run of verification reads.
    pub verify_bytes: u64,
    /// Where to listen.
    pub listen: SocketAddr,
    /// How connections are encrypted, if they are.
    pub tls: Option<TlsFiles>,
    /// Whose tokens are taken.
    pub issuers: Vec<Issuer>,
    /// Which questions and artefacts satisfy which control.
    pub controls: ControlMap,
    /// The deployer's own policies: names of files, and their texts.
    pub policies: Vec<(String, String)>,
    /// The store whose write-ahead log is lost for ever, so that it goes on without it.
    pub log_lost: Option<TenantId>,
    /// Stores whose objects were copied whole to where the settings say they are.
    pub moved: Vec<TenantId>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines are written, as for `tracing-subscriber`.
    pub log_level: String,
    /// Bounds of the store.
    pub limits: Limits,
    /// Bounds of queries.
    pub query: query::Limits,
}

/// What flags and environment say; what they leave open, the file or the default decides.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Where the objects are.
    pub store: Option<Location>,
    /// Where heads are kept.
    pub heads_to: Option<Location>,
    /// Where to listen.
    pub listen: Option<SocketAddr>,
    /// What "durable" means.
    pub durability: Option<Durable>,
    /// The store whose write-ahead log is lost for ever.
    pub log_lost: Option<TenantId>,
    /// Stores whose objects were copied.
    pub moved: Vec<TenantId>,
    /// Whether something in front of the service encrypts.
    pub insecure: bool,
    /// How log lines look.
    pub log_format: Option<LogFormat>,
    /// Which log lines are written.
    pub log_level: Option<String>,
    /// Unsealed bytes of a stream that make it worth a segment.
    pub seal_bytes: Option<usize>,
}

/// The folder when nobody says otherwise.
const DEFAULT_DATA: &str = "piperoll-data";
/// How often heads are kept elsewhere: what a rolled-back stream may lose unseen.
const HEADS_EVERY_MINUTES: u64 = 5;

impl Place {
    /// The settings that flags, environment and file give a command that asks nothing more.
    ///
    /// # Errors
    /// The file cannot be read or has an unknown key.
    pub fn settings(&self, store: Option<Location>) -> Result<Settings, SettingsError> {
        Settings::load(self, Overrides { store, ..Overrides::default() })
    }

    /// The data folder that flag, environment or file name.
    ///
    /// # Errors
    /// The file cannot be read or has an unknown key.
    pub fn data(&self) -> Result<PathBuf, SettingsError> {
        Ok(self.settings(None)?.data)
    }
}

impl Settings {
    /// Puts file, environment and flags together.
    ///
    /// # Errors
    /// The file cannot be read or has an unknown key; the address is not a loopback one.
    pub fn load(place: &Place, overrides: Overrides) -> Result<Self, SettingsError> {
        let file = place.config.as_deref().map(read_file).transpose()?.unwrap_or_default();
        let default: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7117));
        let listen = overrides.listen.or(file.listen).unwrap_or(default);
        let tls = file.tls.map(|Tls { certificate, key, clients }| TlsFiles { certificate, key, clients });
        if !listen.ip().is_loopback() && tls.is_none() && !(overrides.insecure || file.insecure) {
            return Err(SettingsError::NotLoopback(listen));
        }
        let data = place.data.clone().or(file.data).unwrap_or_else(|| DEFAULT_DATA.into());
        let store = overrides.store.or(location("store", file.store)?);
        let main = StoreSettings {
            name: main_store(),
            location: store.unwrap_or_else(|| Location::folder(&store_in(&data))),
            region: file.region,
            durability: overrides.durability.or(file.durability).unwrap_or(Durable::Wal),
            folder: data.clone(),
        };
        let others: Vec<StoreSettings> =
            file.stores.into_iter().map(|(name, given)| other_store(&data, name, given)).collect::<Result<_, _>>()?;
        if let Some(name) =
            overrides.log_lost.as_ref().filter(|name| !all_named(&main, &others).any(|one| one == *name))
        {
            return Err(SettingsError::Store { store: name.to_string(), why: "it is not in the settings".into() });
        }
        let heads_to = overrides.heads_to.or(location("heads_to", file.heads_to)?);
        let heads_every =
            Duration::from_secs(file.heads_every_minutes.unwrap_or(HEADS_EVERY_MINUTES).max(1).saturating_mul(60));
        Ok(Self {
            keys: keys::keys(&data, file.keys)?,
            main,
            others,
            heads: heads_to.map(|to| (to, heads_every)),
            jobs: read_schedules(&file.jobs).map_err(|(job, source)| SettingsError::Schedule { job, source })?,
            job_lease: file.limits.job_lease_seconds.map_or(LEASE, |seconds| Duration::from_secs(seconds.max(1))),
            verify_bytes: file.limits.verify_bytes.unwrap_or(BYTES),
            data,
            listen,
            tls,
            issuers: file.oidc.into_iter().enumerate().map(issuer).collect::<Result<_, _>>()?,
            controls: documents::controls(file.controls.as_deref())?,
            policies: file.policies.as_deref().map(documents::policies).transpose()?.unwrap_or_default(),
            log_lost: overrides.log_lost,
            moved: overrides.moved,
            log_format: overrides.log_format.or(file.log.format).unwrap_or(LogFormat::Text),
            log_level: overrides.log_level.or(file.log.level).unwrap_or_else(|| "info".into()),
            limits: limits(&file.limits, overrides.seal_bytes),
            query: query_limits(&file.limits),
        })
    }

    /// One of the stores, by name.
    pub fn store(&self, name: &TenantId) -> Option<&StoreSettings> {
        std::iter::once(&self.main).chain(&self.others).find(|store| store.name == *name)
    }

    /// The key file.
    pub fn key(&self) -> PathBuf {
        key_in(&self.data)
    }
}

/// The key file below a data folder.
pub fn key_in(data: &Path) -> PathBuf {
    data.join("keys/ledger.key")
}

/// The store below a data folder.
pub fn store_in(data: &Path) -> PathBuf {
    data.join("store")
}

fn location(setting: &'static str, given: Option<String>) -> Result<Option<Location>, SettingsError> {
    let parse = |given: String| given.parse().map_err(|source| SettingsError::Location { setting, source });
    given.map(parse).transpose()
}

fn limits(file: &StoreLimits, seal_bytes: Option<usize>) -> Limits {
    let defaults = Limits::default();
    let seconds = |given: Option<u64>, default| given.map_or(default, Duration::from_secs);
    let unsealed_bytes = file.unsealed_bytes.unwrap_or(defaults.unsealed_bytes);
    let seal_bytes = seal_bytes.or(file.seal_bytes).unwrap_or(defaults.seal_bytes);
    // Who asks for larger segments than memory was meant to hold means both.
    let unsealed_bytes = unsealed_bytes.max(seal_bytes.saturating_mul(2));
    Limits {
        seal_bytes,
        unsealed_bytes,
        unsealed_bytes_hard: unsealed_bytes.saturating_mul(2),
        // The log must hold what is not sealed, twice over.
        log_files: defaults.log_files.max((unsealed_bytes as u64 / defaults.log_file_bytes).saturating_mul(2) as usize),
        seal_age: seconds(file.seal_age_seconds, defaults.seal_age),
        duplicate_window: seconds(file.duplicate_window_seconds, defaults.duplicate_window),
        idempotency_window: seconds(file.idempotency_window_seconds, defaults.idempotency_window),
        merge_bytes: file.merge_bytes.unwrap_or(defaults.merge_bytes),
        merge_inputs: file.merge_inputs.unwrap_or(defaults.merge_inputs),
        removed_grace: seconds(file.removed_grace_seconds, defaults.removed_grace),
        // What merging removed has the same entries: it goes no later.
        purged_grace: seconds(file.undo_seconds, defaults.purged_grace)
            .max(seconds(file.removed_grace_seconds, defaults.removed_grace)),
        ..defaults
    }
}

fn query_limits(file: &StoreLimits) -> query::Limits {
    let defaults = query::Limits::default();
    query::Limits { kept_bytes: file.query_kept_bytes.unwrap_or(defaults.kept_bytes), ..defaults }
}

/// An issuer, with its names checked.
fn issuer((number, given): (usize, Oidc)) -> Result<Issuer, SettingsError> {
    let wrong = |setting| move |why: String| SettingsError::Name { setting, why };
    let url = given.jwks.parse::<reqwest::Url>().map_err(|e| wrong("oidc.jwks")(e.to_string()))?;
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_string();
    let is_local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if url.scheme() != "https" && !is_local {
        return Err(SettingsError::ClearJwks(given.jwks));
    }
    let grant = |(at, grant): (usize, OidcGrant)| {
        let tenants = grant.tenants.iter().map(|tenant| {
            tenant.parse().map_err(|e: ledger::name::NameError| wrong("oidc.grants.tenants")(e.to_string()))
        });
        Ok(ClaimGrant {
            tenants: tenants.collect::<Result<_, SettingsError>>()?,
            role: grant
                .role
                .parse()
                .map_err(|e: access::registry::names::Malformed| wrong("oidc.grants.role")(e.to_string()))?,
            id: format!("claim-{number}-{at}")
                .parse()
                .map_err(|e: access::registry::names::Malformed| wrong("oidc")(e.to_string()))?,
            claim: grant.claim,
            value: grant.value,
            subtree: grant.subtree,
        })
    };
    let grants = given.grants.into_iter().enumerate().map(grant).collect::<Result<_, SettingsError>>()?;
    Ok(Issuer { issuer: given.issuer, audience: given.audience, jwks: given.jwks, grants })
}

fn read_file(path: &Path) -> Result<File, SettingsError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| SettingsError::Unreadable { path: path.into(), source })?;
    toml::from_str(&text).map_err(|source| SettingsError::Malformed { path: path.into(), source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, overrides: Overrides) -> Result<Settings, SettingsError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("piperoll.toml");
        std::fs::write(&path, text).unwrap();
        Settings::load(&Place { config: Some(path), data: None }, overrides)
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let text = "data = 'here'\nlisten = '127.0.0.1:9'\n[limits]\nseal_bytes = 7\nquery_kept_bytes = 9\n[log]\nformat = 'json'\n";
        let settings = load(text, Overrides { seal_bytes: Some(8), ..Overrides::default() }).unwrap();
        assert_eq!((settings.data.to_str(), settings.listen.port()), (Some("here"), 9));
        assert_eq!((settings.limits.seal_bytes, settings.log_format), (8, LogFormat::Json));
        assert_eq!(settings.query.kept_bytes, 9);
        let text =
            "data = 'here'\nstore = 's3://bucket/prefix'\nheads_to = 'az://other/heads'\nheads_every_minutes = 9\n";
        let settings = load(text, Overrides::default()).unwrap();
        let heads = settings.heads.map(|(to, every)| (to.to_string(), every.as_secs()));
        assert_eq!(
            (settings.main.location.to_string(), heads),
            ("s3://bucket/prefix".into(), Some(("az://other/heads".into(), 540)))
        );
        let settings = load("", Overrides::default()).unwrap();
        assert_eq!((settings.main.location.to_string(), settings.heads), ("piperoll-data/store".into(), None));
        assert_eq!(settings.data.to_str(), Some(DEFAULT_DATA));
        assert_eq!(settings.listen.to_string(), "127.0.0.1:7117");
    }

    #[test]
    fn stores_have_names_regions_and_folders_of_their_own() {
        let text = "data = 'd'\nregion = 'eu-central-1'\n[stores.us]\nlocation = 's3://us'\nregion = 'us-east-1'\ndurability = 'object'\n";
        let settings = load(text, Overrides::default()).unwrap();
        let us = settings.store(&"us".parse().unwrap()).unwrap();
        assert_eq!((us.location.to_string().as_str(), us.region.as_deref()), ("s3://us", Some("us-east-1")));
        assert_eq!((us.durability, us.folder.as_path()), (Durable::Object, Path::new("d/stores/us")));
        assert_eq!((settings.main.region.as_deref(), settings.main.durability), (Some("eu-central-1"), Durable::Wal));
        for (name, why) in
            [("main", "described by"), ("US", "a name is 1 to 63 of a-z"), ("us", "missing field `location`")]
        {
            let refused = load(
                &format!("[stores.{name}]\n{}", if why.starts_with("missing") { "" } else { "location = 'x'\n" }),
                Overrides::default(),
            );
            let refused = refused.unwrap_err();
            let cause = std::error::Error::source(&refused).map(ToString::to_string).unwrap_or_default();
            assert!(format!("{refused} {cause}").contains(why), "{refused} {cause}");
        }
        let lost = Overrides { log_lost: Some("us".parse().unwrap()), ..Overrides::default() };
        assert!(matches!(load("", lost), Err(SettingsError::Store { .. })));
    }

    #[test]
    fn jobs_are_due_as_the_settings_say_or_never() {
        let text = "[jobs]\nretention = '15 2 * * *'\nverify = 'never'\n[limits]\njob_lease_seconds = 30\n";
        let settings = load(text, Overrides::default()).unwrap();
        let said: Vec<_> =
            settings.jobs.iter().map(|(job, due)| (job.as_str(), due.as_ref().map(|due| due.text()))).collect();
        assert_eq!(said, [("retention", Some("15 2 * * *")), ("verify", None)]);
        assert_eq!(settings.job_lease, Duration::from_secs(30));
        let wrong = load("[jobs]\nverify = 'at noon'\n", Overrides::default()).unwrap_err();
        let cause = std::error::Error::source(&wrong).unwrap().to_string();
        assert!(
            wrong.to_string().contains("jobs.verify") && cause.contains("\"at noon\" is no cron expression"),
            "{cause}"
        );
    }

    #[test]
    fn wrong_settings_are_named() {
        let unknown = load("lisen = '127.0.0.1:9'", Overrides::default()).unwrap_err();
        let cause = std::error::Error::source(&unknown).unwrap().to_string();
        assert!(cause.contains("lisen") && cause.contains("listen"), "{cause}");
        let no_place = load("store = 's3://key:sesame@bucket'", Overrides::default()).unwrap_err();
        assert!(matches!(no_place, SettingsError::Location { setting: "store", .. }));
        assert!(!format!("{no_place:?}").contains("sesame"));
        assert!(matches!(load("listen = '0.0.0.0:1'", Overrides::default()), Err(SettingsError::NotLoopback(_))));
    }
}
