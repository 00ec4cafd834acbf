//! `json_text(attributes, '/a/0/b')`: the text of what an RFC 6901 pointer names in a JSON text.
//!
//! A string gives its content, a number or a truth value its text as it stands, an object or array its JSON text; null,
//! what is not there, and text that is no JSON give null. Not here: changing JSON, paths with wildcards.
//!
//! Invariants: no value is copied but the one found; nesting is bounded by the parser (128); a pointer that is
//! malformed is an error and not a null.

use datafusion::arrow::array::{ArrayRef, AsArray, StringViewBuilder};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct JsonText {
    signature: Signature,
}

impl JsonText {
    /// The function.
    pub fn new() -> Self {
        let texts = TypeSignature::Exact(vec![DataType::Utf8View, DataType::Utf8View]);
        Self { signature: Signature::new(texts, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for JsonText {
    fn name(&self) -> &str {
        "json_text"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        if arguments.len() == 2 {
            Ok(DataType::Utf8View)
        } else {
            plan_err!("json_text takes a JSON text and a pointer, as in '/amount'")
        }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [text, pointer] = &ColumnarValue::values_to_arrays(&arguments.args)?[..] else {
            return exec_err!("json_text takes two arguments");
        };
        Ok(ColumnarValue::Array(found(text, pointer)?))
    }
}

fn found(texts: &ArrayRef, pointers: &ArrayRef) -> Result<ArrayRef> {
    let (Some(texts), Some(pointers)) = (texts.as_string_view_opt(), pointers.as_string_view_opt()) else {
        return exec_err!("json_text takes text");
    };
    let mut out = StringViewBuilder::with_capacity(texts.iter().len());
    let mut last: Option<(&str, Vec<String>)> = None;
    for (text, pointer) in texts.iter().zip(pointers.iter()) {
        let (Some(text), Some(pointer)) = (text, pointer) else {
            out.append_null();
            continue;
        };
        if last.as_ref().is_none_or(|(of, _)| *of != pointer) {
            let Some(tokens) = tokens(pointer) else {
                return exec_err!("malformed pointer");
            };
            last = Some((pointer, tokens));
        }
        let tokens = last.as_ref().map_or(&[][..], |(_, tokens)| tokens);
        out.append_option(lookup(text, tokens));
    }
    Ok(Arc::new(out.finish()))
}

/// The reference tokens of a pointer; none if it does not start with `/` or has a stray `~`.
fn tokens(pointer: &str) -> Option<Vec<String>> {
    if pointer.is_empty() {
        return Some(Vec::new());
    }
    let unescape = |token: &str| {
        let mut out = String::with_capacity(token.len());
        let mut rest = token;
        while let Some((before, after)) = rest.split_once('~') {
            out.push_str(before);
            out.push(match after.as_bytes().first()? {
                b'0' => '~',
                b'1' => '/',
                _ => return None,
            });
            rest = &after[1..];
        }
        out.push_str(rest);
        Some(out)
    };
    pointer.strip_prefix('/')?.split('/').map(unescape).collect()
}

fn lookup<'t>(text: &'t str, tokens: &[String]) -> Option<Cow<'t, str>> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let raw = Find(tokens).deserialize(&mut parser).ok()??;
    parser.end().ok()?;
    match raw.get().trim_start().as_bytes().first()? {
        b'"' => serde_json::from_str::<String>(raw.get()).ok().map(Cow::Owned),
        b'n' => None,
        _ => Some(Cow::Borrowed(raw.get())),
    }
}

/// Walks to what the tokens name; reads the rest of the text without keeping it.
struct Find<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = Option<&'de RawValue>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            serde::Deserialize::deserialize(deserializer).map(Some)
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match self.0.split_first() {
                Some((token, rest)) if found.is_none() && *token == key => found = map.next_value_seed(Find(rest))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let wanted = self.0.split_first().and_then(|(token, rest)| Some((index_of(token)?, rest)));
        let mut found = None;
        for at in 0usize.. {
            let more = match wanted {
                Some((index, rest)) if index == at => match items.next_element_seed(Find(rest))? {
                    Some(value) => {
                        found = value;
                        true
                    }
                    None => false,
                },
                _ => items.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(found)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// An array index as RFC 6901 writes it: no sign, no leading zero.
fn index_of(token: &str) -> Option<usize> {
    let plain = token == "0" || (!token.starts_with('0') && token.bytes().all(|b| b.is_ascii_digit()));
    if plain { token.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, pointer: &str) -> Option<String> {
        lookup(text, &tokens(pointer).unwrap()).map(Cow::into_owned)
    }

    #[test]
    fn pointers_of_the_rfc() {
        let text = r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"k\"l":6," ":7,"m~n":8,"u\u00e9":"\u0001\ud83d\ude00"}"#;
        for (pointer, value) in [
            ("/foo", Some(r#"["bar","baz"]"#)),
            ("/foo/0", Some("bar")),
            ("/", Some("0")),
            ("/a~1b", Some("1")),
            ("/c%d", Some("2")),
            ("/k\"l", Some("6")),
            ("/ ", Some("7")),
            ("/m~0n", Some("8")),
            ("/ué", Some("\u{1}😀")),
            ("/foo/2", None),
            ("/foo/01", None),
            ("/foo/-", None),
            ("/foo/0/x", None),
            ("/none", None),
        ] {
            assert_eq!(at(text, pointer).as_deref(), value, "{pointer}");
        }
        assert_eq!(at(text, "").as_deref(), Some(text));
    }

    #[test]
    fn values_come_as_they_stand() {
        let text = r#"{"n":12345678901234567890123,"f":1.10,"t":true,"z":null,"o":{"a" : 1}}"#;
        assert_eq!(at(text, "/n").as_deref(), Some("12345678901234567890123"));
        assert_eq!(at(text, "/f").as_deref(), Some("1.10"));
        assert_eq!(at(text, "/t").as_deref(), Some("true"));
        assert_eq!(at(text, "/z"), None);
        assert_eq!(at(text, "/o").as_deref(), Some(r#"{"a" : 1}"#));
    }

    #[test]
    fn malformed_text_and_pointers_do_no_harm() {
        let deep = "[".repeat(100_000);
        for text in ["", "{", "nul", "{\"a\":1}x", "\u{0}", deep.as_str(), "{\"a\":\"\\ud800\"}"] {
            assert_eq!(at(text, "/a"), None, "{:.20}", text);
        }
        for pointer in ["a", "/~", "/~2", "/a~"] {
            assert_eq!(tokens(pointer), None, "{pointer}");
        }
    }
}
