//! SSH keys of MPI's pods: ECDSA on P-521, as OpenSSH reads them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::{SshKey, SshKeySource};

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

/// The one key of renderings without a cluster, which must not differ from run to run. It is public, and no secret.
#[derive(Clone, Copy, Debug, Default)]
pub struct FixedSshKey;

/// In hexadecimal.
const FIXED_SCALAR: &str = "006bb2831a3b8c0a5d4669b9cf8e64028544a98b5e69cd906c5ccd13f3a48e83985371ad8659a49bbb06770c3a92f95500f0d90e905df2f8304070544914e23d5049";
const FIXED_POINT: &str = "0401527bfe08c850b28967ca7768a561387b8c7ce9ced424c968432c50cc5f452f50d6cbf7d2c5819958b48112dc6e53f5df3e46cea5216dc0d1a7178bab1bacee9f6a00713009b2230f4d70537219466574aba463c2b51a6a36f879efc2d349af1d1e0207e87b896eed2d7678b08bf683d4ffcb6ffa70835f2936bc81d8f1b0f033728909";

impl SshKeySource for FixedSshKey {
    fn generate(&self) -> Result<SshKey, String> {
        let bytes = |text: &str| -> Vec<u8> {
            let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)?.try_into().ok()).collect();
            digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect()
        };
        Ok(SshKey { scalar: bytes(FIXED_SCALAR), point: bytes(FIXED_POINT) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As OpenSSL and OpenSSH write the fixed key.
    #[test]
    fn ssh_keys_are_readable_by_ssh() {
        let key = FixedSshKey.generate().unwrap();
        let pem = private_pem(&key);
        assert!(pem.starts_with("-----BEGIN EC PRIVATE KEY-----\nMIHcAgEBBEIAa7KDGjuMCl1GabnPjmQChUSpi15pzZBsXM0T86SOg5hTca2GWaSb\nuwZ3DDqS+VUA8NkOkF3y+DBAcFRJFOI9UEmgBwYFK4EEACOhgYkDgYYABAFSe/4I\n"), "{pem}");
        assert!(
            pem.ends_with("e4lu7S12eLCL9oPU/8tv+nCDXyk2vIHY8bDwM3KJCQ==\n-----END EC PRIVATE KEY-----\n"),
            "{pem}"
        );
        assert_eq!(
            authorized_key(&key),
            "ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAFSe/4IyFCyiWfKd2ilYTh7jHzpztQkyWhDLFDMX0UvUNbL99LFgZlYtIES3G5T9d8+Rs6lIW3A0acXi6sbrO6fagBxMAmyIw9NcFNyGUZldKukY8K1Gmo2+HnvwtNJrx0eAgfoe4lu7S12eLCL9oPU/8tv+nCDXyk2vIHY8bDwM3KJCQ==\n"
        );
    }
}
