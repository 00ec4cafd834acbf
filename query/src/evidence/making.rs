//! Making a bundle: part by part into the tenant's folder of bundles, and at the end what is said of all of them, signed.
//!
//! Not here: one part ([`super::part`]), who may ask ([`super::QueryState`] methods beside it).
//!
//! Invariants: a part that is kept is not made again, so that a stop anywhere is gone on from; several are made at a time, and
//! folded in their order; nothing is signed before all parts were folded to the head that they lead to; nothing is kept of a
//! bundle from whose streams something was erased meanwhile.

use super::page;
use super::part::{self, Facts};
use super::question::{Plan, PlannedStream};
use super::reports::{REPORTS, Report};
use super::zip::{Fragment, Packed, directory};
use crate::error::QueryError;
use crate::run::Engine;
use crate::table::Seen;
use access::{Opened, Problem, ProblemKind, Progress};
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use ledger::bundle::manifest::MANIFEST;
use ledger::bundle::{Consistency, Manifest, Member, PART};
use ledger::proof::Span;
use ledger::tree::Edge;
use ledger::{Hash, StreamKind};
use ledger_store::{Bundles, Evidence, StreamHandle};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinHandle;

/// The object that says what a bundle is going to be.
pub(super) const PLAN: &str = "plan";
/// The last fragment, and what it is kept with.
pub(super) const END: &str = "end";
pub(super) const END_FACTS: &str = "end-facts";

/// Bytes in memory that parts which are made at the same time may take together, about.
const ROOM_BYTES: u64 = 256 << 20;
/// How many times as large entries are in memory as in segments, about.
const UNPACKED: u64 = 8;

/// The name of a part's object.
pub(super) fn part_name(number: u64) -> String {
    format!("part-{number:06}")
}

/// The name of what a part is kept with.
pub(super) fn facts_name(number: u64) -> String {
    format!("facts-{number:06}")
}

/// One that is being made.
#[derive(Debug, Default)]
pub(super) struct Going {
    pub progress: Progress,
    pub is_cancelled: AtomicBool,
}

/// What the last fragment is kept with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct EndFacts {
    /// The hash of the manifest.
    pub manifest: String,
    /// Entries that are shown, by stream.
    pub entries: BTreeMap<String, u64>,
    /// Sizes of its heads, by stream.
    pub sizes: BTreeMap<String, u64>,
    /// Bytes of the whole archive.
    pub archive: u64,
}

/// What is needed to make one.
pub(super) struct Making {
    pub engine: Engine,
    pub bundles: Bundles,
    pub plan: Plan,
    /// The streams, in the plan's order.
    pub opened: Vec<Opened>,
    /// Those that reports tell of, too.
    pub told_of: Vec<StreamHandle>,
    pub going: Arc<Going>,
}

/// One stream, as of its head.
struct Source {
    /// Its place in the plan.
    place: usize,
    evidence: Evidence,
    holes: Vec<Span>,
}

/// Parts under way, in their order.
type Ahead = VecDeque<JoinHandle<Result<Facts, Problem>>>;

/// What was found of one stream.
struct Told<'p> {
    stream: &'p PlannedStream,
    head: ledger::StreamHead,
    checkpoint: String,
    counts: [u64; 3],
}

fn internal(why: &'static str) -> Problem {
    Problem::new(ProblemKind::Internal, why)
}

/// A JSON object of a bundle.
pub(super) async fn read<T: for<'d> Deserialize<'d>>(
    bundles: &Bundles,
    id: &str,
    name: &str,
) -> Result<Option<T>, Problem> {
    let Some(bytes) = bundles.get(id, name).await? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|_| internal("an object of a bundle cannot be read"))
}

pub(super) async fn keep(bundles: &Bundles, id: &str, name: &str, what: &impl Serialize) -> Result<(), Problem> {
    let bytes = serde_json::to_vec(what).map_err(|_| internal("an object of a bundle cannot be written"))?;
    Ok(bundles.put(id, name, bytes).await?)
}

