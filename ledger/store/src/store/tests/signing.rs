//! A store whose key hands over to another: while it runs, at a start, when anything fails, and when somebody who has the
//! old key comes back.

use super::faulty::Faulty;
use super::script::{Call, Fault, Mode, Moment, Operation, Script, Where};
use super::*;
use crate::ErrorKind;
use ledger::handover::Handover;
use ledger::key::LedgerKeys;
use ledger::note;
use ledger::{SignedCommit, StreamHead};
use object_store::memory::InMemory;

const RECORD: &str = "objects/_store/log/key/00000000000000000002";
const COMMITS: &str = "objects/tenant=acme/stream=audit/_ledger/commits";

fn later(seed: u8) -> LedgerKey {
    LedgerKey::from_secret(&[seed; 32])
}

/// The second key, with the first to sign along.
fn second() -> LedgerKeys {
    LedgerKeys { current: later(6), before: vec![key()] }
}

fn signed_by(keys: LedgerKeys, bed: &Bed) -> StoreOptions {
    StoreOptions { signing: keys, ..bed.options() }
}

async fn seal_three(store: &Store, round: u64) -> String {
    let drafts = (3 * round..3 * round + 3).map(|id| draft("acme", &format!("e-{id}"), id)).collect();
    let (_, receipt) = append(store, "acme", drafts).await;
    store.seal_all().await.unwrap();
    receipt
}

/// What a check says that trusts this key alone, and follows the records of the store, or does not.
async fn checked(bed: &Bed, trusted: &LedgerKey, follows: bool) -> Report {
    let fsck = Fsck {
        objects: bed.objects(),
        ledger: "example".parse().unwrap(),
        keys: vec![trusted.verifier("any")],
        content: Default::default(),
        kept: vec![],
        durable: vec![],
    };
    let fsck = if follows { fsck.believing_handovers(&tenant("main")).await.unwrap() } else { fsck };
    fsck.store(|_| {}).await.unwrap()
}

