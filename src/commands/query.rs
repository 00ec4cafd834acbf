//! `piperoll query`: asks a running service in SQL.
//!
//! Not here: planning and running (`query`). Invariant: what is printed is what the service answered.

use super::{Outcome, block_on};
use crate::client::{ClientError, Target};
use crate::output;
use clap::{Args, ValueEnum};
use serde_json::Value;
use std::io::Write as _;
use std::process::ExitCode;

/// Ask a running service in SQL
///
/// Tables are `audit`, `telemetry` and `access`, and of the registry `tenants`, `principals`, `credentials`, `grants`,
/// `elevations` and `incidents`, as far as the key may see them. An acknowledged event is found at once. SELECT only; `EXPLAIN` shows
/// what is read and what is skipped.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  piperoll query --tenant acme \"SELECT action, count(*) AS n FROM audit GROUP BY action ORDER BY n DESC\"
  piperoll query --tenant acme --tenant globex --format csv \"SELECT tenant, occurred_at, actor_id FROM audit\"
  piperoll query --tenant acme \"SELECT json_text(attributes, '/amount') FROM audit WHERE action = 'invoice.update'\"")]
pub struct Arguments {
    /// The SQL; - reads it from standard input
    sql: String,
    /// A tenant to ask about; may be given more than once
    #[arg(long = "tenant", required = true, value_name = "TENANT")]
    tenants: Vec<String>,
    #[command(flatten)]
    target: Target,
    /// The format; a table on a terminal, NDJSON otherwise
    #[arg(long)]
    format: Option<Format>,
    /// The same as --format json: one JSON document with columns, rows and the heads that were read
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
    Ndjson,
    Csv,
    Arrow,
    Parquet,
}

impl Format {
    fn accept(self) -> &'static str {
        match self {
            Self::Table | Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// Runs the command.
///
/// # Errors
/// The service does not answer, or refuses the query.
pub fn run(arguments: &Arguments) -> Outcome {
    let default = if output::is_terminal() { Format::Table } else { Format::Ndjson };
    let format = if arguments.json { Format::Json } else { arguments.format.unwrap_or(default) };
    let sql = match arguments.sql.as_str() {
        "-" => std::io::read_to_string(std::io::stdin())?,
        sql => sql.to_string(),
    };
    block_on(async {
        let client = arguments.target.client();
        let mut answer = client.query(&sql, &arguments.tenants, format.accept()).await?;
        let mut out = std::io::stdout().lock();
        if format == Format::Table {
            let answer: Value = answer.json().await.map_err(ClientError::from)?;
            writeln!(out, "{}", table_of(&answer))?;
            return Ok(ExitCode::SUCCESS);
        }
        while let Some(piece) = answer.chunk().await.map_err(ClientError::from)? {
            out.write_all(&piece)?;
        }
        Ok(ExitCode::SUCCESS)
    })?
}

/// An answer as a table, with what it is an answer to below.
pub fn table_of(answer: &Value) -> String {
    let names: Vec<&str> =
        answer["columns"].as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect();
    let mut table = output::table(&names);
    let rows = answer["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    for row in rows {
        table.add_row(row.as_array().into_iter().flatten().map(shown));
    }
    let read = answer["read"].as_array().map(Vec::as_slice).unwrap_or_default();
    let entries: u64 = read.iter().filter_map(|head| head["size"].as_u64()).sum();
    let streams = read.len();
    format!("{table}\n{} rows, over {} entries of {streams} streams", rows.len(), output::grouped(entries))
}

/// A value as a person reads it.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
