//! Access reviews that are held: a population frozen at its heads, a reviewer for each item, decisions, and the report.
//!
//! Not here: what is kept of one and who may decide (`access`). Invariants: what is decided in bulk was shown before, and
//! is the same still; items are found by the service and by nobody else.

use super::answer::Entitlement;
use super::question::AccessQuestion;
use crate::scope::Misasked;
use crate::state::QueryState;
use access::pattern::fits;
use access::registry::change::{
    PrincipalKind, ReviewClose, ReviewDecision, ReviewFact, ReviewItem, ReviewRules, ReviewerRule, Span, Verdict,
};
use access::registry::names::{FactId, PrincipalId, When};
use access::registry::{LARGEST_FINDING, MOST_ITEMS, Made, PLATFORM, Registry, Review, numbers, spans};
use access::{Action, Caller, Problem, ProblemKind};
use ledger::name::TenantId;
use ledger::{Hash, StreamKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Where reviewers are looked for when nothing is said.
const REVIEWERS: [ReviewerRule; 3] =
    [ReviewerRule::ResourceOwner, ReviewerRule::Manager, ReviewerRule::TenantAdministrator];
/// Items that are shown of what a decision would cover.
const MOST_SHOWN: usize = 20;
/// Items of a page when nothing is said, and at most.
const PAGE: u32 = 200;
const LARGEST_PAGE: u32 = 5_000;
/// Reviewers that a report names.
const MOST_REVIEWERS: usize = 500;

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
        let refused = |why: String| Problem::new(ProblemKind::Unprocessable, why);
        let (answer, _) = self.entitlements(caller, question).await?;
        if let Some((tenant, why)) = answer.in_part.iter().next() {
            return Err(refused(format!(
                "a review is of all that there is, and of {tenant} you do not see all: {why}"
            )));
        }
        if let Some(one) = answer.not_examined.first() {
            return Err(refused(format!("{} could not be looked at: {}", one.tenant, one.why)));
        }
        // What is held above and reaches down is for a review there to decide on.
        let is_asked = |one: &&Entitlement| answer.question.tenants.binary_search(&one.tenant).is_ok();
        let entitlements: Vec<&Entitlement> = answer.entitlements.iter().filter(is_asked).collect();
        let count = u32::try_from(entitlements.len()).unwrap_or(u32::MAX);
        if count == 0 {
            return Err(refused("nobody has anything that the question asks about: there is nothing to review".into()));
        }
        if count > MOST_ITEMS {
            return Err(refused(format!("{count} items, and a review has at most {MOST_ITEMS}: hold several")));
        }
        let owner = fact.owner.clone().unwrap_or_else(|| caller.principal().clone());
        let items = {
            let registry = self.door().book().read();
            let outside = entitlements
                .iter()
                .find(|one| !one.tenant.parse().is_ok_and(|tenant| registry.is_within(&tenant, &home)));
            if let Some(one) = outside {
                let why = format!("a review of {home} is about tenants below it, and {} is none", one.tenant);
                return Err(refused(why));
            }
            let reviewers = match fact.reviewers.is_empty() {
                true => &REVIEWERS[..],
                false => &fact.reviewers,
            };
            let rules = answer.question.rules.as_ref();
            let assigning = Assigning::new(&registry, rules, reviewers, [Some(&owner), fact.escalate_to.as_ref()]);
            entitlements.iter().map(|one| assigning.item(one)).collect::<Result<Vec<_>, _>>().map_err(refused)?
        };
        let lines: String = items.iter().map(|item| json!(item).to_string() + "\n").collect();
        let heads_sha256 = Some(Hash::of(answer.read.to_string().as_bytes()).to_hex());
        let mut asked = json!(answer.question);
        asked["heads"] = answer.read.clone();
        if asked.to_string().len() > LARGEST_FINDING {
            asked = json!(answer.question);
        }
        let question = (asked.to_string().len() <= LARGEST_FINDING).then_some(asked);
        let items_sha256 = Some(Hash::of(lines.as_bytes()).to_hex());
        let fact = ReviewFact { question, heads_sha256, items: Some(count), items_sha256, ..fact };
        let made = self.door().open_review(caller, fact, &items).await?;
        let mut by_reviewer: BTreeMap<&str, u32> = BTreeMap::new();
        items.iter().for_each(|item| *by_reviewer.entry(item.reviewer.as_str()).or_default() += 1);
        let shown = json!({"summary": answer.summary, "items": count, "by_reviewer": by_reviewer, "read": answer.read});
        Ok((made, shown))
    }

    /// A page of a review's items; of who is a reviewer and nothing else, their own.
    ///
    /// # Errors
    /// There is no such review for the caller.
    pub fn review_items(&self, caller: &Caller, id: &FactId, page: &Page) -> Result<Value, Problem> {
        let (review, sees_all) = self.door().review(caller, id)?;
        let limit = page.limit.unwrap_or(PAGE);
        if !(1..=LARGEST_PAGE).contains(&limit) {
            return Err(Misasked(format!("limit is not between 1 and {LARGEST_PAGE}")).into());
        }
        let is_meant = |number: &u32| {
            let is_mine = review.reviewer(*number) == Some(caller.principal());
            (is_mine || (sees_all && !page.mine)) && !(page.open && review.decision(*number).is_some())
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
        let refused = |why: String| Problem::new(ProblemKind::Unprocessable, why);
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
        let is_one = items.len() == 1 && asked.select.items.is_some();
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
        let entries = self.door().decide_review(caller, made).await?;
        let carried: Vec<Value> = entries[1..].iter().map(|one| json!({"seq": one.seq, "made": one.change})).collect();
        Ok(json!({"decided": true, "seq": entries[0].seq, "count": items.len(), "carried_out": carried}))
    }

    fn selected(&self, caller: &Caller, review: &Review, select: &Selection) -> Result<Vec<u32>, String> {
        let own = self.door().book().read().own_names(caller.principal());
        let is_mine = |number: &u32| {
            review.reviewer(*number) == Some(caller.principal())
                && review.item(*number).is_some_and(|item| !item.is_about(&own))
        };
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
        let (review, _) = self.door().review(caller, &id)?;
        let report = report_of(&review);
        let made = self.door().close_review(caller, ReviewClose { id, reason, report: Some(report.clone()) }).await?;
        Ok((made, report))
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

/// What a review came to, as it stands.
pub(super) fn report_of(review: &Review) -> Value {
    let counts = review.counts();
    let open = counts.get("open").copied().unwrap_or_default();
    let mut by_reviewer: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    let mut findings: BTreeMap<&str, BTreeMap<&str, u32>> = BTreeMap::new();
    let (mut carried_out, mut late) = (0u32, 0u32);
    for number in 0..review.size() {
        let decision = review.decision(number);
        if let Some(reviewer) = review.reviewer(number) {
            let of = by_reviewer.entry(reviewer.as_str()).or_default();
            of.0 += 1;
            of.1 += u32::from(decision.is_some());
        }
        let Some(item) = review.item(number) else { continue };
        let decided = decision.map_or("open", |(_, made)| made.decision.as_str());
        for finding in &item.findings {
            *findings.entry(finding).or_default().entry(decided).or_default() += 1;
        }
        let is_taken = decision.is_some_and(|(_, made)| matches!(made.decision, Verdict::Revoke | Verdict::Narrow));
        carried_out += u32::from(is_taken && item.grant.is_some());
        late += u32::from(decision.is_some_and(|(stamp, _)| stamp.at > review.fact.due_at.0));
    }
    let reviewers = by_reviewer.len();
    let of_reviewers: BTreeMap<&str, Value> = by_reviewer
        .into_iter()
        .take(MOST_REVIEWERS)
        .map(|(who, (items, decided))| (who, json!({"items": items, "decided": decided})))
        .collect();
    let decided = review.size() - open;
    json!({
        "review": review.fact.review, "title": review.fact.title, "tenant": review.home().as_str(),
        "opened_at": When(review.opened.at), "due_at": review.fact.due_at,
        "items": review.size(), "items_sha256": review.fact.items_sha256, "heads_sha256": review.fact.heads_sha256,
        "coverage": {"decided": decided, "of": review.size(), "after_due": late},
        "decisions": counts, "reviewers": reviewers, "by_reviewer": of_reviewers, "by_finding": findings,
        "revocations": {"carried_out": carried_out, "confirmed": review.confirmed.len(),
            "outstanding": review.outstanding().count()},
        "escalated": review.escalated.is_some(),
    })
}

/// Who reviews what.
struct Assigning<'r> {
    registry: &'r Registry,
    own_rules: Option<&'r ReviewRules>,
    reviewers: &'r [ReviewerRule],
    /// Who decides where no rule gives anybody.
    last: Vec<&'r PrincipalId>,
    administrators: BTreeMap<TenantId, Vec<&'r PrincipalId>>,
    names: std::cell::RefCell<HashMap<PrincipalId, HashSet<String>>>,
}

impl<'r> Assigning<'r> {
    fn new(
        registry: &'r Registry,
        own_rules: Option<&'r ReviewRules>,
        reviewers: &'r [ReviewerRule],
        last: [Option<&'r PrincipalId>; 2],
    ) -> Self {
        let mut administrators: BTreeMap<TenantId, BTreeSet<&PrincipalId>> = BTreeMap::new();
        for (_, grant) in registry.grants().filter(|(_, grant)| grant.revoked.is_none()) {
            if grant.fact.role.as_str() == "tenant-administrator" {
                for tenant in &grant.fact.tenants {
                    administrators.entry(tenant.clone()).or_default().insert(&grant.fact.principal);
                }
            }
        }
        let administrators =
            administrators.into_iter().map(|(tenant, who)| (tenant, who.into_iter().collect())).collect();
        let last = last.into_iter().flatten().collect();
        Self { registry, own_rules, reviewers, last, administrators, names: Default::default() }
    }

    /// An entitlement as an item, with its reviewer.
    fn item(&self, one: &Entitlement) -> Result<ReviewItem, String> {
        let wrong = |_| format!("{} is no name", one.tenant);
        let tenant: TenantId = one.tenant.parse().map_err(wrong)?;
        let time = |text: &str| text.parse::<When>().unwrap_or(When(0));
        let mut item = ReviewItem {
            tenant,
            source: one.source.clone(),
            subject: one.subject.clone(),
            also: one.also.clone(),
            role: one.role.clone(),
            target: one.target.clone(),
            since: time(&one.since),
            last_used: one.last_used.as_deref().map(time),
            uses: one.uses,
            findings: one.findings.iter().map(|kind| kind.as_str().to_string()).collect(),
            grant: one.grant.clone(),
            reviewer: self.last.first().map(|one| (*one).clone()).ok_or("a review needs an owner")?,
        };
        let of_rules = self.reviewers.iter().flat_map(|rule| self.candidates(rule, &item, one));
        let mut candidates = of_rules.chain(self.last.iter().map(|one| (*one).clone()));
        item.reviewer = candidates.find(|candidate| self.can(candidate, &item)).ok_or_else(|| {
            format!(
                "nobody but {} could decide on their {}: name an owner or escalate_to who can",
                item.subject, item.role
            )
        })?;
        Ok(item)
    }

    fn candidates(&self, rule: &ReviewerRule, item: &ReviewItem, one: &Entitlement) -> Vec<PrincipalId> {
        let rules = self.own_rules.or_else(|| self.registry.review_rules(&item.tenant).map(|(rules, _)| rules));
        let longest = |patterns: fn(&ReviewRules) -> &BTreeMap<String, PrincipalId>, value: &str| {
            super::entry::longest(patterns(rules?), value).cloned()
        };
        match rule {
            ReviewerRule::ResourceOwner => {
                let target = item.target.as_deref().and_then(|target| longest(|rules| &rules.owners, target));
                target.into_iter().chain(longest(|rules| &rules.owners, &item.role)).collect()
            }
            ReviewerRule::Manager => {
                let names = std::iter::once(&item.subject).chain(&item.also);
                let ruled = names.filter_map(|name| longest(|rules| &rules.managers, name));
                let shown = one.manager.as_ref().and_then(|name| name.to_lowercase().parse().ok());
                ruled.chain(shown).collect()
            }
            ReviewerRule::TenantAdministrator => {
                let own = self.administrators.get(&item.tenant).into_iter().flatten();
                own.map(|one| (*one).clone()).collect()
            }
            ReviewerRule::Principal(one) => vec![one.clone()],
        }
    }

    /// Whether somebody can decide on an item: a person who is there, and not its subject.
    fn can(&self, candidate: &PrincipalId, item: &ReviewItem) -> bool {
        let known = self.registry.principal(candidate);
        let is_there = known.is_some_and(|found| found.suspended.is_none() && found.fact.kind == PrincipalKind::User);
        let mut names = self.names.borrow_mut();
        let own = names.entry(candidate.clone()).or_insert_with(|| self.registry.own_names(candidate));
        is_there && !item.is_about(own)
    }
}
