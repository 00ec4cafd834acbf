//! Declared breaks of a stream, in a person's words, and the kept heads that they end.
//!
//! Not here: what a break is (`ledger::verify`). Invariant: a break is never called a fault, and never passed over.

use super::{Finding, Fsck, StreamPrefix, note};
use ledger::name::Origin;
use ledger::tree::Hash;
use ledger::verify::{Break, ChainVerifier};
use std::collections::BTreeMap;

const DECLARED: &str = "nothing to mend: ask whoever runs the service when and why its log was declared lost; keep the \
     receipts that reach further, they prove what had been acknowledged";

/// The kept heads of a stream that it must still agree with.
#[derive(Default)]
pub(super) struct Surviving {
    /// Their roots, by size.
    pub heads: BTreeMap<u64, Hash>,
    /// The largest that was sealed when it was kept.
    pub were_sealed: u64,
}

impl Fsck {
    /// Names each break, and answers the kept heads that the stream must still agree with: all but those that reach
    /// beyond the end of a generation that was lost.
    pub(super) fn surviving(
        &self,
        prefix: &StreamPrefix,
        chain: &ChainVerifier,
        findings: &mut Vec<Finding>,
    ) -> Surviving {
        let note = |what: String| note(prefix.path(), what, DECLARED);
        findings.extend(chain.breaks().iter().map(|found| note(words(found))));
        let Ok(stream) = chain.origin().parse::<Origin>() else { return Surviving::default() };
        let mut kept = Surviving::default();
        let sealed = self.kept.iter().map(|head| (head, true));
        let all = sealed.chain(self.durable.iter().map(|head| (head, false)));
        for (head, was_sealed) in all.filter(|(head, _)| head.size > 0) {
            let Some(origin) = head.origin.parse::<Origin>().ok().filter(|origin| origin.is_same_log(&stream)) else {
                continue;
            };
            // The first break after the head's generation is where that generation ended.
            let ended = chain.breaks().iter().find(|found| origin.generation() < found.to.generation());
            match ended.filter(|found| head.size > found.size) {
                Some(found) => findings.push(note(format!(
                    "a head of {} entries was kept, of generation {}, which ended at {}: the entries from {} on were \
                     acknowledged and lost, as was declared",
                    head.size,
                    origin.generation(),
                    found.size,
                    found.size
                ))),
                None => {
                    kept.heads.insert(head.size, head.root);
                    kept.were_sealed = kept.were_sealed.max(if was_sealed { head.size } else { 0 });
                }
            }
        }
        kept
    }
}

fn words(found: &Break) -> String {
    format!(
        "a declared break, no fork: generation {} ended at {} entries with root {}, because its write-ahead log was \
         lost; generation {} goes on from there with commit {}; receipts of generation {} for entries from {} on are \
         lost",
        found.from.generation(),
        found.size,
        found.root,
        found.to.generation(),
        found.number,
        found.from.generation(),
        found.size
    )
}
