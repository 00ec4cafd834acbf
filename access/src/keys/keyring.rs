//! A key provider that is a file on the local disk.
//!
//! Lines of text: `piperoll-keyring/v1`; `passphrase -` or `passphrase argon2id <salt>`; with one, `check <bytes>`; then
//! `key <name> <version> <bytes>` for each version of each key, in hexadecimal: 32 bytes, or what they are encrypted to
//! under a key made of the passphrase. Not here: where the passphrase comes from (`src/`).
//!
//! Invariants: the file is created with mode 0600 and refused while others may read it; it is replaced whole, on stable
//! storage before anything is answered; it is read anew for each change, so that two processes on one machine see each
//! other's; a file that does not read as one is left as it is, and opens nothing.

use super::{KeyProvider, ProviderError};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use ledger_store::Ambient;
use ledger_store::cipher::{SECRET_BYTES, Secret};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

const TAG: &str = "piperoll-keyring/v1";
/// Argon2id with 19 MiB and two passes, as OWASP advises: half a second of a guesser's machine for each guess.
const MEMORY_KIB: u32 = 19 * 1_024;
const PASSES: u32 = 2;
/// What the check of a passphrase opens to.
const CHECK: &[u8] = b"piperoll keyring";

/// A keyring could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// It cannot be read or written.
    #[error("the keyring {path} cannot be {what}")]
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
    #[error("the keyring {path} may be read by others (mode {mode:o}); run: chmod 600 {path}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is of a later format.
    #[error("the keyring {path} is written in a newer format: use a newer piperoll")]
    Newer {
        /// Which file.
        path: PathBuf,
    },
    /// It is no keyring, or one that was cut off or changed.
    #[error("{path} is no whole keyring; restore it from a copy: without it, what is encrypted cannot be read")]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
    /// A passphrase is missing, superfluous or wrong.
    #[error("the keyring {path} {why}")]
    Passphrase {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
}

/// The provider.
pub struct Keyring(Arc<Inner>);

struct Inner {
    path: PathBuf,
    ambient: Arc<dyn Ambient>,
    /// What keys are encrypted under in the file.
    lock: Option<Secret>,
    /// The salt that it was made with.
    salt: Option<[u8; 16]>,
    turn: Mutex<()>,
    /// What was read last, and of which file.
    read: Mutex<Option<(Stamp, Arc<Ring>)>>,
}

/// Tells one state of the file from another: when it was written, its length, and which file it is.
type Stamp = (i64, i64, u64, u64);

/// All versions of all keys.
type Ring = BTreeMap<String, BTreeMap<u32, Secret>>;

impl Keyring {
    /// Opens a keyring; where there is none, it is made with its first key.
    ///
    /// # Errors
    /// It cannot be read, others may read it, or the passphrase does not open it.
    pub fn open(path: &Path, passphrase: Option<&str>, ambient: Arc<dyn Ambient>) -> Result<Self, KeyringError> {
        if !path.exists() {
            let mut salt = [0; 16];
            ambient.fill_random(&mut salt);
            let lock = passphrase.map(|given| derive(given, &salt));
            let salt = lock.is_some().then_some(salt);
            return Ok(Self(Arc::new(Inner {
                path: path.into(),
                ambient,
                lock,
                salt,
                turn: Mutex::default(),
                read: Mutex::default(),
            })));
        }
        let text = read(path)?;
        let wrong = |why| KeyringError::Passphrase { path: path.into(), why };
        let stated = text.lines().nth(1).and_then(|line| line.strip_prefix("passphrase ")).unwrap_or_default();
        let (lock, salt) = match (stated, passphrase) {
            ("-", None) => (None, None),
            ("-", Some(_)) => return Err(wrong("has no passphrase, and one was given")),
            (_, None) => return Err(wrong("has a passphrase, and none was given")),
            (stated, Some(given)) => {
                let salt =
                    stated.strip_prefix("argon2id ").and_then(unhex).and_then(|salt| salt.as_slice().try_into().ok());
                let salt: [u8; 16] = salt.ok_or_else(|| KeyringError::Malformed { path: path.into() })?;
                (Some(derive(given, &salt)), Some(salt))
            }
        };
        let (turn, was_read) = Default::default();
        let inner = Inner { path: path.into(), ambient, lock, salt, turn, read: was_read };
        inner.parse(&text)?;
        Ok(Self(Arc::new(inner)))
    }

