//! The job that verifies every stream against the head that it had when it was checked last, and over time reads everything
//! again.
//!
//! Each run checks of each stream what it got since ([`ledger_store::Fsck::since`]); then whole streams, those first that
//! never were and then those for which that is longest ago, until it has read as many bytes as it may, and one at least. How
//! far each stream was found sound is what the job keeps for its next run ([`heads`]), whose hash stands in `control`: what lies
//! in the store is believed only if it is that.
//!
//! Not here: checking (`ledger_store`). Invariants: a stream that does not hold stays at the head where it did, and is read again
//! by every run until it holds; what was checked is not believed to be so by anybody who can only write to the store.

pub mod heads;

use self::heads::{Heads, Known};
use access::job::{Found, Job, Memo, Outcome, Running, Work};
use access::{Door, Problem, ProblemKind};
use ledger::{StreamKind, TenantId};
use ledger_store::{Checked, Finding, Fsck, Since, Store, StoreError, StreamReport};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of whole streams that a run reads, where settings say nothing: at 100 bytes an event some ten million events, less
/// than a minute of one core.
pub const BYTES: u64 = 1 << 30;

type Named = (TenantId, StreamKind);

/// Verifies streams.
pub struct Verification {
    door: Door,
    bytes: u64,
}

/// What a run counted.
#[derive(Default)]
struct Counts {
    streams: u64,
    moved: u64,
    entries: u64,
    whole: u64,
    whole_entries: u64,
    bytes: u64,
    unread: u64,
    unreached: u64,
}

/// What news of streams came to.
#[derive(Default)]
struct News {
    /// Of these only a check of all of them tells.
    must: BTreeSet<Named>,
    /// These do not hold.
    broken: BTreeSet<Named>,
}

impl Verification {
    /// Of the streams behind this door; each run reads so many bytes of what was checked before.
    pub fn new(door: Door, bytes: u64) -> Self {
        Self { door, bytes }
    }

    async fn verify(&self, running: &Running) -> Result<Outcome, Problem> {
        let mut heads = match running.memo() {
            Memo::None => Heads::default(),
            Memo::Kept(bytes) => match Heads::read(bytes) {
                Some(heads) => heads,
                None => lost(running).await?,
            },
            Memo::Lost => lost(running).await?,
        };
        let mut counts = Counts::default();
        let open: Vec<Store> = self.door.stores().open().cloned().collect();
        let mut all: BTreeMap<Named, &Store> = BTreeMap::new();
        for store in &open {
            // What has nothing in the store yet stands in the log, which each start checks.
            let is_sealed =
                |(tenant, kind): &Named| store.reader(tenant, *kind).is_ok_and(|stream| stream.stored().1 > 0);
            all.extend(store.streams().into_iter().filter(is_sealed).map(|named| (named, store)));
        }
        // What is gone from where it was is looked for there.
        for named in heads.names() {
            match self.door.book().store_of(&named.0) {
                Ok(home) => {
                    let home = open.iter().find(|store| store.name() == home.name());
                    all.extend(home.filter(|_| !all.contains_key(named)).map(|store| (named.clone(), store)));
                }
                Err(_) => counts.unreached += 1,
            }
        }
        counts.streams = all.len() as u64;
        let News { must, broken } = self.check_news(running, &all, &mut heads, &mut counts).await?;
        // It is known already, and its head stays where it held.
        all.retain(|named, _| !broken.contains(named));
        let waiting = self.check_whole(running, &all, (&mut heads, must), &mut counts).await?;
        let Counts { streams, moved, entries, whole, whole_entries, bytes, unread, unreached } = counts;
        let oldest = heads.oldest().map(ledger::time::format_micros);
        let counted = json!({"streams": streams, "moved": moved, "entries": entries, "whole_streams": whole,
            "whole_entries": whole_entries, "bytes": bytes, "unread": unread, "waiting": waiting, "unreached": unreached,
            "oldest_whole_at": oldest});
        Ok(Outcome { counts: counted, memo: Some(heads.to_text().into_bytes()) })
    }

    /// Checks what each stream got since it was checked.
    async fn check_news(
        &self,
        running: &Running,
        all: &BTreeMap<Named, &Store>,
        heads: &mut Heads,
        counts: &mut Counts,
    ) -> Result<News, Problem> {
        let mut news = News::default();
        running.progress().next("what streams got since", all.len(), "streams");
        for (at, (named, store)) in all.iter().enumerate() {
            running.progress().did(at.min(1) as u64);
            let Some(known) = heads.of(named) else { continue };
            let since = since(store.fsck(), named.clone(), known.checked).await?;
            counts.bytes += since.bytes;
            if !since.findings.is_empty() {
                say(running, named, &since.findings).await?;
                news.broken.insert(named.clone());
            } else if since.is_partial {
                news.must.insert(named.clone());
            } else if since.checked != known.checked {
                counts.moved += 1;
                counts.entries += since.entries;
                heads.put(named.clone(), Known { checked: since.checked, ..known });
            }
        }
        Ok(news)
    }

