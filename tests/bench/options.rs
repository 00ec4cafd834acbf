//! The command line of the benchmark.
//!
//! Not here: the command lines of the programs that it starts; those are in `program`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Measures Piperoll against the budgets of the architecture, beside a floor program, in one run.
///
/// Prints one Markdown table. It never fails because something was slow; it does fail when something was wrong.
#[derive(Debug, Clone, Parser)]
#[command(name = "budget")]
pub struct Options {
    /// How many reference events.
    #[arg(long, default_value_t = 1_000_000)]
    pub events: usize,
    /// The seed of the reference events.
    #[arg(long, default_value_t = 20_261_101)]
    pub seed: u64,
    /// A quick look: 20,000 events, one round, short runs. The bars are not meant for it.
    #[arg(long)]
    pub smoke: bool,
    /// Every part, the long ones too: `tenants` and `growth`.
    #[arg(long)]
    pub full: bool,
    /// Bring the same events into PostgreSQL and DuckDB, and ask DuckDB and DataFusion the same questions, where they
    /// are installed.
    #[arg(long)]
    pub peers: bool,
    /// The Python that has `duckdb` and `datafusion`, for the peers.
    #[arg(long, env = "PIPEROLL_BENCH_PYTHON", default_value = "python3")]
    pub python: PathBuf,
    /// The folder with `postgres` and `initdb`, for the peers; by default the newest that Debian's packages have.
    #[arg(long)]
    pub postgres: Option<PathBuf>,
    /// Sizes of growth below so many events are left out
    #[arg(long, default_value_t = 0)]
    pub growth_from: usize,
    /// Growth goes from the reference events by tens to so many.
    #[arg(long, default_value_t = 10_000_000)]
    pub growth_to: usize,
    /// How long each run of `tenants` lasts.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// Measure these parts only.
    #[arg(long, value_enum, value_delimiter = ',', num_args = 1..)]
    pub only: Vec<Section>,
    /// How often ingest is measured; the median round is printed.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// The server to measure, instead of the `piperoll` that was built for this run.
    #[arg(long)]
    pub server: Option<PathBuf>,
    /// Where stores are made (and removed again): on the disk that is to be measured.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Leave the stores, and say where they are.
    #[arg(long)]
    pub keep: bool,
    /// Take the events from this NDJSON file instead of generating them.
    #[arg(long)]
    pub input: Option<PathBuf>,
    /// The date to print above the table; today by default.
    #[arg(long)]
    pub date: Option<String>,
    /// Also write the report to this file.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Also put the report into this file, between the lines `<!-- run -->` and `<!-- /run -->`.
    #[arg(long)]
    pub into: Option<PathBuf>,
    /// Be the floor program (the benchmark starts itself so).
    #[arg(long, hide = true, requires = "listen")]
    pub floor: bool,
    /// Where the floor program listens.
    #[arg(long, hide = true)]
    pub listen: Option<std::net::SocketAddr>,
    /// Cargo passes this to every benchmark.
    #[arg(long, hide = true)]
    pub bench: bool,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Section {
    /// Durable batches of 1000: rate, processor time, memory, latency under full load.
    Ingest,
    /// Latency of batches at a fixed rate, and of single events.
    Latency,
    /// Bytes an event, and what of them are proofs.
    Storage,
    /// Offline verification.
    Verify,
    /// Time to ready after a kill with everything unsealed.
    Restart,
    /// The questions of the architecture, and proofs, on a sealed store.
    Queries,
    /// The same questions with a hot unsealed tail.
    Tail,
    /// A large registry, what a decision costs, and a flood.
    Door,
    /// What a signature, the hashes, the duplicate check, the log and Parquet each cost an event.
    Costs,
    /// What encryption costs ingest and scans.
    Keyed,
    /// 200 busy tenants beside 10,000 of which 9,900 trickle.
    Tenants,
    /// What grows with the number of events, and how.
    Growth,
}

impl Section {
    /// Whether it takes so long that it is measured only when it is asked for.
    fn is_long(self) -> bool {
        matches!(self, Section::Tenants | Section::Growth)
    }
}

impl Options {
    /// Whether a part is to be measured.
    pub fn wants(&self, section: Section) -> bool {
        if self.only.is_empty() { self.full || !section.is_long() } else { self.only.contains(&section) }
    }

    /// The options with `--smoke` worked in.
    pub fn settled(mut self) -> Self {
        if self.smoke {
            self.events = self.events.min(20_000);
            self.rounds = 1;
            self.growth_to = self.growth_to.min(10 * self.events);
            self.seconds = self.seconds.min(6);
        }
        self.rounds = self.rounds.clamp(1, 99);
        self
    }
}
