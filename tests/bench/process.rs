//! A process that the benchmark started: its output, what it uses of the machine, and its end.
//!
//! Not here: which programs there are and what they are told (`program`, `postgres`).
//!
//! Invariants: (1) whatever was started here is ended here, by its process id, on every path; (2) nothing else is
//! ever signalled; (3) every wait has an end.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use crate::machine::{self, Processor};
use crate::trouble::{Outcome, Trouble};

/// How long a process may take to become ready, or to stop, before the benchmark gives it up.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// A process that runs.
pub struct Process {
    child: Child,
    name: &'static str,
    log: PathBuf,
    children_before: Duration,
    /// When it was started.
    pub begin: Instant,
}

/// What a process used from start to end, and whatever it started and waited for.
#[derive(Debug, Clone, Copy)]
pub struct Stopped {
    pub processor: Duration,
    pub peak_mib: f64,
    /// From the signal to the end.
    pub took: Duration,
}

impl Process {
    /// Starts a command whose output goes to `log`.
    pub fn start(mut command: Command, name: &'static str, log: &Path) -> Outcome<Self> {
        let output = File::create(log).map_err(Trouble::at("creating", log))?;
        let errors = output.try_clone().map_err(Trouble::at("creating", log))?;
        let children_before = Processor::now()?.children;
        let begin = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(Trouble::machine(format!("starting `{name}`")))?;
        Ok(Self { child, name, log: log.to_owned(), children_before, begin })
    }

    /// Fails if it has ended, or takes longer than it may.
    pub fn still_starting(&mut self) -> Outcome<()> {
        if let Some(status) = self.ended()? {
            return Err(self.failed(format!("ended with {status} before it was ready")));
        }
        if self.begin.elapsed() > PATIENCE {
            return Err(self.failed(format!("was not ready after {} s", PATIENCE.as_secs())));
        }
        Ok(())
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name and waits for a good end.
    pub async fn stop(self, signal: &str) -> Outcome<Stopped> {
        // A process that ends at once leaves no time to look afterwards.
        let peak = self.peak_mib();
        self.signal(signal)?;
        let stopped = self.end().await?;
        Ok(Stopped { peak_mib: stopped.peak_mib.max(peak), ..stopped })
    }

    /// Waits for a good end that something else brings about.
    pub async fn end(mut self) -> Outcome<Stopped> {
        let begin = Instant::now();
        let mut peak = self.peak_mib();
        let status = loop {
            if let Some(status) = self.ended()? {
                break status;
            }
            if begin.elapsed() > PATIENCE {
                return Err(self.failed(format!("did not end within {} s", PATIENCE.as_secs())));
            }
            peak = peak.max(self.peak_mib());
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        if !status.success() {
            return Err(self.failed(format!("ended with {status}")));
        }
        let processor = Processor::now()?.children.saturating_sub(self.children_before);
        Ok(Stopped { processor, peak_mib: peak, took: begin.elapsed() })
    }

    /// Ends it as a power cut would, as far as a process can see.
    pub fn kill(mut self) -> Outcome<()> {
        self.child.kill().map_err(Trouble::machine(format!("killing `{}`", self.name)))?;
        self.child.wait().map_err(Trouble::machine(format!("waiting for `{}`", self.name)))?;
        Ok(())
    }

    /// The largest resident size so far, in MiB.
    pub fn peak_mib(&self) -> f64 {
        machine::peak_mib(self.id()).unwrap_or(0.0)
    }

    /// The shell's own `kill` does it, since the standard library has no other signal than SIGKILL.
    fn signal(&self, signal: &str) -> Outcome<()> {
        Command::new("sh")
            .args(["-c", "kill -s \"$1\" \"$2\"", "sh", signal, &self.id().to_string()])
            .status()
            .map_err(Trouble::machine(format!("sending SIG{signal}")))?;
        Ok(())
    }

    fn ended(&mut self) -> Outcome<Option<ExitStatus>> {
        self.child.try_wait().map_err(Trouble::machine(format!("waiting for `{}`", self.name)))
    }

    fn failed(&self, what: String) -> Trouble {
        failed(self.name, what, LogTail::of(&std::fs::read(&self.log).unwrap_or_default()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail, harmlessly, when it has ended and was waited for.
        let _ended = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// A program that ended badly, with the last of what it said.
fn failed(program: &str, what: String, tail: LogTail) -> Trouble {
    Trouble::Program { program: program.to_owned(), what, tail }
}

/// Runs a command to its end and gives its standard output; anything but a good end is a failure.
pub fn finish(mut command: Command, name: &'static str) -> Outcome<Vec<u8>> {
    good(command.output().map_err(Trouble::machine(format!("starting `{name}`")))?, name)
}

/// The standard output of a command that ended well.
pub fn good(output: Output, name: &'static str) -> Outcome<Vec<u8>> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    Err(failed(name, format!("ended with {}", output.status), LogTail::of(said)))
}

/// The last of what a program printed, on one line.
#[derive(Debug)]
pub struct LogTail(String);

impl LogTail {
    /// Of this output.
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
