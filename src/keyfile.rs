//! The file that holds the ledger's name and secret signing keys.
//!
//! Lines: `piperoll-key/v1`, `ledger NAME`, `secret HEX`, and `before HEX` for each key that it took the place of and that
//! still signs along, newest first. Not here: signing (`ledger`), who may rotate (`access`).
//! Invariants: it is created with mode 0600, and replaced whole by one that holds a new key, which is on the disk before
//! anything is signed with it; secrets are wiped from memory after use and never printed.

use ledger::key::{LedgerKey, LedgerKeys};
use ledger::name::LedgerName;
use ledger_store::Ambient;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

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
    #[error("{path} is no key file: expected the lines {TAG}, ledger NAME, secret HEX, and any number of before HEX")]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
}

/// A ledger's name and keys.
pub struct KeyFile {
    /// The name, chosen once.
    pub ledger: LedgerName,
    /// The key that signs, and those that it took the place of.
    pub keys: LedgerKeys,
}

impl KeyFile {
    /// Makes a key for a new ledger and writes its file.
    ///
    /// # Errors
    /// The file is there already, or cannot be written.
    pub fn create(path: &Path, ledger: LedgerName, ambient: &dyn Ambient) -> Result<Self, KeyFileError> {
        let text = Zeroizing::new(format!("{TAG}\nledger {ledger}\nsecret {}\n", *new_secret(ambient)));
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let write = || -> std::io::Result<()> {
            folder.map_or(Ok(()), std::fs::create_dir_all)?;
            write_new(path, &text)?;
            sync_folder_of(path)
        };
        write().map_err(|source| KeyFileError::Io { path: path.into(), what: "created", source })?;
        Self::parse(&text).ok_or_else(|| KeyFileError::Malformed { path: path.into() })
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// It is not there, others may read it, or it is malformed.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let text = read_text(path)?;
        Self::parse(&text).ok_or_else(|| KeyFileError::Malformed { path: path.into() })
    }

    /// Writes a file with a new key whose predecessors are the keys of `from`: in its place, or as another one.
    ///
    /// If we crash in between, the file is as it was or as it is to be.
    ///
    /// # Errors
    /// `from` cannot be read, `to` cannot be written or is another file that is there already.
    pub fn succeed(from: &Path, to: &Path, ambient: &dyn Ambient) -> Result<Self, KeyFileError> {
        let text = read_text(from)?;
        Self::parse(&text).ok_or_else(|| KeyFileError::Malformed { path: from.into() })?;
        let mut lines = text.lines();
        let front: Vec<&str> = lines.by_ref().take(2).collect();
        let before = lines.map(|line| line.replacen("secret ", "before ", 1)).collect::<Vec<_>>().join("\n");
        let before = Zeroizing::new(before);
        let text = Zeroizing::new(format!("{}\nsecret {}\n{}\n", front.join("\n"), *new_secret(ambient), *before));
        Self::put(to, &text, from == to)
    }

    /// Drops the keys of before from the file.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn forget_before(path: &Path) -> Result<Self, KeyFileError> {
        let text = read_text(path)?;
        Self::parse(&text).ok_or_else(|| KeyFileError::Malformed { path: path.into() })?;
        let text: String =
            text.lines().filter(|line| !line.starts_with("before ")).flat_map(|line| [line, "\n"]).collect();
        Self::put(path, &Zeroizing::new(text), true)
    }

    fn put(path: &Path, text: &str, replaces: bool) -> Result<Self, KeyFileError> {
        let write = || -> std::io::Result<()> {
            if !replaces {
                write_new(path, text)?;
                return sync_folder_of(path);
            }
            let mut staged = path.as_os_str().to_os_string();
            staged.push(".new");
            let staged = PathBuf::from(staged);
            // What an earlier try left, which nothing was ever signed with.
            match std::fs::remove_file(&staged) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            write_new(&staged, text)?;
            std::fs::rename(&staged, path)?;
            sync_folder_of(path)
        };
        write().map_err(|source| KeyFileError::Io { path: path.into(), what: "written", source })?;
        Self::parse(text).ok_or_else(|| KeyFileError::Malformed { path: path.into() })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != TAG {
            return None;
        }
        let ledger = lines.next()?.strip_prefix("ledger ")?.parse().ok()?;
        let current = key_of(lines.next()?.strip_prefix("secret ")?)?;
        let before = lines.map(|line| key_of(line.strip_prefix("before ")?)).collect::<Option<_>>()?;
        Some(Self { ledger, keys: LedgerKeys { current, before } })
    }
}

