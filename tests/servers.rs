//! Real object-store servers on loopback: ministack (S3) and azurite (Azure Blob), each with one bucket or container.
//!
//! Started on a free port, stopped by process id. `PIPEROLL_TEST_PYTHON` names a Python with ministack,
//! `PIPEROLL_TEST_AZURITE` azurite's `blob/main.js`, which `node` runs; `./test` sets both. Without them the tests
//! say so and are skipped. This file is a module of two test binaries (`ledger-store` includes it by path), so it
//! uses the standard library alone. Not here: what is asked of the servers.
//!
//! Invariant: no server outlives its test, and none listens beyond loopback.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The bucket or container that each server is born with.
const NAME: &str = "ledgers";
/// What every emulator of Azure's storage calls its account, and its key: no secret.
const AZURE_ACCOUNT: &str = "devstoreaccount1";
const AZURE_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A running server.
pub struct Server {
    child: Child,
    /// `s3://ledgers` or `az://ledgers`.
    pub url: &'static str,
    /// What a program must find in its environment to reach it.
    pub environment: Vec<(&'static str, String)>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a server that speaks S3.
    pub fn s3() -> Option<Self> {
        let python = named("PIPEROLL_TEST_PYTHON")?;
        let has = Command::new(&python).args(["-c", "import ministack"]).stderr(Stdio::null()).status();
        if !has.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: the Python of PIPEROLL_TEST_PYTHON has no ministack; `./test` installs it");
            return None;
        }
        let at = free_port();
        let mut command = Command::new(python);
        command.args(["-m", "ministack.app"]).env("BIND_HOST", "127.0.0.1").env("SERVICES", "s3");
        command.env("GATEWAY_PORT", at.port().to_string()).env("LOG_LEVEL", "ERROR");
        command.env("IOT_MTLS_ENABLED", "false").env("SFTP_ENABLED", "false");
        let child = start(command, at);
        let environment = vec![
            ("AWS_ENDPOINT_URL", format!("http://{at}")),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_ACCESS_KEY_ID", "test".into()),
            ("AWS_SECRET_ACCESS_KEY", "test".into()),
            ("AWS_REGION", "us-east-1".into()),
        ];
        let server = Self { child, url: "s3://ledgers", environment };
        let answer = ask(at, &format!("PUT /{NAME} HTTP/1.1\r\nHost: {at}\r\nContent-Length: 0\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200"), "ministack made no bucket: {answer}");
        Some(server)
    }

    /// Starts a server that speaks Azure Blob.
    pub fn azure() -> Option<Self> {
        let script = named("PIPEROLL_TEST_AZURITE")?;
        let at = free_port();
        let mut command = Command::new("node");
        command.arg(&script).args(["--silent", "--skipApiVersionCheck", "--inMemoryPersistence"]);
        command.args(["--disableTelemetry", "--blobHost", "127.0.0.1", "--blobPort", &at.port().to_string()]);
        let child = start(command, at);
        let endpoint = format!("http://{at}/{AZURE_ACCOUNT}");
        let environment = vec![
            ("AZURE_STORAGE_ENDPOINT", endpoint.clone()),
            ("AZURE_ALLOW_HTTP", "true".into()),
            ("AZURE_STORAGE_ACCOUNT_NAME", AZURE_ACCOUNT.into()),
            ("AZURE_STORAGE_ACCOUNT_KEY", AZURE_KEY.into()),
        ];
        let server = Self { child, url: "az://ledgers", environment };
        let made =
            Command::new("node").args(["-e", MAKE_CONTAINER, &endpoint, AZURE_ACCOUNT, AZURE_KEY, NAME]).output();
        let made = made.unwrap();
        assert!(made.status.success(), "azurite made no container: {}", String::from_utf8_lossy(&made.stderr));
        Some(server)
    }

    /// The server's process, to be paused or killed.
    #[allow(dead_code, reason = "not each of the binaries that include this file asks")]
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }
}

/// Creates a container with a request signed by the account's key (Azure Storage, "Authorize with Shared Key").
const MAKE_CONTAINER: &str = r"
const [endpoint, account, key, name] = process.argv.slice(1);
const url = new URL(endpoint + '/' + name + '?restype=container');
const headers = {'x-ms-date': new Date().toUTCString(), 'x-ms-version': '2021-08-06', 'content-length': 0};
const signed = ['PUT', '', '', '', '', '', '', '', '', '', '', '', 'x-ms-date:' + headers['x-ms-date'],
    'x-ms-version:' + headers['x-ms-version'], '/' + account + url.pathname, 'restype:container'].join('\n');
const hmac = require('crypto').createHmac('sha256', Buffer.from(key, 'base64')).update(signed).digest('base64');
headers.authorization = 'SharedKey ' + account + ':' + hmac;
require('http').request(url, {method: 'PUT', headers}, answer => {
    answer.pipe(process.stderr);
    answer.on('end', () => process.exit(answer.statusCode === 201 ? 0 : 1));
}).end();
";

fn named(variable: &str) -> Option<OsString> {
    let found = std::env::var_os(variable);
    if found.is_none() {
        eprintln!("SKIPPED: {variable} is not set; `./test` sets it");
    }
    found
}

/// A port that is free now; somebody else may take it before the server does, which then fails the test loudly.
fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// Starts a server and waits until it answers.
fn start(mut command: Command, at: SocketAddr) -> Child {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begin = Instant::now();
    while ask(at, &format!("GET / HTTP/1.1\r\nHost: {at}\r\n")).is_empty() {
        let ended = child.try_wait().unwrap();
        if ended.is_some() || begin.elapsed() > Duration::from_secs(60) {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} does not answer at {at}; it ended with {ended:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child
}

/// Sends a request and reads the answer to its end; empty when nobody answers.
fn ask(at: SocketAddr, request: &str) -> String {
    let Ok(mut stream) = TcpStream::connect_timeout(&at, Duration::from_secs(5)) else { return String::new() };
    let mut answer = Vec::new();
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let _ = stream.write_all(format!("{request}Connection: close\r\n\r\n").as_bytes());
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
