//! Incidents that are kept: opened with their scope, asked again when they are closed.
//!
//! Not here: what is kept of one, and who may (`access::registry`). Invariant: what stands in the entry as found was
//! found by this very service, over the heads that the entry names or whose answer's hash it has.

use super::question::{HeadAt, ScopeQuestion};
use super::verdict::ScopeAnswer;
use crate::state::QueryState;
use access::registry::change::{Change, CloseFact, IncidentFact};
use access::registry::names::FactId;
use access::registry::{LARGEST_FINDING, Made};
use access::{Caller, Problem};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Affected tenants that an entry names.
const MOST_NAMED: usize = 500;

impl QueryState {
    /// Asks for the scope of an incident and opens it.
    ///
    /// # Errors
    /// As [`QueryState::scope`], or the incident may not be opened.
    pub async fn open_incident(
        &self,
        caller: &Caller,
        fact: IncidentFact,
        question: ScopeQuestion,
    ) -> Result<(Made, ScopeAnswer), Problem> {
        let (answer, _) = self.scope(caller, question).await?;
        self.stays_below(&fact, &answer)?;
        let question = Some(kept_question(&answer));
        let fact = IncidentFact { question, found: Some(found(&answer)), ..fact };
        Ok((self.made(caller, Change::OpenIncident(fact)).await?, answer))
    }

    /// Asks the question of an incident again, and closes it with what differs.
    ///
    /// # Errors
    /// There is no such incident for the caller, or as [`QueryState::scope`].
    pub async fn close_incident(&self, caller: &Caller, id: FactId, reason: String) -> Result<(Made, Value), Problem> {
        let incident = self.door().incident(caller, &id)?;
        let (mut now, mut difference) = (None, None);
        if let Some(question) = &incident.fact.question {
            let mut question: ScopeQuestion = serde_json::from_value(question.clone()).unwrap_or_default();
            question.heads.clear();
            let (answer, _) = self.scope(caller, question).await?;
            let found = found(&answer);
            difference = incident.fact.found.as_ref().map(|then| difference_of(then, &found));
            now = Some(found);
        }
        let shown = json!({"found": now, "difference": difference});
        let made = self.made(caller, Change::CloseIncident(CloseFact { id, reason, found: now, difference })).await?;
        Ok((made, shown))
    }

    /// An incident is read by those of its tenant: it names nobody else.
    fn stays_below(&self, fact: &IncidentFact, answer: &ScopeAnswer) -> Result<(), Problem> {
        let Some(home) = &fact.tenant else { return Ok(()) };
        let registry = self.door().book().read();
        let named =
            answer.tenants.iter().map(|one| &one.tenant).chain(answer.not_examined.iter().map(|one| &one.tenant));
        for name in named {
            if !name.parse().is_ok_and(|tenant| registry.is_within(&tenant, home)) {
                let why = format!("an incident of {home} is about tenants below it, and {name} is none");
                return Err(Problem::new(access::ProblemKind::Unprocessable, why));
            }
        }
        Ok(())
    }

    async fn made(&self, caller: &Caller, change: Change) -> Result<Made, Problem> {
        let made = self.door().change(caller, vec![change]).await?.pop();
        made.ok_or_else(|| Problem::new(access::ProblemKind::Internal, "a change that was made is not shown"))
    }
}

/// The question, with the heads that it was asked about when an entry has room for them.
fn kept_question(answer: &ScopeAnswer) -> Value {
    let member = |head: &Value, name: &str| head[name].as_str().unwrap_or_default().to_string();
    let head = |head: &Value| HeadAt {
        tenant: member(head, "tenant"),
        stream: member(head, "stream"),
        size: head["size"].as_u64().unwrap_or_default(),
        root: head["root"].as_str().map(str::to_string),
    };
    let heads = answer.read.as_array().into_iter().flatten().map(head).collect();
    let with_heads = json!(ScopeQuestion { heads, ..answer.question.clone() });
    if with_heads.to_string().len() <= LARGEST_FINDING { with_heads } else { json!(answer.question) }
}

/// What an entry keeps of an answer.
fn found(answer: &ScopeAnswer) -> Value {
    let affected: Vec<Value> = answer
        .tenants
        .iter()
        .filter(|one| one.affected)
        .take(MOST_NAMED)
        .map(|one| json!({"tenant": one.tenant, "events": one.matching.events, "failures": one.matching.failures}))
        .collect();
    let count = answer.tenants.iter().filter(|one| one.affected).count();
    let sum = |of: fn(&super::Counts) -> u64| answer.tenants.iter().map(|one| of(&one.matching)).sum::<u64>();
    json!({
        "summary": answer.summary, "times": answer.times, "answer_sha256": super::http::hash_of(answer),
        "affected": affected, "affected_count": count, "is_cut": count > MOST_NAMED, "not_affected_count": answer.tenants.len() - count,
        "in_part": answer.tenants.iter().filter(|one| one.in_part).map(|one| one.tenant.as_str()).take(MOST_NAMED)
            .collect::<Vec<_>>(),
        "not_examined": answer.not_examined.iter().map(|one| one.tenant.as_str()).take(MOST_NAMED).collect::<Vec<_>>(),
        "events": sum(|counts| counts.events), "failures": sum(|counts| counts.failures),
        "denied": sum(|counts| counts.denied),
    })
}

/// What differs between what was found then and now.
fn difference_of(then: &Value, now: &Value) -> Value {
    let affected = |found: &Value| -> BTreeMap<String, u64> {
        let all = found["affected"].as_array().into_iter().flatten();
        all.filter_map(|one| Some((one["tenant"].as_str()?.to_string(), one["events"].as_u64()?))).collect()
    };
    let (before, after) = (affected(then), affected(now));
    // Who was not looked at, or in part, at one of the two times: of them it cannot be said.
    let lists = [&then["not_examined"], &now["not_examined"], &then["in_part"], &now["in_part"]];
    let unsaid: BTreeSet<&str> =
        lists.iter().filter_map(|list| list.as_array()).flatten().filter_map(Value::as_str).collect();
    let is_cut = then["is_cut"] == true || now["is_cut"] == true;
    let only = |one: &BTreeMap<String, u64>, other: &BTreeMap<String, u64>| -> Vec<String> {
        let gone = |tenant: &&String| !is_cut && !other.contains_key(*tenant) && !unsaid.contains(tenant.as_str());
        one.keys().filter(gone).cloned().collect()
    };
    let pair = |name: &str| json!({"then": then[name], "now": now[name]});
    json!({
        "newly_affected": only(&after, &before), "no_longer_affected": only(&before, &after),
        "not_compared": unsaid, "too_many_to_compare": is_cut, "events": pair("events"), "failures": pair("failures"), "denied": pair("denied"),
        "summary": pair("summary"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_who_came_and_who_went() {
        let then = json!({"affected": [{"tenant": "a", "events": 3}, {"tenant": "b", "events": 1}], "events": 4});
        let now = json!({"affected": [{"tenant": "b", "events": 2}, {"tenant": "c", "events": 1}], "events": 3});
        let found = difference_of(&then, &now);
        assert_eq!(found["newly_affected"], json!(["c"]));
        assert_eq!(found["no_longer_affected"], json!(["a"]));
        assert_eq!(found["events"], json!({"then": 4, "now": 3}));
    }
}
