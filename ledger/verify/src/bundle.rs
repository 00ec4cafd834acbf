//! An evidence bundle, checked from its archive to the last leaf (FORMAT.md §16).
//!
//! First whose it is (`keys/`, manifest), then each member against the manifest, then each stream's tree. Not here: how it
//! is told ([`crate::command`]).
//!
//! Invariants: nothing is said to hold before all of it was read and compared; a bundle that no given key vouches for is
//! told from one that holds; a fault names the member, and the line or entry where there is one.

mod archive;
mod entries;
mod member;
mod stream;

pub use self::stream::Found;

use self::archive::{Archive, broken};
use self::stream::{Kept, form};
use crate::error::{Failure, VerifyError};
use crate::input;
use crate::trust::{self, Trust};
use ledger::bundle::manifest::{MANIFEST, ManifestError};
use ledger::bundle::{DOCUMENT_BYTES, Manifest, Member};
use ledger::checkpoint::Checkpoint;
use ledger::handover::{Handover, KEY_TAG};
use ledger::key::VerifierKey;
use ledger::note::{NOTE_BYTES, Note, NoteError};
use ledger::report::ReportNote;
use ledger::tree::Hash;
use std::collections::BTreeMap;
use std::io::Read;

/// What is checked.
pub const KIND: &str = "bundle";

/// What holds of a bundle.
#[derive(Debug)]
pub struct Held {
    /// What it says of itself.
    pub manifest: Manifest,
    /// The hash of its manifest: what the next bundle names as its previous.
    pub sha256: Hash,
    /// The keys that signed the manifest.
    pub signers: Vec<VerifierKey>,
    /// Whether one of the keys that were given vouches for it.
    pub is_trusted: bool,
    /// The keys by which it is believed.
    pub trust: Trust,
    /// Its streams.
    pub streams: Vec<Found>,
    /// Names and kinds of its reports.
    pub reports: Vec<(String, String)>,
    /// Heads that were given and that the bundle could not be compared with, and why not.
    pub uncompared: Vec<(String, u64, &'static str)>,
    /// Heads that were given and that are beginnings of its streams' trees, or those trees.
    pub compared: Vec<(String, u64)>,
}

/// The members that the manifest names, as they are asked for.
pub struct Parts<'m> {
    left: BTreeMap<&'m str, &'m Member>,
}

impl<'m> Parts<'m> {
    fn take(&mut self, name: &str) -> Result<&'m Member, VerifyError> {
        self.left.remove(name).ok_or_else(|| broken(name, "the manifest does not name it"))
    }

    /// All below a folder, ascending by name.
    fn below(&mut self, prefix: &str) -> Vec<&'m Member> {
        let names: Vec<&str> = self.left.keys().copied().filter(|name| name.starts_with(prefix)).collect();
        names.into_iter().filter_map(|name| self.left.remove(name)).collect()
    }

    /// Those with six digits between a prefix and a suffix, ascending.
    fn numbered(&mut self, prefix: &str, suffix: &str) -> Vec<&'m Member> {
        let is_one = |name: &&str| {
            let digits = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
            digits.is_some_and(|digits| digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_digit()))
        };
        let names: Vec<&str> = self.left.keys().copied().filter(is_one).collect();
        names.into_iter().filter_map(|name| self.left.remove(name)).collect()
    }
}

/// Checks a bundle. Without `given` keys it is checked by those that it brought along, which prove nothing.
///
/// # Errors
/// It cannot be read, is of a newer format, or does not hold.
pub fn check(path: &str, given: &[VerifierKey], heads: &[Vec<u8>]) -> Result<Held, VerifyError> {
    let archive = Archive::open(path)?;
    let (records, handovers) = read_keys(&archive)?;
    let own = || records.last().cloned().into_iter().collect::<Vec<_>>();
    let begun = if given.is_empty() { own() } else { given.to_vec() };
    let trust = Trust::new(begun).following(handovers);
    let bytes = limited(&archive, MANIFEST, NOTE_BYTES as u64)?;
    let (manifest, signers) = Manifest::open(&bytes, |name| trust.for_origin(name)).map_err(|error| match error {
        ManifestError::Form(error) => form(MANIFEST, error),
        ManifestError::Note(NoteError::Unknown) => {
            let lines = Note::parse(&bytes).map_or(vec![], |note| trust::lines_of(&note));
            VerifyError::fails(KIND, Failure::NotSigned { lines })
        }
        ManifestError::Note(error) => broken(MANIFEST, error.to_string()),
    })?;
    same_names(&archive, &manifest)?;
    let mut parts = Parts { left: manifest.members.iter().map(|member| (member.name.as_str(), member)).collect() };
    for number in 1..=records.len() {
        member::compare(&archive, parts.take(&format!("keys/{number}"))?)?;
    }
    let kept = open_heads(heads, &trust)?;
    let mut streams = Vec::new();
    for kind in &manifest.streams {
        let whose = format!("{}/{}/{kind}/", manifest.ledger, manifest.tenant);
        let own: Kept = kept.iter().filter(|head| head.origin.starts_with(&whose)).cloned().collect();
        streams.push(stream::check(&archive, &manifest, *kind, &mut parts, &trust, &own)?);
    }
    let reports = read_reports(&archive, &manifest, &mut parts, &trust)?;
    // What is left is for people: that it is what was signed is all there is to check.
    for member in parts.left.values() {
        if ["keys/", "streams/"].iter().any(|folder| member.name.starts_with(folder)) {
            return Err(broken(&member.name, "no file of this name belongs there"));
        }
        member::compare(&archive, member)?;
    }
    let (mut compared, mut uncompared) = (vec![], vec![]);
    for head in kept {
        let of = streams.iter().find(|found: &&Found| {
            let log = |origin: &str| origin.rsplit_once('/').map(|(log, _)| log.to_string());
            log(&found.head.origin) == log(&head.origin)
        });
        match of {
            None => uncompared.push((head.origin, head.size, "the bundle has nothing of that stream")),
            Some(found) if found.compared.contains(&head.size) => compared.push((head.origin, head.size)),
            Some(found) if found.head.size < head.size => {
                uncompared.push((head.origin, head.size, "it is newer than the bundle"));
            }
            Some(_) => uncompared.push((
                head.origin,
                head.size,
                "the bundle has no proof from it: ask for one that is made since this head",
            )),
        }
    }
    let (sha256, is_trusted) = (Hash::of(&bytes), !given.is_empty());
    Ok(Held { manifest, sha256, signers, is_trusted, trust, streams, reports, uncompared, compared })
}

