//! The log as numbered objects in the store: one object per group, each created only if absent.
//!
//! Whoever wants to write first reads everything, then creates the next number with a takeover of a higher epoch.
//! After that the writer before can no longer create *its* next number: it is fenced, and never signs again,
//! because it signs a group only once its object and all before it are there with its own bytes.
//!
//! Not here: frames ([`super::frame`]), what groups mean ([`crate::recover`]).
//!
//! Invariants:
//! 1. Numbers have no gap from the `oldest` that the newest object names up to the newest.
//! 2. An object is deleted only once a later, confirmed group has named a higher `oldest`. So a successor, who
//!    learns `oldest` from the newest object, never misses one, and late deletions by a fenced writer take nothing
//!    that anybody will read: each of their entries is in a commit, each of their groups in the flushed store log.
//! 3. Takeovers are never deleted, and neither is the newest object. The next number of a paused old writer is always
//!    its successor's takeover: the first object after its own that it did not write. So it finds that number
//!    taken however long it sleeps and whatever was trimmed since.
//! 4. A taker that slept between reading and its takeover may find its number free again, because what stood
//!    there was trimmed. It looks once more afterwards: if there is any higher number, it was overtaken and gives up.
//!    What it left lies below `oldest`, where nobody reads.

use super::frame::{self, Found, Frame, Takeover};
use super::read::{ReplayedGroup, Visit};
use super::{Position, Written};
use crate::error::StoreError;
use crate::layout;
use crate::limits::LOG_RUN_OBJECTS;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Objects that are fetched ahead while the log is read.
const FETCH_AHEAD: usize = 8;

/// A run of objects that is trimmed as one, as a file of the disk log is.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    first: u64,
    count: u64,
    bytes: u64,
}

impl Run {
    /// Counts an object in, and answers the first number of its run, which may be its own.
    fn place(&mut self, number: u64, bytes: u64, cut_at: u64) -> u64 {
        if self.count == 0 || self.count >= LOG_RUN_OBJECTS || self.bytes >= cut_at {
            *self = Self { first: number, ..Self::default() };
        }
        self.count += 1;
        self.bytes += bytes;
        self.first
    }
}

/// What an object of the log holds.
enum Content {
    Takeover(Takeover),
    Group(ReplayedGroup),
}

/// Whose bytes an object has that was to be created.
enum Put {
    Ours,
    Others(Bytes),
}

/// Creates an object of the log. An error that leaves open whether it is there is settled by reading it back.
async fn create(objects: &Arc<dyn ObjectStore>, number: u64, bytes: &Bytes) -> Result<Put, StoreError> {
    let path = layout::log_object(number);
    let payload = PutPayload::from_bytes(bytes.clone());
    let Err(error) = objects.put_opts(&path, payload, PutOptions::from(PutMode::Create)).await else {
        return Ok(Put::Ours);
    };
    match fetch(objects, number).await {
        Ok(found) if found == *bytes => Ok(Put::Ours),
        Ok(found) => Ok(Put::Others(found)),
        // It is not there, or nobody can tell; the same bytes may be put again under the same number.
        Err(_) => Err(StoreError::objects(&path)(error)),
    }
}

async fn fetch(objects: &Arc<dyn ObjectStore>, number: u64) -> Result<Bytes, StoreError> {
    let path = layout::log_object(number);
    let got = async { objects.get(&path).await?.bytes().await };
    got.await.map_err(StoreError::objects(&path))
}

fn damaged(number: u64, why: &'static str) -> StoreError {
    StoreError::Damaged { path: layout::log_object(number).to_string(), why }
}

/// Reads an object: it is whole or damaged, never torn.
fn content(number: u64, bytes: &[u8]) -> Result<Content, StoreError> {
    let (mut at, mut batches) = (0, Vec::new());
    loop {
        let (frame, length) = match frame::read(&bytes[at..]) {
            Found::Torn => return Err(damaged(number, "a frame of the log is bad")),
            Found::Unknown => {
                return Err(damaged(number, "a whole frame is not understood: was it written by a newer program?"));
            }
            Found::Frame(frame, length) => (frame, length),
        };
        at += length;
        let content = match frame {
            Frame::Batch(batch) => {
                batches.push(batch);
                continue;
            }
            Frame::Group(frame) => Content::Group(ReplayedGroup { file: number, batches, frame }),
            Frame::Takeover(takeover) => Content::Takeover(takeover),
        };
        return if at == bytes.len() { Ok(content) } else { Err(damaged(number, "bytes follow its last frame")) };
    }
}

/// Reads the log from its oldest object that counts up to the newest, and then takes it over.
#[derive(Debug)]
pub(crate) struct ObjectLogReader {
    objects: Arc<dyn ObjectStore>,
    cut_at: u64,
    next: u64,
    newest: u64,
    oldest: u64,
    end: Option<Position>,
    run: Run,
    takeovers: BTreeSet<u64>,
    /// Objects below the oldest that a trim left behind.
    left: Vec<u64>,
    /// The highest epoch that took the log over.
    pub epoch: u64,
}

