//! How an answer is written: JSON, NDJSON, CSV, an Arrow IPC stream or Parquet, by `Accept`.
//!
//! Times are RFC 3339 in UTC with microseconds, also those without a zone; binary is lower hex; integers keep every
//! digit; NaN and infinities are null in JSON. Null is `null` in JSON and NDJSON and an empty field in CSV, where it
//! cannot be told from an empty text. Not here: running ([`crate::run`]), HTTP ([`crate::http`]).
//!
//! Invariants: text columns are plain UTF-8 in every format; what was written is whole only if [`Writer::finish`] ran.

use crate::error::{Fault, QueryError};
use crate::run::HeadRead;
use bytes::Bytes;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::csv;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::arrow::json::writer::{LineDelimited, WriterBuilder};
use datafusion::arrow::json::{StructMode, Writer as JsonWriter};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use serde_json::json;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

const TIME: &str = "%Y-%m-%dT%H:%M:%S%.6fZ";

/// A form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One object with columns, rows and the heads read.
    Json,
    /// An object a line.
    Ndjson,
    /// Comma-separated, with a header.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
    /// A Parquet file.
    Parquet,
}

impl Format {
    /// All formats; the first is given to who accepts anything.
    pub const ALL: [Format; 5] = [Self::Json, Self::Ndjson, Self::Csv, Self::Arrow, Self::Parquet];

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// The format that an `Accept` header likes best (RFC 9110 §12.5.1); none if it takes none of ours.
    pub fn accepted(accept: &str) -> Option<Self> {
        let mut best: Option<(u32, Self)> = None;
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1_000), thousandths).unwrap_or(0);
            let found = match kind.as_str() {
                "*/*" | "application/*" | "" => Some(Self::Json),
                "text/*" => Some(Self::Csv),
                "application/ndjson" | "application/jsonl" => Some(Self::Ndjson),
                kind => Self::ALL.into_iter().find(|format| format.media_type() == kind),
            };
            if let Some(format) = found.filter(|_| weight > 0 && best.is_none_or(|(most, _)| weight > most)) {
                best = Some((weight, format));
            }
        }
        best.map(|(_, format)| format)
    }
}

/// A weight as RFC 9110 writes it, in thousandths.
fn thousandths(text: &str) -> Option<u32> {
    let weight: f64 = text.parse().ok()?;
    (0.0..=1.0).contains(&weight).then_some((weight * 1_000.0) as u32)
}

/// The SQL name of a column's type, as the JSON answer gives it.
pub fn type_name(kind: &DataType) -> String {
    match kind {
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => "INT".into(),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => "BIGINT".into(),
        DataType::Float16 | DataType::Float32 => "REAL".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "TEXT".into(),
        DataType::Timestamp(..) => "TIMESTAMP".into(),
        DataType::Date32 | DataType::Date64 => "DATE".into(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".into(),
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "BYTES".into()
        }
        DataType::Decimal128(digits, scale) => format!("DECIMAL({digits},{scale})"),
        DataType::List(of) | DataType::LargeList(of) => format!("{}[]", type_name(of.data_type())),
        DataType::Null => "NULL".into(),
        _ => "OTHER".into(),
    }
}

/// The heads read, as JSON.
pub fn heads_json(read: &[HeadRead]) -> serde_json::Value {
    let one = |head: &HeadRead| {
        let (tenant, stream) = (head.tenant.as_str(), head.stream.as_str());
        let mut one = json!({"tenant": tenant, "stream": stream, "size": head.size, "root": head.root.to_base64()});
        if let Some((entries, commit)) = head.gone {
            one["gone"] = json!({"entries": entries, "commit": commit});
        }
        one
    };
    read.iter().map(one).collect()
}

/// The buffer that encoders write into and that is taken from them.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[allow(clippy::large_enum_variant, reason = "one stands on the stack per answer")]
enum Encoder {
    /// Rows, and whether one was written yet.
    Json(JsonWriter<Buffer, LineDelimited>, bool),
    Ndjson(JsonWriter<Buffer, LineDelimited>),
    Csv(csv::Writer<Buffer>),
    Arrow(StreamWriter<Buffer>),
    Parquet(Box<ArrowWriter<Buffer>>),
}

/// Writes one answer in one format.
pub(crate) struct Writer {
    encoder: Encoder,
    buffer: Buffer,
    schema: SchemaRef,
    read: Vec<HeadRead>,
    rows: u64,
}

impl Writer {
    /// A writer for answers of these columns about these heads.
    ///
    /// # Errors
    /// The format has no form for a column's type.
    pub fn new(format: Format, schema: &SchemaRef, read: Vec<HeadRead>) -> Result<Self, QueryError> {
        let schema = plain_schema(schema);
        let buffer = Buffer::default();
        let json = |mode: StructMode| {
            let times = WriterBuilder::new()
                .with_timestamp_format(TIME.into())
                .with_timestamp_tz_format(TIME.into())
                .with_datetime_format(TIME.into());
            times.with_explicit_nulls(true).with_struct_mode(mode).build::<_, LineDelimited>(buffer.clone())
        };
        let encoder = match format {
            Format::Json => {
                let columns: Vec<_> = schema
                    .fields()
                    .iter()
                    .map(|f| json!({"name": f.name(), "type": type_name(f.data_type())}))
                    .collect();
                write!(buffer.clone(), "{{\"columns\":{},\"rows\":[", serde_json::Value::from(columns))
                    .map_err(|_| Fault::Format)?;
                Encoder::Json(json(StructMode::ListOnly), false)
            }
            Format::Ndjson => Encoder::Ndjson(json(StructMode::ObjectOnly)),
            Format::Csv => {
                let times =
                    csv::WriterBuilder::new().with_timestamp_format(TIME.into()).with_timestamp_tz_format(TIME.into());
                Encoder::Csv(times.with_datetime_format(TIME.into()).with_header(true).build(buffer.clone()))
            }
            Format::Arrow => Encoder::Arrow(StreamWriter::try_new(buffer.clone(), &schema)?),
            Format::Parquet => {
                let properties =
                    WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
                let writer =
                    ArrowWriter::try_new(buffer.clone(), Arc::clone(&schema), Some(properties)).map_err(of_parquet)?;
                Encoder::Parquet(Box::new(writer))
            }
        };
        Ok(Self { encoder, buffer, schema, read, rows: 0 })
    }

