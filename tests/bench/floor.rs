//! The floor: what durable ingest costs before any ledger. HTTP, typed parse, append, fdatasync; nothing else.
//!
//! It keeps no order per tenant, knows no duplicates, signs nothing and can read nothing back. The benchmark starts
//! itself with `--floor` and talks to it with the client that it uses for Piperoll.
//!
//! Invariant: an answer leaves after an fdatasync that began after its body was written. One thread writes; all
//! bodies that wait share a sync.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use crate::trouble::{Outcome, Trouble};

/// Bodies that wait for the writer, and so the most that share a sync.
const QUEUE: usize = 256;

/// A reference event, borrowed from its line; `attributes` stays as it came.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the floor pays for parsing the fields and does nothing with them")]
struct Event<'a> {
    id: &'a str,
    time: &'a str,
    tenant: &'a str,
    #[serde(borrow)]
    actor: Actor<'a>,
    action: &'a str,
    #[serde(borrow)]
    resource: Resource<'a>,
    outcome: &'a str,
    source_ip: &'a str,
    session: &'a str,
    workflow: &'a str,
    integration: &'a str,
    release: &'a str,
    region: &'a str,
    trace_id: &'a str,
    #[serde(borrow)]
    attributes: &'a RawValue,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "as above")]
struct Actor<'a> {
    r#type: &'a str,
    id: &'a str,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "as above")]
struct Resource<'a> {
    r#type: &'a str,
    id: &'a str,
}

/// A body on its way to the disk, and who waits for it.
struct Append {
    body: Bytes,
    durable: oneshot::Sender<bool>,
}

/// Serves until it is ended from outside.
pub fn serve(listen: SocketAddr, data: &Path) -> Outcome<()> {
    std::fs::create_dir_all(data).map_err(Trouble::at("making", data))?;
    let path = data.join("floor.log");
    let file = File::create(&path).map_err(Trouble::at("creating", &path))?;
    let (queue, waiting) = sync_channel(QUEUE);
    let writer = std::thread::spawn(move || write(file, &waiting));
    let runtime = tokio::runtime::Runtime::new().map_err(Trouble::machine("starting the floor's threads"))?;
    let served = runtime.block_on(listen_at(listen, queue));
    drop(runtime);
    let written = writer.join().unwrap_or_else(|_| Err(std::io::Error::other("the writer ended early")));
    written.map_err(Trouble::at("writing", &path))?;
    served
}

async fn listen_at(listen: SocketAddr, queue: SyncSender<Append>) -> Outcome<()> {
    let router = Router::new()
        .route("/readyz", get(async || "ready"))
        .route("/v1/events", post(append))
        .layer(DefaultBodyLimit::disable())
        .with_state(queue);
    let listener = tokio::net::TcpListener::bind(listen).await.map_err(Trouble::machine("listening"))?;
    let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(Trouble::machine("waiting for SIGTERM"))?;
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { terminate.recv().await.unwrap_or_default() })
        .await
        .map_err(Trouble::machine("serving"))
}

async fn append(State(queue): State<SyncSender<Append>>, body: Bytes) -> String {
    let mut accepted = 0_usize;
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        if serde_json::from_slice::<Event<'_>>(line).is_ok() {
            accepted += 1;
        }
    }
    let (durable, done) = oneshot::channel();
    // The queue is as long as there are connections at most, so this does not block a thread in practice.
    let queued = queue.send(Append { body, durable }).is_ok();
    if queued && done.await.unwrap_or(false) {
        format!("{{\"accepted\":{accepted},\"receipt\":\"durable\"}}")
    } else {
        "{\"accepted\":0,\"receipt\":null}".to_owned()
    }
}

/// The one writer: takes all that waits, writes it, syncs once, answers.
fn write(mut file: File, waiting: &Receiver<Append>) -> std::io::Result<()> {
    let mut group = Vec::with_capacity(QUEUE);
    while let Ok(first) = waiting.recv() {
        group.push(first);
        group.extend(waiting.try_iter().take(QUEUE - 1));
        for append in &group {
            file.write_all(&append.body)?;
        }
        file.sync_data()?;
        for append in group.drain(..) {
            // Whoever waited may have gone; the bytes are on the disk all the same.
            let _gone = append.durable.send(true);
        }
    }
    Ok(())
}
