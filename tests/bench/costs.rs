//! The part about what one event costs: ledger's own functions on the fields of the reference events, and the
//! processor time of a server while such events come in, by thread and by part of the work.
//!
//! Not here: how samples are taken and sorted (`profile`).
//!
//! Invariant: what is timed is the function that the server calls, on the bytes that it would be given.

use std::hint::black_box;
use std::time::Duration;

use ledger::checkpoint::StreamHead;
use ledger::field::{Field, Kind, Section, put};
use ledger::key::LedgerKey;
use ledger::leaf::{Commitments, Seed, commitment, id_fingerprint, leaf_hash};
use ledger::tree::{Edge, Hash, root_of};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::events::BATCH;
use crate::load::{Pace, load};
use crate::machine::{this_thread, threads};
use crate::profile::{PARTS, Profile};
use crate::program::{Mode, Server};
use crate::quiet::quiet;
use crate::report::{table, thousands};
use crate::sections::Bench;
use crate::trouble::{Outcome, Trouble};

/// Events whose fields are hashed; the same ones again until enough time has passed to be measured.
const EVENTS: usize = 20_000;
const TURNS: usize = 5;
/// Signatures that are made.
const SIGNATURES: usize = 2_000;
/// A commitment in a leaf: field id and length before it, and the hash.
const COMMITMENT_BYTES: usize = 39;

/// The fields of an event as they are hashed, by section.
struct Hashed {
    id: String,
    skeleton: Vec<u8>,
    /// Those that are there.
    sections: Vec<(Section, Vec<u8>)>,
    commitments: Commitments,
}

#[derive(Deserialize)]
struct Event<'a> {
    id: &'a str,
    tenant: &'a str,
    #[serde(borrow)]
    actor: Named<'a>,
    action: &'a str,
    #[serde(borrow)]
    resource: Named<'a>,
    outcome: &'a str,
    source_ip: &'a str,
    session: &'a str,
    workflow: &'a str,
    integration: &'a str,
    release: &'a str,
    region: &'a str,
    #[serde(borrow)]
    attributes: &'a RawValue,
}

#[derive(Deserialize)]
struct Named<'a> {
    r#type: &'a str,
    id: &'a str,
}

/// A function, how much of it an event needs, and microseconds for that.
type Cost = (String, f64);

impl Bench {
    /// Ledger's functions, then the server's threads.
    pub async fn costs(&mut self) -> Outcome<()> {
        let events = hashed(self.events.lines().take(EVENTS))?;
        let mut rows: Vec<Vec<String>> = Vec::new();
        for (part, micros) in functions(&events)? {
            rows.push(vec![part, format!("{micros:.3}")]);
        }
        self.report.detail(table("What ledger's functions cost, on one thread", &["part", "µs an event"], &rows));
        self.server().await
    }

    /// Where the processor time of a server goes from its start to its end, everything sealed: by thread, and by part
    /// of the work where `perf` is installed.
    async fn server(&mut self) -> Outcome<()> {
        let data = self.place("costs");
        let server = Server::start(&self.programs, Mode::SealOnExit, &data).await?;
        let profile = if Profile::is_possible() { Some(Profile::start(server.id(), &self.folder)?) } else { None };
        let bodies = self.events.bodies(0, self.events.len());
        let loaded = load(&server.url("/v1/events"), bodies, Pace::Full).await?;
        quiet(&server, &data).await?;
        let spent = threads(server.id())?;
        let stopped = server.stop().await?;
        self.discard(&data)?;
        let each = |seconds: f64| format!("{:.2}", seconds * 1e6 / loaded.events.max(1) as f64);
        let rows: Vec<Vec<String>> =
            spent.iter().map(|(name, time)| vec![format!("`{name}`"), each(time.as_secs_f64())]).collect();
        let heading = "What the server's threads spent until it was quiet";
        self.report.detail(table(heading, &["threads", "µs an event"], &rows));
        let Some(profile) = profile else {
            self.report
                .detail("`perf` is not installed, so what each part of the server cost is not known.".to_owned());
            return Ok(());
        };
        let samples = profile.sorted().await?;
        let all = samples.iter().sum::<usize>().max(1) as f64;
        let total = stopped.processor.as_secs_f64();
        let part = |((name, _), samples): (&(&str, &[&str]), &usize)| {
            let share = *samples as f64 / all;
            vec![(*name).to_owned(), format!("{:.1}", 100.0 * share), each(share * total)]
        };
        let mut rows: Vec<Vec<String>> = PARTS.iter().zip(&samples).map(part).collect();
        rows.push(vec!["all".to_owned(), "100".to_owned(), each(total)]);
        let heading = format!("What each part of the server cost, by {} samples", thousands(all));
        self.report.detail(table(&heading, &["part", "share, %", "µs an event"], &rows));
        Ok(())
    }
}

