//! Admission: the events of one request become drafts, go to their streams, and each gets its result.
//!
//! Not here: reading bytes ([`crate::wire`], [`crate::batch`]), what an answer looks like (`answer`), sequencing
//! (`ledger-store`), status codes (`access`). Invariants: the results are in the order of the events; with
//! all-or-nothing, one refusal appends nothing; what is remembered under an idempotency key answers a repeat exactly.

use crate::limits::IngestLimits;
use crate::wire::{self, Context, Rejection};
use access::{Caller, Door, Problem, ProblemKind};
use futures::future::join_all;
use ledger::draft::{Draft, DraftBuilder, Outline};
use ledger::name::{NameError, StreamKind, TenantId};
use ledger::tree::Hash;
use ledger_store::{Ambient, AppendHandle, AppendRequest, Appended, RequestKey, Verdict};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

mod answer;

/// Takes events in.
#[derive(Clone)]
pub struct Admission {
    door: Door,
    ambient: Arc<dyn Ambient>,
    limits: Arc<IngestLimits>,
}

/// What a request asks besides its events.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// All or nothing.
    pub atomic: bool,
    /// The idempotency key, which is the principal's own.
    pub key: Option<String>,
}

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventResult {
    /// It came to a stream, with this verdict.
    Judged {
        /// Whose.
        tenant: TenantId,
        /// Which stream.
        stream: StreamKind,
        /// Whether it is new, and its position or that of the first of its id.
        verdict: Verdict,
    },
    /// It was not admitted.
    Rejected(Rejection),
}

/// What became of a request.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// Event by event.
    pub results: Vec<EventResult>,
    /// By the store that keeps the events, proof up to a signed checkpoint; of one in which nothing was accepted or
    /// found there is none.
    pub receipts: BTreeMap<TenantId, String>,
}

/// Where an event of the request went.
enum Place {
    /// Into this part.
    Part(usize),
    Rejected(Rejection),
}

/// The events of one request for one stream.
struct Part {
    tenant: TenantId,
    kind: StreamKind,
    outlines: Vec<Outline>,
}

/// What of a request goes to one store.
struct Share {
    store: TenantId,
    /// Which parts.
    numbers: Vec<usize>,
    request: AppendRequest,
}

/// The events of one request: where each went, and the encodings of those that are admissible.
struct Sorted {
    places: Vec<Place>,
    parts: Vec<Part>,
    encoded: Vec<u8>,
}

impl Admission {
    /// Admission through a door.
    pub fn new(door: Door, ambient: Arc<dyn Ambient>, limits: IngestLimits) -> Self {
        Self { door, ambient, limits: Arc::new(limits) }
    }

    /// The door that it goes through.
    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    /// Bounds in force.
    pub fn limits(&self) -> &IngestLimits {
        &self.limits
    }