    /// Checks whole streams while there are bytes left to read; answers how many were never checked and wait.
    async fn check_whole(
        &self,
        running: &Running,
        all: &BTreeMap<Named, &Store>,
        (heads, must): (&mut Heads, BTreeSet<Named>),
        counts: &mut Counts,
    ) -> Result<u64, Problem> {
        let mut turns: Vec<(bool, i64, &Named)> = all
            .keys()
            .map(|named| (!must.contains(named), heads.of(named).map_or(i64::MIN, |known| known.whole_at), named))
            .collect();
        turns.sort();
        let (mut left, mut waiting, mut has_read) = (self.bytes, 0, false);
        running.progress().next("whole streams", turns.len(), "streams");
        for (at, (may_wait, whole_at, named)) in turns.iter().enumerate() {
            running.progress().did(at.min(1) as u64);
            if *may_wait && has_read && left == 0 {
                waiting += u64::from(*whole_at == i64::MIN);
                continue;
            }
            let now = self.door.now();
            let report = whole(all[*named].fsck(), (*named).clone()).await?;
            let faults: Vec<Finding> = report.findings.iter().filter(|finding| finding.is_fault).cloned().collect();
            counts.bytes += report.bytes;
            if !faults.is_empty() {
                // It comes first again, and takes nothing from the others.
                say(running, named, &faults).await?;
                continue;
            }
            left = left.saturating_sub(report.bytes);
            has_read |= report.bytes > 0;
            // What cannot be read, since its keys are gone, gives no head to go on from.
            counts.unread += report.unread;
            let Some(last) = report.last.filter(|_| report.unread == 0) else { continue };
            counts.whole += 1;
            counts.whole_entries += report.head.size - report.gone;
            let (size, root, commits) = (report.head.size, report.head.root, report.commits);
            // Since the head that was kept it only grew: that was found out before.
            heads.put((*named).clone(), Known { checked: Checked { size, root, commits, last }, whole_at: now });
        }
        Ok(waiting)
    }
}

/// What a stream got since then. What was merged and deleted while it was looked at is looked for once more.
async fn since(fsck: Fsck, (tenant, kind): Named, before: Checked) -> Result<Since, Problem> {
    aside(async move {
        let found = fsck.since(&tenant, kind, &before, &mut |_| {}).await?;
        if found.findings.is_empty() { Ok(found) } else { fsck.since(&tenant, kind, &before, &mut |_| {}).await }
    })
    .await
}

/// A whole stream, likewise.
async fn whole(fsck: Fsck, (tenant, kind): Named) -> Result<StreamReport, Problem> {
    aside(async move {
        let found = fsck.stream(&tenant, kind, &mut |_| {}).await?;
        let is_sound = found.findings.iter().all(|finding| !finding.is_fault);
        if is_sound { Ok(found) } else { fsck.stream(&tenant, kind, &mut |_| {}).await }
    })
    .await
}

/// Recomputing leaves takes a core for a while: not one of the threads that answer others. It only reads, so that nothing is
/// left behind when the job is dropped meanwhile.
async fn aside<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, Problem> {
    let runtime = tokio::runtime::Handle::current();
    let done = tokio::task::spawn_blocking(move || runtime.block_on(work)).await;
    Ok(done.map_err(|_| Problem::new(ProblemKind::Internal, "a check of a stream broke off; it was logged"))??)
}

/// Somebody changed or took away what was checked: everything is checked anew, and what was rolled back meanwhile is not
/// found by this.
async fn lost(running: &Running) -> Result<Heads, Problem> {
    let what =
        "what was kept of the last verification is not there any more, or was changed: all streams are checked anew";
    let advice =
        "compare with heads that were kept elsewhere (`piperoll verify --heads`), and find out who could write here";
    running.found(Found { what: what.into(), advice: advice.into(), ..Found::default() }).await?;
    Ok(Heads::default())
}

async fn say(running: &Running, (tenant, stream): &Named, faults: &[Finding]) -> Result<(), Problem> {
    for Finding { object, entries, what, advice, .. } in faults {
        let found = Found {
            tenant: Some(tenant.clone()),
            stream: Some(*stream),
            object: Some(object.clone()),
            entries: *entries,
            what: what.clone(),
            advice: (*advice).into(),
        };
        running.found(found).await?;
    }
    Ok(())
}

impl Job for Verification {
    fn name(&self) -> &'static str {
        "verify"
    }

    fn what(&self) -> &'static str {
        "verifies what each stream got since it was checked last, and reads a share of the rest again"
    }

    fn schedule(&self) -> Option<&'static str> {
        Some("30 1 * * *")
    }

    fn run<'j>(&'j self, running: &'j Running) -> Work<'j> {
        Box::pin(self.verify(running))
    }
}
