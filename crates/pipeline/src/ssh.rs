//! SSH keys of MPI's pods: ECDSA on P-521, as OpenSSH reads them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::SshKey;

/// Key of the Secret: the private key, as Kubernetes' type `kubernetes.io/ssh-auth` names it.
pub(crate) const PRIVATE_KEY: &str = "ssh-privatekey";
/// Key of the Secret: the public key.
pub(crate) const PUBLIC_KEY: &str = "ssh-publickey";

/// The curve's object identifier, 1.3.132.0.35, in DER.
const P521: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];

/// The private key as PEM of SEC 1 (RFC 5915).
pub(crate) fn private_pem(key: &SshKey) -> String {
    let mut point = vec![0];
    point.extend(&key.point);
    let fields = [der(0x02, &[1]), der(0x04, &key.scalar), der(0xa0, &P521), der(0xa1, &der(0x03, &point))];
    let text = STANDARD.encode(der(0x30, &fields.concat()));
    let mut pem = "-----BEGIN EC PRIVATE KEY-----\n".to_owned();
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|&byte| char::from(byte)));
        pem.push('\n');
    }
    pem.push_str("-----END EC PRIVATE KEY-----\n");
    pem
}

/// A value with its tag and length; values here are shorter than 64 KiB.
fn der(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        Ok(byte) => out.extend([0x81, byte]),
        Err(_) => {
            out.push(0x82);
            out.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    out.extend(value);
    out
}

/// The public key as a line of `authorized_keys` (RFC 5656).
pub(crate) fn authorized_key(key: &SshKey) -> String {
    let mut blob = Vec::new();
    for part in [&b"ecdsa-sha2-nistp521"[..], b"nistp521", &key.point] {
        blob.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        blob.extend(part);
    }
    format!("ecdsa-sha2-nistp521 {}\n", STANDARD.encode(blob))
}