/// A member that no manifest vouches for yet, of at most so many bytes.
fn limited(archive: &Archive, name: &str, most: u64) -> Result<Vec<u8>, VerifyError> {
    let mut bytes = Vec::new();
    let read = archive.read(name)?.take(most + 1).read_to_end(&mut bytes);
    read.map_err(|error| broken(name, format!("it cannot be unpacked: {error}")))?;
    if bytes.len() as u64 > most {
        return Err(broken(name, format!("it has more than {most} bytes, the most that such a file has")));
    }
    Ok(bytes)
}

/// The keys of the store, oldest first, and what leads from one to the next.
fn read_keys(archive: &Archive) -> Result<(Vec<VerifierKey>, Vec<Handover>), VerifyError> {
    let (mut keys, mut handovers) = (Vec::new(), Vec::new());
    for number in 1u64.. {
        let name = format!("keys/{number}");
        if archive.bytes_of(&name).is_none() {
            break;
        }
        let bytes = limited(archive, &name, DOCUMENT_BYTES)?;
        if number > 1 {
            let handover = Handover::open(&bytes).map_err(|error| broken(&name, error.to_string()))?;
            if handover.number != number {
                return Err(broken(&name, "it is the record of another key than its name says"));
            }
            keys.push(handover.key.clone());
            handovers.push(handover);
            continue;
        }
        let text = String::from_utf8_lossy(&bytes);
        let key = text.strip_prefix(KEY_TAG).and_then(|rest| rest.strip_prefix("\nkey ")?.strip_suffix('\n'));
        let key = key.and_then(|key| key.parse().ok()).ok_or_else(|| broken(&name, "it is no record of a key"))?;
        keys.push(key);
    }
    if keys.is_empty() { Err(broken("keys/1", "it is missing")) } else { Ok((keys, handovers)) }
}

fn same_names(archive: &Archive, manifest: &Manifest) -> Result<(), VerifyError> {
    let named: Vec<&str> = manifest.members.iter().map(|member| member.name.as_str()).collect();
    for name in archive.names().filter(|name| *name != MANIFEST) {
        if named.binary_search(&name).is_err() {
            return Err(broken(name, "the manifest does not name it: it was put here by somebody else"));
        }
    }
    match named.into_iter().find(|name| archive.bytes_of(name).is_none()) {
        Some(missing) => Err(broken(missing, "it is missing, though the manifest names it")),
        None => Ok(()),
    }
}

fn open_heads(heads: &[Vec<u8>], trust: &Trust) -> Result<Kept, VerifyError> {
    let mut kept = Kept::new();
    for bytes in heads {
        let path = "the head that was kept";
        let note = Note::parse(bytes).map_err(|error| VerifyError::form(path, "checkpoint", error))?;
        let lines = trust::lines_of(&note);
        let opened = Checkpoint::open(bytes, &trust.for_note(&note));
        kept.push(opened.map_err(|error| VerifyError::note(path, "checkpoint", error, lines))?.head().clone());
    }
    Ok(kept)
}

fn read_reports(
    archive: &Archive,
    manifest: &Manifest,
    parts: &mut Parts<'_>,
    trust: &Trust,
) -> Result<Vec<(String, String)>, VerifyError> {
    let mut reports = Vec::new();
    let members: BTreeMap<&str, &Member> =
        parts.below("reports/").into_iter().map(|member| (member.name.as_str(), member)).collect();
    for (name, member) in &members {
        member::compare(archive, member)?;
        let Some(bare) = name.strip_suffix(".note") else {
            let note = name.strip_suffix(".json").map(|bare| format!("{bare}.note"));
            if note.is_none_or(|note| !members.contains_key(note.as_str())) {
                return Err(broken(name, "no note stands beside it"));
            }
            continue;
        };
        let Some(report) = members.get(format!("{bare}.json").as_str()) else {
            return Err(broken(name, "the report that it names is not there"));
        };
        let bytes = member::whole(archive, member, input::DOCUMENT_BYTES)?;
        let keys = trust.for_origin(&format!("{}/_reports", manifest.ledger));
        let note = ReportNote::open(&bytes, &manifest.ledger, &keys);
        let note = note.map_err(|error| broken(name, causes(&error)))?;
        if note.sha256 != report.sha256 {
            return Err(broken(name, format!("it names another report than {}", report.name)));
        }
        reports.push((report.name.clone(), note.kind));
    }
    Ok(reports)
}

/// An error with what caused it.
fn causes(error: &dyn std::error::Error) -> String {
    let more = std::iter::successors(error.source(), |cause| cause.source()).map(|cause| format!(": {cause}"));
    format!("{error}{}", more.collect::<String>())
}

#[cfg(test)]
mod tests;