fn holds(receipt: &str, trusted: &LedgerKey) -> bool {
    Receipt::parse(receipt.as_bytes()).unwrap().verify(&[trusted.verifier("example/_main/log/0")]).is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_hands_over_while_the_store_runs() {
    let bed = Bed::new(51);
    let store = bed.open().await;
    seal_three(&store, 0).await;
    store.sign_with(second()).await.unwrap();
    let head = store.log_checkpoint();
    assert_eq!(
        head.lines().filter(|line| line.starts_with('\u{2014}')).count(),
        2,
        "one head that both signed: {head}"
    );
    let along = seal_three(&store, 1).await;
    assert!(holds(&along, &key()) && holds(&along, &later(6)));
    // The first signs no more.
    store.sign_with(LedgerKeys { before: vec![], ..second() }).await.unwrap();
    let alone = seal_three(&store, 2).await;
    assert!(!holds(&alone, &key()) && holds(&alone, &later(6)));
    // And the second hands over as well.
    store.sign_with(LedgerKeys { current: later(7), before: vec![later(6)] }).await.unwrap();
    seal_three(&store, 3).await;
    let told: Vec<u64> = store.handovers().iter().map(|(handover, _)| handover.number).collect();
    assert_eq!((told, store.verifiers().len()), (vec![2, 3], 3));
    assert_eq!(store.verifier(), later(7).verifier("example/_main/log/0"));
    let again = store.sign_with(LedgerKeys { current: key(), before: vec![later(7)] }).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict, "a key does not come back: {again}");
    store.close().await;
    for trusted in [key(), later(6), later(7)] {
        let report = checked(&bed, &trusted, true).await;
        assert!(report.is_sound() && report.entries() == 12, "{:?}", report.findings().collect::<Vec<_>>());
    }
    assert!(!checked(&bed, &later(9), true).await.is_sound());
    assert!(!checked(&bed, &later(7), false).await.is_sound(), "commits of before are not the last key's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_hands_over_and_an_old_key_opens_nothing() {
    let bed = Bed::new(52);
    let store = bed.open().await;
    seal_three(&store, 0).await;
    store.close().await;
    let stranger = LedgerKeys { current: later(6), before: vec![later(9)] };
    let refused = Store::open(signed_by(stranger, &bed)).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    for round in 1..4 {
        let store = Store::open(signed_by(second(), &bed)).await.unwrap();
        seal_three(&store, round).await;
        store.upkeep().await.unwrap();
        store.close().await;
        assert!(bed.at(RECORD).exists() && !bed.at("objects/_store/log/key/00000000000000000003").exists());
    }
    let refused = bed.refusal().await;
    assert!(refused.kind() == ErrorKind::Conflict && refused.to_string().contains("handed over"), "{refused}");
    // A key may wait for its turn while another hands over in between.
    let third = LedgerKeys { current: later(7), before: vec![later(6), key()] };
    Store::open(signed_by(third, &bed)).await.unwrap().close().await;
    Store::open(signed_by(later(7).into(), &bed)).await.unwrap().close().await;
    assert!(checked(&bed, &key(), true).await.is_sound());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_the_past_extends_nothing() {
    let bed = Bed::new(53);
    let store = bed.open().await;
    seal_three(&store, 0).await;
    store.sign_with(second()).await.unwrap();
    seal_three(&store, 1).await;
    store.close().await;
    // A commit that says what the last one says again, as somebody with the old key could write it.
    let last = std::fs::read(bed.at(COMMITS).join("00000000000000000001")).unwrap();
    let trusted = [key().verifier("example/acme/audit/0"), later(6).verifier("example/acme/audit/0")];
    let last = SignedCommit::open(&last, &trusted).unwrap();
    assert_eq!(last.signer(), &trusted[1]);
    let commit = last.commit().clone();
    let next = ledger::Commit { number: 2, previous: Some(last.hash()), adds: vec![], ..commit };
    let at = bed.at(COMMITS).join("00000000000000000002");
    std::fs::write(&at, next.sign(&later(6)).bytes()).unwrap();
    assert!(checked(&bed, &key(), true).await.is_sound(), "signed by the key whose turn it is, it would hold");
    std::fs::write(&at, next.sign(&key()).bytes()).unwrap();
    let report = checked(&bed, &key(), true).await;
    let told: Vec<_> = report.findings().filter(|finding| finding.is_fault).collect();
    assert!(
        told[0].object.ends_with("00000000000000000002") && told[0].what.contains("had taken the place of"),
        "{told:?}"
    );
    assert!(Store::open(signed_by(second(), &bed)).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_was_touched_is_found_and_believed_for_nothing() {
    let bed = Bed::new(54);
    let store = bed.open().await;
    store.sign_with(second()).await.unwrap();
    seal_three(&store, 0).await;
    store.close().await;
    let sound = std::fs::read(bed.at(RECORD)).unwrap();
    for at in 0..sound.len() {
        let mut bad = sound.clone();
        bad[at] ^= 1;
        std::fs::write(bed.at(RECORD), &bad).unwrap();
        let report = checked(&bed, &key(), true).await;
        assert!(report.findings().any(|finding| finding.is_fault && RECORD.ends_with(&finding.object)), "byte {at}");
    }
    // Somebody who has neither key names his own.
    let log = StreamHead { origin: "example/_main/log/0".into(), size: 0, root: Hash::of(b"") };
    let (own, theirs) = (key().verifier(&log.origin), later(9).verifier(&log.origin));
    let forged = Handover { key: theirs, number: 2, before: own, time: 0, log };
    let text = note::sign(&forged.to_text(), "example/_main/log/0", &[&later(9)]);
    std::fs::write(bed.at(RECORD), text).unwrap();
    assert!(!checked(&bed, &key(), true).await.is_sound());
    assert_eq!(Store::open(signed_by(second(), &bed)).await.err().unwrap().kind(), ErrorKind::Corrupt);
    std::fs::write(bed.at(RECORD), sound).unwrap();
    assert!(checked(&bed, &key(), true).await.is_sound());
}

/// A handover, tried until it is done, whatever fails once.
async fn handed_over_whatever_fails(fault: Option<Fault>) -> Vec<Operation> {
    let script = Arc::new(Script::new(vec![]));
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut bed = Bed::new(55);
    let faulty = |inner: &Arc<dyn ObjectStore>| -> Arc<dyn ObjectStore> {
        Arc::new(Faulty::new(Arc::clone(inner), Arc::clone(&script)))
    };
    bed.objects = Some(faulty(&inner));
    let mut store = bed.open().await;
    seal_three(&store, 0).await;
    let before = script.recorded();
    let mut life = script.life();
    fault.into_iter().for_each(|fault| script.arm(fault));
    // Upkeep works meanwhile, so the process may die while a handover is tried or just after it was done.
    let (mut tries, mut is_done, mut recorded) = (0, false, None);
    while !is_done || script.life() != life {
        tries += 1;
        assert!(tries < 10, "whatever fails once, the rest comes to an end");
        if script.life() != life {
            // The next start finds the keys where the caller put them. It is the one death: a count begins anew with each
            // life, and would find its call again.
            script.heal_for_good();
            life = script.life();
            store.close().await;
            bed.objects = Some(faulty(&inner));
            store = Store::open(signed_by(second(), &bed)).await.unwrap();
        }
        match store.sign_with(second()).await {
            Ok(()) => is_done = true,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
        }
        script.heal();
        if is_done {
            recorded.get_or_insert_with(|| script.recorded().into_iter().filter(|at| !before.contains(at)).collect());
            script.heal_for_good();
        }
    }
    let recorded = recorded.unwrap_or_default();
    seal_three(&store, 1).await;
    assert_eq!((store.verifiers().len(), store.handovers().len()), (2, 1));
    store.close().await;
    let report = checked(&bed, &key(), true).await;
    assert!(report.is_sound() && report.entries() == 6, "{:?}", report.findings().collect::<Vec<_>>());
    recorded
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handover_that_fails_anywhere_comes_to_the_same_end() {
    let operations = handed_over_whatever_fails(None).await;
    let mut cases = Vec::new();
    for at in operations.into_iter().filter(|at| !at.call.is_of_the_disk()) {
        let moments: &[Moment] =
            if at.call.only_reads() { &[Moment::Before] } else { &[Moment::Before, Moment::After] };
        for moment in moments {
            for mode in if at.call == Call::Get { &[Mode::Error][..] } else { &[Mode::Error, Mode::Death] } {
                let fault = Fault { at: Where::Once(at.clone()), moment: *moment, mode: *mode };
                let name = format!("{mode:?} {moment:?} {at}");
                cases.push((name, async move { drop(handed_over_whatever_fails(Some(fault)).await) }));
            }
        }
    }
    assert!(cases.len() >= 8, "{} cases", cases.len());
    matrix::all(cases).await;
}
