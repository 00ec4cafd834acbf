//! Access reviews that are held: a population frozen at its heads, a reviewer for each item, decisions, and the report.
//!
//! Not here: what is kept of one and who may decide (`access`). Invariants: what is decided in bulk was shown before, and
//! is the same still; items are found by the service and by nobody else.

use super::answer::{AccessAnswer, Entitlement};
use super::assigning::Assigning;
use super::question::AccessQuestion;
use super::report::report_of;
use crate::scope::Misasked;
use crate::state::QueryState;
use access::pattern::fits;
use access::registry::change::{ReviewClose, ReviewDecision, ReviewFact, ReviewItem, ReviewerRule, Span, Verdict};
use access::registry::names::{FactId, PrincipalId, When};
use access::registry::{LARGEST_FINDING, MOST_ITEMS, Made, PLATFORM, Review, numbers, spans};
use access::{Action, Caller, Problem, ProblemKind};
use ledger::name::TenantId;
use ledger::{Hash, StreamKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Where reviewers are looked for when nothing is said.
const REVIEWERS: [ReviewerRule; 3] =
    [ReviewerRule::ResourceOwner, ReviewerRule::Manager, ReviewerRule::TenantAdministrator];
/// Items that are shown of what a decision would cover.
const MOST_SHOWN: usize = 20;
/// Items of a page when nothing is said, and at most.
const PAGE: u32 = 200;
const LARGEST_PAGE: u32 = 5_000;
/// Names and patterns of one selection.
const MOST_PATTERNS: usize = 200;
/// Spans of one selection.
const MOST_SPANS: usize = 10_000;

/// Which items of a review are meant; all that one may decide on, when left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// These, by their numbers: spans from the first to the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<Span>>,
    /// At these tenants.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<String>,
    /// From these sources, as patterns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// Of these subjects, as patterns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// Of these roles, as patterns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// On these targets, as patterns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// With one of these findings; `none` for those without any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// Also those that are decided already.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub decided: bool,
}

/// A decision as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deciding {
    /// On what.
    #[serde(default)]
    pub select: Selection,
    /// What.
    pub decision: Verdict,
    /// Why.
    pub reason: String,
    /// With `delegate`: who decides.
    #[serde(default)]
    pub delegate: Option<PrincipalId>,
    /// With `narrow`: to what.
    #[serde(default)]
    pub to: Option<access::registry::change::Narrowed>,
    /// What was shown that it covers; without it, that is shown and nothing decided.
    #[serde(default)]
    pub covers: Option<String>,
}

/// What is wanted of a review's items.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Page {
    /// From this number on.
    pub from: u32,
    /// How many.
    pub limit: Option<u32>,
    /// Only those that are for who asks to decide on.
    pub mine: bool,
    /// Only those on which nothing is decided.
    pub open: bool,
}

impl QueryState {
    /// Opens a review of everything that a question finds.
    ///
    /// # Errors
    /// As [`QueryState::entitlements`]; something of it is not seen, nothing is found, or an item has nobody to decide.
    pub async fn open_review(
        &self,
        caller: &Caller,
        fact: ReviewFact,
        question: AccessQuestion,
    ) -> Result<(Made, Value), Problem> {
        let platform = || PLATFORM.parse().map_err(|_| Problem::new(ProblemKind::Internal, "no name"));
        let home: TenantId = fact.tenant.clone().map_or_else(platform, Ok)?;
        self.door().may(caller, Action::ManageReviews, &home, StreamKind::Control)?;
        let subtree = question.subtree.clone();
        let (answer, entitlements) = self.population(caller, &home, question).await?;
        let items = self.assigned(caller, &fact, &entitlements)?;
        let lines: String = items.iter().map(|item| json!(item).to_string() + "\n").collect();
        let heads_sha256 = Some(Hash::of(answer.read.to_string().as_bytes()).to_hex());
        let question = Some(kept_question(&answer, subtree).ok_or_else(|| {
            refused(format!("the question is longer than {LARGEST_FINDING} bytes: name a subtree, or fewer tenants"))
        })?);
        let items_sha256 = Some(Hash::of(lines.as_bytes()).to_hex());
        let count = u32::try_from(items.len()).ok();
        let fact = ReviewFact { question, heads_sha256, items: count, items_sha256, ..fact };
        let made = self.door().open_review(caller, fact, &items).await?;
        let mut by_reviewer: BTreeMap<&str, u32> = BTreeMap::new();
        items.iter().for_each(|item| *by_reviewer.entry(item.reviewer.as_str()).or_default() += 1);
        let shown =
            json!({"items": count, "by_reviewer": by_reviewer, "incomplete": answer.incomplete, "read": answer.read});
        Ok((made, shown))
    }

