//! What a stream got since it was found sound: commits, and leaves of new entries, against a head that was kept.
//!
//! The commit that was the last then must be the very one that is there now; those after it must follow it; what new segments
//! hold of new entries, laid onto the tree of that commit, must give the heads that the new ones signed. What lies below
//! was checked then, and is read again only by a check of the whole stream ([`Fsck::stream`]).
//!
//! Invariant: a stream that was rolled back behind what was kept, or replaced, is a fault, whoever signed what is there now.

use super::kept::{REPLACED, ROLLED_BACK};
use super::{Finding, Fsck, describe, fault};
use crate::columns::Rows;
use crate::commits::{Reader, Stored};
use crate::error::StoreError;
use crate::keys::ContentKeys;
use crate::layout::StreamPrefix;
use crate::segment;
use bytes::Bytes;
use ledger::commit::{SegmentRef, SignedCommit};
use ledger::key::VerifierKey;
use ledger::name::{Origin, StreamKind, TenantId};
use ledger::tree::{Edge, Hash};
use ledger::verify::ChainVerifier;
use object_store::path::Path;
use std::collections::BTreeMap;

/// How far a stream was found sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// How many entries its commits held.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// How many commits.
    pub commits: u64,
    /// SHA-256 of the last.
    pub last: Hash,
}

/// What was found of a stream since then.
#[derive(Debug, Clone)]
pub struct Since {
    /// How far it is sound now; as far as before, when something is not.
    pub checked: Checked,
    /// New entries whose leaves were recomputed.
    pub entries: u64,
    /// Bytes of segments that were read.
    pub bytes: u64,
    /// What does not hold.
    pub findings: Vec<Finding>,
    /// Whether new entries were purged already, so that only a check of the whole stream tells.
    pub is_partial: bool,
}

/// A segment that holds new entries, and the commit that added it.
type Fresh = (SegmentRef, u64);

/// What new commits leave.
struct News {
    /// The tree at the commit that was the last before.
    edge: Edge,
    /// The chain at the last that holds.
    chain: ChainVerifier,
    /// Segments that hold new entries, by their first.
    fresh: BTreeMap<u64, Fresh>,
    /// Roots that new commits signed, by size, with the commit.
    heads: BTreeMap<u64, (Hash, u64)>,
    is_partial: bool,
}

impl Fsck {
    /// Checks what a stream got since `before`; `progress` is told of entries as they are recomputed.
    ///
    /// # Errors
    /// The stream's folder cannot be listed. Objects that cannot be read are findings.
    pub async fn since(
        &self,
        tenant: &TenantId,
        kind: StreamKind,
        before: &Checked,
        progress: &mut impl FnMut(u64),
    ) -> Result<Since, StoreError> {
        let prefix = StreamPrefix::new(tenant, kind);
        let mut since = Since { checked: *before, entries: 0, bytes: 0, findings: vec![], is_partial: false };
        let news = match self.news(&prefix, (tenant, kind), before).await? {
            Ok(news) => news,
            Err(finding) => {
                since.findings.push(finding);
                return Ok(since);
            }
        };
        since.is_partial = news.is_partial;
        let mut edge = news.edge.clone();
        for (reference, added_by) in news.fresh.values().filter(|_| !news.is_partial) {
            let path = prefix.below(&reference.path);
            let laid = match segment::fetch(&self.objects, &path).await {
                Ok(bytes) => {
                    let of = (&path, reference, *added_by);
                    lay(&self.content, of, bytes, (tenant, kind), &mut edge, &news.heads, progress)
                }
                Err(_) => Err("the segment is missing or cannot be read".into()),
            };
            // Its key is not to be had: a check of the whole stream says so.
            if laid == Ok(false) {
                since.is_partial = true;
                return Ok(since);
            }
            if let Err(what) = laid {
                let entries = Some((reference.first, reference.end() - 1));
                let sound = format!("the {} entries that were checked before", before.size);
                since.findings.push(Finding { entries, sound, ..fault(&path, what) });
                return Ok(since);
            }
            since.bytes += reference.bytes;
        }
        let head = news.chain.edge();
        if !news.is_partial && (edge.size() != head.size() || edge.root() != head.root()) {
            let what = format!(
                "no segment holds the entry {}, and commit {} signed a head of {} entries",
                edge.size(),
                news.chain.commits() - 1,
                head.size()
            );
            let entries = Some((edge.size(), head.size().saturating_sub(1)));
            since.findings.push(Finding { entries, ..fault(prefix.path(), what) });
            return Ok(since);
        }
        if let (false, Some(last)) = (news.is_partial, news.chain.last_hash()) {
            since.entries = head.size() - before.size;
            since.checked = Checked { size: head.size(), root: head.root(), commits: news.chain.commits(), last };
        }
        Ok(since)
    }

