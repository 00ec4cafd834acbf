//! The parts about bringing events in: durable ingest at full load, with peers in the same rounds, and latencies.
//!
//! Not here: the client (`load`), peers' programs (`postgres`, `engines`).

use crate::load::{Loaded, Pace, load};
use crate::peers::Ours;
use crate::program::{Mode, Server};
use crate::report::{Bar, Report, Unit, table, thousands};
use crate::sections::{Bench, Round};
use crate::trouble::{Outcome, Trouble};

/// One body every so often: 50,000 events a second, well below what is asked at full load.
const PACE: std::time::Duration = std::time::Duration::from_millis(20);
/// Bodies at that pace.
const PACED: usize = 500;
/// Single events, both connections together.
const SINGLES: usize = 4_000;

impl Bench {
    /// Rounds of the floor, of Piperoll, and of peers.
    pub async fn ingest(&mut self) -> Outcome<()> {
        let (mut floors, mut ours) = (Vec::new(), Vec::new());
        // Removed at the end: ext4 looks for a long time for an inode where thousands were freed just before.
        let mut spent = Vec::new();
        for number in 1..=self.options.rounds {
            let data = self.place(&format!("floor-{number}"));
            floors.push(self.round(Mode::Floor, &data).await?);
            spent.push(data);
            let data = self.place(&format!("store-{number}"));
            ours.push(self.round(Mode::SealOnExit, &data).await?);
            spent.extend(self.sealed.replace(data));
            self.peers.round(&self.events).await;
        }
        for data in spent {
            self.discard(&data)?;
        }
        let further = rounds_table(&floors, &ours);
        let (Some(floor), Some(own)) = (median(floors), median(ours)) else {
            return Err(Trouble::wrong("rounds", "at least 1", 0));
        };
        self.ingest_rows(&floor, &own);
        self.report.detail(further);
        let ours = Ours { rate: own.loaded.rate(), processor: own.processor_per_million() };
        self.peers.ingest_rows(&mut self.report, ours);
        Ok(())
    }

    fn ingest_rows(&mut self, floor: &Round, own: &Round) {
        let (rate, bottom) = (own.loaded.rate(), floor.loaded.rate());
        let report = &mut self.report;
        let name = "durable ingest, batches of 1000";
        report.row(name, Unit::EventsPerSecond, Bar::AtLeast(150_000.0), rate, Some(bottom));
        report.row("the same as a share of the floor", Unit::Percent, Bar::AtLeast(30.0), 100.0 * rate / bottom, None);
        report.row(
            "server's processor time, sealing included",
            Unit::ProcessorSeconds,
            Bar::AtMost(8.0),
            own.processor_per_million(),
            Some(floor.processor_per_million()),
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

    /// Receipts below full load.
    pub async fn latency(&mut self) -> Outcome<()> {
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
