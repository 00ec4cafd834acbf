//! A body of events: unpacked within a bound, and cut into the texts of single events.
//!
//! Cutting looks at brackets and strings only, so that one malformed event costs itself and not its batch.
//! Not here: what an event says ([`crate::wire`]).
//!
//! Invariant: memory is bounded by the unpacked bound, whatever a compressed body claims.

use crate::limits::IngestLimits;
use access::{Problem, ProblemKind};
use bytes::Bytes;
use std::io::Read;

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As it is.
    Plain,
    /// gzip, also several members one after the other.
    Gzip,
    /// zstd.
    Zstd,
}

/// How a body holds its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One event a line.
    Lines,
    /// A JSON array of events, or one event.
    Json,
}

impl Packing {
    /// From a `Content-Encoding`.
    ///
    /// # Errors
    /// It is none of those that are read.
    pub fn of(header: Option<&str>) -> Result<Self, Problem> {
        match header.map(str::trim) {
            None | Some("" | "identity") => Ok(Self::Plain),
            Some("gzip" | "x-gzip") => Ok(Self::Gzip),
            Some("zstd") => Ok(Self::Zstd),
            Some(_) => {
                Err(Problem::new(ProblemKind::UnsupportedMedia, "Content-Encoding must be gzip or zstd, or absent"))
            }
        }
    }
}

impl Form {
    /// From a `Content-Type`.
    ///
    /// # Errors
    /// It is none of those that are read.
    pub fn of(header: Option<&str>) -> Result<Self, Problem> {
        let kind = header.unwrap_or("application/x-ndjson").split(';').next().unwrap_or_default().trim();
        match kind.to_ascii_lowercase().as_str() {
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => {
                Ok(Self::Lines)
            }
            "application/json" => Ok(Self::Json),
            _ => Err(Problem::new(
                ProblemKind::UnsupportedMedia,
                "Content-Type must be application/x-ndjson (one event a line) or application/json (an array, or one event)",
            )),
        }
    }
}

/// Unpacks a body.
///
/// # Errors
/// It is not so packed, or larger than the bound.
pub fn unpack(body: Bytes, packing: Packing, limits: &IngestLimits) -> Result<Bytes, Problem> {
    let bounded = |reader: &mut dyn Read| -> Result<Bytes, Problem> {
        let mut out = Vec::new();
        let bound = limits.unpacked_bytes as u64;
        let read = reader.take(bound + 1).read_to_end(&mut out);
        read.map_err(|_| Problem::new(ProblemKind::Malformed, "the body is not what its Content-Encoding says"))?;
        if out.len() as u64 > bound { Err(too_large("unpacked body", limits.unpacked_bytes)) } else { Ok(out.into()) }
    };
    match packing {
        Packing::Plain => Ok(body),
        Packing::Gzip => bounded(&mut flate2::read::MultiGzDecoder::new(&body[..])),
        Packing::Zstd => {
            let decoder = zstd::stream::read::Decoder::new(&body[..]);
            let mut decoder = decoder.map_err(|_| Problem::new(ProblemKind::Internal, "no memory to unpack"))?;
            // A frame may ask for a window of its own choosing; 27 is what `zstd --long` writes.
            let window = decoder.window_log_max(27);
            window.map_err(|_| Problem::new(ProblemKind::Internal, "no memory to unpack"))?;
            bounded(&mut decoder)
        }
    }
}

/// The problem of something too large.
pub fn too_large(what: &str, limit: usize) -> Problem {
    let detail = format!("the {what} exceeds {} KiB; send smaller batches", limit >> 10);
    Problem::new(ProblemKind::TooLarge, detail)
}

/// Cuts a body into its events.
///
/// # Errors
/// The body as a whole is no array, or has too many events.
pub fn cut<'b>(body: &'b [u8], form: Form, limits: &IngestLimits) -> Result<Vec<&'b [u8]>, Problem> {
    let events = match form {
        Form::Lines => lines(body),
        Form::Json => elements(body.trim_ascii())?,
    };
    if events.len() > limits.events {
        let detail = format!("{} events in one request, at most {} are taken", events.len(), limits.events);
        return Err(Problem::new(ProblemKind::TooLarge, detail).with("limit", limits.events.into()));
    }
    if events.is_empty() {
        return Err(Problem::new(ProblemKind::Malformed, "the body holds no event"));
    }
    Ok(events)
}