impl Making {
    /// Makes what is missing, and ends it.
    ///
    /// # Errors
    /// It was cancelled, something was erased meanwhile, or the store failed.
    pub async fn run(self: &Arc<Self>) -> Result<(), Problem> {
        let there = Arc::new(self.bundles.objects(&self.plan.id).await?);
        let (mut number, mut told) = (0, Vec::new());
        let mut last = Fragment::default();
        for (place, (stream, opened)) in self.plan.streams.iter().zip(&self.opened).enumerate() {
            let evidence = opened.handle.evidence(Some(stream.size)).await?;
            let holes = evidence.holes().await?;
            let source = Arc::new(Source { place, evidence, holes });
            let mut ahead = Ahead::new();
            let folded = self.parts(&source, &there, &mut number, &mut ahead).await;
            if folded.is_err() {
                // Nothing of it is put any more once it is said to be over: a put that was begun cannot be stopped.
                while let Some(part) = ahead.pop_front() {
                    drop(part.await);
                }
            }
            let (edge, counts) = folded?;
            let head = source.evidence.head().clone();
            if edge.size() != head.size || edge.root() != head.root {
                return Err(internal("the parts of a bundle do not lead to its head: run piperoll fsck"));
            }
            let checkpoint = source.evidence.checkpoint();
            self.documents(stream, opened, &source.evidence, &checkpoint, &mut last).await?;
            told.push(Told { stream, head, checkpoint, counts });
        }
        self.end(last, &told, number).await?;
        // An erasure takes away what it finds here; what was put after it looked is found by this look.
        self.must_go_on()
    }

    /// All parts of a stream, several at a time; what they fold to, in their order, and what they show.
    async fn parts(
        self: &Arc<Self>,
        source: &Arc<Source>,
        there: &Arc<BTreeMap<String, u64>>,
        number: &mut u64,
        ahead: &mut Ahead,
    ) -> Result<(Edge, [u64; 3]), Problem> {
        let stream = &self.plan.streams[source.place];
        let (mut edge, mut counts) = (Edge::default(), [0; 3]);
        let mut left = stream.parts();
        // Of a stream of which only some entries are shown each part is a question, and a tenant's have a bound.
        let most = if stream.is_whole { self.at_once(&self.opened[source.place]) } else { 1 };
        loop {
            while ahead.len() < most
                && let Some(at) = left.next()
            {
                let (making, source, there, place) = (Arc::clone(self), Arc::clone(source), Arc::clone(there), *number);
                ahead.push_back(tokio::spawn(async move { making.part_or_kept(&source, &there, (place, at)).await }));
                *number += 1;
            }
            let Some(part) = ahead.pop_front() else { return Ok((edge, counts)) };
            // The Parquet decoder panics on some damage.
            let facts = part.await.map_err(|_| internal("a segment is damaged: run piperoll fsck"))??;
            fold(&facts, &mut edge)?;
            counts.iter_mut().zip(facts.counts).for_each(|(sum, count)| *sum += count);
            self.going.progress.did(1);
        }
    }

    /// How many parts of a stream are made at the same time: as many as there are threads, and one that waits for the store, as far
    /// as there is room.
    fn at_once(&self, opened: &Opened) -> usize {
        let (entries, bytes) = opened.handle.stored();
        let part = bytes / entries.max(1) * PART * UNPACKED;
        usize::try_from(ROOM_BYTES / part.max(1)).unwrap_or(usize::MAX).clamp(1, self.engine.limits().threads + 1)
    }

    async fn part_or_kept(
        &self,
        source: &Source,
        there: &BTreeMap<String, u64>,
        (number, at): (u64, u64),
    ) -> Result<Facts, Problem> {
        let (stream, opened) = (&self.plan.streams[source.place], &self.opened[source.place]);
        self.must_go_on()?;
        if !there.contains_key(&facts_name(number)) {
            return self.part(stream, opened, source, (number, at)).await;
        }
        let facts = read(&self.bundles, &self.plan.id, &facts_name(number)).await?;
        facts.ok_or_else(|| internal("a part of a bundle went away while it was made"))
    }

