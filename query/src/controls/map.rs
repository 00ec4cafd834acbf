//! The control map: which questions and artefacts satisfy which control, as data that deployers edit.
//!
//! Not here: asking ([`super`]). Invariants: a map that was read names no evidence that it does not have, and each evidence either
//! can be asked or says why not.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The map that comes with the program.
pub const BUILT_IN: &str = include_str!("map.toml");
/// What a question may leave to be filled in.
const PLACES: [&str; 5] = ["tenant", "quoted", "since", "until", "period"];

/// Which questions and artefacts satisfy which control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlMap {
    /// What can be shown, by id.
    pub evidence: BTreeMap<String, Evidence>,
    /// Controls, in the order of the file.
    #[serde(rename = "control")]
    pub controls: Vec<Control>,
}

/// Something that can be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Whether it must be there.
    pub kind: Kind,
    /// In words.
    pub title: String,
    /// What is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// Why it cannot be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
}

/// Whether something must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// That nothing is found is an answer.
    Query,
    /// It must be there.
    Artefact,
}

/// What a framework asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// Whose.
    pub framework: String,
    /// Its number there.
    pub control: String,
    /// What it asks for, in words of whoever keeps the map.
    pub asks: String,
    /// What satisfies it.
    pub evidence: Vec<String>,
    /// How old the newest of it may be, in days.
    pub days: u32,
    /// Who sees to it.
    pub owner: String,
}

/// A map that does not hold together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// It is no TOML, or not of this form.
    #[error("it is not of the form that `piperoll controls map` prints: {0}")]
    Form(String),
    /// Something in it is wrong.
    #[error("{place}: {why}")]
    Wrong {
        /// Where.
        place: String,
        /// What would be right.
        why: String,
    },
}

impl ControlMap {
    /// The map that comes with the program.
    ///
    /// # Errors
    /// As [`ControlMap::parse`]; a test keeps it from happening.
    pub fn built_in() -> Result<Self, MapError> {
        Self::parse(BUILT_IN)
    }

    /// Reads a map.
    ///
    /// # Errors
    /// It is not of the form, or names something that it does not have.
    pub fn parse(text: &str) -> Result<Self, MapError> {
        let map: Self = toml::from_str(text).map_err(|error| MapError::Form(error.message().to_string()))?;
        for (id, evidence) in &map.evidence {
            let wrong = |why: String| Err(MapError::Wrong { place: format!("evidence.{id}"), why });
            match (&evidence.sql, &evidence.absent) {
                (Some(sql), None) => {
                    if let Some(other) = places(sql).find(|place| !PLACES.contains(place)) {
                        return wrong(format!("{{{other}}} is none of {{{}}}", PLACES.join("}, {")));
                    }
                }
                (None, Some(_)) => {}
                _ => return wrong("it has either sql, or absent with the reason".into()),
            }
        }
        let mut known = BTreeSet::new();
        for control in &map.controls {
            let wrong =
                |why: String| Err(MapError::Wrong { place: format!("{} {}", control.framework, control.control), why });
            if control.evidence.is_empty() {
                return wrong("name in evidence what satisfies it".into());
            }
            if let Some(id) = control.evidence.iter().find(|id| !map.evidence.contains_key(*id)) {
                return wrong(format!("there is no evidence.{id}"));
            }
            if !known.insert((&control.framework, &control.control)) {
                return wrong("it stands twice".into());
            }
        }
        Ok(map)
    }

    /// The frameworks, each once, in the order of the file.
    pub fn frameworks(&self) -> Vec<&str> {
        let mut all: Vec<&str> = Vec::new();
        for control in &self.controls {
            if !all.contains(&control.framework.as_str()) {
                all.push(&control.framework);
            }
        }
        all
    }

    /// The controls of a framework; of all, when none is named.
    pub fn of<'m>(&'m self, framework: Option<&'m str>) -> impl Iterator<Item = &'m Control> {
        self.controls.iter().filter(move |control| framework.is_none_or(|one| one == control.framework))
    }
}

/// What stands in braces.
fn places(sql: &str) -> impl Iterator<Item = &str> {
    sql.split('{').skip(1).map(|rest| rest.split('}').next().unwrap_or_default())
}

/// A question with what it leaves open filled in.
pub(super) fn filled(sql: &str, places: &BTreeMap<&str, String>) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut parts = sql.split('{');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        // What is filled in is not looked at again: a name with braces stays a name.
        let (place, rest) = part.split_once('}').unwrap_or((part, ""));
        out.push_str(places.get(place).map_or("", String::as_str));
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_that_comes_along_holds_together() {
        let map = ControlMap::built_in().unwrap();
        assert!(map.frameworks().contains(&"SOC 2") && map.controls.len() > 60, "{:?}", map.frameworks());
        let used: BTreeSet<&String> = map.controls.iter().flat_map(|control| &control.evidence).collect();
        assert_eq!(used.len(), map.evidence.len(), "all of it serves a control");
        assert_eq!(map.of(Some("HIPAA")).count(), 6);
        assert_eq!(map.of(Some("Hippocrates")).count(), 0);
    }

    #[test]
    fn a_map_that_does_not_hold_together_is_refused_with_its_place() {
        let head = "[evidence.Q1]\nkind = 'query'\ntitle = 't'\n";
        let control = "[[control]]\nframework = 'F'\ncontrol = '1'\nasks = 'a'\ndays = 1\nowner = 'o'\n";
        for (text, why) in [
            ("nothing".into(), "piperoll controls map"),
            (format!("{head}{control}evidence = ['Q1']\n"), "evidence.Q1: it has either sql"),
            (format!("{head}sql = 'SELECT {{tenent}}'\n{control}evidence = ['Q1']\n"), "{tenent} is none of {tenant}"),
            (format!("{head}sql = 'SELECT 1'\n{control}evidence = ['Q2']\n"), "F 1: there is no evidence.Q2"),
            (format!("{head}sql = 'SELECT 1'\n{control}evidence = []\n"), "F 1: name in evidence"),
            (
                format!("{head}sql = 'SELECT 1'\n{control}evidence = ['Q1']\n{control}evidence = ['Q1']\n"),
                "F 1: it stands twice",
            ),
            (format!("{head}sql = 'SELECT 1'\nmore = 1\n{control}evidence = ['Q1']\n"), "more"),
        ] {
            let error = ControlMap::parse(&text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_is_filled_in_is_not_filled_again() {
        let places = BTreeMap::from([("tenant", "'{since}'".to_string()), ("since", "now".into())]);
        assert_eq!(filled("a = {tenant} AND b > {since}", &places), "a = '{since}' AND b > now");
    }
}
