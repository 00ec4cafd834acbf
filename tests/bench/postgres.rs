//! PostgreSQL as a peer: a private cluster of the installed package, and the reference events brought into it in four
//! ways.
//!
//! Settings are those that `initdb` writes: fsync, synchronous commit and full page writes on. Columns are typed and
//! have no index. The client joins events into one JSON text before the clock starts. It splits them into columns while
//! the clock runs, since somebody has to read the JSON that came, and then once more without counting that, to
//! PostgreSQL's favour. Not here: the protocol (`pgwire`).
//!
//! Invariants: (1) the cluster lies in the benchmark's folder, listens on a free port of the loopback address only, and
//! is stopped by its process id; (2) a batch counts when its command tag says that all of it was stored and committed.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::events::{BATCH, Events};
use crate::load::{CONNECTIONS, Loaded};
use crate::machine::Processor;
use crate::pgwire::{Connection, USER};
use crate::process::{self, Process, Stopped};
use crate::program::free_port;
use crate::trouble::{Outcome, Trouble};

/// Where Debian keeps the programs of each version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// Who runs the server where the benchmark is root, as which PostgreSQL refuses to run.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// How events are brought in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// COPY of columns that the client splits as it goes; attributes stay their exact text, checked to be JSON.
    Copy,
    /// The same of columns that were split before.
    CopyPrepared,
    /// `INSERT … SELECT` out of one JSON text for the whole batch.
    Json,
    /// The same into a table with a hash chain for each tenant.
    JsonChained,
}

impl Way {
    /// All of them.
    pub const ALL: [Way; 4] = [Way::Copy, Way::CopyPrepared, Way::Json, Way::JsonChained];

    /// The words of the table.
    pub fn name(self) -> &'static str {
        match self {
            Way::Copy => "PostgreSQL, COPY into typed columns, no index; the client splits them",
            Way::CopyPrepared => "PostgreSQL, the same, columns split before the clock starts",
            Way::Json => "PostgreSQL, from JSON",
            Way::JsonChained => "PostgreSQL, from JSON, with a hash-chain trigger",
        }
    }

    /// How many times as fast Piperoll is to be.
    pub fn bar(self) -> Option<f64> {
        match self {
            Way::Copy => Some(1.0),
            Way::CopyPrepared => None,
            Way::Json => Some(1.5),
            Way::JsonChained => Some(4.0),
        }
    }

    /// Whether the client does part of the work, so that its processor time counts.
    pub fn splits(self) -> bool {
        self == Way::Copy
    }

    fn setup(self) -> String {
        if self == Way::JsonChained { TABLE.to_owned() + CHAIN } else { TABLE.to_owned() }
    }
}

const TABLE: &str = "
    DROP TABLE IF EXISTS audit, chain;
    DROP TYPE IF EXISTS named CASCADE;
    CREATE TYPE named AS (type text, id text);
    CREATE TABLE audit (id text, time timestamptz, tenant text, actor_type text, actor_id text, action text,
        resource_type text, resource_id text, outcome text, source_ip inet, session text, workflow text,
        integration text, release text, region text, trace_id uuid, attributes json);";

/// A chain for each tenant: every row gets its place and the hash of the row before it and of itself. One writer at a
/// time, or two batches would wait for each other's tenants without end.
const CHAIN: &str = "
    ALTER TABLE audit ADD seq bigint, ADD hash bytea;
    CREATE TABLE chain (tenant text PRIMARY KEY, length bigint, head bytea) WITH (fillfactor = 50);
    CREATE OR REPLACE FUNCTION one_at_a_time() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$;
    CREATE OR REPLACE FUNCTION link() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE chain SET head = sha256(head || convert_to(new::text, 'UTF8')), length = length + 1
                WHERE tenant = new.tenant RETURNING length, head INTO new.seq, new.hash;
            IF NOT FOUND THEN
                INSERT INTO chain VALUES (new.tenant, 1, sha256(convert_to(new::text, 'UTF8')))
                    RETURNING length, head INTO new.seq, new.hash;
            END IF;
            RETURN new;
        END $$;
    CREATE TRIGGER alone BEFORE INSERT ON audit FOR EACH STATEMENT EXECUTE FUNCTION one_at_a_time();
    CREATE TRIGGER linked BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION link();";

const COLUMNS: &str = "id, time, tenant, actor_type, actor_id, action, resource_type, resource_id, outcome, source_ip, \
                       session, workflow, integration, release, region, trace_id, attributes";

