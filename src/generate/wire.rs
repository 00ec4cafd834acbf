//! An event in the making, and how it is written as one line of NDJSON.
//!
//! It is the writing side only: what a service of the platform would send. It does not validate (ingest does, and a
//! test here checks every line against the documented limits) and it knows nothing of the story that an event belongs
//! to. Written by hand, field by field, so that the bytes of a plan stay the same whatever a JSON library does.
//! Neighbours: `traffic` and the plants fill events, the parent writes them.
//!
//! Invariants:
//! 1. A line is one JSON object without line breaks inside; absent fields are left out.
//! 2. `attributes` holds a finished JSON object or nothing.

use super::platform::TENANTS;
use super::random::Random;
use ledger::time::format_micros as rfc3339;
use std::fmt::Write as _;

/// Which stream an event goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stream {
    /// The trail; left out on the wire, since it is the default.
    #[default]
    Audit,
    /// Requests, jobs, latencies, errors.
    Telemetry,
}

/// A severity as services send it: by number or by name.
#[derive(Clone, Copy, Debug, Default)]
pub enum Severity {
    /// Not given.
    #[default]
    Absent,
    /// An OpenTelemetry SeverityNumber, 1 to 24.
    Number(u8),
    /// A short name such as `warn`.
    Name(&'static str),
}

/// One event. An empty text means absent, as on the wire.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// Index into [`TENANTS`].
    pub tenant: usize,
    pub stream: Stream,
    /// When it happened, in microseconds.
    pub time: i64,
    pub id: String,
    pub action: &'static str,
    pub outcome: &'static str,
    pub reason: &'static str,
    pub actor_type: &'static str,
    pub actor: String,
    pub actor_name: String,
    pub on_behalf_of: String,
    pub resource_type: &'static str,
    pub resource: String,
    pub resource_name: String,
    pub class: &'static str,
    pub boundary: &'static str,
    pub legal_entity: String,
    pub business_unit: &'static str,
    pub client: String,
    pub project: String,
    pub partner: &'static str,
    pub source_ip: String,
    pub session: String,
    pub user_agent: &'static str,
    pub credential: String,
    pub service: &'static str,
    pub workflow: &'static str,
    pub integration: &'static str,
    pub release: String,
    pub region: &'static str,
    pub severity: Severity,
    pub duration_us: Option<u64>,
    pub trace_id: String,
    pub span_id: String,
    pub elevation_id: String,
    pub approval_id: String,
    pub attributes: String,
}

/// Appends `text` as a JSON string.
fn quote(line: &mut String, text: &str) {
    line.push('"');
    for letter in text.chars() {
        match letter {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            // Writing to a string cannot fail; the result carries nothing.
            control if u32::from(control) < 0x20 => drop(write!(line, "\\u{:04x}", u32::from(control))),
            other => line.push(other),
        }
    }
    line.push('"');
}

/// Appends `"name":"value"` and the comma before it, unless the value is empty.
fn member(line: &mut String, name: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    if !line.ends_with('{') {
        line.push(',');
    }
    quote(line, name);
    line.push(':');
    quote(line, value);
}

/// Appends `,"name":value` with a value that is JSON already.
fn raw(line: &mut String, name: &str, value: &str) {
    if !line.ends_with('{') {
        line.push(',');
    }
    quote(line, name);
    line.push(':');
    line.push_str(value);
}

impl Event {
    /// Writes the event and a line feed into `line`, which is cleared first.
    pub fn write(&self, line: &mut String) {
        line.clear();
        line.push('{');
        member(line, "id", &self.id);
        member(line, "time", &rfc3339(self.time));
        member(line, "tenant", TENANTS[self.tenant].id);
        if self.stream == Stream::Telemetry {
            member(line, "stream", "telemetry");
        }
        member(line, "action", self.action);
        member(line, "outcome", self.outcome);
        member(line, "reason", self.reason);
        self.write_actor(line);
        self.write_resource(line);
        self.write_context(line);
        self.write_measures(line);
        member(line, "elevation_id", &self.elevation_id);
        member(line, "approval_id", &self.approval_id);
        if !self.attributes.is_empty() {
            raw(line, "attributes", &self.attributes);
        }
        line.push_str("}\n");
    }