    /// Takes the events of one request in. `body_hash` tells one body from another.
    ///
    /// # Errors
    /// All-or-nothing was asked for and something is refused, nothing of it is granted to the caller, or the store does
    /// not accept.
    pub async fn admit(
        &self,
        caller: &Caller,
        events: &[&[u8]],
        address: Option<(&TenantId, StreamKind)>,
        wishes: Wishes,
        body_hash: Hash,
    ) -> Result<Admitted, Problem> {
        let (Sorted { places, parts, encoded }, handles) = self.granted(caller, self.read(events, address))?;
        if wishes.atomic && places.iter().any(|place| matches!(place, Place::Rejected(_))) {
            return Err(refused("an event is not admissible", &results_of(places, &parts, |_, _| Err(not_appended()))));
        }
        if parts.is_empty() {
            return Ok(Admitted {
                results: results_of(places, &parts, |_, _| Err(not_appended())),
                receipts: BTreeMap::new(),
            });
        }
        let key = wishes.key.map(|key| (caller.principal().as_str().to_string(), key, body_hash));
        let shares = shares(handles, &parts, &encoded, wishes.atomic, key.as_ref());
        drop(encoded);
        if wishes.atomic && shares.len() > 1 {
            let detail = "the events are of tenants that live in several stores, and all-or-nothing holds within one: \
                          send them in a request for each, or without `atomic`";
            return Err(Problem::new(ProblemKind::Unprocessable, detail));
        }
        let is_only = shares.len() == 1;
        let taken = shares.into_iter().map(|share| async {
            let Share { store, numbers, request } = share;
            (store, numbers, self.door.append(request).await)
        });
        let (mut fates, mut receipts) = (vec![Err(not_appended()); parts.len()], BTreeMap::new());
        for (store, numbers, taken) in join_all(taken).await {
            let judged = match taken {
                Ok(Appended::Done { verdicts, receipt }) => Ok((verdicts, receipt)),
                Ok(Appended::Repeated { answer, receipt }) => repeated(&answer, &numbers, &parts).map(|v| (v, receipt)),
                Ok(Appended::Refused { conflicts }) => {
                    let conflict =
                        |part: usize, at: usize| conflicts[part][at].map(Verdict::Conflict).ok_or_else(not_appended);
                    let results = results_of(places, &parts, conflict);
                    return Err(refused("an event conflicts with one of the same id", &results));
                }
                Err(problem) => Err(problem),
            };
            let (verdicts, receipt) = match judged {
                Ok(judged) => judged,
                // What other stores took stands, and says so.
                Err(problem) if !is_only => {
                    let why = Rejection::new("tenant", problem.detail().to_string());
                    let why = Rejection { retry_after: problem.retry_after(), ..why };
                    for at in numbers {
                        caller.visit().brought_nothing(&parts[at].tenant, parts[at].kind);
                        fates[at] = Err(why.clone());
                    }
                    continue;
                }
                Err(problem) => return Err(problem),
            };
            for (at, verdicts) in numbers.into_iter().zip(verdicts) {
                fates[at] = Ok(verdicts);
            }
            receipts.extend(receipt.map(|receipt| (store, receipt)));
        }
        let verdict = |part: usize, at: usize| match &fates[part] {
            Ok(verdicts) => Ok(verdicts[at]),
            Err(why) => Err(why.clone()),
        };
        Ok(Admitted { results: results_of(places, &parts, verdict), receipts })
    }

    /// Opens the streams that events are for. Those of streams that are not granted to the caller are rejected.
    fn granted(&self, caller: &Caller, sorted: Sorted) -> Result<(Sorted, Vec<AppendHandle>), Problem> {
        let Sorted { mut places, parts, encoded } = sorted;
        let (mut kept, mut handles, mut first) = (Vec::with_capacity(parts.len()), Vec::new(), None);
        // Where each part went: to which of those that are kept, or why to none.
        let mut moved: Vec<Result<usize, Rejection>> = Vec::with_capacity(parts.len());
        for part in parts {
            let bytes = part.outlines.iter().map(|outline| u64::from(outline.bytes())).sum();
            let brought = (part.outlines.len() as u64, bytes);
            match self.door.append_to(caller, &part.tenant, part.kind, brought) {
                Ok(handle) => {
                    moved.push(Ok(kept.len()));
                    kept.push(part);
                    handles.push(handle);
                }
                Err(problem) => {
                    let rejection = Rejection::new("tenant", problem.detail().to_string());
                    moved.push(Err(Rejection { retry_after: problem.retry_after(), ..rejection }));
                    first.get_or_insert(problem);
                }
            }
        }
        let Some(first) = first else { return Ok((Sorted { places, parts: kept, encoded }, handles)) };
        if kept.is_empty() {
            return Err(first);
        }
        for place in &mut places {
            if let Place::Part(part) = place {
                *place = match &moved[*part] {
                    Ok(part) => Place::Part(*part),
                    Err(rejection) => Place::Rejected(rejection.clone()),
                };
            }
        }
        Ok((Sorted { places, parts: kept, encoded }, handles))
    }

