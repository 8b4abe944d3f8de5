//! Certificates of the webhook servers: one authority, one certificate a Service, made when first asked for.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::Error;

/// Gives each live Service its certificate. A name that is not live gets none, and the handshake fails: its
/// server does not run.
pub(super) struct Certificates {
    issuer: Issuer<'static, KeyPair>,
    bundle: String,
    live: Mutex<BTreeSet<String>>,
    issued: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl Certificates {
    pub(super) fn new() -> Result<Self, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "webhooks of the stand-in");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let bundle = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            bundle,
            live: Mutex::default(),
            issued: Mutex::default(),
        })
    }

    /// The authority's certificate as PEM: what goes, in base64, into `caBundle`.
    pub(super) fn bundle(&self) -> &str {
        &self.bundle
    }

    /// The DNS names that have a server behind them from now on.
    pub(super) fn set_live(&self, names: BTreeSet<String>) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// TLS that asks this for certificates.
    pub(super) fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, Error> {
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        Ok(Arc::new(config))
    }

    fn certificate(&self, name: &str) -> Result<Arc<CertifiedKey>, Error> {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(certificate) = issued.get(name) {
            return Ok(Arc::clone(certificate));
        }
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let private = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|text| rustls::Error::General(text.into()))?;
        let signing = aws_lc_rs::sign::any_supported_type(&private)?;
        let certified = Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signing));
        issued.insert(name.to_owned(), Arc::clone(&certified));
        Ok(certified)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?;
        if !self.live.lock().unwrap_or_else(PoisonError::into_inner).contains(name) {
            return None;
        }
        match self.certificate(name) {
            Ok(certificate) => Some(certificate),
            Err(error) => {
                tracing::warn!(%error, name, "no certificate");
                None
            }
        }
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}