/// Encodes reference events as the server does.
fn hashed<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Outcome<Vec<Hashed>> {
    let encode = |line: &[u8]| {
        let e: Event<'_> = serde_json::from_slice(line).map_err(Trouble::unreadable("a reference event"))?;
        let text = |out: &mut Vec<u8>, field: Field, text: &str| put(out, field.id(), Kind::Text, text.as_bytes());
        let all = [
            (Field::Tenant, e.tenant),
            (Field::Stream, "audit"),
            (Field::EventId, e.id),
            (Field::Action, e.action),
            (Field::Outcome, e.outcome),
            (Field::ActorType, e.actor.r#type),
            (Field::ResourceType, e.resource.r#type),
            (Field::Workflow, e.workflow),
            (Field::Integration, e.integration),
            (Field::Release, e.release),
            (Field::Region, e.region),
            (Field::ActorId, e.actor.id),
            (Field::ResourceId, e.resource.id),
            (Field::SourceIp, e.source_ip),
            (Field::Session, e.session),
            (Field::Attributes, e.attributes.get()),
        ];
        let mut skeleton = Vec::new();
        // Two times and the trace have eight and sixteen bytes, whatever they are.
        for time in [Field::RecordedAt, Field::OccurredAt] {
            put(&mut skeleton, time.id(), Kind::Int, &[0; 8]);
        }
        put(&mut skeleton, Field::TraceId.id(), Kind::Bytes, &[0; 16]);
        let mut sections: Vec<(Section, Vec<u8>)> = Vec::new();
        for (field, value) in all {
            match field.section() {
                Section::Skeleton => text(&mut skeleton, field, value),
                section => match sections.iter_mut().find(|(other, _)| *other == section) {
                    Some((_, fields)) => text(fields, field, value),
                    None => {
                        let mut fields = Vec::new();
                        text(&mut fields, field, value);
                        sections.push((section, fields));
                    }
                },
            }
        }
        let fields_of = |wanted: Section| {
            sections.iter().find(|(section, _)| *section == wanted).map_or(&[][..], |(_, fields)| fields)
        };
        let commitments = Commitments::of_sections(fields_of, &Seed([7; 16]), 0);
        Ok(Hashed { id: e.id.to_owned(), skeleton, sections, commitments })
    };
    lines.map(encode).collect()
}

/// Times each function over all these events.
fn functions(events: &[Hashed]) -> Outcome<Vec<Cost>> {
    let seed = Seed([7; 16]);
    let salt = [9; 16];
    let leaves: Vec<Hash> = events.iter().map(|event| leaf_hash(&event.skeleton, &event.commitments)).collect();
    let sections: usize = events.iter().map(|event| event.sections.len()).sum();
    let bytes: usize = events.iter().flat_map(|event| &event.sections).map(|(_, fields)| fields.len()).sum();
    let average = |sum: usize| sum as f64 / events.len().max(1) as f64;
    let leaf_bytes =
        average(events.iter().map(|event| event.skeleton.len()).sum::<usize>() + sections * COMMITMENT_BYTES);
    let salts = timed(events, |event| {
        for (section, _) in &event.sections {
            black_box(seed.salt(5, *section));
        }
    })?;
    let commitments = timed(events, |event| {
        for (section, fields) in &event.sections {
            black_box(commitment(*section, &salt, fields));
        }
    })?;
    let leaf = timed(events, |event| {
        black_box(leaf_hash(&event.skeleton, &event.commitments));
    })?;
    let fingerprint = timed(events, |event| {
        black_box(id_fingerprint(&event.id));
    })?;
    let (node, signature) = (tree(&leaves)?, signature(&leaves)?);
    let sections = average(sections);
    Ok(vec![
        (format!("salts: {sections:.1} SHA-256 of 22 bytes"), salts),
        (format!("sections: {sections:.1} SHA-256 over {:.0} bytes together", average(bytes)), commitments),
        (format!("leaf: SHA-256 of {leaf_bytes:.0} bytes"), leaf),
        ("fingerprint of the id, for the duplicate check: one SHA-256".to_owned(), fingerprint),
        ("tree: one inner node, SHA-256 of 65 bytes".to_owned(), node),
        ("all these hashes".to_owned(), salts + commitments + leaf + fingerprint + node),
        ("a signature (Ed25519, and the note made of it), each".to_owned(), signature),
        (format!("a signature, shared by a group of {BATCH}"), signature / BATCH as f64),
    ])
}

/// Microseconds of a function for one of these events.
fn timed(events: &[Hashed], mut function: impl FnMut(&Hashed)) -> Outcome<f64> {
    let begin = this_thread()?;
    for _ in 0..TURNS {
        for event in events {
            function(event);
        }
    }
    micros(begin, TURNS * events.len())
}

fn tree(leaves: &[Hash]) -> Outcome<f64> {
    let begin = this_thread()?;
    for _ in 0..TURNS {
        let mut edge = Edge::default();
        for leaf in leaves {
            edge.push(*leaf);
        }
        black_box(edge.root());
    }
    micros(begin, TURNS * leaves.len())
}

fn signature(leaves: &[Hash]) -> Outcome<f64> {
    let key = LedgerKey::from_secret(&[1; 32]);
    let root = root_of(leaves.iter().copied().take(BATCH));
    let begin = this_thread()?;
    for size in 0..SIGNATURES as u64 {
        let head = StreamHead { origin: "bench.example/store/main/0".into(), size, root };
        black_box(head.sign(&[&key]));
    }
    micros(begin, SIGNATURES)
}

fn micros(begin: Duration, times: usize) -> Outcome<f64> {
    Ok(this_thread()?.saturating_sub(begin).as_secs_f64() * 1e6 / times.max(1) as f64)
}
