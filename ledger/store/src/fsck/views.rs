//! The Delta view of a stream: it must show what the commits name, from its newest checkpoint on.
//!
//! Not here: writing it ([`crate::delta`]). Invariant: a view is never taken for the truth; what it shows besides is
//! a finding.

use super::chain::Marks;
use super::{Finding, Fsck, REBUILD, fault, note};
use crate::delta;
use crate::error::StoreError;
use crate::layout::{self, StreamPrefix};
use crate::segment;
use futures::TryStreamExt;
use ledger::verify::ChainVerifier;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::Value;
use std::collections::BTreeSet;

impl Fsck {
    pub(super) async fn views(
        &self,
        prefix: &StreamPrefix,
        chain: &ChainVerifier,
        marks: &Marks,
        findings: &mut Vec<Finding>,
    ) -> Result<(), StoreError> {
        let folder = prefix.views();
        let listed: Vec<_> =
            self.objects.list(Some(&folder)).try_collect().await.map_err(StoreError::objects(&folder))?;
        let version = |path| layout::number_of(path).filter(|number| prefix.delta(*number) == *path);
        let versions: BTreeSet<u64> = listed.iter().filter_map(|meta| version(&meta.location)).collect();
        if let Some(ahead) = versions.iter().find(|version| **version >= chain.commits()) {
            // The commit comes first: a view without it means that the commit went, or that another engine
            // wrote here. A service that runs meanwhile has both.
            let path = prefix.commit(*ahead);
            if matches!(self.objects.head(&path).await, Err(object_store::Error::NotFound { .. })) {
                findings.push(fault(&path, "the commit is missing, and the delta view shows it"));
            }
        }
        let path = prefix.delta_newest();
        let newest = segment::fetch(&self.objects, &path).await.unwrap_or_default();
        let named = serde_json::from_slice::<Value>(&newest).unwrap_or_default();
        // A checkpoint that a stopped writer did not come to name is nobody's.
        let marked = |version: &Value| marks.at_checkpoints.get_key_value(&version.as_u64()?);
        let (mut shown, from) = match marked(&named["version"]).or(marks.at_checkpoints.last_key_value()) {
            Some((version, live)) => {
                let before = marked(&named["piperollBefore"]["version"]);
                (self.checkpoint(prefix, (*version, live), before, &newest, findings).await, version + 1)
            }
            None => (BTreeSet::new(), 0),
        };
        for version in versions.iter().copied().filter(|version| *version < from) {
            // Still there for readers that had begun.
            let bytes = segment::fetch(&self.objects, &prefix.delta(version)).await.unwrap_or_default();
            self.entry(prefix, marks, version, &bytes, findings);
        }
        for version in from..chain.commits() {
            let path = prefix.delta(version);
            let Ok(bytes) = segment::fetch(&self.objects, &path).await else {
                findings.push(note(&path, "the delta view lacks this version", REBUILD));
                return Ok(());
            };
            let text = String::from_utf8_lossy(&bytes);
            self.entry(prefix, marks, version, &bytes, findings);
            for line in text.lines() {
                let value: Value = serde_json::from_str(line).unwrap_or_default();
                if let Some(path) = value["add"]["path"].as_str() {
                    shown.insert(path.to_string());
                }
                if let Some(path) = value["remove"]["path"].as_str() {
                    shown.remove(path);
                }
            }
        }
        let live: BTreeSet<String> = chain.live().map(|held| held.segment.path.clone()).collect();
        if live != shown {
            let what = "the delta view does not show the segments that the commits name";
            let advice = "other engines see something else than the ledger: stop the service, delete _delta_log, and \
                          start it to have it written anew";
            findings.push(Finding { advice, ..fault(&prefix.views(), what) });
        }
        Ok(())
    }

    /// An entry of the view must say what its commit says.
    fn entry(&self, prefix: &StreamPrefix, marks: &Marks, version: u64, bytes: &[u8], findings: &mut Vec<Finding>) {
        let commit = usize::try_from(version).ok().and_then(|version| marks.commits.get(version));
        let text = String::from_utf8_lossy(bytes);
        if commit.is_some_and(|signed| !delta::is_entry_of(&text, signed.commit())) {
            let what = format!("the delta view shows something else here than commit {version} says");
            findings.push(note(&prefix.delta(version), what, REBUILD));
        }
    }

    /// What the newest checkpoint shows; what it should show when it is itself damaged. The one before it is still
    /// there for readers that had begun.
    async fn checkpoint(
        &self,
        prefix: &StreamPrefix,
        (version, live): (u64, &BTreeSet<String>),
        older: Option<(&u64, &BTreeSet<String>)>,
        newest: &[u8],
        findings: &mut Vec<Finding>,
    ) -> BTreeSet<String> {
        let unreadable = "the checkpoint of the delta view cannot be read";
        let path = prefix.delta_newest();
        let named: Value = serde_json::from_slice(newest).unwrap_or_default();
        let mut before = None;
        if let Some((older, live)) = older {
            let path = prefix.delta_checkpoint(*older);
            let bytes = segment::fetch(&self.objects, &path).await.unwrap_or_default();
            let shown = delta::live_in_checkpoint(&path, bytes.clone());
            let is_named = named["piperollBefore"]["sha256"] == ledger::Hash::of(&bytes).to_base64();
            if !is_named || !shown.is_ok_and(|(shown, _)| shown == *live) {
                findings.push(note(&path, "an older checkpoint of the delta view is not as it was written", REBUILD));
            }
            before = Some((*older, bytes));
        }
        let checkpoint = prefix.delta_checkpoint(version);
        let Ok(bytes) = segment::fetch(&self.objects, &checkpoint).await else {
            findings.push(note(&checkpoint, unreadable, REBUILD));
            return live.clone();
        };
        let Ok((shown, actions)) = delta::live_in_checkpoint(&checkpoint, bytes.clone()) else {
            findings.push(note(&checkpoint, unreadable, REBUILD));
            return live.clone();
        };
        if shown != *live {
            let what = "this checkpoint of the delta view does not show the segments that the commits name";
            findings.push(Finding { advice: REBUILD, ..fault(&checkpoint, what) });
        } else if named["piperollSha256"] != ledger::Hash::of(&bytes).to_base64() {
            let what = "this checkpoint of the delta view is not the one that was named when it was written";
            findings.push(note(&checkpoint, what, REBUILD));
        }
        let before = before.as_ref().map(|(version, bytes)| (*version, &bytes[..]));
        if newest != delta::newest_text(version, actions, &bytes, live.len(), before).as_bytes() {
            findings.push(note(&path, "it does not name the newest checkpoint as it is", REBUILD));
        }
        shown
    }
}
