//! TLS of head and workers: what they show to clients, and how the head knows its workers.
//!
//! All pods of a group have the same files. So the head takes whoever shows the certificate that it has itself and has
//! its key, whatever the name of the pod; another certificate must be signed by the clients' authority and have the
//! worker's name.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{CertificateError, RootCertStore};
use tokio_rustls::TlsConnector;
use trainerd_serve::certificates::{CertificateError as FileError, judged};
use trainerd_serve::{Certificates, TlsSettings};

use crate::config;

/// The protocol of Flight.
const HTTP2: &[u8] = b"h2";

/// Files that TLS cannot be made of.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificate or its key.
    #[error("failed to use the certificate of TLS_CERT_FILE")]
    Certificate(#[from] FileError),
    /// The authority's file.
    #[error("failed to read the certificates of {path}")]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// No certificate in it, or one that is no authority's.
    #[error("failed to use the certificates of {path}")]
    Verifier {
        /// The file.
        path: PathBuf,
        /// Why.
        source: VerifierBuilderError,
    },
    /// The library.
    #[error("failed to set up TLS")]
    Library(#[from] rustls::Error),
}

/// TLS of one process. Certificate and key are read again when their files change, the authority is not.
#[derive(Clone, Debug)]
pub struct Tls {
    certificates: Certificates,
    authority: Option<(PathBuf, Arc<RootCertStore>)>,
}

impl Tls {
    /// Reads the files.
    pub fn open(files: &config::Tls) -> Result<Self, Error> {
        let certificates = Certificates::from_files(files.certificate.clone(), files.key.clone())?;
        let authority = files.client_authority.as_ref().map(|path| {
            let failed = |source| Error::Authority { path: path.clone(), source };
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(path).map_err(failed)? {
                roots.add(certificate.map_err(failed)?)?;
            }
            Ok::<_, Error>((path.clone(), Arc::new(roots)))
        });
        Ok(Self { certificates, authority: authority.transpose()? })
    }

    /// The certificate with its key.
    pub fn certificates(&self) -> Certificates {
        self.certificates.clone()
    }

    /// What the Flight port offers.
    pub fn settings(&self) -> Result<TlsSettings, Error> {
        let clients = self.authority.as_ref().map(|(path, roots)| {
            let provider = Arc::new(aws_lc_rs::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider).build();
            verifier.map_err(|source| Error::Verifier { path: path.clone(), source })
        });
        let clients = clients.transpose()?;
        Ok(TlsSettings { protocols: vec![HTTP2.to_vec()], clients, ..TlsSettings::default() })
    }

    /// How the head reaches its workers.
    pub fn connector(&self) -> Result<TlsConnector, Error> {
        let signed = self.authority.as_ref().map(|(path, roots)| {
            let provider = Arc::new(aws_lc_rs::default_provider());
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), provider).build();
            verifier.map_err(|source| Error::Verifier { path: path.clone(), source })
        });
        let signed = signed.transpose()?;
        let own = self.certificates.clone();
        let config = judged::client(move |shown| {
            let judged::Shown { certificate, intermediates, name, ocsp_response, now } = *shown;
            if *certificate == own.leaf() {
                return Ok(());
            }
            match &signed {
                Some(signed) => signed
                    .verify_server_cert(certificate, intermediates, name, ocsp_response, now)
                    .map(|_| ()),
                None => Err(CertificateError::UnknownIssuer.into()),
            }
        })?;
        let mut config = match self.authority {
            Some(_) => config.with_client_cert_resolver(Arc::new(self.certificates.clone())),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![HTTP2.to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }
}