    fn must_go_on(&self) -> Result<(), Problem> {
        if self.going.is_cancelled.load(Ordering::Relaxed) {
            return Err(Problem::new(ProblemKind::Gone, "the bundle was cancelled"));
        }
        let before = |one: &StreamHandle| self.plan.erased.get(one.kind().as_str()).copied();
        let is_same = |one: &StreamHandle| before(one).is_none_or(|before| before == one.erased());
        match !self.told_of.iter().all(is_same) {
            true => Err(Problem::new(
                ProblemKind::Conflict,
                "something was purged or redacted while the bundle was made, and may be in it: ask for a new one",
            )),
            false => Ok(()),
        }
    }

    async fn part(
        &self,
        stream: &PlannedStream,
        opened: &Opened,
        source: &Source,
        (number, at): (u64, u64),
    ) -> Result<Facts, Problem> {
        let block = stream.block(at);
        let only = self.picked(stream, opened, block).await?;
        let folder = stream.folder();
        let shows = stream.shows(&folder, self.plan.withheld(), only, &source.holes);
        let ends = (at == stream.parts().start, at + 1 == stream.parts().end);
        let part = part::make(&source.evidence, at - stream.parts().start, block, ends, &shows).await?;
        // If we crash between the two, the part is made again; the one that is there stays, and is the same.
        self.bundles.put(&self.plan.id, &part_name(number), part.bytes).await?;
        keep(&self.bundles, &self.plan.id, &facts_name(number), &part.facts).await?;
        Ok(part.facts)
    }

    /// The entries of a block that are shown; none when all are.
    async fn picked(
        &self,
        stream: &PlannedStream,
        opened: &Opened,
        block: Span,
    ) -> Result<Option<HashSet<u64>>, Problem> {
        if stream.is_whole {
            return Ok(None);
        }
        let (sight, meter) = (Some(opened.sight.clone()), opened.meter.clone());
        let seen = Seen { snapshot: opened.handle.snapshot().await?, sight, meter };
        let (start, end) = (block.start.max(stream.first), block.end.min(stream.end));
        let condition = stream.condition.as_deref().unwrap_or("true");
        let sql = select(&stream.stream, (start, end), condition);
        let mut answer = self.engine.sql(vec![seen], &sql).await?;
        let mut picked = HashSet::new();
        while let Some(batch) = answer.next().await {
            let batch = batch?;
            let seqs =
                batch.column(0).as_primitive_opt::<Int64Type>().ok_or(QueryError::Internal("seq is no number"))?;
            picked.extend(seqs.iter().flatten().filter_map(|seq| u64::try_from(seq).ok()));
        }
        Ok(Some(picked))
    }

    /// What stands beside the parts of a stream.
    async fn documents(
        &self,
        stream: &PlannedStream,
        opened: &Opened,
        evidence: &Evidence,
        checkpoint: &str,
        last: &mut Fragment,
    ) -> Result<(), Problem> {
        let folder = stream.folder();
        last.add(format!("{folder}/checkpoint"), checkpoint.as_bytes());
        for seq in &stream.proofs {
            let proof = evidence.tlog_proof(*seq, checkpoint).await?;
            last.add(format!("{folder}/proofs/{seq}.tlog-proof"), proof.as_bytes());
        }
        for size in &stream.since {
            let proof = opened.handle.consistency(*size, Some(stream.size)).await?;
            let (from, to) = ((proof.from, proof.from_root), (proof.to, proof.to_root));
            let text = Consistency { origin: evidence.head().origin.clone(), from, to, nodes: proof.path }.to_text();
            last.add(format!("{folder}/from-{size}.consistency"), text.as_bytes());
        }
        Ok(())
    }

