//! Whose certificate is taken on the way into a pod: the one whose fingerprint its daemon wrote down.
//!
//! The daemon makes its own certificate each time it starts, and no authority vouches for it. Neither its name nor its
//! time says more than that, so that nothing else is looked at.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{CertificateError, Error};
use trainerd_serve::certificates::judged;

/// TLS to the server whose certificate has this SHA-256, in lower-case hexadecimal.
pub(super) fn connector(fingerprint: String) -> Result<TlsConnector, Error> {
    let config = judged::client(move |shown| {
        if hex::encode(Sha256::digest(shown.certificate)) == fingerprint {
            Ok(())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    })?;
    Ok(TlsConnector::from(Arc::new(config.with_no_client_auth())))
}

#[cfg(test)]
mod tests {
    use axum::serve::Listener as _;
    use tokio::net::TcpStream;
    use tokio_rustls::rustls::pki_types::ServerName;
    use trainerd_serve::{Certificates, listen};

    use super::*;

    #[tokio::test]
    async fn only_the_recorded_certificate_is_trusted() {
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
