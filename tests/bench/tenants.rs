//! The part about many tenants: 200 busy ones, and 10,000 of which 9,900 trickle, for a while each; and whether what a
//! server holds and does for them stays bounded from the first half of that while to the second.
//!
//! Not here: how the events are made (`rekeyed`).
//!
//! Invariant: both crowds get the same number of connections, bodies of the same size and the same time.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::load::{Loaded, Pace, load};
use crate::machine::{Processor, resident_mib};
use crate::metrics::Metrics;
use crate::program::{Mode, Server};
use crate::rekeyed::{Crowd, Stretch};
use crate::report::{Bar, Unit, table, thousands};
use crate::sections::Bench;
use crate::storage::Files;
use crate::trouble::{Outcome, Trouble};

/// Tenants that trickle, beside 100 busy ones.
const TRICKLING: usize = 9_900;
/// Between two looks at memory.
const LOOK: Duration = Duration::from_millis(250);
/// A half may have so many times of what the half before it had, and still be called bounded.
const BOUNDED: f64 = 1.25;

/// What a server has done and holds at one moment.
#[derive(Debug, Clone, Copy)]
struct Moment {
    at: Duration,
    processor: Duration,
    /// The largest resident size seen since the moment before.
    peak_mib: f64,
    files: Files,
    /// None where the server does not say.
    syncs: Option<f64>,
}

/// One crowd's run.
struct Run {
    name: &'static str,
    loaded: Loaded,
    /// At the begin, in the middle, at the end.
    moments: [Moment; 3],
    open: Duration,
    open_mib: f64,
}

/// What is printed of a half: name, figure, and whether it must not grow.
type Figure = (&'static str, Option<f64>, bool);

impl Bench {
    /// Both crowds, one after the other.
    pub async fn tenants(&mut self) -> Outcome<()> {
        let crowds = [("200 busy", Crowd::Busy), ("100 busy, 9,900 trickling", Crowd::Trickling(TRICKLING))];
        let mut rows = Vec::new();
        for (name, crowd) in crowds {
            let run = self.crowd(name, crowd).await?;
            let measure = format!("ready again after {name}");
            self.report.row(measure, Unit::Seconds, Bar::None, run.open.as_secs_f64(), None);
            self.report.row("its resident memory", Unit::Mebibytes, Bar::None, run.open_mib, None);
            rows.extend(run.rows());
        }
        let columns = ["tenants", "measure", "first half", "second half", "bounded?"];
        let heading = format!("Many tenants, {} s at full load each", self.options.seconds);
        self.report.detail(table(&heading, &columns, &rows));
        Ok(())
    }

    async fn crowd(&self, name: &'static str, crowd: Crowd) -> Outcome<Run> {
        let data = self.place(if crowd == Crowd::Busy { "busy" } else { "trickling" });
        let long = Duration::from_secs(self.options.seconds);
        let server = Server::start(&self.programs, Mode::Plain, &data).await?;
        let bodies = Stretch::new(self.events.clone(), crowd, long)?;
        let url = server.url("/v1/events");
        let (loaded, moments) = tokio::join!(load(&url, bodies, Pace::Full), watch(&server, &data, long));
        let (loaded, moments) = (loaded?, moments?);
        server.stop().await?;
        let server = Server::start(&self.programs, Mode::Plain, &data).await?;
        let open = server.ready_after;
        let open_mib = resident_mib(server.id()).unwrap_or(f64::NAN);
        server.kill()?;
        self.discard(&data)?;
        Ok(Run { name, loaded, moments, open, open_mib })
    }
}

/// Looks at a server at the begin, in the middle and at the end of a while, and at its memory all the time.
async fn watch(server: &Server, data: &Path, long: Duration) -> Outcome<[Moment; 3]> {
    let begin = Instant::now();
    let mut moments = Vec::with_capacity(3);
    for part in 0..3 {
        let mut peak_mib = 0.0_f64;
        while begin.elapsed() < long / 2 * part {
            tokio::time::sleep(LOOK).await;
            peak_mib = peak_mib.max(resident_mib(server.id()).unwrap_or(0.0));
        }
        let metrics = Metrics::of(server).await?;
        // Counting files takes its time with ten thousand tenants; it must not hold up the client's threads.
        let folder = data.to_owned();
        let files = tokio::task::spawn_blocking(move || Files::of(&folder));
        let files = files.await.map_err(|e| Trouble::machine("counting files")(std::io::Error::other(e)))??;
        let processor = Processor::of(server.id())?.own;
        moments.push(Moment { at: begin.elapsed(), processor, peak_mib, files, syncs: metrics.syncs() });
    }
    moments.try_into().map_err(|_| Trouble::lacking("three looks at a server"))
}

impl Run {
    fn rows(&self) -> Vec<Vec<String>> {
        let [begin, middle, end] = &self.moments;
        let halves = [self.half(begin, middle, 0.0), self.half(middle, end, 0.5)];
        let [first, second] = halves;
        let write = |figure: Option<f64>| match figure {
            None => "not told".to_owned(),
            Some(figure) if figure < 100.0 => format!("{figure:.1}"),
            Some(figure) => thousands(figure),
        };
        let bounded = |before: &Figure, after: &Figure| match (before.1, after.1) {
            (Some(before), Some(after)) if after <= before * BOUNDED + 1.0 => "yes",
            (Some(_), Some(_)) => "**no**",
            _ => "—",
        };
        let line = |(before, after): (Figure, Figure)| {
            let verdict = if before.2 { bounded(&before, &after) } else { "—" };
            vec![self.name.to_owned(), before.0.to_owned(), write(before.1), write(after.1), verdict.to_owned()]
        };
        first.into_iter().zip(second).map(line).collect()
    }

    fn half(&self, from: &Moment, to: &Moment, share: f64) -> Vec<Figure> {
        let seconds = to.at.saturating_sub(from.at).as_secs_f64().max(1e-9);
        let each_second = |from: usize, to: usize| Some(to.saturating_sub(from) as f64 / seconds);
        let rate = self.loaded.rate_of(share..share + 0.5);
        let processor = to.processor.saturating_sub(from.processor).as_secs_f64() * 1e6 / (rate * seconds);
        let syncs = to.syncs.zip(from.syncs).map(|(to, from)| (to - from) / seconds);
        vec![
            ("events/s", Some(rate), false),
            ("CPU-s per 10⁶", Some(processor), true),
            ("resident memory at most, MiB", Some(to.peak_mib), true),
            ("fsyncs/s", syncs, true),
            ("commits/s", each_second(from.files.commits, to.files.commits), true),
            ("segments/s", each_second(from.files.segments, to.files.segments), true),
            ("files/s, all kinds", each_second(from.files.all, to.files.all), true),
            ("log files at its end", Some(to.files.logs as f64), true),
            ("log at its end, MiB", Some(to.files.log_bytes as f64 / 1_048_576.0), true),
        ]
    }
}