fn new_secret(ambient: &dyn Ambient) -> Zeroizing<String> {
    let mut secret = Zeroizing::new([0u8; 32]);
    ambient.fill_random(&mut *secret);
    Zeroizing::new(secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn key_of(hex: &str) -> Option<LedgerKey> {
    if hex.len() != 64 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut secret = Zeroizing::new([0u8; 32]);
    for (byte, at) in secret.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&hex[at..at + 2], 16).ok()?;
    }
    Some(LedgerKey::from_secret(&secret))
}

fn read_text(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let io = |source| KeyFileError::Io { path: path.into(), what: "read", source };
    let mode = std::fs::metadata(path).map_err(io)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open { path: path.into(), mode });
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(io)?);
    if text.lines().next().is_some_and(|tag| ledger::version::is_newer(tag, TAG)) {
        return Err(KeyFileError::Newer { path: path.into() });
    }
    Ok(text)
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// The key file of a running service, of which the door asks for a successor.
pub struct ServedKeys {
    path: PathBuf,
    ambient: Arc<dyn Ambient>,
    keys: Mutex<LedgerKeys>,
}

impl ServedKeys {
    /// The keys in a file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(path: PathBuf, ambient: Arc<dyn Ambient>) -> Result<Self, KeyFileError> {
        let keys = Mutex::new(KeyFile::read(&path)?.keys);
        Ok(Self { path, ambient, keys })
    }

    /// One after the other: of two that read the same file, the second would drop the first one's key.
    fn put(&self, write: impl FnOnce() -> Result<KeyFile, KeyFileError>) -> Result<LedgerKeys, String> {
        let mut held = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        *held = write().map_err(|error| sentence(&error))?.keys;
        Ok(held.clone())
    }
}

fn sentence(error: &KeyFileError) -> String {
    let source = std::error::Error::source(error).map_or(String::new(), |source| format!(": {source}"));
    format!("{error}{source}")
}

impl access::LedgerKeyFile for ServedKeys {
    fn keys(&self) -> LedgerKeys {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn succeed(&self) -> Result<LedgerKeys, String> {
        self.put(|| KeyFile::succeed(&self.path, &self.path, self.ambient.as_ref()))
    }

    fn forget_before(&self) -> Result<LedgerKeys, String> {
        self.put(|| KeyFile::forget_before(&self.path))
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
        let public = |file: &KeyFile| -> Vec<String> {
            file.keys.all().into_iter().map(|key| key.verifier("x").to_string()).collect()
        };
        assert_eq!(public(&read), public(&made));
        // A successor takes its place, and what was before is kept until it is forgotten.
        let second = KeyFile::succeed(&path, &path, &SystemAmbient::new()).unwrap();
        std::fs::write(folder.path().join("keys/ledger.key.new"), "what a crash left").unwrap();
        let third = KeyFile::succeed(&path, &path, &SystemAmbient::new()).unwrap();
        assert_eq!(public(&third)[1..], public(&second));
        assert_eq!(public(&second)[1..], public(&made));
        assert_eq!(public(&KeyFile::read(&path).unwrap()), public(&third));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let elsewhere = folder.path().join("next.key");
        let fourth = KeyFile::succeed(&path, &elsewhere, &SystemAmbient::new()).unwrap();
        assert!(KeyFile::succeed(&path, &elsewhere, &SystemAmbient::new()).is_err(), "never over another file");
        assert_eq!(public(&fourth)[1..], public(&KeyFile::read(&path).unwrap()));
        assert_eq!(public(&KeyFile::forget_before(&path).unwrap()), public(&third)[..1]);
        assert_eq!(std::fs::read_dir(folder.path().join("keys")).unwrap().count(), 1);
        assert!(KeyFile::create(&path, "other".parse().unwrap(), &SystemAmbient::new()).is_err(), "never overwritten");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(KeyFile::read(&path), Err(KeyFileError::Open { mode: 0o644, .. })));
        for bad in [
            "",
            "piperoll-key/v1\nledger x\nsecret 00\n",
            "piperoll-key/v2\nledger x\nsecret 00\n",
            "piperoll-key/v1\nledger x\nsecret 00\nafter 00\n",
        ] {
            assert!(KeyFile::parse(bad).is_none());
        }
    }
}
