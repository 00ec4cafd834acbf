//! What a role may do: Cedar policies over a schema of our own.
//!
//! The default policies and the schema stand in `policy/`; deployers add `.cedar` files, which are validated strictly.
//! One question is asked per grant: whether its role permits the action on the resource. Not here: which grants a
//! principal has ([`crate::registry`]), what a grant shows of a stream ([`crate::Sight`]).
//!
//! Invariants: what no policy permits is refused; an error while a policy is evaluated refuses; answers depend on
//! nothing but the question, so that they may be kept. Source: <https://docs.cedarpolicy.com>.

use crate::caller::Caller;
use crate::registry::change::{PrincipalKind, Tier};
use crate::registry::names::{PrincipalId, Role};
use crate::registry::{Registry, Right};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicySet, Request,
    RestrictedExpression, Schema, ValidationMode, Validator,
};
use ledger::name::{StreamKind, TenantId};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::str::FromStr;
use std::sync::{PoisonError, RwLock};

const SCHEMA: &str = include_str!("../policy/piperoll.cedarschema");
const DEFAULT: &str = include_str!("../policy/default.cedar");

/// Policies could not be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not Cedar.
    #[error("the policies in {file} are malformed: {why}")]
    Malformed {
        /// Which file.
        file: String,
        /// What is wrong, and where.
        why: String,
    },
    /// Cedar, but about things that there are not.
    #[error("the policies in {file} do not fit the schema: {why}")]
    Unfit {
        /// Which file.
        file: String,
        /// What is wrong.
        why: String,
    },
}

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// What somebody wants to do, as policies call it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        pub enum Action { $($(#[$doc])* #[serde(rename = $text)] $name),* }

        impl Action {
            /// All of them.
            pub const ALL: &[Action] = &[$(Action::$name),*];

            /// The name in policies and entries.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

actions! {
    /// Bring events to a stream.
    AppendEvents = "events.append",
    /// Read a stream's events.
    ReadEvents = "events.read",
    /// Read a stream's heads, proofs and tiles.
    ReadProofs = "proofs.read",
    /// See that a tenant is there, and how it is set up.
    ReadTenant = "tenant.read",
    /// Make a tenant below this one.
    CreateTenant = "tenant.create",
    /// Change how a tenant is set up.
    UpdateTenant = "tenant.update",
    /// Suspend a tenant, and end that.
    ContainTenant = "tenant.contain",
    /// Make and suspend principals of a tenant.
    ManagePrincipals = "principal.manage",
    /// Make and revoke credentials of a tenant's principals.
    ManageCredentials = "credential.manage",
    /// Set bounds of a tenant's use.
    ManageQuotas = "quota.manage",
    /// See how much a tenant uses.
    ReadUsage = "usage.read",
    /// See the service's metrics.
    ReadMetrics = "metrics.read",
    /// See who may do what.
    ReadGrants = "grant.read",
    /// Make and revoke grants, never of more than one has.
    ManageGrants = "grant.manage",
    /// Make grants of more than one has.
    UnboundedGrants = "grant.unbounded",
    /// Ask for an elevation.
    AskElevation = "elevation.ask",
    /// Approve, refuse and end elevations of others.
    DecideElevation = "elevation.decide",
    /// Review what was done under an elevation.
    ReviewElevation = "elevation.review",
    /// Say in which regions a tenant's data may be.
    ManageResidency = "residency.manage",
    /// See how long data is kept, what is held, and what was purged.
    ReadRetention = "retention.read",
    /// Say how long data is kept.
    ManageRetention = "retention.manage",
    /// Hold data, and release it.
    ManageHolds = "hold.manage",
    /// Carry out what is due to go.
    RunRetention = "retention.run",
    /// See which keys there are, and what is under them.
    ReadKeys = "key.read",
    /// Make, rotate, disable and enable a tenant's keys.
    ManageKeys = "key.manage",
    /// Give one of two people's word for the destruction of a tenant's keys.
    DestroyKeys = "key.destroy",
    /// Find where a person is named, by identifier.
    FindSubjects = "subject.find",
    /// Ask for a redaction.
    AskRedaction = "redaction.ask",
    /// Agree to a redaction that somebody else asked for, or refuse it.
    DecideRedaction = "redaction.decide",
    /// See the service's jobs, and what became of them.
    ReadJobs = "job.read",
    /// Run a job of the service now.
    RunJobs = "job.run",
    /// See incidents, and what was found and decided.
    ReadIncidents = "incident.read",
    /// Open incidents, decide on them, close them.
    ManageIncidents = "incident.manage",
    /// See access reviews, and what was decided.
    ReadReviews = "review.read",
    /// Open access reviews, set their rules, close them.
    ManageReviews = "review.manage",
    /// Decide on what one was made the reviewer of.
    DecideReviews = "review.decide",
    /// Take an elevation without approval.
    BreakGlass = "elevation.break_glass",
}

impl Action {
    /// Whether it is done to a stream, and not to a tenant.
    pub fn is_of_stream(self) -> bool {
        matches!(self, Self::AppendEvents | Self::ReadEvents | Self::ReadProofs)
    }

    fn is_of_grant(self) -> bool {
        matches!(self, Self::ManageGrants | Self::UnboundedGrants | Self::ManageCredentials)
    }
}

/// A grant or credential that is to be made, as far as policies look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granting<'q> {
    /// As what; none of a credential.
    pub role: Option<&'q Role>,
    /// To what kind of principal.
    pub kind: PrincipalKind,
    /// Whether the principal is the tenant's very own.
    pub own: bool,
    /// Whether it is who asks.
    pub is_self: bool,
    /// Whether the grant reaches the tenants below.
    pub subtree: bool,
}

