//! What can go wrong with a question, grouped by what the caller must do, and what of it may be told.
//!
//! Planning sees the query and the schema only, so its texts are passed on. Running sees rows, so its texts are not:
//! each fault of a run has one fixed sentence. Not here: HTTP status codes (`access::problem`).
//!
//! Invariant: no text made here holds a value of a row; a test runs marked rows through every fault it knows.

use crate::guard::Refused;
use crate::limits::{Exceeded, Limits};
use access::problem::{Problem, ProblemKind};
use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use ledger_store::KeyError;
use parquet::errors::ParquetError;

/// Longest planning message passed on, in bytes: a list of all columns fits.
const MESSAGE_BYTES: usize = 1_500;

/// What the caller must do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Change the query.
    Query,
    /// Ask for less.
    TooExpensive,
    /// Wait and ask again.
    Busy,
    /// A key to what was asked about is not at hand now: ask again.
    Unavailable,
    /// A key to what was asked about was destroyed.
    Gone,
    /// Tell the operator.
    Internal,
}

/// A question that got no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The text is none that this service runs.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The query does not fit the tables: an unknown column, a wrong type, something not supported.
    #[error(transparent)]
    Plan(PlanMessage),
    /// A row made an expression fail.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A limit was reached.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    /// What was asked about is encrypted under a key that is not to be had.
    #[error(transparent)]
    Key(KeyError),
    /// The service failed; the cause is in its log.
    #[error("the query failed inside the service: {0}")]
    Internal(&'static str),
}

/// A message of the planner, cut to a bounded length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PlanMessage(String);

/// What went wrong with some row, without saying which value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A cast failed.
    #[error("a value could not be cast; try_cast gives null instead")]
    Cast,
    /// Division by zero.
    #[error("division by zero; nullif(divisor, 0) gives null instead")]
    DivisionByZero,
    /// A number left its range.
    #[error("arithmetic overflow; cast to a wider type first")]
    Overflow,
    /// A value does not parse as what it should be.
    #[error("a value could not be parsed")]
    Parse,
    /// A function did not take a value.
    #[error("an expression could not be computed for a row; look at its casts, divisions and patterns")]
    Compute,
    /// A text column of one batch grew beyond what an array can hold.
    #[error("a result grew beyond 2 GiB in one batch; ask for shorter texts")]
    TooLong,
    /// A column's type has no form in the format that was asked for.
    #[error(
        "a column's type has no form in this format; cast it to text, or accept application/vnd.apache.arrow.stream"
    )]
    Format,
}

