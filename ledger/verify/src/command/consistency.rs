//! `piperoll-verify consistency`: that an earlier signed tree is the beginning of a later one.
//!
//! Not here: fetching the proof. Invariant: the proof's own sizes and roots decide nothing; the two signed heads do.

use super::{Common, open_checkpoint};
use crate::error::{Failure, Usage, VerifyError};
use crate::input;
use crate::json::{Json, JsonError};
use crate::report::Answer;
use clap::Args;
use ledger::proof::check_consistency;
use ledger::tree::Hash;

/// What this command checks.
pub const KIND: &str = "consistency proof";
/// Most hashes of a proof: two for each level of a tree of 2^64 leaves.
const HASHES: usize = 128;

/// Check that an earlier tree is the beginning of a later one: nothing was changed or removed
///
/// Give the checkpoint that you kept, a newer one, and the proof between the two. Heads of equal size need no
/// proof: they agree or they do not.
#[derive(Debug, Args)]
#[command(after_help = "\
Example (kept.checkpoint has 13 entries, now.checkpoint 4711):
  curl -s 'localhost:7117/v1/tenants/acme/audit/proof/consistency?from=13&to=4711' > 13-4711.json
  piperoll-verify consistency --from kept.checkpoint --to now.checkpoint --proof 13-4711.json --key 'demo/_main/log/0+3f21c8aa+AV…'

The proof is read as the service gives it, or as base64 hashes, one a line.")]
pub struct Arguments {
    /// The earlier checkpoint
    #[arg(long, value_name = "CHECKPOINT")]
    from: String,
    /// The later checkpoint
    #[arg(long, value_name = "CHECKPOINT")]
    to: String,
    /// The proof
    #[arg(long, value_name = "FILE")]
    proof: Option<String>,
    #[command(flatten)]
    pub(super) common: Common,
}

/// A file is no consistency proof.
#[derive(Debug, thiserror::Error)]
enum NoProof {
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("not UTF-8")]
    NotText,
    #[error("{0} is missing, or not what it should be: from and to are sizes, hashes a list of base64")]
    Member(&'static str),
    #[error("line {0} is not 32 bytes of base64")]
    Line(usize),
    #[error("it has more than {HASHES} hashes")]
    TooLong,
}

/// What a proof file holds.
#[derive(Debug, PartialEq, Eq)]
struct Proof {
    /// From and to which size, where it says so.
    sizes: Option<(u64, u64)>,
    hashes: Vec<Hash>,
}

impl Proof {
    fn parse(bytes: &[u8]) -> Result<Self, NoProof> {
        let text = std::str::from_utf8(bytes).map_err(|_| NoProof::NotText)?;
        let proof = if text.trim_start().starts_with('{') { Self::of_json(text)? } else { Self::of_lines(text)? };
        if proof.hashes.len() > HASHES { Err(NoProof::TooLong) } else { Ok(proof) }
    }

    fn of_json(text: &str) -> Result<Self, NoProof> {
        let json = Json::parse(text)?;
        let size = |name| match json.get(name) {
            Some(Json::Number(size)) => Ok(*size),
            _ => Err(NoProof::Member(name)),
        };
        let Some(Json::List(hashes)) = json.get("hashes") else { return Err(NoProof::Member("hashes")) };
        let hash = |item: &Json| match item {
            Json::Text(text) => Hash::from_base64(text),
            _ => None,
        };
        let hashes = hashes.iter().map(hash).collect::<Option<_>>().ok_or(NoProof::Member("hashes"))?;
        Ok(Self { sizes: Some((size("from")?, size("to")?)), hashes })
    }

    fn of_lines(text: &str) -> Result<Self, NoProof> {
        let hash = |(line, at)| Hash::from_base64(line).ok_or(NoProof::Line(at));
        Ok(Self { sizes: None, hashes: text.lines().zip(1..).map(hash).collect::<Result<_, _>>()? })
    }
}

