//! The file that holds the ledger's name and secret signing key.
//!
//! Three lines: `piperoll-key/v1`, `ledger NAME`, `secret HEX`. Not here: signing (`ledger`), rotation.
//! Invariants: it is created with mode 0600 and never overwritten; the secret is wiped from memory after use and
//! never printed.

use ledger::key::LedgerKey;
use ledger::name::LedgerName;
use ledger_store::Ambient;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::{Zeroize as _, Zeroizing};

const TAG: &str = "piperoll-key/v1";

/// A key file could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or written.
    #[error("the key file {path} cannot be {what}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Others may read it.
    #[error("the key file {path} may be read by others (mode {mode:o}); run: chmod 600 {path}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is of a later format.
    #[error("the key file {path} is written in a newer format: use a newer piperoll")]
    Newer {
        /// Which file.
        path: PathBuf,
    },
    /// It is no key file.
    #[error("{path} is no key file: expected the lines {TAG}, ledger NAME, secret HEX")]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
}

/// A ledger's name and key.
pub struct KeyFile {
    /// The name, chosen once.
    pub ledger: LedgerName,
    /// The secret key.
    pub key: LedgerKey,
}

impl KeyFile {
    /// Makes a key for a new ledger and writes its file.
    ///
    /// # Errors
    /// The file is there already, or cannot be written.
    pub fn create(path: &Path, ledger: LedgerName, ambient: &dyn Ambient) -> Result<Self, KeyFileError> {
        let mut secret = Zeroizing::new([0u8; 32]);
        ambient.fill_random(&mut *secret);
        let hex = Zeroizing::new(secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let text = Zeroizing::new(format!("{TAG}\nledger {ledger}\nsecret {}\n", *hex));
        let write = || -> std::io::Result<()> {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            folder.map_or(Ok(()), std::fs::create_dir_all)?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            folder.map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
        };
        write().map_err(|source| KeyFileError::Io { path: path.into(), what: "created", source })?;
        Ok(Self { ledger, key: LedgerKey::from_secret(&secret) })
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// It is not there, others may read it, or it is malformed.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let io = |source| KeyFileError::Io { path: path.into(), what: "read", source };
        let mode = std::fs::metadata(path).map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Open { path: path.into(), mode });
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(io)?);
        if text.lines().next().is_some_and(|tag| ledger::version::is_newer(tag, TAG)) {
            return Err(KeyFileError::Newer { path: path.into() });
        }
        Self::parse(&text).ok_or_else(|| KeyFileError::Malformed { path: path.into() })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != TAG {
            return None;
        }
        let ledger = lines.next()?.strip_prefix("ledger ")?.parse().ok()?;
        let hex = lines.next()?.strip_prefix("secret ")?;
        if hex.len() != 64 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) || lines.next().is_some() {
            return None;
        }
        let mut secret = [0u8; 32];
        for (byte, at) in secret.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&hex[at..at + 2], 16).ok()?;
        }
        let key = LedgerKey::from_secret(&secret);
        secret.zeroize();
        Some(Self { ledger, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemAmbient;

    #[test]
    fn a_key_file_reads_back_and_is_guarded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/ledger.key");
        let made = KeyFile::create(&path, "example".parse().unwrap(), &SystemAmbient::new()).unwrap();
        let read = KeyFile::read(&path).unwrap();
        assert_eq!(read.key.verifier("x").to_string(), made.key.verifier("x").to_string());
        assert!(KeyFile::create(&path, "other".parse().unwrap(), &SystemAmbient::new()).is_err(), "never overwritten");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(KeyFile::read(&path), Err(KeyFileError::Open { mode: 0o644, .. })));
        for bad in ["", "piperoll-key/v1\nledger x\nsecret 00\n", "piperoll-key/v2\nledger x\nsecret 00\n"] {
            assert!(KeyFile::parse(bad).is_none());
        }
    }
}
