//! What was done by whom: acts in `audit` streams, and visits in `access` streams.
//!
//! Not here: whose an act is ([`super::people`]). Invariant: only what succeeded counts as use; what was done after the
//! moment that is asked about does not count.

use super::question::Period;
use crate::error::QueryError;
use crate::run::Engine;
use crate::scope::{Misasked, literal, moment, rows};
use crate::table::Seen;
use access::pattern::fits;
use access::registry::change::ReviewRules;
use std::collections::{BTreeMap, BTreeSet};

/// What did not fail: many systems record what was done, and do not say that it was.
pub(crate) const DONE: &str = "outcome IN ('success', 'unknown')";
/// The bit of acts that are themselves about access: who only gives and takes shows that nobody else's acts are recorded.
const OF_ACCESS: u64 = 1 << 62;

/// How often, and when last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Use {
    /// Times in the period.
    pub times: u64,
    /// The last time, in or before it, in microseconds.
    pub last: Option<i64>,
}

impl Use {
    pub fn add(&mut self, other: Self) {
        self.times += other.times;
        self.last = self.last.max(other.last);
    }
}

/// Acts of one actor with one credential, for the same purposes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acts {
    pub tenant: String,
    pub actor: String,
    pub credential: Option<String>,
    /// What they are for, as [`Purposes`] count it.
    pub purposes: u64,
    pub used: Use,
}

impl Acts {
    /// Whether they are themselves about access.
    pub fn are_of_access(&self) -> bool {
        self.purposes & OF_ACCESS != 0
    }
}

/// Acts of somebody from outside on classified data, without an elevation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outside {
    pub tenant: String,
    pub kind: String,
    pub actor: String,
    pub times: u64,
    pub first: i64,
    pub last: i64,
    pub first_seq: u64,
}

/// Acts of one kind, of one actor, under one elevation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Under {
    pub tenant: String,
    pub elevation: String,
    pub action: String,
    pub actor: Option<String>,
    pub on_behalf_of: Option<String>,
    pub times: u64,
    pub first: i64,
    pub last: i64,
    pub first_seq: u64,
}

/// Visits to a tenant.
#[derive(Debug, Default)]
pub(crate) struct Visits {
    /// By tenant and by the grant or elevation that they rested on.
    pub by_right: BTreeMap<(String, String), Use>,
    /// By tenant and principal, where no right is named.
    pub by_principal: BTreeMap<(String, String), Use>,
    /// What each principal did there in the period.
    pub actions: BTreeMap<(String, String), BTreeSet<String>>,
}

/// What roles are for, as the rules say: lists of patterns of actions, each a bit.
#[derive(Debug, Default)]
pub(crate) struct Purposes {
    lists: Vec<Vec<String>>,
    /// Actions that say something of access.
    of_access: BTreeSet<String>,
}

/// Lists that one question can tell apart.
const MOST_PURPOSES: usize = 62;

