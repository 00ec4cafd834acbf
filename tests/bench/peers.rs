//! Peers in the same run: each brings the same events in, in the same rounds as Piperoll, and answers the same
//! questions over the same files.
//!
//! Not here: how each is started and asked (`postgres`, `engines`).
//!
//! Invariant: a peer that is not installed is named above the table and is no failure; one that is installed and fails
//! is a row that says why.

use std::path::{Path, PathBuf};

use crate::engines::{Answers, Engines};
use crate::events::Events;
use crate::options::Options;
use crate::postgres::{Cluster, Way};
use crate::questions::Question;
use crate::report::{Report, Unit, Versus, table, thousands};
use crate::trouble::{Outcome, Trouble};

/// Piperoll's figures that peers are compared with: of its median round.
#[derive(Debug, Clone, Copy)]
pub struct Ours {
    pub rate: f64,
    /// Processor seconds for a million events, the client's not counted.
    pub processor: f64,
}

/// What a peer did in a round.
#[derive(Debug, Clone, Copy)]
struct Brought {
    rate: f64,
    processor: f64,
    /// Milliseconds until a batch was committed, 50 and 99 of 100; DuckDB is not asked.
    receipts: Option<(f64, f64)>,
    /// Processor seconds of the client for a million events; DuckDB has none.
    client: Option<f64>,
}

/// The rounds of one peer.
struct Peer {
    name: String,
    bar: Option<f64>,
    rounds: Vec<Outcome<Brought>>,
}

/// What is installed, and how it fared so far.
#[derive(Default)]
pub struct Peers {
    folder: PathBuf,
    cluster: Option<Cluster>,
    engines: Option<Engines>,
    peers: Vec<Peer>,
}

impl Peers {
    /// Looks for peers, if they were asked for, and tells the report what there is.
    pub fn find(options: &Options, folder: &Path, report: &mut Report) -> Self {
        if !options.peers {
            return Self::default();
        }
        let mut peers = Self { folder: folder.join("peers"), ..Self::default() };
        let postgres = match Cluster::make(options.postgres.as_deref(), &peers.folder.join("postgres")) {
            Ok(Some(cluster)) => {
                let version = cluster.version.clone();
                peers.cluster = Some(cluster);
                version
            }
            Ok(None) => "PostgreSQL is not installed".to_owned(),
            Err(why) => format!("PostgreSQL cannot be used ({why})"),
        };
        let engines = match Engines::of(&options.python) {
            Ok(engines) => {
                let said = |name: &str, version: &Option<String>| match version {
                    Some(version) => format!("{name} {version}"),
                    None => format!("{name} is not installed for this Python"),
                };
                let versions = &engines.versions;
                let said = [said("DuckDB", &versions.duckdb), said("DataFusion", &versions.datafusion)];
                peers.engines = Some(engines);
                said.join("; ")
            }
            Err(why) => format!("no Python for DuckDB and DataFusion ({why})"),
        };
        report.head(format!("- peers: {postgres}; {engines}"));
        peers
    }

    /// A round of each.
    pub async fn round(&mut self, events: &Events) {
        for way in Way::ALL {
            let Some(cluster) = &self.cluster else { break };
            let log = self.folder.join("postgres.log");
            let brought = cluster.round(way, events, &log).await.map(|(loaded, stopped, client)| {
                let counted = if way.splits() { stopped.processor + client } else { stopped.processor };
                Brought {
                    rate: loaded.rate(),
                    processor: per_million(counted.as_secs_f64(), loaded.events),
                    client: Some(per_million(client.as_secs_f64(), loaded.events)),
                    receipts: Some((loaded.latencies.milliseconds(0.5), loaded.latencies.milliseconds(0.99))),
                }
            });
            self.add(way.name(), way.bar(), brought);
        }
        if let Some(engines) = self.engines.as_ref().filter(|engines| engines.versions.duckdb.is_some()) {
            let brought = self.duckdb(engines, events);
            self.add("DuckDB, from JSON, its own tables", None, brought);
        }
    }

    fn duckdb(&self, engines: &Engines, events: &Events) -> Outcome<Brought> {
        let folder = self.folder.join("duckdb");
        let brought = engines.load(events, &folder)?;
        std::fs::remove_dir_all(&folder).map_err(Trouble::at("removing", &folder))?;
        let processor = per_million(brought.processor_seconds, events.len());
        Ok(Brought { rate: brought.rate(), processor, receipts: None, client: None })
    }

