//! The provider that wraps tenants' keys, as the settings name it; secrets that it takes come from files or the
//! environment, and from nowhere else.
//!
//! Not here: what a provider does (`access::keys`). Invariant: no secret is in a setting.

use crate::settings::{KeyPlace, KeysSettings};
use access::keys::{KeyProvider, Keyring, KeyringError, ProviderError, Vault, VaultSettings};
use ledger_store::Ambient;
use std::path::PathBuf;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The passphrase of the keyring.
const PASSPHRASE: &str = "PIPEROLL_KEYRING_PASSPHRASE";
/// The token of the server.
const TOKEN: &str = "PIPEROLL_VAULT_TOKEN";

/// The key provider is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The keyring.
    #[error("the keyring cannot be used")]
    Keyring(#[from] KeyringError),
    /// The server.
    #[error("the key server cannot be used")]
    Server(#[from] ProviderError),
    /// The file with the token.
    #[error("the file {path}, which holds the key server's token, cannot be read")]
    Token {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// No token.
    #[error("the key server needs a token: name a file with keys.token_file, or set {TOKEN}")]
    NoToken,
}

/// The provider that the settings name; none, when they say so.
///
/// # Errors
/// The keyring or the token cannot be read.
pub fn provider(
    settings: &KeysSettings,
    ambient: &Arc<dyn Ambient>,
) -> Result<Option<Arc<dyn KeyProvider>>, KeysError> {
    let secret = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty()).map(Zeroizing::new);
    Ok(match &settings.place {
        KeyPlace::None => None,
        KeyPlace::Keyring { path } => {
            let passphrase = secret(PASSPHRASE);
            let passphrase = passphrase.as_ref().map(|text| text.as_str());
            Some(Arc::new(Keyring::open(path, passphrase, Arc::clone(ambient))?))
        }
        KeyPlace::Vault { address, mount, token_file } => {
            let token = match token_file {
                Some(path) => {
                    let read = std::fs::read_to_string(path).map(Zeroizing::new);
                    let read = read.map_err(|source| KeysError::Token { path: path.clone(), source })?;
                    Zeroizing::new(read.trim().to_string())
                }
                None => secret(TOKEN).ok_or(KeysError::NoToken)?,
            };
            let settings = VaultSettings { address: address.clone(), mount: mount.clone(), token };
            Some(Arc::new(Vault::new(settings)?))
        }
    })
}