    /// What a review is of: all that the question finds at the tenants that it asks about, wholly seen.
    async fn population(
        &self,
        caller: &Caller,
        home: &TenantId,
        question: AccessQuestion,
    ) -> Result<(AccessAnswer, Vec<Entitlement>), Problem> {
        if question.rules.is_some() || question.as_of.is_some() || !question.heads.is_empty() {
            let why = "a review is of what is there now, by the rules on record: leave out rules, as_of and heads";
            return Err(refused(why.into()));
        }
        let (mut answer, _) = self.entitlements(caller, question).await?;
        if let Some((tenant, why)) = answer.in_part.iter().next() {
            let why = format!("a review is of all that there is, and of {tenant} you do not see all: {why}");
            return Err(refused(why));
        }
        if let Some(one) = answer.not_examined.first() {
            return Err(refused(format!("{} could not be looked at: {}", one.tenant, one.why)));
        }
        // What is held above and reaches down is for a review there to decide on.
        let mut entitlements = std::mem::take(&mut answer.entitlements);
        entitlements.retain(|one| answer.question.tenants.binary_search(&one.tenant).is_ok());
        if entitlements.is_empty() {
            return Err(refused("nobody has anything that the question asks about: there is nothing to review".into()));
        }
        if entitlements.len() > MOST_ITEMS as usize {
            let count = entitlements.len();
            return Err(refused(format!("{count} items, and a review has at most {MOST_ITEMS}: hold several")));
        }
        let held_at: BTreeSet<&str> = entitlements.iter().map(|one| one.tenant.as_str()).collect();
        for tenant in held_at.iter().filter_map(|name| name.parse::<TenantId>().ok()) {
            self.door().may(caller, Action::ManageReviews, &tenant, StreamKind::Control)?;
            if !self.door().book().read().is_within(&tenant, home) {
                return Err(refused(format!("a review of {home} is about tenants below it, and {tenant} is none")));
            }
        }
        Ok((answer, entitlements))
    }

    /// Entitlements as items, each with its reviewer.
    fn assigned(
        &self,
        caller: &Caller,
        fact: &ReviewFact,
        entitlements: &[Entitlement],
    ) -> Result<Vec<ReviewItem>, Problem> {
        let owner = fact.owner.clone().unwrap_or_else(|| caller.principal().clone());
        // On a copy: this asks many questions, and nobody else should wait for the answers.
        let registry = self.door().book().read().clone();
        let reviewers = if fact.reviewers.is_empty() { &REVIEWERS[..] } else { &fact.reviewers };
        let last = [Some(&owner), fact.escalate_to.as_ref()];
        let assigning = Assigning::new(&registry, self.door().now(), reviewers, last);
        entitlements.iter().map(|one| assigning.item(one)).collect::<Result<Vec<_>, _>>().map_err(refused)
    }

    /// A page of a review's items; of who is a reviewer and nothing else, their own.
    ///
    /// # Errors
    /// There is no such review for the caller.
    pub fn review_items(&self, caller: &Caller, id: &FactId, page: &Page) -> Result<Value, Problem> {
        let (review, sight) = self.door().review(caller, id)?;
        let limit = page.limit.unwrap_or(PAGE);
        if !(1..=LARGEST_PAGE).contains(&limit) {
            return Err(Misasked(format!("limit is not between 1 and {LARGEST_PAGE}")).into());
        }
        let is_meant = |number: &u32| {
            let is_mine = review.reviewer(*number) == Some(caller.principal());
            let is_seen = || review.item(*number).is_some_and(|item| sight.tenants.contains(&item.tenant));
            (is_mine || (!page.mine && is_seen())) && !(page.open && review.decision(*number).is_some())
        };
        let mut numbers = (page.from..review.size()).filter(is_meant);
        let shown: Vec<Value> =
            numbers.by_ref().take(limit as usize).map(|number| item_json(&review, number)).collect();
        let next = numbers.next();
        caller.visit().count(shown.len() as u64);
        Ok(json!({"items": shown, "next": next}))
    }

