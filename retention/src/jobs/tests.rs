//! The scheduler over a real store on a settable clock: leases, crashes, failures that are seen.

use super::*;
use access::job::{Found, Memo, Outcome, Work};
use access::policy::Policies;
use access::registry::MAIN_STORE;
use access::registry::change::{Change, StoreFact};
use access::{Book, Stores};
use ledger::LedgerKey;
use ledger::group::Durability;
use ledger_store::{Access, Ambient, Limits, Location, Store, StoreOptions};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use tokio::sync::Notify;

const SECOND: i64 = 1_000_000;

/// A clock that is set, and randomness that can be guessed.
struct World {
    now: AtomicI64,
    random: AtomicU64,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self { now: AtomicI64::new(1_790_000_000 * SECOND), random: AtomicU64::new(1) })
    }

    fn pass(&self, seconds: i64) {
        self.now.fetch_add(seconds * SECOND, Ordering::SeqCst);
    }
}

impl Ambient for World {
    fn now_micros(&self) -> i64 {
        self.now.load(Ordering::SeqCst)
    }

    fn monotonic_micros(&self) -> i64 {
        self.now_micros()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let drawn = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst).to_be_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
    }
}

async fn door(folder: &Path, world: &Arc<World>) -> Door {
    door_with(folder, world, access::KeySettings::default()).await
}

async fn door_with(folder: &Path, world: &Arc<World>, keys: access::KeySettings) -> Door {
    let ambient = Arc::clone(world) as Arc<dyn Ambient>;
    let objects = Location::folder(&folder.join("objects")).open(&Access::default(), Arc::clone(&ambient)).unwrap();
    let store = Store::open(StoreOptions {
        objects,
        durability: Durability::Wal,
        log: folder.join("log"),
        log_lost: false,
        cache: folder.join("cache"),
        ledger: "example".parse().unwrap(),
        name: MAIN_STORE.parse().unwrap(),
        signing: LedgerKey::from_secret(&[5; 32]).into(),
        keys: None,
        limits: Limits::default(),
        ambient: Arc::clone(&ambient),
    });
    let facts = [(MAIN_STORE.parse().unwrap(), StoreFact::default())].into();
    let stores = Stores::new(store.await.unwrap(), facts);
    let (book, _) = Book::open(stores, Arc::clone(&ambient)).await.unwrap();
    Door::new(book, Policies::load(&[]).unwrap(), vec![], keys, ambient)
}

/// What a made-up job is to do.
enum Act {
    End(Result<Outcome, Problem>),
    Find(&'static str),
    Panic,
    /// Goes on until it is dropped.
    Hang,
}

/// A job that does as it is told.
struct Made {
    acts: Mutex<Vec<Act>>,
    begun: Arc<Notify>,
    memos: Mutex<Vec<Memo>>,
}

impl Made {
    fn new(acts: Vec<Act>) -> Arc<Self> {
        let acts = Mutex::new(acts.into_iter().rev().collect());
        Arc::new(Self { acts, begun: Arc::default(), memos: Mutex::default() })
    }
}

impl Job for Made {
    fn name(&self) -> &'static str {
        "tidy"
    }

    fn what(&self) -> &'static str {
        "does as it is told"
    }

    fn schedule(&self) -> Option<&'static str> {
        Some("0 * * * *")
    }

    fn run<'j>(&'j self, running: &'j Running) -> Work<'j> {
        Box::pin(async move {
            self.memos.lock().unwrap().push(running.memo().clone());
            let act = self.acts.lock().unwrap().pop().unwrap_or(Act::End(Ok(Outcome::default())));
            self.begun.notify_one();
            match act {
                Act::End(ended) => ended,
                Act::Find(what) => {
                    running.found(Found { what: what.into(), ..Found::default() }).await?;
                    Ok(Outcome::of(json!({"looked": 1})))
                }
                Act::Panic => panic!("told to"),
                Act::Hang => std::future::pending().await,
            }
        })
    }
}

fn jobs(door: &Door, made: &Arc<Made>) -> Jobs {
    Jobs::new(door.clone(), vec![Arc::clone(made) as Arc<dyn Job>], &Schedules::new(), LEASE).unwrap()
}