    fn read(&self, events: &[&[u8]], address: Option<(&TenantId, StreamKind)>) -> Sorted {
        let now = self.ambient.now_micros();
        let context = Context { address, now, limits: &self.limits };
        let mut builder = DraftBuilder::default();
        // Names of fields are longer in JSON than the headers that they become: the encodings are hardly longer.
        let mut encoded = Vec::with_capacity(events.iter().map(|event| event.len()).sum());
        let mut parts: Vec<Part> = Vec::new();
        let mut part_of: [HashMap<TenantId, usize>; StreamKind::ALL.len()] = Default::default();
        let mut places = Vec::with_capacity(events.len());
        for event in events {
            let read = wire::read(event, &context, &mut builder, &mut encoded, || self.new_id(now));
            let place = read.and_then(|outline| {
                let (name, kind) = (outline.tenant(&encoded), outline.stream());
                let of_kind = &mut part_of[kind as usize];
                let part = match of_kind.get(name) {
                    Some(part) => *part,
                    None => {
                        // The tenant was checked when its field was set.
                        let tenant: TenantId =
                            name.parse().map_err(|error: NameError| Rejection::new("tenant", error.to_string()))?;
                        of_kind.insert(tenant.clone(), parts.len());
                        parts.push(Part { tenant, kind, outlines: Vec::new() });
                        parts.len() - 1
                    }
                };
                parts[part].outlines.push(outline);
                Ok(Place::Part(part))
            });
            places.push(place.unwrap_or_else(Place::Rejected));
        }
        Sorted { places, parts, encoded }
    }

