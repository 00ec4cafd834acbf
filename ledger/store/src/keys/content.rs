//! Data keys: made for what is written, opened for what is read.
//!
//! Not here: tenants' keys ([`super::KeySource`]). Invariants: a data key serves one stream and one month, or the log of
//! one start, and a bounded number of files; one that was made is known to this process alone until something under it
//! is written.

use super::wrapped::{self, Purpose};
use super::{KeyError, KeyName, KeySource, KeyUse};
use crate::ambient::Ambient;
use crate::cipher::{Counting, Secret};
use crate::error::StoreError;
use crate::layout;
use bytes::Bytes;
use ledger::name::{LedgerName, StreamKind, TenantId};
use object_store::path::Path;
use parquet::encryption::decrypt::{FileDecryptionProperties, KeyRetriever};
use parquet::encryption::encrypt::FileEncryptionProperties;
use parquet::errors::ParquetError;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use zeroize::Zeroizing;

/// Files under one data key at most. Each takes some hundreds of encryptions: 2^16 files stay far below the 2^32 that
/// are safe with random nonces.
const MOST_FILES: u32 = 1 << 16;
/// Data keys that are kept for writing: two of each stream of some thousand tenants.
const MOST_KEPT: usize = 1 << 14;
/// The period of a data key of the log.
const LOG: &str = "log";
/// That of a data key of a bundle's object. Such keys are of the tenant, and are made under its audit stream.
const BUNDLE: &str = "bundle";
/// How an object of a bundle begins that is under no key, and one that is under one.
const PLAIN: [u8; 4] = *b"PRB\x00";
const SEALED: [u8; 4] = *b"PRB\x01";

/// A data key that segments are written under.
#[derive(Debug)]
struct DataKey {
    under: KeyName,
    secret: Secret,
    wrapped: Vec<u8>,
    files: u32,
}

/// What one segment is written under.
#[derive(Debug)]
pub(crate) struct SegmentKey {
    /// The tenant's key.
    pub under: KeyName,
    /// What Parquet is told.
    pub properties: Arc<FileEncryptionProperties>,
}

/// What entries of one stream are written to the log under, from some moment on.
#[derive(Debug)]
pub(crate) struct LogKey {
    /// The tenant's key.
    pub under: KeyName,
    /// The data key, wrapped.
    pub wrapped: Vec<u8>,
    /// The cipher under it.
    pub cipher: Counting,
}

/// The keys to the content of a store's segments and log.
#[derive(Clone, Default)]
pub struct ContentKeys(Option<Arc<Inner>>);

/// What a data key is for: a stream of a tenant, and a month.
type Period = (TenantId, StreamKind, String);

struct Inner {
    ledger: LedgerName,
    source: Arc<dyn KeySource>,
    /// By stream and month.
    made: Mutex<HashMap<Period, Arc<Mutex<DataKey>>>>,
}

impl fmt::Debug for ContentKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "ContentKeys" } else { "ContentKeys(none)" })
    }
}

/// What a segment's path says of it: whose it is, which stream, and the month of its folder.
fn purpose_of(location: &Path) -> Option<Period> {
    let (tenant, kind) = layout::stream_of(location)?;
    Some((tenant, kind, location.parts().nth(2)?.as_ref().to_string()))
}

impl ContentKeys {
    /// Keys from this source; without one nothing is encrypted, and nothing encrypted can be read.
    pub fn new(ledger: LedgerName, source: Option<Arc<dyn KeySource>>) -> Self {
        Self(source.map(|source| Arc::new(Inner { ledger, source, made: Mutex::default() })))
    }

    /// Under which key a tenant's segments are written now; none when they are written plain.
    ///
    /// # Errors
    /// It is not at hand.
    pub(crate) fn current(&self, tenant: &TenantId) -> Result<Option<KeyName>, KeyError> {
        let Some(inner) = &self.0 else { return Ok(None) };
        Ok(inner.source.current(tenant, KeyUse::Segment)?.map(|key| key.name.clone()))
    }

