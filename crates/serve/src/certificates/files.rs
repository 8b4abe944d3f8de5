//! A certificate somebody else puts into files, and replaces there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use super::{CertificateError, Newer, Pair};

/// How often the files are looked at, at most.
const LOOK: Duration = Duration::from_secs(1);

pub(super) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    looked: SystemTime,
    /// Of what the files hold: times and sizes say nothing of a file that is replaced within a tick of its clock.
    digest: Contents,
}

type Contents = [u8; 32];

impl Files {
    pub(super) fn open(
        certificate: PathBuf,
        key: PathBuf,
        now: SystemTime,
    ) -> Result<(Self, Pair), CertificateError> {
        let mut files = Self { certificate, key, looked: now, digest: Contents::default() };
        let read = files.read()?;
        files.digest = read.digest();
        let pair = files.parse(&read)?;
        Ok((files, pair))
    }

    pub(super) fn newer(&mut self, now: SystemTime) -> Result<Newer, CertificateError> {
        // A clock that was set back is no reason to wait until it catches up.
        if now.duration_since(self.looked).is_ok_and(|since| since < LOOK) {
            return Ok(Newer::NotLooked);
        }
        self.looked = now;
        let read = self.read()?;
        let digest = read.digest();
        if digest == self.digest {
            return Ok(Newer::Same);
        }
        let pair = self.parse(&read)?;
        self.digest = digest;
        Ok(Newer::New(pair))
    }

    fn read(&self) -> Result<Read, CertificateError> {
        let file = |path: &Path| {
            fs::read(path).map_err(|source| CertificateError::Read { path: path.to_owned(), source })
        };
        Ok(Read { certificate: file(&self.certificate)?, key: file(&self.key)? })
    }

    fn parse(&self, read: &Read) -> Result<Pair, CertificateError> {
        let bad = |path: &Path| {
            let path = path.to_owned();
            move |source: pem::Error| CertificateError::Pem { path, source }
        };
        let chain = CertificateDer::pem_slice_iter(&read.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(bad(&self.certificate))?;
        if chain.is_empty() {
            return Err(bad(&self.certificate)(pem::Error::NoItemsFound));
        }
        let key = PrivateKeyDer::from_pem_slice(&read.key).map_err(bad(&self.key))?;
        Pair::new(chain, key)
    }
}

/// What the files hold.
struct Read {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Read {
    fn digest(&self) -> Contents {
        let mut hash = Sha256::new();
        hash.update(self.certificate.len().to_le_bytes());
        hash.update(&self.certificate);
        hash.update(&self.key);
        hash.finalize().into()
    }
}