    /// Writes rows; gives the bytes that are ready.
    ///
    /// # Errors
    /// A value has no form in the format.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<Bytes, QueryError> {
        let batch = plain_batch(batch, &self.schema)?;
        self.rows += batch.num_rows() as u64;
        let batch = match &self.encoder {
            Encoder::Json(..) | Encoder::Ndjson(_) | Encoder::Csv(_) => timed(&batch)?,
            Encoder::Arrow(_) | Encoder::Parquet(_) => batch,
        };
        match &mut self.encoder {
            Encoder::Json(writer, begun) => {
                writer.write(&batch)?;
                let bytes = joined(&self.buffer.take(), begun);
                return Ok(bytes.into());
            }
            Encoder::Ndjson(writer) => writer.write(&batch)?,
            Encoder::Csv(writer) => writer.write(&batch)?,
            Encoder::Arrow(writer) => writer.write(&batch)?,
            Encoder::Parquet(writer) => {
                writer.write(&batch).map_err(of_parquet)?;
                if writer.in_progress_size() > PARQUET_GROUP_BYTES {
                    writer.flush().map_err(of_parquet)?;
                }
            }
        }
        Ok(self.buffer.take().into())
    }

    /// Writes what ends the answer.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn finish(mut self) -> Result<Bytes, QueryError> {
        match self.encoder {
            Encoder::Json(..) => {
                let heads = heads_json(&self.read);
                write!(self.buffer, "],\"row_count\":{},\"read\":{heads}}}", self.rows).map_err(|_| Fault::Format)?;
            }
            Encoder::Ndjson(mut writer) => writer.finish()?,
            Encoder::Csv(mut writer) if self.rows == 0 => writer.write(&RecordBatch::new_empty(self.schema))?,
            Encoder::Csv(_) => {}
            Encoder::Arrow(mut writer) => writer.finish()?,
            Encoder::Parquet(writer) => drop(writer.close().map_err(of_parquet)?),
        }
        Ok(self.buffer.take().into())
    }
}

/// A row group of a Parquet answer is written out at this size, so that long answers are not held.
const PARQUET_GROUP_BYTES: usize = 16 * 1_024 * 1_024;

fn of_parquet(error: ParquetError) -> QueryError {
    match error {
        ParquetError::ArrowError(_) | ParquetError::NYI(_) => Fault::Format.into(),
        _ => QueryError::Internal("an answer could not be written as Parquet"),
    }
}

/// Lines of JSON rows, joined by commas; also to the rows before them. What precedes the rows stays in front.
fn joined(lines: &[u8], begun: &mut bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(lines.len() + 1);
    if *begun && !lines.is_empty() {
        out.push(b',');
    }
    *begun |= !lines.is_empty();
    // A line feed inside a text is escaped, so each one here ends a row.
    out.extend(lines.strip_suffix(b"\n").unwrap_or(lines).iter().map(|b| if *b == b'\n' { b',' } else { *b }));
    out
}

/// The batch with its times as text: the encoders would read their format anew for each.
fn timed(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let text = |column: &ArrayRef| -> ArrayRef {
        let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() else { return Arc::clone(column) };
        let mut out = StringBuilder::with_capacity(times.len(), 27 * times.len());
        let mut text = String::with_capacity(27);
        for time in times {
            text.clear();
            match time {
                Some(time) => {
                    ledger::time::push_micros(time, &mut text);
                    out.append_value(&text);
                }
                None => out.append_null(),
            }
        }
        Arc::new(out.finish())
    };
    let columns: Vec<ArrayRef> = batch.columns().iter().map(text).collect();
    let field =
        |(field, column): (&FieldRef, &ArrayRef)| field.as_ref().clone().with_data_type(column.data_type().clone());
    let fields: Vec<Field> = batch.schema_ref().fields().iter().zip(&columns).map(field).collect();
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &rows)
}

fn plain_type(kind: &DataType) -> DataType {
    match kind {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::List(of) => DataType::List(Arc::new(of.as_ref().clone().with_data_type(plain_type(of.data_type())))),
        other => other.clone(),
    }
}

fn plain_schema(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|f| Field::new(f.name(), plain_type(f.data_type()), f.is_nullable()));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn plain_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns: Result<Vec<ArrayRef>, ArrowError> = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(c, f)| if c.data_type() == f.data_type() { Ok(Arc::clone(c)) } else { cast(c, f.data_type()) })
        .collect();
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns?, &rows)
}