impl ObjectLogReader {
    /// Finds out from where to where the log is to be read.
    ///
    /// # Errors
    /// The store does not answer, or the newest object is damaged.
    pub(crate) async fn find(objects: &Arc<dyn ObjectStore>, cut_at: u64) -> Result<Self, StoreError> {
        let listed = list(objects).await?;
        let newest = listed.last().map_or(0, |(number, _)| *number);
        let oldest = match newest {
            0 => 1,
            _ => match content(newest, &fetch(objects, newest).await?)? {
                Content::Takeover(takeover) => takeover.oldest,
                Content::Group(group) => group.frame.oldest,
            },
        };
        let is_left = |(number, size): &&(u64, u64)| *number < oldest && *size != frame::TAKEOVER_BYTES as u64;
        let left = listed.iter().filter(is_left).map(|(number, _)| *number).collect();
        Ok(Self {
            objects: Arc::clone(objects),
            cut_at,
            next: oldest,
            newest,
            oldest,
            end: None,
            run: Run::default(),
            takeovers: BTreeSet::new(),
            left,
            epoch: 0,
        })
    }

    /// Reads what was there when [`ObjectLogReader::find`] looked.
    ///
    /// # Errors
    /// An object is missing or damaged, or the visitor refuses a group.
    pub(crate) async fn read(&mut self, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let objects = Arc::clone(&self.objects);
        let each = futures::stream::iter(self.next..self.newest + 1).map(|number| {
            let objects = Arc::clone(&objects);
            async move { fetch(&objects, number).await }
        });
        let mut fetched = each.buffered(FETCH_AHEAD);
        while let Some(bytes) = fetched.try_next().await? {
            self.take(&bytes, visit)?;
        }
        Ok(())
    }

    /// Takes the next object.
    fn take(&mut self, bytes: &Bytes, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let number = self.next;
        let content = content(number, bytes)?;
        let (epoch, file, offset, oldest) = match &content {
            Content::Takeover(t) => (t.epoch, t.previous_file, t.previous_offset, t.oldest),
            Content::Group(g) => (g.frame.epoch, g.frame.previous_file, g.frame.previous_offset, g.frame.oldest),
        };
        if self.end.is_some_and(|end| end != Position { file, offset }) {
            return Err(damaged(number, "it does not follow the object of the log before it"));
        }
        if epoch < self.epoch {
            return Err(damaged(number, "its epoch is lower than that of the object before it"));
        }
        let run = self.run.place(number, bytes.len() as u64, self.cut_at);
        match content {
            Content::Takeover(_) => drop(self.takeovers.insert(number)),
            Content::Group(group) => visit(ReplayedGroup { file: run, ..group })?,
        }
        (self.epoch, self.oldest, self.next) = (epoch, oldest, number + 1);
        self.end = Some(Position { file: number, offset: bytes.len() as u64 });
        Ok(())
    }

    /// Takes the log over: creates the next number with this epoch, after reading what came in between.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when somebody of a higher epoch was faster; or the store does not answer.
    pub(crate) async fn take_over(mut self, epoch: u64, visit: &mut Visit<'_>) -> Result<ObjectLog, StoreError> {
        let (number, length) = loop {
            let end = self.end.unwrap_or_default();
            let takeover =
                Takeover { epoch, previous_file: end.file, previous_offset: end.offset, oldest: self.oldest };
            let mut bytes = Vec::new();
            frame::seal(&mut bytes, |out| takeover.encode(out));
            let bytes = Bytes::from(bytes);
            // Died after it: the writer before is fenced, and the next start takes over from here.
            match create(&self.objects, self.next, &bytes).await? {
                Put::Ours => break (self.next, bytes.len() as u64),
                // The writer before was still at work, or somebody else takes over.
                Put::Others(bytes) => self.take(&bytes, visit)?,
            }
            if self.epoch > epoch {
                return Err(StoreError::Fenced { epoch: self.epoch });
            }
        };
        // Invariant 4.
        if let Some((newer, _)) = list(&self.objects).await?.last().filter(|(newest, _)| *newest > number) {
            let epoch = match content(*newer, &fetch(&self.objects, *newer).await?)? {
                Content::Takeover(takeover) => takeover.epoch,
                Content::Group(group) => group.frame.epoch,
            };
            return Err(StoreError::Fenced { epoch });
        }
        self.takeovers.insert(number);
        self.run.place(number, length, self.cut_at);
        let runtime = Handle::current();
        delete(&runtime, &self.objects, self.left);
        Ok(ObjectLog {
            objects: self.objects,
            runtime,
            cut_at: self.cut_at,
            next: number + 1,
            run: self.run,
            end: Position { file: number, offset: length },
            takeovers: self.takeovers,
            released: Vec::new(),
            unsettled: None,
        })
    }
}

