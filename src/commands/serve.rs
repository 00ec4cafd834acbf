//! `piperoll serve`: runs the service until it is told to stop.
//!
//! Not here: routes ([`crate::service`]). Invariant: works with no settings at all, on local disk and loopback.

use super::{Outcome, block_on, interrupted, start_logging};
use crate::service::Service;
use crate::settings::{Durable, LogFormat, Overrides, Place, Settings};
use clap::Args;
use ledger::name::TenantId;
use ledger_store::Location;
use std::net::SocketAddr;
use std::process::ExitCode;

/// Run the service
///
/// With no settings at all it keeps its data below ./piperoll-data and listens on 127.0.0.1:7117. The first
/// start makes the ledger's key. It stops in order on SIGTERM and SIGINT; what is not sealed by then stays in
/// the write-ahead log and is there again at the next start.
#[derive(Debug, Args)]
#[command(after_help = "\
Try it:
  piperoll serve &
  curl -s localhost:7117/v1/tenants/acme/audit/events -H 'content-type: application/json' -d '
    {\"time\":\"2026-08-14T09:26:53Z\",\"action\":\"invoice.update\",\"actor\":{\"type\":\"user\",\"id\":\"u-1\"}}'
  piperoll query --tenant acme 'SELECT seq, occurred_at, action, actor_id FROM audit'

Object stores: the objects may lie in S3, Google Cloud Storage or Azure Blob instead of DATA/store. Key and
write-ahead log stay in the data folder. Credentials come from the usual places:
  s3://bucket/prefix     AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION; web identity;
                         ~/.aws/credentials and config with AWS_PROFILE; the identity of the container or machine.
                         Servers that speak S3: AWS_ENDPOINT_URL, and AWS_ALLOW_HTTP=true without TLS
  gs://bucket/prefix     GOOGLE_APPLICATION_CREDENTIALS, GOOGLE_SERVICE_ACCOUNT, gcloud's default login, the machine's
                         identity
  az://container/prefix  AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_KEY,
                         AZURE_CLIENT_ID with a secret or a federated token, the machine's identity;
                         AZURE_STORAGE_ENDPOINT for other servers. Also abfss://container@account.dfs.core.windows.net/
  AWS_REGION=eu-central-1 piperoll serve --store s3://acme-ledger/main --heads-to s3://acme-heads

Settings file (TOML), all optional:
  data = \"/var/lib/piperoll\"
  store = \"s3://acme-ledger/main\"
  heads_to = \"s3://acme-heads\"      # signed heads, kept where this service need not be able to delete
  heads_every_minutes = 5
  listen = \"127.0.0.1:7117\"
  durability = \"wal\"                 # or object: acknowledged once in the object store
  policies = \"/etc/piperoll/policies\"  # a folder of .cedar files (docs/access.md)
  region = \"eu-central-1\"            # where `store` lies
  [stores.us]                        # another one, for tenants that name it (docs/access.md)
  location = \"s3://acme-ledger-us\"
  region = \"us-east-1\"
  durability = \"object\"
  [tls]
  certificate = \"chain.pem\"
  key = \"key.pem\"
  clients = \"authority.pem\"          # certificates that clients may show instead of a key
  [[oidc]]
  issuer = \"https://login.example\"
  audience = \"piperoll\"
  jwks = \"https://login.example/keys\"
  [[oidc.grants]]                    # what a claim is worth, while the token holds
  claim = \"groups\"
  value = \"platform-sre\"
  role = \"sre\"
  tenants = [\"platform\"]
  subtree = true
  [log]
  format = \"json\"                    # or text
  level = \"info\"
  [limits]
  seal_bytes = 16777216              # unsealed bytes of a stream that make a segment
  seal_age_seconds = 21600           # how long an entry may stay unsealed
  unsealed_bytes = 100663296         # of all streams, before the largest are sealed
  duplicate_window_seconds = 604800  # how long an event id is remembered
  idempotency_window_seconds = 86400 # how long an Idempotency-Key is remembered")]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Where the objects are: a folder, or a URL as below; store/ in the data folder when nothing is said
    #[arg(long, env = "PIPEROLL_STORE", value_name = "URL")]
    store: Option<Location>,
    /// A second store, in which signed heads are kept; `piperoll verify --heads` uses them
    #[arg(long, env = "PIPEROLL_HEADS_TO", value_name = "URL")]
    heads_to: Option<Location>,
    /// Where to listen; beyond this machine only with TLS
    #[arg(long, env = "PIPEROLL_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// What an acknowledged event has survived to: the local disk, or the object store. Chosen when a store is made
    #[arg(long, env = "PIPEROLL_DURABILITY", value_name = "MODE")]
    durability: Option<Durable>,
    /// Go on without the write-ahead log of a store (main, if none is named), which is lost for ever: what was not sealed
    /// is given up, and said to be
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "main")]
    log_lost: Option<TenantId>,
    /// A store whose objects were copied whole to where the settings say it is now
    #[arg(long, value_name = "NAME")]
    store_moved: Vec<TenantId>,
    /// Listen beyond this machine in the clear: something in front of the service encrypts
    #[arg(long)]
    insecure: bool,
    /// How log lines look
    #[arg(long, env = "PIPEROLL_LOG_FORMAT")]
    log_format: Option<LogFormat>,
    /// Which log lines are written, as in `info` or `ledger_store=debug,info`
    #[arg(long, env = "PIPEROLL_LOG_LEVEL", value_name = "FILTER")]
    log_level: Option<String>,
    /// Unsealed bytes of a stream that make it worth a segment
    #[arg(long, value_name = "BYTES")]
    seal_bytes: Option<usize>,
    /// Seal everything before stopping
    #[arg(long)]
    seal_on_exit: bool,
}

/// Runs the command.
///
/// # Errors
/// The service cannot start, or could not seal at its end.
pub fn run(arguments: Arguments) -> Outcome {
    let Arguments { place, store, heads_to, listen, durability, log_lost, store_moved, insecure, .. } = arguments;
    let Arguments { log_format, log_level, seal_bytes, seal_on_exit, .. } = arguments;
    let overrides = Overrides {
        store,
        heads_to,
        listen,
        durability,
        log_lost,
        moved: store_moved,
        insecure,
        log_format,
        log_level,
        seal_bytes,
    };
    let settings = Settings::load(&place, overrides)?;
    start_logging(settings.log_format, &settings.log_level);
    block_on(async move {
        let service = Service::start(&settings).await?;
        if let Some(founded) = service.founded() {
            welcome(&founded.key, &founded.hash, &service.url());
        }
        tracing::info!(url = service.url(), data = %settings.data.display(), store = %settings.main.location, "ready");
        interrupted().await;
        tracing::info!("stopping");
        service.stop(seal_on_exit).await?;
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    })?
}

/// What the first start prints, once: to standard output, because keys do not belong into logs.
fn welcome(key: &str, hash: &str, url: &str) {
    println!(
        "This platform is new. Its first entry has the leaf hash\n  {hash}\n\n\
         The administrator's key, shown this once (`piperoll administrator-key` makes another):\n\n  \
         export PIPEROLL_KEY={key}\n\n\
         With it, make a tenant, who may bring its events, and who may read them (docs/access.md):\n  \
         piperoll registry --help\n\n\
         Serving at {url}\n"
    );
}
