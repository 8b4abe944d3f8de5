//! Credentials of a role, from the security token service.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use object_store::CredentialProvider;
use object_store::aws::{AwsAuthorizer, AwsCredential, AwsCredentialProvider};
use object_store::client::{HttpRequest, HttpRequestBody};
use tokio::sync::Mutex;
use url::Url;

use crate::error::Error;
use crate::retry;
use crate::source::wire;

/// How long before their end credentials are asked for anew.
const MARGIN: Duration = Duration::from_mins(5);

/// Assumes a role with the credentials of somebody else.
#[derive(Debug)]
pub struct AssumedRole {
    client: reqwest::Client,
    /// Of the service.
    endpoint: Url,
    region: String,
    role: String,
    base: AwsCredentialProvider,
    patience: Duration,
    held: Mutex<Option<(Arc<AwsCredential>, Timestamp)>>,
}

impl AssumedRole {
    /// A role, asked for at the service of a region with the base's credentials.
    pub fn new(
        client: reqwest::Client,
        endpoint: Url,
        region: String,
        role: String,
        base: AwsCredentialProvider,
        patience: Duration,
    ) -> Self {
        Self { client, endpoint, region, role, base, patience, held: Mutex::default() }
    }

    async fn ask(&self) -> Result<(Arc<AwsCredential>, Timestamp), Error> {
        let what = format!("the role {}", self.role);
        let base = self.base.get_credential().await;
        let base = base.map_err(|source| Error::Source { uri: what.clone(), source: Box::new(source) })?;
        let mut url = self.endpoint.clone();
        url.query_pairs_mut()
            .append_pair("Action", "AssumeRole")
            .append_pair("Version", "2011-06-15")
            .append_pair("RoleArn", &self.role)
            .append_pair("RoleSessionName", "trainer-initializer");
        let unusable = |error: http::Error| Error::Source { uri: what.clone(), source: Box::new(error) };
        let mut request: HttpRequest =
            http::Request::builder().uri(url.as_str()).body(HttpRequestBody::empty()).map_err(unusable)?;
        AwsAuthorizer::new(&base, "sts", &self.region).authorize(&mut request, None);
        let (parts, _) = request.into_parts();
        let response = self.client.get(url).headers(parts.headers).send().await;
        let response = response.map_err(|error| wire::interrupted(&what, error))?;
        let response = wire::checked(&what, response).await?;
        let body = response.text().await.map_err(|error| wire::interrupted(&what, error))?;
        read(&body).ok_or(Error::Answer { what, why: "there are no credentials in it".to_owned() })
    }
}

/// The credentials of an answer, and their end. The answer is flat, and its texts need no decoding.
fn read(answer: &str) -> Option<(Arc<AwsCredential>, Timestamp)> {
    let text = |tag: &str| {
        let (_, rest) = answer.split_once(&format!("<{tag}>"))?;
        let (text, _) = rest.split_once(&format!("</{tag}>"))?;
        Some(text.trim().to_owned())
    };
    let credential = AwsCredential {
        key_id: text("AccessKeyId")?,
        secret_key: text("SecretAccessKey")?,
        token: Some(text("SessionToken")?),
    };
    Some((Arc::new(credential), text("Expiration")?.parse().ok()?))
}

#[async_trait]
impl CredentialProvider for AssumedRole {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut held = self.held.lock().await;
        if let Some((credential, end)) = &*held
            && Timestamp::now() + MARGIN < *end
        {
            return Ok(Arc::clone(credential));
        }
        let what = format!("the role {}", self.role);
        match retry::answered(&what, self.patience, || self.ask()).await {
            Ok((credential, end)) => {
                *held = Some((Arc::clone(&credential), end));
                Ok(credential)
            }
            Err(error) => {
                let source = wire::cause(trainerd_causes::one_line(&error));
                Err(match error {
                    Error::Denied { .. } => {
                        object_store::Error::PermissionDenied { path: self.role.clone(), source }
                    }
                    _ => object_store::Error::Generic { store: "STS", source },
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_from_the_services_answer() {
        let answer = "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>A</AccessKeyId>\
            <SecretAccessKey>S+/=</SecretAccessKey><SessionToken>T</SessionToken>\
            <Expiration>2026-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";
        let (credential, end) = read(answer).unwrap();
        assert_eq!((credential.key_id.as_str(), credential.secret_key.as_str()), ("A", "S+/="));
        assert_eq!(end.to_string(), "2026-01-01T00:00:00Z");
        assert!(read("<Error/>").is_none());
    }
}
