//! The names of things: ledger, tenant, stream kind, origin. Each parses once and is valid ever after.
//!
//! Not here: display names (registry) and object paths (`ledger-store`, which builds them from these).
//!
//! Invariants: a [`TenantId`] is `[a-z0-9][a-z0-9._-]{0,62}`; an [`Origin`] has exactly four parts, so
//! it splits back without ambiguity and never collides with a store's own log, whose second part
//! starts with `_` and so is no tenant.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A name was malformed; says which kind of name and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is malformed: {rule}")]
pub struct NameError {
    /// Which kind of name.
    pub what: &'static str,
    /// What a right one looks like.
    pub rule: &'static str,
}

const TENANT_RULE: &str = "1 to 63 of a-z 0-9 . _ -, beginning with a letter or digit";

fn is_name(text: &str, longest: usize) -> bool {
    let bytes = text.as_bytes();
    let head = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    !bytes.is_empty()
        && bytes.len() <= longest
        && head(&bytes[0])
        && bytes.iter().all(|b| head(b) || matches!(b, b'.' | b'_' | b'-'))
}

/// Whose an event is: immutable, never a customer's display name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// Whether a text is such an identifier.
    pub fn is_valid(text: &str) -> bool {
        is_name(text, 63)
    }

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TenantId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if Self::is_valid(text) { Ok(Self(text.into())) } else { Err(NameError { what: "tenant", rule: TENANT_RULE }) }
    }
}

// Equal, ordered and hashed as its text, so that a map by tenant is asked with a text that was only borrowed.
impl Borrow<str> for TenantId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The ledger's own name, chosen once at `keygen`; it need be no host and never changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerName(Box<str>);

impl LedgerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LedgerName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if is_name(text, 100) {
            Ok(Self(text.into()))
        } else {
            Err(NameError { what: "ledger name", rule: "1 to 100 of a-z 0-9 . _ -, beginning with a letter or digit" })
        }
    }
}

impl fmt::Display for LedgerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The kinds of stream a tenant has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamKind {
    /// What was done.
    Audit,
    /// How the services fared.
    Telemetry,
    /// Who looked at this tenant's data; written by Piperoll alone.
    Access,
    /// The platform's own facts; written by Piperoll alone.
    Control,
}

impl StreamKind {
    /// All kinds, in a fixed order.
    pub const ALL: [StreamKind; 4] = [Self::Audit, Self::Telemetry, Self::Access, Self::Control];

    /// The kind's name in paths, origins and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Telemetry => "telemetry",
            Self::Access => "access",
            Self::Control => "control",
        }
    }

    /// Whether services outside Piperoll may write it.
    pub fn is_writable_by_services(self) -> bool {
        matches!(self, Self::Audit | Self::Telemetry)
    }
}

impl FromStr for StreamKind {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or(NameError { what: "stream", rule: "one of audit, telemetry, access, control" })
    }
}

impl fmt::Display for StreamKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a head is a head of: `<ledger>/<tenant>/<stream>/<generation>`, or `<ledger>/_<store>/log/<generation>`
/// for a store's own log. It is a checkpoint's first line and its key's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(Box<str>);

impl Origin {
    /// The origin of a tenant's stream.
    pub fn stream(ledger: &LedgerName, tenant: &TenantId, kind: StreamKind, generation: u32) -> Self {
        Self(format!("{ledger}/{tenant}/{kind}/{generation}").into())
    }

    /// The origin of a store's log; `store` follows the rule of a tenant's name.
    pub fn store_log(ledger: &LedgerName, store: &TenantId, generation: u32) -> Self {
        Self(format!("{ledger}/_{store}/log/{generation}").into())
    }

    /// The origin as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parts(&self) -> (&str, &str) {
        self.0.rsplit_once('/').expect("an origin has four parts, by construction")
    }

    /// The generation: how often the stream or log went on without the log that it had.
    pub fn generation(&self) -> u32 {
        self.parts().1.parse().expect("an origin's last part is a u32, by construction")
    }

    /// The same stream or log in another generation.
    pub fn at_generation(&self, generation: u32) -> Self {
        Self(format!("{}/{generation}", self.parts().0).into())
    }

    /// Whether both are of one stream or log, in whatever generations.
    pub fn is_same_log(&self, other: &Self) -> bool {
        self.parts().0 == other.parts().0
    }
}

impl FromStr for Origin {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = NameError {
            what: "origin",
            rule: "<ledger>/<tenant>/<stream>/<generation> or <ledger>/_<store>/log/<generation>",
        };
        let parts: Vec<&str> = text.split('/').collect();
        let [ledger, owner, stream, generation] = parts[..] else { return Err(wrong) };
        let number = generation.parse::<u32>().map_err(|_| wrong.clone())?;
        let is_store =
            owner.strip_prefix('_').is_some_and(|store| store.parse::<TenantId>().is_ok() && stream == "log");
        let is_stream = owner.parse::<TenantId>().is_ok() && stream.parse::<StreamKind>().is_ok();
        let canonical = ledger.parse::<LedgerName>().is_ok() && number.to_string() == generation;
        if canonical && (is_store || is_stream) { Ok(Self(text.into())) } else { Err(wrong) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_names_hold_the_rule() {
        for good in ["a", "0", "acme", "a.b_c-d", &"x".repeat(63)] {
            assert_eq!(good.parse::<TenantId>().unwrap().as_str(), good);
        }
        for bad in ["", "Acme", "_store", "-a", ".a", "a/b", "a b", "ä", "a\n", &"x".repeat(64)] {
            assert!(bad.parse::<TenantId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn origins_round_trip_and_refuse_lookalikes() {
        let ledger: LedgerName = "audit.example".parse().unwrap();
        let tenant: TenantId = "acme".parse().unwrap();
        for origin in [Origin::stream(&ledger, &tenant, StreamKind::Audit, 0), Origin::store_log(&ledger, &tenant, 3)] {
            assert_eq!(origin.as_str().parse::<Origin>().unwrap(), origin);
            let next = origin.at_generation(origin.generation() + 1);
            assert_eq!(next.generation(), origin.generation() + 1);
            assert!(next.is_same_log(&origin) && next != origin);
        }
        for bad in [
            "l/acme/audit",
            "l/acme/audit/01",
            "l/acme/audit/+1",
            "l/acme/log/0",
            "l/_acme/audit/0",
            "l/acme/audit/0/",
            "/acme/audit/0",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad:?}");
        }
    }
}
