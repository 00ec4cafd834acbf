//! The registry's names and times, each parsed once and valid ever after, and how they stand in JSON.
//!
//! Not here: names that the ledger itself has (`ledger::name`). Invariant: everything in JSON is plain text that reads
//! back to the same value.

use ledger::field::Section;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

const RULE: &str = "1 to 128 of a-z 0-9 . _ @ + -, beginning with a letter or digit";

/// A name of the registry was malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is malformed: {rule}")]
pub struct Malformed {
    /// Which kind of name.
    pub what: &'static str,
    /// What would be right.
    pub rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Malformed;
            fn from_str(text: &str) -> Result<Self, Malformed> {
                let head = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
                let is_one = |byte: &u8| head(byte) || b"._@+-".contains(byte);
                let bytes = text.as_bytes();
                let fits = (1..=128).contains(&bytes.len()) && head(&bytes[0]) && bytes.iter().all(is_one);
                if fits { Ok(Self(text.into())) } else { Err(Malformed { what: $what, rule: RULE }) }
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "pattern": "^[a-z0-9][a-z0-9._@+-]{0,127}$"})
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                text::one(from)
            }
        }
    };
}

name!(
    /// Who is calling: a person, a service or a job, by a name that is never given to another.
    PrincipalId,
    "principal"
);
name!(
    /// What a principal is allowed to be: a name that policies know.
    Role,
    "role"
);
name!(
    /// One grant, one credential, or one elevation, by the name that the service gave it.
    FactId,
    "id"
);

/// A moment, in microseconds since 1970-01-01 UTC; RFC 3339 in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct When(pub i64);

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&ledger::time::format_micros(self.0))
    }
}

impl FromStr for When {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let rule = "RFC 3339, as in 2026-08-14T09:26:53Z";
        ledger::time::parse_micros(text).map(Self).map_err(|_| Malformed { what: "time", rule })
    }
}

impl JsonSchema for When {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "When".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

impl Serialize for When {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        text::one(from)
    }
}

/// A section that may be masked: any but the skeleton.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Masked(pub Section);

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl FromStr for Masked {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let found = Section::COMMITTED.into_iter().find(|section| section.as_str() == text);
        found.map(Self).ok_or(Malformed { what: "section", rule: "one of actor, subject, scope, origin, details" })
    }
}

/// Values that stand as text in JSON, alone, in lists, or left out.
pub(crate) mod text {
    use super::{Deserialize, Deserializer, FromStr, Serializer, fmt};
    use serde::de::Error as _;

    /// Reads one.
    pub(crate) fn one<'de, T: FromStr<Err: fmt::Display>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }

    /// One value.
    pub(crate) mod single {
        pub(crate) use super::one as deserialize;
        use super::{Serializer, fmt};

        pub(crate) fn serialize<T: fmt::Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
            to.collect_str(value)
        }
    }

    /// A value that may be left out.
    pub(crate) mod optional {
        use super::{Deserialize, Deserializer, FromStr, Serializer, fmt};
        use serde::de::Error as _;

        pub(crate) fn serialize<T: fmt::Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
            match value {
                Some(value) => to.collect_str(value),
                None => to.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, T: FromStr<Err: fmt::Display>, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<T>, D::Error> {
            let text = Option::<String>::deserialize(from)?;
            text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
        }
    }

    /// A list of values.
    pub(crate) mod list {
        use super::{Deserialize, Deserializer, FromStr, Serializer, fmt};
        use serde::de::Error as _;

        pub(crate) fn serialize<T: fmt::Display, S: Serializer>(values: &[T], to: S) -> Result<S::Ok, S::Error> {
            to.collect_seq(values.iter().map(ToString::to_string))
        }

        pub(crate) fn deserialize<'de, T: FromStr<Err: fmt::Display>, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Vec<T>, D::Error> {
            let texts = Vec::<String>::deserialize(from)?;
            texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
        }
    }
}