    /// Shows what a decision covers, or makes it.
    ///
    /// # Errors
    /// There is no such review for the caller, the decision does not fit, or what it covers is not what was shown.
    pub async fn decide_review(&self, caller: &Caller, id: &FactId, asked: Deciding) -> Result<Value, Problem> {
        let (review, _) = self.door().review(caller, id)?;
        let items = self.selected(caller, &review, &asked.select).map_err(refused)?;
        if items.is_empty() {
            return Err(refused("nothing is selected that is open and for you to decide on".into()));
        }
        let made = ReviewDecision {
            review: id.clone(),
            items: spans(items.iter().copied()),
            decision: asked.decision,
            reason: asked.reason,
            delegate: asked.delegate,
            to: asked.to,
        };
        // What it says and on what: with another reason it is the same decision still.
        let covers =
            Hash::of(json!(ReviewDecision { reason: String::new(), ..made.clone() }).to_string().as_bytes()).to_hex();
        let is_one = items.len() == 1 && asked.select.is_by_number();
        let with_grant = items.iter().filter(|number| review.item(**number).is_some_and(|item| item.grant.is_some()));
        let in_registry = with_grant.count();
        match &asked.covers {
            None if !is_one => {
                let sample = items.iter().take(MOST_SHOWN).map(|number| item_json(&review, *number));
                let what = json!({"decision": made.decision, "count": items.len(), "items": made.items,
                    "in_registry": in_registry, "first": sample.collect::<Vec<_>>(), "covers": covers});
                return Ok(json!({"decided": false, "would": what}));
            }
            Some(given) if *given != covers => {
                let why = "what this covers is not what was shown: look at it again, without covers, then decide";
                return Err(Problem::new(ProblemKind::Conflict, why));
            }
            _ => {}
        }
        let (decided, carried) = self.door().decide_review(caller, made).await?;
        let carried: Vec<Value> = carried.iter().map(|one| json!({"seq": one.seq, "made": one.change})).collect();
        let seq = decided.first().map(|one| one.seq);
        Ok(json!({"decided": true, "seq": seq, "count": items.len(), "carried_out": carried}))
    }

    fn selected(&self, caller: &Caller, review: &Review, select: &Selection) -> Result<Vec<u32>, String> {
        let own = self.door().book().read().own_names(caller.principal());
        let is_mine = |number: &u32| {
            review.reviewer(*number) == Some(caller.principal())
                && review.item(*number).is_some_and(|item| !item.is_about(&own))
        };
        select.check()?;
        if let Some(items) = &select.items {
            // Those that are named are all meant, or it is said why not.
            if let Some((first, last)) = items.iter().find(|(first, last)| first > last || *last >= review.size()) {
                return Err(format!("items [{first}, {last}] are not in the review, which has {}", review.size()));
            }
            if let Some(other) = numbers(items).find(|number| !is_mine(number)) {
                return Err(format!("item {other} is not for you to decide on"));
            }
        }
        let named: Option<HashSet<u32>> = select.items.as_ref().map(|items| numbers(items).collect());
        let is_meant = |number: &u32| {
            let Some(item) = review.item(*number) else { return false };
            let any =
                |patterns: &[String], value: &str| patterns.is_empty() || patterns.iter().any(|one| fits(one, value));
            let is_found = select.findings.is_empty()
                || select.findings.iter().any(|kind| item.findings.contains(kind))
                || (item.findings.is_empty() && select.findings.iter().any(|kind| kind == "none"));
            let is_decided = || review.decision(*number).is_some() && !select.decided && named.is_none();
            named.as_ref().is_none_or(|named| named.contains(number))
                && any(&select.tenants, item.tenant.as_str())
                && any(&select.sources, &item.source)
                && any(&select.subjects, &item.subject)
                && any(&select.roles, &item.role)
                && any(&select.targets, item.target.as_deref().unwrap_or_default())
                && is_found
                && !is_decided()
                && is_mine(number)
        };
        Ok((0..review.size()).filter(is_meant).collect())
    }

