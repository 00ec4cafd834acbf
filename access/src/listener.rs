//! Where the service listens: plain on loopback, or TLS by rustls, with certificates of clients where they are asked for.
//!
//! Handshakes run beside each other, bounded in number and time, so that a slow one holds up nobody. Not here: what a
//! certificate's names stand for ([`crate::registry`]).
//!
//! Invariants: no byte of HTTP is read before a handshake is done; a client certificate that is presented is valid under
//! the authority that settings name, or the handshake fails; keys never leave this file but into rustls.

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Handshakes at the same time.
const HANDSHAKES: usize = 256;
/// How long one may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("{path} holds no {what} that can be read (PEM)")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// Why not.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// What was read does not fit together.
    #[error("the certificate, its key and the authority of clients do not fit together: {0}")]
    Unfit(String),
}

/// Which certificate the service shows, and which it asks for.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The chain, own certificate first (PEM).
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// The authority whose certificates clients may show instead of a key (PEM).
    pub clients: Option<PathBuf>,
}

/// Where a connection comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The names in its certificate, if it showed one: URIs (SPIFFE ids) first, then the subject.
    pub names: Arc<[String]>,
}

/// A listener that answers in the clear or by TLS.
pub struct Listener {
    address: SocketAddr,
    accepted: mpsc::Receiver<(Io, Peer)>,
}

/// A connection.
#[derive(Debug)]
pub enum Io {
    /// In the clear.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
}

impl TlsFiles {
    /// What rustls needs to know.
    ///
    /// # Errors
    /// A file cannot be read, or they do not fit together.
    fn config(&self) -> Result<ServerConfig, TlsError> {
        let unfit = |error: &dyn std::fmt::Display| TlsError::Unfit(error.to_string());
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key);
        let unreadable = |source| TlsError::Unreadable { path: self.key.clone(), what: "private key", source };
        let key = key.map_err(unreadable)?;
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(|e| unfit(&e))?;
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(path)? {
                    roots.add(authority).map_err(|e| unfit(&e))?;
                }
                // Who has a key needs no certificate; one that is shown must be valid.
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.allow_unauthenticated().build().map_err(|e| unfit(&e))?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|e| unfit(&e))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { path: path.into(), what: "certificate", source };
    let all = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let all = all.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if all.is_empty() { Err(unreadable(rustls_pki_types::pem::Error::NoItemsFound)) } else { Ok(all) }
}

impl Listener {
    /// Begins to accept connections.
    ///
    /// # Errors
    /// The files of TLS cannot be used.
    pub fn start(listener: TcpListener, tls: Option<&TlsFiles>) -> Result<Self, TlsError> {
        let address = listener.local_addr().map_err(|e| TlsError::Unfit(e.to_string()))?;
        let acceptor = tls.map(TlsFiles::config).transpose()?.map(|config| TlsAcceptor::from(Arc::new(config)));
        let (found, accepted) = mpsc::channel(HANDSHAKES);
        tokio::spawn(accept(listener, acceptor, found));
        Ok(Self { address, accepted })
    }
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, found: mpsc::Sender<(Io, Peer)>) {
    let room = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = found.closed() => return,
        };
        let Ok((stream, address)) = accepted else {
            // Out of descriptors, mostly: others end by and by.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Some(acceptor) = acceptor.clone() else {
            let peer = Peer { address, names: Arc::new([]) };
            if found.send((Io::Plain(stream), peer)).await.is_err() {
                return;
            }
            continue;
        };
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let found = found.clone();
        tokio::spawn(async move {
            let _place = place;
            // Whoever fails a handshake is told by TLS itself, and is nobody's to record: no name was proved.
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await {
                let names = names_of(&stream);
                let _ = found.send((Io::Tls(Box::new(stream)), Peer { address, names })).await;
            }
        });
    }
}

/// The names in a client's certificate, which the handshake found to be valid.
fn names_of(stream: &TlsStream<TcpStream>) -> Arc<[String]> {
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    shown.map(|certificate| names_in(certificate)).unwrap_or_default().into()
}

fn names_in(certificate: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let mut names = Vec::new();
    if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
        let uris = alternatives.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_string()),
            _ => None,
        });
        names.extend(uris);
    }
    let subject = certificate.subject().to_string();
    if !subject.is_empty() {
        names.push(subject);
    }
    names
}

impl axum::serve::Listener for Listener {
    type Io = Io;
    type Addr = Peer;

    async fn accept(&mut self) -> (Io, Peer) {
        match self.accepted.recv().await {
            Some(found) => found,
            // The task that accepts ended, which it does with this listener alone.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Peer> {
        Ok(Peer { address: self.address, names: Arc::new([]) })
    }
}

impl Connected<IncomingStream<'_, Listener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.remote_addr().clone()
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
