//! A certificate of our own making.

use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{CertificateError, Newer, Pair};

const DAY: Duration = Duration::from_hours(24);

/// How long a certificate is valid.
const LIFE: Duration = DAY.saturating_mul(90);

/// When the next one is made: after two thirds of that.
const RENEWAL: Duration = DAY.saturating_mul(60);

/// By how much the clock of a client may be late.
const SKEW: Duration = Duration::from_hours(1);

pub(super) struct SelfSigned {
    names: Vec<String>,
    made: SystemTime,
}

impl SelfSigned {
    pub(super) fn make(names: Vec<String>, now: SystemTime) -> Result<(Self, Pair), CertificateError> {
        let certificate = make(&names, now)?;
        Ok((Self { names, made: now }, certificate))
    }

    /// Another one when it is time. A clock that was set back makes the one in use invalid when it goes beyond what
    /// it was back-dated by; less than that is no reason to surprise those who pinned it.
    pub(super) fn newer(&mut self, now: SystemTime) -> Result<Newer, CertificateError> {
        let due = match now.duration_since(self.made) {
            Ok(age) => age >= RENEWAL,
            Err(before) => before.duration() >= SKEW,
        };
        if !due {
            return Ok(Newer::NotLooked);
        }
        let certificate = make(&self.names, now)?;
        self.made = now;
        Ok(Newer::New(certificate))
    }
}

fn make(names: &[String], now: SystemTime) -> Result<Pair, CertificateError> {
    let (certificate, key) =
        sign(names, now).map_err(|source| CertificateError::Make { names: names.to_vec(), source })?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Pair::new(vec![certificate.der().clone()], key)
}

fn sign(names: &[String], now: SystemTime) -> Result<(rcgen::Certificate, KeyPair), rcgen::Error> {
    // A clock before 1970 is no reason to fail; nobody accepts what it signs.
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "trainerd");
    params.not_before = epoch + now.saturating_sub(SKEW);
    params.not_after = epoch + now + LIFE;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    Ok((params.self_signed(&key)?, key))
}