    /// Closes a review with its report.
    ///
    /// # Errors
    /// There is no such review for the caller, or they may not close it.
    pub async fn close_review(&self, caller: &Caller, id: FactId, reason: String) -> Result<(Made, Value), Problem> {
        let (_, report) = self.review_report(caller, &id)?;
        let made = self.door().close_review(caller, ReviewClose { id, reason, report: Some(report.clone()) }).await?;
        Ok((made, report))
    }

    /// What a review came to, or comes to so far, and whose it is.
    ///
    /// # Errors
    /// There is no such review for the caller, or they do not see all of it.
    pub fn review_report(&self, caller: &Caller, id: &FactId) -> Result<(TenantId, Value), Problem> {
        let (review, sight) = self.door().review(caller, id)?;
        if !sight.is_whole {
            let why = "a report is about the whole review, and you see a part of it";
            return Err(Problem::new(ProblemKind::Forbidden, why));
        }
        Ok((review.home(), report_of(&review, &self.door().book().read())))
    }

    /// How a review stands; to who is a reviewer and nothing else, how their part of it does.
    ///
    /// # Errors
    /// There is no such review for the caller.
    pub fn review_shown(&self, caller: &Caller, id: &FactId) -> Result<Value, Problem> {
        let (review, sight) = self.door().review(caller, id)?;
        if sight.is_whole {
            return Ok(review.to_json());
        }
        let open = review.open_by_reviewer().get(caller.principal()).copied().unwrap_or_default();
        Ok(json!({"review": review.fact.review, "title": review.fact.title, "state": review.state(),
            "due_at": review.fact.due_at, "open_by_reviewer": {caller.principal().as_str(): open}}))
    }
}

fn refused(why: String) -> Problem {
    Problem::new(ProblemKind::Unprocessable, why)
}

/// The question as it is kept: with its heads where they fit, and with the tenants that it came to where those do.
fn kept_question(answer: &AccessAnswer, subtree: Option<String>) -> Option<Value> {
    let fits = |question: &Value| question.to_string().len() <= LARGEST_FINDING;
    let asked = json!(answer.question);
    let mut whole = asked.clone();
    whole["heads"] = answer.read.clone();
    let below = json!(AccessQuestion { tenants: vec![], subtree: subtree.clone(), ..answer.question.clone() });
    let all = [Some(whole), Some(asked), subtree.map(|_| below)];
    all.into_iter().flatten().find(fits)
}

impl Selection {
    fn is_by_number(&self) -> bool {
        self.items.is_some() && *self == Self { items: self.items.clone(), ..Self::default() }
    }

    /// Whether it is bounded: it is held against every item of a review.
    fn check(&self) -> Result<(), String> {
        let lists = [&self.tenants, &self.sources, &self.subjects, &self.roles, &self.targets, &self.findings];
        let count: usize = lists.iter().map(|list| list.len()).sum();
        if count > MOST_PATTERNS {
            return Err(format!("{count} names and patterns are selected by, and at most {MOST_PATTERNS} can be"));
        }
        let spans = self.items.as_deref().unwrap_or_default();
        let in_order = spans.windows(2).all(|pair| pair[0].1 < pair[1].0) && spans.iter().all(|(a, b)| a <= b);
        if spans.len() > MOST_SPANS || !in_order {
            return Err(format!("items are at most {MOST_SPANS} spans in order, from the first to the last"));
        }
        Ok(())
    }
}

fn item_json(review: &Review, number: u32) -> Value {
    let mut shown = json!(review.item(number));
    shown["item"] = number.into();
    shown["reviewer"] = json!(review.reviewer(number));
    if let Some((stamp, made)) = review.decision(number) {
        shown["decision"] = json!({"decision": made.decision, "reason": made.reason, "to": made.to,
            "by": stamp.by.as_str(), "at": When(stamp.at), "seq": stamp.seq});
    }
    if let Some(one) = review.confirmed.get(&number) {
        shown["confirmed"] = json!({"seq": one.seq, "at": one.at});
    }
    shown
}
