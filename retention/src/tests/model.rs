//! The plain model: entries in a list, and what policies, holds and redactions make of them, written as simply as can be.
//!
//! Invariant: nothing here is called by what it judges.

use ledger::field::{Field, Fields, Section};
use ledger::sections::Sections;
use ledger::{Draft, StreamKind, TenantId};
use std::collections::BTreeMap;

pub const HOUR: i64 = 3_600_000_000;

/// One of four streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stream(pub usize);

impl Stream {
    pub const ALL: [Stream; 4] = [Stream(0), Stream(1), Stream(2), Stream(3)];

    pub fn tenant(self) -> TenantId {
        ["acme", "globex"][self.0 / 2].parse().unwrap()
    }

    pub fn kind(self) -> StreamKind {
        [StreamKind::Audit, StreamKind::Telemetry][self.0 % 2]
    }
}

/// An entry as the model has it.
#[derive(Debug, Clone)]
pub struct Entry {
    pub seq: u64,
    pub at: i64,
    pub action: &'static str,
    pub class: &'static str,
    pub actor: u64,
    pub resource: u64,
    pub erased: Sections,
    pub gone: bool,
}

/// What is to be seen of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    seq: u64,
    action: String,
    actor: Option<String>,
    resource: Option<String>,
    origin: Option<String>,
    details: Option<String>,
}

impl Seen {
    pub fn of(seq: u64, draft: &Draft) -> Self {
        let (actor, resource, origin, details) = Default::default();
        let mut seen = Self { seq, action: String::new(), actor, resource, origin, details };
        for field in Fields::of(draft).flatten() {
            match field.field {
                Field::Action => seen.action = field.text().into(),
                Field::ActorId => seen.actor = Some(field.text().into()),
                Field::ResourceId => seen.resource = Some(field.text().into()),
                Field::SourceIp => seen.origin = Some(field.text().into()),
                Field::Attributes => seen.details = Some(field.text().into()),
                _ => {}
            }
        }
        seen
    }
}

impl Entry {
    pub fn attributes(&self) -> String {
        format!("{{\"for\":\"u-{}\"}}", self.resource)
    }

    fn seen(&self) -> Seen {
        let unless = |section: Section, text: String| (!self.erased.contains(section)).then_some(text);
        Seen {
            seq: self.seq,
            action: self.action.into(),
            actor: unless(Section::Actor, format!("u-{}", self.actor)),
            resource: unless(Section::Subject, format!("r-{}", self.resource)),
            origin: unless(Section::Origin, format!("10.0.0.{}", self.actor)),
            details: unless(Section::Details, self.attributes()),
        }
    }

    /// The sections that name somebody, of those that are left.
    pub fn names(&self, somebody: &str) -> Sections {
        let mut named = Sections::default();
        for (section, text) in [
            (Section::Actor, format!("u-{}", self.actor)),
            (Section::Subject, format!("r-{}", self.resource)),
            (Section::Details, format!("u-{}", self.resource)),
        ] {
            if text == somebody && !self.erased.contains(section) {
                named = named | section.into();
            }
        }
        named
    }
}

/// A policy: of a tenant or all, of an action or all, of a class or all; at least and at most so many days.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub tenant: Option<usize>,
    pub action: Option<&'static str>,
    pub class: Option<&'static str>,
    pub least: Option<u32>,
    pub most: Option<u32>,
    pub original: bool,
}

/// A hold: of a tenant, of an actor or a resource of it, or of all.
#[derive(Debug, Clone)]
pub struct Hold {
    pub tenant: usize,
    pub actor: Option<u64>,
    pub resource: Option<u64>,
}

#[derive(Debug, Default)]
pub struct Model {
    pub entries: [Vec<Entry>; 4],
    pub sealed: [u64; 4],
    pub heads: [Vec<u64>; 4],
    pub policies: BTreeMap<String, Policy>,
    pub holds: BTreeMap<String, Hold>,
    pub counts: BTreeMap<&'static str, u64>,
}

