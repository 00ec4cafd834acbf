//! Two real processes on one store: one of them is paused at the worst moments, and the other takes the store over.
//!
//! The first process reaches the S3 server through a gate that can hold the put of a group before it reaches the
//! server, or the server's answer on its way back. What happens inside one process is in `ledger-store`'s own tests.

use crate::acknowledged::Acknowledged;
use crate::program::{Service, events, run, run_in};
use crate::servers::Server;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Where a put of a group is held.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Held {
    /// The server has not seen it.
    BeforeThePut,
    /// The server has it; who put it does not know yet.
    BeforeTheSignature,
}

#[derive(Debug, Default)]
struct Hold {
    /// The next group is held here.
    armed: Option<Held>,
    is_holding: bool,
}

/// A way to a server of object storage that holds one put of a group when it is told to.
struct Gate {
    at: SocketAddr,
    hold: Arc<(Mutex<Hold>, Condvar)>,
}

impl Gate {
    /// A gate before the server at this address. Its threads end with the test's process.
    fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gate = Self { at: listener.local_addr().unwrap(), hold: Arc::default() };
        let hold = Arc::clone(&gate.hold);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hold = Arc::clone(&hold);
                // Whoever gave up waiting has closed its end.
                std::thread::spawn(move || drop(pass(stream, server, &hold)));
            }
        });
        gate
    }

    fn arm(&self, held: Held) {
        self.hold.0.lock().unwrap().armed = Some(held);
    }

    fn wait_until_it_holds(&self) {
        let hold = self.hold.0.lock().unwrap();
        let waits = |hold: &mut Hold| !hold.is_holding;
        let (hold, _) = self.hold.1.wait_timeout_while(hold, Duration::from_secs(60), waits).unwrap();
        assert!(hold.is_holding, "no group was put within a minute");
    }

    fn release(&self) {
        self.hold.0.lock().unwrap().is_holding = false;
        self.hold.1.notify_all();
    }
}

/// Holds here if the gate is armed for it.
fn hold_if(armed: Held, hold: &(Mutex<Hold>, Condvar)) {
    let mut state = hold.0.lock().unwrap();
    if state.armed == Some(armed) {
        (state.armed, state.is_holding) = (None, true);
        hold.1.notify_all();
        drop(hold.1.wait_while(state, |state| state.is_holding).unwrap());
    }
}

/// Passes one request on, and its answer back.
fn pass(mut client: TcpStream, server: SocketAddr, hold: &(Mutex<Hold>, Condvar)) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 64 << 10];
    let head_ends = loop {
        let read = client.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..read]);
        if let Some(at) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8_lossy(&request[..head_ends]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    while request.len() < head_ends + length.unwrap_or_default() {
        let read = client.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..read]);
    }
    let is_group = head.starts_with("put ") && head.contains("/_store/log/wal/");
    if is_group {
        hold_if(Held::BeforeThePut, hold);
    }
    let mut upstream = TcpStream::connect(server)?;
    let line_ends = head.find("\r\n").unwrap_or_default() + 2;
    upstream.write_all(&request[..line_ends])?;
    upstream.write_all(b"Connection: close\r\n")?;
    upstream.write_all(&request[line_ends..])?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
    if is_group {
        hold_if(Held::BeforeTheSignature, hold);
    }
    client.write_all(&answer)
}

fn signal(name: &str, service: &Service) {
    let id = service.process_id().to_string();
    assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
}

/// A data folder with the key of another, and nothing else: another machine.
fn machine_with_key_of(data: &Path) -> tempfile::TempDir {
    let other = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(data.join("keys")).arg(other.path()).status().unwrap();
    assert!(copied.success());
    other
}

