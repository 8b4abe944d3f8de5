//! Credentials of S3 where no variable names any: the identity that the machine may have, or an error that says what is
//! missing.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key, AwsCredential, AwsCredentialProvider};

/// Neither variables nor the machine have credentials.
#[derive(Debug, thiserror::Error)]
#[error(
    "S3 needs credentials, and none are set: {missing}; the instance metadata service gave none either. Set \
     AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, give the pod an identity, or set AWS_SKIP_SIGNATURE=true if the \
     bucket is public"
)]
pub(super) struct MissingCredentials {
    missing: String,
    source: object_store::Error,
}

/// The variables that would be used before the machine's identity and are not set; nothing where some are, or none are
/// needed.
fn missing(builder: &AmazonS3Builder) -> Option<String> {
    let has = |key: &Key| builder.get_config_value(key).is_some_and(|value| !value.is_empty());
    let is_true = |key| builder.get_config_value(&key).is_some_and(|value| value == "true");
    if is_true(Key::SkipSignature) || has(&Key::AccessKeyId) || has(&Key::SecretAccessKey) {
        return None;
    }
    let ways = [
        (
            "keys",
            &[(Key::AccessKeyId, "AWS_ACCESS_KEY_ID"), (Key::SecretAccessKey, "AWS_SECRET_ACCESS_KEY")][..],
        ),
        (
            "a web identity",
            &[(Key::WebIdentityTokenFile, "AWS_WEB_IDENTITY_TOKEN_FILE"), (Key::RoleArn, "AWS_ROLE_ARN")],
        ),
        (
            "a task identity",
            &[(Key::ContainerCredentialsRelativeUri, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")],
        ),
        (
            "a pod identity",
            &[
                (Key::ContainerCredentialsFullUri, "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
                (Key::ContainerAuthorizationTokenFile, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
            ],
        ),
    ];
    let mut texts = Vec::new();
    for (way, keys) in ways {
        let absent: Vec<&str> = keys.iter().filter(|(key, _)| !has(key)).map(|(_, name)| *name).collect();
        if absent.is_empty() {
            return None;
        }
        texts.push(format!("{way} ({})", absent.join(", ")));
    }
    Some(texts.join(", "))
}

/// The credentials of a store that has none but the machine's; nothing where variables have some.
pub(super) fn of_machine(
    builder: &AmazonS3Builder,
) -> Result<Option<AwsCredentialProvider>, object_store::Error> {
    let Some(missing) = missing(builder) else { return Ok(None) };
    let machine = Arc::clone(builder.clone().build()?.credentials());
    Ok(Some(Arc::new(OfMachine { machine, missing })))
}

#[derive(Debug)]
struct OfMachine {
    machine: AwsCredentialProvider,
    missing: String,
}

#[async_trait]
impl CredentialProvider for OfMachine {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        self.machine.get_credential().await.map_err(|source| object_store::Error::Unauthenticated {
            path: "the credentials of S3".to_owned(),
            source: Box::new(MissingCredentials { missing: self.missing.clone(), source }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder(options: &[(Key, &str)]) -> AmazonS3Builder {
        options.iter().fold(AmazonS3Builder::new().with_bucket_name("b"), |builder, (key, value)| {
            builder.with_config(*key, *value)
        })
    }

    #[test]
    fn what_is_missing_of_each_way_is_named() {
        assert_eq!(
            missing(&builder(&[(Key::RoleArn, "arn:aws:iam::1:role/r")])).unwrap(),
            "keys (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), a web identity (AWS_WEB_IDENTITY_TOKEN_FILE), a task \
             identity (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI), a pod identity (AWS_CONTAINER_CREDENTIALS_FULL_URI, \
             AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE)"
        );
        for options in [
            &[(Key::AccessKeyId, "id"), (Key::SecretAccessKey, "key")][..],
            &[(Key::SkipSignature, "true")],
            &[(Key::WebIdentityTokenFile, "/token"), (Key::RoleArn, "arn:aws:iam::1:role/r")],
            &[(Key::ContainerCredentialsRelativeUri, "/v2")],
        ] {
            assert_eq!(missing(&builder(options)), None, "{options:?}");
        }
    }
}
