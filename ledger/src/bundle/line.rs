//! An entry as a line of JSON, from which its leaf is recomputed.
//!
//! Not here: which of its sections are shown. Invariants: what is written reads back to the same leaf; what is read is
//! strict JSON (RFC 8259) of the members that FORMAT.md §16 names, each once; another name is of a newer format.

mod json;

use self::json::{Reader, push_hex, push_text};
use super::{BundleError, LINE_BYTES};
use crate::draft::{Draft, DraftBuilder};
use crate::field::{Field, Fields, Kind, Section};
use crate::leaf::{self, Commitments, Salt};
use crate::sections::Sections;
use crate::time;
use crate::tree::Hash;

/// What a section's commitment comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// There is none: the entry has no field of it.
    Nothing,
    /// The section is shown, with this salt.
    Salt(Salt),
    /// It is in the ledger and not shown here.
    Withheld(Hash),
    /// It was redacted.
    Redacted(Hash),
}

/// An entry that a bundle shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its sequence number.
    pub seq: u64,
    /// Its fields, as far as they are shown, stamped.
    pub draft: Draft,
    /// What each commitment comes from, in the order of [`Section::COMMITTED`].
    pub stands: [Stands; 5],
}

/// Why a line is no entry.
const NOT_UTF8: &str = "it is not UTF-8";

impl Shown {
    /// The hash of its leaf, recomputed.
    pub fn leaf(&self) -> Hash {
        let mut parts = [None; 5];
        for ((part, stands), section) in parts.iter_mut().zip(&self.stands).zip(Section::COMMITTED) {
            *part = match stands {
                Stands::Nothing => None,
                Stands::Salt(salt) => Some(leaf::commitment(section, salt, self.draft.section(section))),
                Stands::Withheld(commitment) | Stands::Redacted(commitment) => Some(*commitment),
            };
        }
        leaf::hash_of(&self.draft, &Commitments::from_parts(parts))
    }

    /// The sections that are withheld.
    pub fn withheld(&self) -> Sections {
        self.those(|stands| matches!(stands, Stands::Withheld(_)))
    }

    /// The sections that were redacted.
    pub fn redacted(&self) -> Sections {
        self.those(|stands| matches!(stands, Stands::Redacted(_)))
    }

    /// The sections that are shown.
    pub fn shown(&self) -> Sections {
        self.those(|stands| matches!(stands, Stands::Salt(_)))
    }

    fn those(&self, are: impl Fn(&Stands) -> bool) -> Sections {
        Section::COMMITTED.into_iter().zip(&self.stands).filter(|(_, stands)| are(stands)).map(|(s, _)| s).collect()
    }

    /// Appends its line, with the line feed.
    pub fn push_line(&self, out: &mut String) {
        out.push_str("{\"seq\":");
        push_int(self.seq, out);
        out.push_str(",\"recorded_at\":\"");
        time::push_micros(self.draft.recorded_at(), out);
        out.push('"');
        // The encoding of a draft that exists has no fault.
        for field in Fields::of(&self.draft).flatten() {
            out.push_str(",\"");
            out.push_str(field.field.name());
            out.push_str("\":");
            match field.field.kind() {
                Kind::Text => push_text(field.text(), out),
                Kind::Bytes => push_hex(field.value, out),
                Kind::Int if field.field == Field::OccurredAt => {
                    out.push('"');
                    time::push_micros(field.int(), out);
                    out.push('"');
                }
                Kind::Int => out.push_str(&field.int().to_string()),
            }
        }
        for group in [Group::Salts, Group::Withheld, Group::Redacted] {
            group.push(&self.stands, out);
        }
        out.push_str("}\n");
    }

    /// Reads a line, without its line feed.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn parse(line: &[u8]) -> Result<Self, BundleError> {
        LineReader::default().read(line)
    }
}

/// The lines of a text, without their line feeds; what follows the last of these is a line, if it is not empty.
pub fn lines(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let (line, rest) = text.split_at(json::line(text));
        text = rest.get(1..).unwrap_or_default();
        Some(line)
    })
}

/// Reads line after line, of one text.
#[derive(Default)]
pub struct LineReader<'l>(Reading<'l>);

impl<'l> LineReader<'l> {
    /// Reads a line, without its line feed.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn read(&mut self, line: &'l [u8]) -> Result<Shown, BundleError> {
        let malformed = BundleError::Malformed;
        if line.len() > LINE_BYTES {
            return Err(malformed("a line of more than 2 MiB"));
        }
        let text = std::str::from_utf8(line).map_err(|_| malformed(NOT_UTF8))?;
        self.0.read(text)
    }
}

fn push_int(number: u64, out: &mut String) {
    let mut digits = [0u8; 20];
    let (mut at, mut left) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    digits[at..].iter().for_each(|digit| out.push(char::from(*digit)));
}

/// The members of a line that are objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Salts,
    Withheld,
    Redacted,
}

impl Group {
    fn name(self) -> &'static str {
        match self {
            Self::Salts => "salts",
            Self::Withheld => "withheld",
            Self::Redacted => "redacted",
        }
    }

    fn push(self, stands: &[Stands; 5], out: &mut String) {
        let mut is_first = true;
        for (section, stands) in Section::COMMITTED.into_iter().zip(stands) {
            let bytes: &[u8] = match (self, stands) {
                (Self::Salts, Stands::Salt(salt)) => salt,
                (Self::Withheld, Stands::Withheld(hash)) | (Self::Redacted, Stands::Redacted(hash)) => &hash.0,
                _ => continue,
            };
            if is_first {
                out.push_str(",\"");
                out.push_str(self.name());
                out.push_str("\":{\"");
            } else {
                out.push_str(",\"");
            }
            is_first = false;
            out.push_str(section.as_str());
            out.push_str("\":");
            push_hex(bytes, out);
        }
        if !is_first {
            out.push('}');
        }
    }
}

