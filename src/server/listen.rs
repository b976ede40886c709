//! Connections: accepted up to a number, by TLS if asked, watched for slow peers, ended gracefully.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::settings::Timeouts;
use super::slow_writer::WriteTimeout;

/// Room for a request's headers; hyper answers 431 beyond it.
const HEADER_BYTES: usize = 64 << 10;
const HEADERS: usize = 100;
/// How long a client may go on sending a body that nobody reads.
const LINGER: Duration = Duration::from_secs(1);

/// A listening socket and what it takes to speak on its connections.
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) connections: usize,
    pub(super) timeouts: Timeouts,
}

/// Reads a certificate chain and its key.
pub(super) fn tls(cert: &Path, key: &Path) -> Result<TlsAcceptor> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .with_context(|| format!("{}: no PEM certificates", cert.display()))?;
    ensure!(!chain.is_empty(), "{}: no PEM certificates", cert.display());
    let private =
        PrivateKeyDer::from_pem_file(key).with_context(|| format!("{}: no PEM key", key.display()))?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .with_context(|| format!("{} and {}", cert.display(), key.display()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl Listener {
    /// Serves until `stop` is true, then lets running requests finish for as long as the drain timeout says. Returns
    /// whether all of them did.
    pub(super) async fn serve(self, router: Router, mut stop: watch::Receiver<bool>) -> bool {
        let Self { socket, tls, connections, timeouts } = self;
        let places = Arc::new(Semaphore::new(connections));
        let graceful = GracefulShutdown::new();
        loop {
            // Without a place the kernel's backlog holds who comes next.
            let place = tokio::select! {
                place = Arc::clone(&places).acquire_owned() => place,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let stream = tokio::select! {
                accepted = socket.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of file descriptors, or a peer that left: neither is a reason to spin or to stop.
                        tracing::warn!(%error, "a connection was not accepted");
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                },
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let (router, tls, timeouts) = (router.clone(), tls.clone(), timeouts.clone());
            let watcher = graceful.watcher();
            tokio::spawn(async move {
                let _place = place;
                connection(stream, tls, router, &timeouts, watcher).await;
            });
        }
        drop(socket);
        tokio::time::timeout(timeouts.drain, graceful.shutdown()).await.is_ok()
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    timeouts: &Timeouts,
    watcher: hyper_util::server::graceful::Watcher,
) {
    // Tokens are small, and each must leave at once.
    let _ = stream.set_nodelay(true);
    let (stream, rest) = match doubled(stream) {
        Ok(both) => both,
        Err(error) => return tracing::warn!(%error, "a connection was given up"),
    };
    match tls {
        None => speak(stream, router, timeouts, watcher).await,
        Some(acceptor) => match tokio::time::timeout(timeouts.header, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => speak(stream, router, timeouts, watcher).await,
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake timed out"),
        },
    }
    linger(rest).await;
}

/// A second handle to the same socket.
fn doubled(stream: TcpStream) -> std::io::Result<(TcpStream, TcpStream)> {
    let stream = stream.into_std()?;
    let rest = stream.try_clone()?;
    Ok((TcpStream::from_std(stream)?, TcpStream::from_std(rest)?))
}

/// A request may be refused before its body was read. Closing a socket with unread bytes resets the connection, and the
/// client would lose the refusal: what it still sends is read and dropped for a while.
async fn linger(mut rest: TcpStream) {
    let mut sink = vec![0; 16 << 10];
    let read = async { while rest.read(&mut sink).await.is_ok_and(|length| length > 0) {} };
    let _ = tokio::time::timeout(LINGER, read).await;
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    router: Router,
    timeouts: &Timeouts,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let io = TokioIo::new(WriteTimeout::new(stream, timeouts.write));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeouts.header)
        .max_buf_size(HEADER_BYTES)
        .max_headers(HEADERS)
        .serve_connection(io, TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "connection ended");
    }
}