const FROM_JSON: &str = "SELECT e.id, e.time, e.tenant, (e.actor).type, (e.actor).id, e.action, (e.resource).type, \
     (e.resource).id, e.outcome, e.source_ip, e.session, e.workflow, e.integration, e.release, e.region, e.trace_id, \
     e.attributes FROM json_to_recordset($1::json) AS e(id text, time timestamptz, tenant text, actor named, \
     action text, resource named, outcome text, source_ip inet, session text, workflow text, integration text, \
     release text, region text, trace_id uuid, attributes json)";

/// A cluster that was made and does not run.
pub struct Cluster {
    folder: PathBuf,
    programs: PathBuf,
    user: Option<(u32, u32)>,
    /// What `postgres --version` says.
    pub version: String,
}

impl Cluster {
    /// Makes a cluster below `folder`; `None` where PostgreSQL is not installed.
    pub fn make(programs: Option<&Path>, folder: &Path) -> Outcome<Option<Self>> {
        let Some(programs) = programs.map(Path::to_owned).or_else(installed) else { return Ok(None) };
        let version = process::finish(command(&programs, "postgres", None, &["--version"]), "postgres")?;
        let version = String::from_utf8_lossy(&version).trim().to_owned();
        std::fs::create_dir_all(folder).map_err(Trouble::at("making", folder))?;
        let user = unprivileged();
        if let Some((user, group)) = user {
            chown(folder, Some(user), Some(group)).map_err(Trouble::at("giving away", folder))?;
        }
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(folder, private).map_err(Trouble::at("closing", folder))?;
        let data = folder.join("cluster");
        let mut make = command(&programs, "initdb", user, &["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C"]);
        make.current_dir(folder).arg("-D").arg(&data);
        process::finish(make, "initdb")?;
        Ok(Some(Self { folder: data, programs, user, version }))
    }

    /// Brings all events in, one server's life from start to end; with the client's processor time.
    pub async fn round(&self, way: Way, events: &Events, log: &Path) -> Outcome<(Loaded, Stopped, Duration)> {
        let bodies = way.bodies(events)?;
        let port = free_port()?;
        let mut serve = command(&self.programs, "postgres", self.user, &["-c", "listen_addresses=127.0.0.1"]);
        serve.arg("-D").arg(&self.folder).arg("-c").arg(format!("port={port}"));
        serve.args(["-c", "unix_socket_directories="]).current_dir(&self.folder);
        let mut process = Process::start(serve, "postgres", log)?;
        let mut first = loop {
            process.still_starting()?;
            match Connection::open(port) {
                Ok(connection) => break connection,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        first.run(&way.setup())?;
        drop(first);
        let before = Processor::now()?.own;
        let loaded = tokio::task::block_in_place(|| bring(way, port, &bodies))?;
        let client = Processor::now()?.own.saturating_sub(before);
        // SIGINT is PostgreSQL's fast stop: it ends sessions and writes a checkpoint.
        Ok((loaded, process.stop("INT").await?, client))
    }
}

/// A batch as it is sent, and how many events are in it.
type Batch = (usize, Vec<u8>);

impl Way {
    fn bodies(self, events: &Events) -> Outcome<Vec<Batch>> {
        let batch = |from: usize| {
            let to = (from + BATCH).min(events.len());
            let body = events.body(from, to);
            let bytes = match self {
                Way::Copy => body.to_vec(),
                Way::CopyPrepared => split(&body)?,
                Way::Json | Way::JsonChained => joined(&body),
            };
            Ok((to - from, bytes))
        };
        (0..events.len()).step_by(BATCH).map(batch).collect()
    }
}

/// Sends every batch once, on as many connections as Piperoll's client has.
fn bring(way: Way, port: u16, batches: &[Batch]) -> Outcome<Loaded> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(port)?;
        if matches!(way, Way::Json | Way::JsonChained) {
            connection.prepare(&format!("INSERT INTO audit ({COLUMNS}) {FROM_JSON}"))?;
        }
        connections.push(connection);
    }
    let copy = format!("COPY audit ({COLUMNS}) FROM STDIN");
    let next = AtomicUsize::new(0);
    let begin = Instant::now();
    let seen: Vec<Outcome<Vec<(Duration, Duration, usize)>>> = std::thread::scope(|scope| {
        let (next, begin, copy) = (&next, begin, &copy);
        let send = |mut connection: Connection| {
            move || {
                let mut seen = Vec::new();
                while let Some((events, bytes)) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let from = begin.elapsed();
                    let (tag, expected) = match way {
                        Way::Copy => (connection.copy(copy, &split(bytes)?)?, format!("COPY {events}")),
                        Way::CopyPrepared => (connection.copy(copy, bytes)?, format!("COPY {events}")),
                        Way::Json | Way::JsonChained => (connection.execute(bytes)?, format!("INSERT 0 {events}")),
                    };
                    if tag != expected {
                        return Err(Trouble::wrong("postgres's answer to a batch", expected, tag));
                    }
                    let done = begin.elapsed();
                    seen.push((done.saturating_sub(from), done, *events));
                }
                Ok(seen)
            }
        };
        let threads: Vec<_> = connections.into_iter().map(|connection| scope.spawn(send(connection))).collect();
        let ended = || Trouble::lacking("a connection's thread");
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(ended()))).collect()
    });
    let took = begin.elapsed();
    let seen: Vec<_> = seen.into_iter().collect::<Outcome<Vec<_>>>()?.concat();
    let times = seen.iter().map(|(time, _, _)| *time).collect();
    Ok(Loaded::of(took, times, seen.iter().map(|(_, done, events)| (*done, *events)).collect()))
}