    /// Whether something under this key can be read now.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn has(&self, tenant: &TenantId, name: &KeyName) -> Result<(), KeyError> {
        let missing = || KeyError::NotAtHand { tenant: tenant.clone(), key: Some(name.clone()) };
        self.0.as_ref().ok_or_else(missing)?.source.key(tenant, name).map(drop)
    }

    /// What a new segment is written under; none when it is written plain.
    ///
    /// # Errors
    /// The tenant's key is not at hand.
    pub(crate) fn for_segment(&self, location: &Path, ambient: &dyn Ambient) -> Result<Option<SegmentKey>, KeyError> {
        let (Some(inner), Some(of)) = (&self.0, purpose_of(location)) else { return Ok(None) };
        let Some(key) = inner.source.current(&of.0, KeyUse::Segment)? else { return Ok(None) };
        let make = || {
            let purpose = Purpose { ledger: inner.ledger.as_str(), tenant: &of.0, kind: of.1, period: &of.2 };
            let (secret, wrapped) = fresh(&key.name, &key.secret, &purpose, ambient);
            DataKey { under: key.name.clone(), secret, wrapped, files: 0 }
        };
        let mut made = inner.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= MOST_KEPT {
            made.clear();
        }
        let data = Arc::clone(made.entry(of.clone()).or_insert_with(|| Arc::new(Mutex::new(make()))));
        drop(made);
        let mut data = data.lock().unwrap_or_else(PoisonError::into_inner);
        if data.under != key.name || data.files >= MOST_FILES {
            *data = make();
        }
        data.files += 1;
        let properties = FileEncryptionProperties::builder(data.secret.bytes().to_vec())
            .with_footer_key_metadata(data.wrapped.clone())
            .with_aad_prefix(inner.beside(location))
            .build();
        // It checks column keys, of which there are none.
        let properties = properties.map_err(|_| not_at_hand(&of.0, &key.name))?;
        Ok(Some(SegmentKey { under: key.name.clone(), properties }))
    }

    /// What entries of a stream are written to the log under: what was held, unless the tenant's key is another by now.
    ///
    /// # Errors
    /// The tenant's key is not at hand.
    pub(crate) fn for_log(
        &self,
        (tenant, kind): (&TenantId, StreamKind),
        held: Option<Arc<LogKey>>,
        ambient: &dyn Ambient,
    ) -> Result<Option<Arc<LogKey>>, KeyError> {
        let Some(inner) = &self.0 else { return Ok(None) };
        let Some(key) = inner.source.current(tenant, KeyUse::Log)? else { return Ok(None) };
        if let Some(held) = held.filter(|held| held.under == key.name) {
            return Ok(Some(held));
        }
        let purpose = Purpose { ledger: inner.ledger.as_str(), tenant, kind, period: LOG };
        let (secret, wrapped) = fresh(&key.name, &key.secret, &purpose, ambient);
        Ok(Some(Arc::new(LogKey { under: key.name.clone(), wrapped, cipher: Counting::new(&secret) })))
    }

    /// Opens what was written to the log; none when the bytes do not belong to that key.
    ///
    /// # Errors
    /// The tenant's key is not at hand.
    pub(crate) fn open_log(
        &self,
        (tenant, kind): (&TenantId, StreamKind),
        wrapped: &[u8],
        beside: &[u8],
        sealed: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, KeyError> {
        let missing = |key| KeyError::NotAtHand { tenant: tenant.clone(), key };
        let Some((name, key)) = wrapped::parts(wrapped) else {
            let newer = KeyError::Newer { tenant: tenant.clone() };
            return if wrapped::is_newer(wrapped) { Err(newer) } else { Ok(None) };
        };
        let inner = self.0.as_ref().ok_or_else(|| missing(Some(name.clone())))?;
        let under = inner.source.key(tenant, &name)?;
        let purpose = Purpose { ledger: inner.ledger.as_str(), tenant, kind, period: LOG };
        let data = wrapped::opened(&under.secret, &purpose, key);
        Ok(data.and_then(|data| data.open(beside, sealed)))
    }

    /// The bytes of a bundle's object as they are kept: under a data key of their own, where the tenant has a key.
    ///
    /// # Errors
    /// The tenant's key is not at hand.
    pub(crate) fn seal_bundle(
        &self,
        tenant: &TenantId,
        location: &Path,
        plain: Vec<u8>,
        ambient: &dyn Ambient,
    ) -> Result<Vec<u8>, KeyError> {
        let key = match &self.0 {
            Some(inner) => inner.source.current(tenant, KeyUse::Segment)?.map(|key| (inner, key)),
            None => None,
        };
        let Some((inner, key)) = key else { return Ok([&PLAIN[..], &plain].concat()) };
        let (ledger, kind) = (inner.ledger.as_str(), StreamKind::Audit);
        let purpose = Purpose { ledger, tenant, kind, period: BUNDLE };
        let (secret, wrapped) = fresh(&key.name, &key.secret, &purpose, ambient);
        let mut nonce = [0; 12];
        ambient.fill_random(&mut nonce);
        let sealed = secret.seal(nonce, &inner.beside(location), &plain);
        // A wrapped key has at most 97 bytes.
        Ok([&SEALED[..], &[wrapped.len() as u8], &wrapped, &sealed].concat())
    }

    /// What [`ContentKeys::seal_bundle`] was given.
    ///
    /// # Errors
    /// The tenant's key is not at hand or was destroyed, or the bytes are others.
    pub(crate) fn open_bundle(&self, tenant: &TenantId, location: &Path, kept: Bytes) -> Result<Bytes, StoreError> {
        let damaged = || StoreError::Damaged { path: location.to_string(), why: "it is no object of a bundle" };
        if kept.starts_with(&PLAIN) {
            return Ok(kept.slice(PLAIN.len()..));
        }
        let rest = kept.strip_prefix(&SEALED).and_then(|rest| rest.split_first()).ok_or_else(damaged)?;
        let (wrapped, sealed) = rest.1.split_at_checked(usize::from(*rest.0)).ok_or_else(damaged)?;
        let (name, data) = wrapped::parts(wrapped).ok_or_else(damaged)?;
        let inner = self.0.as_ref().ok_or_else(|| not_at_hand(tenant, &name))?;
        let key = inner.source.key(tenant, &name)?;
        let (ledger, kind) = (inner.ledger.as_str(), StreamKind::Audit);
        let purpose = Purpose { ledger, tenant, kind, period: BUNDLE };
        let plain =
            wrapped::opened(&key.secret, &purpose, data).and_then(|data| data.open(&inner.beside(location), sealed));
        plain.map(|plain| Bytes::from(plain.to_vec())).ok_or_else(damaged)
    }

    /// What Parquet needs to read a segment, encrypted or not.
    pub fn to_read(&self, location: &Path) -> Option<Arc<FileDecryptionProperties>> {
        self.to_read_noting(location).0
    }

    /// The data key of a segment at a path below its store, and what was given beside it, from the key metadata that stand
    /// in its footer: for whoever reads it with another program.
    ///
    /// # Errors
    /// The tenant's key is not at hand.
    pub fn data_key(&self, location: &str, metadata: &[u8]) -> Result<Option<(Secret, Vec<u8>)>, KeyError> {
        let location = Path::from(location);
        let (Some(inner), Some((tenant, kind, period))) = (&self.0, purpose_of(&location)) else { return Ok(None) };
        let Some((name, sealed)) = wrapped::parts(metadata) else { return Ok(None) };
        let key = inner.source.key(&tenant, &name)?;
        let purpose = Purpose { ledger: inner.ledger.as_str(), tenant: &tenant, kind, period: &period };
        let data = wrapped::opened(&key.secret, &purpose, sealed);
        Ok(data.map(|data| (data, inner.beside(&location))))
    }

    /// The same, and where the name of the tenant's key stands once the footer was read; nowhere for a plain segment.
    pub(crate) fn to_read_noting(
        &self,
        location: &Path,
    ) -> (Option<Arc<FileDecryptionProperties>>, Arc<OnceLock<KeyName>>) {
        let under = Arc::new(OnceLock::new());
        let Some((tenant, kind, period)) = purpose_of(location) else { return (None, under) };
        let retriever = Retriever { keys: self.clone(), tenant, kind, period, under: Arc::clone(&under) };
        let beside = match &self.0 {
            Some(inner) => inner.beside(location),
            None => location.as_ref().as_bytes().to_vec(),
        };
        let properties = FileDecryptionProperties::with_key_retriever(Arc::new(retriever)).with_aad_prefix(beside);
        (properties.build().ok(), under)
    }
}