/// The lines of a body that hold something.
fn lines(body: &[u8]) -> Vec<&[u8]> {
    // The standard library looks for a character in text by words, and in bytes one by one.
    let lines: Vec<&[u8]> = match std::str::from_utf8(body) {
        Ok(text) => text.split('\n').map(str::as_bytes).collect(),
        // One event that is no text costs itself only.
        Err(_) => body.split(|byte| *byte == b'\n').collect(),
    };
    lines.into_iter().map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).collect()
}

/// The elements of a JSON array; a body that is no array is one event.
fn elements(body: &[u8]) -> Result<Vec<&[u8]>, Problem> {
    let Some(inner) = body.strip_prefix(b"[") else {
        return Ok(if body.is_empty() { vec![] } else { vec![body] });
    };
    let mut events = Vec::new();
    let (mut depth, mut in_string, mut escaped, mut start) = (0usize, false, false, 0);
    for (at, byte) in inner.iter().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            b']' if depth == 0 => {
                let last = inner[start..at].trim_ascii();
                if !(last.is_empty() && events.is_empty()) {
                    events.push(last);
                }
                return if inner[at + 1..].trim_ascii().is_empty() {
                    Ok(events)
                } else {
                    Err(unended("something follows it"))
                };
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                events.push(inner[start..at].trim_ascii());
                start = at + 1;
            }
            _ => {}
        }
    }
    Err(unended("it does not end"))
}

fn unended(why: &str) -> Problem {
    let detail = format!("the body is no JSON array: {why}; nothing of it was taken");
    Problem::new(ProblemKind::Malformed, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn texts(body: &str, form: Form) -> Vec<String> {
        let events = cut(body.as_bytes(), form, &IngestLimits::default()).unwrap();
        events.into_iter().map(|event| String::from_utf8_lossy(event).into_owned()).collect()
    }

    #[test]
    fn lines_and_arrays_are_cut_into_events() {
        assert_eq!(texts("{\"a\":1}\r\n\n {\"b\":2} \n", Form::Lines), ["{\"a\":1}", "{\"b\":2}"]);
        assert_eq!(
            texts(r#" [ {"a":"],["} , {"b":[1,{"c":"\"]"}]} ] "#, Form::Json),
            [r#"{"a":"],["}"#, r#"{"b":[1,{"c":"\"]"}]}"#]
        );
        assert_eq!(texts(r#"{"a":1}"#, Form::Json), [r#"{"a":1}"#]);
        // A malformed element costs itself only.
        assert_eq!(texts(r#"[{"a":tru},,{"b":2}]"#, Form::Json), [r#"{"a":tru}"#, "", r#"{"b":2}"#]);
    }

    #[test]
    fn bodies_that_are_no_batch_are_refused() {
        let limits = IngestLimits { events: 2, ..IngestLimits::default() };
        for (body, form, kind) in [
            ("", Form::Lines, ProblemKind::Malformed),
            ("[]", Form::Json, ProblemKind::Malformed),
            ("[{\"a\":1}", Form::Json, ProblemKind::Malformed),
            ("[1] x", Form::Json, ProblemKind::Malformed),
            ("[\"abc", Form::Json, ProblemKind::Malformed),
            ("1\n2\n3", Form::Lines, ProblemKind::TooLarge),
        ] {
            assert_eq!(cut(body.as_bytes(), form, &limits).unwrap_err().kind(), kind, "{body}");
        }
    }

    #[test]
    fn packed_bodies_are_bounded() {
        let limits = IngestLimits { unpacked_bytes: 1 << 20, ..IngestLimits::default() };
        let bomb = vec![b' '; 8 << 20];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&bomb).unwrap();
        let gzip: Bytes = gzip.finish().unwrap().into();
        let packed: Bytes = zstd::encode_all(&bomb[..], 19).unwrap().into();
        assert_eq!(unpack(gzip.clone(), Packing::Gzip, &limits).unwrap_err().kind(), ProblemKind::TooLarge);
        assert_eq!(unpack(packed.clone(), Packing::Zstd, &limits).unwrap_err().kind(), ProblemKind::TooLarge);
        let wide = IngestLimits::default();
        assert_eq!(unpack(gzip.clone(), Packing::Gzip, &wide).unwrap().len(), bomb.len());
        assert_eq!(unpack(packed, Packing::Zstd, &wide).unwrap().len(), bomb.len());
        assert_eq!(unpack(gzip, Packing::Zstd, &wide).unwrap_err().kind(), ProblemKind::Malformed);
        assert!(Packing::of(Some("br")).is_err() && Form::of(Some("text/xml")).is_err());
        assert_eq!(Form::of(Some("Application/JSON; charset=utf-8")).unwrap(), Form::Json);
    }
}
