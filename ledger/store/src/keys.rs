//! The keys that a tenant's content is encrypted under: the tenant's own, handed in, and data keys below them.
//!
//! A data key is random, serves one stream and one month (or the log of one start), and stands wrapped beside whatever
//! it encrypts: in the key metadata of a segment's Parquet footer, and in the parts of the log (FORMAT.md §15). So a file
//! needs nothing but its tenant's key. Not here: where tenants' keys come from (`access`), the cipher
//! ([`crate::cipher`]).
//!
//! Invariants: leaf hashes, tiles, commits and heads are never under a key; an error says whether a key may come back;
//! a wrapped key opens only for the ledger, stream and period that it was made for.

mod content;
mod wrapped;

pub use content::ContentKeys;
pub(crate) use content::{LogKey, SegmentKey};

use crate::cipher::Secret;
use ledger::name::TenantId;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Names one of a tenant's keys: 1 to 32 small letters and digits, never given to another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(Arc<str>);

impl KeyName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key's name was malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key's name is 1 to 32 small letters and digits")]
pub struct KeyNameError;

impl FromStr for KeyName {
    type Err = KeyNameError;

    fn from_str(text: &str) -> Result<Self, KeyNameError> {
        let is_one = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let fits = (1..=32).contains(&text.len()) && text.bytes().all(is_one);
        if fits { Ok(Self(text.into())) } else { Err(KeyNameError) }
    }
}

/// A tenant's key.
#[derive(Debug)]
pub struct TenantKey {
    /// Its name.
    pub name: KeyName,
    /// Its 256 bits.
    pub secret: Secret,
}

/// What a key is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// To write new entries to the log.
    Log,
    /// To write a segment.
    Segment,
}

/// Why something cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It may come back: whoever keeps it does not answer, or it is not known here.
    #[error("the key{} of tenant {tenant} is not at hand now", of(.key))]
    NotAtHand {
        /// Whose.
        tenant: TenantId,
        /// Which, where that is known.
        key: Option<KeyName>,
    },
    /// It will never come back.
    #[error("the key {key} of tenant {tenant} was destroyed: what was encrypted under it cannot be read any more")]
    Destroyed {
        /// Whose.
        tenant: TenantId,
        /// Which.
        key: KeyName,
    },
    /// What is at hand is not the key that this was written under, or the bytes were changed.
    #[error("what is kept of tenant {tenant} in the write-ahead log does not open under its key")]
    Wrong {
        /// Whose.
        tenant: TenantId,
    },
    /// It is kept in a form that this program does not read.
    #[error("a data key of tenant {tenant} is wrapped in a newer form: use a newer piperoll")]
    Newer {
        /// Whose.
        tenant: TenantId,
    },
}

fn of(key: &Option<KeyName>) -> String {
    key.as_ref().map_or(String::new(), |key| format!(" {key}"))
}

impl KeyError {
    /// The key, where it is known which.
    pub fn key(&self) -> Option<&KeyName> {
        match self {
            Self::NotAtHand { key, .. } => key.as_ref(),
            Self::Destroyed { key, .. } => Some(key),
            Self::Wrong { .. } | Self::Newer { .. } => None,
        }
    }

    /// Whether it will never come back.
    pub fn is_destroyed(&self) -> bool {
        matches!(self, Self::Destroyed { .. })
    }
}

/// Where tenants' keys come from. Asked often and on every thread: it answers from memory.
pub trait KeySource: Send + Sync {
    /// The key that a tenant's content is written under now; none when it is written plain.
    ///
    /// # Errors
    /// The tenant has one and it is not at hand.
    fn current(&self, tenant: &TenantId, wanted: KeyUse) -> Result<Option<Arc<TenantKey>>, KeyError>;

    /// One of a tenant's keys, to read what was written under it.
    ///
    /// # Errors
    /// It is not at hand, or was destroyed.
    fn key(&self, tenant: &TenantId, name: &KeyName) -> Result<Arc<TenantKey>, KeyError>;
}
