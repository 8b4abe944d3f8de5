//! The folder in which the certificate is to be found.

use std::path::PathBuf;
use std::time::Duration;

use trainerd_serve::Certificates;
use trainerd_serve::certificates::CertificateError;

/// Looks for the certificate, the first wait between them and by how much each is longer: cert-controller's.
const MAX_ATTEMPTS: u32 = 10;
const INITIAL_BACKOFF: Duration = Duration::from_secs(1);

/// The folder of a certificate: `${TMPDIR:-/tmp}/k8s-webhook-server/serving-certs`.
#[derive(Clone, Debug)]
pub(crate) struct Mount {
    folder: PathBuf,
}

/// The certificate did not come.
#[derive(Debug, thiserror::Error)]
#[error("failed to find {}: the Secret has not been mounted", .0.display())]
pub(crate) struct NotMounted(PathBuf);

impl Mount {
    /// Below a folder for temporary files.
    pub(crate) fn below(temporary: &std::path::Path) -> Self {
        Self { folder: temporary.join("k8s-webhook-server").join("serving-certs") }
    }

    fn certificate(&self) -> PathBuf {
        self.folder.join("tls.crt")
    }

    /// Whether both files are there.
    pub(crate) fn is_there(&self) -> bool {
        let is_filled = |path: PathBuf| std::fs::metadata(path).is_ok_and(|file| file.len() > 0);
        is_filled(self.certificate()) && is_filled(self.folder.join("tls.key"))
    }

    /// What they hold, now and whenever they change.
    pub(crate) fn read(&self) -> Result<Certificates, CertificateError> {
        Certificates::from_files(self.certificate(), self.folder.join("tls.key"))
    }

    /// Waits until the kubelet has mounted what the Secret holds: ten looks, from one second on twice as far apart each
    /// time.
    pub(crate) async fn wait(&self) -> Result<(), NotMounted> {
        let mut wait = INITIAL_BACKOFF;
        for _ in 0..MAX_ATTEMPTS {
            if self.is_there() {
                return Ok(());
            }
            tracing::info!(path = %self.certificate().display(), "waiting for the certificate to be mounted");
            // Often, because a look costs nothing; the whole takes as long.
            for _ in 0..10 {
                tokio::time::sleep(wait / 10).await;
                if self.is_there() {
                    return Ok(());
                }
            }
            wait *= 2;
        }
        Err(NotMounted(self.certificate()))
    }
}