#[derive(Deserialize)]
struct Event<'a> {
    id: &'a str,
    time: &'a str,
    tenant: &'a str,
    #[serde(borrow)]
    actor: Named<'a>,
    action: &'a str,
    #[serde(borrow)]
    resource: Named<'a>,
    outcome: &'a str,
    source_ip: &'a str,
    session: &'a str,
    workflow: &'a str,
    integration: &'a str,
    release: &'a str,
    region: &'a str,
    trace_id: &'a str,
    #[serde(borrow)]
    attributes: &'a RawValue,
}

#[derive(Deserialize)]
struct Named<'a> {
    r#type: &'a str,
    id: &'a str,
}

/// Rows in COPY's text form: columns between tabs, backslashes doubled.
fn split(body: &[u8]) -> Outcome<Vec<u8>> {
    let mut rows = Vec::with_capacity(body.len());
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let e: Event<'_> = serde_json::from_slice(line).map_err(Trouble::unreadable("a reference event"))?;
        let who = [e.actor.r#type, e.actor.id];
        let what = [e.resource.r#type, e.resource.id, e.outcome];
        let rest = [e.source_ip, e.session, e.workflow, e.integration, e.release, e.region, e.trace_id];
        let columns = [&[e.id, e.time, e.tenant], &who[..], &[e.action], &what, &rest, &[e.attributes.get()]];
        for (at, column) in columns.concat().into_iter().enumerate() {
            if at > 0 {
                rows.push(b'\t');
            }
            // JSON text of one line holds no tab and no line end, and reference values hold neither.
            rows.extend(column.bytes().flat_map(|byte| [byte].into_iter().chain((byte == b'\\').then_some(byte))));
        }
        rows.push(b'\n');
    }
    Ok(rows)
}

/// Lines as one JSON array.
fn joined(body: &[u8]) -> Vec<u8> {
    let mut array = Vec::with_capacity(body.len() + 1);
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        array.push(if array.is_empty() { b'[' } else { b',' });
        array.extend_from_slice(line);
    }
    array.push(b']');
    array
}

/// The programs of the newest version that Debian's packages have installed.
fn installed() -> Option<PathBuf> {
    let versions = std::fs::read_dir(DEBIAN).ok()?.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    let number = |path: &PathBuf| path.iter().rev().nth(1).and_then(|name| name.to_str()?.parse::<u32>().ok());
    versions.filter(|path| path.join("initdb").is_file()).max_by_key(number)
}

/// Whom to be instead of root.
fn unprivileged() -> Option<(u32, u32)> {
    let number = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().ok().filter(|output| output.status.success())?;
        String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().ok()
    };
    if number(&["-u"]) != Some(0) {
        return None;
    }
    UNPRIVILEGED.iter().find_map(|name| Some((number(&["-u", name])?, number(&["-g", name])?)))
}

fn command(programs: &Path, name: &str, user: Option<(u32, u32)>, arguments: &[&str]) -> Command {
    let mut command = Command::new(programs.join(name));
    command.args(arguments);
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    command
}
