//! The part about growth: the reference events once, ten times, a hundred times in a store, and what becomes of rate,
//! memory, opening, questions and proofs.
//!
//! Events come through the front door at every size; there is no quicker path. Turns of the reference differ as
//! `rekeyed` says, so questions about a day, a release or a session have the same answer at every size; rows about an
//! actor or an address grow with the turns.
//!
//! Invariant: a size for which the disk has no room is a row that says so.

use std::time::Duration;

use crate::asking::{Asker, PROOFS};
use crate::events::Body;
use crate::load::{Pace, load, post_again};
use crate::machine::{free_bytes, resident_mib};
use crate::program::{Mode, Server};
use crate::questions::{Question, Values, read};
use crate::quiet::quiet;
use crate::rekeyed::Turns;
use crate::report::{Bar, Unit, table, thousands};
use crate::sections::Bench;
use crate::storage::Weight;
use crate::trouble::{Outcome, Trouble};

/// Bytes of disk that an event may need for a while: its segment twice during compaction, and the log.
const ROOM: u64 = 300;
/// And whatever else.
const ROOM_BESIDES: u64 = 2 << 30;
/// Bodies that are sent again to time the duplicate check.
const AGAIN: usize = 20;
/// The longest stream that the bar for proofs speaks of.
const STREAM: usize = 10_000_000;
/// The only tenant of the store that has one stream.
const ONE: [u8; 5] = *b"t-one";

/// Name and written figure of each measure at one size.
type Column = Vec<(String, String)>;

impl Bench {
    /// Every size up to the one that was asked for, and one stream of that size.
    pub async fn growth(&mut self) -> Outcome<()> {
        let (mut columns, mut sizes) = (Vec::new(), Vec::new());
        let mut turns = 1;
        while turns * self.events.len() <= self.options.growth_to {
            if turns * self.events.len() < self.options.growth_from {
                turns *= 10;
                continue;
            }
            let size = thousands((turns * self.events.len()) as f64);
            match self.grown(turns).await {
                Ok(column) => {
                    columns.push(column);
                    sizes.push(size);
                }
                Err(why) => self.report.failure(format!("growth to {size}"), Unit::Seconds, Bar::None, why),
            }
            turns *= 10;
        }
        self.report.detail(grown_table(&sizes, &columns));
        self.one_stream((turns / 10).min(STREAM.div_ceil(self.events.len()))).await
    }

    fn has_room(&self, turns: usize) -> Outcome<()> {
        let needed = (turns * self.events.len()) as u64 * ROOM + ROOM_BESIDES;
        match free_bytes(&self.folder) {
            Some(free) if free < needed => {
                let gib = |bytes: u64| format!("{} GiB", bytes >> 30);
                Err(Trouble::wrong("room on the disk", gib(needed), gib(free)))
            }
            _ => Ok(()),
        }
    }

    async fn grown(&self, turns: usize) -> Outcome<Column> {
        self.has_room(turns)?;
        let data = self.place(&format!("grown-{turns}"));
        let events = turns * self.events.len();
        let mut column = Column::new();
        let mut add = |name: &str, figure: f64, decimals: usize| {
            let figure = if figure < 1e4 { format!("{figure:.decimals$}") } else { thousands(figure) };
            eprintln!("bench: {} events: {name}: {figure}", thousands(events as f64));
            column.push((name.to_owned(), figure));
        };
        let server = Server::start(&self.programs, Mode::SealOnExit, &data).await?;
        let bodies = Turns::new(self.events.clone(), turns, None)?;
        let loaded = load(&server.url("/v1/events"), bodies, Pace::Full).await?;
        add("ingest, events/s", loaded.rate(), 0);
        add("ingest, the first tenth, events/s", loaded.rate_of(0.0..0.1), 0);
        add("ingest, the last tenth, events/s", loaded.rate_of(0.9..1.0), 0);
        add("receipt of a batch, p99, ms", loaded.latencies.milliseconds(0.99), 1);
        let settled = quiet(&server, &data).await?;
        add("background work after the last receipt, s", settled.took.as_secs_f64(), 1);
        let again = self.events.bodies(0, self.events.len());
        let again: Vec<Body> = again.into_iter().rev().step_by(7).take(AGAIN).collect();
        let known = post_again(&server.url("/v1/events"), again).await?;
        add("a batch of known events, median, ms", known.milliseconds(0.5), 1);
        let stopped = server.stop().await?;
        add("server's processor time, all of it, CPU-s per 10⁶", per_million(stopped.processor, events), 2);
        add("server's peak resident memory, MiB", stopped.peak_mib, 0);
        let weight = Weight::of(&data)?;
        add("stored, B/event", weight.stored() as f64 / events as f64, 1);
        add("of it proofs, B/event", weight.proofs() as f64 / events as f64, 2);
        add("stored files", weight.files as f64, 0);
        let server = Server::start(&self.programs, Mode::Plain, &data).await?;
        add("ready on the sealed store, s", server.ready_after.as_secs_f64(), 2);
        quiet(&server, &data).await?;
        add("resident memory then, MiB", resident_mib(server.id()).unwrap_or(f64::NAN), 0);
        for (name, median, rows) in self.asked(&server, turns).await? {
            add(&format!("{name}, ms"), median, 1);
            if let Some(rows) = rows {
                add("rows of it", rows as f64, 0);
            }
        }
        add("resident memory after the questions, MiB", resident_mib(server.id()).unwrap_or(f64::NAN), 0);
        server.kill()?;
        self.discard(&data)?;
        Ok(column)
    }

