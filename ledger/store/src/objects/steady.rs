//! A store that tries again: bounded, with jitter and deadlines, and never twice what must happen once.
//!
//! The one place where operations are tried again, timed and counted (decision 0015). Not here: which errors pass
//! ([`super::patience`]), bodies that break off ([`super::reading`]).
//!
//! Invariants: a create whose outcome is unknown is settled by reading back, so that `AlreadyExists` says that
//! somebody else's bytes are there; a [`claim`], whose bytes others would write too, is never called ours after the
//! fact. Every operation ends.

use super::patience::{GaveUp, Passing, Patience, Trouble, trouble_of};
use super::reading::Reading;
use crate::ambient::Ambient;
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{self, Either};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use std::fmt;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// How many deletes are under way together.
const DELETES: usize = 16;

/// Marks a create as a claim.
#[derive(Debug, Clone, Copy)]
struct Claim;

/// Options of a create that claims a name with bytes that others would write too: if its answer is lost, the name counts
/// as taken by somebody else, and the claimant takes the next.
pub(crate) fn claim() -> PutOptions {
    let mut options = PutOptions::from(PutMode::Create);
    options.extensions.insert(Claim);
    options
}

/// A store behind the retry policy.
#[derive(Clone)]
pub struct Steady {
    pub(super) inner: Arc<dyn ObjectStore>,
    pub(super) patience: Patience,
    pub(super) ambient: Arc<dyn Ambient>,
}

impl fmt::Debug for Steady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Steady({})", self.inner)
    }
}

impl fmt::Display for Steady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Steady {
    /// The store, tried with this patience.
    pub fn new(inner: Arc<dyn ObjectStore>, patience: Patience, ambient: Arc<dyn Ambient>) -> Self {
        Self { inner, patience, ambient }
    }

    /// The work's answer, if it comes in time.
    pub(super) async fn within<T>(&self, most: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
        match future::select(pin!(work), self.ambient.sleep(most)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Err(Passing::Stuck(most.as_secs()).error()),
        }
    }

    /// Runs an operation to its end and counts it. `call` is told which try it is, from 1; `more` is time on top for
    /// what is sent.
    async fn run<T, F>(&self, operation: &'static str, more: Duration, call: impl Fn(u32) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let begin = self.ambient.monotonic_micros();
        let result = self.within(self.patience.all_tries + more, self.tries(operation, more, call)).await;
        self.count(operation, begin, result.as_ref().err());
        result
    }

