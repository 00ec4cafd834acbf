//! Erasure: entries, or sections of entries, are taken away for good, and what stands for them in the tree is kept.
//!
//! [`EraseOrder`] says what is to go and on what grounds; [`erase`] carries it out, top to bottom. A purge takes whole
//! entries ([`purge`]), a redaction sections of them ([`redact`]). Not here: what is to go and why (`retention`), deleting
//! files ([`crate::upkeep`]).
//!
//! Invariants: before anything is committed, what stays was recomputed from the bytes that are put; an order that was
//! carried out is found done; files leave the chain first and the store later.

mod purge;
mod redact;

use crate::bundles;
use crate::commits::{Reader, Stored};
use crate::error::StoreError;
use crate::seal::SealJob;
use crate::segment::Segment;
use crate::store::Shared;
use crate::stream::{Sealed, Stream, View};
use crate::turn::{self, Settled, Unsettled};
use crate::upkeep;
use crate::writer::Message;
use crate::{precheck, segment};
use futures::FutureExt as _;
use ledger::commit::{Commit, Erased, Erasure, SegmentRef};
use ledger::gone::GoneRef;
use ledger::name::{StreamKind, TenantId};
use ledger::note::NOTE_BYTES;
use ledger::proof::Span;
use ledger::sections::Sections;
use ledger::tree::Hash;
use ledger::verify::{ChainState, ChainVerifier};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;

/// How often an erasure begins anew because a seal or merge changed the stream while it was prepared.
const TRIES: usize = 4;

/// What is to be taken away, and on what grounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EraseOrder {
    /// Whose.
    pub tenant: TenantId,
    /// From which stream.
    pub kind: StreamKind,
    /// What.
    pub what: EraseWhat,
    /// The entry of `control` that recorded the intent.
    pub basis: u64,
    /// SHA-256 of the plan.
    pub plan: Hash,
}

/// Entries or sections, by ranges of sequence numbers; all of them sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EraseWhat {
    /// Whole entries.
    Entries(Vec<Span>),
    /// Sections of entries; the ranges ascend.
    Sections(Vec<(Span, Sections)>),
}

/// What an order came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EraseDone {
    /// The commit, and SHA-256 of it.
    pub commit: (u64, Hash),
    /// How many entries went, or lost sections.
    pub entries: u64,
    /// The segments that it removed.
    pub removed: Vec<SegmentRef>,
    /// The segments that it put in their place, with what stays.
    pub added: Vec<SegmentRef>,
    /// Of a purge, the object that says what is gone of the stream, with the hashes that stand for it.
    pub kept: Option<GoneRef>,
}

/// What an erasure works with besides the stream.
pub(crate) struct Tools<'t> {
    pub shared: &'t Shared,
    pub epoch: u64,
    pub writer: &'t mpsc::WeakSender<Message>,
    pub seals: &'t mpsc::WeakUnboundedSender<SealJob>,
}

/// What an order comes to in a stream as it is.
enum Planned {
    Purge(purge::Planned),
    Redaction(redact::Planned),
}

/// What is to be committed, besides segments.
enum Prepared {
    Purge(purge::Prepared),
    /// How many entries lose sections.
    Redaction(u64),
}

impl Planned {
    /// `None`: there is nothing left to do.
    async fn of(tools: &Tools<'_>, stream: &Arc<Stream>, order: &EraseOrder) -> Result<Option<Self>, StoreError> {
        let beyond = |end: Option<u64>| end.is_some_and(|end| end > stream.view().sealed.edge.size());
        match &order.what {
            EraseWhat::Entries(spans) => {
                if beyond(spans.iter().map(|span| span.end).max()) {
                    return Err(StoreError::Invalid("only sealed entries can be purged"));
                }
                Ok(purge::Planned::of(tools.shared, stream, spans).await?.map(Self::Purge))
            }
            EraseWhat::Sections(rows) => {
                if beyond(rows.last().map(|(span, _)| span.end)) {
                    return Err(StoreError::Invalid("only sealed entries can be redacted"));
                }
                if rows.windows(2).any(|pair| pair[0].0.end > pair[1].0.start) {
                    return Err(StoreError::Invalid("ranges to redact must ascend and not overlap"));
                }
                Ok(redact::Planned::of(tools, stream, rows).await?.map(Self::Redaction))
            }
        }
    }

    /// The segments that lose something, ascending.
    fn touched(&self) -> &[Arc<Segment>] {
        match self {
            Self::Purge(planned) => &planned.touched,
            Self::Redaction(planned) => &planned.touched,
        }
    }

    async fn prepare(
        &self,
        tools: &Tools<'_>,
        stream: &Stream,
        view: &View,
        made: &mut Vec<Segment>,
    ) -> Result<Prepared, StoreError> {
        match self {
            Self::Purge(planned) => planned.prepare(tools, stream, view, made).await.map(Prepared::Purge),
            Self::Redaction(planned) => planned.prepare(tools, stream, made).await.map(Prepared::Redaction),
        }
    }

