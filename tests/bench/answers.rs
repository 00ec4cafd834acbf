//! The parts about getting answers: questions of a sealed store and of one with a tail, of peers over the same files,
//! and proofs.
//!
//! Not here: which questions there are (`questions`), how they are asked (`asking`, `engines`).

use crate::asking::{Answered, Asker, PROOFS};
use crate::events::Events;
use crate::load::{Pace, load};
use crate::program::{Mode, Server};
use crate::questions::{Question, Values, read};
use crate::quiet::quiet;
use crate::report::{Bar, Unit, table, thousands};
use crate::sections::Bench;
use crate::trouble::Outcome;

/// Events of the unsealed tail.
const TAIL: usize = 20_000;

impl Bench {
    /// The questions and proofs on the sealed store, and peers over its files.
    pub async fn queries(&mut self) -> Outcome<()> {
        let data = self.settled().await?;
        let server = Server::start(&self.programs, Mode::Plain, &data).await?;
        self.report.row("ready on the sealed store", Unit::Seconds, Bar::None, server.ready_after.as_secs_f64(), None);
        let text = self.events.clone();
        let events = read(text.lines())?;
        let values = Values::of(&events)?;
        let questions = values.questions(&events);
        quiet(&server, &data).await?;
        let ours = self.ask(&server, &values, &questions, "sealed").await?;
        self.proofs(&server, values.tenant).await?;
        server.stop().await?;
        self.peers.ask(&mut self.report, &data, &questions, &ours)
    }

    /// The questions with a tail that nothing has sealed.
    pub async fn tail(&mut self) -> Outcome<()> {
        let data = self.settled().await?;
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
        quiet(&server, &data).await?;
        self.ask(&server, &values, &values.questions(&events), &state).await?;
        // The store is thrown away, and to seal the tail is nobody's figure.
        server.kill()?;
        self.sealed = None;
        self.discard(&data)
    }

    /// Asks every question, adds its row, and answers the medians.
    async fn ask(
        &mut self,
        server: &Server,
        values: &Values<'_>,
        questions: &[Question],
        state: &str,
    ) -> Outcome<Vec<Option<f64>>> {
        let asker = Asker::new(server.url(""))?;
        let (mut further, mut medians) = (Vec::new(), Vec::new());
        let mut newest = 0;
        for question in questions {
            let measure = format!("{} ({state})", question.name);
            newest = question.expected.rows;
            let answered = asker.question(question).await;
            medians.push(self.answer(measure, question.bar, answered, &mut further));
        }
        // The last question was the latest 100; here it is again through the other door.
        let answered = asker.newest(values.tenant, newest).await;
        self.answer(format!("latest 100 by `GET …/events` ({state})"), 10.0, answered, &mut further);
        let columns = ["question", "first, ms", "quickest of 15, ms", "median, ms", "slowest, ms", "rows", "bytes"];
        self.report.detail(table(&format!("Answers, {state}"), &columns, &further));
        Ok(medians)
    }

    fn answer(
        &mut self,
        measure: String,
        bar: f64,
        answered: Outcome<Answered>,
        further: &mut Vec<Vec<String>>,
    ) -> Option<f64> {
        let bar = Bar::AtMost(bar);
        match answered {
            Ok(answered) => {
                let middle = answered.warm.milliseconds(0.5);
                further.push(vec![
                    measure.clone(),
                    format!("{:.2}", answered.first),
                    format!("{:.2}", answered.warm.milliseconds(0.0)),
                    format!("{middle:.2}"),
                    format!("{:.2}", answered.warm.milliseconds(1.0)),
                    thousands(answered.rows as f64),
                    thousands(answered.bytes as f64),
                ]);
                self.report.row(measure, Unit::Milliseconds, bar, middle, None);
                Some(middle)
            }
            Err(why) => {
                self.report.failure(measure, Unit::Milliseconds, bar, why);
                None
            }
        }
    }

    /// Proofs of entries all over a stream.
    pub async fn proofs(&mut self, server: &Server, tenant: &str) -> Outcome<()> {
        let asker = Asker::new(server.url(""))?;
        let size = asker.size(tenant).await?;
        let entries = thousands(size as f64);
        let inclusion = asker.inclusion(tenant, size).await?;
        let consistency = asker.consistency(tenant, size).await?;
        for (name, times, bar) in [("inclusion", inclusion, Bar::AtMost(20.0)), ("consistency", consistency, Bar::None)]
        {
            let measure = format!("{name} proof, stream of {entries}, median of {PROOFS} places");
            self.report.row(measure, Unit::Milliseconds, bar, times.milliseconds(0.5), None);
            let measure = format!("{name} proof, the slowest of them");
            self.report.row(measure, Unit::Milliseconds, Bar::None, times.milliseconds(1.0), None);
        }
        Ok(())
    }
}