/// With `object`: pauses a writer at a moment of its commit, and has another take over. Without a moment the writer
/// is paused after its answer.
async fn overtaken(server: &Server, held: Option<Held>) {
    let endpoint = server.environment[0].1.trim_start_matches("http://").parse().unwrap();
    let gate = Gate::before(endpoint);
    let mut through_gate = server.environment.clone();
    through_gate[0].1 = format!("http://{}", gate.at);
    let store = format!("{}/{}", server.url, held.map_or("after".into(), |held| format!("{held:?}").to_lowercase()));
    let flags = ["--store", &store, "--durability", "object"];
    let one_data = tempfile::tempdir().unwrap();
    let one = Service::start_in(&through_gate, one_data.path(), &flags);
    let key = one.key().await;
    let mut acknowledged = Acknowledged::default();
    let first = events("acme", 0, 20);
    acknowledged.add(&first, &one.post("/v1/events", first.clone()).await.1, &key);

    let body = events("acme", 20, 10);
    let asked = async {
        if let Some(held) = held {
            gate.arm(held);
        }
        one.post("/v1/events", body.clone()).await
    };
    let two_data = machine_with_key_of(one_data.path());
    let taken_over = async {
        if held.is_some() {
            tokio::task::block_in_place(|| gate.wait_until_it_holds());
        } else {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        signal("-STOP", &one);
        let two = Service::start_in(&server.environment, two_data.path(), &flags);
        let body = events("acme", 100, 10);
        let answer = two.post("/v1/events", body.clone()).await;
        // The first one wakes up, and believes that no time has passed.
        gate.release();
        signal("-CONT", &one);
        (two, body, answer)
    };
    let ((status, answer), (two, body_of_two, answer_of_two)) = tokio::join!(asked, taken_over);
    assert_eq!(answer_of_two.0, 200, "{}", answer_of_two.1);
    acknowledged.add(&body_of_two, &answer_of_two.1, &key);
    let is_put = held != Some(Held::BeforeThePut);
    if is_put {
        // What it put was found by its successor; so it may sign it, and does.
        assert_eq!(status, 200, "{answer}");
        acknowledged.add(&body, &answer, &key);
    } else {
        assert_eq!(status, 503, "{answer}");
        assert!(answer.to_string().contains("another writer took this store over with epoch 2"), "{answer}");
    }
    let (status, refused) = one.post("/v1/events", events("acme", 300, 1)).await;
    assert_eq!(status, 503, "{refused}");
    assert!(refused.to_string().contains("another writer took this store over with epoch 2"), "{refused}");
    one.kill();

    acknowledged.check(&two, &["acme"]).await;
    let rows = two.rows(&["acme"], "SELECT count(*) FROM audit").await;
    assert_eq!(rows[0][0], if is_put { 40 } else { 30 });
    two.kill();
    let two = Service::start_in(&server.environment, two_data.path(), &[&flags[..], &["--seal-on-exit"]].concat());
    acknowledged.check(&two, &["acme"]).await;
    two.stop();
    let data = two_data.path().to_str().unwrap();
    for command in ["verify", "fsck"] {
        let checked = run_in(&server.environment, &[command, "--store", &store, "--data", data]);
        assert_eq!(checked.status.code(), Some(0), "{}", String::from_utf8_lossy(&checked.stdout));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_on_one_store_one_signs() {
    let Some(server) = Server::s3() else { return };
    for held in [Some(Held::BeforeThePut), Some(Held::BeforeTheSignature), None] {
        overtaken(&server, held).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_local_log_nobody_goes_on_without_it_unless_it_is_declared_lost() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("file://{}", folder.path().join("store").display());
    let one_data = folder.path().join("one");
    let flags = ["--store", &store];
    let sealing = Service::start(&one_data, &["--store", &store, "--seal-on-exit"]);
    let key = sealing.key().await;
    let mut sealed = Acknowledged::default();
    let body = events("acme", 0, 100);
    sealed.add(&body, &sealing.post("/v1/events", body.clone()).await.1, &key);
    sealing.stop();
    let one = Service::start(&one_data, &flags);
    let unsealed = events("acme", 100, 50);
    assert_eq!(one.post("/v1/events", unsealed).await.0, 200);

    // Paused is not gone: its log is held.
    signal("-STOP", &one);
    let refused = Service::try_start(&one_data, &flags).err().unwrap();
    assert!(refused.contains("the write-ahead log is in use by another process"), "{refused}");
    // Another machine has not got its log.
    let two_data = machine_with_key_of(&one_data);
    let refused = Service::try_start(two_data.path(), &flags).err().unwrap();
    assert!(refused.contains("--log-lost"), "{refused}");
    // Declared lost, it is ended: once it wakes up it finds out, and writes nothing more.
    let two = Service::start(two_data.path(), &["--store", &store, "--log-lost", "--seal-on-exit"]);
    signal("-CONT", &one);
    let mut answer = one.post("/v1/events", events("acme", 200, 1)).await;
    for _ in 0..60 {
        if answer.0 == 503 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        answer = one.post("/v1/events", events("acme", 200, 1)).await;
    }
    assert_eq!(answer.0, 503, "{}", answer.1);
    assert!(answer.1.to_string().contains("another writer took this store over"), "{}", answer.1);
    one.kill();

    let body = events("acme", 150, 10);
    sealed.add(&body, &two.post("/v1/events", body.clone()).await.1, &two.key().await);
    sealed.check(&two, &["acme"]).await;
    two.stop();
    let data = two_data.path().to_str().unwrap();
    for command in ["verify", "fsck"] {
        let checked = run(&[command, "--store", &store, "--data", data]);
        let told = String::from_utf8_lossy(&checked.stdout);
        assert_eq!(checked.status.code(), Some(0), "{told}");
        assert!(told.contains("a declared break, no fork: generation 0 ended at 100 entries with root "), "{told}");
        let of_acme = told.lines().find(|line| line.contains("acme") && line.contains("audit")).unwrap_or_default();
        assert!(of_acme.contains(" 111 "), "{told}");
    }
    // Its own log is of no use any more.
    let refused = Service::try_start(&one_data, &flags).err().unwrap();
    assert!(refused.contains("another"), "{refused}");
}