/// One question to the policies.
#[derive(Debug, Clone, Copy)]
pub struct Question<'q> {
    /// Who.
    pub principal: &'q PrincipalId,
    /// As what.
    pub role: &'q Role,
    /// Does what.
    pub action: Action,
    /// To which tenant.
    pub tenant: &'q TenantId,
    /// To which of its streams, for actions that are done to one.
    pub stream: StreamKind,
    /// Whether under an elevation.
    pub elevated: bool,
    /// With what purpose.
    pub purpose: &'q str,
    /// After which proof of identity.
    pub method: &'q str,
    /// Of a grant that is to be made.
    pub granting: Option<Granting<'q>>,
}

impl<'q> Question<'q> {
    /// Whether one of a caller's rights permits an action.
    pub(crate) fn of(
        caller: &'q Caller,
        right: &Right<'q>,
        action: Action,
        tenant: &'q TenantId,
        stream: StreamKind,
    ) -> Self {
        Self {
            principal: caller.principal(),
            role: right.role,
            action,
            tenant,
            stream,
            elevated: right.is_elevation,
            purpose: right.limits.map_or("", |limits| limits.purpose.as_str()),
            method: caller.method(),
            granting: None,
        }
    }
}

/// The policies in force.
pub struct Policies {
    set: PolicySet,
    schema: Schema,
    roles: HashSet<String>,
    types: Types,
    /// Answers that are kept; none where a deployer's policies may look at anything.
    kept: Option<RwLock<HashMap<Kept, bool>>>,
}

/// All that the default policies look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kept {
    role: Role,
    action: Action,
    stream: Option<StreamKind>,
    elevated: bool,
    granting: Option<(Option<Role>, PrincipalKind, [bool; 3])>,
}

impl Kept {
    fn of(question: &Question<'_>) -> Self {
        let granting = question.granting.filter(|_| question.action.is_of_grant());
        Self {
            role: question.role.clone(),
            action: question.action,
            stream: question.action.is_of_stream().then_some(question.stream),
            elevated: question.elevated,
            granting: granting.map(|of| (of.role.cloned(), of.kind, [of.own, of.is_self, of.subtree])),
        }
    }
}

/// Answers that are kept at most.
const MOST_KEPT: usize = 4_096;

