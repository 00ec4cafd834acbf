//! Keeping heads elsewhere while the service runs: at its start, every so often, and at its stop.
//!
//! Not here: what a note says and how it is put (`ledger-store`). Invariant: that it fails is said and counted, and
//! never stops the service.

use ledger_store::{HeadKeeper, Store};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long the last note may take when the service stops.
const LAST: Duration = Duration::from_secs(20);

/// A task that keeps heads until it is told to stop.
pub struct Keeping {
    stop: oneshot::Sender<()>,
    task: JoinHandle<HeadKeeper>,
}

impl Keeping {
    /// Starts to keep the heads of a store.
    pub fn start(store: Store, mut keeper: HeadKeeper, every: Duration) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            loop {
                keep(&mut keeper, &store).await;
                if tokio::time::timeout(every, &mut stopped).await.is_ok() {
                    return keeper;
                }
            }
        });
        Self { stop, task }
    }

    /// Ends the task, and keeps what has moved since.
    pub async fn stop(self, store: &Store) {
        let _ = self.stop.send(());
        let last = async {
            // A note that is under way is finished first.
            if let Ok(mut keeper) = self.task.await {
                keep(&mut keeper, store).await;
            }
        };
        if tokio::time::timeout(LAST, last).await.is_err() {
            tracing::warn!("the last heads were not kept elsewhere: that store did not answer in time");
        }
    }
}

async fn keep(keeper: &mut HeadKeeper, store: &Store) {
    match keeper.keep(store).await {
        Ok(0) => {}
        Ok(streams) => tracing::debug!(streams, "heads were kept elsewhere"),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "heads were not kept elsewhere; tried again later");
        }
    }
}
