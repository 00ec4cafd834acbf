//! A store in memory that fails as it is told: which call, and whether it takes effect all the same; and one that lies
//! about create-if-absent.

use super::*;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;

/// What becomes of one call.
pub(super) enum Fate {
    /// An error, nothing done.
    Fails(fn() -> Error),
    /// Done, and an error all the same.
    FailsAfter(fn() -> Error),
    /// No answer, ever; nothing done.
    Hangs,
    /// No answer, ever; done.
    HangsAfter,
    /// A body that gives this many bytes, then breaks off with an error.
    BreaksAt(usize),
    /// A body that gives this many bytes and ends as if that were all.
    EndsAt(usize),
    /// A body that gives this many bytes and then stands still.
    StallsAt(usize),
}

/// The store: calls meet their fates in order, and go well once there are none left.
#[derive(Default)]
pub(super) struct Faulty {
    pub inner: InMemory,
    pub fates: Mutex<VecDeque<Fate>>,
    /// Whether create-if-absent overwrites without a word.
    pub overwrites: bool,
    /// What was called.
    pub calls: Mutex<Vec<&'static str>>,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

impl Faulty {
    pub(super) fn new(fates: impl IntoIterator<Item = Fate>) -> Arc<Self> {
        Arc::new(Self { fates: Mutex::new(fates.into_iter().collect()), ..Self::default() })
    }

    pub(super) fn calls(&self) -> Vec<&'static str> {
        self.calls.lock().unwrap().clone()
    }

    fn next(&self, call: &'static str) -> Option<Fate> {
        self.calls.lock().unwrap().push(call);
        self.fates.lock().unwrap().pop_front()
    }

    /// Runs a call that meets its fate.
    async fn meets<T>(&self, call: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        match self.next(call) {
            Some(Fate::Fails(error)) => Err(error()),
            Some(Fate::FailsAfter(error)) => work.await.and_then(|_| Err(error())),
            Some(Fate::Hangs) => std::future::pending().await,
            Some(Fate::HangsAfter) => {
                work.await?;
                std::future::pending().await
            }
            _ => work.await,
        }
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, at: &Path, bytes: PutPayload, mut how: PutOptions) -> Result<PutResult> {
        if self.overwrites {
            how.mode = PutMode::Overwrite;
        }
        self.meets("put", self.inner.put_opts(at, bytes, how)).await
    }

    async fn put_multipart_opts(&self, at: &Path, how: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.meets("multipart", self.inner.put_multipart_opts(at, how)).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let got = self.inner.get_opts(at, options);
        let (length, then): (usize, BoxStream<'static, Result<Bytes>>) = match self.next("get") {
            Some(Fate::BreaksAt(length)) => (length, stream::once(async { Err(super::policy::broken()) }).boxed()),
            Some(Fate::EndsAt(length)) => (length, stream::empty().boxed()),
            Some(Fate::StallsAt(length)) => (length, stream::pending().boxed()),
            Some(Fate::Hangs) => return std::future::pending().await,
            Some(Fate::Fails(error) | Fate::FailsAfter(error)) => return Err(error()),
            _ => return got.await,
        };
        let got = got.await?;
        let (meta, range, attributes) = (got.meta.clone(), got.range.clone(), got.attributes.clone());
        let bytes = got.bytes().await?.slice(..length);
        let body = stream::iter([Ok(bytes)]).chain(then).boxed();
        Ok(GetResult { payload: GetResultPayload::Stream(body), meta, range, attributes })
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.next("delete") {
            Some(Fate::Fails(error)) => stream::once(async move { Err(error()) }).boxed(),
            Some(Fate::FailsAfter(error)) => {
                let error = move |done: Result<Path>| done.and_then(|_| Err(error()));
                self.inner.delete_stream(paths).map(error).boxed()
            }
            _ => self.inner.delete_stream(paths),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.next("list") {
            Some(Fate::Fails(error)) => {
                self.inner.list(prefix).take(1).chain(stream::once(async move { Err(error()) })).boxed()
            }
            Some(Fate::Hangs) => self.inner.list(prefix).take(1).chain(stream::pending()).boxed(),
            // Nobody promises an order.
            _ => {
                let all = futures::executor::block_on_stream(self.inner.list(prefix));
                let mut all: Vec<_> = all.collect();
                all.reverse();
                stream::iter(all).boxed()
            }
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.meets("list_with_delimiter", self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
