//! What keeps an answer from being "it holds", grouped by exit code.
//!
//! Not here: how it is shown ([`crate::report`]). Invariant: a document that cannot be read is never reported as
//! one that does not hold, nor the other way round.

use ledger::commit::CommitError;
use ledger::key::KeyId;
use ledger::note::NoteError;
use ledger::receipt::ReceiptError;
use ledger::tlog_proof::TlogProofError;
use ledger::verify::Fault;

/// Exit code: a file cannot be read, or is no document of its kind.
pub const CANNOT_BE_READ: u8 = 1;
/// Exit code: what was asked makes no sense.
pub const WRONG_USAGE: u8 = 2;
/// Exit code: the document is one of its kind, and does not hold.
pub const DOES_NOT_HOLD: u8 = 3;

/// Exit code: the document is of a later format than this program reads, so that it cannot tell.
pub const NEWER: u8 = 4;
/// Exit code: it holds together, but not by what was given: no key vouches for it, so that anybody may have made it, or a
/// head that was kept could not be compared with it.
pub const WITH_RESERVE: u8 = 5;

/// Why there is no "it holds".
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file cannot be opened or read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// Which file.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file is larger than any document of its kind.
    #[error("{path} is larger than {limit} bytes, the most that such a file has")]
    TooLarge {
        /// Which file.
        path: String,
        /// The bound.
        limit: u64,
    },
    /// A file is no document of its kind.
    #[error("{path} is no {kind}")]
    NoSuchDocument {
        /// Which file.
        path: String,
        /// What it should be.
        kind: &'static str,
        /// What is wrong with its form.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file is of a later format.
    #[error(
        "{path} is a {kind} in a newer format than this program reads: use a newer piperoll-verify; nothing is known to be wrong with it"
    )]
    Newer {
        /// Which file.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// The arguments do not fit together.
    #[error(transparent)]
    Usage(#[from] Usage),
    /// It does not hold.
    #[error("the {kind} does not hold")]
    DoesNotHold {
        /// What was checked.
        kind: &'static str,
        /// Why not.
        #[source]
        source: Failure,
    },
}

/// Arguments that do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Usage {
    /// The chain does not begin at its beginning.
    #[error("the first file is commit {number}; a chain is checked from commit 0 on: name every commit, in order")]
    NotFromTheFirst {
        /// Which commit came first.
        number: u64,
    },
    /// The larger head was given as the earlier one.
    #[error("the head under --from ({from} entries) is larger than that under --to ({to}); swap the two files")]
    Swapped {
        /// Size of the head under `--from`.
        from: u64,
        /// Size of the head under `--to`.
        to: u64,
    },
    /// A proof is needed.
    #[error(
        "--proof is needed between heads of {from} and {to} entries; the service gives it at …/proof/consistency?from={from}&to={to}"
    )]
    NoProof {
        /// Size of the earlier head.
        from: u64,
        /// Size of the later head.
        to: u64,
    },
    /// What was given as a key is none, and no file of keys either.
    #[error("--trust {given} is no key (name+id+key), and no file that holds keys, one on each line")]
    NoKey {
        /// What was given.
        given: String,
    },
    /// The receipt names no such stream.
    #[error("the receipt does not name the stream {wanted}; it names {}", .named.join(", "))]
    NotNamed {
        /// What was asked for.
        wanted: String,
        /// What the receipt names.
        named: Vec<String>,
    },
}