fn failure(detail: &str) -> Act {
    Act::End(Err(Problem::new(ProblemKind::Unavailable, detail)))
}

/// Looks, and waits until what began is over.
async fn look(jobs: &Jobs) -> Record {
    jobs.tick().await;
    for _ in 0..1_000 {
        let record = jobs.record("tidy");
        if record.last.as_ref().is_none_or(|run| run.ended.is_some()) && jobs.running().is_empty() {
            return record;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the run did not end");
}

fn outcome(record: &Record) -> &'static str {
    record.last.as_ref().unwrap().ended.as_ref().unwrap().1.outcome.as_str()
}

#[tokio::test]
async fn a_job_runs_when_it_is_due_and_nothing_is_written_when_none_is() {
    let (folder, world) = (tempfile::tempdir().unwrap(), World::new());
    let door = door(folder.path(), &world).await;
    let memo = |text: &str| Act::End(Ok(Outcome { counts: json!({"n": 1}), memo: Some(text.into()) }));
    let made =
        Made::new(vec![memo("first"), failure("no answer"), Act::Find("a bit is flipped"), memo("second"), Act::Panic]);
    let jobs = jobs(&door, &made);
    // When it was set up, nothing is missed.
    assert!(look(&jobs).await.last.is_none());
    let size = door.book().read().size();
    look(&jobs).await;
    assert_eq!(door.book().read().size(), size);
    world.pass(3_600);
    let record = look(&jobs).await;
    assert_eq!((outcome(&record), record.last.as_ref().unwrap().fact.missed), ("ok", 0));
    assert_eq!(door.book().read().size(), size + 2, "its begin and its end");
    assert!(jobs.troubles().is_empty());
    // It fails, and is tried again after a while; then it finds something.
    world.pass(3_600);
    let record = look(&jobs).await;
    assert_eq!((outcome(&record), record.failed), ("failed", 1));
    assert!(jobs.troubles()[0].starts_with("job tidy has not succeeded since 20"), "{:?}", jobs.troubles());
    assert!(jobs.troubles()[0].ends_with("1 run failed"));
    look(&jobs).await;
    assert_eq!(made.memos.lock().unwrap().len(), 2);
    world.pass(900);
    let record = look(&jobs).await;
    let run = record.last.as_ref().unwrap();
    assert_eq!((outcome(&record), run.tries, run.findings), ("found", 2, 1));
    assert_eq!((run.first_finding.as_deref(), record.failed), (Some("a bit is flipped"), 2));
    // A service that was not there for hours runs it once, and says how often it was missed.
    world.pass(5 * 3_600);
    let record = look(&jobs).await;
    let run = record.last.as_ref().unwrap();
    assert_eq!((outcome(&record), run.fact.missed, record.failed), ("ok", 4, 0));
    assert_eq!(run.fact.due.unwrap().0 - run.fact.since.unwrap().0, 4 * 3_600 * SECOND);
    // What it kept last is what it finds; what was kept before is gone.
    let kept = |text: &'static str| Memo::Kept(text.as_bytes().into());
    assert_eq!(*made.memos.lock().unwrap(), [Memo::None, kept("first"), kept("first"), kept("first")]);
    let memos = folder.path().join("objects/_store/memo");
    let files: Vec<_> = std::fs::read_dir(&memos).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    std::fs::write(&files[0], "forged").unwrap();
    world.pass(3_600);
    assert_eq!(outcome(&look(&jobs).await), "failed", "it panicked");
    assert_eq!(made.memos.lock().unwrap().pop(), Some(Memo::Lost));
}

#[tokio::test]
async fn a_run_that_crashed_is_abandoned_when_its_lease_ends_and_begun_again() {
    let (folder, world) = (tempfile::tempdir().unwrap(), World::new());
    let door_before = door(folder.path(), &world).await;
    let made = Made::new(vec![Act::Hang]);
    let before = jobs(&door_before, &made);
    look(&before).await;
    world.pass(3_600);
    before.tick().await;
    made.begun.notified().await;
    let run = before.record("tidy").last.unwrap();
    // Nobody else begins it, neither the schedule nor by hand; and it is said who has it.
    before.tick().await;
    let refused = before.begin(&before.0.all[0].job, None, None).await.err().unwrap();
    let said = refused.detail().contains(run.id.as_str()) && refused.detail().contains("its lease ends at");
    assert!(refused.kind() == ProblemKind::Conflict && said, "{refused}");
    // The process is gone; another one opens the store.
    std::mem::forget(before.clone());
    door_before.stores().main().close().await;
    let door = door(folder.path(), &world).await;
    let made = Made::new(vec![]);
    let after = jobs(&door, &made);
    after.tick().await;
    assert_eq!(after.record("tidy").state(world.now_micros()), "running");
    world.pass(601);
    assert_eq!(after.record("tidy").state(world.now_micros()), "abandoned");
    assert_eq!(after.troubles(), ["job tidy has not succeeded ever, 1 run failed"]);
    let record = look(&after).await;
    let again = record.last.as_ref().unwrap();
    assert_eq!((outcome(&record), again.fact.due, again.tries, record.failed), ("ok", run.fact.due, 2, 0));
    assert_ne!(again.id, run.id);
}

#[tokio::test]
async fn a_lease_is_renewed_and_who_lost_it_stops() {
    let (folder, world) = (tempfile::tempdir().unwrap(), World::new());
    let door = door(folder.path(), &world).await;
    let made = Made::new(vec![Act::Hang, Act::Hang]);
    let all = vec![Arc::clone(&made) as Arc<dyn Job>];
    // Short, so that it is looked at often.
    let jobs = Jobs::new(door.clone(), all, &Schedules::new(), Duration::from_millis(200)).unwrap();
    look(&jobs).await;
    world.pass(3_600);
    jobs.tick().await;
    made.begun.notified().await;
    let before = jobs.record("tidy").last.unwrap();
    world.now.fetch_add(150_000, Ordering::SeqCst);
    let renewed = async {
        while jobs.record("tidy").last.unwrap().lease_until == before.lease_until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), renewed).await.unwrap();
    // As another instance would, when it was not heard of for too long.
    let mut tries = 0;
    loop {
        world.pass(10);
        let change = json!({"change": "job.begin", "job": "tidy", "epoch": 9,
            "lease_until": format_micros(world.now_micros() + 60 * SECOND)});
        let Change::BeginJob(fact) = serde_json::from_value(change).unwrap() else { unreachable!() };
        if door.begin_job(None, fact).await.is_ok() {
            break;
        }
        // It was renewed a moment before.
        tries += 1;
        assert!(tries < 1_000);
    }
    let stopped = async {
        while !jobs.running().is_empty() {
            world.now.fetch_add(20_000, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), stopped).await.unwrap();
    let record = jobs.record("tidy");
    assert_eq!((record.last.as_ref().unwrap().fact.epoch, record.last.unwrap().ended), (9, None));
    // A stop is on record, and no failure.
    world.pass(7_200);
    jobs.tick().await;
    made.begun.notified().await;
    jobs.stop().await;
    let record = jobs.record("tidy");
    assert_eq!(outcome(&record), "stopped");
}

#[tokio::test]
async fn keys_are_rotated_once_they_are_old() {
    let (folder, world) = (tempfile::tempdir().unwrap(), World::new());
    let ambient = Arc::clone(&world) as Arc<dyn Ambient>;
    let keyring = access::keys::Keyring::open(&folder.path().join("keyring"), None, ambient).unwrap();
    let keys = access::KeySettings::new(Some(Arc::new(keyring)), access::keys::KeyChest::default(), true);
    let door = door_with(folder.path(), &world, keys).await;
    let tenant = json!({"change": "tenant.create", "tenant": "acme"});
    door.book().note(serde_json::from_value(tenant).unwrap()).await.unwrap();
    door.look_after_keys().await;
    let count = || door.book().read().keys_of(&"acme".parse().unwrap()).unwrap().keys.len();
    let day = Duration::from_secs(86_400);
    assert_eq!((count(), door.rotate_keys(90 * day).await.unwrap().0), (1, 0));
    world.pass(90 * 86_400);
    assert_eq!(door.rotate_keys(90 * day).await.unwrap(), (1, vec![]));
    assert_eq!((count(), door.rotate_keys(90 * day).await.unwrap().0), (2, 0));
    door.close().await;
}
