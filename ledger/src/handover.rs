//! The keys that a store was signed with, one after the other, and the records by which each handed over to the next
//! (FORMAT.md §6).
//!
//! A handover is a signed note that bears the signatures of both keys, over the store log's head of that moment. So
//! whoever trusts one of the keys can follow to all of them: the one before said who comes after it, the one after says
//! whom it followed. Not here: where secrets are kept, who may hand over.
//!
//! Invariants: a history names each key once; of a chain (commits of a stream, heads of a store log) no part is signed by
//! a key that an earlier part's key had followed, see [`KeyHistory::goes_back`].

use crate::checkpoint::StreamHead;
use crate::key::{LedgerKey, VerifierKey};
use crate::note::{self, Note, NoteError};
use crate::text;
use crate::time::{format_micros, parse_micros};
use crate::tree::Hash;
use crate::version;

/// First line of a record.
pub const KEY_TAG: &str = "piperoll-log-key/v1";
/// What a line of a record may begin with.
const WORDS: [&str; 5] = ["key", "number", "before", "time", "log"];

/// A record does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandoverError {
    /// It is of a later version of the form.
    #[error("the key's record is written in a newer format")]
    Newer,
    /// It is none.
    #[error("the key's record is malformed: {0}")]
    Malformed(&'static str),
    /// It is not signed by both keys, or its note is malformed.
    #[error("the key's record is not signed by the key that it names and the one before it")]
    Note(#[source] NoteError),
    /// It does not follow the records before it.
    #[error("the key's record does not follow those before it: {0}")]
    Order(&'static str),
}

/// What such a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// The key that signs from then on, under the store log's origin of generation 0.
    pub key: VerifierKey,
    /// Which key of the store it is, counted from 1; so 2 at least.
    pub number: u64,
    /// The key that it took the place of.
    pub before: VerifierKey,
    /// When, in microseconds.
    pub time: i64,
    /// The head of the store log at that moment: the one head that both signed.
    pub log: StreamHead,
}

/// The record of a store's first key, which nothing vouches for.
pub fn first_record(key: &VerifierKey) -> String {
    format!("{KEY_TAG}\nkey {key}\n")
}

impl Handover {
    /// The text that both keys sign.
    pub fn to_text(&self) -> String {
        let Self { key, number, before, time, log } = self;
        let StreamHead { origin, size, root } = log;
        let time = format_micros(*time);
        format!("{KEY_TAG}\nkey {key}\nnumber {number}\nbefore {before}\ntime {time}\nlog {origin} {size} {root}\n")
    }

    /// Signs it: with the key that hands over, then with the one that takes over.
    pub fn sign(&self, before: &LedgerKey, key: &LedgerKey) -> String {
        note::sign(&self.to_text(), self.key.name(), &[before, key])
    }

    /// Parses a record, and verifies the signatures of the two keys that it names. That one of these is to be trusted is
    /// the caller's to know.
    ///
    /// # Errors
    /// It is malformed, of a later form, or not signed by both.
    pub fn open(bytes: &[u8]) -> Result<Self, HandoverError> {
        let note = Note::parse(bytes).map_err(HandoverError::Note)?;
        let read = Self::parse(note.text())?;
        let lines = note.signatures().len();
        let both = [read.before.clone(), read.key.clone()];
        let verified = note.verify(&both).map_err(HandoverError::Note)?;
        match verified.signers() == both && lines == 2 {
            true => Ok(read),
            false => {
                Err(HandoverError::Malformed("it has not just one signature line of each of its two keys, in order"))
            }
        }
    }

    fn parse(given: &str) -> Result<Self, HandoverError> {
        let malformed = HandoverError::Malformed;
        let mut lines = given.lines();
        match lines.next() {
            Some(KEY_TAG) => {}
            Some(tag) if version::is_newer(tag, KEY_TAG) => return Err(HandoverError::Newer),
            _ => return Err(malformed("it does not begin with piperoll-log-key/v1")),
        }
        if given.lines().skip(1).any(|line| version::has_newer_word(line, &WORDS)) {
            return Err(HandoverError::Newer);
        }
        let mut valued = |word: &str| lines.next()?.strip_prefix(word)?.strip_prefix(' ');
        let key = valued("key").and_then(|key| key.parse().ok()).ok_or(malformed("it names no key"))?;
        let number = valued("number").and_then(text::decimal).ok_or(malformed("it has no number"))?;
        let before = valued("before").and_then(|key| key.parse().ok()).ok_or(malformed("it names no key before"))?;
        let time = valued("time").and_then(|time| parse_micros(time).ok()).ok_or(malformed("it has no time"))?;
        let log = valued("log").and_then(log_head).ok_or(malformed("it has no head of the store log"))?;
        let read = Self { key, number, before, time, log };
        let is_ledgers_own = |key: &VerifierKey| key.under(key.name()) == *key;
        if !is_ledgers_own(&read.key) || !is_ledgers_own(&read.before) || read.key.name() != read.before.name() {
            return Err(malformed("its keys are not two of one store log"));
        }
        if read.to_text() == given { Ok(read) } else { Err(malformed("it is spelled in another way")) }
    }
}

fn log_head(line: &str) -> Option<StreamHead> {
    let [origin, size, root] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
    Some(StreamHead { origin: origin.into(), size: text::decimal(size)?, root: Hash::from_base64(root)? })
}

/// The keys of one store, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyHistory {
    keys: Vec<VerifierKey>,
}

impl KeyHistory {
    /// A history that begins with this key, under the store log's origin of generation 0.
    pub fn begin(first: VerifierKey) -> Self {
        Self { keys: vec![first] }
    }