impl Purposes {
    /// Those of some rules.
    ///
    /// # Errors
    /// There are more than can be told apart.
    pub fn of<'r>(rules: impl Iterator<Item = &'r ReviewRules>, of_access: BTreeSet<String>) -> Result<Self, Misasked> {
        let lists = rules.flat_map(|rules| rules.roles.values()).map(|role| role.uses.clone());
        let distinct: BTreeSet<Vec<String>> = lists.filter(|uses| !uses.is_empty()).collect();
        if distinct.len() > MOST_PURPOSES {
            let why = format!(
                "the rules of these tenants tell {} uses of roles apart, and one question at most \
                {MOST_PURPOSES}: ask about fewer tenants",
                distinct.len()
            );
            return Err(Misasked(why));
        }
        Ok(Self { lists: distinct.into_iter().collect(), of_access })
    }

    /// The bit of a list; none for one that is not there.
    pub fn bit(&self, uses: &[String]) -> u64 {
        self.lists.iter().position(|list| list == uses).map_or(0, |at| 1 << at)
    }

    /// The bits of an action.
    pub fn of_action(&self, action: &str) -> u64 {
        let is_for = |(_, list): &(usize, &Vec<String>)| list.iter().any(|pattern| fits(pattern, action));
        self.lists.iter().enumerate().filter(is_for).map(|(at, _)| 1 << at).sum()
    }

    /// The same as an expression of SQL.
    fn sql(&self) -> String {
        let is_for = |pattern: &String| match pattern.contains('*') {
            true => format!("action LIKE {}", literal(&like(pattern))),
            false => format!("action = {}", literal(pattern)),
        };
        let bit = |(at, list): (usize, &Vec<String>)| {
            let any: Vec<String> = list.iter().map(is_for).collect();
            format!("CASE WHEN {} THEN {} ELSE 0 END", any.join(" OR "), 1u64 << at)
        };
        let all: Vec<String> = self.lists.iter().enumerate().map(bit).collect();
        let of_access: Vec<String> = self.of_access.iter().map(|action| literal(action)).collect();
        let of_access = format!("CASE WHEN action IN ({}) THEN {OF_ACCESS} ELSE 0 END", of_access.join(", "));
        all.into_iter().chain([of_access]).collect::<Vec<_>>().join(" + ")
    }
}

/// A pattern of ours as LIKE writes it.
fn like(pattern: &str) -> String {
    pattern.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_").replace('*', "%")
}

/// Asks about one set of snapshots and one period.
pub(crate) struct Uses<'a> {
    pub engine: &'a Engine,
    pub seen: &'a [Seen],
    pub period: Period,
}

