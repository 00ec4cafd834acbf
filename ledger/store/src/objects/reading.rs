//! A body that breaks off, stands still or ends too early is taken up where it stopped.
//!
//! Not here: the request that begins it ([`super::steady`]). Invariants: whoever reads gets just the bytes that were
//! asked for, of one version of the object, or an error; a body that gives bytes between its troubles is taken up as
//! often as it takes.

use super::patience::Passing;
use super::steady::Steady;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectStore, Result};
use std::ops::Range;

/// What is still to be read of an object.
pub(super) struct Reading {
    steady: Steady,
    path: Path,
    e_tag: Option<String>,
    left: Range<u64>,
    tries: u32,
}

impl Reading {
    /// Reading this range of this version.
    pub(super) fn new(steady: Steady, path: Path, e_tag: Option<String>, left: Range<u64>) -> Self {
        Self { steady, path, e_tag, left, tries: 0 }
    }

    /// The body, mended.
    pub(super) fn of(self, body: BoxStream<'static, Result<Bytes>>) -> BoxStream<'static, Result<Bytes>> {
        stream::try_unfold((self, Some(body)), |(mut reading, mut body)| async move {
            while !reading.left.is_empty() {
                let error = match reading.next(&mut body).await {
                    Ok(bytes) => return Ok(Some((bytes, (reading, body)))),
                    Err(error) => error,
                };
                reading.tries += 1;
                reading.steady.again("body", reading.tries, error).await?;
                body = None;
            }
            Ok(None)
        })
        .boxed()
    }

    async fn next(&mut self, body: &mut Option<BoxStream<'static, Result<Bytes>>>) -> Result<Bytes> {
        let idle = self.steady.patience.one_try;
        let work = async {
            let body = match body {
                Some(body) => body,
                None => body.insert(self.rest().await?),
            };
            body.try_next().await
        };
        let got = self.steady.within(idle, work).await?;
        let asked = self.left.end - self.left.start;
        match got {
            Some(bytes) if bytes.len() as u64 <= asked => {
                if !bytes.is_empty() {
                    (self.left.start, self.tries) = (self.left.start + bytes.len() as u64, 0);
                }
                Ok(bytes)
            }
            Some(_) => Err(Error::NotSupported { source: "the store sent more bytes than were asked for".into() }),
            None => Err(Passing::Short { sent: 0, asked }.error()),
        }
    }

    /// Asks for what is left, of the same version where the store tells versions.
    async fn rest(&self) -> Result<BoxStream<'static, Result<Bytes>>> {
        let range = Some(GetRange::Bounded(self.left.clone()));
        let options = GetOptions { range, if_match: self.e_tag.clone(), ..GetOptions::default() };
        Ok(self.steady.inner.get_opts(&self.path, options).await?.into_stream())
    }
}
