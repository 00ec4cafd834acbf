//! The one place that hands out handles to tenants' streams.
//!
//! Not here: what a handle can do (`ledger-store`). Invariant: there is no default tenant and no optional
//! one; a stream that services may not write is never handed out for appending.

use crate::problem::{Problem, ProblemKind};
use ledger::name::{StreamKind, TenantId};
use ledger_store::{AppendHandle, AppendRequest, Appended, Store, StreamHandle};

/// Hands out handles, after authorization.
#[derive(Clone)]
pub struct Door {
    store: Store,
}

impl Door {
    /// A door to one store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// A handle for reading one stream of a tenant.
    ///
    /// # Errors
    /// [`ProblemKind::NotFound`] when the tenant has no such stream.
    pub async fn read(&self, tenant: &TenantId, kind: StreamKind) -> Result<StreamHandle, Problem> {
        Ok(self.store.reader(tenant, kind)?)
    }

    /// A handle for appending to one stream of a tenant.
    ///
    /// # Errors
    /// [`ProblemKind::Forbidden`] for a stream that Piperoll alone writes.
    pub fn append_to(&self, tenant: &TenantId, kind: StreamKind) -> Result<AppendHandle, Problem> {
        if kind.is_writable_by_services() {
            Ok(self.store.appender(tenant, kind))
        } else {
            let detail = format!("stream {kind} is written by Piperoll alone; services write audit and telemetry");
            Err(Problem::new(ProblemKind::Forbidden, detail))
        }
    }

    /// Appends what handles of this door allow.
    ///
    /// # Errors
    /// As [`Store::append`].
    pub async fn append(&self, request: AppendRequest) -> Result<Appended, Problem> {
        Ok(self.store.append(request).await?)
    }

    /// Every tenant that has a stream, ascending.
    pub fn tenants(&self) -> Vec<TenantId> {
        let mut tenants: Vec<TenantId> = self.store.streams().into_iter().map(|(tenant, _)| tenant).collect();
        tenants.dedup();
        tenants
    }

    /// The signed head of the store log.
    pub fn log_checkpoint(&self) -> String {
        self.store.log_checkpoint()
    }

    /// The ledger's name and its public key under the store log's origin.
    pub fn ledger_key(&self) -> (String, ledger::VerifierKey) {
        (self.store.ledger().to_string(), self.store.verifier())
    }

    /// Brings the metrics that say how the store is up to this moment.
    pub fn observe(&self) {
        self.store.observe();
    }

    /// Whether events are accepted now.
    pub fn is_writable(&self) -> bool {
        self.store.is_writable()
    }

    /// Why events are not accepted now, in words for whoever runs the service; none while they are.
    pub fn problem(&self) -> Option<String> {
        self.store.problem()
    }
}