    /// The commits from the last that was checked on.
    async fn news(
        &self,
        prefix: &StreamPrefix,
        (tenant, kind): (&TenantId, StreamKind),
        before: &Checked,
    ) -> Result<Result<News, Finding>, StoreError> {
        let Some(known) = before.commits.checked_sub(1) else {
            return Ok(Err(fault(prefix.path(), "nothing of it was checked before")));
        };
        let stored = Stored::list(&self.objects, prefix, known).await?;
        let mut reader = Reader::new(&self.objects, prefix, &stored);
        let place = reader.place(known);
        let Ok(bytes) = reader.read(known).await else {
            let what = format!(
                "commit {known} is missing or cannot be read: it was the last of {} entries when the stream was checked",
                before.size
            );
            let entries = Some((0, before.size.saturating_sub(1)));
            return Ok(Err(Finding { entries, advice: ROLLED_BACK, ..fault(&place, what) }));
        };
        let first = Origin::stream(&self.ledger, tenant, kind, 0);
        let (signed, trusted) = match self.opened(&bytes, &first) {
            Ok(opened) if opened.0.hash() == before.last && opened.0.commit().edge.root() == before.root => opened,
            Ok(_) => {
                let what = format!("commit {known} is signed, and is not the one that was there when it was checked");
                let entries = Some((0, before.size.saturating_sub(1)));
                return Ok(Err(Finding { entries, advice: REPLACED, ..fault(&place, what) }));
            }
            Err(what) => return Ok(Err(fault(&place, what))),
        };
        let edge = signed.commit().edge.clone();
        let chain = ChainVerifier::follow(trusted, &signed);
        let (fresh, heads) = Default::default();
        let mut news = News { edge, chain, fresh, heads, is_partial: false };
        for number in before.commits..stored.end() {
            let place = reader.place(number);
            let Ok(bytes) = reader.read(number).await else {
                let what = format!("commit {number} is missing or cannot be read, and there are later ones");
                return Ok(Err(fault(&place, what)));
            };
            match news.chain.commit(&bytes) {
                Ok(signed) => news.take(&signed),
                Err(found) => return Ok(Err(fault(&place, describe(&found)).newer_if(found.is_newer()))),
            }
        }
        Ok(Ok(news))
    }

    /// A commit of a stream, signed by one of the ledger's keys under the origin that it states, and those keys.
    fn opened(&self, bytes: &Bytes, first: &Origin) -> Result<(SignedCommit, Vec<VerifierKey>), String> {
        let stated = SignedCommit::stated_origin(bytes).filter(|origin| origin.is_same_log(first));
        let origin = stated.ok_or("it is no commit of this stream")?;
        let trusted: Vec<VerifierKey> = self.keys.iter().map(|key| key.under(origin.as_str())).collect();
        let signed = SignedCommit::open(bytes, &trusted).map_err(|error| describe(&error))?;
        Ok((signed, trusted))
    }
}

impl News {
    fn take(&mut self, signed: &SignedCommit) {
        let commit = signed.commit();
        let known = self.edge.size();
        let purged: Vec<&String> = commit
            .erasure
            .iter()
            .filter(|erasure| erasure.gone().is_some())
            .flat_map(|erasure| &erasure.removes)
            .collect();
        self.is_partial |= self.fresh.values().any(|(reference, _)| purged.contains(&&reference.path));
        self.fresh.retain(|_, (reference, _)| !commit.removed().any(|path| *path == reference.path));
        for reference in commit.adds.iter().filter(|reference| reference.end() > known) {
            self.is_partial |= !reference.is_whole();
            self.fresh.insert(reference.first, (reference.clone(), commit.number));
        }
        self.heads.entry(commit.edge.size()).or_insert((commit.edge.root(), commit.number));
    }
}

/// Recomputes a segment, and lays what is new of it onto the tree; what is wrong otherwise. Answers whether it could be
/// read.
fn lay(
    keys: &ContentKeys,
    (path, reference, added_by): (&Path, &SegmentRef, u64),
    bytes: Bytes,
    (tenant, kind): (&TenantId, StreamKind),
    edge: &mut Edge,
    heads: &BTreeMap<u64, (Hash, u64)>,
    progress: &mut impl FnMut(u64),
) -> Result<bool, String> {
    let is_as_committed = bytes.len() as u64 == reference.bytes && Hash::of(&bytes) == reference.sha256;
    let (mut own, mut scratch, mut wrong) = (Edge::default(), Vec::new(), None);
    let mut next = reference.first;
    let read = segment::read_all(keys, path, bytes, |batch| {
        let rows = Rows::of(batch)?;
        for row in 0..rows.len() {
            let seq = rows.seq(row);
            if seq != next || !rows.is_of(row, tenant.as_str(), kind.as_str()) {
                let why = "its rows are not those that its commit names";
                return Err(StoreError::Damaged { path: path.to_string(), why });
            }
            next += 1;
            let leaf = rows.leaf(row, &mut scratch)?;
            own.push(leaf);
            if seq == edge.size() && wrong.is_none() {
                edge.push(leaf);
                let head = heads.get(&edge.size()).filter(|(root, _)| *root != edge.root());
                wrong = head.map(|(_, number)| (edge.size(), *number));
            }
        }
        progress(rows.len() as u64);
        Ok(())
    });
    let differs = format!("the file differs from what commit {added_by} recorded");
    match read {
        Err(StoreError::Key(_)) if is_as_committed => return Ok(false),
        Err(error) if is_as_committed => return Err(describe(&error)),
        Err(error) => return Err(format!("{differs} and cannot be read: {}", describe(&error))),
        Ok(()) if own.size() != reference.rows || own.root() != reference.root => {
            return Err(format!("its entries do not give the root that commit {added_by} recorded"));
        }
        Ok(()) if !is_as_committed => return Err(format!("{differs}, though its entries are unchanged")),
        Ok(()) => {}
    }
    wrong.map_or(Ok(true), |(size, number)| {
        Err(format!("the first {size} entries do not give the root that commit {number} signed"))
    })
}
