//! The changes that a registry knows: what is asked for, and what stands in an entry of the `control` stream.
//!
//! A change is the `attributes` of its entry, tagged by the entry's action. Not here: whether a change may be made
//! ([`super::check`]), what it does ([`super::fold`]).
//!
//! Invariants: the form is closed, an unknown field is an error; no change holds a secret, and the hash of one stands
//! in an entry of its own, so that erasing it leaves the facts.

mod act;
mod incident;
mod job;
mod keys;
mod place;
mod quota;
mod redaction;
mod residency;
mod retention;
mod review;
mod right;
mod rules;

pub use self::act::{FactAct, PrincipalAct, TenantAct};
pub use self::incident::{
    AwareFact, CloseFact, IncidentFact, IncidentStatus, IncidentUpdate, Severity, Triage, TriageFact,
};
pub use self::job::{JobBegin, JobEnd, JobFinding, JobOutcome, JobRenewal};
pub use self::keys::{KeyFact, SignsFact, Why};
pub use self::place::{StoreFact, Tier};
pub use self::quota::{Quota, QuotaFact};
pub use self::redaction::{RedactedRows, RedactionApproval, RedactionFact};
pub use self::residency::{ResidencyFact, ResidencyRule};
pub use self::retention::{CertificateFact, HoldFact, PolicyAct, PurgeAct, PurgeFact, RetentionFact};
pub use self::review::{
    Confirmation, Narrowed, ReviewClose, ReviewConfirmations, ReviewDecision, ReviewEscalation, ReviewFact, ReviewItem,
    ReviewItems, ReviewReminder, ReviewerRule, Span, Verdict,
};
pub use self::right::{Dimension, ElevationFact, GrantFact, GrantLimits, RowScope};
pub use self::rules::{Conflict, GrantForm, Means, ReviewRules, RoleRule, RulesFact};
use super::names::{FactId, PrincipalId, When, text};
use ledger::name::{LedgerName, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What kind of principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PrincipalKind {
    /// A person.
    User,
    /// A service of the platform or of a tenant.
    Service,
    /// A job that runs on a schedule.
    Job,
}

impl PrincipalKind {
    /// Three letters, as in the prefix of an API key.
    pub fn code(self) -> &'static str {
        match self {
            Self::User => "usr",
            Self::Service => "svc",
            Self::Job => "job",
        }
    }

    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Service => "service",
            Self::Job => "job",
        }
    }
}

/// A new tenant, or what it is from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantFact {
    /// Which.
    #[schemars(with = "String")]
    #[serde(with = "text::single")]
    pub tenant: TenantId,
    /// What people call it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Below which tenant it stands; the platform when left out.
    #[schemars(with = "Option<String>")]
    #[serde(default, with = "text::optional", skip_serializing_if = "Option::is_none")]
    pub parent: Option<TenantId>,
    /// How it is kept apart; as its parent (but not dedicated), or as it was, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// In which store it lives, for ever; `main`, when left out.
    #[schemars(with = "Option<String>")]
    #[serde(default, with = "text::optional", skip_serializing_if = "Option::is_none")]
    pub store: Option<TenantId>,
    /// For a tenant that is there: the version that the caller has seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// A new principal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrincipalFact {
    /// Which.
    pub principal: PrincipalId,
    /// A person, a service or a job.
    pub kind: PrincipalKind,
    /// What people call it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The tenant whose it is; the platform's own people and services when left out.
    #[schemars(with = "Option<String>")]
    #[serde(default, with = "text::optional", skip_serializing_if = "Option::is_none")]
    pub home: Option<TenantId>,
}

/// A new credential. Its id and secret are made by the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialFact {
    /// Its id, made by the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<FactId>,
    /// Whose.
    pub principal: PrincipalId,
    /// From when it is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<When>,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<When>,
    /// The tenants that it can be used for, with those below them; all of the principal's when left out.
    #[schemars(with = "Vec<String>")]
    #[serde(default, with = "text::list", skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<TenantId>,
    /// The actions that it can be used for; all of the principal's when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<crate::policy::Action>,
    /// The credential that this one takes the place of, which stays valid for `overlap_minutes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<FactId>,
    /// How long the replaced one stays valid; a day when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_minutes: Option<u32>,
}

/// An identity that somebody else vouches for: a certificate's name, or an issuer's subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityFact {
    /// Whose it is.
    pub principal: PrincipalId,
    /// A name in a client's certificate: a SPIFFE id, or the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The issuer of tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Its subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl IdentityFact {
    /// What it is found by; none unless it is one of the two.
    pub fn key(&self) -> Option<IdentityKey> {
        match (&self.certificate, &self.issuer, &self.subject) {
            (Some(name), None, None) => Some(IdentityKey::Certificate(name.clone())),
            (None, Some(issuer), Some(subject)) => Some(IdentityKey::Token(issuer.clone(), subject.clone())),
            _ => None,
        }
    }
}

