//! What can go wrong in the store, grouped by what the caller must do about it.
//!
//! Not here: HTTP status codes (`access`). Invariant: no message holds an event's content.

use crate::keys::KeyError;
use ledger::field::FieldsError;
use ledger::name::{NameError, TenantId};
use ledger::pack::PackError;
use ledger::verify::Fault;
use std::borrow::Cow;

/// What the caller should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Ask for something that exists.
    NotFound,
    /// It was there, and was taken away for good.
    Gone,
    /// Ask differently.
    Invalid,
    /// Wait and ask again; the store holds as much as it may.
    Busy,
    /// Somebody else was first, or owns what was asked for.
    Conflict,
    /// The store or its log does not answer, or this program is too old for what it holds; what was asked may be
    /// repeated once that is mended.
    Unavailable,
    /// Stored bytes are not what was recorded; a person must look.
    Corrupt,
}

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(&'static str),
    /// An entry was taken away for good, with all around it.
    #[error(
        "entry {seq} is gone: commit {commit} says what was purged, and of the 256 entries around it one hash is kept, \
         so that it can be proven only together with them"
    )]
    Gone {
        /// Which entry.
        seq: u64,
        /// The commit of the newest purge.
        commit: u64,
    },
    /// The question has no answer in this stream.
    #[error("{what}: {given} is outside of 0 to {limit}")]
    OutOfRange {
        /// Which parameter.
        what: &'static str,
        /// What was given.
        given: u64,
        /// The largest that would be right.
        limit: u64,
    },
    /// The request is not one that the store takes.
    #[error("{0}")]
    Invalid(&'static str),
    /// A bound was reached.
    #[error("{0}")]
    Busy(&'static str),
    /// A store of this name is not open.
    #[error("the store {0} is not open now; send again shortly")]
    NotOpen(TenantId),
    /// An idempotency key was used before with another body.
    #[error("this idempotency key was used before with another body")]
    KeyReused,
    /// A stream holds more than the request was decided on.
    #[error("the stream was expected to hold {expected} entries and holds {found}: something else was first")]
    Moved {
        /// How many the request expects.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// The store belongs to another log or another ledger.
    #[error("{what}: found {found}, expected {expected}")]
    Foreign {
        /// What differs.
        what: &'static str,
        /// What the store says.
        found: String,
        /// What this program was told.
        expected: String,
    },
    /// The object store cannot keep a ledger.
    #[error(
        "the store {store} cannot keep a ledger: {why}. Known to work: local disks, Amazon S3, Google Cloud Storage, \
         Azure Blob Storage, and servers that honour `If-None-Match: *` on a put"
    )]
    Unfit {
        /// Where it is.
        store: String,
        /// What it does not do.
        why: &'static str,
    },
    /// The write-ahead log failed; nothing more is accepted until it is reopened, which is tried again and again.
    #[error("the write-ahead log failed; it is tried again until it works, and accepts nothing meanwhile")]
    LogFailed,
    /// The log's disk is full.
    #[error(
        "the disk of the write-ahead log is full: until there is room, only access and control streams are written"
    )]
    LogFull,
    /// Another writer took the store over.
    #[error(
        "another writer took this store over with epoch {epoch}: this one writes nothing more; stop it, or restart it \
         to take the store back"
    )]
    Fenced {
        /// The other's epoch.
        epoch: u64,
    },
    /// The store's log is on a disk, and not where it was looked for.
    #[error(
        "the folder of the write-ahead log holds no log, and this store belongs to log {log}: bring that folder back; \
         only if it is lost for ever, start once with --log-lost, which gives up what was not sealed"
    )]
    LogMissing {
        /// The log that the store names.
        log: String,
    },
    /// The log was said to be lost, and is there.
    #[error("the write-ahead log is not lost: it is the one that the store names; start without --log-lost")]
    LogNotLost,
    /// The write-ahead log does not answer because the service is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// The wall clock leapt by over a minute; times of record would lie.
    #[error("the wall clock leapt by over a minute; set it right, then restart to confirm")]
    ClockLeapt,
    /// The log holds bytes that were durable and are damaged.
    #[error("the write-ahead log {file} is damaged at byte {offset}: {why}")]
    LogDamaged {
        /// Which file of the log.
        file: String,
        /// Where.
        offset: u64,
        /// What is wrong there.
        why: &'static str,
    },
    /// A history does not hold.
    #[error("stream {origin} does not hold")]
    History {
        /// Which stream.
        origin: String,
        /// What and where.
        #[source]
        fault: Box<Fault>,
    },
    /// A stored object is not what its commit or format says.
    #[error("object {path} is damaged: {why}")]
    Damaged {
        /// Which object.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A pack of commits is malformed.
    #[error("object {path} is no pack of commits")]
    Pack {
        /// Which object.
        path: String,
        /// What is wrong with it.
        #[source]
        source: PackError,
    },
    /// A stored object is of a later format than this program reads; nothing is known to be wrong with it.
    #[error("{object} is written in a newer format: {what}; use a newer piperoll, nothing was changed")]
    Newer {
        /// Which object, or which place in a file.
        object: String,
        /// What this program does not know.
        what: Cow<'static, str>,
    },
    /// A stored name is malformed.
    #[error("a stored name is malformed")]
    Name(#[from] NameError),
    /// Stored fields are malformed.
    #[error("stored fields are malformed")]
    Fields(#[from] FieldsError),
    /// An entry was encrypted under a key that was destroyed, and its leaf hash is kept nowhere else.
    #[error(
        "entry {seq} cannot be proven by itself: of the 256 entries around it one hash is kept, in a tile; a proof made \
         earlier still holds"
    )]
    Sealed {
        /// Which entry.
        seq: u64,
        /// Which key.
        #[source]
        error: KeyError,
    },
    /// A key to content is not to be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The object store failed.
    #[error("the object store failed on {path}")]
    Objects {
        /// Which object.
        path: String,
        /// Its own error.
        #[source]
        source: object_store::Error,
    },
    /// A local file failed.
    #[error("the local file {path} failed")]
    File {
        /// Which file.
        path: String,
        /// Its own error.
        #[source]
        source: std::io::Error,
    },
    /// Parquet could not be read or written.
    #[error("parquet failed on {path}")]
    Parquet {
        /// Which object.
        path: String,
        /// Its own error.
        #[source]
        source: parquet::errors::ParquetError,
    },
}

