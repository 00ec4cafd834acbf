//! What a query may use, each bound with its reason, and the gate that counts how many run.
//!
//! Not here: enforcing memory (DataFusion's pool, [`crate::session`]), rows and time ([`crate::run`]), the SQL
//! text's own bounds ([`crate::guard`]).
//!
//! Invariant: a [`Pass`] gives back what it took when it is dropped, on whatever path.

use ledger::TenantId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The bounds of queries in one process.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Memory of all running queries together, in bytes. The service must stay below 1 GiB beside ingest.
    pub memory_bytes: usize,
    /// Footers, Bloom filters and decoded columns kept of segments, in bytes: a column takes one to eight bytes a row,
    /// a footer some 40 KiB, so this holds what is asked of some four million events.
    pub kept_bytes: usize,
    /// Rows of one answer: more is an export, and a million rows of 500 bytes are half a gigabyte on the wire.
    pub rows: u64,
    /// Time of one query, reading of its answer included.
    pub time: Duration,
    /// Queries at a time in this process: four for each thread that works on them.
    pub concurrent: usize,
    /// Queries at a time that ask one tenant: half of all, so that one tenant cannot hold everybody up.
    pub concurrent_per_tenant: usize,
    /// How long a query waits for one of the process's places before it is refused.
    pub patience: Duration,
    /// Threads that work on queries.
    pub threads: usize,
    /// Tenants of one query.
    pub tenants: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 512 * 1_024 * 1_024,
            kept_bytes: 256 * 1_024 * 1_024,
            rows: 1_000_000,
            time: Duration::from_secs(30),
            concurrent: 8,
            concurrent_per_tenant: 4,
            patience: Duration::from_secs(1),
            threads: 2,
            tenants: 10_000,
        }
    }
}

/// A limit was reached; the message says which and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// More memory than all queries together may use.
    #[error("memory limit reached: queries may use {} MiB together; ask for fewer columns or a shorter time, group by fewer values, or add a limit to a sort", .bytes / 1_048_576)]
    Memory {
        /// The bound.
        bytes: usize,
    },
    /// More rows than an answer may have.
    #[error(
        "row limit reached: an answer may have {rows} rows; add a limit, aggregate, or ask for one range of seq after another"
    )]
    Rows {
        /// The bound.
        rows: u64,
    },
    /// More time than a query may take.
    #[error(
        "time limit reached: a query may take {seconds} s; narrow it by tenant, time, seq or release, or read the answer faster"
    )]
    Time {
        /// The bound.
        seconds: u64,
    },
    /// More queries at a time than the process runs.
    #[error("too many queries at a time: this server runs {concurrent} together; try again shortly")]
    Concurrent {
        /// The bound.
        concurrent: usize,
    },
    /// More queries at a time than may ask one tenant.
    #[error("too many queries at a time for tenant {tenant}: {concurrent} may run together; wait for one to end")]
    PerTenant {
        /// Whose.
        tenant: TenantId,
        /// The bound.
        concurrent: usize,
    },
    /// More tenants than a query may ask.
    #[error("too many tenants: a query may name {tenants}; ask in parts")]
    Tenants {
        /// The bound.
        tenants: usize,
    },
}

impl Exceeded {
    /// The limit's name, as problems and metrics give it.
    pub fn limit(&self) -> &'static str {
        match self {
            Self::Memory { .. } => "memory",
            Self::Rows { .. } => "rows",
            Self::Time { .. } => "time",
            Self::Concurrent { .. } => "concurrent",
            Self::PerTenant { .. } => "concurrent_per_tenant",
            Self::Tenants { .. } => "tenants",
        }
    }
}

/// Counts running queries, of the process and of each tenant.
#[derive(Debug)]
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    concurrent: usize,
    per_tenant: usize,
    patience: Duration,
    running: Arc<Mutex<HashMap<TenantId, usize>>>,
}

/// The right to run one query.
#[derive(Debug)]
pub(crate) struct Pass {
    _place: OwnedSemaphorePermit,
    _counted: Counted,
}

/// Tenants that were counted; dropping it counts them down.
#[derive(Debug)]
struct Counted {
    tenants: Vec<TenantId>,
    running: Arc<Mutex<HashMap<TenantId, usize>>>,
}

impl Gate {
    /// A gate with the counts of `limits`.
    pub fn new(limits: &Limits) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits.concurrent)),
            concurrent: limits.concurrent,
            per_tenant: limits.concurrent_per_tenant,
            patience: limits.patience,
            running: Arc::default(),
        }
    }

    /// Lets a query in, or says which count is full.
    ///
    /// # Errors
    /// [`Exceeded::PerTenant`] at once; [`Exceeded::Concurrent`] after some patience.
    pub async fn enter(&self, tenants: Vec<TenantId>) -> Result<Pass, Exceeded> {
        let counted = self.count(tenants)?;
        let place = tokio::time::timeout(self.patience, Arc::clone(&self.places).acquire_owned()).await;
        match place {
            Ok(Ok(place)) => Ok(Pass { _place: place, _counted: counted }),
            Ok(Err(_)) | Err(_) => Err(Exceeded::Concurrent { concurrent: self.concurrent }),
        }
    }

    fn count(&self, mut tenants: Vec<TenantId>) -> Result<Counted, Exceeded> {
        tenants.sort_unstable();
        tenants.dedup();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(full) =
            tenants.iter().find(|tenant| running.get(*tenant).is_some_and(|count| *count >= self.per_tenant))
        {
            return Err(Exceeded::PerTenant { tenant: full.clone(), concurrent: self.per_tenant });
        }
        for tenant in &tenants {
            *running.entry(tenant.clone()).or_insert(0) += 1;
        }
        Ok(Counted { tenants, running: Arc::clone(&self.running) })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for tenant in &self.tenants {
            if let Some(count) = running.get_mut(tenant) {
                *count -= 1;
                if *count == 0 {
                    running.remove(tenant);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tenant_cannot_take_every_place_and_places_come_back() {
        let gate = Gate::new(&Limits {
            concurrent: 3,
            concurrent_per_tenant: 2,
            patience: Duration::from_millis(5),
            ..Limits::default()
        });
        let tenant = |name: &str| vec![name.parse::<TenantId>().unwrap()];
        let first = gate.enter(tenant("acme")).await.unwrap();
        let second = gate.enter(tenant("acme")).await.unwrap();
        assert_eq!(gate.enter(tenant("acme")).await.unwrap_err().limit(), "concurrent_per_tenant");
        let third = gate.enter(tenant("globex")).await.unwrap();
        assert_eq!(gate.enter(tenant("initech")).await.unwrap_err().limit(), "concurrent");
        drop((first, second, third));
        let both = gate.enter([tenant("acme"), tenant("globex"), tenant("acme")].concat()).await.unwrap();
        drop(both);
        assert!(gate.running.lock().unwrap().is_empty());
    }
}
