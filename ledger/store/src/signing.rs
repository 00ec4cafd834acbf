//! The keys that a store is signed with: which one signs now, which sign along, and the records by which each handed over.
//!
//! A key hands over in this order: its successor is where a start finds it (the caller sees to that), the record that both
//! sign is created, and from then on the successor signs. If we crash before the record, the old key signs still, and the
//! next start tries again; after it, the next start finds the successor named. Not here: secrets on a disk.
//!
//! Invariants: a record is created once, under the next number; nothing is signed by a key before its record is there; what
//! was begun with the key before may still be put, and stands in its chain before anything of the new key.

use crate::error::StoreError;
use crate::layout;
use crate::log_head::newer_record;
use crate::objects::create;
use crate::objects_of::list_numbers;
use crate::segment;
use crate::store::{LogHead, Shared};
use ledger::checkpoint::StreamHead;
use ledger::handover::{Handover, HandoverError, KeyHistory, first_record};
use ledger::key::{LedgerKey, LedgerKeys, VerifierKey};
use ledger::name::Origin;
use object_store::ObjectStore;
use std::sync::{Arc, PoisonError, RwLock};

/// What signs a store, and may be exchanged while it is open.
pub(crate) struct Signing {
    now: RwLock<Arc<Keys>>,
    /// One goes over at a time.
    turn: tokio::sync::Mutex<()>,
}

/// The keys of a store at some moment.
pub(crate) struct Keys {
    keys: LedgerKeys,
    known: Known,
}

/// The public keys of a store and the records of them, oldest first.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// The keys.
    pub history: KeyHistory,
    /// What handed over to the second and every later one, with the record's text.
    pub handovers: Vec<(Handover, String)>,
}

impl Signing {
    /// Before it is known what the store's records say, and for a store that has none.
    pub(crate) fn begin(keys: LedgerKeys, first_origin: &Origin) -> Self {
        let history = KeyHistory::begin(keys.current.verifier(first_origin.as_str()));
        let keys = Keys { keys, known: Known { history, handovers: vec![] } };
        Self { now: RwLock::new(Arc::new(keys)), turn: tokio::sync::Mutex::new(()) }
    }

    /// The keys as they are now. Whoever signs several things that belong together asks once.
    pub(crate) fn now(&self) -> Arc<Keys> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, keys: Keys) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }
}

impl Keys {
    /// The key that signs what the store itself reads: commits, snapshots, flushed heads.
    pub(crate) fn current(&self) -> &LedgerKey {
        &self.keys.current
    }

    /// The keys that sign what others are given: heads, receipts, reports.
    pub(crate) fn all(&self) -> Vec<&LedgerKey> {
        self.keys.all()
    }

    /// The public keys that ever signed the store, under this origin, oldest first.
    pub(crate) fn trusted(&self, origin: &str) -> Vec<VerifierKey> {
        self.known.history.keys().iter().map(|key| key.under(origin)).collect()
    }

    /// What the records say.
    pub(crate) fn known(&self) -> &Known {
        &self.known
    }
}

impl Known {
    /// The records, in order, as they stand in the store.
    pub(crate) fn records(&self) -> Vec<String> {
        let first = self.history.keys().first().map(first_record);
        first.into_iter().chain(self.handovers.iter().map(|(_, text)| text.clone())).collect()
    }
}

/// Reads the records of a store's keys; none when there are none.
///
/// # Errors
/// [`StoreError::Newer`] and [`StoreError::Damaged`] name the record that is not understood, or does not hold.
pub(crate) async fn read(objects: &Arc<dyn ObjectStore>, first_origin: &Origin) -> Result<Option<Known>, StoreError> {
    let numbers = list_numbers(objects, &layout::keys(), layout::key).await?;
    let Some(last) = numbers.last().copied() else { return Ok(None) };
    let damaged = |number, why| StoreError::Damaged { path: layout::key(number).to_string(), why };
    if last != numbers.len() as u64 {
        return Err(damaged(last, "the record of a key before it is missing"));
    }
    let bytes = segment::fetch(objects, &layout::key(1)).await?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let stated = text.lines().nth(1).and_then(|line| line.strip_prefix("key ")?.parse::<VerifierKey>().ok());
    let own = stated.filter(|key| key.name() == first_origin.as_str() && first_record(key) == text);
    let Some(first) = own else {
        let object = layout::key(1).to_string();
        return Err(match newer_record(&bytes, "piperoll-log-key/v1\nkey\n") {
            Some(what) => StoreError::Newer { object, what: what.into() },
            None => damaged(1, "it does not name a key of this store's log"),
        });
    };
    let mut known = Known { history: KeyHistory::begin(first), handovers: vec![] };
    for number in 2..=last {
        let bytes = segment::fetch(objects, &layout::key(number)).await?;
        let handover = known.history.take(&bytes).map_err(|error| match error {
            HandoverError::Newer => {
                let object = layout::key(number).to_string();
                StoreError::Newer { object, what: "it is the record of a key of a later form".into() }
            }
            HandoverError::Malformed(why) | HandoverError::Order(why) => damaged(number, why),
            HandoverError::Note(_) => {
                damaged(number, "it is not signed by the key that it names and the one before it")
            }
        })?;
        known.handovers.push((handover, String::from_utf8_lossy(&bytes).into_owned()));
    }
    Ok(Some(known))
}

