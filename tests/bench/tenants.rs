//! The part about many tenants: 200 busy ones, and 10,000 of which 9,900 trickle, for a while each; and whether what a
//! server holds and does for them stays bounded.
//!
//! The first third of the while fills what has a bound, the log above all; then the second third is compared with the
//! last.
//!
//! Not here: how the events are made (`rekeyed`).
//!
//! Invariant: both crowds get the same number of connections, bodies of the same size and the same time.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::asking::Asker;
use crate::load::{Loaded, Pace, load};
use crate::machine::{Processor, resident_mib};
use crate::program::{Mode, Server, TRICKLING};
use crate::rekeyed::{Crowd, Stretch};
use crate::report::{Bar, Unit, table, thousands};
use crate::sections::Bench;
use crate::storage::Files;
use crate::trouble::{Outcome, Trouble};

/// Between two looks at memory.
const LOOK: Duration = Duration::from_millis(250);
/// The last third may have so many times of what the second had, and still be called bounded.
const BOUNDED: f64 = 1.25;

/// What a server has done and holds at one moment.
#[derive(Debug, Clone, Copy)]
struct Moment {
    at: Duration,
    processor: Duration,
    /// The largest resident size seen since the moment before.
    peak_mib: f64,
    files: Files,
    /// Groups, each made durable by one fsync of the log.
    groups: u64,
}

/// One crowd's run.
struct Run {
    name: &'static str,
    loaded: Loaded,
    /// When one third, two thirds and all of the time had passed.
    moments: [Moment; 3],
    open: Duration,
    open_mib: f64,
}

/// What is printed of a third: name, figure, and whether it must not grow.
type Figure = (&'static str, f64, bool);

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
        let columns = ["tenants", "measure", "second third", "last third", "bounded?"];
        let heading = format!("Many tenants, {} s at full load each", self.options.seconds);
        self.report.detail(table(&heading, &columns, &rows));
        Ok(())
    }

    async fn crowd(&self, name: &'static str, crowd: Crowd) -> Outcome<Run> {
        let data = self.place(if crowd == Crowd::Busy { "busy" } else { "trickling" });
        let long = Duration::from_secs(self.options.seconds);
        let server = Server::start(&self.programs, Mode::Plain, &data).await?;
        if crowd != Crowd::Busy {
            server.set_up_trickling().await?;
        }
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

/// Looks at a server three times in a while, and at its memory all the time.
async fn watch(server: &Server, data: &Path, long: Duration) -> Outcome<[Moment; 3]> {
    let begin = Instant::now();
    let asker = Asker::new(server.url(""))?;
    let mut moments = Vec::with_capacity(3);
    for part in 1..=3 {
        let mut peak_mib = 0.0_f64;
        while begin.elapsed() < long / 3 * part {
            tokio::time::sleep(LOOK).await;
            peak_mib = peak_mib.max(resident_mib(server.id()).unwrap_or(0.0));
        }
        let (at, groups) = (begin.elapsed(), asker.groups().await?);
        let processor = Processor::of(server.id())?.own;
        // Counting files takes its time with ten thousand tenants; it must not hold up the client's threads.
        let folder = data.to_owned();
        let files = tokio::task::spawn_blocking(move || Files::of(&folder));
        let files = files.await.map_err(|e| Trouble::machine("counting files")(std::io::Error::other(e)))??;
        moments.push(Moment { at, processor, peak_mib, files, groups });
    }
    moments.try_into().map_err(|_| Trouble::lacking("three looks at a server"))
}

impl Run {
    fn rows(&self) -> Vec<Vec<String>> {
        let [first, second, last] = &self.moments;
        let write = |figure: f64| if figure < 100.0 { format!("{figure:.1}") } else { thousands(figure) };
        let line = |(before, after): (Figure, Figure)| {
            let verdict = match (before.2, after.1 <= before.1 * BOUNDED + 1.0) {
                (false, _) => "—",
                (true, true) => "yes",
                (true, false) => "**no**",
            };
            vec![self.name.to_owned(), before.0.to_owned(), write(before.1), write(after.1), verdict.to_owned()]
        };
        self.third(first, second).into_iter().zip(self.third(second, last)).map(line).collect()
    }

    fn third(&self, from: &Moment, to: &Moment) -> Vec<Figure> {
        let seconds = to.at.saturating_sub(from.at).as_secs_f64().max(1e-9);
        let each_second = |from: usize, to: usize| to.saturating_sub(from) as f64 / seconds;
        let events = self.loaded.between(from.at, to.at);
        let processor = to.processor.saturating_sub(from.processor).as_secs_f64() * 1e6 / events.max(1) as f64;
        vec![
            ("events/s", events as f64 / seconds, false),
            ("CPU-s per 10⁶", processor, true),
            ("resident memory at most, MiB", to.peak_mib, true),
            ("groups, and so fsyncs of the log, /s", to.groups.saturating_sub(from.groups) as f64 / seconds, true),
            ("commits/s", each_second(from.files.commits, to.files.commits), true),
            ("segments/s", each_second(from.files.segments, to.files.segments), true),
            ("files/s, all kinds", each_second(from.files.all, to.files.all), true),
            ("log files at its end", to.files.logs as f64, true),
            ("log at its end, MiB", to.files.log_bytes as f64 / 1_048_576.0, true),
        ]
    }
}
