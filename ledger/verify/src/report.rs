//! An answer, in words and as JSON: what was found, by whose key, what is proven and what is not.
//!
//! Not here: the finding of it. Invariant: both forms say the same.

use crate::error::{DOES_NOT_HOLD, VerifyError, WITH_RESERVE};
use crate::json::Json;
use crate::trust::Signer;

/// Something that was found, by name: as JSON, and as lines for people.
#[derive(Debug, Clone)]
struct Fact {
    name: &'static str,
    json: Json,
    shown: Vec<String>,
}

/// What holds.
#[derive(Debug, Clone)]
pub struct Answer {
    document: &'static str,
    facts: Vec<Fact>,
    signers: Vec<Signer>,
    proven: Vec<String>,
    not_proven: Vec<String>,
    text: Option<(&'static str, String)>,
    /// How it holds, when not as it should.
    reserved: Option<&'static str>,
}

impl Answer {
    /// A document of this kind holds, and these keys signed it.
    pub fn of(document: &'static str, signers: Vec<Signer>) -> Self {
        Self { document, facts: vec![], signers, proven: vec![], not_proven: vec![], text: None, reserved: None }
    }

    /// Adds a text or number.
    pub fn fact(self, name: &'static str, value: impl Into<Json>) -> Self {
        let json = value.into();
        let shown = match &json {
            Json::Text(text) => text.clone(),
            other => other.to_string(),
        };
        self.shown_as(name, json, vec![shown])
    }

    /// Adds something that people read in other words than programs.
    pub fn shown_as(mut self, name: &'static str, json: Json, shown: Vec<String>) -> Self {
        self.facts.push(Fact { name, json, shown });
        self
    }

    /// Says what is proven.
    pub fn proves(mut self, what: impl Into<String>) -> Self {
        self.proven.push(what.into());
        self
    }

    /// Says what is not proven.
    pub fn leaves_open(mut self, what: impl Into<String>) -> Self {
        self.not_proven.push(what.into());
        self
    }

    /// Says that it holds only so.
    pub fn holding_only(self, how: &'static str) -> Self {
        Self { reserved: Some(how), ..self }
    }

    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        if self.reserved.is_some() { WITH_RESERVE } else { 0 }
    }

    /// Adds a text that is shown as it is.
    pub fn with_text(mut self, name: &'static str, text: String) -> Self {
        self.text = Some((name, text));
        self
    }

    /// The text that is shown as it is.
    pub fn text(&self) -> Option<&str> {
        self.text.as_ref().map(|(_, text)| text.as_str())
    }

    /// One object on one line.
    pub fn to_json(&self) -> String {
        let holds = if self.reserved.is_some() { Json::Null } else { Json::Bool(true) };
        let mut members: Vec<(String, Json)> = vec![("document".into(), self.document.into()), ("holds".into(), holds)];
        members.extend(self.reserved.map(|how| ("but".into(), how.into())));
        members.extend(self.facts.iter().map(|fact| (fact.name.replace(' ', "_"), fact.json.clone())));
        members.push(("signed_by".into(), Json::List(self.signers.iter().map(Signer::to_json).collect())));
        members.push(("proven".into(), Json::list(self.proven.iter().map(String::as_str))));
        members.push(("not_proven".into(), Json::list(self.not_proven.iter().map(String::as_str))));
        members.extend(self.text.as_ref().map(|(name, text)| (name.to_string(), text.as_str().into())));
        format!("{}\n", Json::Object(members))
    }

    /// What a person reads.
    pub fn to_words(&self) -> String {
        let mut out = format!("The {} {}.\n", self.document, self.reserved.unwrap_or("holds"));
        let signed = self.signers.iter().map(Signer::words).collect();
        let signed = Fact { name: "signed", json: Json::Null, shown: signed };
        let facts: Vec<&Fact> = self.facts.iter().chain([&signed]).filter(|fact| !fact.shown.is_empty()).collect();
        let width = facts.iter().map(|fact| fact.name.len()).max().unwrap_or_default();
        for fact in facts {
            for (at, line) in fact.shown.iter().enumerate() {
                let name = if at == 0 { fact.name } else { "" };
                out.push_str(&format!("  {name:width$}  {line}\n"));
            }
        }
        for (title, points) in [("Proven:", &self.proven), ("Not proven:", &self.not_proven)] {
            out.push_str(&format!("{title}\n"));
            points.iter().for_each(|point| out.push_str(&format!("  - {point}\n")));
        }
        if let Some((name, text)) = self.text.as_ref().filter(|(name, _)| *name == "text") {
            out.push_str(&format!("The {name} that was signed:\n"));
            // A terminal must not be steered by what somebody signed.
            let plain = text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}");
            plain.lines().for_each(|line| out.push_str(&format!("  | {line}\n")));
        }
        out
    }
}

fn causes(error: &VerifyError) -> impl Iterator<Item = String> {
    let first = std::error::Error::source(error);
    std::iter::successors(first, |cause| cause.source()).map(ToString::to_string)
}

/// What a person reads when there is no "it holds".
pub fn failure_words(error: &VerifyError) -> String {
    let mut out = if error.exit_code() == DOES_NOT_HOLD {
        let text = error.to_string();
        format!("{}.\n", text.replacen("the ", "The ", 1).replacen("does not hold", "does NOT hold", 1))
    } else {
        format!("piperoll-verify: {error}\n")
    };
    causes(error).for_each(|cause| out.push_str(&format!("  because: {cause}\n")));
    out
}

/// The same for programs: `holds` is false, or null when nothing can be said.
pub fn failure_json(document: &'static str, error: &VerifyError) -> String {
    let holds = if error.exit_code() == DOES_NOT_HOLD { Json::Bool(false) } else { Json::Null };
    let object = Json::object([
        ("document", document.into()),
        ("holds", holds),
        ("why", error.to_string().into()),
        ("because", Json::list(causes(error))),
    ]);
    format!("{object}\n")
}
