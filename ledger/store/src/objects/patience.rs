//! How long, how often and after which errors an operation is tried again: the only retry policy there is.
//!
//! Not here: the operations ([`super::steady`]). Invariant: an error that trying again cannot mend is never tried
//! again; what can be is tried a bounded number of times, within a bounded time.

use super::answers::Answered;
use crate::ambient::Ambient;
use object_store::Error;
use object_store::client::HttpError;
use std::time::Duration;

/// Bounds of an operation on a store.
#[derive(Debug, Clone)]
pub struct Patience {
    /// How often an operation is tried, the first time included.
    pub tries: u32,
    /// The longest wait before the second try; doubled for each further one. The wait itself is drawn between none
    /// and this, so that many who failed together do not come back together.
    pub first_wait: Duration,
    /// The longest wait of all, also when the server asks for more.
    pub longest_wait: Duration,
    /// How long one try may take, and how long a listing or a body may stand still; and a second more for each MiB
    /// that is sent.
    pub one_try: Duration,
    /// How long an operation may take with all its tries and waits; and a second more for each MiB that is sent.
    pub all_tries: Duration,
}

impl Patience {
    /// For stores behind a network: outages of up to about half a minute are waited out.
    pub fn network() -> Self {
        Self {
            tries: 8,
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(20),
            one_try: Duration::from_secs(30),
            all_tries: Duration::from_secs(90),
        }
    }

    /// For local disks: an error of theirs stays; only a disk that is stuck is given up.
    pub fn disk() -> Self {
        Self { tries: 1, ..Self::network() }
    }

    /// How long to wait before the try that follows `tries`.
    pub(super) fn wait(&self, tries: u32, asked: Option<Duration>, ambient: &dyn Ambient) -> Duration {
        let most = self.first_wait.saturating_mul(1 << (tries - 1).min(20)).min(self.longest_wait);
        let mut random = [0; 8];
        ambient.fill_random(&mut random);
        let drawn = u64::from_le_bytes(random) % (most.as_micros() as u64 + 1);
        let asked = asked.unwrap_or_default();
        (asked + Duration::from_micros(drawn)).min(self.longest_wait.max(most))
    }
}

/// What an error means for another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It would be the same again; the name of the outcome in metrics.
    Stays(&'static str),
    /// It may pass: why, in metrics, and how long the server asks to wait.
    Passes(&'static str, Option<Duration>),
}

/// Tells errors apart by what they carry, never by their text.
pub(super) fn trouble_of(error: &Error) -> Trouble {
    match error {
        Error::NotFound { .. } => Trouble::Stays("not_found"),
        Error::AlreadyExists { .. } => Trouble::Stays("already_exists"),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Trouble::Stays("denied"),
        Error::Precondition { .. } | Error::NotModified { .. } => Trouble::Stays("precondition"),
        Error::Generic { source, .. } => generic(source.as_ref()),
        Error::JoinError { .. } => Trouble::Passes("other", None),
        // Malformed paths, what the store does not offer, unknown settings.
        _ => Trouble::Stays("refused"),
    }
}

fn generic(source: &(dyn std::error::Error + 'static)) -> Trouble {
    for cause in std::iter::successors(Some(source), |cause| cause.source()) {
        if let Some(passing) = cause.downcast_ref::<Passing>() {
            return Trouble::Passes(passing.reason(), None);
        }
        if let Some(answered) = cause.downcast_ref::<Answered>() {
            return match answered.status {
                429 | 503 => Trouble::Passes("throttled", answered.after),
                409 => Trouble::Passes("conflict", answered.after),
                408 | 425 | 500..=599 => Trouble::Passes("server", answered.after),
                401 | 403 => Trouble::Stays("denied"),
                404 => Trouble::Stays("not_found"),
                _ => Trouble::Stays("refused"),
            };
        }
        if cause.is::<GaveUp>() {
            return Trouble::Stays("gave_up");
        }
        if let Some(error) = cause.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{ReadOnlyFilesystem, StorageFull};
            if matches!(error.kind(), ReadOnlyFilesystem | StorageFull) {
                return Trouble::Stays("disk");
            }
        }
    }
    let through_network =
        std::iter::successors(Some(source), |cause| cause.source()).any(|cause| cause.is::<HttpError>());
    Trouble::Passes(if through_network { "network" } else { "other" }, None)
}

/// What went wrong here and not in the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Passing {
    /// No answer in time.
    #[error("no answer within {0} seconds")]
    Stuck(u64),
    /// Fewer bytes than were asked for.
    #[error("the store sent {sent} of {asked} bytes")]
    Short {
        /// How many came.
        sent: u64,
        /// How many were asked for.
        asked: u64,
    },
}

impl Passing {
    fn reason(self) -> &'static str {
        match self {
            Self::Stuck(_) => "stuck",
            Self::Short { .. } => "short_read",
        }
    }

    /// As an error of a store.
    pub(super) fn error(self) -> Error {
        Error::Generic { store: "steady", source: Box::new(self) }
    }
}

/// The bounds were reached.
#[derive(Debug, thiserror::Error)]
#[error("gave up after {tries} tries")]
pub(super) struct GaveUp {
    /// How many.
    pub tries: u32,
    /// The last error.
    #[source]
    pub source: Error,
}

impl GaveUp {
    /// As an error of a store; of a single try, its own error says all.
    pub(super) fn error(tries: u32, source: Error) -> Error {
        if tries == 1 { source } else { Error::Generic { store: "steady", source: Box::new(Self { tries, source }) } }
    }
}
