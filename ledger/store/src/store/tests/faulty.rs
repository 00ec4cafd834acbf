//! An object store that fails as its script says, and records what it was asked.
//!
//! It keeps to the contract of object stores: what was put can be got and listed at once. A listing may come in
//! any order, a call may fail before or after it took effect, hang, or break off. It never answers that
//! something is not there which is, and never lists what was put before the listing incompletely without an
//! error: no store that Piperoll supports does. Not here: which call fails ([`super::script`]).

use super::script::{Call, Mode, Moment, Script, Strike};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use std::fmt;
use std::sync::Arc;

/// Another store, made to fail.
#[derive(Debug, Clone)]
pub(crate) struct Faulty {
    inner: Arc<dyn ObjectStore>,
    script: Arc<Script>,
    life: u64,
    reversed: bool,
}

impl Faulty {
    /// `inner` as the life of `script` that runs now sees it.
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, script: Arc<Script>) -> Self {
        let life = script.life();
        Self { inner, script, life, reversed: false }
    }

    /// The same, and listings come backwards.
    pub(crate) fn reversed(self) -> Self {
        Self { reversed: true, ..self }
    }

    /// Waits, fails, or answers what is to be done instead.
    async fn meet(&self, call: Call, path: &Path) -> Result<Option<Strike>> {
        let strike = self.script.meet(self.life, call, path.as_ref());
        match strike {
            Some(Strike { mode: Mode::Stuck, moment }) => {
                self.script.hang().await;
                // In the end it is answered: with a failure, or as it should be.
                let fails = moment == Moment::Before || self.script.life() != self.life;
                if fails { Err(failure(Mode::Error, path)) } else { Ok(None) }
            }
            Some(Strike { mode: Mode::Slow, .. }) => {
                for _ in 0..64 {
                    tokio::task::yield_now().await;
                }
                Ok(None)
            }
            Some(Strike { mode, moment: Moment::Before }) if !matters_inside(mode) => Err(failure(mode, path)),
            other => Ok(other),
        }
    }

    /// Does `work`, unless it is to fail before, and fails after it if it is to.
    async fn through<T>(&self, call: Call, path: &Path, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let strike = self.meet(call, path).await?;
        let done = work.await;
        match strike {
            Some(strike) if done.is_ok() => Err(failure(strike.mode, path)),
            _ => done,
        }
    }

    fn listing(
        &self,
        listed: BoxStream<'static, Result<ObjectMeta>>,
        at: Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let this = self.clone();
        let all = async move {
            let strike = match this.meet(Call::List, &at).await {
                Err(error) => return vec![Err(error)],
                Ok(strike) => strike,
            };
            let mut all: Vec<Result<ObjectMeta>> = listed.collect().await;
            if this.reversed {
                all.reverse();
            }
            if let Some(strike) = strike {
                all.truncate(all.len() / 2);
                all.push(Err(failure(strike.mode, &at)));
            }
            all
        };
        all.map(stream::iter).flatten_stream().boxed()
    }
}

/// Whether a mode changes an answer rather than replacing it.
fn matters_inside(mode: Mode) -> bool {
    matches!(mode, Mode::Broken | Mode::Short)
}

/// What `object_store` makes of an answer with status 503.
#[derive(Debug, thiserror::Error)]
#[error("Server returned error response: 503 Service Unavailable, Retry-After: 1: SlowDown")]
pub(crate) struct SlowDown;

#[derive(Debug, thiserror::Error)]
#[error("as the script wants")]
struct Scripted;

fn failure(mode: Mode, path: &Path) -> Error {
    match mode {
        Mode::Denied => Error::PermissionDenied { path: path.to_string(), source: Box::new(Scripted) },
        Mode::Throttled => Error::Generic { store: "faulty", source: Box::new(SlowDown) },
        _ => Error::Generic { store: "faulty", source: Box::new(Scripted) },
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, at: &Path, payload: PutPayload, how: PutOptions) -> Result<PutResult> {
        self.through(Call::Put, at, self.inner.put_opts(at, payload, how)).await
    }

    async fn put_multipart_opts(&self, at: &Path, how: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.inner.put_multipart_opts(at, how).await?;
        Ok(Box::new(FaultyUpload { store: self.clone(), upload: Arc::new(upload.into()), at: at.clone() }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let strike = self.meet(Call::Get, at).await?;
        let got = self.inner.get_opts(at, options).await?;
        let Some(strike) = strike else { return Ok(got) };
        let (meta, range, attributes) = (got.meta.clone(), got.range.clone(), got.attributes.clone());
        let whole = got.bytes().await?;
        let half = whole.slice(..whole.len() / 2);
        let mut pieces: Vec<Result<Bytes>> = vec![Ok(half)];
        if strike.mode != Mode::Short {
            pieces.push(Err(failure(strike.mode, at)));
        }
        let payload = GetResultPayload::Stream(stream::iter(pieces).boxed());
        Ok(GetResult { payload, meta, range, attributes })
    }

    fn delete_stream(&self, at: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let one = move |path: Path| {
            let this = this.clone();
            async move {
                let inner = Arc::clone(&this.inner);
                let work = async {
                    let deleted = inner.delete_stream(stream::iter([Ok(path.clone())]).boxed());
                    deleted.try_collect::<Vec<_>>().await
                };
                this.through(Call::Delete, &path, work).await?;
                Ok(path)
            }
        };
        at.and_then(one).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(self.inner.list(prefix), prefix.cloned().unwrap_or_default())
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(self.inner.list_with_offset(prefix, offset), prefix.cloned().unwrap_or_default())
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let at = prefix.cloned().unwrap_or_default();
        let mut listed = self.through(Call::Folders, &at, self.inner.list_with_delimiter(prefix)).await?;
        if self.reversed {
            listed.common_prefixes.reverse();
            listed.objects.reverse();
        }
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.through(Call::Put, to, self.inner.copy_opts(from, to, options)).await
    }
}

/// An upload in parts, each of which may fail.
#[derive(Debug)]
struct FaultyUpload {
    store: Faulty,
    upload: Arc<tokio::sync::Mutex<Box<dyn MultipartUpload>>>,
    at: Path,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (store, at) = (self.store.clone(), self.at.clone());
        // Parts are numbered in the order of these calls, so the inner one is made now.
        let part = self.upload.try_lock().map(|mut upload| upload.put_part(data));
        async move {
            let part = part.map_err(|_| failure(Mode::Error, &at))?;
            store.through(Call::Part, &at, part).await
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let upload = Arc::clone(&self.upload);
        self.store.through(Call::Complete, &self.at, async move { upload.lock().await.complete().await }).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.lock().await.abort().await
    }
}