    /// Whether the stream still has what was prepared.
    fn fits(&self, sealed: &Sealed) -> bool {
        let is_live = |input: &Arc<Segment>| {
            let at = sealed.segments.binary_search_by_key(&input.reference.first, |held| held.reference.first);
            at.is_ok_and(|at| sealed.segments[at].reference == input.reference)
        };
        let is_as_before = match self {
            Self::Purge(planned) => sealed.gone_entries() == planned.gone_before(),
            Self::Redaction(planned) => sealed.edge.size() == planned.size && sealed.gone_entries() == planned.gone,
        };
        is_as_before && self.touched().iter().all(is_live)
    }
}

/// Carries out an order, or finds what became of it when it was carried out before. `None`: there was nothing to do.
///
/// # Errors
/// [`StoreError::Invalid`] when an entry is not sealed; otherwise the object store failed or stored bytes are damaged.
/// Nothing changed then, or the outcome of the commit is not known: the same order finds out.
pub(crate) async fn erase(
    tools: &Tools<'_>,
    stream: &Arc<Stream>,
    order: &EraseOrder,
) -> Result<Option<EraseDone>, StoreError> {
    let shared = tools.shared;
    precheck::warm(shared, stream).await?;
    // What cannot be read cannot be looked through, and might hold what is to go.
    stream.unlock(&shared.content.keys)?;
    for _ in 0..TRIES {
        let mut turn = stream.turn.lock().await;
        turn::settle(shared, stream, &mut turn).await?;
        drop(turn);
        let Some(planned) = Planned::of(tools, stream, order).await? else {
            let done = recorded(shared, stream, order).await?;
            if done.is_some() {
                bundles::forget(shared, &order.tenant).await?;
            }
            return Ok(done);
        };
        let view = stream.view();
        // A seal whose outcome is not known has the first claim on the next number.
        if stream.tried.load(Ordering::Acquire) > view.sealed.edge.size() {
            return Err(StoreError::Busy("a seal of the stream is not settled; try again"));
        }
        // 1. Make what stays and put it, and look at all that must be known of what goes. Died: objects that no commit
        //    names; the sweep after the next start deletes them.
        let (mut made, mut is_tried) = (Vec::new(), false);
        // The Parquet decoder panics on some damage.
        let prepared = AssertUnwindSafe(planned.prepare(tools, stream, &view, &mut made)).catch_unwind().await;
        let location = planned.touched().first().map(|segment| segment.location.clone()).unwrap_or_default();
        let done = match prepared.unwrap_or_else(|_| Err(segment::undecodable(&location))) {
            Ok(prepared) => {
                carry_out(shared, stream, &planned, (prepared, &made), (tools.epoch, order), &mut is_tried).await
            }
            Err(error) => Err(error),
        };
        // Nothing names what was put and nothing will; where it is not known whether the commit was made, it may.
        if !is_tried {
            let _ = upkeep::delete(shared, made.iter().map(|made| made.location.clone()).collect()).await;
        }
        if let Some(done) = done? {
            // Died before it: the same order finds that it was carried out, and comes by here again.
            bundles::forget(shared, &order.tenant).await?;
            return Ok(Some(done));
        }
    }
    Err(StoreError::Busy("the stream changed again and again while an erasure was prepared; try again"))
}

