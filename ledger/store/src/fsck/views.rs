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
        let (mut shown, from) = match marks.at_checkpoints.last_key_value() {
            Some((version, live)) => (self.checkpoint(prefix, *version, live, findings).await, version + 1),
            None => (BTreeSet::new(), 0),
        };
        for version in from..chain.commits() {
            let path = prefix.delta(version);
            let Ok(bytes) = segment::fetch(&self.objects, &path).await else {
                findings.push(note(&path, "the delta view lacks this version", REBUILD));
                return Ok(());
            };
            let text = String::from_utf8_lossy(&bytes);
            let commit = marks.commits[version as usize].commit();
            if !delta::is_entry_of(&text, commit) {
                let what = format!("the delta view shows something else here than commit {version} says");
                findings.push(note(&path, what, REBUILD));
            }
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

    /// What the newest checkpoint shows; what it should show when it is itself damaged.
    async fn checkpoint(
        &self,
        prefix: &StreamPrefix,
        version: u64,
        live: &BTreeSet<String>,
        findings: &mut Vec<Finding>,
    ) -> BTreeSet<String> {
        let (path, named) = (prefix.delta_checkpoint(version), prefix.delta_newest());
        let wrong = match segment::fetch(&self.objects, &path).await {
            Ok(bytes) => match delta::live_in_checkpoint(&path, bytes.clone()) {
                Ok((shown, _)) if shown != *live => {
                    let what = "this checkpoint of the delta view does not show the segments that the commits name";
                    findings.push(fault(&path, what));
                    return shown;
                }
                Ok((_, actions)) => match segment::fetch(&self.objects, &named).await {
                    Ok(newest) if newest == delta::newest_text(version, actions, &bytes, live.len()) => {
                        return live.clone();
                    }
                    Ok(_) => (named, "it names another checkpoint than the newest one, or that one was changed"),
                    Err(_) => (named, "it is missing, and a checkpoint is there"),
                },
                Err(_) => (path, "the checkpoint of the delta view cannot be read"),
            },
            Err(_) => (path, "the checkpoint of the delta view cannot be read"),
        };
        findings.push(note(&wrong.0, wrong.1, REBUILD));
        live.clone()
    }
}
