//! Where a person is named: in which entries of a tenant, and in which sections of them.
//!
//! An identifier is found where a field of a committed section is just that text, and where a string anywhere in the
//! attributes is. Nothing is guessed: `U-17` is not `u-17`, and a name inside of a sentence is not found. Not here: what is
//! to become of what was found ([`crate::redact`]).
//!
//! Invariant: identifiers are never logged, recorded or answered; what holds them has no `Debug`.

use crate::run::Retention;
use access::registry::names::When;
use access::{Action, Asking, Caller, Problem, ProblemKind, Progress};
use ledger::field::{Field, Fields, Section};
use ledger::sections::Sections;
use ledger::{Draft, StreamKind, TenantId};
use ledger_store::{EntryFacts, StreamHandle};
use serde::Deserialize;
use serde_json::Value;

/// Identifiers of one question: what a person is called in different places.
const MOST_IDENTIFIERS: usize = 50;
/// How deep attributes are looked into: no deeper are they accepted.
const DEEPEST: usize = 40;

/// Who is looked for, and where.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectQuestion {
    /// Of which tenant.
    pub tenant: String,
    /// What the person is called.
    pub identifiers: Vec<String>,
    /// In which streams; in all that are there but `control`, when left out.
    #[serde(default)]
    pub streams: Vec<String>,
    /// What happened from then on.
    #[serde(default)]
    pub from: Option<When>,
    /// What happened before then.
    #[serde(default)]
    pub until: Option<When>,
    /// Of a redaction, which sections go; those that name the person, with what goes along with them, when left out.
    #[serde(default)]
    pub sections: Vec<String>,
}

/// A question that holds together, and the streams that the caller may ask it about.
pub(crate) struct Asked {
    pub tenant: TenantId,
    pub streams: Vec<StreamHandle>,
    looks_for: Vec<Identifier>,
    from: Option<i64>,
    until: Option<i64>,
    progress: Progress,
    /// It is one of the tenant's questions until it is answered.
    _counted: Option<Asking>,
}

/// An identifier, and how it stands in JSON when nothing of it is escaped that need not be.
struct Identifier {
    text: String,
    quoted: String,
}

impl Retention {
    /// Checks a question, and opens the streams that it is about: all of each, or it is refused.
    ///
    /// # Errors
    /// The question is malformed, or not granted to the caller; or the tenant has none of the streams.
    pub(crate) async fn ask(&self, caller: &Caller, question: &SubjectQuestion) -> Result<Asked, Problem> {
        let wrong = |why: String| Problem::new(ProblemKind::Unprocessable, why);
        let tenant: TenantId = question.tenant.parse().map_err(|e| wrong(format!("tenant is {e}")))?;
        self.must_may(caller, Action::FindSubjects, std::slice::from_ref(&tenant))?;
        let fits = |text: &String| !text.is_empty() && text.len() <= Field::ActorId.limit();
        if !(1..=MOST_IDENTIFIERS).contains(&question.identifiers.len()) || !question.identifiers.iter().all(fits) {
            return Err(wrong(format!(
                "identifiers must be 1 to {MOST_IDENTIFIERS} texts of 1 to {} bytes",
                Field::ActorId.limit()
            )));
        }
        let named: Vec<StreamKind> = match question.streams.is_empty() {
            true => vec![StreamKind::Audit, StreamKind::Telemetry, StreamKind::Access],
            false => question.streams.iter().map(|stream| stream.parse()).collect::<Result<_, _>>().map_err(|_| {
                wrong("streams must be of audit, telemetry, access; control is the registry and is kept whole".into())
            })?,
        };
        if named.contains(&StreamKind::Control) {
            return Err(wrong("control is the registry itself: it is kept whole".into()));
        }
        let mut streams = Vec::with_capacity(named.len());
        for stream in named {
            let opened = match self.door.read(caller, &tenant, stream, Action::ReadEvents).await {
                // A stream that was not asked for by name need not be there.
                Err(problem) if problem.kind() == ProblemKind::NotFound && question.streams.is_empty() => continue,
                other => other?,
            };
            if !opened.sight.is_whole() {
                let why =
                    format!("a person is looked for by whoever sees all of {tenant}/{stream}; you see a part of it");
                return Err(Problem::new(ProblemKind::Forbidden, why));
            }
            // All of it is looked at, and counts as what SQL looks at.
            opened.meter.add(opened.handle.stored().1);
            streams.push(opened.handle);
        }
        let (from, until) = (question.from.map(|when| when.0), question.until.map(|when| when.0));
        let _counted = Some(self.door.ask_about(&tenant)?);
        let progress = caller.visit().progress().clone();
        Ok(Asked { from, until, progress, _counted, ..Asked::of(tenant, streams, &question.identifiers) })
    }
}

impl Asked {
    /// Looks for a person in all that these streams hold.
    pub(crate) fn of(tenant: TenantId, streams: Vec<StreamHandle>, identifiers: &[String]) -> Self {
        let looks_for = identifiers.iter().map(|text| {
            let quoted = Value::from(text.as_str()).to_string();
            Identifier { text: text.clone(), quoted }
        });
        let (from, until, progress, _counted) = Default::default();
        Self { tenant, streams, looks_for: looks_for.collect(), from, until, progress, _counted }
    }