/// What was read of a line so far.
#[derive(Default)]
struct Reading<'l> {
    builder: DraftBuilder<'l>,
    seq: Option<u64>,
    recorded_at: Option<i64>,
    stands: [Option<Stands>; 5],
    /// Which of the three groups were there.
    groups: [bool; 3],
    /// The field behind the one that came last: where the next is looked for first, since they are mostly written in order.
    expected: usize,
}

impl<'l> Reading<'l> {
    fn read(&mut self, line: &'l str) -> Result<Shown, BundleError> {
        self.builder.clear();
        (self.seq, self.recorded_at, self.stands, self.groups, self.expected) = Default::default();
        let mut reader = Reader::new(line);
        reader.object(|reader, name| self.member(reader, &name))?;
        reader.end()?;
        self.finish()
    }

    fn member(&mut self, reader: &mut Reader<'l>, name: &str) -> Result<(), BundleError> {
        match name {
            "seq" => {
                let seq = u64::try_from(reader.int()?).map_err(|_| "seq is negative")?;
                Ok(once(self.seq.replace(seq).is_none())?)
            }
            "recorded_at" => {
                let at = instant(&reader.text()?)?;
                Ok(once(self.recorded_at.replace(at).is_none())?)
            }
            "salts" => self.group(reader, Group::Salts),
            "withheld" => self.group(reader, Group::Withheld),
            "redacted" => self.group(reader, Group::Redacted),
            name => self.field(reader, name),
        }
    }

    fn field(&mut self, reader: &mut Reader<'l>, name: &str) -> Result<(), BundleError> {
        let (before, from) = Field::ALL.split_at(self.expected);
        let field = from.iter().chain(before).find(|field| field.name() == name).ok_or(BundleError::Newer)?;
        let field = *field;
        self.expected = field.position() + 1;
        once(!self.builder.has(field))?;
        let taken = match field.kind() {
            Kind::Text => {
                let text = reader.text()?;
                if text.is_empty() {
                    return Err("an empty text is never written".into());
                }
                self.builder.text(field, text)
            }
            Kind::Bytes => {
                let text = reader.text()?;
                if text.is_empty() {
                    return Err("an empty text is never written".into());
                }
                self.builder.hex(field, &text)
            }
            Kind::Int if field == Field::OccurredAt => self.builder.int(field, instant(&reader.text()?)?),
            Kind::Int => self.builder.int(field, reader.int()?),
        };
        taken.map_err(|invalid| invalid.why.into())
    }

    fn group(&mut self, reader: &mut Reader<'l>, group: Group) -> Result<(), BundleError> {
        once(!std::mem::replace(&mut self.groups[group as usize], true))?;
        reader.object(|reader, name| {
            let at = Section::COMMITTED.iter().position(|section| section.as_str() == name);
            let at = at.ok_or(BundleError::Newer)?;
            let text = reader.text()?;
            let stands = match group {
                Group::Salts => json::hex(&text).map(Stands::Salt),
                Group::Withheld => json::hex(&text).map(|bytes| Stands::Withheld(Hash(bytes))),
                Group::Redacted => json::hex(&text).map(|bytes| Stands::Redacted(Hash(bytes))),
            };
            let stands = stands.ok_or("a salt or commitment that is not of its length in lower-case hexadecimal")?;
            Ok(once(self.stands[at].replace(stands).is_none())?)
        })
    }

    fn finish(&self) -> Result<Shown, BundleError> {
        let seq = self.seq.ok_or("no seq")?;
        let recorded_at = self.recorded_at.ok_or("no recorded_at")?;
        for field in [Field::Stream, Field::Outcome] {
            if !self.builder.has(field) {
                return Err("no stream or no outcome".into());
            }
        }
        let mut draft = self.builder.finish().map_err(|_| "a field is missing that every entry has")?;
        draft.stamp(recorded_at);
        let mut stands = [Stands::Nothing; 5];
        for ((stands, given), section) in stands.iter_mut().zip(self.stands).zip(Section::COMMITTED) {
            let has_fields = !draft.section(section).is_empty();
            *stands = match given {
                Some(Stands::Salt(_)) if !has_fields && section != Section::Details => {
                    return Err("a salt of a section that has no fields".into());
                }
                Some(Stands::Withheld(_) | Stands::Redacted(_)) if has_fields => {
                    return Err("a section that is withheld or redacted and has fields".into());
                }
                None if has_fields || section == Section::Details => return Err("a section without its salt".into()),
                given => given.unwrap_or(Stands::Nothing),
            };
        }
        Ok(Shown { seq, draft, stands })
    }
}

fn once(is_first: bool) -> Result<(), &'static str> {
    if is_first { Ok(()) } else { Err("a member that stands twice") }
}

fn instant(text: &str) -> Result<i64, &'static str> {
    let at = time::parse_micros(text).map_err(|_| "a time that is none")?;
    if text.len() == 27 && time::format_micros(at) == text {
        Ok(at)
    } else {
        Err("a time without its six digits, in UTC")
    }
}

#[cfg(test)]
mod tests;