/// Runs the command.
///
/// # Errors
/// A file cannot be read, nobody known signed a head, or the heads do not agree.
pub fn run(arguments: &Arguments) -> Result<Answer, VerifyError> {
    let trust = arguments.common.trust()?;
    let open = |path: &str| {
        let bytes = input::read(path, input::DOCUMENT_BYTES)?;
        open_checkpoint(&trust, input::shown(path), "checkpoint", &bytes)
    };
    let (from, to) = (open(&arguments.from)?, open(&arguments.to)?);
    let (old, new) = (from.head(), to.head());
    let fails = |failure| Err(VerifyError::fails(KIND, failure));
    if old.origin != new.origin {
        return fails(Failure::OtherOrigin { from: old.origin.clone(), to: new.origin.clone() });
    }
    if old.size > new.size {
        return Err(Usage::Swapped { from: old.size, to: new.size }.into());
    }
    if old.size == new.size && old.root != new.root {
        return fails(Failure::Fork { size: old.size });
    }
    let proof = read_proof(arguments.proof.as_deref(), old.size, new.size)?;
    if let Some((given_from, given_to)) = proof.sizes.filter(|sizes| *sizes != (old.size, new.size)) {
        return fails(Failure::OtherSizes { given_from, given_to, from: old.size, to: new.size });
    }
    if !check_consistency(old.size, new.size, &proof.hashes, &old.root, &new.root) {
        return fails(Failure::Inconsistent { from: old.size, to: new.size });
    }
    let mut signers = trust.signers(from.signers());
    signers
        .extend(trust.signers(to.signers()).into_iter().filter(|signer| !signers.contains(signer)).collect::<Vec<_>>());
    Ok(Answer::of(KIND, signers)
        .fact("origin", old.origin.as_str())
        .fact("from", old.size)
        .fact("from root", old.root.to_base64())
        .fact("to", new.size)
        .fact("to root", new.root.to_base64())
        .proves(format!(
            "the first {} of the {} entries are the very entries of the earlier head, in the same order: none was changed, removed or put between",
            old.size, new.size
        ))
        .leaves_open("what happened before it was recorded, and what the entries say"))
}

fn read_proof(path: Option<&str>, from: u64, to: u64) -> Result<Proof, VerifyError> {
    match path {
        Some(path) => {
            let bytes = input::read(path, input::DOCUMENT_BYTES)?;
            Proof::parse(&bytes).map_err(|error| VerifyError::form(input::shown(path), KIND, error))
        }
        None if from == to || from == 0 => Ok(Proof { sizes: None, hashes: vec![] }),
        None => Err(Usage::NoProof { from, to }.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_proof_are_read_strictly() {
        let (a, b) = (Hash([1; 32]), Hash([2; 32]));
        let json = format!("{{\"from\":5,\"from_root\":\"x\",\"hashes\":[\"{a}\",\"{b}\"],\"to\":13}}\n");
        assert_eq!(Proof::parse(json.as_bytes()).unwrap(), Proof { sizes: Some((5, 13)), hashes: vec![a, b] });
        let lines = format!("{a}\n{b}\n");
        assert_eq!(Proof::parse(lines.as_bytes()).unwrap(), Proof { sizes: None, hashes: vec![a, b] });
        assert_eq!(Proof::parse(b"").unwrap().hashes, []);
        for bad in [
            json.replace("5,", "\"5\","),
            json.replace("\"to\":13", "\"too\":13"),
            json.replace("hashes", "hash"),
            json.replace("AQE=", "AQF="),
            json.replace("AQE=\",", "AQE=\",7,"),
            json.replace("}\n", "}}\n"),
            lines.replace("\n", "\n\n"),
            lines.replace("AQE=\n", "AQE\n"),
            format!("{a}\n").repeat(HASHES + 1),
        ] {
            assert!(Proof::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Proof::parse(&[0xff]).is_err());
    }
}
