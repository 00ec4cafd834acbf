//! A visit between its begin and its end, and the streams that hold both.
//!
//! Not here: when they are written ([`super::Recorder`]). Invariant: begin and end name the same request, and no entry
//! of one tenant another tenant.

use super::{About, stream_for};
use crate::registry::{Author, Entry};
use crate::visit::Touch;
use ledger::draft::{Draft, Invalid};
use ledger::name::{StreamKind, TenantId};
use serde_json::{Map, Value, json};

/// What was put on record at a request's begin, to be ended.
#[derive(Debug, Clone)]
pub(crate) struct Begun {
    pub(super) id: String,
    pub(super) caller: Author,
    pub(super) action: &'static str,
    pub(super) places: Vec<Place>,
    /// What each tenant of several is told once an hour.
    pub(super) hours: Vec<About>,
    pub(super) notes: Map<String, Value>,
    pub(super) began: i64,
}

/// A stream that holds the begin of a visit, and what it says there.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub tenant: TenantId,
    pub stream: StreamKind,
    pub resource: (&'static str, String),
    pub elevation: Option<String>,
    pub more: Map<String, Value>,
}

/// Where a visit to one tenant is recorded.
pub(super) fn place_of(tenant: &TenantId, touches: &[&Touch]) -> Place {
    let streams: Vec<Value> = touches
        .iter()
        .map(|touch| json!({"stream": touch.stream.as_str(), "right": touch.right.as_str(), "whole": touch.is_whole}))
        .collect();
    let elevation = touches.iter().find(|touch| touch.is_elevation).map(|touch| touch.right.to_string());
    let of: Vec<&str> = touches.iter().map(|touch| touch.stream.as_str()).collect();
    let more = Map::from_iter([("streams".to_string(), Value::Array(streams))]);
    Place { tenant: tenant.clone(), stream: stream_for(tenant), resource: ("stream", of.join(" ")), elevation, more }
}

impl Begun {
    /// The request's id, which its answer carries.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The entry of one phase.
    pub(super) fn entry(
        &self,
        place: &Place,
        outcome: &str,
        more: Map<String, Value>,
        phase: &str,
        now: i64,
    ) -> Result<Draft, Invalid> {
        let mut attributes = Map::from_iter([("request".to_string(), json!(self.id)), ("phase".into(), json!(phase))]);
        if phase == "begin" {
            attributes.extend(self.notes.clone());
            attributes.extend(place.more.clone());
        }
        attributes.extend(more);
        Entry {
            tenant: &place.tenant,
            stream: place.stream,
            id: format!("visit-{}-{phase}", self.id),
            action: self.action,
            outcome,
            author: &self.caller,
            resource: place.resource.clone(),
            elevation: place.elevation.clone(),
            attributes: Value::Object(attributes).to_string(),
            now,
        }
        .draft()
    }
}