    async fn tries<T, F>(&self, operation: &'static str, more: Duration, call: impl Fn(u32) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.within(self.patience.one_try + more, call(tries)).await {
                Ok(done) => return Ok(done),
                Err(error) => self.again(operation, tries, error).await?,
            }
        }
    }

    /// Waits until the next try, or says why there is none.
    pub(super) async fn again(&self, operation: &'static str, tries: u32, error: Error) -> Result<()> {
        let Trouble::Passes(reason, asked) = trouble_of(&error) else { return Err(error) };
        if tries >= self.patience.tries {
            return Err(GaveUp::error(tries, error));
        }
        metrics::counter!("piperoll_store_retries_total", "operation" => operation, "reason" => reason).increment(1);
        let wait = self.patience.wait(tries, asked, self.ambient.as_ref());
        say(operation, tries, reason, wait, &error);
        self.ambient.sleep(wait).await;
        Ok(())
    }

    fn count(&self, operation: &'static str, begin: i64, error: Option<&Error>) {
        let outcome = match error.map(trouble_of) {
            None => "ok",
            Some(Trouble::Stays(outcome)) => outcome,
            Some(Trouble::Passes(..)) => "failed",
        };
        let took = (self.ambient.monotonic_micros() - begin) as f64 / 1e6;
        metrics::counter!("piperoll_store_operations_total", "operation" => operation, "outcome" => outcome)
            .increment(1);
        metrics::histogram!("piperoll_store_operation_seconds", "operation" => operation).record(took);
    }

    /// Creates; a try after the first may find what an earlier one has put.
    async fn create(&self, path: &Path, payload: &PutPayload, options: &PutOptions) -> Result<PutResult> {
        let settles = options.extensions.get::<Claim>().is_none();
        self.run("create", time_for(payload.content_length()), |tries| async move {
            match self.inner.put_opts(path, payload.clone(), options.clone()).await {
                Err(there @ Error::AlreadyExists { .. }) if tries > 1 && settles => {
                    self.settle(path, payload, there).await
                }
                other => other,
            }
        })
        .await
    }

    /// Whether what is there is what was to be put.
    async fn settle(&self, path: &Path, payload: &PutPayload, there: Error) -> Result<PutResult> {
        let found = self.inner.get(path).await?.bytes().await?;
        let same = found.len() == payload.content_length() && payload.iter().flatten().eq(found.iter());
        if same { Ok(PutResult { e_tag: None, version: None }) } else { Err(there) }
    }

    /// Collects a listing; a try begins it anew, for nobody promises that it is in order.
    async fn listing(
        self,
        of: impl Fn(&dyn ObjectStore) -> BoxStream<'static, Result<ObjectMeta>>,
    ) -> Result<Vec<ObjectMeta>> {
        let begin = self.ambient.monotonic_micros();
        let idle = self.patience.one_try;
        let mut tries = 0;
        let result = loop {
            tries += 1;
            let mut listed = Vec::new();
            let mut items = of(self.inner.as_ref());
            // A listing that goes on may take as long as it is.
            let error = loop {
                match self.within(idle, items.try_next()).await {
                    Ok(Some(meta)) => listed.push(meta),
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            let Some(error) = error else { break Ok(listed) };
            if let Err(error) = self.again("list", tries, error).await {
                break Err(error);
            }
        };
        self.count("list", begin, result.as_ref().err());
        result
    }

    /// Deletes; a try after the first may find that an earlier one has done it.
    async fn remove(self, path: Path) -> Result<Path> {
        let (inner, at) = (&self.inner, &path);
        let delete = |tries| async move {
            match inner.delete(at).await {
                Err(Error::NotFound { .. }) if tries > 1 => Ok(()),
                other => other,
            }
        };
        self.run("delete", Duration::ZERO, delete).await?;
        Ok(path)
    }
}

fn say(operation: &'static str, tries: u32, reason: &'static str, wait: Duration, error: &Error) {
    let (error, millis) = (error as &dyn std::error::Error, wait.as_millis() as u64);
    tracing::debug!(operation, tries, reason, wait_millis = millis, error, "the object store is tried again");
}

/// A second for each MiB.
fn time_for(bytes: usize) -> Duration {
    Duration::from_secs((bytes >> 20) as u64)
}

/// The bytes that an answer must hold, of an object of this size.
fn asked(range: Option<&GetRange>, size: u64) -> Range<u64> {
    range.and_then(|range| range.as_range(size).ok()).unwrap_or(0..size)
}

fn short(sent: u64, range: &Range<u64>) -> Error {
    Passing::Short { sent, asked: range.end - range.start }.error()
}

#[async_trait]
impl ObjectStore for Steady {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if matches!(opts.mode, PutMode::Create) {
            return self.create(location, &payload, &opts).await;
        }
        // An update is taken for a put that replaces: a second one with the same bytes changes nothing.
        let (payload, opts) = (&payload, &opts);
        let put = |_| self.inner.put_opts(location, payload.clone(), opts.clone());
        self.run("put", time_for(payload.content_length()), put).await
    }

    async fn put_multipart_opts(&self, path: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let begin = |_| self.inner.put_multipart_opts(path, opts.clone());
        let upload = self.run("multipart", Duration::ZERO, begin).await?;
        Ok(Box::new(Upload { upload, steady: self.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (operation, options) = (if options.head { "head" } else { "get" }, &options);
        let get = |_| async move {
            let got = self.inner.get_opts(location, options.clone()).await?;
            let wanted = asked(options.range.as_ref(), got.meta.size);
            if !options.head && got.range != wanted {
                return Err(short(got.range.end.saturating_sub(got.range.start), &wanted));
            }
            Ok(got)
        };
        let got = self.run(operation, Duration::ZERO, get).await?;
        Ok(match got.payload {
            GetResultPayload::Stream(body) if !options.head => {
                let reading = Reading::new(self.clone(), location.clone(), got.meta.e_tag.clone(), got.range.clone());
                GetResult { payload: GetResultPayload::Stream(reading.of(body)), ..got }
            }
            payload => GetResult { payload, ..got },
        })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let total: u64 = ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum();
        let get = |_| async move {
            let got = self.inner.get_ranges(location, ranges).await?;
            let mut each = got.iter().zip(ranges).map(|(bytes, range)| (bytes.len() as u64, range));
            match each.find(|(sent, range)| *sent != range.end - range.start) {
                Some((sent, range)) => Err(short(sent, range)),
                None => Ok(got),
            }
        };
        self.run("get_ranges", time_for(total as usize), get).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let steady = self.clone();
        let each = locations.map(move |path| {
            let steady = steady.clone();
            async move { steady.remove(path?).await }
        });
        each.buffered(DELETES).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.cloned();
        let listed = self.clone().listing(move |inner| inner.list(prefix.as_ref()));
        stream::once(listed).map_ok(|listed| stream::iter(listed.into_iter().map(Ok))).try_flatten().boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let (prefix, offset) = (prefix.cloned(), offset.clone());
        let after = offset.clone();
        let listed = self.clone().listing(move |inner| inner.list_with_offset(prefix.as_ref(), &offset));
        let listed = stream::once(listed).map_ok(|listed| stream::iter(listed.into_iter().map(Ok))).try_flatten();
        // Some servers pass the offset over, or include it.
        listed.try_filter(move |meta| future::ready(meta.location > after)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        // As long as the listing is, it is one answer: it gets the time of all tries.
        self.run("list", self.patience.all_tries, |_| self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        // Nobody copies; whether it may be done twice is the store's to say.
        self.inner.copy_opts(from, to, options).await
    }
}

/// An upload in parts, each with a deadline. Parts are not tried again: their numbers are given by the library, once.
/// Who uploads begins anew ([`super::create`]).
struct Upload {
    upload: Box<dyn MultipartUpload>,
    steady: Steady,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upload")
    }
}

/// Gives an operation that is tried once its deadline, and counts it.
async fn once<T>(
    steady: &Steady,
    operation: &'static str,
    more: Duration,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let begin = steady.ambient.monotonic_micros();
    let result = steady.within(steady.patience.one_try + more, work).await;
    steady.count(operation, begin, result.as_ref().err());
    result
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (steady, more) = (self.steady.clone(), time_for(data.content_length()));
        let part = self.upload.put_part(data);
        Box::pin(async move { once(&steady, "part", more, part).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let more = self.steady.patience.all_tries;
        once(&self.steady, "complete", more, self.upload.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        once(&self.steady, "abort", Duration::ZERO, self.upload.abort()).await
    }
}