impl Policies {
    /// The default policies and those of a deployer: names of files, and their texts.
    ///
    /// # Errors
    /// A text is no Cedar, or does not fit the schema.
    pub fn load(added: &[(String, String)]) -> Result<Self, PolicyError> {
        let malformed = |file: &str, why: String| PolicyError::Malformed { file: file.into(), why };
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).map_err(|e| malformed("the schema", e.to_string()))?;
        let own = [("the default policies".to_string(), DEFAULT.to_string())];
        let mut all = PolicySet::new();
        for (file, text) in own.iter().chain(added) {
            let set = PolicySet::from_str(text).map_err(|e| malformed(file, e.to_string()))?;
            let found = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
            if let Some(why) = found.validation_errors().next() {
                return Err(PolicyError::Unfit { file: file.clone(), why: why.to_string() });
            }
            if set.templates().next().is_some() {
                return Err(PolicyError::Unfit { file: file.clone(), why: "templates are linked by nobody".into() });
            }
            for (at, policy) in set.policies().enumerate() {
                let name = policy.annotation("id").map_or_else(|| format!("{file}#{at}"), str::to_string);
                let policy = policy.new_id(cedar_policy::PolicyId::new(name));
                all.add(policy).map_err(|e| malformed(file, e.to_string()))?;
            }
        }
        let types = Types::new();
        let roles = roles_of(&all, &types);
        let kept = added.is_empty().then(RwLock::default);
        Ok(Self { set: all, schema, roles, types, kept })
    }

    /// Whether some policy speaks of this role.
    pub fn knows(&self, role: &Role) -> bool {
        self.roles.contains(role.as_str())
    }

    /// Every role that some policy speaks of, ascending.
    pub fn roles(&self) -> Vec<&str> {
        let mut roles: Vec<&str> = self.roles.iter().map(String::as_str).collect();
        roles.sort_unstable();
        roles
    }

    /// Whether the role permits it.
    pub fn permits(&self, registry: &Registry, question: &Question<'_>) -> bool {
        let Some(kept) = &self.kept else { return self.evaluate(registry, question) };
        let key = Kept::of(question);
        if let Some(answer) = kept.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return *answer;
        }
        let answer = self.evaluate(registry, question);
        let mut kept = kept.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MOST_KEPT {
            kept.insert(key, answer);
        }
        answer
    }

    fn evaluate(&self, registry: &Registry, question: &Question<'_>) -> bool {
        match self.ask(registry, question) {
            Ok(permitted) => permitted,
            Err(error) => {
                tracing::error!(error = error.as_str(), "a question to the policies could not be asked: refused");
                false
            }
        }
    }

    fn ask(&self, registry: &Registry, question: &Question<'_>) -> Result<bool, String> {
        let types = &self.types;
        let principal = uid(&types.principal, question.principal.as_str());
        let role = uid(&types.role, question.role.as_str());
        let mut entities = Vec::with_capacity(6);
        let mut resource = uid(&types.tenant, question.tenant.as_str());
        if question.action.is_of_stream() {
            let stream = uid(&types.stream, &format!("{}/{}", question.tenant, question.stream));
            let kind = vec![("kind", text(question.stream.as_str()))];
            entities.push(entity(stream.clone(), kind, HashSet::from([resource]))?);
            resource = stream;
        }
        let mut line = registry.line(question.tenant).peekable();
        while let Some(tenant) = line.next() {
            let found = registry.tenant(tenant);
            let suspended = found.is_some_and(|tenant| tenant.suspended.is_some());
            let tier = found.map_or(Tier::default(), |tenant| tenant.tier());
            let attributes =
                vec![("tier", text(tier.as_str())), ("suspended", RestrictedExpression::new_bool(suspended))];
            let parents = line.peek().map(|parent| uid(&types.tenant, parent.as_str()));
            entities.push(entity(uid(&types.tenant, tenant.as_str()), attributes, parents.into_iter().collect())?);
        }
        let known = registry.principal(question.principal);
        let mut attributes = vec![("kind", text(known.map_or("user", |known| known.fact.kind.as_str())))];
        if let Some(home) = known.and_then(|known| known.fact.home.as_ref()) {
            let home = uid(&types.tenant, home.as_str());
            attributes.push(("home", RestrictedExpression::new_entity_uid(home)));
        }
        entities.push(entity(principal.clone(), attributes, HashSet::from([role.clone()]))?);
        entities.push(Entity::with_uid(role));
        let mut asked = vec![
            ("elevated".to_string(), RestrictedExpression::new_bool(question.elevated)),
            ("purpose".into(), text(question.purpose)),
            ("method".into(), text(question.method)),
        ];
        if question.action.is_of_grant() {
            let granting = question.granting.ok_or("a question about a grant without the grant")?;
            asked.push(("role".into(), text(granting.role.map_or("", Role::as_str))));
            asked.push(("kind".into(), text(granting.kind.as_str())));
            for (name, holds) in [("own", granting.own), ("self", granting.is_self), ("subtree", granting.subtree)] {
                asked.push((name.into(), RestrictedExpression::new_bool(holds)));
            }
        }
        let context = Context::from_pairs(asked).map_err(|e| e.to_string())?;
        let action = uid(&types.action, question.action.as_str());
        let request =
            Request::new(principal, action, resource, context, Some(&self.schema)).map_err(|e| e.to_string())?;
        let entities = Entities::from_entities(entities, None).map_err(|e| e.to_string())?;
        let answer = Authorizer::new().is_authorized(&request, &self.set, &entities);
        if let Some(error) = answer.diagnostics().errors().next() {
            return Err(error.to_string());
        }
        Ok(answer.decision() == Decision::Allow)
    }
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.into())
}

/// The names of our kinds of entity, which take longer to read than to use.
struct Types {
    action: EntityTypeName,
    principal: EntityTypeName,
    role: EntityTypeName,
    stream: EntityTypeName,
    tenant: EntityTypeName,
}

impl Types {
    fn new() -> Self {
        let name = |text| EntityTypeName::from_str(text).expect("a plain name");
        let (action, principal, role) = (name("Action"), name("Principal"), name("Role"));
        Self { action, principal, role, stream: name("Stream"), tenant: name("Tenant") }
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn entity(
    uid: EntityUid,
    attributes: Vec<(&str, RestrictedExpression)>,
    parents: HashSet<EntityUid>,
) -> Result<Entity, String> {
    let attributes: HashMap<String, RestrictedExpression> =
        attributes.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
    Entity::new(uid, attributes, parents).map_err(|e| e.to_string())
}

/// The roles that policies name.
fn roles_of(set: &PolicySet, types: &Types) -> HashSet<String> {
    let named = set.policies().flat_map(cedar_policy::Policy::entity_literals);
    named.filter(|uid| *uid.type_name() == types.role).map(|uid| uid.id().unescaped().to_string()).collect()
}

#[cfg(test)]
mod tests;
