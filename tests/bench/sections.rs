//! The parts of the benchmark: their order, and those that weigh, verify and restart a store.
//!
//! The others are in `ingest`, `answers`, `costs`, `tenants` and `growth`. Not here: the means (`program`, `load`,
//! `asking`, `storage`) and the form of the table (`report`).
//!
//! Invariants: (1) a part that fails adds a row that says why, and the others go on; (2) the floor and Piperoll get
//! the same bodies from the same client, in turn; (3) nothing here decides by time whether the run succeeded.

use std::path::{Path, PathBuf};

use crate::asking::Asker;
use crate::events::Events;
use crate::load::{Loaded, Pace, load};
use crate::machine::Processor;
use crate::options::{Options, Section};
use crate::peers::Peers;
use crate::process::Stopped;
use crate::program::{Mode, Programs, Server};
use crate::questions::{counts, largest, read};
use crate::quiet::quiet;
use crate::report::{Bar, Report, Unit, table, thousands};
use crate::storage::{Files, Weight};
use crate::trouble::{Outcome, Trouble};

/// How often verification runs; the median is printed.
const VERIFICATIONS: usize = 3;

/// A run under way.
pub struct Bench {
    pub options: Options,
    pub programs: Programs,
    pub events: Events,
    /// Where stores are made.
    pub folder: PathBuf,
    pub report: Report,
    pub peers: Peers,
    /// A store that holds every event, sealed.
    pub sealed: Option<PathBuf>,
    /// Whether a server has worked on that store until it had nothing left to do.
    pub is_settled: bool,
}

/// One server's life: started empty, loaded with every event, stopped.
pub struct Round {
    pub loaded: Loaded,
    pub stopped: Stopped,
    pub client_seconds: f64,
}

impl Round {
    /// Processor seconds of the server for a million events.
    pub fn processor_per_million(&self) -> f64 {
        self.stopped.processor.as_secs_f64() * 1e6 / self.loaded.events.max(1) as f64
    }
}

impl Bench {
    /// Runs every part that was asked for.
    pub async fn run(&mut self) {
        const ALL: [(Section, &str); 12] = [
            (Section::Ingest, "ingest"),
            (Section::Latency, "receipt latency"),
            (Section::Storage, "storage"),
            (Section::Verify, "verification"),
            (Section::Restart, "restart"),
            (Section::Queries, "queries"),
            (Section::Tail, "queries with a tail"),
            (Section::Door, "the front door"),
            (Section::Costs, "costs of an event"),
            (Section::Keyed, "encryption"),
            (Section::Tenants, "tenants"),
            (Section::Growth, "growth"),
        ];
        for (section, name) in ALL {
            if !self.options.wants(section) {
                continue;
            }
            eprintln!("bench: {name}");
            let done = match section {
                Section::Ingest => self.ingest().await,
                Section::Latency => self.latency().await,
                Section::Storage => self.storage().await,
                Section::Verify => self.verify().await,
                Section::Restart => self.restart().await,
                Section::Queries => self.queries().await,
                Section::Tail => self.tail().await,
                Section::Door => self.door().await,
                Section::Costs => self.costs().await,
                Section::Keyed => self.keyed().await,
                Section::Tenants => self.tenants().await,
                Section::Growth => self.growth().await,
            };
            if let Err(why) = done {
                self.report.failure(name, Unit::Seconds, Bar::None, why);
            }
        }
    }

