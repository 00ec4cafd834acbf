//! What encryption costs: the same events, once plain and once with a key for every tenant, in turn and in one run.
//!
//! Not here: the means (`program`, `load`, `asking`). Invariant: a scan is asked of a server that has just started, so
//! that nothing of it is kept in memory.

use std::path::PathBuf;

use crate::asking::Asker;
use crate::program::{Mode, Server};
use crate::questions::{counts, read};
use crate::report::{Bar, Unit};
use crate::sections::{Bench, Round};
use crate::trouble::{Outcome, Trouble};

/// The most that encryption may cost, in percent.
const BAR: f64 = 15.0;
/// How often all events are scanned; each by another server. The median counts.
const SCANS: usize = 3;

/// What one way of keeping events came to.
#[derive(Default)]
struct Taken {
    seconds: Vec<f64>,
    processor: Vec<f64>,
    scans: Vec<f64>,
    verified: Vec<f64>,
}

impl Taken {
    fn note(&mut self, round: &Round, events: usize) {
        self.seconds.push(events as f64 / round.loaded.rate());
        self.processor.push(round.processor_per_million());
    }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

impl Bench {
    /// Ingest and scans, with and without keys.
    pub async fn keyed(&mut self) -> Outcome<()> {
        let (mut plain, mut keyed) = (Taken::default(), Taken::default());
        let mut stores: Vec<PathBuf> = Vec::new();
        for number in 1..=self.options.rounds {
            for (mode, name, taken) in [(Mode::SealOnExit, "plain", &mut plain), (Mode::Keyed, "keyed", &mut keyed)] {
                let data = self.place(&format!("{name}-{number}"));
                let round = self.round(mode, &data).await?;
                taken.note(&round, self.events.len());
                stores.push(data);
            }
        }
        let tenants = {
            let events = read(self.events.lines())?;
            counts(&events).keys().map(|tenant| (*tenant).to_owned()).collect::<Vec<_>>()
        };
        let Some([of_plain, of_keyed]) = stores.last_chunk() else { return Err(Trouble::wrong("rounds", 1, 0)) };
        for _ in 0..SCANS {
            for (mode, data, taken) in [(Mode::SealOnExit, of_plain, &mut plain), (Mode::Keyed, of_keyed, &mut keyed)] {
                let server = Server::start(&self.programs, mode, data).await?;
                let (took, found) = Asker::new(server.url(""))?.scan(&tenants).await?;
                server.stop().await?;
                if found != self.events.len() as u64 {
                    return Err(Trouble::wrong("events scanned", self.events.len(), found));
                }
                taken.scans.push(took.as_secs_f64());
                let run = self.programs.verify(data, None)?;
                taken.verified.push(run.processor.as_secs_f64());
            }
        }
        for (what, plain, keyed) in [
            ("encryption: time of ingest, more by", &mut plain.seconds, &mut keyed.seconds),
            ("encryption: server's processor time of ingest, more by", &mut plain.processor, &mut keyed.processor),
            ("encryption: a scan of all events, nothing kept, more by", &mut plain.scans, &mut keyed.scans),
            ("encryption: verification's processor time, more by", &mut plain.verified, &mut keyed.verified),
        ] {
            let (plain, keyed) = (median(plain), median(keyed));
            self.report.row(what, Unit::Percent, Bar::AtMost(BAR), 100.0 * (keyed / plain - 1.0), None);
        }
        for data in stores {
            self.discard(&data)?;
        }
        Ok(())
    }
}
