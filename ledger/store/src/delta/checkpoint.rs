//! Checkpoints of the Delta view: its whole state at one version, as one Parquet file, so that a reader opens a
//! table of many commits with few requests.
//!
//! Not here: the entries ([`crate::delta`]). Format: Delta Lake transaction log protocol, classic checkpoints.
//! Invariant: `_last_checkpoint` names a checkpoint that is there, and every entry after the checkpoint before it is.

use super::{metadata, protocol, stats};
use crate::error::StoreError;
use crate::keys::ContentKeys;
use crate::segment::{self, Segment};
use crate::store::Shared;
use crate::stream::Stream;
use crate::turn::Removed;
use crate::upkeep;
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::json::ReaderBuilder;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn long(name: &str) -> Field {
    Field::new(name, DataType::Int64, true)
}

fn flag(name: &str) -> Field {
    Field::new(name, DataType::Boolean, true)
}

fn texts(name: &str) -> Field {
    Field::new_list(name, Field::new("element", DataType::Utf8, true), true)
}

fn map(name: &str) -> Field {
    let (key, value) = (Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true));
    Field::new_map(name, "key_value", key, value, false, true)
}

fn group(name: &str, fields: Vec<Field>) -> Field {
    Field::new_struct(name, Fields::from(fields), true)
}

/// The columns of a checkpoint: one for each kind of action, and each row has one of them.
fn schema() -> Arc<Schema> {
    let int = |name: &str| Field::new(name, DataType::Int32, true);
    let format = group("format", vec![text("provider"), map("options")]);
    let metadata = [text("id"), text("name"), format, text("schemaString"), texts("partitionColumns")];
    let metadata = metadata.into_iter().chain([map("configuration"), long("createdTime")]).collect();
    let add = [text("path"), map("partitionValues"), long("size"), long("modificationTime"), flag("dataChange")];
    Arc::new(Schema::new(vec![
        group("protocol", vec![int("minReaderVersion"), int("minWriterVersion"), texts("writerFeatures")]),
        group("metaData", metadata),
        group("add", add.into_iter().chain([text("stats")]).collect()),
        group("remove", vec![text("path"), long("deletionTimestamp"), flag("dataChange")]),
    ]))
}

/// The actions that make up the view's state.
fn actions(stream: &Stream, live: &[Arc<Segment>], removed: &[Removed]) -> Vec<Value> {
    let newest = |segment: &Segment| segment.statistics.recorded_at.map_or(0, |(_, newest)| newest / 1_000);
    let mut metadata = metadata(stream.origin.as_str());
    metadata["createdTime"] = live.first().map_or(0, |segment| newest(segment)).into();
    let mut actions = vec![json!({"protocol": protocol()}), json!({"metaData": metadata})];
    actions.extend(live.iter().map(|segment| {
        let reference = &segment.reference;
        json!({"add": {"path": reference.path, "partitionValues": {}, "size": reference.bytes,
            "modificationTime": newest(segment), "dataChange": false, "stats": stats(segment)}})
    }));
    // Who read the view before a removal may still read the file: that is what a removal says until it is deleted.
    actions.extend(
        removed
            .iter()
            .map(|one| json!({"remove": {"path": one.path, "deletionTimestamp": one.at / 1_000, "dataChange": false}})),
    );
    actions
}

fn encode(path: &Path, actions: &[Value]) -> Result<Vec<u8>, StoreError> {
    let failed = |error: arrow::error::ArrowError| StoreError::parquet(path)(error.into());
    let mut decoder =
        ReaderBuilder::new(schema()).with_batch_size(actions.len().max(1)).build_decoder().map_err(failed)?;
    decoder.serialize(actions).map_err(failed)?;
    let batch = decoder.flush().map_err(failed)?;
    let options = ArrowWriterOptions::new().with_skip_arrow_metadata(true);
    let writer = ArrowWriter::try_new_with_options(Vec::new(), schema(), options);
    let mut writer = writer.map_err(StoreError::parquet(path))?;
    if let Some(batch) = batch {
        writer.write(&batch).map_err(StoreError::parquet(path))?;
    }
    writer.into_inner().map_err(StoreError::parquet(path))
}

/// What names a checkpoint as the newest: its version, and so that a change is found, the hash of its bytes; with
/// version and bytes of the one that was named before it.
pub(crate) fn newest_text(
    version: u64,
    actions: usize,
    bytes: &[u8],
    live: usize,
    before: Option<(u64, &[u8])>,
) -> String {
    let sha256 = |bytes: &[u8]| ledger::Hash::of(bytes).to_base64();
    let before = before.map(|(version, bytes)| json!({"version": version, "sha256": sha256(bytes)}));
    let value = json!({"version": version, "size": actions, "sizeInBytes": bytes.len(), "numOfAddFiles": live,
        "piperollSha256": sha256(bytes), "piperollBefore": before});
    value.to_string()
}