impl QueryError {
    /// What the caller must do next.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(_) | Self::Plan(_) | Self::Fault(_) | Self::Exceeded(Exceeded::Tenants { .. }) => {
                ErrorKind::Query
            }
            Self::Exceeded(Exceeded::Concurrent { .. } | Exceeded::PerTenant { .. }) => ErrorKind::Busy,
            Self::Exceeded(_) => ErrorKind::TooExpensive,
            Self::Key(error) if error.is_destroyed() => ErrorKind::Gone,
            Self::Key(_) => ErrorKind::Unavailable,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// An error of planning; rows have not been read yet.
    pub(crate) fn of_planning(error: &DataFusionError) -> Self {
        match error.find_root() {
            DataFusionError::SQL(parser, _) => Self::plan(&parser.to_string()),
            DataFusionError::Plan(text)
            | DataFusionError::NotImplemented(text)
            | DataFusionError::Configuration(text) => Self::plan(text),
            DataFusionError::SchemaError(schema, _) => Self::plan(&schema.to_string()),
            DataFusionError::Diagnostic(_, inner) | DataFusionError::Context(_, inner) => Self::of_planning(inner),
            DataFusionError::Collection(errors) => errors.first().map_or(Self::Internal("planning"), Self::of_planning),
            // Constants are folded while planning: the faults of running can come from literals, too.
            DataFusionError::ArrowError(..) | DataFusionError::Execution(_) | DataFusionError::External(_) => {
                Self::of_running(error, &Limits::default())
            }
            _ => Self::internal("planning", error),
        }
    }

    /// An error of running; nothing of its text is passed on.
    pub(crate) fn of_running(error: &DataFusionError, limits: &Limits) -> Self {
        match error.find_root() {
            DataFusionError::ArrowError(arrow, _) => {
                fault_of(arrow).map_or_else(|| Self::internal("arrow", error), Self::Fault)
            }
            DataFusionError::ResourcesExhausted(_) => Self::Exceeded(Exceeded::Memory { bytes: limits.memory_bytes }),
            DataFusionError::Execution(_) | DataFusionError::Plan(_) | DataFusionError::NotImplemented(_) => {
                Self::Fault(Fault::Compute)
            }
            DataFusionError::ParquetError(parquet) => match (fault_in_reader(parquet), key_in_reader(parquet)) {
                (Some(fault), _) => Self::Fault(fault),
                (None, Some(error)) => Self::Key(error),
                (None, None) => Self::internal("a segment could not be read", error),
            },
            DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => {
                Self::internal("a segment could not be read", error)
            }
            // Functions also report what they do not take (a pattern that is too large) as if the engine were at
            // fault; the log keeps both, and the caller can at least look at the query.
            DataFusionError::Internal(_) => {
                tracing::error!("the engine reported a fault of its own while it ran a query");
                Self::Fault(Fault::Compute)
            }
            // Functions hand on the errors of their own libraries, such as that of a pattern.
            DataFusionError::External(cause) if !cause.is::<object_store::Error>() => Self::Fault(Fault::Compute),
            _ => Self::internal("running", error),
        }
    }

    fn plan(text: &str) -> Self {
        let mut end = text.len().min(MESSAGE_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self::Plan(PlanMessage(text[..end].to_string()))
    }

    /// Kept for the log without its text, which may hold values of rows.
    fn internal(what: &'static str, error: &DataFusionError) -> Self {
        tracing::error!(what, class = error_class(error), "a query failed inside the service");
        Self::Internal(what)
    }
}

/// The fault that an error of a kernel stands for; none if it is not about a row's value.
pub(crate) fn fault_of(error: &ArrowError) -> Option<Fault> {
    Some(match error {
        ArrowError::CastError(_) => Fault::Cast,
        ArrowError::ParseError(_) => Fault::Parse,
        ArrowError::DivideByZero => Fault::DivisionByZero,
        ArrowError::ArithmeticOverflow(_) => Fault::Overflow,
        ArrowError::OffsetOverflowError(_) | ArrowError::DictionaryKeyOverflowError => Fault::TooLong,
        ArrowError::ComputeError(_) | ArrowError::InvalidArgumentError(_) | ArrowError::NotYetImplemented(_) => {
            Fault::Compute
        }
        _ => return None,
    })
}

/// The fault of a filter that ran inside the Parquet reader; none if the segment itself could not be read.
fn fault_in_reader(error: &ParquetError) -> Option<Fault> {
    match error {
        ParquetError::ArrowError(_) => Some(Fault::Compute),
        ParquetError::External(cause) => fault_of(cause.downcast_ref::<ArrowError>()?),
        _ => None,
    }
}

/// What is said of the key to a segment that could not be read for want of it.
fn key_in_reader(error: &ParquetError) -> Option<KeyError> {
    match error {
        ParquetError::External(cause) => cause.downcast_ref::<KeyError>().cloned(),
        _ => None,
    }
}

fn error_class(error: &DataFusionError) -> &'static str {
    match error.find_root() {
        DataFusionError::ArrowError(..) => "arrow",
        DataFusionError::ParquetError(_) => "parquet",
        DataFusionError::ObjectStore(_) => "object store",
        DataFusionError::IoError(_) => "io",
        DataFusionError::External(_) => "external",
        DataFusionError::ExecutionJoin(_) => "a task ended",
        _ => "engine",
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let kind = match error.kind() {
            ErrorKind::Query => ProblemKind::Unprocessable,
            ErrorKind::TooExpensive => ProblemKind::QueryTooExpensive,
            ErrorKind::Busy => ProblemKind::TooManyRequests,
            ErrorKind::Unavailable => ProblemKind::Unavailable,
            ErrorKind::Gone => ProblemKind::Gone,
            ErrorKind::Internal => ProblemKind::Internal,
        };
        let problem = Problem::new(kind, error.to_string());
        match &error {
            QueryError::Exceeded(exceeded) => problem.with("limit", exceeded.limit().into()),
            _ => problem,
        }
    }
}