/// Why something does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No key that was given signed it.
    #[error("no key that was given signed it; its signature lines are of {}", .lines.join(", "))]
    NotSigned {
        /// Names and key ids of its signature lines.
        lines: Vec<String>,
    },
    /// A signature is invalid.
    #[error(transparent)]
    Note(NoteError),
    /// The proof does not lead to the checkpoint.
    #[error(transparent)]
    Inclusion(TlogProofError),
    /// The receipt does not lead to its checkpoint.
    #[error(transparent)]
    Receipt(ReceiptError),
    /// A commit does not hold or does not follow.
    #[error("{path}: {fault}{}", cause_of(.fault))]
    Chain {
        /// Which file.
        path: String,
        /// The fault.
        fault: Fault,
    },
    /// The heads are of different trees.
    #[error("the heads are of two trees: {from} and {to}")]
    OtherOrigin {
        /// Origin of the earlier head.
        from: String,
        /// Origin of the later head.
        to: String,
    },
    /// Two signed heads of one size disagree.
    #[error(
        "two signed heads of {size} entries have different roots: the log was forked; keep both files, they are the evidence"
    )]
    Fork {
        /// Their size.
        size: u64,
    },
    /// The proof is about other sizes.
    #[error(
        "the proof goes from {given_from} to {given_to}, the heads have {from} and {to} entries; fetch the proof for those"
    )]
    OtherSizes {
        /// Size that the proof starts from.
        given_from: u64,
        /// Size that the proof leads to.
        given_to: u64,
        /// Size of the earlier head.
        from: u64,
        /// Size of the later head.
        to: u64,
    },
    /// A file of a bundle does not hold.
    #[error("{member}: {why}")]
    Member {
        /// Which file.
        member: String,
        /// What does not hold, with the line or entry where there is one.
        why: String,
    },
    /// The hashes do not lead from one head to the other.
    #[error(
        "the hashes do not lead from the head of {from} entries to that of {to}: either the proof is a wrong one, or entries below {from} were changed or removed"
    )]
    Inconsistent {
        /// Size of the earlier head.
        from: u64,
        /// Size of the later head.
        to: u64,
    },
}

/// The causes of a fault, which its own message leaves to its sources.
fn cause_of(fault: &Fault) -> String {
    let first = std::error::Error::source(fault);
    std::iter::successors(first, |cause| cause.source()).map(|cause| format!(": {cause}")).collect()
}

impl VerifyError {
    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unreadable { .. } | Self::TooLarge { .. } | Self::NoSuchDocument { .. } => CANNOT_BE_READ,
            Self::Usage(_) => WRONG_USAGE,
            Self::Newer { .. } => NEWER,
            Self::DoesNotHold { .. } => DOES_NOT_HOLD,
        }
    }

    /// For a file whose form is wrong.
    pub fn form(path: &str, kind: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::NoSuchDocument { path: path.into(), kind, source: Box::new(source) }
    }

    /// For what was read and does not hold.
    pub fn fails(kind: &'static str, source: Failure) -> Self {
        Self::DoesNotHold { kind, source }
    }

    /// For an error of a note inside a document, whose signature lines are given.
    pub fn note(path: &str, kind: &'static str, error: NoteError, lines: Vec<String>) -> Self {
        match error {
            NoteError::Malformed(_) => Self::form(path, kind, error),
            NoteError::Unknown => Self::fails(kind, Failure::NotSigned { lines }),
            NoteError::BadSignature(_) => Self::fails(kind, Failure::Note(error)),
        }
    }

    /// For an error of a proof file.
    pub fn proof(path: &str, kind: &'static str, error: TlogProofError, lines: Vec<String>) -> Self {
        match error {
            TlogProofError::Newer => Self::Newer { path: path.into(), kind },
            TlogProofError::Malformed(_) => Self::form(path, kind, error),
            TlogProofError::Checkpoint(error) => Self::note(path, kind, error, lines),
            TlogProofError::Path { .. } => Self::fails(kind, Failure::Inclusion(error)),
        }
    }

    /// For an error of a receipt.
    pub fn receipt(path: &str, kind: &'static str, error: ReceiptError, lines: Vec<String>) -> Self {
        match error {
            ReceiptError::Newer => Self::Newer { path: path.into(), kind },
            ReceiptError::Malformed(_) => Self::form(path, kind, error),
            ReceiptError::Checkpoint(error) => Self::note(path, kind, error, lines),
            ReceiptError::Proof => Self::fails(kind, Failure::Receipt(error)),
        }
    }

    /// For a fault of a chain; a file that is no note at all was found out before.
    pub fn chain(path: &str, kind: &'static str, fault: Fault, lines: Vec<String>) -> Self {
        match &fault {
            fault if fault.is_newer() => Self::Newer { path: path.into(), kind: "commit" },
            Fault::Commit { source: CommitError::Note(NoteError::Unknown), .. } => {
                Self::fails(kind, Failure::NotSigned { lines })
            }
            _ => Self::fails(kind, Failure::Chain { path: path.into(), fault }),
        }
    }
}

/// A key id as people write it.
pub fn hex(id: KeyId) -> String {
    let [a, b, c, d] = id;
    format!("{a:02x}{b:02x}{c:02x}{d:02x}")
}