/// Commits what was prepared and put; `None` when the stream is not what it was. From where `is_tried` is set on the commit
/// may be there, whatever is answered.
async fn carry_out(
    shared: &Shared,
    stream: &Stream,
    planned: &Planned,
    (prepared, made): (Prepared, &[Segment]),
    (epoch, order): (u64, &EraseOrder),
    is_tried: &mut bool,
) -> Result<Option<EraseDone>, StoreError> {
    // 2. Wait for the turn. What came before it may have changed the stream.
    let mut turn = stream.turn.lock().await;
    turn::settle(shared, stream, &mut turn).await?;
    let sealed = stream.view().sealed;
    // A writer that may no longer write its log takes nothing from a stream either.
    if let Some(refusal) = shared.log.get().refusal() {
        return Err(refusal);
    }
    // A seal whose outcome is not known has the first claim on the next number.
    if !planned.fits(&sealed) || stream.tried.load(Ordering::Acquire) > sealed.edge.size() {
        return Ok(None);
    }
    // 3. Put what is kept. Died after it: an object that no commit names, which the next commit of this number replaces.
    let (what, gone, entries) = match (planned, prepared) {
        (Planned::Purge(planned), Prepared::Purge(prepared)) => {
            let gone = planned.put_kept(shared, stream, &sealed, prepared, epoch).await?;
            let entries = gone.reference.entries - sealed.gone_entries();
            (Erased::Entries(gone.reference.clone()), Some(Arc::new(gone)), entries)
        }
        (_, Prepared::Redaction(entries)) => (Erased::Sections(entries), None, entries),
        (_, Prepared::Purge(_)) => return Ok(None),
    };
    let commit = commit_of(shared, stream, &sealed, planned, (what, made), (epoch, order));
    let signed = commit.sign(shared.signing.now().current());
    if signed.bytes().len() > NOTE_BYTES {
        return Err(StoreError::Invalid(
            "an erasure would touch more segments than a commit can name: erase less at once",
        ));
    }
    let segments = made.iter().map(|made| Arc::new(made.clone())).collect();
    // 4. The commit itself, and then readers.
    *is_tried = true;
    shared.unsettled_erasures.fetch_add(1, Ordering::AcqRel);
    turn.unsettled = Some(Unsettled { signed: signed.clone(), segments, gone });
    if turn::settle(shared, stream, &mut turn).await? != Settled::Done {
        *is_tried = false;
        return Ok(None);
    }
    let (number, removed, added) = (commit.number, planned.touched().len(), made.len());
    match &order.what {
        EraseWhat::Entries(_) => metrics::counter!("piperoll_purged_entries_total").increment(entries),
        EraseWhat::Sections(_) => metrics::counter!("piperoll_redacted_entries_total").increment(entries),
    }
    tracing::info!(tenant = %stream.tenant, stream = %stream.kind, commit = number, entries, removed, added, "erased");
    let kept = commit.erasure.as_ref().and_then(|erasure| erasure.gone()).cloned();
    let removed = planned.touched().iter().map(|segment| segment.reference.clone()).collect();
    Ok(Some(EraseDone { commit: (number, signed.hash()), entries, removed, added: commit.adds, kept }))
}

/// The commit of an erasure.
fn commit_of(
    shared: &Shared,
    stream: &Stream,
    sealed: &Sealed,
    planned: &Planned,
    (what, made): (Erased, &[Segment]),
    (epoch, order): (u64, &EraseOrder),
) -> Commit {
    let removes = planned.touched().iter().map(|segment| segment.reference.path.clone()).collect();
    Commit {
        origin: stream.origin.to_string(),
        number: sealed.commits,
        previous: sealed.last_commit,
        epoch,
        time: shared.ambient.now_micros(),
        adds: made.iter().map(|made| made.reference.clone()).collect(),
        removes: vec![],
        erasure: Some(Erasure { removes, what, basis: order.basis, plan: order.plan }),
        edge: sealed.edge.clone(),
    }
}

fn holds_line(bytes: &[u8], line: &str) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.contains(line))
}

/// What the chain says of an order that was carried out.
async fn recorded(shared: &Shared, stream: &Stream, order: &EraseOrder) -> Result<Option<EraseDone>, StoreError> {
    let sealed = stream.view().sealed;
    if sealed.gone.is_none() && sealed.redacted == 0 {
        return Ok(None);
    }
    let stored = Stored::list(&shared.objects, &stream.prefix, 0).await?;
    let line = format!("\nbasis {} {}\n", order.basis, order.plan);
    let mut commits = Reader::new(&shared.objects, &stream.prefix, &stored);
    let mut is_there = false;
    for number in 0..sealed.commits {
        is_there |= holds_line(&commits.read(number).await?, &line);
    }
    if !is_there {
        return Ok(None);
    }
    let mut commits = Reader::new(&shared.objects, &stream.prefix, &stored);
    let trusted = shared.signing.now().trusted(stream.origin.at_generation(0).as_str());
    let mut chain = ChainVerifier::new(stream.origin.at_generation(0).as_str(), trusted);
    for number in 0..sealed.commits {
        let bytes = commits.read(number).await?;
        let is_it = holds_line(&bytes, &line);
        let before = if is_it { chain.state() } else { ChainState::default() };
        let history = |fault| StoreError::History { origin: stream.origin.to_string(), fault: Box::new(fault) };
        let signed = chain.commit(&bytes).map_err(history)?;
        let commit = signed.commit();
        let is_its = |erasure: &&Erasure| erasure.basis == order.basis && erasure.plan == order.plan;
        if let Some(erasure) = commit.erasure.as_ref().filter(is_its) {
            let removed = before.live.into_iter().filter(|held| erasure.removes.contains(&held.path)).collect();
            let entries = match &erasure.what {
                Erased::Entries(gone) => gone.entries - before.gone.map_or(0, |gone| gone.entries),
                Erased::Sections(entries) => *entries,
            };
            let (added, kept) = (commit.adds.clone(), erasure.gone().cloned());
            return Ok(Some(EraseDone { commit: (number, signed.hash()), entries, removed, added, kept }));
        }
    }
    Ok(None)
}
