//! Objects of a stream that no commit names, and segments that a commit removed and that are still there.
//!
//! Not here: the chain that names the others ([`super::chain`]). Invariant: neither is a fault.

use super::chain::Marks;
use super::{Finding, Fsck, note};
use crate::error::StoreError;
use crate::layout::StreamPrefix;
use futures::TryStreamExt;
use ledger::tile::{Tile, TileKind};
use ledger::verify::LiveSegment;
use std::collections::BTreeSet;

impl Fsck {
    /// Objects that nothing names: what a stopped writer left behind, or what somebody put there. And segments that
    /// a commit removed, which stay for a while.
    pub(super) async fn strangers(
        &self,
        prefix: &StreamPrefix,
        live: &[LiveSegment],
        (marks, kept): (&Marks, Option<&str>),
        findings: &mut Vec<Finding>,
    ) -> Result<(), StoreError> {
        let named: BTreeSet<&str> = live.iter().map(|held| held.segment.path.as_str()).collect();
        let is_sound = findings.iter().all(|finding| !finding.is_fault);
        let listed = self.objects.list(Some(prefix.path())).try_collect::<Vec<_>>().await;
        let mut removed = Vec::new();
        for meta in listed.map_err(StoreError::objects(prefix.path()))? {
            let Some(relative) = prefix.relative(&meta.location) else { continue };
            let ours = match relative.split_once('/') {
                // Commits that a service makes while this runs are newer than what was walked.
                Some(("_ledger", rest)) if rest.starts_with("commits/") => marks.is_commit(prefix, &meta.location),
                Some(("_ledger", "snapshot" | "fold")) => true,
                // What older purges kept goes with their files.
                Some(("_ledger", rest)) if rest.starts_with("gone/") => {
                    is_gone_name(rest) && kept.is_some_and(|newest| relative <= newest)
                }
                Some(("_ledger", rest)) => Tile::parse(rest).is_some_and(|tile| tile.kind != TileKind::Entries),
                Some(("_delta_log", _)) => true,
                _ if marks.removed.contains(relative) => {
                    removed.push((meta.location.clone(), meta.size));
                    true
                }
                _ => named.contains(relative) || !is_sound,
            };
            if !ours {
                let advice = "a stopped writer leaves such, and the service removes it after a start, once it has \
                              sealed this stream; otherwise find out who put it there";
                findings.push(note(&meta.location, "no commit names this object", advice));
            }
        }
        if let Some((first, _)) = removed.first() {
            let bytes: u64 = removed.iter().map(|(_, size)| size).sum();
            let what = format!(
                "{} segment files ({bytes} bytes) were merged into others or purged and are still here, this one first",
                removed.len()
            );
            let advice = "as it should be: the service deletes them when their time of grace is over";
            findings.push(note(first, what, advice));
        }
        Ok(())
    }
}

/// Whether a path below `_ledger` is named as what a purge keeps: `gone/<20 digits>-<epoch>`.
fn is_gone_name(rest: &str) -> bool {
    let named = rest.strip_prefix("gone/").and_then(|name| name.split_once('-'));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    named.is_some_and(|(commit, epoch)| commit.len() == 20 && digits(commit) && digits(epoch))
}
