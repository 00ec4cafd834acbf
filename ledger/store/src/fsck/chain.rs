//! The chain of a stream, commit by commit, loose or packed, and the snapshot that must say what it comes to.
//!
//! Not here: leaves ([`super::tree`]), the view for other engines ([`super::views`]). Invariant: no commit is taken
//! from a pack or an object that does not hold it under its own number.

use super::{Finding, Fsck, describe, fault, note};
use crate::commits::{Reader, Stored, read_pack};
use crate::error::StoreError;
use crate::layout::{self, StreamPrefix};
use crate::segment;
use crate::snapshot::ChainSnapshot;
use futures::TryStreamExt;
use ledger::commit::SignedCommit;
use ledger::key::VerifierKey;
use ledger::verify::ChainVerifier;
use object_store::ObjectStore;
use object_store::path::Path;
use std::collections::{BTreeMap, BTreeSet};

/// What is remembered of a chain on the way.
#[derive(Default)]
pub(super) struct Marks {
    /// The commits that stand, by number.
    pub commits: Vec<SignedCommit>,
    /// Paths of segments that commits removed.
    pub removed: BTreeSet<String>,
    /// The paths that were live at each version that the view has a checkpoint of.
    pub at_checkpoints: BTreeMap<u64, BTreeSet<String>>,
    /// First and last commit of packs that do not hold.
    broken_packs: Vec<(u64, u64)>,
}

impl Marks {
    /// Whether this is the object of a commit or pack: one that was walked, or newer than the walk.
    pub(super) fn is_commit(&self, prefix: &StreamPrefix, path: &Path) -> bool {
        if let Some((first, last)) = layout::pack_range(path) {
            return prefix.pack(first, last) == *path;
        }
        layout::number_of(path).is_some_and(|number| prefix.commit(number) == *path)
    }
}

const SNAPSHOT: &str = "a cache only: delete it, and the service writes it anew";

impl Fsck {
    /// Walks the chain from commit 0 on, as far as it holds.
    pub(super) async fn chain(
        &self,
        prefix: &StreamPrefix,
        chain: &mut ChainVerifier,
        findings: &mut Vec<Finding>,
    ) -> Result<Marks, StoreError> {
        // First what claims to be ahead, then the commits, so that a service at work is not called wrong.
        let snapshot = segment::fetch(&self.objects, &prefix.snapshot()).await.ok();
        let snapshot = snapshot.and_then(|bytes| self.snapshot(prefix, chain, &bytes, findings));
        let folder = prefix.views();
        let views: Vec<_> =
            self.objects.list(Some(&folder)).try_collect().await.map_err(StoreError::objects(&folder))?;
        let wanted: BTreeSet<u64> = views.iter().filter_map(|meta| prefix.checkpoint_version(&meta.location)).collect();
        let mut marks = Marks::default();
        let stored = self.stored(prefix, &mut marks, findings).await?;
        let mut reader = Reader::new(&self.objects, prefix, &stored);
        let faults = findings.len();
        for number in 0..stored.end() {
            // That a pack does not hold was said; that its commits are missing is the same once more.
            let is_lost = |(first, last): &(u64, u64)| (first..=last).contains(&&number);
            if stored.pack_of(number).is_none() && marks.broken_packs.iter().any(is_lost) {
                break;
            }
            let Some(bytes) = self.commit(prefix, &stored, &mut reader, number, findings).await else { break };
            match chain.commit(&bytes) {
                Ok(signed) => {
                    marks.removed.extend(signed.commit().removed().cloned());
                    marks.commits.push(signed);
                }
                Err(fault_found) => {
                    let found = broken(chain, &reader.place(number), describe(&fault_found));
                    findings.push(found.newer_if(fault_found.is_newer()));
                    break;
                }
            }
            if wanted.contains(&number) {
                let live = chain.live().map(|held| held.segment.path.clone()).collect();
                marks.at_checkpoints.insert(number, live);
            }
            if let Some(snapshot) = snapshot.as_ref().filter(|snapshot| snapshot.chain.commits == number + 1)
                && (snapshot.chain != chain.state() || snapshot.packed > number + 1)
            {
                let what = "it is signed, and says something else than the commits that it covers";
                let advice =
                    "delete it, keep a copy, and ask who holds the ledger's key: no program of ours writes such";
                findings.push(Finding { advice, ..fault(&prefix.snapshot(), what) });
            }
        }
        let is_whole = findings.len() == faults && marks.broken_packs.is_empty();
        if let Some(ahead) = snapshot.filter(|snapshot| snapshot.chain.commits > chain.commits() && is_whole) {
            let (commits, size) = (ahead.chain.commits, ahead.chain.edge.size());
            let what = format!(
                "the commit is missing: the snapshot beside it was signed over {commits} commits with {size} entries"
            );
            let advice = "restore commits and segments from a copy; if they are nowhere, the stream was rolled back";
            let entries = (chain.edge().size() < size).then(|| (chain.edge().size(), size - 1));
            let path = prefix.commit(chain.commits());
            findings.push(Finding { advice, entries, sound: sound(chain), ..fault(&path, what) });
        }
        Ok(marks)
    }

