//! Certificates that renew themselves.
//!
//! Nothing runs in the background: whether there is something newer is looked at when a handshake begins, or
//! somebody asks for the fingerprint.

mod files;
pub mod judged;
mod self_signed;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ServerConfig, SignatureScheme};
use sha2::{Digest, Sha256};

use files::Files;
use self_signed::SelfSigned;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// What a TLS port offers.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// TLS 1.3 and nothing before it.
    pub only_tls13: bool,
    /// Cipher suites of TLS 1.2; empty for all that are known to be safe. Those of TLS 1.3 are not chosen.
    pub cipher_suites: Vec<CipherSuite>,
    /// Protocols that ALPN offers.
    pub protocols: Vec<Vec<u8>>,
    /// Who says which certificates clients must show; they need none where absent.
    pub clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl Default for TlsSettings {
    /// TLS 1.2 and 1.3, every safe suite, HTTP/1.1.
    fn default() -> Self {
        Self {
            only_tls13: false,
            cipher_suites: Vec::new(),
            protocols: vec![b"http/1.1".to_vec()],
            clients: None,
        }
    }
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A certificate for these names cannot be made.
    #[error("failed to make a certificate for {}", .names.join(", "))]
    Make {
        /// The names.
        names: Vec<String>,
        /// What went wrong.
        #[source]
        source: rcgen::Error,
    },
    /// A file cannot be read.
    #[error("failed to read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file is no PEM, or has nothing of what it should hold.
    #[error("failed to find PEM in {}", .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The key is of no known type, or does not belong to the certificate.
    #[error("failed to use a certificate with its key")]
    Pair {
        /// What is wrong with them.
        #[source]
        source: rustls::Error,
    },
}

/// What a server shows of itself: a certificate chain with its key, always the newest there is.
///
/// Clones share it.
#[derive(Clone)]
pub struct Certificates(Arc<Inner>);

struct Inner {
    clock: Clock,
    state: Mutex<State>,
}

struct State {
    current: Pair,
    source: Source,
    /// The last complaint, so that it is not repeated with every handshake.
    complaint: Option<String>,
    reads: Reads,
}

/// How often there was a certificate to take into use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reads {
    /// Certificates that were taken into use, the first among them.
    pub read: u64,
    /// Looks that failed, so that the one before stayed in use.
    pub failed: u64,
}

/// Where the next certificate comes from.
enum Source {
    SelfSigned(SelfSigned),
    Files(Files),
}

impl Certificates {
    /// A self-signed certificate for these DNS names and IP addresses, whose key never leaves memory: ECDSA P-256,
    /// valid for 90 days and, for clocks that are late, since an hour ago. After 60 days the next one is made.
    pub fn self_signed(names: Vec<String>) -> Result<Self, CertificateError> {
        Self::self_signed_by(names, Arc::new(SystemTime::now))
    }

    /// [`Self::self_signed`] by another clock.
    pub fn self_signed_by(names: Vec<String>, clock: Clock) -> Result<Self, CertificateError> {
        let (source, current) = SelfSigned::make(names, clock())?;
        Ok(Self::new(Source::SelfSigned(source), current, clock))
    }

    /// The chain, leaf first, and the key in these PEM files.
    ///
    /// They are read again on a handshake, once a second at most, so that a new pair is used within a second of
    /// being there. A pair that is broken, or of which only half has arrived, is reported as a warning, once, and the
    /// one before it stays in use.
    pub fn from_files(certificate: PathBuf, key: PathBuf) -> Result<Self, CertificateError> {
        Self::from_files_by(certificate, key, Arc::new(SystemTime::now))
    }

    /// [`Self::from_files`] by another clock.
    pub fn from_files_by(certificate: PathBuf, key: PathBuf, clock: Clock) -> Result<Self, CertificateError> {
        let (source, current) = Files::open(certificate, key, clock())?;
        Ok(Self::new(Source::Files(source), current, clock))
    }

    fn new(source: Source, current: Pair, clock: Clock) -> Self {
        let state = State { current, source, complaint: None, reads: Reads { read: 1, failed: 0 } };
        Self(Arc::new(Inner { clock, state: Mutex::new(state) }))
    }

    /// SHA-256 of the current leaf, in lower-case hexadecimal: what a client may pin.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.current().leaf)
    }

    /// The current leaf in DER. A self-signed one is its own authority.
    pub fn leaf(&self) -> CertificateDer<'static> {
        self.current().leaf
    }

    /// How often there was one to take into use so far.
    pub fn reads(&self) -> Reads {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).reads
    }

    /// The newest certificate. Reading files or making a key takes less than a handshake does.
    fn current(&self) -> Pair {
        let now = (self.0.clock)();
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.refresh(now);
        state.current.clone()
    }

    /// TLS that shows the newest certificate at every handshake: sessions are not resumed, which also saves the memory
    /// to remember them.
    pub(crate) fn server_config(&self, settings: &TlsSettings) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut provider = aws_lc_rs::default_provider();
        if !settings.cipher_suites.is_empty() {
            // As in Go, only TLS 1.2 has suites to choose from.
            provider
                .cipher_suites
                .retain(|suite| suite.version() == &TLS13 || settings.cipher_suites.contains(&suite.suite()));
        }
        let versions: &[_] = if settings.only_tls13 { &[&TLS13] } else { &[&TLS13, &TLS12] };
        let config =
            ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions)?;
        let config = match &settings.clients {
            Some(verifier) => config.with_client_cert_verifier(Arc::clone(verifier)),
            None => config.with_no_client_auth(),
        };
        let mut config = config.with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols.clone_from(&settings.protocols);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

impl State {
    fn refresh(&mut self, now: SystemTime) {
        let newer = match &mut self.source {
            Source::SelfSigned(source) => source.newer(now),
            Source::Files(source) => source.newer(now),
        };
        match newer {
            Ok(Newer::NotLooked) => {}
            Ok(Newer::Same) => self.complaint = None,
            Ok(Newer::New(certificate)) => {
                self.current = certificate;
                self.complaint = None;
                self.reads.read += 1;
                tracing::info!(fingerprint = fingerprint(&self.current.leaf), "a new certificate is in use");
            }
            Err(error) => {
                self.reads.failed += 1;
                let complaint = format!("{error:?}");
                if self.complaint.as_ref() != Some(&complaint) {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "failed to renew the certificate, the old one stays in use");
                    self.complaint = Some(complaint);
                }
            }
        }
    }
}

/// A chain with the key of its leaf.
#[derive(Clone)]
struct Pair {
    certified: Arc<CertifiedKey>,
    leaf: CertificateDer<'static>,
}

impl Pair {
    /// They must belong together.
    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, CertificateError> {
        let leaf = chain.first().cloned().ok_or(rustls::Error::NoCertificatesPresented);
        leaf.and_then(|leaf| {
            let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?;
            Ok(Self { certified: Arc::new(certified), leaf })
        })
        .map_err(|source| CertificateError::Pair { source })
    }
}

/// What a look at the source shows.
enum Newer {
    /// It was not time to look.
    NotLooked,
    /// What is in use is what is there.
    Same,
    /// There is another.
    New(Pair),
}

fn fingerprint(leaf: &CertificateDer<'_>) -> String {
    hex::encode(Sha256::digest(leaf))
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current().certified)
    }
}

impl ResolvesClientCert for Certificates {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current().certified)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fingerprint = fingerprint(&state.current.leaf);
        f.debug_struct("Certificates").field("fingerprint", &fingerprint).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
