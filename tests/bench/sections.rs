//! The parts of the benchmark: which servers each starts, what it brings to them, which rows it adds.
//!
//! Not here: the means (`program`, `load`, `asking`, `storage`) and the form of the table (`report`).
//!
//! Invariants: (1) a part that fails adds a row that says why, and the others go on; (2) the floor and Piperoll get
//! the same bodies from the same client, in turn; (3) nothing here decides by time whether the run succeeded.

use std::path::{Path, PathBuf};

use crate::asking::{Answered, Asker};
use crate::events::Events;
use crate::load::{Loaded, Pace, load};
use crate::machine::Processor;
use crate::options::{Options, Section};
use crate::program::{Mode, Programs, Server, Stopped};
use crate::questions::{Event, Values, counts, largest, read};
use crate::report::{Bar, Report, Unit, table, thousands};
use crate::storage::Weight;
use crate::trouble::{Outcome, Trouble};

/// One body every so often: 50,000 events a second, well below what is asked at full load.
const PACE: std::time::Duration = std::time::Duration::from_millis(20);
/// Bodies at that pace.
const PACED: usize = 500;
/// Single events, both connections together.
const SINGLES: usize = 4_000;
/// Events of the unsealed tail.
const TAIL: usize = 20_000;
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
    /// A store that holds every event, sealed.
    pub sealed: Option<PathBuf>,
}

/// One server's life: started empty, loaded with every event, stopped.
struct Round {
    loaded: Loaded,
    stopped: Stopped,
    client_seconds: f64,
}

impl Bench {
    /// Runs every part that was asked for.
    pub async fn run(&mut self) {
        const ALL: [(Section, &str); 7] = [
            (Section::Ingest, "ingest"),
            (Section::Latency, "receipt latency"),
            (Section::Storage, "storage"),
            (Section::Verify, "verification"),
            (Section::Restart, "restart"),
            (Section::Queries, "queries"),
            (Section::Tail, "queries with a tail"),
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
            };
            if let Err(why) = done {
                self.report.failure(name, Unit::Seconds, Bar::None, why);
            }
        }
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn discard(&self, data: &Path) -> Outcome<()> {
        if self.options.keep || !data.exists() {
            return Ok(());
        }
        std::fs::remove_dir_all(data).map_err(Trouble::at("removing", data))
    }

