//! What can be asked about an incident, and what of it is well asked.
//!
//! Not here: asking ([`super::gather`]). Invariant: a question that passed [`ScopeQuestion::check`] is bounded in
//! length, and written out it is the whole question: asked again, it means the same.

use ledger::{StreamKind, TenantId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Values of all dimensions together.
const MOST_VALUES: usize = 200;
/// The longest value, in bytes: no field that can be asked for holds more.
const LONGEST_VALUE: usize = ledger::field::IDENTITY_TEXT_BYTES;

/// What an event can be asked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// `release`
    Release,
    /// `service`
    Service,
    /// `workflow`
    Workflow,
    /// `integration`
    Integration,
    /// `actor_id`
    Actor,
    /// `credential`
    Credential,
    /// `session`
    Session,
    /// `source_ip`
    SourceIp,
    /// `resource_id`
    Resource,
    /// `action`
    Action,
    /// `outcome`
    Outcome,
    /// `reason`
    Reason,
    /// `region`
    Region,
    /// `elevation_id`: everything that an elevation touched
    Elevation,
}

impl Dimension {
    /// All of them.
    pub const ALL: [Dimension; 14] = [
        Self::Release,
        Self::Service,
        Self::Workflow,
        Self::Integration,
        Self::Actor,
        Self::Credential,
        Self::Session,
        Self::SourceIp,
        Self::Resource,
        Self::Action,
        Self::Outcome,
        Self::Reason,
        Self::Region,
        Self::Elevation,
    ];

    /// The name in questions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Actor => "actor",
            Self::Resource => "resource",
            Self::Elevation => "elevation",
            other => other.column(),
        }
    }

    /// The column of the tables.
    pub(crate) fn column(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Service => "service",
            Self::Workflow => "workflow",
            Self::Integration => "integration",
            Self::Actor => "actor_id",
            Self::Credential => "credential",
            Self::Session => "session",
            Self::SourceIp => "source_ip",
            Self::Resource => "resource_id",
            Self::Action => "action",
            Self::Outcome => "outcome",
            Self::Reason => "reason",
            Self::Region => "region",
            Self::Elevation => "elevation_id",
        }
    }

    /// Whether it names somebody or something that should not have been there, so that any touch is one too many.
    fn is_of_somebody(self) -> bool {
        matches!(
            self,
            Self::Actor | Self::Credential | Self::Session | Self::SourceIp | Self::Resource | Self::Elevation
        )
    }
}

/// One value, or several of which any will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Any of these.
    Many(Vec<String>),
}

impl OneOrMany {
    /// The values.
    pub fn values(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

/// When a tenant counts as affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AffectedWhen {
    /// When anything matches.
    Touched,
    /// When failures among what matches are more frequent than before and beside it.
    Failing,
}

/// Of a stream, no more than so many entries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadAt {
    /// Whose.
    pub tenant: String,
    /// Which stream.
    pub stream: String,
    /// How many entries.
    pub size: u64,
    /// The root over them, as the answer gave it; must be the one that the stream has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
}

/// A question about an incident.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScopeQuestion {
    /// These tenants.
    pub tenants: Vec<String>,
    /// This tenant and all below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subtree: Option<String>,
    /// Events that have one of the values in each of these dimensions.
    #[serde(rename = "where")]
    pub dimensions: BTreeMap<Dimension, OneOrMany>,
    /// From then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Until before then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// In these streams: `audit` and `telemetry`, when left out; with an elevation, `access` too.
    pub streams: Vec<String>,
    /// When a tenant counts as affected; follows from the dimensions when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affected_when: Option<AffectedWhen>,
    /// As the streams were then: so many entries of each. The newest when left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<HeadAt>,
}

/// A question is not well asked; says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Misasked(pub String);