/// States the store's first key when it is new. Otherwise finds, among the keys at hand, the one that signs it: the
/// current one, or one that is still to hand over to it.
///
/// # Errors
/// None of them signs this store, or a record does not hold.
pub(crate) async fn own(shared: &Shared, first_origin: &Origin) -> Result<(), StoreError> {
    let at_hand = shared.signing.now().keys.clone();
    let public = at_hand.current.verifier(first_origin.as_str());
    let known = match read(&shared.objects, first_origin).await? {
        Some(known) => known,
        None => {
            create(&shared.objects, &layout::key(1), first_record(&public).into()).await?;
            Known { history: KeyHistory::begin(public.clone()), handovers: vec![] }
        }
    };
    let newest = known.history.newest();
    let signs = at_hand.all().into_iter().position(|key| key.is_of(newest));
    let Some(place) = signs else {
        let what = match known.history.keys().contains(&public) {
            true => "the key in the key file handed over to another one: use the key file that has that",
            false => "the store is signed with another key",
        };
        return Err(StoreError::Foreign { what, found: newest.to_string(), expected: public.to_string() });
    };
    let keys = match place {
        0 => at_hand,
        _ => LedgerKeys { current: at_hand.before[place - 1].clone(), before: at_hand.before[place..].to_vec() },
    };
    shared.signing.set(Keys { keys, known });
    Ok(())
}

/// Goes over to the first of these keys, if another one signs, and lets the others sign along.
///
/// # Errors
/// The key that signs now is not among them, the first signed before, or the object store failed: then all is as it was,
/// or the record is there and this finds it when it is called again.
pub(crate) async fn go_over(shared: &Shared, keys: LedgerKeys) -> Result<(), StoreError> {
    let _turn = shared.signing.turn.lock().await;
    let first_origin = shared.log_origin.at_generation(0);
    let now = shared.signing.now();
    let next = keys.current.verifier(first_origin.as_str());
    let newest = now.known.history.newest().clone();
    if next == newest {
        let known = now.known.clone();
        shared.signing.set(Keys { keys, known });
        return Ok(());
    }
    // A record that says so would be there for ever, and hold nowhere.
    if now.known.history.keys().contains(&next) {
        let what = "a key that handed over to another one does not come back";
        return Err(StoreError::Foreign { what, found: newest.to_string(), expected: next.to_string() });
    }
    let Some(before) = keys.before.iter().find(|key| key.is_of(&newest)) else {
        let what = "the key that signs this store is not at hand, so it cannot hand over";
        return Err(StoreError::Foreign { what, found: newest.to_string(), expected: next.to_string() });
    };
    if shared.log.is_fenced() {
        return Err(shared.log.get().refusal().unwrap_or(StoreError::LogFailed));
    }
    let number = now.known.history.keys().len() as u64 + 1;
    let log = shared.log_head.read().unwrap_or_else(PoisonError::into_inner).head.clone();
    let time = shared.ambient.now_micros();
    let handover = Handover { key: next.clone(), number, before: newest, time, log };
    let record = handover.sign(before, &keys.current);
    let put = create(&shared.objects, &layout::key(number), record.into()).await;
    // What became of an earlier try is read here, whatever this one says: both name the same two keys.
    let known = match (put, read(&shared.objects, &first_origin).await?) {
        (_, Some(known)) if *known.history.newest() == next => known,
        (Err(error), _) => return Err(error),
        (Ok(()), _) => {
            let path = layout::key(number).to_string();
            return Err(StoreError::Damaged { path, why: "it is not there though it was just written" });
        }
    };
    shared.signing.set(Keys { keys, known });
    let mut held = shared.log_head.write().unwrap_or_else(PoisonError::into_inner);
    // The same head, for whoever asks before the next group: it is durable, and one head that both keys signed.
    let checkpoint = held.head.sign(&shared.signing.now().all());
    *held = LogHead { head: StreamHead::clone(&held.head), checkpoint };
    tracing::info!(store = %shared.name, number, key = %next, "the store is signed with another key from now on");
    Ok(())
}

/// Makes sure that no other writer handed over while this one started, which would sign with a key of the past.
///
/// # Errors
/// There are records that were not there when the start read them.
pub(crate) async fn confirm(shared: &Shared) -> Result<(), StoreError> {
    let known = shared.signing.now().known.history.keys().len() as u64;
    let numbers = list_numbers(&shared.objects, &layout::keys(), layout::key).await?;
    match numbers.last().copied().unwrap_or_default() > known {
        true => Err(StoreError::Foreign {
            what: "another writer handed over to another key meanwhile: start again, with the key file that has it",
            found: format!("{} keys", numbers.len()),
            expected: format!("{known} keys"),
        }),
        false => Ok(()),
    }
}