/// What an identity is found by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum IdentityKey {
    /// A name in a certificate.
    Certificate(String),
    /// Issuer and subject of a token.
    Token(String, String),
}

/// One change of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "change")]
pub enum Change {
    /// The first entry: whose ledger this is.
    #[serde(rename = "ledger.begin")]
    Begin {
        /// Its name.
        #[schemars(with = "String")]
        #[serde(with = "text::single")]
        ledger: LedgerName,
        /// Version of the format.
        format: u32,
        /// Its first public key.
        vkey: String,
    },
    /// A new tenant.
    #[serde(rename = "tenant.create")]
    CreateTenant(TenantFact),
    /// What a tenant is from now on.
    #[serde(rename = "tenant.update")]
    UpdateTenant(TenantFact),
    /// Nothing of it is taken in, and its own people and services are refused.
    #[serde(rename = "tenant.suspend")]
    SuspendTenant(TenantAct),
    /// The end of a suspension.
    #[serde(rename = "tenant.resume")]
    ResumeTenant(TenantAct),
    /// A new principal.
    #[serde(rename = "principal.create")]
    CreatePrincipal(PrincipalFact),
    /// None of its credentials is accepted.
    #[serde(rename = "principal.suspend")]
    SuspendPrincipal(PrincipalAct),
    /// The end of that.
    #[serde(rename = "principal.resume")]
    ResumePrincipal(PrincipalAct),
    /// A new credential.
    #[serde(rename = "credential.create")]
    CreateCredential(CredentialFact),
    /// The hash of a credential's secret.
    #[serde(rename = "credential.secret")]
    Secret {
        /// Of which.
        credential: FactId,
        /// SHA-256 of the secret's text, in hexadecimal.
        sha256: String,
    },
    /// Whoever proves this identity is that principal.
    #[serde(rename = "identity.bind")]
    BindIdentity(IdentityFact),
    /// That identity is nobody's any more.
    #[serde(rename = "identity.unbind")]
    UnbindIdentity(IdentityFact),
    /// It is accepted no more.
    #[serde(rename = "credential.revoke")]
    RevokeCredential(FactAct),
    /// A new grant.
    #[serde(rename = "grant.create")]
    CreateGrant(GrantFact),
    /// It holds no more.
    #[serde(rename = "grant.revoke")]
    RevokeGrant(FactAct),
    /// An elevation is asked for.
    #[serde(rename = "elevation.ask")]
    AskElevation(ElevationFact),
    /// Somebody else agreed, and the clock starts.
    #[serde(rename = "elevation.approve")]
    ApproveElevation(FactAct),
    /// Somebody else did not agree.
    #[serde(rename = "elevation.refuse")]
    RefuseElevation(FactAct),
    /// It was ended before its time.
    #[serde(rename = "elevation.revoke")]
    RevokeElevation(FactAct),
    /// Its time is over. Written by the service.
    #[serde(rename = "elevation.expire")]
    ExpireElevation(FactAct),
    /// In an emergency: taken without approval, and to be reviewed.
    #[serde(rename = "elevation.break_glass")]
    BreakGlass(ElevationFact),
    /// Somebody else looked at what was done under it.
    #[serde(rename = "elevation.review")]
    ReviewElevation(FactAct),
    /// The deployer's policies from now on: names of files, and the SHA-256 of each. Written by the service.
    #[serde(rename = "policy.set")]
    SetPolicies {
        /// By name.
        files: BTreeMap<String, String>,
    },
    /// A snapshot of the registry was kept: what the changes below `size` come to. Written by the service.
    #[serde(rename = "registry.snapshot")]
    Snapshot {
        /// How many entries of the stream it covers.
        size: u64,
        /// The root of the stream's tree of that size, in base64.
        root: String,
        /// SHA-256 of the snapshot, in hexadecimal.
        sha256: String,
    },
    /// Tenants in a store were told of all changes below an entry. Written by the service.
    #[serde(rename = "store.told")]
    Told {
        /// Which store.
        store: String,
        /// All entries below this one.
        through: u64,
    },
    /// Keys that were used. Written by the service, of each key at most once a day.
    #[serde(rename = "credential.used")]
    UseCredentials {
        /// Which.
        credentials: Vec<FactId>,
    },
    /// The stores from now on, by name. Written by the service.
    #[serde(rename = "store.set")]
    SetStores {
        /// By name.
        stores: BTreeMap<String, StoreFact>,
    },
    /// In which regions a tenant's data may be.
    #[serde(rename = "residency.set")]
    SetResidency(ResidencyFact),
    /// How long some of the data is kept.
    #[serde(rename = "retention.set")]
    SetRetention(RetentionFact),
    /// The end of such a policy.
    #[serde(rename = "retention.end")]
    EndRetention(PolicyAct),
    /// Something stays, whatever a policy says.
    #[serde(rename = "hold.set")]
    SetHold(HoldFact),
    /// The end of a hold, or one of two people's word for it.
    #[serde(rename = "hold.release")]
    ReleaseHold(FactAct),
    /// The intent to carry out a plan.
    #[serde(rename = "purge.begin")]
    BeginPurge(PurgeFact),
    /// A stream was purged. Written by the service.
    #[serde(rename = "purge.certify")]
    CertifyPurge(Box<CertificateFact>),
    /// The end of a run. Written by the service.
    #[serde(rename = "purge.end")]
    EndPurge(PurgeAct),
    /// The files of a run are gone from the store. Written by the service.
    #[serde(rename = "purge.erase")]
    ErasePurge(PurgeAct),
    /// A tenant's content is encrypted from now on.
    #[serde(rename = "key.create")]
    CreateKey(KeyFact),
    /// It is encrypted under another key from now on, and what was written before is written anew by and by.
    #[serde(rename = "key.rotate")]
    RotateKey(KeyFact),
    /// Nothing of the tenant is read or taken.
    #[serde(rename = "key.disable")]
    DisableKey(TenantAct),
    /// The end of that.
    #[serde(rename = "key.enable")]
    EnableKey(TenantAct),
    /// A tenant's keys are to be destroyed: one of two people's word for it, or the intent.
    #[serde(rename = "key.destroy")]
    DestroyKey(TenantAct),
    /// They are destroyed at their provider. Written by the service.
    #[serde(rename = "key.erase")]
    EraseKey(TenantAct),
    /// The ledger is signed with a new key from now on; those before it sign along until they are retired.
    #[serde(rename = "ledger_key.rotate")]
    RotateLedgerKey(Why),
    /// The keys of before sign along no more.
    #[serde(rename = "ledger_key.retire")]
    RetireLedgerKeys(Why),
    /// A store is signed with a key. Written by the service.
    #[serde(rename = "ledger_key.signs")]
    LedgerKeySigns(SignsFact),
    /// Sections of entries are to be redacted, as a data subject asked.
    #[serde(rename = "redaction.ask")]
    AskRedaction(Box<RedactionFact>),
    /// Somebody else agreed: the intent to carry it out.
    #[serde(rename = "redaction.approve")]
    ApproveRedaction(RedactionApproval),
    /// It is not to be.
    #[serde(rename = "redaction.refuse")]
    RefuseRedaction(FactAct),
    /// When jobs of the service are due from now on, by name; of the others, never. Written by the service.
    #[serde(rename = "job.schedule")]
    SetJobs {
        /// Cron expressions, in UTC.
        schedules: BTreeMap<String, String>,
    },
    /// A run of a job begins. Written by the service.
    #[serde(rename = "job.begin")]
    BeginJob(JobBegin),
    /// A run goes on. Written by the service.
    #[serde(rename = "job.renew")]
    RenewJob(JobRenewal),
    /// A run found something that does not hold. Written by the service.
    #[serde(rename = "job.find")]
    FindByJob(Box<JobFinding>),
    /// The end of a run. Written by the service.
    #[serde(rename = "job.end")]
    EndJob(Box<JobEnd>),
    /// Rules of access reviews from now on.
    #[serde(rename = "review.rules")]
    SetReviewRules(Box<RulesFact>),
    /// A review is opened.
    #[serde(rename = "review.open")]
    OpenReview(Box<ReviewFact>),
    /// Items of a review. Written by the service.
    #[serde(rename = "review.items")]
    AddReviewItems(ReviewItems),
    /// A reviewer decided.
    #[serde(rename = "review.decide")]
    DecideReview(ReviewDecision),
    /// Reviewers were reminded. Written by the service.
    #[serde(rename = "review.remind")]
    RemindReview(ReviewReminder),
    /// What was open when it was due went to somebody else. Written by the service.
    #[serde(rename = "review.escalate")]
    EscalateReview(ReviewEscalation),
    /// Events showed that things were taken. Written by the service.
    #[serde(rename = "review.confirm")]
    ConfirmReview(ReviewConfirmations),
    /// The end of a review.
    #[serde(rename = "review.close")]
    CloseReview(Box<ReviewClose>),
    /// An incident is opened.
    #[serde(rename = "incident.open")]
    OpenIncident(IncidentFact),
    /// It is another one from now on, or something is noted.
    #[serde(rename = "incident.update")]
    UpdateIncident(IncidentUpdate),
    /// Somebody decided about one of its tenants.
    #[serde(rename = "incident.triage")]
    TriageIncident(TriageFact),
    /// Since when a breach of personal data is known.
    #[serde(rename = "incident.aware")]
    AwareOfIncident(AwareFact),
    /// The authority was told of it.
    #[serde(rename = "incident.notify")]
    NotifyIncident(FactAct),
    /// It is over.
    #[serde(rename = "incident.close")]
    CloseIncident(CloseFact),
    /// Bounds of a tenant or tier.
    #[serde(rename = "quota.set")]
    SetQuota(QuotaFact),
}
