//! Making certificates as cert-controller does, so that either implementation can take over from the other.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, SerialNumber,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::asn1_rs::{Any, FromDer as _, Integer, OctetString, Sequence};

/// Name of the authority.
pub(super) const AUTHORITY: &str = "kubeflow-trainer-ca";
const ORGANISATION: &str = "kubeflow-trainer";

const DAY: Duration = Duration::from_hours(24);
/// How long an authority is valid.
const AUTHORITY_LIFE: Duration = DAY.saturating_mul(10 * 365);
/// How long a server's certificate is valid.
const SERVER_LIFE: Duration = DAY.saturating_mul(365);
/// By how much the clock of a client may be late.
const SKEW: Duration = Duration::from_hours(1);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    /// The key or the certificate cannot be made.
    #[error("failed to make a certificate")]
    Make(#[from] rcgen::Error),
    /// The authority in the Secret cannot sign.
    #[error("failed to read the authority's key")]
    Key(#[source] rustls::pki_types::pem::Error),
    /// A key of our own making is not what it should be.
    #[error("failed to write a key as PKCS#1")]
    Pkcs1,
}

/// A certificate with its key, as PEM: `CERTIFICATE` and `RSA PRIVATE KEY`, which is all that cert-controller reads.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PemPair {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// A new authority.
pub(super) fn authority(now: SystemTime) -> Result<PemPair, IssueError> {
    let mut params = params(AUTHORITY, now, AUTHORITY_LIFE)?;
    params.serial_number = Some(SerialNumber::from(0));
    params.distinguished_name.push(DnType::OrganizationName, ORGANISATION);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyCertSign,
    ];
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256)?;
    let certificate = params.self_signed(&key)?;
    pair(certificate.der(), &key)
}

/// A new certificate for a server of that name, signed by an authority.
pub(super) fn server(authority: &PemPair, name: &str, now: SystemTime) -> Result<PemPair, IssueError> {
    let key = PrivateKeyDer::from_pem_slice(authority.key.as_bytes()).map_err(IssueError::Key)?;
    let key = KeyPair::from_der_and_sign_algo(&key, &PKCS_RSA_SHA256)?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, key)?;
    let mut params = params(name, now, SERVER_LIFE)?;
    params.serial_number = Some(SerialNumber::from(1));
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256)?;
    let certificate = params.signed_by(&key, &issuer)?;
    pair(certificate.der(), &key)
}

fn params(name: &str, now: SystemTime, life: Duration) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (now - SKEW).into();
    params.not_after = (now + life).into();
    Ok(params)
}

fn pair(certificate: &[u8], key: &KeyPair) -> Result<PemPair, IssueError> {
    let encode = |tag: &str, der: Vec<u8>| {
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        pem::encode_config(&pem::Pem::new(tag, der), config)
    };
    Ok(PemPair {
        certificate: encode("CERTIFICATE", certificate.to_vec()),
        key: encode("RSA PRIVATE KEY", pkcs1(key.serialized_der()).ok_or(IssueError::Pkcs1)?),
    })
}

/// The PKCS#1 key in a PKCS#8 one: the octet string after the version and the algorithm (RFC 5208, 5).
fn pkcs1(pkcs8: &[u8]) -> Option<Vec<u8>> {
    let (_, info) = Sequence::from_der(pkcs8).ok()?;
    let (rest, _) = Integer::from_der(&info.content).ok()?;
    let (rest, _) = Any::from_der(rest).ok()?;
    let (_, key) = OctetString::from_der(rest).ok()?;
    Some(key.as_ref().to_vec())
}
