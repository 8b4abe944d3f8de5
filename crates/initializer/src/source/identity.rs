//! Credentials of S3 where no variable names any: the identity that the machine may have, or an error that says what is
//! missing.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key, AwsCredential, AwsCredentialProvider};

/// Neither variables nor the machine have credentials.
#[derive(Debug, thiserror::Error)]
#[error(
    "S3 needs credentials, and none are set: neither keys (ACCESS_KEY_ID, SECRET_ACCESS_KEY) nor an identity of the pod \
     (AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN, AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or \
     AWS_CONTAINER_CREDENTIALS_FULL_URI), and the instance metadata service gave none"
)]
pub struct MissingCredentials {
    source: object_store::Error,
}

/// The credentials of a store that has none but the machine's; nothing where variables have some or none are needed.
pub fn of_machine(builder: &AmazonS3Builder) -> object_store::Result<Option<AwsCredentialProvider>> {
    let has = |key: Key| builder.get_config_value(&key).is_some_and(|value| !value.is_empty());
    let is_public = builder.get_config_value(&Key::SkipSignature).is_some_and(|value| value == "true");
    let is_pod = (has(Key::WebIdentityTokenFile) && has(Key::RoleArn))
        || has(Key::ContainerCredentialsRelativeUri)
        || (has(Key::ContainerCredentialsFullUri) && has(Key::ContainerAuthorizationTokenFile));
    if is_public || is_pod || has(Key::AccessKeyId) || has(Key::SecretAccessKey) {
        return Ok(None);
    }
    let machine = Arc::clone(builder.clone().build()?.credentials());
    Ok(Some(Arc::new(OfMachine(machine))))
}

#[derive(Debug)]
struct OfMachine(AwsCredentialProvider);

#[async_trait]
impl CredentialProvider for OfMachine {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        self.0.get_credential().await.map_err(|source| object_store::Error::Unauthenticated {
            path: "the credentials of S3".to_owned(),
            source: Box::new(MissingCredentials { source }),
        })
    }
}
