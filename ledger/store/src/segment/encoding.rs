//! How segments are encoded: pages, dictionaries, compression, bounds, Bloom filters.
//!
//! Not here: what is known of columns before they are merged ([`super::ColumnCounts`]). Invariant: no leaf depends on it
//! (FORMAT.md §4).

use crate::columns;
use crate::limits::{PAGE_ROWS, ROW_GROUP_ROWS};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use hashbrown::HashSet;
use ledger::field::Field;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::encryption::encrypt::FileEncryptionProperties;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use std::sync::Arc;

/// Columns whose values hardly repeat: a dictionary would only cost.
pub(super) const PLAIN: [Field; 4] = [Field::EventId, Field::TraceId, Field::SpanId, Field::Attributes];
/// Columns by whose exact value people look for single entries.
pub(super) const BLOOMED: [Field; 6] =
    [Field::EventId, Field::ActorId, Field::ResourceId, Field::Session, Field::SourceIp, Field::TraceId];

/// How often a Bloom filter may send a reader into a segment in vain, one in so many. Filters come in powers of two:
/// for values that are all different this takes five to ten bits a value, and one in a hundred would take twice that.
const WRONG: f64 = 0.15;
/// Bytes of a column up to which it is not compressed: of segments of some hundred rows that is most columns, and a hundredth
/// of their bytes.
const SMALL_BYTES: u64 = 1 << 10;
/// Bytes after which a page ends: a reader of a few rows unpacks a whole page of each wide column.
const PAGE_BYTES: usize = 128 << 10;

/// How much work goes into making a segment small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// While events come in: it may be written again soon.
    Quick,
    /// In the background, and for good: a sixth fewer bytes of attributes for six times zstd's time on them.
    /// Other columns are too short or too random to gain.
    Thorough,
}

impl Effort {
    /// The compression of texts that are long, or mostly differ.
    fn of_texts(self) -> Compression {
        let level = match self {
            Self::Quick => 1,
            Self::Thorough => 10,
        };
        Compression::ZSTD(ZstdLevel::try_new(level).unwrap_or_default())
    }
}

/// How many values of a column differ; of one whose values hardly repeat, how many there are.
pub(super) fn distinct(batches: &[RecordBatch], field: Field) -> u64 {
    let columns = || batches.iter().filter_map(|batch| batch.column_by_name(field.name()));
    if PLAIN.contains(&field) {
        return columns().map(|c| (c.len() - c.null_count()) as u64).sum();
    }
    let texts = columns().filter_map(|c| c.as_any().downcast_ref::<StringArray>());
    texts.flat_map(|c| c.iter().flatten()).collect::<HashSet<&str>>().len() as u64
}

/// Whether a column has no value at all.
pub(crate) fn has_none(batches: &[RecordBatch], field: Field) -> bool {
    batches.iter().all(|b| b.column_by_name(field.name()).is_some_and(|c| c.null_count() == c.len()))
}

/// How many bytes the values of a column have as they are.
pub(crate) fn bytes_of(batches: &[RecordBatch], column: &str) -> u64 {
    let of = |values: &ArrayRef| match values.as_string_opt::<i32>() {
        Some(texts) => i64::from(texts.value_offsets()[texts.len()] - texts.value_offsets()[0]) as u64,
        None => match values.data_type() {
            DataType::FixedSizeBinary(width) => values.len() as u64 * u64::try_from(*width).unwrap_or_default(),
            numbers => (values.len() * numbers.primitive_width().unwrap_or(size_of::<i64>())) as u64,
        },
    };
    batches.iter().filter_map(|batch| batch.column_by_name(column)).map(of).sum()
}

