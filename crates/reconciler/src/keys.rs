//! Keys for MPI's SSH.

use aws_lc_rs::encoding::{AsBigEndian as _, EcPrivateKeyBin};
use aws_lc_rs::signature::{ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use trainerd_pipeline::{SshKey, SshKeySource};

/// New keys, each another one.
#[derive(Clone, Copy, Debug)]
pub struct RandomKeys;

impl SshKeySource for RandomKeys {
    fn generate(&self) -> Result<SshKey, String> {
        let failed = |_| "the system gave no random key".to_owned();
        let pair = EcdsaKeyPair::generate(&ECDSA_P521_SHA512_ASN1_SIGNING).map_err(failed)?;
        let scalar: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().map_err(failed)?;
        Ok(SshKey { scalar: scalar.as_ref().to_vec(), point: pair.public_key().as_ref().to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_valid_and_different() {
        let (one, other) = (RandomKeys.generate().unwrap(), RandomKeys.generate().unwrap());
        assert_eq!((one.scalar.len(), one.point.len(), one.point[0]), (66, 133, 4));
        assert_ne!(one, other);
    }
}
