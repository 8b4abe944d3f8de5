//! Certificates of the Flight port.

use std::path::PathBuf;

use super::{Error, Lookup};

/// Files of TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who signs the certificates that clients must show; they show none where absent.
    pub client_authority: Option<PathBuf>,
}

impl Tls {
    pub(super) fn read(lookup: Lookup<'_>) -> Result<Option<Self>, Error> {
        let file = |name: &str| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let (certificate, key, authority) = ("TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE");
        match (file(certificate), file(key), file(authority)) {
            (Some(certificate), Some(key), client_authority) => {
                Ok(Some(Self { certificate, key, client_authority }))
            }
            (Some(_), None, _) => Err(Error::Alone { name: certificate, needed: key }),
            (None, Some(_), _) => Err(Error::Alone { name: key, needed: certificate }),
            (None, None, Some(_)) => Err(Error::Alone { name: authority, needed: certificate }),
            (None, None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_without_its_key_is_named() {
        let read = |names: &[&str]| {
            let lookup = |name: &str| names.contains(&name).then(|| "/f".to_owned());
            Tls::read(&lookup).map_err(|error| error.to_string())
        };
        assert_eq!(read(&[]), Ok(None));
        assert!(read(&["TLS_CERT_FILE", "TLS_KEY_FILE"]).is_ok_and(|tls| tls.is_some()));
        assert_eq!(read(&["TLS_CERT_FILE"]), Err("TLS_CERT_FILE is set, but TLS_KEY_FILE is not".into()));
        assert_eq!(
            read(&["TLS_CLIENT_CA_FILE"]),
            Err("TLS_CLIENT_CA_FILE is set, but TLS_CERT_FILE is not".into())
        );
    }
}