/// How segments are encoded, with this effort; `distinct` tells how many different values a column that is looked up has at
/// most, `is_empty` whether a column has no value at all, `bytes` how many a column takes, at most, before it is compressed.
/// What is encrypted has no Bloom filters: Parquet's encoder here would leave them in the clear, for anybody to try guesses on.
pub(crate) fn properties(
    effort: Effort,
    distinct: impl Fn(Field) -> u64,
    is_empty: impl Fn(Field) -> bool,
    bytes: impl Fn(&str) -> u64,
    encryption: Option<Arc<FileEncryptionProperties>>,
) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(concat!("piperoll ", env!("CARGO_PKG_VERSION")).into())
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_write_batch_size(PAGE_ROWS / 4)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_column_index_truncate_length(Some(32))
        .set_sorting_columns(Some(vec![SortingColumn { column_idx: 0, descending: false, nulls_first: false }]));
    for field in PLAIN {
        builder = builder.set_column_dictionary_enabled(field.name().into(), false);
    }
    for numbers in [columns::SEQ, columns::SALT_INDEX, Field::RecordedAt.name(), Field::OccurredAt.name()] {
        builder = builder
            .set_column_dictionary_enabled(numbers.into(), false)
            .set_column_encoding(numbers.into(), Encoding::DELTA_BINARY_PACKED);
    }
    // Ids that are handed out in order begin alike. Lengths between texts break up what repeats from row to row.
    builder = builder
        .set_column_encoding(Field::EventId.name().into(), Encoding::DELTA_BYTE_ARRAY)
        .set_column_encoding(Field::Attributes.name().into(), Encoding::DELTA_LENGTH_BYTE_ARRAY);
    if effort == Effort::Thorough {
        builder = builder.set_column_compression(Field::Attributes.name().into(), effort.of_texts());
    }
    // Bounds of a secret or of free text help nobody skip anything, and outlive an erasure.
    let secrets = columns::secrets::SALTS.into_iter().chain(columns::secrets::KEPT);
    for random in secrets.clone() {
        builder = builder.set_column_dictionary_enabled(random.into(), false);
    }
    for silent in [columns::SALT_SEED, columns::SALT_INDEX, Field::Attributes.name()].into_iter().chain(secrets.clone())
    {
        builder = builder.set_column_statistics_enabled(silent.into(), EnabledStatistics::None);
    }
    for empty in Field::ALL.into_iter().filter(|field| is_empty(*field)) {
        builder = builder.set_column_dictionary_enabled(empty.name().into(), false);
    }
    // Other engines skip pages by these; bounds of every column for every page were a byte an event.
    for ordered in [columns::SEQ, Field::RecordedAt.name(), Field::OccurredAt.name()] {
        builder = builder.set_column_statistics_enabled(ordered.into(), EnabledStatistics::Page);
    }
    // Where most values are their own, a dictionary stores each of them and a number besides.
    let resource = Field::ResourceId;
    if 2 * distinct(resource) > distinct(Field::EventId) {
        builder = builder
            .set_column_dictionary_enabled(resource.name().into(), false)
            .set_column_compression(resource.name().into(), effort.of_texts());
    }
    // What counts up, stays the same or is random does not shrink. And whoever writes or reads a column that is compressed makes a
    // compressor first, for which a few bytes are not worth it.
    let fixed = [columns::SEQ, Field::Tenant.name(), Field::Stream.name()].into_iter().chain(secrets);
    let others = Field::ALL.into_iter().map(Field::name).chain([columns::SALT_SEED, columns::SALT_INDEX]);
    for column in fixed.chain(others.filter(|column| bytes(column) <= SMALL_BYTES)) {
        builder = builder.set_column_compression(column.into(), Compression::UNCOMPRESSED);
    }
    match encryption {
        Some(encryption) => builder.with_file_encryption_properties(encryption).build(),
        None => with_filters(builder, distinct).build(),
    }
}

/// With Bloom filters of what single entries are looked for by.
fn with_filters(mut builder: WriterPropertiesBuilder, distinct: impl Fn(Field) -> u64) -> WriterPropertiesBuilder {
    for field in BLOOMED {
        let distinct = distinct(field);
        if distinct > 0 {
            builder = builder
                .set_column_bloom_filter_enabled(field.name().into(), true)
                .set_column_bloom_filter_fpp(field.name().into(), WRONG)
                .set_column_bloom_filter_max_ndv(field.name().into(), distinct);
        }
    }
    builder
}
