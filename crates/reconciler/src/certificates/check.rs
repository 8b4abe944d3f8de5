//! Whether certificates are good for long enough: a pure decision, apart from the clock it is given.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::authority::{AUTHORITY, PemPair};

/// How long a certificate must still be good for.
const RENEW_BEFORE: Duration = Duration::from_hours(90 * 24);

/// What a Secret's certificates are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Both are good.
    Good,
    /// The server's is to be replaced.
    ReplaceServer,
    /// The authority is to be replaced, and with it the server's.
    ReplaceBoth,
}

/// Judges an authority and what it signed for `name`.
pub(super) fn judge(authority: &PemPair, server: &PemPair, name: &str, now: SystemTime) -> Verdict {
    let at = now + RENEW_BEFORE;
    if !is_valid_authority(authority, at) {
        Verdict::ReplaceBoth
    } else if is_valid_server(authority, server, name, at) {
        Verdict::Good
    } else {
        Verdict::ReplaceServer
    }
}

fn is_valid_authority(authority: &PemPair, at: SystemTime) -> bool {
    let Some(der) = certificate(authority) else { return false };
    // cert-controller reads RSA keys in PKCS#1 only: with any other it would not come up.
    if !authority.key.contains("RSA PRIVATE KEY") || !match_each_other(&der, authority) {
        return false;
    }
    let Ok((_, parsed)) = X509Certificate::from_der(&der) else { return false };
    let is_named = parsed.subject_alternative_name().ok().flatten().is_some_and(|names| {
        names.value.general_names.iter().any(|name| matches!(name, GeneralName::DNSName(AUTHORITY)))
    });
    is_named && parsed.is_ca() && is_within(&parsed, at)
}

fn is_valid_server(authority: &PemPair, server: &PemPair, name: &str, at: SystemTime) -> bool {
    let (Some(root), Some(der)) = (certificate(authority), certificate(server)) else { return false };
    if !server.key.contains("RSA PRIVATE KEY") || !match_each_other(&der, server) {
        return false;
    }
    let mut roots = RootCertStore::empty();
    let Ok(name) = ServerName::try_from(name.to_owned()) else { return false };
    if roots.add(root).is_err() {
        return false;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build() else {
        return false;
    };
    let at = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap_or_default());
    verifier.verify_server_cert(&der, &[], &name, &[], at).is_ok()
}

fn certificate(pair: &PemPair) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pair.certificate.as_bytes()).ok()
}

fn match_each_other(certificate: &CertificateDer<'static>, pair: &PemPair) -> bool {
    let Ok(key) = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()) else { return false };
    CertifiedKey::from_der(vec![certificate.clone()], key, &aws_lc_rs::default_provider()).is_ok()
}

fn is_within(certificate: &X509Certificate<'_>, at: SystemTime) -> bool {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let validity = certificate.validity();
    i64::try_from(seconds)
        .is_ok_and(|at| validity.not_before.timestamp() <= at && at <= validity.not_after.timestamp())
}

#[cfg(test)]
mod tests {
    use super::super::authority::{authority, server};
    use super::*;

    const NAME: &str = "kubeflow-trainer-controller-manager.kubeflow-system.svc";
    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn certificates_are_renewed_ninety_days_before_expiry() {
        let now = SystemTime::now();
        let ours = authority(now).unwrap();
        let servers = server(&ours, NAME, now).unwrap();
        let later = |days: u32| judge(&ours, &servers, NAME, now + DAY * days);
        assert_eq!(later(0), Verdict::Good);
        assert_eq!(later(274), Verdict::Good);
        assert_eq!(later(276), Verdict::ReplaceServer);
        assert_eq!(later(3559), Verdict::ReplaceServer);
        assert_eq!(later(3561), Verdict::ReplaceBoth);
    }

    #[test]
    fn mismatched_certificates_are_replaced() {
        let now = SystemTime::now();
        let (ours, theirs) = (authority(now).unwrap(), authority(now).unwrap());
        let servers = server(&ours, NAME, now).unwrap();
        let empty = PemPair { certificate: String::new(), key: String::new() };
        let mixed = PemPair { certificate: ours.certificate.clone(), key: theirs.key.clone() };
        let cases = [
            ("empty", judge(&empty, &empty, NAME, now), Verdict::ReplaceBoth),
            ("no server", judge(&ours, &empty, NAME, now), Verdict::ReplaceServer),
            ("another authority", judge(&theirs, &servers, NAME, now), Verdict::ReplaceServer),
            ("another's key", judge(&mixed, &servers, NAME, now), Verdict::ReplaceBoth),
            ("another name", judge(&ours, &servers, "other.ns.svc", now), Verdict::ReplaceServer),
            ("no authority", judge(&servers, &servers, NAME, now), Verdict::ReplaceBoth),
        ];
        for (what, verdict, expected) in cases {
            assert_eq!(verdict, expected, "{what}");
        }
    }

    /// As cert-controller makes them: what it would not read, it would replace.
    #[test]
    fn certificates_have_the_fields_of_cert_controller() {
        let now = SystemTime::now();
        let ours = authority(now).unwrap();
        let servers = server(&ours, NAME, now).unwrap();
        for pair in [&ours, &servers] {
            assert!(pair.certificate.starts_with("-----BEGIN CERTIFICATE-----\n"), "{}", pair.certificate);
            assert!(pair.key.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            assert!(matches!(key, PrivateKeyDer::Pkcs1(_)));
        }
        let der = certificate(&ours).unwrap();
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        assert_eq!(parsed.subject().to_string(), "CN=kubeflow-trainer-ca, O=kubeflow-trainer");
        assert_eq!(parsed.raw_serial(), [0]);
        let der = certificate(&servers).unwrap();
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        assert_eq!(parsed.subject().to_string(), format!("CN={NAME}"));
        assert_eq!(parsed.raw_serial(), [1]);
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names, [GeneralName::DNSName(NAME)]);
        assert!(parsed.extended_key_usage().unwrap().unwrap().value.server_auth);
    }
}
