//! The answer to a request as JSON, written straight into one buffer.
//!
//! Not here: what is answered ([`super`]). Invariants: one result an event, in their order; names of tenants and
//! streams need no escaping (`ledger::name`), all other text is escaped.

use super::{Admitted, EventResult};
use ledger_store::Verdict;
use std::collections::BTreeMap;

/// Bytes of one result, generously.
const RESULT_BYTES: usize = 96;

impl Admitted {
    /// The answer's JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let (mut accepted, mut duplicates, mut conflicts, mut rejected) = (0, 0, 0, 0);
        for result in &self.results {
            *match result {
                EventResult::Judged { verdict: Verdict::Accepted(_), .. } => &mut accepted,
                EventResult::Judged { verdict: Verdict::Duplicate(_), .. } => &mut duplicates,
                EventResult::Judged { verdict: Verdict::Conflict(_), .. } => &mut conflicts,
                EventResult::Rejected(_) => &mut rejected,
            } += 1;
        }
        let receipts: usize = self.receipts.values().map(String::len).sum();
        let mut out = Vec::with_capacity(256 + receipts + receipts / 8 + RESULT_BYTES * self.results.len());
        for (name, count) in [
            ("{\"accepted\":", accepted),
            (",\"duplicates\":", duplicates),
            (",\"conflicts\":", conflicts),
            (",\"rejected\":", rejected),
        ] {
            out.extend_from_slice(name.as_bytes());
            put_number(&mut out, count);
        }
        out.extend_from_slice(b",\"results\":");
        put_results(&mut out, &self.results);
        out.extend_from_slice(b",\"receipt\":");
        match self.receipts.values().next() {
            Some(receipt) if self.receipts.len() == 1 => put_text(&mut out, receipt),
            _ => out.extend_from_slice(b"null"),
        }
        // Each store signs for what it keeps.
        if self.receipts.len() > 1 {
            out.extend_from_slice(b",\"receipts\":");
            // Writing into memory does not fail.
            let by_name = self.receipts.iter().map(|(store, receipt)| (store.as_str(), receipt));
            let _ = serde_json::to_writer(&mut out, &by_name.collect::<BTreeMap<_, _>>());
        }
        out.push(b'}');
        out
    }
}

/// Appends an array of results.
pub(super) fn put_results(out: &mut Vec<u8>, results: &[EventResult]) {
    out.push(b'[');
    for (at, result) in results.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        match result {
            EventResult::Judged { tenant, stream, verdict } => {
                let (status, seq) = match verdict {
                    Verdict::Accepted(seq) => ("accepted", seq),
                    Verdict::Duplicate(seq) => ("duplicate", seq),
                    Verdict::Conflict(seq) => ("conflict", seq),
                };
                let pieces = [
                    "{\"status\":\"",
                    status,
                    "\",\"tenant\":\"",
                    tenant.as_str(),
                    "\",\"stream\":\"",
                    stream.as_str(),
                    "\",\"seq\":",
                ];
                pieces.iter().for_each(|piece| out.extend_from_slice(piece.as_bytes()));
                put_number(out, *seq);
            }
            EventResult::Rejected(rejection) => {
                out.extend_from_slice(b"{\"status\":\"rejected\",\"field\":");
                put_text(out, &rejection.field);
                out.extend_from_slice(b",\"reason\":");
                put_text(out, &rejection.reason);
                if let Some(seconds) = rejection.retry_after {
                    out.extend_from_slice(b",\"retry_after\":");
                    put_number(out, u64::from(seconds));
                }
            }
        }
        out.push(b'}');
    }
    out.push(b']');
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    // Writing text into memory does not fail.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Rejection;
    use ledger::name::StreamKind;
    use serde_json::json;

    #[test]
    fn the_answer_is_the_json_that_the_api_promises() {
        let judged =
            |verdict| EventResult::Judged { tenant: "acme".parse().unwrap(), stream: StreamKind::Telemetry, verdict };
        let results = vec![
            judged(Verdict::Accepted(0)),
            judged(Verdict::Duplicate(10)),
            judged(Verdict::Conflict(u64::MAX)),
            EventResult::Rejected(Rejection::new("a\"b\n", "\u{e9}")),
            judged(Verdict::Accepted(1_234_567)),
            EventResult::Rejected(Rejection { retry_after: Some(2), ..Rejection::new("tenant", "later") }),
        ];
        let receipts = [("main".parse().unwrap(), "line\n\u{2014} x\n".to_string())];
        let admitted = Admitted { results, receipts: receipts.into() };
        let read: serde_json::Value = serde_json::from_slice(&admitted.to_json()).unwrap();
        let judged =
            |status: &str, seq: u64| json!({"status": status, "tenant": "acme", "stream": "telemetry", "seq": seq});
        let expected = json!({"accepted": 2, "duplicates": 1, "conflicts": 1, "rejected": 2, "results": [
            judged("accepted", 0), judged("duplicate", 10), judged("conflict", u64::MAX),
            {"status": "rejected", "field": "a\"b\n", "reason": "\u{e9}"}, judged("accepted", 1_234_567),
            {"status": "rejected", "field": "tenant", "reason": "later", "retry_after": 2},
        ], "receipt": "line\n\u{2014} x\n"});
        assert_eq!(read, expected);
        let two = ["main", "us"].map(|store| (store.parse().unwrap(), format!("of {store}\n")));
        let two = Admitted { results: vec![], receipts: two.into() };
        let read: serde_json::Value = serde_json::from_slice(&two.to_json()).unwrap();
        assert_eq!(
            (&read["receipt"], &read["receipts"]),
            (&json!(null), &json!({"main": "of main\n", "us": "of us\n"}))
        );
        let none = Admitted { results: vec![], receipts: Default::default() };
        assert!(String::from_utf8(none.to_json()).unwrap().ends_with(r#""results":[],"receipt":null}"#));
    }
}