    /// Hands over each entry of a stream in which the person is named, sealed or not, with the sections that do.
    ///
    /// # Errors
    /// Stored bytes cannot be read, or what `each` answers.
    pub(crate) fn look(
        &self,
        stream: &StreamHandle,
        mut each: impl FnMut(u64, &Draft, Sections) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        self.progress.next("looking for the person", stream.stored().0 as usize, "entries");
        let read = stream.entries(0, |seq, draft| {
            self.progress.did(1);
            let named = self.named_in(draft);
            if named.is_empty() { Ok(()) } else { each(seq, draft, named) }
        });
        decoding(read)
    }

    /// The sections of an entry that name the person.
    fn named_in(&self, draft: &Draft) -> Sections {
        let (mut named, mut is_within) = (Sections::default(), true);
        for field in Fields::of(draft).flatten() {
            if field.field == Field::OccurredAt {
                let at = field.int();
                is_within = self.from.is_none_or(|from| at >= from) && self.until.is_none_or(|until| at < until);
            }
            let section = field.field.section();
            if section == Section::Skeleton {
                continue;
            }
            let text = field.text();
            let is_named = match section {
                Section::Details => self.looks_for.iter().any(|one| one.is_in(text)),
                _ => self.looks_for.iter().any(|one| one.text == text),
            };
            if is_named {
                named = named | section.into();
            }
        }
        if is_within { named } else { Sections::default() }
    }
}

/// Reads a stream through: decoding all of it takes a core for a while, and others are answered by other threads meanwhile.
pub(crate) fn decoding<T>(read: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(read))
}

impl Identifier {
    /// Whether a string in this JSON is the identifier. Most texts hold nothing like it and are not parsed.
    fn is_in(&self, attributes: &str) -> bool {
        let may_hold = attributes.contains(&self.quoted) || attributes.contains('\\');
        may_hold && serde_json::from_str::<Value>(attributes).is_ok_and(|value| self.is_string_of(&value, 0))
    }

    fn is_string_of(&self, value: &Value, depth: usize) -> bool {
        match value {
            _ if depth > DEEPEST => false,
            Value::String(text) => *text == self.text,
            Value::Array(items) => items.iter().any(|item| self.is_string_of(item, depth + 1)),
            // A member's name may be who it is about.
            Value::Object(members) => {
                members.iter().any(|(name, value)| *name == self.text || self.is_string_of(value, depth + 1))
            }
            _ => false,
        }
    }
}

/// What retention must know of an entry.
pub(crate) fn facts_of(seq: u64, draft: &Draft) -> EntryFacts<'_> {
    let recorded_at = draft.recorded_at();
    let (class, actor, on_behalf_of, resource) = Default::default();
    let mut facts = EntryFacts { seq, recorded_at, occurred_at: 0, action: "", class, actor, on_behalf_of, resource };
    for field in Fields::of(draft).flatten() {
        match field.field {
            Field::OccurredAt => facts.occurred_at = field.int(),
            Field::Action => facts.action = field.text(),
            Field::DataClass => facts.class = Some(field.text()),
            Field::ActorId => facts.actor = Some(field.text()),
            Field::OnBehalfOf => facts.on_behalf_of = Some(field.text()),
            Field::ResourceId => facts.resource = Some(field.text()),
            _ => {}
        }
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::DraftBuilder;

    fn draft(actor: &str, attributes: &str) -> Draft {
        let mut builder = DraftBuilder::default();
        for (field, text) in [
            (Field::Tenant, "acme"),
            (Field::EventId, "e-1"),
            (Field::Action, "invoice.update"),
            (Field::ActorType, "user"),
            (Field::ActorId, actor),
            (Field::SourceIp, "203.0.113.9"),
            (Field::Attributes, attributes),
        ] {
            builder.text(field, text).unwrap();
        }
        builder.int(Field::OccurredAt, 50).unwrap();
        builder.finish().unwrap()
    }

    fn found(looks_for: &[&str], (from, until): (Option<i64>, Option<i64>), draft: &Draft) -> String {
        let looks_for: Vec<String> = looks_for.iter().map(ToString::to_string).collect();
        let asked = Asked { from, until, ..Asked::of("acme".parse().unwrap(), vec![], &looks_for) };
        asked.named_in(draft).to_string()
    }

    #[test]
    fn a_person_is_found_where_a_value_is_just_that() {
        let any = (None, None);
        assert_eq!(found(&["u-17"], any, &draft("u-17", "{}")), "actor");
        assert_eq!(found(&["u-17"], any, &draft("u-170", r#"{"a":"u-17 did it"}"#)), "");
        assert_eq!(
            found(&["u-17", "203.0.113.9"], any, &draft("u-17", r#"{"a":[{"b":"u-17"}]}"#)),
            "actor,origin,details"
        );
        assert_eq!(found(&["é@x"], any, &draft("x", r#"{"mail":"\u00e9@x"}"#)), "details");
        assert_eq!(found(&["a\"b"], any, &draft("x", r#"{"a\"b":1}"#)), "details");
        // The skeleton names nobody, and stays.
        assert_eq!(found(&["invoice.update", "acme"], any, &draft("x", "{}")), "");
    }

    #[test]
    fn only_what_happened_then_is_looked_at() {
        let entry = draft("u-17", "{}");
        assert_eq!(found(&["u-17"], (Some(50), Some(51)), &entry), "actor");
        assert_eq!(found(&["u-17"], (Some(51), None), &entry), "");
        assert_eq!(found(&["u-17"], (None, Some(50)), &entry), "");
    }
}
