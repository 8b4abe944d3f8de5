//! TLS of the servers, in Go's names and numbers.

use std::fmt;

use crate::go;

/// Cipher suites that Go knows, safe or not, by name.
const SUITES: [(&str, u16); 25] = [
    ("TLS_RSA_WITH_RC4_128_SHA", 0x0005),
    ("TLS_RSA_WITH_3DES_EDE_CBC_SHA", 0x000a),
    ("TLS_RSA_WITH_AES_128_CBC_SHA", 0x002f),
    ("TLS_RSA_WITH_AES_256_CBC_SHA", 0x0035),
    ("TLS_RSA_WITH_AES_128_CBC_SHA256", 0x003c),
    ("TLS_RSA_WITH_AES_128_GCM_SHA256", 0x009c),
    ("TLS_RSA_WITH_AES_256_GCM_SHA384", 0x009d),
    ("TLS_AES_128_GCM_SHA256", 0x1301),
    ("TLS_AES_256_GCM_SHA384", 0x1302),
    ("TLS_CHACHA20_POLY1305_SHA256", 0x1303),
    ("TLS_ECDHE_ECDSA_WITH_RC4_128_SHA", 0xc007),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", 0xc009),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", 0xc00a),
    ("TLS_ECDHE_RSA_WITH_RC4_128_SHA", 0xc011),
    ("TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", 0xc012),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", 0xc013),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", 0xc014),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", 0xc023),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", 0xc027),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", 0xc02b),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", 0xc02c),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", 0xc02f),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", 0xc030),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", 0xcca8),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", 0xcca9),
];

/// What servers offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// The least version, as in the protocol: 0x0303 is TLS 1.2. Zero for the library's.
    pub min_version: u16,
    /// Suites in order of preference; empty for the library's.
    pub cipher_suites: Vec<u16>,
    /// Protocols above TLS.
    pub next_protocols: Vec<String>,
    /// What was not understood.
    pub warnings: Vec<TlsWarning>,
}

/// A value that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsWarning {
    /// No version of TLS.
    Version(String),
    /// No cipher suite.
    CipherSuite(String),
}

impl fmt::Display for TlsWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => {
                write!(f, "TLS version {} is unknown; the default is used", go::quoted(version))
            }
            Self::CipherSuite(name) => write!(f, "cipher suite {} is unknown and ignored", go::quoted(name)),
        }
    }
}

impl TlsOptions {
    pub(super) fn of(version: &str, suites: &[String], protocols: Vec<String>) -> Self {
        let mut options = Self::default();
        options.min_version = match version {
            "1.0" => 0x0301,
            "1.1" => 0x0302,
            "1.2" => 0x0303,
            "1.3" => 0x0304,
            "" => 0,
            _ => {
                options.warnings.push(TlsWarning::Version(version.to_owned()));
                0
            }
        };
        for name in suites {
            match SUITES.iter().find(|(known, _)| known == name) {
                Some((_, number)) => options.cipher_suites.push(*number),
                None => options.warnings.push(TlsWarning::CipherSuite(name.clone())),
            }
        }
        // HTTP/2 is off unless asked for: its rapid resets (CVE-2023-44487) are cheap for an attacker.
        options.next_protocols = if protocols.is_empty() { vec!["http/1.1".to_owned()] } else { protocols };
        options
    }
}