    /// Takes the next record over.
    ///
    /// # Errors
    /// It does not hold, or does not follow.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Handover, HandoverError> {
        let next = Handover::open(bytes)?;
        let order = HandoverError::Order;
        if next.number != self.keys.len() as u64 + 1 {
            return Err(order("it has another number"));
        }
        if &next.before != self.newest() {
            return Err(order("it names another key before it: one of the two was replaced"));
        }
        if self.keys.contains(&next.key) {
            return Err(order("its key signed before"));
        }
        self.keys.push(next.key.clone());
        Ok(next)
    }

    /// The keys, oldest first.
    pub fn keys(&self) -> &[VerifierKey] {
        &self.keys
    }

    /// The key that signs now.
    pub fn newest(&self) -> &VerifierKey {
        self.keys.last().expect("it begins with a key")
    }

    /// Whom somebody may believe who trusts `given`, whatever the names: all of the history, oldest first, when one of
    /// them is in it; otherwise `given` alone.
    pub fn believed(&self, given: &[VerifierKey]) -> Vec<VerifierKey> {
        let is_given = |key: &VerifierKey| given.iter().any(|one| one.under(key.name()) == *key);
        if self.keys.iter().any(is_given) { self.keys.clone() } else { given.to_vec() }
    }

    /// Whether what `now` signed may not follow in its chain what `last` signed. Keys that are not in the history are
    /// not judged.
    pub fn goes_back(keys: &[VerifierKey], last: &VerifierKey, now: &VerifierKey) -> bool {
        let place = |of: &VerifierKey| keys.iter().position(|key| key.under(of.name()) == *of);
        place(last).zip(place(now)).is_some_and(|(last, now)| now < last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "example/_main/log/0";

    fn key(seed: u8) -> LedgerKey {
        LedgerKey::from_secret(&[seed; 32])
    }

    fn public(seed: u8) -> VerifierKey {
        key(seed).verifier(LOG)
    }

    fn handover(number: u64, before: u8, to: u8) -> Handover {
        let log = StreamHead { origin: LOG.into(), size: 7, root: Hash::of(b"root") };
        Handover { key: public(to), number, before: public(before), time: 1_790_000_000_500_000, log }
    }

    fn record(number: u64, before: u8, to: u8) -> Vec<u8> {
        handover(number, before, to).sign(&key(before), &key(to)).into_bytes()
    }

    #[test]
    fn whoever_trusts_one_key_can_follow_to_all() {
        let mut history = KeyHistory::begin(public(1));
        assert_eq!(history.take(&record(2, 1, 2)).unwrap(), handover(2, 1, 2));
        history.take(&record(3, 2, 3)).unwrap();
        let all = [public(1), public(2), public(3)];
        for trusted in 1..=3 {
            assert_eq!(history.believed(&[key(trusted).verifier("example/acme/audit/0")]), all);
        }
        assert_eq!(history.believed(&[public(9)]), [public(9)]);
        assert_eq!(history.newest(), &public(3));
        assert!(KeyHistory::goes_back(&all, &public(2), &public(1)));
        let elsewhere = |seed: u8| key(seed).verifier("example/acme/audit/0");
        assert!(KeyHistory::goes_back(&all, &elsewhere(3), &elsewhere(2)));
        assert!(!KeyHistory::goes_back(&all, &public(1), &public(2)));
        assert!(!KeyHistory::goes_back(&all, &public(2), &public(2)));
    }

    #[test]
    fn a_record_that_does_not_follow_is_refused() {
        let mut history = KeyHistory::begin(public(1));
        let order = |why| Err(HandoverError::Order(why));
        assert_eq!(history.take(&record(3, 1, 2)), order("it has another number"));
        assert!(matches!(history.take(&record(2, 4, 2)), Err(HandoverError::Order(_))), "of another store's key");
        assert_eq!(
            history.take(&record(2, 1, 1)).map(drop),
            Err(HandoverError::Malformed("it has not just one signature line of each of its two keys, in order"))
        );
        history.take(&record(2, 1, 2)).unwrap();
        assert_eq!(history.take(&record(3, 2, 1)), order("its key signed before"));
        assert_eq!(history.keys(), [public(1), public(2)]);
    }

    #[test]
    fn both_sign_and_every_bit_counts() {
        let told = handover(2, 1, 2);
        let sound = record(2, 1, 2);
        assert_eq!(Handover::open(&sound).unwrap(), told);
        for few in [
            note::sign(&told.to_text(), LOG, &[&key(1)]),
            note::sign(&told.to_text(), LOG, &[&key(2)]),
            note::sign(&told.to_text(), LOG, &[&key(2), &key(1)]),
            note::sign(&told.to_text(), LOG, &[&key(1), &key(2), &key(3)]),
        ] {
            assert!(Handover::open(few.as_bytes()).is_err(), "{few}");
        }
        for at in 0..sound.len() {
            let mut bad = sound.clone();
            bad[at] ^= 1;
            assert!(Handover::open(&bad).is_err(), "bit 0 of byte {at}");
        }
        let as_of = |text: String| Handover::open(note::sign(&text, LOG, &[&key(1), &key(2)]).as_bytes());
        assert_eq!(as_of(told.to_text().replace("key/v1", "key/v2")), Err(HandoverError::Newer));
        assert_eq!(as_of(format!("{}until x\n", told.to_text())), Err(HandoverError::Newer));
        assert!(as_of(told.to_text().replace("number 2", "number 02")).is_err());
        assert!(as_of(told.to_text().replace(".500000Z", ".5Z")).is_err());
        let foreign = key(1).verifier("example/_other/log/0").to_string();
        assert!(as_of(told.to_text().replace(&public(1).to_string(), &foreign)).is_err());
    }
}