    fn write_actor(&self, line: &mut String) {
        raw(line, "actor", "{");
        member(line, "type", self.actor_type);
        member(line, "id", &self.actor);
        member(line, "name", &self.actor_name);
        member(line, "on_behalf_of", &self.on_behalf_of);
        line.push('}');
    }

    fn write_resource(&self, line: &mut String) {
        if self.resource_type.is_empty() {
            return;
        }
        raw(line, "resource", "{");
        member(line, "type", self.resource_type);
        member(line, "id", &self.resource);
        member(line, "name", &self.resource_name);
        member(line, "class", self.class);
        member(line, "boundary", self.boundary);
        line.push('}');
    }

    fn write_context(&self, line: &mut String) {
        member(line, "legal_entity", &self.legal_entity);
        member(line, "business_unit", self.business_unit);
        member(line, "client", &self.client);
        member(line, "project", &self.project);
        member(line, "partner", self.partner);
        member(line, "source_ip", &self.source_ip);
        member(line, "session", &self.session);
        member(line, "user_agent", self.user_agent);
        member(line, "credential", &self.credential);
        member(line, "service", self.service);
        member(line, "workflow", self.workflow);
        member(line, "integration", self.integration);
        member(line, "release", &self.release);
        member(line, "region", self.region);
    }

    fn write_measures(&self, line: &mut String) {
        match self.severity {
            Severity::Absent => {}
            Severity::Number(number) => raw(line, "severity", &number.to_string()),
            Severity::Name(name) => member(line, "severity", name),
        }
        if let Some(duration) = self.duration_us {
            raw(line, "duration_us", &duration.to_string());
        }
        member(line, "trace_id", &self.trace_id);
        member(line, "span_id", &self.span_id);
    }
}

/// An id in the layout of a UUIDv7 (RFC 9562 §5.7): the event's millisecond, then 74 bits of the seeded sequence.
pub fn event_id(time: i64, random: &mut Random) -> String {
    let millis = time.div_euclid(1_000).max(0).unsigned_abs() & 0xFFFF_FFFF_FFFF;
    let high = random.next();
    let low = random.next();
    format!(
        "{:08x}-{:04x}-7{:03x}-{:04x}-{:012x}",
        millis >> 16,
        millis & 0xFFFF,
        high & 0xFFF,
        0x8000 | ((high >> 16) & 0x3FFF),
        low & 0xFFFF_FFFF_FFFF
    )
}

/// Builds the text of `attributes`, in the order of the calls.
#[derive(Debug)]
pub struct Attributes(String);

impl Attributes {
    /// An object without members.
    pub fn new() -> Self {
        Self(String::from("{"))
    }

    /// Adds a text; an empty one is written too, unlike in an event's own fields.
    pub fn text(mut self, name: &str, value: &str) -> Self {
        let mut quoted = String::with_capacity(value.len() + 2);
        quote(&mut quoted, value);
        raw(&mut self.0, name, &quoted);
        self
    }

    /// Adds an integer.
    pub fn integer(mut self, name: &str, value: u64) -> Self {
        raw(&mut self.0, name, &value.to_string());
        self
    }

    /// Adds an amount of money as text with two decimals, from cents: what a careful billing system sends.
    pub fn amount(self, name: &str, cents: u64) -> Self {
        self.text(name, &format!("{}.{:02}", cents / 100, cents % 100))
    }

    /// Adds a value that is JSON already: a list, an object, `true`.
    pub fn json(mut self, name: &str, value: &str) -> Self {
        raw(&mut self.0, name, value);
        self
    }

    /// The finished object.
    pub fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}