    async fn round(&self, mode: Mode, data: &Path) -> Outcome<Round> {
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

    async fn ingest(&mut self) -> Outcome<()> {
        let (mut floors, mut ours) = (Vec::new(), Vec::new());
        for number in 1..=self.options.rounds {
            let data = self.place(&format!("floor-{number}"));
            floors.push(self.round(Mode::Floor, &data).await?);
            self.discard(&data)?;
            let data = self.place(&format!("store-{number}"));
            ours.push(self.round(Mode::SealOnExit, &data).await?);
            if let Some(former) = self.sealed.replace(data) {
                self.discard(&former)?;
            }
        }
        let further = rounds_table(&floors, &ours);
        let (Some(floor), Some(own)) = (median(floors), median(ours)) else {
            return Err(Trouble::wrong("rounds", "at least 1", 0));
        };
        self.ingest_rows(&floor, &own);
        self.report.detail(further);
        Ok(())
    }

    fn ingest_rows(&mut self, floor: &Round, own: &Round) {
        let (rate, bottom) = (own.loaded.rate(), floor.loaded.rate());
        let per_million = |round: &Round| round.stopped.processor.as_secs_f64() * 1e6 / round.loaded.events as f64;
        let report = &mut self.report;
        let name = "durable ingest, batches of 1000";
        report.row(name, Unit::EventsPerSecond, Bar::AtLeast(150_000.0), rate, Some(bottom));
        report.row("the same as a share of the floor", Unit::Percent, Bar::AtLeast(30.0), 100.0 * rate / bottom, None);
        report.row(
            "server's processor time, sealing included",
            Unit::ProcessorSeconds,
            Bar::AtMost(8.0),
            per_million(own),
            Some(per_million(floor)),
        );
        report.row(
            "server's peak resident memory under ingest",
            Unit::Mebibytes,
            Bar::AtMost(600.0),
            own.stopped.peak_mib,
            Some(floor.stopped.peak_mib),
        );
        latency_rows(report, "receipt of a batch at full load", 30.0, &own.loaded, &floor.loaded);
    }

    async fn latency(&mut self) -> Outcome<()> {
        let floor = self.paced(Mode::Floor).await?;
        let own = self.paced(Mode::Plain).await?;
        latency_rows(&mut self.report, "receipt of a batch at 50 batches/s", 30.0, &own.0, &floor.0);
        latency_rows(&mut self.report, "receipt of a single event", 10.0, &own.1, &floor.1);
        Ok(())
    }

    /// Batches at a fixed rate, then single events, into an empty server.
    async fn paced(&self, mode: Mode) -> Outcome<(Loaded, Loaded)> {
        let data = self.place(if mode == Mode::Floor { "paced-floor" } else { "paced-store" });
        let half = self.events.len() / 2;
        let server = Server::start(&self.programs, mode, &data).await?;
        let url = server.url("/v1/events");
        let mut bodies = self.events.bodies(0, half.max(1));
        bodies.truncate(PACED);
        let batches = load(&url, bodies, Pace::Every(PACE)).await?;
        let singles = load(&url, self.events.singles(half.max(1), half + SINGLES), Pace::Full).await?;
        server.stop().await?;
        self.discard(&data)?;
        Ok((batches, singles))
    }

    async fn storage(&mut self) -> Outcome<()> {
        let data = self.sealed().await?;
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
        let data = self.sealed().await?;
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
        let segments = Weight::segments_in(&data)?;
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

    async fn queries(&mut self) -> Outcome<()> {
        let data = self.sealed().await?;
        let server = Server::start(&self.programs, Mode::Plain, &data).await?;
        self.report.row("ready on the sealed store", Unit::Seconds, Bar::None, server.ready_after.as_secs_f64(), None);
        let text = self.events.clone();
        let events = read(text.lines())?;
        let values = Values::of(&events)?;
        self.ask(&server, &values, &events, "sealed").await?;
        self.proofs(&server, values.tenant).await?;
        server.stop().await?;
        Ok(())
    }

    async fn tail(&mut self) -> Outcome<()> {
        let data = self.sealed().await?;
        let count = TAIL.min(self.events.len() / 10).max(1);
        let server = Server::start(&self.programs, Mode::NoSeal, &data).await?;
        let fresh = Events::cut(self.events.again(count));
        load(&server.url("/v1/events"), fresh.bodies(0, fresh.len()), Pace::Full).await?;
        let text = self.events.clone();
        let mut events = read(text.lines())?;
        // The values are those of the sealed store, so that the two tables ask the same.
        let values = Values::of(&events)?;
        events.extend(read(fresh.lines())?);
        let state = format!("with {} unsealed", thousands(count as f64));
        self.ask(&server, &values, &events, &state).await?;
        // The store is thrown away, and to seal the tail is nobody's figure.
        server.kill()?;
        self.sealed = None;
        self.discard(&data)
    }

    async fn ask(&mut self, server: &Server, values: &Values<'_>, events: &[Event<'_>], state: &str) -> Outcome<()> {
        let asker = Asker::new(server.url(""))?;
        let mut further = Vec::new();
        let mut newest = 0;
        for question in values.questions(events) {
            let measure = format!("{} ({state})", question.name);
            newest = question.expected.rows;
            let answered = asker.question(&question).await;
            self.answer(measure, question.bar, answered, &mut further);
        }
        // The last question was the latest 100; here it is again through the other door.
        let answered = asker.newest(values.tenant, newest).await;
        self.answer(format!("latest 100 by `GET …/events` ({state})"), 10.0, answered, &mut further);
        let columns = ["question", "first, ms", "median, ms", "slowest of 15, ms", "rows", "bytes"];
        self.report.detail(table(&format!("Answers, {state}"), &columns, &further));
        Ok(())
    }

    fn answer(&mut self, measure: String, bar: f64, answered: Outcome<Answered>, further: &mut Vec<Vec<String>>) {
        let bar = Bar::AtMost(bar);
        match answered {
            Ok(answered) => {
                let middle = answered.warm.milliseconds(0.5);
                further.push(vec![
                    measure.clone(),
                    format!("{:.2}", answered.first),
                    format!("{middle:.2}"),
                    format!("{:.2}", answered.warm.milliseconds(1.0)),
                    thousands(answered.rows as f64),
                    thousands(answered.bytes as f64),
                ]);
                self.report.row(measure, Unit::Milliseconds, bar, middle, None);
            }
            Err(why) => self.report.failure(measure, Unit::Milliseconds, bar, why),
        }
    }

    async fn proofs(&mut self, server: &Server, tenant: &str) -> Outcome<()> {
        let asker = Asker::new(server.url(""))?;
        let size = asker.size(tenant).await?;
        let entries = thousands(size as f64);
        let inclusion = asker.inclusion(tenant, size).await?;
        let consistency = asker.consistency(tenant, size).await?;
        for (name, times, bar) in [("inclusion", inclusion, Bar::AtMost(20.0)), ("consistency", consistency, Bar::None)]
        {
            let measure = format!("{name} proof, stream of {entries}, median of 50 places");
            self.report.row(measure, Unit::Milliseconds, bar, times.milliseconds(0.5), None);
            let measure = format!("{name} proof, the slowest of them");
            self.report.row(measure, Unit::Milliseconds, Bar::None, times.milliseconds(1.0), None);
        }
        Ok(())
    }
}

/// The round with the middle rate.
fn median(mut rounds: Vec<Round>) -> Option<Round> {
    rounds.sort_by(|a, b| a.loaded.rate().total_cmp(&b.loaded.rate()));
    let middle = rounds.len() / 2;
    (middle < rounds.len()).then(|| rounds.swap_remove(middle))
}

fn latency_rows(report: &mut Report, name: &str, bar: f64, own: &Loaded, floor: &Loaded) {
    for (share, words, bar) in [(0.5, "p50", Bar::None), (0.99, "p99", Bar::AtMost(bar))] {
        let floor = floor.latencies.milliseconds(share);
        let own = own.latencies.milliseconds(share);
        report.row(format!("{name}, {words}"), Unit::Milliseconds, bar, own, Some(floor));
    }
}

fn rounds_table(floors: &[Round], ours: &[Round]) -> String {
    let line = |name: String, round: &Round| {
        vec![
            name,
            thousands(round.loaded.rate()),
            format!("{:.2}", round.stopped.processor.as_secs_f64()),
            format!("{:.2}", round.client_seconds),
            format!("{:.0}", round.stopped.peak_mib),
            format!("{:.2}", round.stopped.took.as_secs_f64()),
            round.loaded.put_off.to_string(),
        ]
    };
    let mut rows = Vec::new();
    for (number, (floor, own)) in floors.iter().zip(ours).enumerate() {
        rows.push(line(format!("floor, round {}", number + 1), floor));
        rows.push(line(format!("Piperoll, round {}", number + 1), own));
    }
    let columns =
        ["run", "events/s", "server CPU-s", "client CPU-s", "peak MiB", "stop (and seal), s", "put off (429, 503)"];
    table("Rounds of ingest", &columns, &rows)
}