    fn add(&mut self, name: &str, bar: Option<f64>, brought: Outcome<Brought>) {
        match &brought {
            Ok(brought) => eprintln!("bench: {name}: {} events/s", thousands(brought.rate)),
            Err(why) => eprintln!("bench: {name}: {why}"),
        }
        match self.peers.iter_mut().find(|peer| peer.name == name) {
            Some(peer) => peer.rounds.push(brought),
            None => self.peers.push(Peer { name: name.to_owned(), bar, rounds: vec![brought] }),
        }
    }

    /// Adds what was brought in, the median round of each peer, beside Piperoll's.
    pub fn ingest_rows(&mut self, report: &mut Report, ours: Ours) {
        let mut rounds = Vec::new();
        for peer in std::mem::take(&mut self.peers) {
            rounds.extend(peer.lines());
            let name = peer.name.clone();
            let (bar, middle) = (peer.bar, peer.middle());
            let (rate, processor) = match middle {
                Ok(middle) => (Ok(middle.rate), Some(middle.processor)),
                Err(why) => (Err(why), None),
            };
            let measure = "durable ingest, batches of 1000".to_owned();
            let unit = Unit::EventsPerSecond;
            report.versus(Versus { measure, unit, ours: ours.rate, peer: name.clone(), theirs: rate, bar });
            if let Some(theirs) = processor {
                let measure = "processor time of it".to_owned();
                let (unit, ours) = (Unit::ProcessorSeconds, ours.processor);
                report.versus(Versus { measure, unit, ours, peer: name, theirs: Ok(theirs), bar: None });
            }
        }
        if !rounds.is_empty() {
            let columns = ["run", "events/s", "CPU-s per 10⁶", "client's", "batch p50, ms", "batch p99, ms"];
            report.detail(table("Rounds of peers", &columns, &rounds));
        }
    }

    /// Asks DuckDB and DataFusion over the live files of a store, and adds their best beside Piperoll's median.
    pub fn ask(&self, report: &mut Report, data: &Path, questions: &[Question], ours: &[Option<f64>]) -> Outcome<()> {
        let Some(engines) = &self.engines else { return Ok(()) };
        let folder = self.folder.join("live");
        let files = crate::live::link(data, &folder)?;
        eprintln!("bench: peers answer over {files} files");
        let Answers { duckdb, datafusion } = engines.ask(&folder, questions)?;
        std::fs::remove_dir_all(&folder).map_err(Trouble::at("removing", &folder))?;
        let mut settings = Vec::new();
        let engines = [("DuckDB, the same files", Some(1.0), duckdb), ("DataFusion, the same files", None, datafusion)];
        for (peer, bar, answers) in engines {
            for ((question, ours), answer) in questions.iter().zip(ours).zip(answers) {
                let (Some(ours), Some(answer)) = (ours, answer) else { continue };
                let answer = answer.checked(question.name, question.expected);
                if let Ok(answer) = &answer {
                    let line = [peer.to_owned(), question.name.to_owned(), format!("{:.2}", answer.median)];
                    let line = line.into_iter().chain([format!("{:.2}", answer.best), answer.setting.clone()]);
                    settings.push(line.collect());
                }
                report.versus(Versus {
                    measure: question.name.to_owned(),
                    unit: Unit::Milliseconds,
                    ours: *ours,
                    peer: peer.to_owned(),
                    theirs: answer.map(|answer| answer.median),
                    bar,
                });
            }
        }
        let columns = ["peer", "question", "median, ms", "quickest of 15, ms", "with"];
        report.detail(table(&format!("Answers of peers over {files} files"), &columns, &settings));
        Ok(())
    }
}

impl Peer {
    /// The round with the middle rate, or why there is none.
    fn middle(self) -> Outcome<Brought> {
        let mut rounds = self.rounds.into_iter().collect::<Outcome<Vec<Brought>>>()?;
        rounds.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        rounds.get(rounds.len() / 2).copied().ok_or_else(|| Trouble::lacking("a peer's rounds"))
    }

    fn lines(&self) -> Vec<Vec<String>> {
        let line = |(at, brought): (usize, &Brought)| {
            let write = |figure: Option<f64>, decimals: usize| {
                figure.map_or_else(|| "—".to_owned(), |figure| format!("{figure:.decimals$}"))
            };
            vec![
                format!("{}, round {}", self.name, at + 1),
                thousands(brought.rate),
                format!("{:.2}", brought.processor),
                write(brought.client, 2),
                write(brought.receipts.map(|receipts| receipts.0), 1),
                write(brought.receipts.map(|receipts| receipts.1), 1),
            ]
        };
        self.rounds.iter().filter_map(|round| round.as_ref().ok()).enumerate().map(line).collect()
    }
}

fn per_million(seconds: f64, events: usize) -> f64 {
    seconds * 1e6 / events.max(1) as f64
}