    /// Does something with the file on a thread that may wait.
    fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, ProviderError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, ProviderError>> {
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || {
            let _turn = inner.turn.lock().unwrap_or_else(PoisonError::into_inner);
            work(&inner)
        });
        async move { done.await.unwrap_or_else(|_| Err(ProviderError::Unavailable("its thread ended".into()))) }.boxed()
    }
}

/// The text of a keyring that nobody else may read.
fn read(path: &Path) -> Result<Zeroizing<String>, KeyringError> {
    let io = |source| KeyringError::Io { path: path.into(), what: "read", source };
    let mode = std::fs::metadata(path).map_err(io)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyringError::Open { path: path.into(), mode });
    }
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(io)
}

fn derive(passphrase: &str, salt: &[u8; 16]) -> Secret {
    Secret::random(|out| {
        let params = Params::new(MEMORY_KIB, PASSES, 1, Some(SECRET_BYTES)).expect("parameters within bounds");
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon.hash_password_into(passphrase.as_bytes(), salt, out).expect("lengths within bounds");
    })
}

fn hex(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn unhex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digits = text.as_bytes().chunks_exact(2);
    if !digits.remainder().is_empty() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.map(byte).collect::<Option<Vec<u8>>>().map(Zeroizing::new)
}

fn beside(name: &str, version: u32) -> Vec<u8> {
    format!("{TAG}\n{name}\n{version}\n").into_bytes()
}

impl Inner {
    fn nonce(&self) -> [u8; 12] {
        let mut nonce = [0; 12];
        self.ambient.fill_random(&mut nonce);
        nonce
    }

    fn load(&self) -> Result<Ring, KeyringError> {
        if !self.path.exists() {
            return Ok(Ring::new());
        }
        self.parse(&read(&self.path)?)
    }

    /// The same, as long as the file is the one that was read last.
    fn look(&self) -> Result<Arc<Ring>, KeyringError> {
        use std::os::unix::fs::MetadataExt as _;
        let stamp = std::fs::metadata(&self.path).ok().filter(|meta| meta.mode() & 0o077 == 0);
        let stamp = stamp.map(|meta| (meta.mtime(), meta.mtime_nsec(), meta.len(), meta.ino()));
        let mut last = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, ring)) = last.as_ref().filter(|(of, _)| Some(*of) == stamp) {
            return Ok(Arc::clone(ring));
        }
        let ring = Arc::new(self.load()?);
        *last = stamp.map(|stamp| (stamp, Arc::clone(&ring)));
        Ok(ring)
    }

    fn parse(&self, text: &str) -> Result<Ring, KeyringError> {
        let path = || self.path.clone();
        let mut lines = text.lines();
        let tag = lines.next().unwrap_or_default();
        if ledger::version::is_newer(tag, TAG) {
            return Err(KeyringError::Newer { path: path() });
        }
        let malformed = || KeyringError::Malformed { path: path() };
        // A file that was cut off lacks its last line.
        if tag != TAG || !text.ends_with("end\n") {
            return Err(malformed());
        }
        lines.next();
        if let Some(lock) = &self.lock {
            let check = lines.next().and_then(|line| line.strip_prefix("check ")).and_then(unhex);
            let check = check.ok_or_else(malformed)?;
            let opened = lock.open(CHECK, &check).is_some_and(|opened| opened.as_slice() == CHECK);
            if !opened {
                return Err(KeyringError::Passphrase { path: path(), why: "does not open with this passphrase" });
            }
        }
        let mut ring = Ring::new();
        for line in lines.filter(|line| *line != "end") {
            let (name, version, secret) = self.line(line).ok_or_else(malformed)?;
            ring.entry(name).or_default().insert(version, secret);
        }
        Ok(ring)
    }

    fn line(&self, line: &str) -> Option<(String, u32, Secret)> {
        let mut words = line.strip_prefix("key ")?.split(' ');
        let (name, version, bytes) = (words.next()?, words.next()?.parse().ok()?, unhex(words.next()?)?);
        let secret = match &self.lock {
            Some(lock) => Secret::of(&lock.open(&beside(name, version), &bytes)?)?,
            None => Secret::of(&bytes)?,
        };
        words.next().is_none().then(|| (name.to_string(), version, secret))
    }

    /// Replaces the file. Died during it: the one before is there, or the new one.
    fn write(&self, ring: &Ring) -> Result<(), KeyringError> {
        let mut text = Zeroizing::new(format!("{TAG}\n"));
        match (&self.lock, &self.salt) {
            (Some(lock), Some(salt)) => {
                let check = hex(&lock.seal(self.nonce(), CHECK, CHECK));
                text.push_str(&format!("passphrase argon2id {}\ncheck {}\n", *hex(salt), *check));
            }
            _ => text.push_str("passphrase -\n"),
        }
        for (name, versions) in ring {
            for (version, secret) in versions {
                let bytes = match &self.lock {
                    Some(lock) => hex(&lock.seal(self.nonce(), &beside(name, *version), secret.bytes())),
                    None => hex(secret.bytes()),
                };
                let line = Zeroizing::new(format!("key {name} {version} {}\n", *bytes));
                text.push_str(&line);
            }
        }
        text.push_str("end\n");
        let io = |source| KeyringError::Io { path: self.path.clone(), what: "written", source };
        self.replace(text.as_bytes()).map_err(io)
    }

    fn replace(&self, bytes: &[u8]) -> std::io::Result<()> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !self.path.exists() {
            std::fs::create_dir_all(folder)?;
            tracing::info!("made a new keyring; keep a copy of it in a safe place, apart from those of the data");
        }
        let staged = self.path.with_extension("new");
        match std::fs::remove_file(&staged) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&staged, &self.path)?;
        File::open(folder)?.sync_all()
    }
}

