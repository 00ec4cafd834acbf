//! Piperoll's commands and the floor, as the benchmark starts them. The only place that knows their flags.
//!
//! Not here: requests to them (`load`, `asking`), how a process is ended (`process`).

use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::machine::Processor;
use crate::process::{self, Process, Stopped};
use crate::trouble::{Outcome, Trouble};

/// Unsealed bytes of a stream before it is sealed, for a server that is to seal nothing: a tebibyte.
const NEVER: &str = "1099511627776";
/// Tenants that bring an event now and then.
pub const TRICKLING: usize = 9_900;
/// Between two looks at a server that is starting.
const GLANCE: Duration = Duration::from_millis(2);

/// Which server, and how it is to treat what is not sealed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The floor program.
    Floor,
    /// Piperoll with its defaults.
    Plain,
    /// Piperoll; before a graceful stop it seals everything.
    SealOnExit,
    /// Piperoll as before, with a key for every tenant.
    Keyed,
    /// Piperoll; it seals nothing, however much there is.
    NoSeal,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The `piperoll` binary.
    pub piperoll: PathBuf,
    /// This benchmark, which is also the floor.
    pub floor: PathBuf,
}

impl Programs {
    fn serve(&self, mode: Mode, data: &Path, address: &str) -> Command {
        let mut command = match mode {
            Mode::Floor => Command::new(&self.floor),
            _ => Command::new(&self.piperoll),
        };
        command.arg(if mode == Mode::Floor { "--floor" } else { "serve" });
        command.arg("--data").arg(data).args(["--listen", address]);
        match mode {
            Mode::SealOnExit => drop(command.arg("--seal-on-exit")),
            Mode::Keyed => drop(command.arg("--seal-on-exit").env("PIPEROLL_CONFIG", data.with_extension("toml"))),
            Mode::NoSeal => drop(command.args(["--seal-bytes", NEVER])),
            Mode::Floor | Mode::Plain => {}
        }
        command
    }

    /// The administrator's key of a data folder, and whether its platform was made for it.
    fn key(&self, data: &Path) -> Outcome<(String, bool)> {
        let file = data.join("administrator.key");
        if let Ok(key) = std::fs::read_to_string(&file) {
            return Ok((key, false));
        }
        let mut command = Command::new(&self.piperoll);
        command.arg("administrator-key").arg("--data").arg(data);
        let key = String::from_utf8_lossy(&process::finish(command, "piperoll administrator-key")?).trim().to_string();
        std::fs::write(&file, &key).map_err(Trouble::at("writing", &file))?;
        Ok((key, true))
    }

    /// Verifies one tenant's audit stream, or the whole store.
    pub fn verify(&self, data: &Path, tenant: Option<&str>) -> Outcome<Finished> {
        let mut command = Command::new(&self.piperoll);
        command.arg("verify").arg("--data").arg(data);
        if let Some(tenant) = tenant {
            command.args(["--tenant", tenant, "--stream", "audit"]);
        }
        command.arg("--json");
        let before = Processor::now()?;
        let begin = Instant::now();
        process::finish(command, "piperoll verify")?;
        let wall = begin.elapsed();
        Ok(Finished { wall, processor: Processor::now()?.children.saturating_sub(before.children) })
    }
}

/// A command that ran to its end.
#[derive(Debug, Clone, Copy)]
pub struct Finished {
    pub wall: Duration,
    pub processor: Duration,
}

/// A server that runs.
pub struct Server {
    process: Process,
    address: String,
    key: String,
    /// From the start of the process to the first positive answer of `/readyz`.
    pub ready_after: Duration,
}

impl Server {
    /// Starts a server over a data folder and waits until it says that it is ready.
    pub async fn start(programs: &Programs, mode: Mode, data: &Path) -> Outcome<Self> {
        std::fs::create_dir_all(data).map_err(Trouble::at("making", data))?;
        if mode == Mode::Keyed {
            let settings = data.with_extension("toml");
            std::fs::write(&settings, "[keys]\nall = true\n").map_err(Trouble::at("writing", &settings))?;
        }
        let address = format!("127.0.0.1:{}", free_port()?);
        let name = if mode == Mode::Floor { "floor" } else { "piperoll serve" };
        let (key, is_new) = if mode == Mode::Floor { ("nobody".into(), false) } else { programs.key(data)? };
        let process = Process::start(programs.serve(mode, data, &address), name, &data.with_extension("log"))?;
        let mut server = Self { process, address, key, ready_after: Duration::ZERO };
        server.wait_ready().await?;
        server.ready_after = server.process.begin.elapsed();
        if is_new {
            server.set_up().await?;
        }
        Ok(server)
    }

    /// Makes the tenants of the reference events, and lets whoever runs the benchmark bring their events and read them.
    async fn set_up(&self) -> Outcome<()> {
        let grant = |role: &str| {
            json!({"change": "grant.create", "principal": "administrator", "role": role,
                "tenants": ["platform"], "subtree": true})
        };
        self.change(&["ingest-service", "security-analyst"].map(grant)).await?;
        self.register((0..200).map(|n| format!("t-{n:03}"))).await
    }

    /// Makes the tenants of a trickling crowd.
    pub async fn set_up_trickling(&self) -> Outcome<()> {
        self.register((0..TRICKLING).map(|n| format!("q{n:04}"))).await
    }

    async fn register(&self, tenants: impl Iterator<Item = String>) -> Outcome<()> {
        let tenants: Vec<Value> = tenants.map(|tenant| json!({"change": "tenant.create", "tenant": tenant})).collect();
        self.change(&tenants).await
    }

    /// Makes changes of the registry, in parts.
    pub async fn change(&self, changes: &[Value]) -> Outcome<()> {
        for changes in changes.chunks(1_000) {
            let asked = client()?.post(self.url("/v1/registry")).json(&json!({"changes": changes}));
            let answer = asked.send().await.map_err(Trouble::unanswered("setting the platform up"))?;
            let status = answer.status();
            if !status.is_success() {
                let said = answer.text().await.unwrap_or_default();
                return Err(Trouble::wrong(
                    "the answer to changes of the registry",
                    "200",
                    format!("{status}: {said}"),
                ));
            }
        }
        Ok(())
    }

    async fn wait_ready(&mut self) -> Outcome<()> {
        let client = client()?;
        let url = self.url("/readyz");
        loop {
            self.process.still_starting()?;
            match client.get(&url).timeout(Duration::from_secs(5)).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                _ => tokio::time::sleep(GLANCE).await,
            }
        }
    }

    /// The address of a path, with the key in it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}@{}{path}", self.key, self.address)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The largest resident size so far, in MiB.
    pub fn peak_mib(&self) -> f64 {
        self.process.peak_mib()
    }

    /// Asks the server to stop and waits until it has.
    pub async fn stop(self) -> Outcome<Stopped> {
        self.process.stop("TERM").await
    }

    /// Ends the server as a power cut would.
    pub fn kill(self) -> Outcome<()> {
        self.process.kill()
    }
}

/// A client that keeps one connection to one server, and never goes through a proxy.
pub fn client() -> Outcome<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(1)
        .build()
        .map_err(Trouble::unanswered("making a client"))
}

/// A port of the loopback address that was free a moment ago.
pub fn free_port() -> Outcome<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Trouble::machine("looking for a free port"))?;
    let address = listener.local_addr().map_err(Trouble::machine("looking for a free port"))?;
    Ok(address.port())
}
