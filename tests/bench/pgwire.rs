//! A PostgreSQL client of the least kind: simple queries, COPY from memory, one prepared statement with one parameter.
//! It is small so that the client's own cost does not weigh on what is measured.
//!
//! Not here: what is sent (`postgres`). The protocol is version 3, as PostgreSQL's manual describes it; nobody is asked
//! for a password, since the cluster is the benchmark's own and trusts the loopback address.
//!
//! Invariant: after each call the server has said that it is ready for the next, or the call was an error.

use std::io::{BufReader, Read as _, Write as _};
use std::net::TcpStream;

use crate::trouble::{Outcome, Trouble};

/// The superuser that the benchmark's cluster has, and the database that every cluster has.
pub const USER: &str = "bench";
const DATABASE: &str = "postgres";
/// Version 3.0 of the protocol.
const PROTOCOL: i32 = 3 << 16;

/// A connection to the benchmark's own server.
pub struct Connection {
    input: BufReader<TcpStream>,
    output: TcpStream,
    message: Vec<u8>,
}

impl Connection {
    /// Connects, and waits until the server is ready.
    pub fn open(port: u16) -> Outcome<Self> {
        let doing = || Trouble::machine("connecting to postgres");
        let output = TcpStream::connect(("127.0.0.1", port)).map_err(doing())?;
        output.set_nodelay(true).map_err(doing())?;
        let input = BufReader::new(output.try_clone().map_err(doing())?);
        let mut connection = Self { input, output, message: Vec::new() };
        let mut startup = PROTOCOL.to_be_bytes().to_vec();
        for text in ["user", USER, "database", DATABASE, ""] {
            startup.extend_from_slice(text.as_bytes());
            startup.push(0);
        }
        connection.message.extend_from_slice(&length(startup.len()));
        connection.message.extend_from_slice(&startup);
        connection.send()?;
        connection.until_ready()?;
        Ok(connection)
    }

    /// Runs SQL that answers no rows, or whose rows do not matter; gives the last command's tag, like `COPY 1000`.
    pub fn run(&mut self, sql: &str) -> Outcome<String> {
        self.put(b'Q', &[sql.as_bytes(), b"\0"]);
        self.send()?;
        self.until_ready()
    }

    /// Runs `COPY … FROM STDIN` with these rows, in one transaction. All is sent in one piece, without waiting for the
    /// server to ask for rows.
    pub fn copy(&mut self, sql: &str, rows: &[u8]) -> Outcome<String> {
        self.put(b'Q', &[sql.as_bytes(), b"\0"]);
        self.put(b'd', &[rows]);
        self.put(b'c', &[]);
        self.send()?;
        self.until_ready()
    }

    /// Prepares the statement that [`Connection::execute`] executes.
    pub fn prepare(&mut self, sql: &str) -> Outcome<()> {
        self.put(b'P', &[b"one\0", sql.as_bytes(), b"\0", &0_i16.to_be_bytes()]);
        self.put(b'S', &[]);
        self.send()?;
        self.until_ready().map(drop)
    }

    /// Executes the prepared statement with one text parameter, in one transaction.
    pub fn execute(&mut self, parameter: &[u8]) -> Outcome<String> {
        let (none, one) = (0_i16.to_be_bytes(), 1_i16.to_be_bytes());
        let bytes = (parameter.len() as i32).to_be_bytes();
        self.put(b'B', &[b"\0one\0", &none, &one, &bytes, parameter, &none]);
        self.put(b'E', &[b"\0", &0_i32.to_be_bytes()]);
        self.put(b'S', &[]);
        self.send()?;
        self.until_ready()
    }

    fn put(&mut self, kind: u8, pieces: &[&[u8]]) {
        self.message.push(kind);
        self.message.extend_from_slice(&length(pieces.iter().map(|piece| piece.len()).sum()));
        for piece in pieces {
            self.message.extend_from_slice(piece);
        }
    }

    fn send(&mut self) -> Outcome<()> {
        self.output.write_all(&self.message).map_err(Trouble::machine("writing to postgres"))?;
        self.message.clear();
        Ok(())
    }

    /// Reads answers until the server is ready; the last tag, or the first error.
    fn until_ready(&mut self) -> Outcome<String> {
        let (mut tag, mut error) = (String::new(), None);
        loop {
            let mut head = [0; 5];
            self.input.read_exact(&mut head).map_err(Trouble::machine("reading from postgres"))?;
            let bytes = i32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            let mut body = vec![0; usize::try_from(bytes - 4).map_err(|_| Trouble::lacking("postgres's answer"))?];
            self.input.read_exact(&mut body).map_err(Trouble::machine("reading from postgres"))?;
            match head[0] {
                b'C' => tag = String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap_or(&body)).into_owned(),
                b'E' if error.is_none() => error = Some(message_of(&body)),
                // Asked for a password: this is not the cluster that the benchmark made.
                b'R' if body != 0_i32.to_be_bytes() => return Err(Trouble::wrong("postgres", "trust", "a password")),
                b'Z' => break,
                _ => {}
            }
        }
        error.map_or(Ok(tag), |said| Err(Trouble::wrong("postgres's answer", "success", said)))
    }
}

/// A message's length, itself included.
fn length(bytes: usize) -> [u8; 4] {
    (bytes as i32 + 4).to_be_bytes()
}

/// What an error says: its field `M`.
fn message_of(body: &[u8]) -> String {
    let said = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"M"));
    String::from_utf8_lossy(said.unwrap_or_default()).into_owned()
}