/// The paths that a checkpoint adds, and how many actions it holds.
///
/// # Errors
/// It is no checkpoint.
pub(crate) fn live_in_checkpoint(path: &Path, bytes: bytes::Bytes) -> Result<(BTreeSet<String>, usize), StoreError> {
    let (mut live, mut actions) = (BTreeSet::new(), 0);
    segment::read_all(&ContentKeys::default(), path, bytes, |batch| {
        let adds = batch.column_by_name("add").and_then(|column| column.as_struct_opt());
        let paths = adds.and_then(|adds| adds.column_by_name("path")).and_then(|paths| paths.as_string_opt::<i32>());
        let why = "it has no column of added files";
        let paths = paths.ok_or_else(|| StoreError::Damaged { path: path.to_string(), why })?;
        live.extend(paths.iter().flatten().map(str::to_string));
        actions += batch.num_rows();
        Ok(())
    })?;
    Ok((live, actions))
}

/// Writes a checkpoint when enough commits came since the last, and removes entries that the last one covers.
///
/// # Errors
/// The object store failed; the view can be read all the same.
pub(crate) async fn checkpoint_if_due(shared: &Shared, stream: &Stream) -> Result<(), StoreError> {
    let turn = stream.turn.lock().await;
    let (before, removed) = (turn.checkpoint, turn.removed.clone());
    let sealed = stream.view().sealed;
    drop(turn);
    let next = before.map_or(0, |version| version + 1);
    if sealed.commits < next + shared.limits.view_commits.max(1) {
        return Ok(());
    }
    let version = sealed.commits - 1;
    // The entry of this very version may have failed to be written: then a start catches up first.
    if shared.objects.head(&stream.prefix.delta(version)).await.is_err() {
        return Ok(());
    }
    write(shared, stream, version, before, &sealed.segments, &removed).await?;
    if let Some(before) = before {
        clean(shared, stream, before).await?;
    }
    Ok(())
}

/// Writes a checkpoint of what is live now: entries before it are missing.
///
/// # Errors
/// The object store failed.
pub(crate) async fn rebuild(
    shared: &Shared,
    stream: &Stream,
    version: u64,
    live: &[Arc<Segment>],
    removed: &[Removed],
) -> Result<(), StoreError> {
    write(shared, stream, version, None, live, removed).await
}

async fn write(
    shared: &Shared,
    stream: &Stream,
    version: u64,
    before: Option<u64>,
    live: &[Arc<Segment>],
    removed: &[Removed],
) -> Result<(), StoreError> {
    let path = stream.prefix.delta_checkpoint(version);
    let actions = actions(stream, live, removed);
    let bytes = encode(&path, &actions)?;
    let before = match before {
        Some(before) => {
            let bytes = segment::fetch(&shared.objects, &stream.prefix.delta_checkpoint(before)).await;
            bytes.ok().map(|bytes| (before, bytes))
        }
        None => None,
    };
    let before = before.as_ref().map(|(version, bytes)| (*version, &bytes[..]));
    let newest = newest_text(version, actions.len(), &bytes, live.len(), before);
    // 1. The checkpoint. Died after it: a checkpoint that readers find by listing, or do not miss.
    shared.objects.put(&path, bytes.into()).await.map_err(StoreError::objects(&path))?;
    // 2. Name it. Died before it: readers use the one before, whose entries are still there.
    let path = stream.prefix.delta_newest();
    shared.objects.put(&path, newest.into()).await.map_err(StoreError::objects(&path))?;
    stream.turn.lock().await.checkpoint = Some(version);
    Ok(())
}

/// Removes entries and checkpoints below a checkpoint that is no longer the newest. Died during it: the rest goes
/// with the next checkpoint.
async fn clean(shared: &Shared, stream: &Stream, below: u64) -> Result<(), StoreError> {
    let folder = stream.prefix.views();
    let listed: Vec<_> =
        shared.objects.list(Some(&folder)).try_collect().await.map_err(StoreError::objects(&folder))?;
    let is_old = |path: &Path| {
        let entry = crate::layout::number_of(path).filter(|version| stream.prefix.delta(*version) == *path);
        entry.or_else(|| stream.prefix.checkpoint_version(path)).is_some_and(|version| version < below)
    };
    let old = listed.into_iter().map(|meta| meta.location).filter(is_old).collect();
    upkeep::delete(shared, old).await
}