impl From<KeyringError> for ProviderError {
    fn from(error: KeyringError) -> Self {
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        Self::Unavailable(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
    }
}

impl KeyProvider for Keyring {
    fn name(&self) -> &'static str {
        "keyring"
    }

    fn create<'k>(&'k self, key: &'k str) -> BoxFuture<'k, Result<(), ProviderError>> {
        let key = key.to_string();
        self.with(move |inner| {
            let mut ring = inner.load()?;
            let Entry::Vacant(none) = ring.entry(key) else { return Ok(()) };
            let secret = Secret::random(|bytes| inner.ambient.fill_random(bytes));
            none.insert(BTreeMap::from([(1, secret)]));
            Ok(inner.write(&ring)?)
        })
    }

    fn rotate<'k>(&'k self, key: &'k str) -> BoxFuture<'k, Result<(), ProviderError>> {
        let key = key.to_string();
        self.with(move |inner| {
            let mut ring = inner.load()?;
            let versions = ring.get_mut(&key).ok_or(ProviderError::NoKey(key))?;
            let next = versions.keys().next_back().map_or(1, |newest| newest.saturating_add(1));
            versions.insert(next, Secret::random(|bytes| inner.ambient.fill_random(bytes)));
            Ok(inner.write(&ring)?)
        })
    }

    fn wrap<'k>(
        &'k self,
        key: &'k str,
        of: &'k str,
        secret: &'k Secret,
    ) -> BoxFuture<'k, Result<String, ProviderError>> {
        let (key, of, plain) = (key.to_string(), of.to_string(), Zeroizing::new(*secret.bytes()));
        self.with(move |inner| {
            let ring = inner.look()?;
            let newest = ring.get(&key).and_then(|versions| versions.last_key_value());
            let (version, under) = newest.ok_or(ProviderError::NoKey(key))?;
            let sealed = under.seal(inner.nonce(), of.as_bytes(), &plain[..]);
            Ok(format!("v{version}:{}", STANDARD.encode(sealed)))
        })
    }

    fn unwrap<'k>(
        &'k self,
        key: &'k str,
        of: &'k str,
        wrapped: &'k str,
    ) -> BoxFuture<'k, Result<Secret, ProviderError>> {
        let (key, of, wrapped) = (key.to_string(), of.to_string(), wrapped.to_string());
        self.with(move |inner| {
            let refused = || ProviderError::Refused("this was not wrapped under a key of this keyring".into());
            let (version, sealed) = wrapped.split_once(':').ok_or_else(refused)?;
            let version: Option<u32> = version.strip_prefix('v').and_then(|version| version.parse().ok());
            let sealed = STANDARD.decode(sealed).map_err(|_| refused())?;
            let ring = inner.look()?;
            let versions = ring.get(&key).ok_or(ProviderError::NoKey(key))?;
            let under = version.and_then(|version| versions.get(&version)).ok_or_else(refused)?;
            under.open(of.as_bytes(), &sealed).and_then(|bytes| Secret::of(&bytes)).ok_or_else(refused)
        })
    }

    fn destroy<'k>(&'k self, key: &'k str) -> BoxFuture<'k, Result<(), ProviderError>> {
        let key = key.to_string();
        self.with(move |inner| {
            let mut ring = inner.load()?;
            match ring.remove(&key) {
                Some(_) => Ok(inner.write(&ring)?),
                None => Ok(()),
            }
        })
    }
}

#[cfg(test)]
mod tests;
