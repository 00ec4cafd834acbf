//! Whether the log accepts, and if not, why: what requests are answered, and what readiness says.
//!
//! Not here: reopening it ([`crate::writer`]). Invariant: once fenced, always fenced.

use crate::error::StoreError;
use ledger::name::StreamKind;
use std::sync::{PoisonError, RwLock};

/// What the log is able to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum LogState {
    /// Everything.
    #[default]
    Open,
    /// Its disk is full: what may be written from the reserve.
    Full,
    /// Nothing until it is reopened.
    Failed {
        /// What failed, in words.
        why: String,
    },
    /// Nothing any more.
    Fenced {
        /// Whose epoch it is.
        epoch: u64,
    },
}

/// The state as writer, sealer and handles share it.
#[derive(Debug, Default)]
pub(crate) struct LogHealth(RwLock<LogState>);

impl LogHealth {
    pub(crate) fn get(&self) -> LogState {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, state: LogState) {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*held, LogState::Fenced { .. }) {
            *held = state;
        }
    }

    /// Whether another writer took over, so that nothing may be signed, sealed or deleted any more.
    pub(crate) fn is_fenced(&self) -> bool {
        matches!(self.get(), LogState::Fenced { .. })
    }
}

impl LogState {
    /// The state that an error of the log leaves.
    pub(crate) fn after(error: &StoreError) -> Self {
        if let StoreError::Fenced { epoch } = error {
            return Self::Fenced { epoch: *epoch };
        }
        let mut why = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            why.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        Self::Failed { why }
    }

    /// Why nothing at all is accepted, if so.
    pub(crate) fn refusal(&self) -> Option<StoreError> {
        match self {
            Self::Open | Self::Full => None,
            Self::Failed { .. } => Some(StoreError::LogFailed),
            Self::Fenced { epoch } => Some(StoreError::Fenced { epoch: *epoch }),
        }
    }

    /// Why entries of such streams are not accepted, if so.
    pub(crate) fn refusal_of(&self, mut kinds: impl Iterator<Item = StreamKind>) -> Option<StoreError> {
        let may_wait = |kind| !matches!(kind, StreamKind::Access | StreamKind::Control);
        let is_full = *self == Self::Full && kinds.any(may_wait);
        self.refusal().or(is_full.then_some(StoreError::LogFull))
    }

    /// What is wrong, in words for whoever runs the service.
    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            Self::Open => None,
            Self::Full => Some(StoreError::LogFull.to_string()),
            Self::Failed { why } => Some(format!("{}: {why}", StoreError::LogFailed)),
            Self::Fenced { epoch } => Some(StoreError::Fenced { epoch: *epoch }.to_string()),
        }
    }
}
