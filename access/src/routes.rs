//! Routes with their guard: who is calling is found out before a handler runs, and what it did is on record before its
//! answer leaves.
//!
//! Every crate builds its router with [`Routes`], so that the table of all routes is the one that is served. Not here:
//! what is recorded ([`crate::record`]), what is allowed ([`crate::Door`]).
//!
//! Invariants: there is no route without a guard but those that [`Routes::open`] names with a reason; a guard that
//! cannot record refuses.

use crate::caller::Caller;
use crate::door::Door;
use crate::listener::Peer;
use crate::openapi::Operation;
use crate::problem::{Problem, ProblemKind};
use crate::progress::Going;
use crate::record::{Begun, RecordError, Recording, is_look_at_the_record};
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::HeaderValue;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use std::pin::Pin;
use std::task::{Context, Poll};

/// One route, as the table has it.
#[derive(Clone, Copy)]
pub struct Route {
    /// `GET`, `POST`, …
    pub method: &'static str,
    /// The path, with its parameters in braces.
    pub path: &'static str,
    /// How it is recorded; none for what is open to everybody.
    pub recording: Option<Recording>,
    /// Why it is open to everybody.
    pub why_open: &'static str,
    /// What it takes and answers.
    pub operation: Operation,
}

/// Routes of one crate, each with its guard, and the table of them.
pub struct Routes<S> {
    door: Door,
    router: Router<S>,
    table: Vec<Route>,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// No routes yet.
    pub fn new(door: Door) -> Self {
        Self { door, router: Router::new(), table: Vec::new() }
    }

    /// Adds a route that serves known callers.
    pub fn route(
        mut self,
        method: &'static str,
        path: &'static str,
        recording: Recording,
        operation: Operation,
        handler: MethodRouter<S>,
    ) -> Self {
        let door = self.door.clone();
        let guarded = handler.layer(middleware::from_fn(move |request: Request, next: Next| {
            let door = door.clone();
            async move { guard(door, recording, request, next).await }
        }));
        self.router = self.router.route(path, guarded);
        self.table.push(Route { method, path, recording: Some(recording), why_open: "", operation });
        self
    }

    /// Adds what somebody else adds.
    pub fn extended(self, more: impl FnOnce(Self) -> Self) -> Self {
        more(self)
    }

    /// Adds a route that serves everybody, and says why.
    pub fn open(
        mut self,
        method: &'static str,
        path: &'static str,
        why_open: &'static str,
        operation: Operation,
        handler: MethodRouter<S>,
    ) -> Self {
        self.router = self.router.route(path, handler);
        self.table.push(Route { method, path, recording: None, why_open, operation });
        self
    }

    /// The router, and the table of its routes.
    pub fn finish(self, state: S) -> (Router, Vec<Route>) {
        (self.router.with_state(state), self.table)
    }
}

async fn guard(door: Door, recording: Recording, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|info| info.0.clone());
    let Some(peer) = peer else {
        return Problem::new(ProblemKind::Internal, "it is not known where this comes from").into_response();
    };
    let address = peer.address.ip().to_string();
    let found = Caller::of(&door, request.headers(), &peer).await;
    let caller = match found {
        Ok(caller) => caller,
        Err(unknown) => {
            let recorded = door.recorder().unknown(&address, unknown.code, unknown.credential.clone()).await;
            let kind = if unknown.is_known { ProblemKind::Forbidden } else { ProblemKind::Unauthenticated };
            let problem = recorded.map_or_else(unrecorded, |()| Problem::new(kind, unknown.why));
            return problem.into_response();
        }
    };
    let going = match door.ongoing().watch(&caller, request.headers(), door.now()) {
        Ok(going) => going,
        Err(problem) => return problem.into_response(),
    };
    request.extensions_mut().insert(caller.clone());
    let response = next.run(request).await;
    match put_on_record(&door, recording, &caller, response).await {
        Ok(response) => watched_to_its_end(going, response),
        Err(error) => unrecorded(error).into_response(),
    }
}

/// The response, whose progress can be asked for until the last byte of its body was handed over.
fn watched_to_its_end(going: Option<Going>, response: Response) -> Response {
    let Some(going) = going else { return response };
    let (parts, body) = response.into_parts();
    let body = body.into_data_stream().inspect(move |_| {
        let _still = &going;
    });
    Response::from_parts(parts, Body::from_stream(body))
}

fn unrecorded(error: RecordError) -> Problem {
    tracing::error!(error = &error as &dyn std::error::Error, "a request could not be put on record: it is refused");
    let detail = "this cannot be put on record now, and what is not on record is not answered; send again shortly";
    Problem::new(ProblemKind::Unavailable, detail)
}

async fn put_on_record(
    door: &Door,
    recording: Recording,
    caller: &Caller,
    response: Response,
) -> Result<Response, RecordError> {
    let recorder = door.recorder();
    recorder.denied(caller, &caller.visit().take_denied()).await?;
    match recording {
        Recording::Counted | Recording::ByItself => Ok(response),
        Recording::Hourly => {
            door.pay(caller);
            recorder.hour(caller, length_of(&response)).await?;
            Ok(response)
        }
        Recording::Each if caller.visit().all(is_look_at_the_record) => {
            door.pay(caller);
            recorder.hour(caller, length_of(&response)).await?;
            Ok(response)
        }
        Recording::Each => Ok(match recorder.begin(caller).await? {
            Some(begun) => ended_with_its_body(door, caller, begun, response),
            None => response,
        }),
    }
}

fn length_of(response: &Response) -> u64 {
    axum::body::HttpBody::size_hint(response.body()).exact().unwrap_or_default()
}

/// The response, whose visit is ended on record when the last byte of its body was handed over, or it was given up.
fn ended_with_its_body(door: &Door, caller: &Caller, begun: Begun, response: Response) -> Response {
    let id = HeaderValue::from_str(begun.id()).ok();
    let outcome = if response.status().is_success() { "success" } else { "error" };
    let (mut parts, body) = response.into_parts();
    if let Some(id) = id {
        parts.headers.insert("x-request-id", id);
    }
    let ending = Ending { door: door.clone(), caller: caller.clone(), begun: Some(begun), outcome, bytes: 0 };
    let body = Body::from_stream(Watched { body: body.into_data_stream(), ending });
    Response::from_parts(parts, body)
}

struct Ending {
    door: Door,
    caller: Caller,
    begun: Option<Begun>,
    outcome: &'static str,
    bytes: u64,
}

impl Ending {
    fn end(&mut self, outcome: &'static str) {
        let Some(begun) = self.begun.take() else { return };
        let (door, visit, bytes) = (self.door.clone(), self.caller.visit().clone(), self.bytes);
        door.pay(&self.caller);
        tokio::spawn(async move { door.recorder().end(begun, outcome, &visit, bytes).await });
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // Whoever asked went away before the end.
        self.end("failure");
    }
}

/// A body that is watched to its end.
struct Watched {
    body: axum::body::BodyDataStream,
    ending: Ending,
}

impl Stream for Watched {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = Pin::new(&mut self.body).poll_next(context);
        match &polled {
            Poll::Ready(Some(Ok(piece))) => self.ending.bytes += piece.len() as u64,
            Poll::Ready(Some(Err(_))) => self.ending.end("error"),
            Poll::Ready(None) => {
                let outcome = self.ending.outcome;
                self.ending.end(outcome);
            }
            Poll::Pending => {}
        }
        polled
    }
}
