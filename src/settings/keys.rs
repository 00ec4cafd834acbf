//! Who wraps tenants' keys.

use super::SettingsError;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How old a key gets where settings say nothing: a quarter of a year.
const ROTATE_AFTER_DAYS: u32 = 90;

/// The table `keys` of the settings file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Keys {
    provider: Option<Provider>,
    path: Option<PathBuf>,
    address: Option<String>,
    mount: Option<String>,
    token_file: Option<PathBuf>,
    all: bool,
    rotate_after_days: Option<u32>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Provider {
    Keyring,
    Vault,
    None,
}

/// How tenants' keys are kept.
#[derive(Debug, Clone)]
pub struct KeysSettings {
    /// Who wraps them.
    pub place: KeyPlace,
    /// Whether every tenant is to have one, and not only those whose tier says so.
    pub all: bool,
    /// How old a key gets before the job gives its tenant another.
    pub rotate_after: Duration,
}

/// Who wraps tenants' keys.
#[derive(Debug, Clone)]
pub enum KeyPlace {
    /// Nobody: none can be made.
    None,
    /// A file on this machine.
    Keyring {
        /// Which.
        path: PathBuf,
    },
    /// A server that speaks Vault's transit protocol.
    Vault {
        /// Where it is.
        address: reqwest::Url,
        /// Where its transit engine is mounted.
        mount: String,
        /// The file that holds the token; the environment when left out.
        token_file: Option<PathBuf>,
    },
}

/// What the file says, or the default: a keyring beside the ledger's key.
pub(super) fn keys(data: &Path, given: Keys) -> Result<KeysSettings, SettingsError> {
    let wrong = |setting, why: &str| SettingsError::Name { setting, why: why.into() };
    let place = match given.provider.unwrap_or(Provider::Keyring) {
        Provider::None if given.all => return Err(wrong("keys.all", "keys for all tenants need a provider")),
        Provider::None => KeyPlace::None,
        Provider::Keyring => KeyPlace::Keyring { path: given.path.unwrap_or_else(|| data.join("keys/keyring")) },
        Provider::Vault => {
            let address =
                given.address.ok_or_else(|| wrong("keys.address", "it is required with provider = 'vault'"))?;
            let address: reqwest::Url =
                address.parse().map_err(|_| wrong("keys.address", "it must be a URL, as in https://vault:8200"))?;
            let host = address.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
            let is_local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
            if address.scheme() != "https" && !is_local {
                return Err(wrong("keys.address", "it must be https, or lie on this machine"));
            }
            let mount = given.mount.unwrap_or_else(|| "transit".into());
            KeyPlace::Vault { address, mount, token_file: given.token_file }
        }
    };
    let days = given.rotate_after_days.unwrap_or(ROTATE_AFTER_DAYS);
    if days == 0 {
        return Err(wrong(
            "keys.rotate_after_days",
            "it must be at least 1; `jobs.key_rotation = 'never'` rotates none",
        ));
    }
    let rotate_after = Duration::from_secs(u64::from(days) * 86_400);
    Ok(KeysSettings { place, all: given.all, rotate_after })
}