    /// A place for a store of this name.
    pub fn place(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Removes a store, unless it is to be kept.
    pub fn discard(&self, data: &Path) -> Outcome<()> {
        if self.options.keep || !data.exists() {
            return Ok(());
        }
        std::fs::remove_dir_all(data).map_err(Trouble::at("removing", data))
    }

    /// One server's life: every event, at full load.
    pub async fn round(&self, mode: Mode, data: &Path) -> Outcome<Round> {
        let server = Server::start(&self.programs, mode, data).await?;
        let before = Processor::now()?.own;
        let bodies = self.events.bodies(0, self.events.len());
        let loaded = load(&server.url("/v1/events"), bodies, Pace::Full).await?;
        let client_seconds = Processor::now()?.own.saturating_sub(before).as_secs_f64();
        let stopped = server.stop().await?;
        Ok(Round { loaded, stopped, client_seconds })
    }

    /// The sealed store, made where no part before has left one.
    async fn sealed(&mut self) -> Outcome<PathBuf> {
        if let Some(data) = &self.sealed {
            return Ok(data.clone());
        }
        let data = self.place("sealed");
        self.round(Mode::SealOnExit, &data).await?;
        self.sealed = Some(data.clone());
        Ok(data)
    }

    /// The sealed store after a server has done all its background work on it.
    pub async fn settled(&mut self) -> Outcome<PathBuf> {
        let data = self.sealed().await?;
        if self.is_settled {
            return Ok(data);
        }
        let server = Server::start(&self.programs, Mode::SealOnExit, &data).await?;
        let quiet = quiet(&server, &data).await?;
        server.stop().await?;
        let (before, after) = (quiet.before.segments as f64, quiet.after.segments as f64);
        let measure = format!("background work after sealing, {} to {} segments", thousands(before), thousands(after));
        self.report.row(measure, Unit::Seconds, Bar::None, quiet.took.as_secs_f64(), None);
        let each_million = quiet.processor.as_secs_f64() * 1e6 / self.events.len() as f64;
        self.report.row("its processor time", Unit::ProcessorSeconds, Bar::None, each_million, None);
        self.is_settled = true;
        Ok(data)
    }

    async fn storage(&mut self) -> Outcome<()> {
        let data = self.settled().await?;
        let weight = Weight::of(&data)?;
        let events = self.events.len();
        let each = |bytes: u64| bytes as f64 / events as f64;
        let json = each(self.events.text.len() as u64);
        let report = &mut self.report;
        report.row("storage, proofs included", Unit::Bytes, Bar::AtMost(100.0), each(weight.stored()), Some(json));
        report.row("of it proofs", Unit::Bytes, Bar::AtMost(3.0), each(weight.proofs()), None);
        report.row("the same as blocks of the file system", Unit::Bytes, Bar::None, each(weight.on_disk), None);
        let rows: Vec<Vec<String>> =
            weight.parts(events).into_iter().map(|(part, bytes)| vec![part, format!("{bytes:.2}")]).collect();
        let heading = format!("Bytes an event, by part ({} files)", thousands(weight.files as f64));
        report.detail(table(&heading, &["part", "B/event"], &rows));
        Ok(())
    }

    async fn verify(&mut self) -> Outcome<()> {
        let data = self.settled().await?;
        let (tenant, count) = self.largest_tenant()?;
        let all = self.events.len();
        for (what, tenant, events) in
            [("the largest stream", Some(tenant.as_str()), count), ("the whole store", None, all)]
        {
            let mut runs = Vec::with_capacity(VERIFICATIONS);
            for _ in 0..VERIFICATIONS {
                runs.push(self.programs.verify(&data, tenant)?);
            }
            runs.sort_by_key(|run| run.processor);
            let run = runs[VERIFICATIONS / 2];
            // A tick of the processor's clock is 10 ms; a run below that says nothing.
            let a_core = events as f64 / run.processor.as_secs_f64().max(0.01);
            let measure = format!("verify {what} ({} events), a core", thousands(events as f64));
            self.report.row(measure, Unit::EventsPerSecond, Bar::AtLeast(400_000.0), a_core, None);
            let elapsed = run.wall.as_secs_f64();
            self.report.row(format!("verify {what}, elapsed"), Unit::Seconds, Bar::None, elapsed, None);
        }
        Ok(())
    }

    fn largest_tenant(&self) -> Outcome<(String, usize)> {
        let events = read(self.events.lines())?;
        let counts = counts(&events);
        let tenant = largest(&counts);
        Ok((tenant.to_owned(), counts.get(tenant).copied().unwrap_or(0)))
    }

    async fn restart(&mut self) -> Outcome<()> {
        let data = self.place("killed");
        let all = self.events.len();
        let server = Server::start(&self.programs, Mode::NoSeal, &data).await?;
        load(&server.url("/v1/events"), self.events.bodies(0, all), Pace::Full).await?;
        server.kill()?;
        // None, if the server was left the memory and the log to keep everything unsealed; the row says so.
        let segments = Files::of(&data)?.segments;
        let server = Server::start(&self.programs, Mode::NoSeal, &data).await?;
        let ready = server.ready_after.as_secs_f64();
        let peak = server.peak_mib();
        let tenants = {
            let events = read(self.events.lines())?;
            counts(&events).keys().map(|tenant| (*tenant).to_owned()).collect::<Vec<_>>()
        };
        let found = Asker::new(server.url(""))?.count(&tenants).await?;
        server.kill()?;
        self.discard(&data)?;
        if found != all as u64 {
            return Err(Trouble::wrong("events found after the kill", all, found));
        }
        let measure = match segments {
            0 => format!("ready after a kill with {} unsealed events", thousands(all as f64)),
            some => format!("ready after a kill, {} events, some in {some} segments", thousands(all as f64)),
        };
        self.report.row(measure, Unit::Seconds, Bar::AtMost(5.0), ready, None);
        self.report.row("its peak resident memory", Unit::Mebibytes, Bar::None, peak, None);
        Ok(())
    }
}