impl Uses<'_> {
    async fn rows(&self, doing: &'static str, sql: String) -> Result<crate::scope::Rows, QueryError> {
        rows(self.engine, self.seen, doing, sql).await
    }

    fn times(&self) -> String {
        format!("sum(CASE WHEN occurred_at >= {} THEN 1 ELSE 0 END), max(occurred_at)", moment(self.period.since))
    }

    /// What succeeded, until the moment that is asked about.
    fn done(&self) -> String {
        format!("{DONE} AND occurred_at <= {}", moment(self.period.as_of))
    }

    /// Acts of everybody.
    pub async fn acts(&self, purposes: &Purposes) -> Result<Vec<Acts>, QueryError> {
        let sql = format!(
            "SELECT tenant, actor_id, credential, {} AS purposes, {} FROM audit WHERE {} AND actor_id IS NOT NULL \
             GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
            purposes.sql(),
            self.times(),
            self.done()
        );
        let found = self.rows("what gave, took and used access", sql).await?;
        let (tenant, actor, credential) = (found.texts(0)?, found.texts(1)?, found.texts(2)?);
        let (of, times, last) = (found.numbers(3)?, found.numbers(4)?, found.times(5)?);
        let acts = |row: usize| {
            let used = Use { times: times[row], last: last[row] };
            let (tenant, actor, credential) = (tenant[row].clone()?, actor[row].clone()?, credential[row].clone());
            Some(Acts { tenant, actor, credential, purposes: of[row], used })
        };
        Ok((0..found.len()).filter_map(acts).collect())
    }

    /// Acts from outside on classified data in the period, without an elevation.
    pub async fn outside(&self, kinds: &BTreeSet<&str>) -> Result<Vec<Outside>, QueryError> {
        if kinds.is_empty() {
            return Ok(vec![]);
        }
        let list: Vec<String> = kinds.iter().map(|kind| literal(kind)).collect();
        let sql = format!(
            "SELECT tenant, actor_type, actor_id, count(*), min(occurred_at), max(occurred_at), min(seq) FROM audit \
             WHERE {} AND occurred_at >= {} AND actor_type IN ({}) AND elevation_id IS NULL AND data_class IS NOT NULL \
             GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
            self.done(),
            moment(self.period.since),
            list.join(", ")
        );
        let found = self.rows("who came from outside, and under which elevations", sql).await?;
        let (tenant, kind, actor) = (found.texts(0)?, found.texts(1)?, found.texts(2)?);
        let (times, first, last, seq) = (found.numbers(3)?, found.times(4)?, found.times(5)?, found.numbers(6)?);
        let outside = |row: usize| {
            Some(Outside {
                tenant: tenant[row].clone()?,
                kind: kind[row].clone()?,
                actor: actor[row].clone().unwrap_or_default(),
                times: times[row],
                first: first[row]?,
                last: last[row]?,
                first_seq: seq[row],
            })
        };
        Ok((0..found.len()).filter_map(outside).collect())
    }

    /// What was done under elevations that events name, and what they were asked for and approved with.
    pub async fn under_elevations(&self) -> Result<Vec<Under>, QueryError> {
        let sql = format!(
            "SELECT tenant, elevation_id, action, actor_id, on_behalf_of, count(*), min(occurred_at), min(seq), \
             max(occurred_at) FROM audit WHERE {} AND elevation_id IS NOT NULL GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 7, 8",
            self.done()
        );
        let found = self.rows("who came from outside, and under which elevations", sql).await?;
        let texts = |column| found.texts(column);
        let (tenant, elevation, action, actor, on_behalf_of) = (texts(0)?, texts(1)?, texts(2)?, texts(3)?, texts(4)?);
        let (times, first, seq, last) = (found.numbers(5)?, found.times(6)?, found.numbers(7)?, found.times(8)?);
        let under = |row: usize| {
            Some(Under {
                tenant: tenant[row].clone()?,
                elevation: elevation[row].clone()?,
                action: action[row].clone()?,
                actor: actor[row].clone(),
                on_behalf_of: on_behalf_of[row].clone(),
                times: times[row],
                first: first[row]?,
                last: last[row]?,
                first_seq: seq[row],
            })
        };
        Ok((0..found.len()).filter_map(under).collect())
    }

    /// Visits, by what they rested on: what is recorded at their begin, each by itself or hour by hour; and changes that
    /// somebody made there, which rest on all that they have.
    pub async fn visits(&self) -> Result<Visits, QueryError> {
        let places = ["/right", "/streams/0/right", "/streams/1/right", "/streams/2/right", "/streams/3/right"];
        let rights = places.map(|place| format!("json_text(attributes, '{place}')")).join(", ");
        let sql = format!(
            "SELECT tenant, actor_id, action, {rights}, {} FROM access WHERE occurred_at <= {} AND {DONE} \
             AND NOT ends_with(event_id, '-end') GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8",
            self.times(),
            moment(self.period.as_of)
        );
        let found = self.rows("who looked", sql).await?;
        let texts = |column| found.texts(column);
        let (tenant, actor, action) = (texts(0)?, texts(1)?, texts(2)?);
        let rights = (3..8).map(texts).collect::<Result<Vec<_>, _>>()?;
        let (times, last) = (found.numbers(8)?, found.times(9)?);
        let mut visits = Visits::default();
        for row in 0..found.len() {
            let (Some(tenant), Some(actor)) = (&tenant[row], &actor[row]) else { continue };
            let used = Use { times: times[row], last: last[row] };
            let of_row: BTreeSet<&String> = rights.iter().filter_map(|right| right[row].as_ref()).collect();
            for right in &of_row {
                visits.by_right.entry((tenant.clone(), (*right).clone())).or_default().add(used);
            }
            if of_row.is_empty() {
                visits.by_principal.entry((tenant.clone(), actor.clone())).or_default().add(used);
            }
            if let Some(action) = action[row].as_ref().filter(|_| times[row] > 0) {
                visits.actions.entry((tenant.clone(), actor.clone())).or_default().insert(action.clone());
            }
        }
        Ok(visits)
    }
}
