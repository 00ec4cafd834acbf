//! The log on a disk that fails: it is tried again by itself, and the reserve keeps some streams writable.

use super::*;
use crate::wal::{DiskFiles, LogFile, LogFiles};
use crate::writer::Message;
use std::io::{self, ErrorKind, Read};

/// What of a disk fails, while it does.
#[derive(Debug, Default)]
struct Disk {
    sync_fails: AtomicBool,
    /// Bytes that there is room for.
    room: AtomicI64,
}

#[derive(Debug)]
struct Files(DiskFiles, Arc<Disk>);

#[derive(Debug)]
struct File(Box<dyn LogFile>, Arc<Disk>);

impl LogFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = self.1.room.fetch_sub(bytes.len() as i64, Ordering::SeqCst);
        if room < bytes.len() as i64 {
            // A full disk takes what fits and refuses the rest.
            self.1.room.store(0, Ordering::SeqCst);
            self.0.append(&bytes[..room.max(0) as usize])?;
            return Err(ErrorKind::StorageFull.into());
        }
        self.0.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        match self.1.sync_fails.load(Ordering::SeqCst) {
            true => Err(io::Error::other("as the test wants")),
            false => self.0.sync(),
        }
    }
}

impl LogFiles for Files {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.0.list()
    }

    fn read(&self, name: &str, from: u64) -> io::Result<Box<dyn Read + Send>> {
        self.0.read(name, from)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(File(self.0.create(name)?, Arc::clone(&self.1))))
    }

    fn cut(&self, name: &str, length: u64) -> io::Result<()> {
        self.0.cut(name, length)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let length = self.0.list()?.into_iter().find(|(listed, _)| listed == name).map_or(0, |(_, length)| length);
        self.0.delete(name)?;
        self.1.room.fetch_add(length as i64, Ordering::SeqCst);
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.0.sync_folder()
    }
}

async fn open(bed: &Bed, disk: &Arc<Disk>) -> Store {
    let files = Files(DiskFiles::of(&bed.at("log")), Arc::clone(disk));
    Store::open_on(bed.options(), Arc::new(files)).await.unwrap()
}

async fn refused(store: &Store, ids: std::ops::Range<u64>) -> StoreError {
    let drafts = ids.map(|id| draft("acme", &format!("e-{id}"), id)).collect();
    store.append(request(store, vec![("acme", drafts)])).await.unwrap_err()
}

async fn append_access(store: &Store, id: u64) -> Result<Appended, StoreError> {
    let mut builder = DraftBuilder::default();
    for (field, text) in [
        (Field::Tenant, "acme".to_string()),
        (Field::Stream, "access".into()),
        (Field::EventId, format!("a-{id}")),
        (Field::Action, "query.run".into()),
        (Field::ActorType, "user".into()),
    ] {
        builder.text(field, text).unwrap();
    }
    builder.int(Field::OccurredAt, 1).unwrap();
    let handle = store.appender(&tenant("acme"), StreamKind::Access);
    let parts = vec![(handle, vec![builder.finish().unwrap()])];
    store.append(AppendRequest { parts, ..Default::default() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_sync_failed_goes_on_by_itself_when_the_fault_goes() {
    let bed = Bed::new(61);
    let disk = Arc::new(Disk { room: AtomicI64::new(i64::MAX / 2), ..Disk::default() });
    let store = open(&bed, &disk).await;
    append_ids(&store, "acme", 0..3).await;
    let head = store.log_head();
    disk.sync_fails.store(true, Ordering::SeqCst);
    assert!(matches!(refused(&store, 3..5).await, StoreError::LogFailed));
    let problem = store.problem().unwrap();
    assert!(problem.contains("as the test wants") && !store.is_writable(), "{problem}");
    assert!(matches!(refused(&store, 3..5).await, StoreError::LogFailed));
    assert_eq!(store.log_head(), head, "nothing is signed that is not durable");
    assert_eq!(ids_of(&store, "acme").await, ids(0..3));
    disk.sync_fails.store(false, Ordering::SeqCst);
    log_life::wait_for(|| store.is_writable()).await;
    assert_eq!(store.problem(), None);
    assert_eq!(append_ids(&store, "acme", 5..7).await, accepted(3..5), "positions of what failed are given anew");
    assert_eq!(append_ids(&store, "acme", 0..3).await, duplicates(0..3));
    let before = ids_of(&store, "acme").await;
    store.close().await;
    let store = bed.open().await;
    assert_eq!(ids_of(&store, "acme").await, before);
    store.seal_all().await.unwrap();
    store.close().await;
    assert!(bed.fsck().await.is_sound());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_people_can_still_look_and_contain() {
    let bed = Bed::new(62);
    let disk = Arc::new(Disk { room: AtomicI64::new(i64::MAX / 2), ..Disk::default() });
    let store = open(&bed, &disk).await;
    append_ids(&store, "acme", 0..3).await;
    disk.room.store(100, Ordering::SeqCst);
    assert!(matches!(refused(&store, 3..6).await, StoreError::LogFailed));
    log_life::wait_for(|| store.shared.log.get() == LogState::Full).await;
    assert!(matches!(refused(&store, 3..6).await, StoreError::LogFull));
    assert!(!store.is_writable() && store.problem().unwrap().contains("full"));
    for id in 0..20 {
        append_access(&store, id).await.unwrap();
    }
    store.writer.send(Message::Tick).await.unwrap();
    assert!(matches!(refused(&store, 3..6).await, StoreError::LogFull), "there is no room for the reserve yet");
    disk.room.store(i64::MAX / 2, Ordering::SeqCst);
    store.writer.send(Message::Tick).await.unwrap();
    assert_eq!(append_ids(&store, "acme", 3..6).await, accepted(3..6));
    assert!(store.is_writable());
    store.close().await;
    let store = bed.open().await;
    assert_eq!(ids_of(&store, "acme").await, ids(0..6));
    let access = store.reader(&tenant("acme"), StreamKind::Access).unwrap().snapshot().await.unwrap();
    assert_eq!(rows(&access).await.len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_file_is_made_durable_anew_before_anything_of_it_is_signed() {
    let bed = Bed::new(63);
    let store = bed.open().await;
    append_ids(&store, "acme", 0..3).await;
    store.close().await;
    let disk = Arc::new(Disk { room: AtomicI64::new(i64::MAX / 2), sync_fails: AtomicBool::new(true) });
    let files = Files(DiskFiles::of(&bed.at("log")), Arc::clone(&disk));
    let refused =
        Store::open_on(bed.options(), Arc::new(files)).await.err().expect("what cannot be synced is not signed");
    assert_eq!(refused.kind(), crate::ErrorKind::Unavailable);
    disk.sync_fails.store(false, Ordering::SeqCst);
    let store = open(&bed, &disk).await;
    assert_eq!(ids_of(&store, "acme").await, ids(0..3));
}