    /// Medians of the questions and of proofs; with its rows where these grow with the turns.
    async fn asked(&self, server: &Server, turns: usize) -> Outcome<Vec<(String, f64, Option<usize>)>> {
        let text = self.events.clone();
        let events = read(text.lines())?;
        let values = Values::of(&events)?;
        let asker = Asker::new(server.url(""))?;
        let mut medians = Vec::new();
        for question in values.questions(&events) {
            let grows = question.names_people;
            let question = if grows { turned(question, turns) } else { question };
            let answered = asker.question(&question).await?;
            medians.push((question.name.to_owned(), answered.warm.milliseconds(0.5), grows.then_some(answered.rows)));
        }
        let size = asker.size(values.tenant).await?;
        let inclusion = asker.inclusion(values.tenant, size).await?;
        let name = format!("inclusion proof, the largest stream (a fifth of all events), median of {PROOFS}");
        medians.push((name, inclusion.milliseconds(0.5), None));
        Ok(medians)
    }

    /// Proofs in a store whose events are all of one stream.
    async fn one_stream(&mut self, turns: usize) -> Outcome<()> {
        self.has_room(turns)?;
        let data = self.place("one-stream");
        let server = Server::start(&self.programs, Mode::SealOnExit, &data).await?;
        let bodies = Turns::new(self.events.clone(), turns, Some(ONE))?;
        let loaded = load(&server.url("/v1/events"), bodies, Pace::Full).await?;
        server.stop().await?;
        let server = Server::start(&self.programs, Mode::Plain, &data).await?;
        quiet(&server, &data).await?;
        let tenant = String::from_utf8_lossy(&ONE).into_owned();
        self.proofs(&server, &tenant).await?;
        server.kill()?;
        let measure = format!("ingest into one stream of {}", thousands(loaded.events as f64));
        self.report.row(measure, Unit::EventsPerSecond, Bar::None, loaded.rate(), None);
        self.discard(&data)
    }
}

/// A question whose rows come once for every turn.
fn turned(mut question: Question, turns: usize) -> Question {
    question.expected.rows *= turns;
    question
}

fn per_million(processor: Duration, events: usize) -> f64 {
    processor.as_secs_f64() * 1e6 / events.max(1) as f64
}

/// Measures by size; every column has the same measures in the same order.
fn grown_table(sizes: &[String], columns: &[Column]) -> String {
    let names = columns.first().map_or(&[][..], Vec::as_slice);
    let mut rows = Vec::with_capacity(names.len());
    for (at, (name, _)) in names.iter().enumerate() {
        let figures = columns.iter().filter_map(|column| column.get(at)).map(|(_, figure)| figure.clone());
        rows.push(std::iter::once(name.clone()).chain(figures).collect());
    }
    let heads: Vec<String> = sizes.iter().map(|size| format!("{size} events")).collect();
    let heads: Vec<&str> = std::iter::once("measure").chain(heads.iter().map(String::as_str)).collect();
    table("Growth", &heads, &rows)
}
