//! Programs that the benchmark starts and stops: Piperoll's commands and the floor. The only place that knows their
//! flags.
//!
//! Not here: requests to them (`load`, `asking`).
//!
//! Invariants: (1) whatever was started here is ended here, by its process id, on every path; (2) nothing else is
//! ever signalled; (3) every wait has an end.

use std::fmt;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::machine::{Processor, peak_mib};
use crate::trouble::{Outcome, Trouble};

/// How long a server may take to become ready, or to stop, before the benchmark gives it up.
const PATIENCE: Duration = Duration::from_secs(180);
/// Unsealed bytes of a stream before it is sealed, for a server that is to seal nothing: a tebibyte.
const NEVER: &str = "1099511627776";
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
            Mode::NoSeal => drop(command.args(["--seal-bytes", NEVER])),
            Mode::Floor | Mode::Plain => {}
        }
        command
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
        let output = command.output().map_err(Trouble::machine("starting `piperoll verify`"))?;
        let wall = begin.elapsed();
        let processor = Processor::now()?.children.saturating_sub(before.children);
        if output.status.success() {
            return Ok(Finished { wall, processor });
        }
        let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        Err(failed("piperoll verify", format!("ended with {}", output.status), LogTail::of(said)))
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
    child: Child,
    name: &'static str,
    log: PathBuf,
    address: String,
    children_before: Duration,
    /// From the start of the process to the first positive answer of `/readyz`.
    pub ready_after: Duration,
}

/// What a server used from start to end.
#[derive(Debug, Clone, Copy)]
pub struct Stopped {
    pub processor: Duration,
    pub peak_mib: f64,
    /// From the signal to the end.
    pub took: Duration,
}

impl Server {
    /// Starts a server over a data folder and waits until it says that it is ready.
    pub async fn start(programs: &Programs, mode: Mode, data: &Path) -> Outcome<Self> {
        std::fs::create_dir_all(data).map_err(Trouble::at("making", data))?;
        let address = free_address()?;
        let log = data.with_extension("log");
        let output = File::create(&log).map_err(Trouble::at("creating", &log))?;
        let errors = output.try_clone().map_err(Trouble::at("creating", &log))?;
        let name = if mode == Mode::Floor { "floor" } else { "piperoll serve" };
        let children_before = Processor::now()?.children;
        let begin = Instant::now();
        let child = programs
            .serve(mode, data, &address)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(Trouble::machine(format!("starting `{name}`")))?;
        let mut server = Self { child, name, log, address, children_before, ready_after: Duration::ZERO };
        server.wait_ready(begin).await?;
        server.ready_after = begin.elapsed();
        Ok(server)
    }

    async fn wait_ready(&mut self, begin: Instant) -> Outcome<()> {
        let client = client()?;
        let url = self.url("/readyz");
        while begin.elapsed() < PATIENCE {
            if let Some(status) = self.ended()? {
                return Err(self.failed(format!("ended with {status} before it was ready")));
            }
            match client.get(&url).timeout(Duration::from_secs(5)).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                _ => tokio::time::sleep(GLANCE).await,
            }
        }
        Err(self.failed(format!("was not ready after {} s", PATIENCE.as_secs())))
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The largest resident size so far, in MiB.
    pub fn peak_mib(&self) -> f64 {
        peak_mib(self.child.id()).unwrap_or(0.0)
    }

    /// Asks the server to stop and waits until it has.
    pub async fn stop(mut self) -> Outcome<Stopped> {
        let begin = Instant::now();
        let mut peak = self.peak_mib();
        self.terminate()?;
        let status = loop {
            if let Some(status) = self.ended()? {
                break status;
            }
            if begin.elapsed() > PATIENCE {
                return Err(self.failed(format!("did not stop within {} s of SIGTERM", PATIENCE.as_secs())));
            }
            peak = peak.max(self.peak_mib());
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        if !status.success() {
            return Err(self.failed(format!("answered SIGTERM by ending with {status}")));
        }
        let processor = Processor::now()?.children.saturating_sub(self.children_before);
        Ok(Stopped { processor, peak_mib: peak, took: begin.elapsed() })
    }

    /// Ends the server as a power cut would, as far as a process can see.
    pub fn kill(mut self) -> Outcome<()> {
        self.child.kill().map_err(Trouble::machine(format!("killing `{}`", self.name)))?;
        self.child.wait().map_err(Trouble::machine(format!("waiting for `{}`", self.name)))?;
        Ok(())
    }

    /// Sends SIGTERM. The shell's own `kill` does it, since the standard library has no other signal than SIGKILL.
    fn terminate(&self) -> Outcome<()> {
        Command::new("sh")
            .args(["-c", "kill -TERM \"$1\"", "sh", &self.child.id().to_string()])
            .status()
            .map_err(Trouble::machine("sending SIGTERM"))?;
        Ok(())
    }

    fn ended(&mut self) -> Outcome<Option<ExitStatus>> {
        self.child.try_wait().map_err(Trouble::machine(format!("waiting for `{}`", self.name)))
    }

    fn failed(&self, what: String) -> Trouble {
        failed(self.name, what, LogTail::of(&std::fs::read(&self.log).unwrap_or_default()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail, harmlessly, when it has ended and was waited for.
        let _ended = self.child.kill();
        let _waited = self.child.wait();
    }
}

fn failed(program: &str, what: String, tail: LogTail) -> Trouble {
    Trouble::Program { program: program.to_owned(), what, tail }
}

/// A client that keeps one connection to one server, and never goes through a proxy.
pub fn client() -> Outcome<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(1)
        .build()
        .map_err(Trouble::unanswered("making a client"))
}

/// A port that was free a moment ago.
fn free_address() -> Outcome<String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Trouble::machine("looking for a free port"))?;
    let address = listener.local_addr().map_err(Trouble::machine("looking for a free port"))?;
    Ok(address.to_string())
}

/// The last of what a program printed, on one line.
#[derive(Debug)]
pub struct LogTail(String);

impl LogTail {
    fn of(output: &[u8]) -> Self {
        const LINES: usize = 3;
        let text = String::from_utf8_lossy(output);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Self(lines[lines.len().saturating_sub(LINES)..].join(" / "))
    }
}

impl fmt::Display for LogTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(nothing)" } else { &self.0 })
    }
}