/// Numbers and sizes of the log's objects, ascending.
async fn list(objects: &Arc<dyn ObjectStore>) -> Result<Vec<(u64, u64)>, StoreError> {
    let folder = layout::log_objects();
    let listed: Vec<_> = objects.list(Some(&folder)).try_collect().await.map_err(StoreError::objects(&folder))?;
    let numbered = listed.iter().filter_map(|meta| {
        let number = layout::number_of(&meta.location).filter(|n| layout::log_object(*n) == meta.location);
        Some((number?, meta.size))
    });
    let mut out: Vec<(u64, u64)> = numbered.collect();
    out.sort_unstable();
    Ok(out)
}

/// Deletes objects beside the writer. What stays is found and deleted at the next start.
fn delete(runtime: &Handle, objects: &Arc<dyn ObjectStore>, numbers: Vec<u64>) {
    if numbers.is_empty() {
        return;
    }
    let objects = Arc::clone(objects);
    runtime.spawn(async move {
        let paths = futures::stream::iter(numbers.into_iter().map(|number| Ok(layout::log_object(number)))).boxed();
        if let Err(error) = objects.delete_stream(paths).try_for_each(|_| async { Ok(()) }).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "objects of the log that are no longer needed stay until the next start");
        }
    });
}

/// The log's objects, open for creating the next.
#[derive(Debug)]
pub(crate) struct ObjectLog {
    objects: Arc<dyn ObjectStore>,
    runtime: Handle,
    cut_at: u64,
    next: u64,
    run: Run,
    /// The newest object.
    end: Position,
    takeovers: BTreeSet<u64>,
    /// Runs that are deleted once a confirmed group names a higher oldest.
    released: Vec<Range<u64>>,
    /// A group of which it is not known whether it is there.
    unsettled: Option<Bytes>,
}

impl ObjectLog {
    /// The first number of the run being written.
    pub(crate) fn current_file(&self) -> u64 {
        self.run.first
    }

    /// The next object begins a run.
    pub(crate) fn turn_over(&mut self) {
        self.run.count = self.run.count.max(LOG_RUN_OBJECTS);
    }

    /// The newest object.
    pub(crate) fn end(&self) -> Position {
        self.end
    }

    /// Objects of this range are needed no more.
    pub(crate) fn release(&mut self, run: Range<u64>) {
        self.released.push(run);
    }

    /// Creates the next object with a group, and answers where it stands. From then on nothing below `oldest` is
    /// needed.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when another writer took over. Otherwise the store did not answer, and whether the
    /// group is there is not known: [`ObjectLog::settle`] finds out.
    pub(crate) fn write(&mut self, group: &[u8], oldest: u64) -> Result<Written, StoreError> {
        let written = self.put_unsettled(Bytes::copy_from_slice(group))?;
        let gone: Vec<Range<u64>> = self.released.extract_if(.., |run| run.end <= oldest).collect();
        let numbers = gone.into_iter().flatten().filter(|number| !self.takeovers.contains(number));
        delete(&self.runtime, &self.objects, numbers.collect());
        Ok(written)
    }

    /// Puts the group again whose fate is unknown: same number, same bytes, so that it is there once, and nothing
    /// else ever takes its positions.
    ///
    /// # Errors
    /// As [`ObjectLog::write`].
    pub(crate) fn settle(&mut self) -> Result<Option<Written>, StoreError> {
        self.unsettled.take().map(|bytes| self.put_unsettled(bytes)).transpose()
    }

    fn put_unsettled(&mut self, bytes: Bytes) -> Result<Written, StoreError> {
        let put = self.runtime.block_on(create(&self.objects, self.next, &bytes));
        let length = bytes.len() as u64;
        self.unsettled = put.is_err().then_some(bytes);
        match put? {
            Put::Ours => {}
            Put::Others(found) => {
                let epoch = match content(self.next, &found)? {
                    Content::Takeover(takeover) => takeover.epoch,
                    Content::Group(group) => group.frame.epoch,
                };
                return Err(StoreError::Fenced { epoch });
            }
        }
        let number = self.next;
        let file = self.run.place(number, length, self.cut_at);
        self.end = Position { file: number, offset: length };
        self.next += 1;
        Ok(Written { end: self.end, file })
    }

    /// The epoch of whoever took over, if somebody has: for a writer that has nothing to write.
    pub(crate) fn overtaken(&self) -> Option<u64> {
        let found = self.runtime.block_on(fetch(&self.objects, self.next)).ok()?;
        match content(self.next, &found).ok()? {
            Content::Takeover(takeover) => Some(takeover.epoch),
            Content::Group(group) => Some(group.frame.epoch),
        }
    }
}