impl Model {
    pub fn seen(&self, stream: Stream) -> Vec<Seen> {
        self.entries[stream.0].iter().filter(|entry| !entry.gone).map(Entry::seen).collect()
    }

    pub fn redacted(&self, stream: Stream) -> u64 {
        let sealed = self.sealed[stream.0];
        let lacks = |entry: &&Entry| !entry.gone && !entry.erased.is_empty() && entry.seq < sealed;
        self.entries[stream.0].iter().filter(lacks).count() as u64
    }

    pub fn tally(&self) -> String {
        let gone = self.entries.iter().flatten().filter(|entry| entry.gone).count();
        let all: usize = self.entries.iter().map(Vec::len).sum();
        format!("{all} entries, {gone} gone; {:?}", self.counts)
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn about(&self, stream: Stream, entry: &Entry) -> Vec<&Policy> {
        let fits = |policy: &&Policy| {
            policy.tenant.is_none_or(|tenant| tenant == stream.0 / 2)
                && policy.action.is_none_or(|action| action == entry.action)
                && policy.class.is_none_or(|class| class == entry.class)
        };
        self.policies.values().filter(fits).collect()
    }

    /// Whether a hold holds an entry: what was erased tells no hold who it was.
    pub fn is_held(&self, stream: Stream, entry: &Entry) -> bool {
        let actor = (!entry.erased.contains(Section::Actor)).then_some(entry.actor);
        let resource = (!entry.erased.contains(Section::Subject)).then_some(entry.resource);
        self.holds.values().any(|hold| {
            hold.tenant == stream.0 / 2
                && hold.actor.is_none_or(|held| actor == Some(held))
                && hold.resource.is_none_or(|held| resource == Some(held))
        })
    }

    pub fn keeps_original(&self, stream: Stream, entry: &Entry, now: i64) -> bool {
        let young = |days: u32| now < entry.at + i64::from(days) * 24 * HOUR;
        self.about(stream, entry).iter().any(|policy| policy.original && policy.least.is_some_and(young))
    }

    /// Whether an entry goes in a run of this moment.
    pub fn is_due(&self, stream: Stream, entry: &Entry, now: i64) -> bool {
        let old = |days: u32| now >= entry.at + i64::from(days) * 24 * HOUR;
        let about = self.about(stream, entry);
        let lets_go = about.iter().filter_map(|policy| policy.most).min().is_some_and(old);
        let kept = about.iter().filter_map(|policy| policy.least).any(|days| !old(days));
        lets_go && !kept && !self.is_held(stream, entry)
    }

    /// A run of this moment: what is due and was sealed before goes. What is due and was not may have been sealed in time,
    /// by the log that is emptied: of it `is_there` tells.
    pub fn purge(&mut self, now: i64, is_there: impl Fn(Stream, u64) -> bool) {
        for stream in Stream::ALL {
            let goes: Vec<usize> = (0..self.entries[stream.0].len())
                .filter(|at| {
                    let entry = &self.entries[stream.0][*at];
                    let was_sealed = entry.seq < self.sealed[stream.0];
                    !entry.gone && self.is_due(stream, entry, now) && (was_sealed || !is_there(stream, entry.seq))
                })
                .collect();
            goes.into_iter().for_each(|at| self.entries[stream.0][at].gone = true);
        }
    }

    pub fn some_entries(&self, stream: Stream, step: u64) -> Vec<Entry> {
        let entries = &self.entries[stream.0];
        let at = |n: u64| entries.get((step.wrapping_mul(n) % (entries.len() as u64).max(1)) as usize).cloned();
        [31, 67].into_iter().filter_map(at).collect()
    }

    pub fn some_heads(&self, stream: Stream, step: u64) -> Vec<u64> {
        let heads = &self.heads[stream.0];
        heads.get((step % (heads.len() as u64).max(1)) as usize).copied().into_iter().collect()
    }
}
