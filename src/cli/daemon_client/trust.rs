//! Whose certificate is taken on the way into a pod: the one whose fingerprint its daemon wrote down.
//!
//! The daemon makes its own certificate each time it starts, and no authority vouches for it. Neither its name nor its
//! time says more than that, so that nothing else is looked at.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

/// TLS to whoever shows the certificate with this SHA-256, in lower-case hexadecimal.
pub(super) fn connector(fingerprint: String) -> Result<TlsConnector, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { fingerprint, provider }))
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Takes the one certificate, whose key the other end has.
#[derive(Debug)]
struct Pinned {
    fingerprint: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if hex::encode(Sha256::digest(shown)) == self.fingerprint {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use axum::serve::Listener as _;
    use tokio::net::TcpStream;
    use trainerd_serve::{Certificates, listen};

    use super::*;

    #[tokio::test]
    async fn only_the_certificate_that_was_written_down_is_taken() {
        let own = Certificates::self_signed(vec!["localhost".to_owned()]).unwrap();
        let other = Certificates::self_signed(vec!["localhost".to_owned()]).unwrap();
        let mut listener = listen::tls("127.0.0.1:0".parse().unwrap(), own.clone()).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                drop(listener.accept().await);
            }
        });
        for (pinned, is_taken) in
            [(own.fingerprint(), true), (other.fingerprint(), false), (String::new(), false)]
        {
            let stream = TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let shaken = connector(pinned.clone()).unwrap().connect(name, stream).await;
            assert_eq!(shaken.is_ok(), is_taken, "{pinned}");
        }
    }
}