    /// A UUIDv7 (RFC 9562 §5.7) for an event that came without an id.
    fn new_id(&self, now: i64) -> String {
        let mut bytes = [0; 16];
        self.ambient.fill_random(&mut bytes);
        let millis = (now.max(0) as u64 / 1_000).to_be_bytes();
        bytes[..6].copy_from_slice(&millis[2..]);
        bytes[6] = 0x70 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

/// Sorts the parts of a request by the stores that keep them: a tenant's streams are all in one, and most requests know
/// no other.
fn shares(
    handles: Vec<AppendHandle>,
    parts: &[Part],
    encoded: &[u8],
    atomic: bool,
    key: Option<&(String, String, Hash)>,
) -> Vec<Share> {
    let mut shares: BTreeMap<TenantId, Share> = BTreeMap::new();
    for (at, (handle, part)) in handles.into_iter().zip(parts).enumerate() {
        let new = |store: &TenantId| {
            let key = key.map(|(principal, key, body)| request_key(principal, key, *body));
            let request = AppendRequest { parts: vec![], atomic, key, expects: None };
            Share { store: store.clone(), numbers: vec![], request }
        };
        let share = match shares.get_mut(handle.store()) {
            Some(share) => share,
            None => shares.entry(handle.store().clone()).or_insert(new(handle.store())),
        };
        share.numbers.push(at);
        share.request.parts.push((handle, Draft::gather(encoded, &part.outlines)));
    }
    shares.into_values().collect()
}

/// What a store answered to the same body before.
fn repeated(answer: &[u8], numbers: &[usize], parts: &[Part]) -> Result<Vec<Vec<Verdict>>, Problem> {
    let expected = numbers.iter().map(|at| parts[*at].outlines.len());
    let verdicts = remembered::decode(answer).filter(|verdicts| verdicts.iter().map(Vec::len).eq(expected));
    // The clock may have moved past an event that was refused as lying in the future.
    verdicts
        .ok_or_else(|| Problem::new(ProblemKind::Conflict, "the body is judged otherwise now; send it with a new key"))
}

fn not_appended() -> Rejection {
    Rejection::new("event", "not appended, because another of the request was refused")
}

fn request_key(principal: &str, key: &str, body: Hash) -> RequestKey {
    let name = Hash::of(format!("{principal}\n{key}").as_bytes());
    RequestKey { key: name.0, body: body.0, encode: Box::new(remembered::encode) }
}

fn refused(why: &str, results: &[EventResult]) -> Problem {
    let detail = format!("{why}, and all-or-nothing was asked for: nothing was appended");
    let mut text = Vec::new();
    answer::put_results(&mut text, results);
    let results = serde_json::from_slice(&text).unwrap_or_default();
    Problem::new(ProblemKind::Unprocessable, detail).with("results", results)
}

fn results_of(
    places: Vec<Place>,
    parts: &[Part],
    verdict: impl Fn(usize, usize) -> Result<Verdict, Rejection>,
) -> Vec<EventResult> {
    let mut next = vec![0; parts.len()];
    let result = |place| match place {
        Place::Rejected(rejection) => EventResult::Rejected(rejection),
        Place::Part(part) => {
            let at = next[part];
            next[part] += 1;
            match verdict(part, at) {
                Ok(verdict) => {
                    EventResult::Judged { tenant: parts[part].tenant.clone(), stream: parts[part].kind, verdict }
                }
                Err(why) => EventResult::Rejected(why),
            }
        }
    };
    places.into_iter().map(result).collect()
}

/// What is remembered under an idempotency key: the verdicts, as runs of neighbours.
mod remembered {
    use ledger_store::Verdict;

    fn parts_of(verdict: Verdict) -> (u8, u64) {
        match verdict {
            Verdict::Accepted(seq) => (0, seq),
            Verdict::Duplicate(seq) => (1, seq),
            Verdict::Conflict(seq) => (2, seq),
        }
    }

    pub(super) fn encode(verdicts: &[Vec<Verdict>]) -> Vec<u8> {
        let mut out = Vec::new();
        for part in verdicts {
            let mut runs: Vec<(u8, u64, u32)> = Vec::new();
            for verdict in part {
                let (tag, seq) = parts_of(*verdict);
                match runs.last_mut() {
                    Some((last, first, count)) if *last == tag && *first + u64::from(*count) == seq => *count += 1,
                    _ => runs.push((tag, seq, 1)),
                }
            }
            out.extend_from_slice(&(runs.len() as u32).to_le_bytes());
            for (tag, first, count) in runs {
                out.push(tag);
                out.extend_from_slice(&first.to_le_bytes());
                out.extend_from_slice(&count.to_le_bytes());
            }
        }
        out
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Option<Vec<Vec<Verdict>>> {
        let mut verdicts = Vec::new();
        while !bytes.is_empty() {
            let (runs, rest) = bytes.split_first_chunk::<4>()?;
            bytes = rest;
            let mut part = Vec::new();
            for _ in 0..u32::from_le_bytes(*runs) {
                let (run, rest) = bytes.split_first_chunk::<13>()?;
                bytes = rest;
                let first = u64::from_le_bytes(run[1..9].try_into().ok()?);
                let count = u32::from_le_bytes(run[9..].try_into().ok()?);
                let make = match run[0] {
                    0 => Verdict::Accepted,
                    1 => Verdict::Duplicate,
                    2 => Verdict::Conflict,
                    _ => return None,
                };
                part.extend((first..).take(count as usize).map(make));
            }
            verdicts.push(part);
        }
        Some(verdicts)
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use proptest::prelude::*;

        proptest! {
            #[test]
            fn verdicts_read_back(parts in proptest::collection::vec(proptest::collection::vec((0u8..3, 0u64..9), 1..20), 0..5)) {
                let make = |(tag, seq): &(u8, u64)| match tag {
                    0 => Verdict::Accepted(*seq),
                    1 => Verdict::Duplicate(*seq),
                    _ => Verdict::Conflict(*seq),
                };
                let verdicts: Vec<Vec<Verdict>> = parts.iter().map(|part| part.iter().map(make).collect()).collect();
                prop_assert_eq!(decode(&encode(&verdicts)), Some(verdicts));
            }
        }
    }
}