impl StoreError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            error if error.is_newer() => ErrorKind::Unavailable,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Gone { .. } => ErrorKind::Gone,
            Self::Sealed { .. } => ErrorKind::Gone,
            Self::Key(error) if error.is_destroyed() => ErrorKind::Gone,
            Self::Key(KeyError::Wrong { .. }) => ErrorKind::Corrupt,
            Self::OutOfRange { .. } | Self::Invalid(_) | Self::Unfit { .. } => ErrorKind::Invalid,
            Self::Busy(_) => ErrorKind::Busy,
            Self::KeyReused | Self::Moved { .. } | Self::Foreign { .. } => ErrorKind::Conflict,
            Self::LogMissing { .. } | Self::LogNotLost => ErrorKind::Conflict,
            Self::LogFailed
            | Self::Newer { .. }
            | Self::LogFull
            | Self::Fenced { .. }
            | Self::Key(_)
            | Self::Stopping
            | Self::NotOpen(_) => ErrorKind::Unavailable,
            Self::ClockLeapt | Self::Objects { .. } | Self::File { .. } => ErrorKind::Unavailable,
            Self::LogDamaged { .. } | Self::History { .. } | Self::Damaged { .. } => ErrorKind::Corrupt,
            Self::Name(_) | Self::Fields(_) | Self::Parquet { .. } | Self::Pack { .. } => ErrorKind::Corrupt,
        }
    }

    /// Whether a newer program is needed, and nothing is known to be wrong.
    pub fn is_newer(&self) -> bool {
        match self {
            Self::Newer { .. } | Self::Key(KeyError::Newer { .. }) => true,
            Self::History { fault, .. } => fault.is_newer(),
            _ => false,
        }
    }

    /// Whether its message says nothing of files and objects.
    pub fn is_for_callers(&self) -> bool {
        let of_the_log = matches!(self, Self::LogFailed | Self::LogFull | Self::Fenced { .. } | Self::Key(_));
        of_the_log
            || matches!(self, Self::NotOpen(_) | Self::Stopping | Self::ClockLeapt | Self::Busy(_) | Self::KeyReused)
    }

    /// The same error for another of several who wait; only for those that carry nothing.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::ClockLeapt => Self::ClockLeapt,
            Self::LogFull => Self::LogFull,
            Self::Fenced { epoch } => Self::Fenced { epoch: *epoch },
            _ => Self::LogFailed,
        }
    }

    /// For `map_err` on an object-store call about `path`.
    pub(crate) fn objects(path: &object_store::path::Path) -> impl FnOnce(object_store::Error) -> Self {
        let path = if path.as_ref().is_empty() { "its top folder".into() } else { path.to_string() };
        move |source| Self::Objects { path, source }
    }

    /// For `map_err` on a call about a local file.
    pub(crate) fn file(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        // The name alone: a directory's place on a machine is nobody's business in an answer.
        Self::file_named(path.file_name().unwrap_or_default().to_string_lossy().into_owned())
    }

    /// For `map_err` on a call about a local file of this name.
    pub(crate) fn file_named(path: String) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { path, source }
    }

    /// For `map_err` on Parquet calls about an object. A store that does not answer is no damage.
    pub(crate) fn parquet(path: &object_store::path::Path) -> impl FnOnce(parquet::errors::ParquetError) -> Self {
        use parquet::errors::ParquetError::External;
        let path = path.to_string();
        move |source| match source {
            External(source) => match source.downcast::<object_store::Error>() {
                Ok(source) => Self::Objects { path, source: *source },
                Err(source) => match source.downcast::<KeyError>() {
                    Ok(error) => Self::Key(*error),
                    Err(source) => Self::Parquet { path, source: External(source) },
                },
            },
            source => Self::Parquet { path, source },
        }
    }
}
