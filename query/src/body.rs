//! The body of an answer: written on the query threads, held back for a while, then streamed.
//!
//! The first mebibytes are held back, so that an answer that fails early is a problem with its status and not half
//! an answer. A longer one that fails later breaks off: the transfer ends without its end, in every format.
//! Not here: the formats ([`crate::answer`]).

use crate::answer::{Format, Writer};
use crate::error::QueryError;
use crate::run::{Answer, Engine};
use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use tokio::sync::mpsc;

/// Bytes of an answer that are held until it is known to go well or to be longer.
const HELD_BYTES: usize = 8 * 1_024 * 1_024;
/// Pieces written ahead of a slow reader.
const AHEAD: usize = 4;

type Piece = Result<Bytes, QueryError>;

/// Starts writing an answer and gives its body.
///
/// # Errors
/// What ended the query before [`HELD_BYTES`] were written.
pub(crate) async fn stream(engine: &Engine, answer: Answer, format: Format) -> Result<Body, QueryError> {
    let (pieces, mut written) = mpsc::channel::<Piece>(AHEAD);
    let writer = Writer::new(format, &answer.schema, answer.read.clone())?;
    engine.spawn(async move {
        if let Err(error) = write(answer, writer, &pieces).await {
            // The reader may be gone; then nobody is left to tell.
            drop(pieces.send(Err(error)).await);
        }
    })?;
    let (mut held, mut bytes) = (Vec::new(), 0);
    while bytes < HELD_BYTES {
        match written.recv().await {
            Some(piece) => {
                let piece = piece?;
                bytes += piece.len();
                held.push(Ok(piece));
            }
            None => return Ok(Body::from_stream(stream::iter(held))),
        }
    }
    let rest = stream::unfold(written, |mut written| async move { written.recv().await.map(|piece| (piece, written)) });
    Ok(Body::from_stream(futures::StreamExt::chain(stream::iter(held), rest)))
}

async fn write(mut answer: Answer, mut writer: Writer, pieces: &mpsc::Sender<Piece>) -> Result<(), QueryError> {
    while let Some(batch) = answer.next().await {
        let piece = writer.write(&batch?)?;
        if !piece.is_empty() && pieces.send(Ok(piece)).await.is_err() {
            return Ok(());
        }
    }
    let last = writer.finish()?;
    // The reader may be gone; then nobody is left to tell.
    drop(pieces.send(Ok(last)).await);
    Ok(())
}