    fn snapshot(
        &self,
        prefix: &StreamPrefix,
        chain: &ChainVerifier,
        bytes: &[u8],
        findings: &mut Vec<Finding>,
    ) -> Option<ChainSnapshot> {
        let trusted: Vec<VerifierKey> = self.keys.iter().map(|key| key.under(chain.origin())).collect();
        match ChainSnapshot::open(bytes, &trusted) {
            Ok(snapshot) => Some(snapshot),
            Err(why) => {
                let what = format!("the snapshot of the chain cannot be used: {why}");
                let sound = "commits and segments do not depend on it".into();
                findings.push(Finding { sound, ..note(&prefix.snapshot(), what, SNAPSHOT) });
                None
            }
        }
    }

    /// The listing, without packs that do not hold what their names say.
    async fn stored(
        &self,
        prefix: &StreamPrefix,
        marks: &mut Marks,
        findings: &mut Vec<Finding>,
    ) -> Result<Stored, StoreError> {
        let mut stored = Stored::list(&self.objects, prefix, 0).await?;
        let mut kept: Vec<(u64, u64)> = Vec::new();
        for (first, last) in std::mem::take(&mut stored.packs) {
            let path = prefix.pack(first, last);
            let wrong = match read_pack(&self.objects, prefix, first, last).await {
                Err(error) => {
                    Some(format!("the pack of commits {first} to {last} does not hold: {}", describe(&error)))
                }
                Ok(_) if kept.last().is_some_and(|(_, before)| first <= *before) => {
                    Some(format!("another pack holds commit {first} already"))
                }
                Ok(_) => None,
            };
            match wrong {
                None => kept.push((first, last)),
                Some(what) => {
                    marks.broken_packs.push((first, last));
                    let sound = format!("commits below {first} do not depend on it");
                    findings.push(Finding { sound, ..fault(&path, what) });
                }
            }
        }
        stored.packs = kept;
        Ok(stored)
    }

    /// The bytes of a commit; none, with findings, when the chain ends here before its time.
    async fn commit(
        &self,
        prefix: &StreamPrefix,
        stored: &Stored,
        reader: &mut Reader<'_>,
        number: u64,
        findings: &mut Vec<Finding>,
    ) -> Option<bytes::Bytes> {
        let is_loose = stored.loose.binary_search(&number).is_ok();
        let packed = stored.pack_of(number);
        if !is_loose && packed.is_none() {
            return self.gap(prefix, stored, number, findings).await;
        }
        let path = reader.place(number);
        let bytes = match reader.read(number).await {
            Ok(bytes) => bytes,
            Err(error) => {
                findings.push(fault(&path, format!("commit {number} cannot be read: {}", describe(&error))));
                return None;
            }
        };
        if is_loose && packed.is_some() {
            let loose = prefix.commit(number);
            if segment::fetch(&self.objects, &loose).await.is_ok_and(|other| other != bytes) {
                let what = format!("commit {number} is in a pack too, with other bytes: one of the two was changed");
                let advice =
                    "the one that the chain is checked with is the pack's; put this object aside and check again";
                findings.push(Finding { advice, ..fault(&loose, what) });
            }
        }
        Some(bytes)
    }

    /// A number without a commit below others: it is missing, or the others are copies that belong elsewhere.
    async fn gap(
        &self,
        prefix: &StreamPrefix,
        stored: &Stored,
        number: u64,
        findings: &mut Vec<Finding>,
    ) -> Option<bytes::Bytes> {
        let mut is_missing = stored.packs.iter().any(|(first, _)| *first > number);
        for later in stored.loose.iter().filter(|later| **later > number) {
            let path = prefix.commit(*later);
            let claims = segment::fetch(&self.objects, &path).await.ok().and_then(|bytes| number_within(&bytes));
            match claims.filter(|claims| claims != later) {
                Some(claims) => {
                    let what =
                        format!("it holds commit {claims}, not {later}: a copy under a number that is not its own");
                    findings.push(Finding { advice: "put this object aside and check again", ..fault(&path, what) });
                }
                None => is_missing = true,
            }
        }
        if is_missing {
            let packs = stored.packs.iter().map(|(first, _)| *first);
            let next = packs.chain(stored.loose.iter().copied()).filter(|later| *later > number).min();
            let sound = format!("commits below {number} hold; none after it is proven until it is restored");
            let (path, what) = match next.map(|next| next - 1).filter(|last| *last > number) {
                // Where several are missing, it is their pack.
                Some(last) => (
                    prefix.pack(number, last),
                    format!("commits {number} to {last} are missing, and later ones are there"),
                ),
                None => (prefix.commit(number), format!("commit {number} is missing, and later ones are there")),
            };
            findings.push(Finding { sound, ..fault(&path, what) });
        }
        None
    }
}

/// The number that a commit's own text gives, signed or not.
fn number_within(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.lines().nth(2)?.strip_prefix("number ")?.parse().ok()
}

fn broken(chain: &ChainVerifier, path: &Path, what: String) -> Finding {
    Finding { sound: sound(chain), ..fault(path, what) }
}

/// What of a chain stands before its first fault.
fn sound(chain: &ChainVerifier) -> String {
    match (chain.commits(), chain.edge().size()) {
        (0, _) => "nothing of this stream is proven".into(),
        (commits, size) => {
            format!(
                "the {commits} commits before it hold: entries 0 to {} are as they were signed",
                size.saturating_sub(1)
            )
        }
    }
}
