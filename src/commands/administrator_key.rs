//! `piperoll administrator-key`: the way back in when every key is lost.
//!
//! Not here: who else may make keys (`access`). Invariant: whoever runs it holds the ledger's key and its log, and it
//! stands on record.

use super::{Outcome, block_on};
use crate::clock::SystemAmbient;
use crate::opening::{facts, open_store};
use crate::settings::Place;
use access::{Book, Stores};
use clap::Args;
use ledger_store::{Ambient, Location};
use std::process::ExitCode;
use std::sync::Arc;

/// Make another key for the administrator, on the machine that keeps the ledger, while the service is stopped
///
/// That it was made, and that it was made here, is an entry of the control stream. Keys that were lost are revoked with
/// `piperoll registry apply`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Where the objects are, if not in the data folder
    #[arg(long, env = "PIPEROLL_STORE", value_name = "URL")]
    store: Option<Location>,
}

/// Runs the command.
///
/// # Errors
/// The service is running, or the store cannot be opened.
pub fn run(arguments: &Arguments) -> Outcome {
    let settings = arguments.place.settings(arguments.store.clone())?;
    block_on(async move {
        let ambient: Arc<dyn Ambient> = Arc::new(SystemAmbient::new());
        let store = open_store(&settings, &settings.main, None, &ambient).await?;
        // Tenants elsewhere are told when the service starts.
        let opened = Book::open(Stores::new(store.clone(), facts(&settings)), Arc::clone(&ambient)).await;
        let made = match opened {
            Ok((_, Some(founded))) => Ok(founded.key),
            Ok((book, None)) => book.recover_administrator().await,
            Err(error) => Err(error),
        };
        store.close().await;
        println!("{}", made?);
        Ok(ExitCode::SUCCESS)
    })?
}