    /// The last fragment: what is for people, the keys, and the manifest of everything.
    async fn end(&self, mut last: Fragment, told: &[Told<'_>], parts: u64) -> Result<(), Problem> {
        let plan = &self.plan;
        let records = self.opened.first().map(|opened| opened.handle.key_records()).unwrap_or_default();
        for (number, record) in (1u64..).zip(&records) {
            last.add(format!("keys/{number}"), record.as_bytes());
        }
        let ledger = told.first().and_then(|told| told.head.origin.split('/').next()?.parse().ok());
        let ledger = ledger.ok_or_else(|| internal("a bundle without a stream"))?;
        let mut manifest = self.manifest(ledger, told)?;
        let reports: Option<Vec<Report>> = read(&self.bundles, &plan.id, REPORTS).await?;
        let gone = "the service stopped while the bundle's reports were made: ask for a new one";
        let reports = reports.ok_or_else(|| Problem::new(ProblemKind::Conflict, gone))?;
        for Report { name, answer, note, table, .. } in &reports {
            last.add(format!("reports/{name}.json"), answer.as_bytes());
            last.add(format!("reports/{name}.note"), note.as_bytes());
            if let Some(table) = table {
                last.add("controls.csv", table.as_bytes());
            }
        }
        let facts = page::facts(
            &manifest,
            &reports,
            told.iter().map(|told| (told.stream, &told.head, told.checkpoint.as_str(), told.counts)),
        );
        last.add("README.txt", page::readme(&manifest, &reports).as_bytes());
        last.add("index.html", page::index(&facts).as_bytes());
        let (mut members, mut archive) = (Vec::new(), 0);
        let mut all = Vec::new();
        for number in 0..parts {
            let facts: Facts = read(&self.bundles, &plan.id, &facts_name(number))
                .await?
                .ok_or_else(|| internal("a part of a bundle went away while it was made"))?;
            members.extend(facts.members.iter().filter_map(Packed::member));
            all.push((archive, facts.members));
            archive += facts.bytes;
        }
        let (bytes, own) = last.finish();
        members.extend(own.iter().filter_map(Packed::member));
        members.sort_by(|a: &Member, b| a.name.cmp(&b.name));
        manifest.members = members;
        let signed = self.bundles.sign(&manifest);
        let mut behind = Fragment::after(bytes, own);
        behind.add(MANIFEST, signed.as_bytes());
        let (bytes, own) = behind.finish();
        let entries = told.iter().map(|told| (told.stream.stream.clone(), told.counts[0])).collect();
        let sizes = told.iter().map(|told| (told.stream.stream.clone(), told.stream.size)).collect();
        all.push((archive, own));
        archive += bytes.len() as u64;
        let directory = directory(all.iter().map(|(at, members)| (*at, members.as_slice())), archive);
        archive += directory.len() as u64;
        let manifest = Hash::of(signed.as_bytes()).to_hex();
        let facts = EndFacts { manifest, entries, sizes, archive };
        self.bundles.put(&plan.id, END, [bytes, directory].concat()).await?;
        keep(&self.bundles, &plan.id, END_FACTS, &facts).await
    }

    fn manifest(&self, ledger: ledger::LedgerName, told: &[Told<'_>]) -> Result<Manifest, Problem> {
        let plan = &self.plan;
        let streams: Result<Vec<StreamKind>, Problem> = told.iter().map(|told| told.stream.kind()).collect();
        Ok(Manifest {
            id: plan.id.clone(),
            ledger,
            tenant: plan.tenant.parse().map_err(|_| internal("a bundle's plan names no tenant"))?,
            time: plan.time,
            by: plan.by.clone(),
            audience: plan.audience.clone(),
            from: plan.from,
            until: plan.until,
            condition: plan.condition.clone(),
            withheld: plan.withheld(),
            previous: plan.previous.as_deref().and_then(Hash::from_hex),
            streams: streams?,
            members: vec![],
        })
    }
}

/// The question for those entries of a block that fulfil a condition.
pub(super) fn select(stream: &str, (start, end): (u64, u64), condition: &str) -> String {
    format!("SELECT CAST(seq AS BIGINT) FROM {stream} WHERE seq >= {start} AND seq < {end} AND ({condition}\n)")
}

fn fold(facts: &Facts, edge: &mut Edge) -> Result<(), Problem> {
    for (height, hash) in &facts.nodes {
        let hash = Hash::from_hex(hash).filter(|_| *height < 63 && edge.size().is_multiple_of(1 << height));
        edge.push_node(*height, hash.ok_or_else(|| internal("what is kept of a bundle's part is damaged"))?, |_| {});
    }
    Ok(())
}
