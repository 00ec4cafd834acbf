//! What was done by whom: acts in `audit` streams, and visits in `access` streams.
//!
//! Not here: whose an act is ([`super::people`]). Invariant: only what succeeded counts as use; what was done after the
//! moment that is asked about does not count.

use super::question::Period;
use crate::error::QueryError;
use crate::run::Engine;
use crate::scope::{literal, moment, rows};
use crate::table::Seen;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Names that are asked for one by one; of more, all are asked for.
const MOST_NAMES: usize = 500;

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

/// Acts of one actor with one credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acts {
    pub tenant: String,
    pub actor: String,
    pub credential: Option<String>,
    pub used: Use,
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
    pub first_seq: u64,
}

/// Visits to a tenant.
#[derive(Debug, Default)]
pub(crate) struct Visits {
    /// By tenant and by the grant or elevation that they rested on.
    pub by_right: BTreeMap<(String, String), Use>,
    /// What each principal did there in the period.
    pub actions: BTreeMap<(String, String), BTreeSet<String>>,
}

/// By tenant, then by name of an actor, what was done how often.
pub(crate) type ByAction = HashMap<String, BTreeMap<String, Vec<(String, Use)>>>;

/// Asks about one set of snapshots and one period.
pub(crate) struct Uses<'a> {
    pub engine: &'a Engine,
    pub seen: &'a [Seen],
    pub period: Period,
}

impl Uses<'_> {
    async fn rows(&self, sql: String) -> Result<crate::scope::Rows, QueryError> {
        rows(self.engine, self.seen, sql).await
    }

    fn times(&self) -> String {
        format!("sum(CASE WHEN occurred_at >= {} THEN 1 ELSE 0 END), max(occurred_at)", moment(self.period.since))
    }

    /// What succeeded, until the moment that is asked about.
    fn done(&self) -> String {
        format!("outcome = 'success' AND occurred_at <= {}", moment(self.period.as_of))
    }

    /// Acts of everybody.
    pub async fn acts(&self) -> Result<Vec<Acts>, QueryError> {
        let sql = format!(
            "SELECT tenant, actor_id, credential, {} FROM audit WHERE {} AND actor_id IS NOT NULL GROUP BY 1, 2, 3",
            self.times(),
            self.done()
        );
        let found = self.rows(sql).await?;
        let (tenant, actor, credential) = (found.texts(0)?, found.texts(1)?, found.texts(2)?);
        let (times, last) = (found.numbers(3)?, found.times(4)?);
        let acts = |row: usize| {
            let used = Use { times: times[row], last: last[row] };
            Some(Acts {
                tenant: tenant[row].clone()?,
                actor: actor[row].clone()?,
                credential: credential[row].clone(),
                used,
            })
        };
        Ok((0..found.len()).filter_map(acts).collect())
    }

    /// What these actors did, kind by kind.
    pub async fn by_action(&self, names: &BTreeSet<&str>) -> Result<ByAction, QueryError> {
        let mut condition = self.done();
        if names.len() <= MOST_NAMES {
            let list: Vec<String> = names.iter().map(|name| literal(name)).collect();
            condition.push_str(&format!(" AND actor_id IN ({})", list.join(", ")));
        }
        let times = self.times();
        let sql = format!(
            "SELECT tenant, actor_id, action, {times} FROM audit WHERE {condition} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        );
        let found = self.rows(sql).await?;
        let (tenant, actor, action) = (found.texts(0)?, found.texts(1)?, found.texts(2)?);
        let (times, last) = (found.numbers(3)?, found.times(4)?);
        let mut all = ByAction::new();
        for row in 0..found.len() {
            if let (Some(tenant), Some(actor), Some(action)) = (&tenant[row], &actor[row], &action[row])
                && names.contains(actor.as_str())
            {
                let used = Use { times: times[row], last: last[row] };
                let of_actor = all.entry(tenant.clone()).or_default().entry(actor.clone()).or_default();
                of_actor.push((action.clone(), used));
            }
        }
        Ok(all)
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
        let found = self.rows(sql).await?;
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
            "SELECT tenant, elevation_id, action, actor_id, on_behalf_of, count(*), min(occurred_at), min(seq) \
             FROM audit WHERE {} AND elevation_id IS NOT NULL GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 7, 8",
            self.done()
        );
        let found = self.rows(sql).await?;
        let texts = |column| found.texts(column);
        let (tenant, elevation, action, actor, on_behalf_of) = (texts(0)?, texts(1)?, texts(2)?, texts(3)?, texts(4)?);
        let (times, first, seq) = (found.numbers(5)?, found.times(6)?, found.numbers(7)?);
        let under = |row: usize| {
            Some(Under {
                tenant: tenant[row].clone()?,
                elevation: elevation[row].clone()?,
                action: action[row].clone()?,
                actor: actor[row].clone(),
                on_behalf_of: on_behalf_of[row].clone(),
                times: times[row],
                first: first[row]?,
                first_seq: seq[row],
            })
        };
        Ok((0..found.len()).filter_map(under).collect())
    }

    /// Visits, by what they rested on: what is recorded at their begin, each by itself or hour by hour.
    pub async fn visits(&self) -> Result<Visits, QueryError> {
        let right = "coalesce(json_text(attributes, '/right'), json_text(attributes, '/streams/0/right'))";
        let sql = format!(
            "SELECT tenant, actor_id, action, {right}, {} FROM access WHERE occurred_at <= {} \
             AND outcome IN ('success', 'unknown') AND NOT ends_with(event_id, '-end') GROUP BY 1, 2, 3, 4",
            self.times(),
            moment(self.period.as_of)
        );
        let found = self.rows(sql).await?;
        let texts = |column| found.texts(column);
        let (tenant, actor, action, right) = (texts(0)?, texts(1)?, texts(2)?, texts(3)?);
        let (times, last) = (found.numbers(4)?, found.times(5)?);
        let mut visits = Visits::default();
        for row in 0..found.len() {
            let (Some(tenant), Some(actor)) = (&tenant[row], &actor[row]) else { continue };
            if let Some(right) = &right[row] {
                let used = Use { times: times[row], last: last[row] };
                visits.by_right.entry((tenant.clone(), right.clone())).or_default().add(used);
            }
            if let Some(action) = action[row].as_ref().filter(|_| times[row] > 0) {
                visits.actions.entry((tenant.clone(), actor.clone())).or_default().insert(action.clone());
            }
        }
        Ok(visits)
    }
}