impl ScopeQuestion {
    /// Checks the question and fills in what follows from it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(mut self) -> Result<Self, Misasked> {
        let wrong = |why: String| Err(Misasked(why));
        if self.dimensions.is_empty() && self.since.is_none() {
            let names: Vec<&str> = Dimension::ALL.map(Dimension::name).to_vec();
            return wrong(format!("where is empty: name one of {}, or a time since", names.join(", ")));
        }
        let values = self.dimensions.values().map(|values| values.values().len()).sum::<usize>();
        if values > MOST_VALUES {
            return wrong(format!("where names {values} values, and at most {MOST_VALUES} can be asked for together"));
        }
        for (dimension, values) in &self.dimensions {
            let fits = |value: &String| !value.is_empty() && value.len() <= LONGEST_VALUE;
            if values.values().is_empty() || !values.values().iter().all(fits) {
                return wrong(format!("{} needs values of 1 to {LONGEST_VALUE} bytes", dimension.name()));
            }
        }
        for (name, time) in [("since", &mut self.since), ("until", &mut self.until)] {
            if let Some(text) = time {
                let micros = ledger::time::parse_micros(text).map_err(|e| Misasked(format!("{name} is {e}")))?;
                *text = ledger::time::format_micros(micros);
            }
        }
        if self.since.as_ref().zip(self.until.as_ref()).is_some_and(|(since, until)| since >= until) {
            return wrong("since must be before until".into());
        }
        if self.streams.is_empty() {
            self.streams = vec!["audit".into(), "telemetry".into()];
            if self.dimensions.contains_key(&Dimension::Elevation) {
                self.streams.push("access".into());
            }
        }
        for stream in &self.streams {
            if !matches!(stream.parse(), Ok(StreamKind::Audit | StreamKind::Telemetry | StreamKind::Access)) {
                return wrong(format!("{stream:?} is none of the streams audit, telemetry and access"));
            }
        }
        self.streams.sort();
        self.streams.dedup();
        self.tenants.sort();
        self.tenants.dedup();
        self.heads.sort();
        let is_of_somebody = self.dimensions.keys().any(|dimension| dimension.is_of_somebody());
        // Among events that were chosen for how they ended, it says nothing how many failed.
        let is_of_ends = [Dimension::Outcome, Dimension::Reason].iter().any(|one| self.dimensions.contains_key(one));
        if is_of_ends && self.affected_when == Some(AffectedWhen::Failing) {
            return wrong(
                "with outcome or reason in where, affected_when is touched: how many failed was chosen".into(),
            );
        }
        let follows = if is_of_somebody || is_of_ends { AffectedWhen::Touched } else { AffectedWhen::Failing };
        self.affected_when.get_or_insert(follows);
        Ok(self)
    }

    /// The streams that are asked.
    pub(crate) fn kinds(&self) -> Vec<StreamKind> {
        self.streams.iter().filter_map(|name| name.parse().ok()).collect()
    }

    /// The tenants that are named.
    ///
    /// # Errors
    /// A name is none.
    pub fn named(&self) -> Result<Vec<TenantId>, Misasked> {
        let parse = |name: &String| name.parse().map_err(|e: ledger::name::NameError| Misasked(e.to_string()));
        self.tenants.iter().map(parse).collect()
    }

    /// A dimension's values.
    pub(crate) fn values(&self, dimension: Dimension) -> &[String] {
        self.dimensions.get(&dimension).map(OneOrMany::values).unwrap_or_default()
    }

    /// The conditions that an event must fulfil, without those on time, and with or without that on the release.
    pub(crate) fn conditions(&self, with_release: bool) -> String {
        let mut all = Vec::new();
        for (dimension, values) in &self.dimensions {
            if *dimension != Dimension::Release || with_release {
                let list: Vec<String> = values.values().iter().map(|value| literal(value)).collect();
                all.push(format!("{} IN ({})", dimension.column(), list.join(", ")));
            }
        }
        if all.is_empty() { "true".into() } else { all.join(" AND ") }
    }
}

/// A text as SQL writes it.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The years that a moment in SQL can be of: the engine counts nanoseconds since 1970 in 64 bits. In microseconds.
const SPAN: std::ops::RangeInclusive<i64> = -9_000_000_000_000_000..=9_000_000_000_000_000;

/// A moment as SQL writes it; beyond what it can say, the first or last that it can.
pub(crate) fn moment(micros: i64) -> String {
    let micros = micros.clamp(*SPAN.start(), *SPAN.end());
    format!("TIMESTAMP '{}'", ledger::time::format_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn checked(question: serde_json::Value) -> Result<ScopeQuestion, String> {
        let question: ScopeQuestion = serde_json::from_value(question).map_err(|e| e.to_string())?;
        question.check().map_err(|e| e.to_string())
    }

    #[test]
    fn a_question_is_filled_in_and_asks_the_same_again() {
        let asked = checked(json!({"tenants": ["b", "a", "b"], "where": {"release": "r'1", "service": ["x", "y"]},
            "since": "2026-08-14T09:26:53+02:00"}))
        .unwrap();
        assert_eq!((asked.tenants.len(), asked.affected_when), (2, Some(AffectedWhen::Failing)));
        assert_eq!(asked.since.as_deref(), Some("2026-08-14T07:26:53.000000Z"));
        assert_eq!(asked.conditions(true), "release IN ('r''1') AND service IN ('x', 'y')");
        assert_eq!(asked.conditions(false), "service IN ('x', 'y')");
        let again = checked(serde_json::to_value(&asked).unwrap()).unwrap();
        assert_eq!(again, asked);
        let of_an_elevation = checked(json!({"where": {"elevation": "e1"}})).unwrap();
        assert_eq!(of_an_elevation.affected_when, Some(AffectedWhen::Touched));
        assert_eq!(of_an_elevation.streams, ["access", "audit", "telemetry"]);
    }

    #[test]
    fn what_is_badly_asked_is_told_what_would_be_right() {
        let many: Vec<String> = (0..201).map(|n| n.to_string()).collect();
        for (question, why) in [
            (json!({}), "where is empty: name one of release, service"),
            (json!({"where": {"colour": "red"}}), "unknown variant `colour`"),
            (json!({"where": {"actor": many}}), "201 values, and at most 200"),
            (json!({"where": {"actor": []}}), "actor needs values"),
            (json!({"where": {"actor": "x".repeat(2_049)}}), "1 to 2048 bytes"),
            (json!({"since": "yesterday"}), "since is"),
            (json!({"since": "2026-08-14T00:00:00Z", "until": "2026-08-14T00:00:00Z"}), "before until"),
            (json!({"where": {"actor": "x"}, "streams": ["control"]}), "none of the streams"),
            (
                json!({"where": {"release": "x", "outcome": "error"}, "affected_when": "failing"}),
                "how many failed was chosen",
            ),
            (json!({"where": {"actor": "x"}, "until": "2026", "x": 1}), "unknown field `x`"),
        ] {
            let refused = checked(question.clone()).unwrap_err();
            assert!(refused.contains(why), "{question}: {refused}");
        }
    }
}
