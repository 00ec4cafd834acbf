//! The service: opens the stores, puts the routes together, listens, and stops in order.
//!
//! The only place that collects the crates' routers. Not here: what a route does. Invariants: `/readyz` says
//! yes only while events are accepted; a stop answers what was asked before it closes the log.

use crate::clock::SystemAmbient;
use crate::keyfile::{KeyFileError, ServedKeys};
use crate::opening::Opening;
use crate::reach::ReachError;
use crate::settings::Settings;
use access::keys::KeyChest;
use access::openapi::{self, Content, Operation, Parameter, json_of};
use access::policy::PolicyError;
use access::registry::{BookError, Founded};
use access::{Book, Door, Job, KeySettings, Listener, Peer, Policies, Problem, ProblemKind, Route, Routes, Stores};
use axum::extract::{Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use ledger::name::TenantId;
use ledger_store::{Ambient, KeySource, Store, StoreError};
use retention::{Jobs, Retention};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use utoipa_swagger_ui::SwaggerUi;

/// The service could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The key file.
    #[error("the ledger's key is not at hand")]
    Key(#[from] KeyFileError),
    /// What opens the store.
    #[error("the store cannot be reached")]
    Reach(#[from] ReachError),
    /// The store.
    #[error("the store cannot be opened")]
    Store(#[from] StoreError),
    /// What wraps tenants' keys.
    #[error("the key provider is not to be had")]
    Keys(#[from] crate::keys::KeysError),
    /// The registry.
    #[error("the registry cannot be read")]
    Registry(#[from] BookError),
    /// The policies.
    #[error("the policies cannot be used")]
    Policies(#[from] PolicyError),
    /// TLS.
    #[error("TLS cannot be set up")]
    Tls(#[from] access::TlsError),
    /// The metrics.
    #[error("metrics cannot be collected")]
    Metrics(#[from] dashboards::MetricsError),
    /// The query engine.
    #[error("the query engine cannot be started")]
    Query(#[from] query::QueryError),
    /// The jobs.
    #[error("the settings of jobs cannot be used")]
    Jobs(#[from] retention::jobs::Unknown),
    /// The address.
    #[error("cannot listen on {address}; is another service running there? choose another with --listen")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// A running service.
pub struct Service {
    opening: Opening,
    door: Door,
    founded: Option<Founded>,
    jobs: Jobs,
    ticking: [tokio::task::AbortHandle; 4],
    address: SocketAddr,
    is_tls: bool,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Service {
    /// Opens the store and starts to listen.
    ///
    /// # Errors
    /// Key, store or address are not to be had.
    pub async fn start(settings: &Settings) -> Result<Self, ServiceError> {
        // Before anything is counted.
        let metrics = dashboards::Metrics::install()?;
        let ambient: Arc<dyn Ambient> = Arc::new(SystemAmbient::new());
        let provider = crate::keys::provider(&settings.keys, &ambient)?;
        let chest = KeyChest::default();
        let source: Arc<dyn KeySource> = Arc::new(chest.clone());
        let opening = Opening::start(settings, &source, &ambient).await?;
        // Before anything is founded whose key would be shown to nobody.
        let address = settings.listen;
        let failed = |source| ServiceError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let listener = Listener::start(listener, settings.tls.as_ref())?;
        let policies = Policies::load(&settings.policies)?;
        let (book, founded) = Book::open(opening.stores().clone(), Arc::clone(&ambient)).await?;
        book.note_stores(&settings.moved).await?;
        book.note_policies(&settings.policies).await?;
        let file = ServedKeys::read(settings.key(), Arc::clone(&ambient))?;
        let keys = KeySettings::new(provider, chest, settings.keys.all).with_ledger_keys(Arc::new(file));
        let door = Door::new(book, policies, settings.issuers.clone(), keys, Arc::clone(&ambient));
        door.look_after_keys().await;
        let state = query::QueryState::new(door.clone(), settings.query.clone(), settings.controls.clone())?;
        let retention = Retention::new(door.clone());
        let jobs =
            Jobs::new(door.clone(), all_jobs(&door, &state, &retention, settings), &settings.jobs, settings.job_lease)?;
        let parts = Parts { state: state.clone(), retention: retention.clone(), jobs: jobs.clone() };
        let (app, _) = routes(&door, ambient, metrics, parts)?;
        let (stop, stopped) = oneshot::channel();
        let app = app.into_make_service_with_connect_info::<Peer>();
        let serving = axum::serve(listener, app).with_graceful_shutdown(async move {
            let _ = stopped.await;
        });
        let served = tokio::spawn(async move { serving.await });
        let ticking = [
            tokio::spawn(tick(door.clone())),
            tokio::spawn(confirm(state)),
            tokio::spawn(keep(retention::Keeper::new(retention))),
            tokio::spawn(schedule(jobs.clone())),
        ];
        let ticking = ticking.map(|task| task.abort_handle());
        Ok(Self { opening, door, founded, jobs, ticking, address, is_tls: settings.tls.is_some(), stop, served })
    }

    /// What the first start of this platform made: its administrator's key, to be shown this once.
    pub fn founded(&self) -> Option<&Founded> {
        self.founded.as_ref()
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.is_tls { "https" } else { "http" }, self.address)
    }

    /// The stores behind it.
    pub fn stores(&self) -> &Stores {
        self.opening.stores()
    }

    /// Answers what was asked, seals if told to, and closes the log.
    ///
    /// # Errors
    /// A seal failed; what was to be sealed stays in the log.
    pub async fn stop(self, seal: bool) -> Result<(), StoreError> {
        let _ = self.stop.send(());
        // Before requests are waited for: some wait for a job.
        self.jobs.stop().await;
        // Who holds a request open for longer is cut off; what was acknowledged is durable all the same.
        match tokio::time::timeout(Duration::from_secs(30), self.served).await {
            Ok(Ok(Err(error))) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the listener ended with an error")
            }
            Ok(_) => {}
            Err(_) => tracing::warn!("requests were still open after 30 seconds and were cut off"),
        }
        self.ticking.iter().for_each(tokio::task::AbortHandle::abort);
        self.door.close().await;
        self.opening.stop(seal).await
    }
}

/// Tells the door that time passes.
async fn tick(door: Door) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        door.tick().await;
    }
}

/// Looks now and then whether what reviewers took elsewhere is gone there, and lets go of what nobody can ask for.
async fn confirm(state: query::QueryState) {
    let mut confirming = query::review::Confirming::new(state.clone());
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        state.forget_removed();
        confirming.tick().await;
    }
}

/// Looks now and then after what retention has under way, and what is due.
async fn keep(mut keeper: retention::Keeper) {
    loop {
        keeper.tick().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

/// Looks now and then which jobs are due.
async fn schedule(jobs: Jobs) {
    loop {
        jobs.tick().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// The jobs of all crates.
fn all_jobs(door: &Door, state: &query::QueryState, retention: &Retention, settings: &Settings) -> Vec<Arc<dyn Job>> {
    vec![
        Arc::new(access::job::Reminders::new(door.clone())),
        Arc::new(access::job::KeyRotation::new(door.clone(), settings.keys.rotate_after)),
        Arc::new(query::residency::Checking::new(state.clone())),
        Arc::new(retention::Compaction::new(door.clone())),
        Arc::new(retention::LettingGo::new(retention.clone())),
        Arc::new(retention::Verification::new(door.clone(), settings.verify_bytes)),
    ]
}

/// What routes of the crates hold, beside the door.
struct Parts {
    state: query::QueryState,
    retention: Retention,
    jobs: Jobs,
}

/// All routes, each with its guard, and the table of them.
fn routes(
    door: &Door,
    ambient: Arc<dyn Ambient>,
    metrics: dashboards::Metrics,
    Parts { state, retention, jobs }: Parts,
) -> Result<(Router, Vec<Route>), ServiceError> {
    let admission = ingest::admission::Admission::new(door.clone(), ambient, ingest::limits::IngestLimits::default());
    let watched = "heads and keys are for whoever watches the ledger, and tell nothing of what it holds";
    let own = Routes::new(door.clone())
        .open(
            "GET",
            "/healthz",
            "says only that the process answers",
            says("whether the process answers", TEXTS, &[]),
            get(|| async { "ok\n" }),
        )
        .open(
            "GET",
            "/readyz",
            "asked by load balancers",
            says("whether events are accepted", TEXTS, &[ProblemKind::Unavailable]),
            get(ready),
        )
        .open(
            "GET",
            "/v1/keys",
            watched,
            says("the ledger's name, its public keys, and how one handed over to the next", JSON, &[]),
            get(keys),
        )
        .open("GET", "/v1/stores/{store}/checkpoint", watched, CHECKPOINT, get(log_checkpoint))
        .open(
            "GET",
            "/v1/openapi.json",
            "what the API is, and nothing that is in it",
            says("this document", JSON, &[]),
            get(described),
        )
        .finish((door.clone(), jobs.clone()));
    let parts = [
        own,
        access::http::router(door),
        ingest::http::router(admission),
        query::router(state),
        retention::router(retention, door.clone()),
        retention::jobs::router(jobs, door.clone()),
        dashboards::http::router(door.clone(), metrics),
    ];
    let (mut all, mut table) = (Router::new(), Vec::new());
    for (router, routes) in parts {
        all = all.merge(router);
        table.extend(routes);
    }
    let document = Arc::new(openapi::document(env!("CARGO_PKG_VERSION"), &table));
    // Its own route is part of it, so it is handed in when all of them are there.
    let all = all.layer(axum::Extension(document));
    let reader = SwaggerUi::new("/docs").config(utoipa_swagger_ui::Config::from("/v1/openapi.json"));
    let all = all.merge(reader);
    let all = all
        .fallback(|| async { Problem::new(ProblemKind::NotFound, "no such path; the API begins at /v1") })
        .method_not_allowed_fallback(|| async {
            Problem::new(ProblemKind::MethodNotAllowed, "this path does not offer that method")
        })
        .layer(tower_http::catch_panic::CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            Problem::new(ProblemKind::Internal, "a fault of the service; it was logged").into_response()
        }))
        .layer(middleware::from_fn(log_request));
    Ok((all, table))
}

/// What an open route without parameters answers.
const fn says(summary: &'static str, answer: &'static [Content], problems: &'static [ProblemKind]) -> Operation {
    Operation { summary, parameters: &[], body: &[], answer, problems }
}

const CHECKPOINT: Operation = Operation {
    summary: "the signed head of a store's own log",
    parameters: &[Parameter { name: "store", place: "path", what: "its name", schema: openapi::tenant }],
    body: &[],
    answer: TEXTS,
    problems: &[ProblemKind::NotFound, ProblemKind::Unavailable],
};

const TEXTS: &[Content] = &[openapi::TEXT];
const JSON: &[Content] = &[json_of(openapi::object)];

async fn described(axum::Extension(document): axum::Extension<Arc<serde_json::Value>>) -> Json<serde_json::Value> {
    Json(serde_json::Value::clone(&document))
}

async fn ready(State((door, jobs)): State<(Door, Jobs)>) -> Result<String, Problem> {
    let main = door.stores().main();
    if !main.is_writable() {
        let why = main.problem().unwrap_or_else(|| "the service is stopping".into());
        return Err(Problem::new(ProblemKind::Unavailable, format!("events are not accepted now: {why}")));
    }
    // A store that is out of reach takes nothing from the others; who watches is told.
    let troubled = door.stores().open().filter(|store| !store.is_writable()).map(|store| store.name());
    let lines = troubled.chain(door.stores().shut()).map(|store| format!("store {store} accepts no events now\n"));
    // Nor does a job that fails: it is not what events wait for.
    let jobs = jobs.troubles().into_iter().map(|line| format!("{line}\n"));
    Ok(std::iter::once("ready\n".to_string()).chain(lines).chain(jobs).collect())
}

async fn keys(State((door, _)): State<(Door, Jobs)>) -> Json<serde_json::Value> {
    let stores = door.stores();
    let key = |store: &Store| {
        // Oldest first, and the records by which whoever trusts one of them follows to the others.
        let all: Vec<String> = store.verifiers().iter().map(ToString::to_string).collect();
        let handovers: Vec<String> = store.handovers().into_iter().map(|(_, record)| record).collect();
        json!({"store": store.name().as_str(), "vkey": store.verifier().to_string(), "all": all, "handovers": handovers})
    };
    Json(json!({"ledger": stores.main().ledger().to_string(), "keys": stores.open().map(key).collect::<Vec<_>>()}))
}

async fn log_checkpoint(State((door, _)): State<(Door, Jobs)>, Path(name): Path<String>) -> Result<String, Problem> {
    let nothing = || Problem::new(ProblemKind::NotFound, "there is no such store; /v1/keys names those that are open");
    let name: TenantId = name.parse().map_err(|_| nothing())?;
    match door.stores().facts().contains_key(&name) {
        true => Ok(door.stores().get(&name)?.log_checkpoint()),
        false => Err(nothing()),
    }
}

/// One line per request, with the tenant when the path names one; never a query string, never a body.
async fn log_request(request: Request, next: Next) -> Response {
    let start = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_string();
    let tenant = path.strip_prefix("/v1/tenants/").and_then(|rest| rest.split('/').next()).map(str::to_string);
    let tenant = tenant.filter(|name| name.parse::<TenantId>().is_ok());
    let response = next.run(request).await;
    let (status, millis) = (response.status().as_u16(), start.elapsed().as_millis() as u64);
    match tenant {
        Some(tenant) => tracing::debug!(%method, path, status, millis, tenant, "request"),
        None => tracing::debug!(%method, path, status, millis, "request"),
    }
    response
}