impl Inner {
    /// What binds a segment's bytes to its place: one put where another stood does not open.
    fn beside(&self, location: &Path) -> Vec<u8> {
        format!("{}/{location}", self.ledger).into_bytes()
    }
}

fn not_at_hand(tenant: &TenantId, key: &KeyName) -> KeyError {
    KeyError::NotAtHand { tenant: tenant.clone(), key: Some(key.clone()) }
}

/// A new data key and its wrapped form.
fn fresh(name: &KeyName, key: &Secret, purpose: &Purpose<'_>, ambient: &dyn Ambient) -> (Secret, Vec<u8>) {
    let secret = Secret::random(|bytes| ambient.fill_random(bytes));
    let mut nonce = [0; 12];
    ambient.fill_random(&mut nonce);
    let wrapped = wrapped::wrap(name, key, nonce, purpose, &secret);
    (secret, wrapped)
}

/// Finds a segment's data key by what its footer says.
struct Retriever {
    keys: ContentKeys,
    tenant: TenantId,
    kind: StreamKind,
    period: String,
    under: Arc<OnceLock<KeyName>>,
}

impl KeyRetriever for Retriever {
    fn retrieve_key(&self, metadata: &[u8]) -> parquet::errors::Result<Vec<u8>> {
        let Some((name, sealed)) = wrapped::parts(metadata) else {
            if wrapped::is_newer(metadata) {
                return Err(external(KeyError::Newer { tenant: self.tenant.clone() }));
            }
            return Err(ParquetError::General("it is encrypted under a key of a form that is not known".into()));
        };
        let _ = self.under.set(name.clone());
        let inner = self.keys.0.as_ref().ok_or_else(|| external(not_at_hand(&self.tenant, &name)))?;
        let key = inner.source.key(&self.tenant, &name).map_err(external)?;
        let (ledger, tenant) = (inner.ledger.as_str(), &self.tenant);
        let purpose = Purpose { ledger, tenant, kind: self.kind, period: &self.period };
        let data = wrapped::opened(&key.secret, &purpose, sealed);
        let data = data.ok_or_else(|| ParquetError::General("its data key does not open under its tenant's".into()))?;
        Ok(data.bytes().to_vec())
    }
}

fn external(error: KeyError) -> ParquetError {
    ParquetError::External(Box::new(error))
}
