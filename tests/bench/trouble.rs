//! What can go wrong in the benchmark, grouped by who has to act.
//!
//! Not here: slowness. A missed bar is a row of the table and never an error.

use std::path::{Path, PathBuf};

use crate::process::LogTail;

/// A failure of the benchmark or of what it measures.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The reference events cannot be had.
    #[error(
        "the reference events are made by {generator}, which is not there (python3 runs it): \
         put it there, or give a file of them with --input FILE"
    )]
    NoGenerator { generator: PathBuf },
    /// The machine did not do what was asked.
    #[error("{doing}: {source}")]
    Machine { doing: String, source: std::io::Error },
    /// A request got no answer.
    #[error("{doing}: {source}")]
    Unanswered { doing: String, source: reqwest::Error },
    /// An answer, a file or a page of figures does not have the form that was expected.
    #[error("{what} is not readable as what it should be")]
    Unreadable { what: String, source: Option<serde_json::Error> },
    /// Something answered, and the answer is wrong.
    #[error("{what}: expected {expected}, got {got}")]
    Wrong { what: String, expected: String, got: String },
    /// A program that was started ended badly or never became ready.
    #[error("`{program}` {what}; the end of its output: {tail}")]
    Program { program: String, what: String, tail: LogTail },
}

impl Trouble {
    /// For `map_err`: an operating system error and what was being done.
    pub fn machine(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Trouble::Machine { doing: doing.into(), source }
    }

    /// For `map_err`: the same, about a path.
    pub fn at(doing: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        Self::machine(format!("{doing} {}", path.display()))
    }

    /// For `map_err`: a request that failed below HTTP.
    pub fn unanswered(doing: impl Into<String>) -> impl FnOnce(reqwest::Error) -> Self {
        move |source| Trouble::Unanswered { doing: doing.into(), source }
    }

    /// For `map_err`: text that is not the JSON it should be.
    pub fn unreadable(what: impl Into<String>) -> impl FnOnce(serde_json::Error) -> Self {
        move |source| Trouble::Unreadable { what: what.into(), source: Some(source) }
    }

    /// Text that lacks what should stand in it.
    pub fn lacking(what: impl Into<String>) -> Self {
        Trouble::Unreadable { what: what.into(), source: None }
    }

    /// An answer other than the expected one.
    pub fn wrong(what: impl Into<String>, expected: impl ToString, got: impl ToString) -> Self {
        Trouble::Wrong { what: what.into(), expected: expected.to_string(), got: got.to_string() }
    }
}

/// What every step of the benchmark answers.
pub type Outcome<T> = Result<T, Trouble>;
