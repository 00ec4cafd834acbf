//! The service: opens the store, puts the routes together, listens, and stops in order.
//!
//! The only place that collects the crates' routers. Not here: what a route does. Invariants: `/readyz` says
//! yes only while events are accepted; a stop answers what was asked before it closes the log.

use crate::clock::SystemAmbient;
use crate::heads::Keeping;
use crate::keyfile::{KeyFile, KeyFileError};
use crate::reach::{ReachError, access_to};
use crate::settings::Settings;
use access::openapi::{self, Content, Operation, json_of};
use access::policy::PolicyError;
use access::registry::{BookError, Founded};
use access::{Book, Door, Listener, Peer, Policies, Problem, ProblemKind, Route, Routes};
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use ledger::name::{LedgerName, TenantId};
use ledger_store::{Ambient, HeadKeeper, Store, StoreError, StoreOptions};
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
    store: Store,
    keeping: Option<Keeping>,
    door: Door,
    founded: Option<Founded>,
    ticking: tokio::task::AbortHandle,
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
        let (store, ambient) = open_store(settings).await?;
        let keeping = match &settings.heads {
            Some((to, every)) => {
                let elsewhere = to.open(&access_to(to)?, Arc::clone(&ambient))?;
                Some(Keeping::start(store.clone(), HeadKeeper::new(elsewhere), *every))
            }
            None => None,
        };
        // Before anything is founded whose key would be shown to nobody.
        let address = settings.listen;
        let failed = |source| ServiceError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let listener = Listener::start(listener, settings.tls.as_ref())?;
        let policies = Policies::load(&settings.policies)?;
        let (book, founded) = Book::open(store.clone(), Arc::clone(&ambient)).await?;
        book.note_policies(&settings.policies).await?;
        let door = Door::new(store.clone(), book, policies, settings.issuers.clone(), Arc::clone(&ambient));
        let (app, _) = routes(&door, ambient, metrics, settings.query.clone())?;
        let (stop, stopped) = oneshot::channel();
        let app = app.into_make_service_with_connect_info::<Peer>();
        let serving = axum::serve(listener, app).with_graceful_shutdown(async move {
            let _ = stopped.await;
        });
        let served = tokio::spawn(async move { serving.await });
        let ticking = tokio::spawn(tick(door.clone())).abort_handle();
        Ok(Self { store, keeping, door, founded, ticking, address, is_tls: settings.tls.is_some(), stop, served })
    }

    /// What the first start of this platform made: its administrator's key, to be shown this once.
    pub fn founded(&self) -> Option<&Founded> {
        self.founded.as_ref()
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.is_tls { "https" } else { "http" }, self.address)
    }

    /// The store behind it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Answers what was asked, seals if told to, and closes the log.
    ///
    /// # Errors
    /// A seal failed; what was to be sealed stays in the log.
    pub async fn stop(self, seal: bool) -> Result<(), StoreError> {
        let _ = self.stop.send(());
        // Who holds a request open for longer is cut off; what was acknowledged is durable all the same.
        match tokio::time::timeout(Duration::from_secs(30), self.served).await {
            Ok(Ok(Err(error))) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the listener ended with an error")
            }
            Ok(_) => {}
            Err(_) => tracing::warn!("requests were still open after 30 seconds and were cut off"),
        }
        self.ticking.abort();
        self.door.close().await;
        let sealed = if seal { self.store.seal_all().await } else { Ok(()) };
        if let Some(keeping) = self.keeping {
            keeping.stop(&self.store).await;
        }
        self.store.close().await;
        sealed
    }
}

/// Opens the store that settings name, with its key; makes the key when the store is new.
///
/// # Errors
/// Key or store are not to be had.
pub async fn open_store(settings: &Settings) -> Result<(Store, Arc<dyn Ambient>), ServiceError> {
    let ambient: Arc<dyn Ambient> = Arc::new(SystemAmbient::new());
    let objects = settings.store.open(&access_to(&settings.store)?, Arc::clone(&ambient))?;
    let keys = key_of(settings, ledger_store::holds_anything(&objects).await?, ambient.as_ref())?;
    ledger_store::probe(&objects, &settings.store, ambient.as_ref()).await?;
    let options = StoreOptions {
        objects,
        durability: settings.durability,
        log: settings.data.join("wal"),
        log_lost: settings.log_lost,
        cache: settings.data.join("cache"),
        ledger: keys.ledger,
        name: main_store(),
        key: keys.key,
        limits: settings.limits.clone(),
        ambient: Arc::clone(&ambient),
    };
    let store = Store::open(options).await?;
    Ok((store, ambient))
}

/// The name of the one store there is today.
pub fn main_store() -> TenantId {
    "main".parse().expect("a plain name")
}

/// Reads the ledger's key; makes one when the store is new.
fn key_of(settings: &Settings, holds_anything: bool, ambient: &dyn Ambient) -> Result<KeyFile, ServiceError> {
    let path = settings.key();
    if path.exists() || holds_anything {
        return Ok(KeyFile::read(&path)?);
    }
    let mut random = [0; 4];
    ambient.fill_random(&mut random);
    let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let ledger: LedgerName = format!("ledger-{name}").parse().expect("letters, a hyphen and hexadecimal digits");
    let made = KeyFile::create(&path, ledger, ambient)?;
    tracing::info!(ledger = %made.ledger, "made a new ledger key; keep a copy of keys/ledger.key in a safe place");
    Ok(made)
}

/// Tells the door that time passes.
async fn tick(door: Door) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        door.tick().await;
    }
}

/// All routes, each with its guard, and the table of them.
fn routes(
    door: &Door,
    ambient: Arc<dyn Ambient>,
    metrics: dashboards::Metrics,
    query_limits: query::Limits,
) -> Result<(Router, Vec<Route>), ServiceError> {
    let admission = ingest::admission::Admission::new(door.clone(), ambient, ingest::limits::IngestLimits::default());
    let state = query::QueryState::new(door.clone(), query_limits)?;
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
        .open("GET", "/v1/keys", watched, says("the ledger's name and public key", JSON, &[]), get(keys))
        .open(
            "GET",
            "/v1/store/checkpoint",
            watched,
            says("the signed head of the store's own log", TEXTS, &[]),
            get(log_checkpoint),
        )
        .open(
            "GET",
            "/v1/openapi.json",
            "what the API is, and nothing that is in it",
            says("this document", JSON, &[]),
            get(described),
        )
        .finish(door.clone());
    let parts = [
        own,
        access::http::router(door),
        ingest::http::router(admission),
        query::router(state),
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

const TEXTS: &[Content] = &[openapi::TEXT];
const JSON: &[Content] = &[json_of(openapi::object)];

async fn described(axum::Extension(document): axum::Extension<Arc<serde_json::Value>>) -> Json<serde_json::Value> {
    Json(serde_json::Value::clone(&document))
}

async fn ready(State(door): State<Door>) -> Result<&'static str, Problem> {
    if door.is_writable() {
        Ok("ready\n")
    } else {
        let why = door.problem().unwrap_or_else(|| "the service is stopping".into());
        Err(Problem::new(ProblemKind::Unavailable, format!("events are not accepted now: {why}")))
    }
}

async fn keys(State(door): State<Door>) -> Json<serde_json::Value> {
    let (ledger, key) = door.ledger_key();
    Json(serde_json::json!({"ledger": ledger, "keys": [{"vkey": key.to_string()}]}))
}

async fn log_checkpoint(State(door): State<Door>) -> String {
    door.log_checkpoint()
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
