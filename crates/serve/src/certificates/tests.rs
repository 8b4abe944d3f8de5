use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};

use super::*;

type Expected = fn(&CertificateError) -> bool;

const DAY: u64 = 24 * 3600;

/// A clock that is set by hand, in seconds.
fn clock() -> (Clock, Arc<AtomicU64>) {
    let seconds = Arc::new(AtomicU64::new(20_000 * DAY));
    let hand = Arc::clone(&seconds);
    let clock = move || SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.load(Ordering::Relaxed));
    (Arc::new(clock), hand)
}

/// A pair of PEM texts.
fn pair() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn write(directory: &Path, certificate: &str, key: &str) {
    fs::write(directory.join("tls.crt"), certificate).unwrap();
    fs::write(directory.join("tls.key"), key).unwrap();
}

fn open(directory: &Path, clock: Clock) -> Result<Certificates, CertificateError> {
    Certificates::from_files_by(directory.join("tls.crt"), directory.join("tls.key"), clock)
}

#[test]
fn a_self_signed_certificate_is_renewed_after_two_thirds_of_its_life() {
    let (clock, hand) = clock();
    let certificates = Certificates::self_signed_by(vec!["localhost".to_owned()], clock).unwrap();
    let first = certificates.fingerprint();
    assert_eq!(first.len(), 64);
    hand.fetch_add(60 * DAY - 1, Ordering::Relaxed);
    assert_eq!(certificates.fingerprint(), first);
    hand.fetch_add(1, Ordering::Relaxed);
    let second = certificates.fingerprint();
    assert_ne!(second, first);
    assert_eq!(certificates.clone().fingerprint(), second, "clones share it");
    hand.fetch_sub(3599, Ordering::Relaxed);
    assert_eq!(certificates.fingerprint(), second, "still valid");
    hand.fetch_sub(1, Ordering::Relaxed);
    assert_ne!(certificates.fingerprint(), second, "not valid yet");
}

#[test]
fn invalid_host_names_are_rejected() {
    let error = Certificates::self_signed(vec!["café".to_owned()]).unwrap_err();
    assert_eq!(error.to_string(), "failed to make a certificate for café");
}

#[test]
fn files_are_checked_once_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let (clock, hand) = clock();
    let (certificate, key) = pair();
    write(directory.path(), &certificate, &key);
    let certificates = open(directory.path(), clock).unwrap();
    let first = certificates.fingerprint();
    let (certificate, key) = pair();
    write(directory.path(), &certificate, &key);
    assert_eq!(certificates.fingerprint(), first, "not looked at yet");
    hand.fetch_add(1, Ordering::Relaxed);
    let second = certificates.fingerprint();
    assert_ne!(second, first);
    let (certificate, key) = pair();
    write(directory.path(), &certificate, &key);
    hand.fetch_sub(1000, Ordering::Relaxed);
    assert_ne!(certificates.fingerprint(), second, "a clock set back does not stop it");
}

#[test]
fn an_invalid_pair_keeps_the_previous_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let (clock, hand) = clock();
    let good = pair();
    let other = pair();
    write(directory.path(), &good.0, &good.1);
    let certificates = open(directory.path(), clock.clone()).unwrap();
    let first = certificates.fingerprint();
    let broken: [(&str, &str, Expected); 4] = [
        (&other.0, &good.1, |error| matches!(error, CertificateError::Pair { .. })),
        (
            &good.0,
            "",
            |error| matches!(error, CertificateError::Pem { path, .. } if path.ends_with("tls.key")),
        ),
        (
            "",
            &good.1,
            |error| matches!(error, CertificateError::Pem { path, .. } if path.ends_with("tls.crt")),
        ),
        ("junk", "junk", |error| matches!(error, CertificateError::Pem { .. })),
    ];
    for (certificate, key, expected) in broken {
        write(directory.path(), certificate, key);
        hand.fetch_add(1, Ordering::Relaxed);
        assert_eq!(certificates.fingerprint(), first);
        assert!(complaint(&certificates).is_some());
        let error = open(directory.path(), clock.clone()).unwrap_err();
        assert!(expected(&error), "{error:?}");
    }
    write(directory.path(), &good.0, &good.1);
    hand.fetch_add(1, Ordering::Relaxed);
    assert_eq!(certificates.fingerprint(), first);
    assert_eq!(complaint(&certificates), None, "what was mended may be complained of again");

    fs::remove_file(directory.path().join("tls.key")).unwrap();
    hand.fetch_add(1, Ordering::Relaxed);
    assert_eq!(certificates.fingerprint(), first);
    assert!(matches!(open(directory.path(), clock).unwrap_err(), CertificateError::Read { .. }));

    write(directory.path(), &other.0, &other.1);
    hand.fetch_add(1, Ordering::Relaxed);
    assert_ne!(certificates.fingerprint(), first);
    assert_eq!(complaint(&certificates), None);
}

fn complaint(certificates: &Certificates) -> Option<String> {
    certificates.0.state.lock().unwrap().complaint.clone()
}

#[test]
fn debug_output_contains_no_key() {
    let shown = format!("{:?}", Certificates::self_signed(vec!["localhost".to_owned()]).unwrap());
    assert!(shown.starts_with("Certificates { fingerprint: \""), "{shown}");
    assert!(shown.len() < 120, "{shown}");
}
