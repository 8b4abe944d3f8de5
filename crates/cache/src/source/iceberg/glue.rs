//! Tables of AWS Glue: one request, `GetTable`, tells where the metadata file is.

use std::time::Duration;

use iceberg::TableIdent;
use object_store::aws::AwsAuthorizer;
use object_store::client::{HttpRequest, HttpRequestBody};
use serde::Deserialize;
use serde_json::json;

use crate::source::{Error, Kind};
use crate::store::{Stores, redacted};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    table: Table,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Table {
    #[serde(default)]
    parameters: std::collections::BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(rename = "__type", default)]
    code: String,
    #[serde(rename = "Message", alias = "message", default)]
    message: String,
}

/// The URI of the metadata file of a table.
pub(super) async fn metadata(
    endpoint: &str,
    account: Option<&str>,
    identifier: &TableIdent,
    stores: &Stores,
    timeout: Duration,
) -> Result<String, Error> {
    let failed = |kind, what: String| Error::Glue { uri: redacted(endpoint), kind, what };
    let mut body = json!({ "DatabaseName": identifier.namespace().join("."), "Name": identifier.name() });
    if let Some(account) = account {
        body["CatalogId"] = json!(account);
    }
    let body = body.to_string();
    let request = http::Request::post(endpoint)
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", "AWSGlue.GetTable")
        .body(HttpRequestBody::from(body.clone()));
    let mut request: HttpRequest = request.map_err(|error| failed(Kind::Invalid, error.to_string()))?;
    let (credentials, region) = stores
        .amazon(region_of(endpoint))
        .map_err(|source| Error::Read { path: redacted(endpoint), source })?;
    let credential = credentials
        .get_credential()
        .await
        .map_err(|source| Error::Read { path: redacted(endpoint), source })?;
    AwsAuthorizer::new(&credential, "glue", &region).authorize(&mut request, None);
    let (parts, _) = request.into_parts();
    let client = reqwest::Client::builder().timeout(timeout).build();
    let client = client.map_err(|error| failed(Kind::Invalid, error.to_string()))?;
    let sent = client.post(endpoint).headers(parts.headers).body(body).send().await;
    let unreachable = |error: reqwest::Error| failed(Kind::Unreachable, trainerd_causes::one_line(&error));
    let response = sent.map_err(unreachable)?;
    let status = response.status();
    let text = response.text().await.map_err(unreachable)?;
    if !status.is_success() {
        let refusal: Refusal = serde_json::from_str(&text).unwrap_or_default();
        let what = format!("status {}: {} {}", status.as_u16(), refusal.code, refusal.message);
        return Err(failed(kind(status, &refusal.code), what.trim_end().to_owned()));
    }
    let answer: Answer = serde_json::from_str(&text)
        .map_err(|error| failed(Kind::Invalid, format!("the answer is no table: {error}")))?;
    answer.table.parameters.get("metadata_location").cloned().ok_or_else(|| {
        failed(
            Kind::Invalid,
            format!("{} has no metadata_location: it is no Iceberg table", identifier.name()),
        )
    })
}

/// Refusals of all kinds have the status 400; the code tells them apart.
fn kind(status: http::StatusCode, code: &str) -> Kind {
    // With or without the namespace of the service in front.
    let code = code.rsplit('#').next().unwrap_or_default();
    match code {
        "ThrottlingException" | "InternalServiceException" | "OperationTimeoutException" => Kind::Unreachable,
        "AccessDeniedException"
        | "UnrecognizedClientException"
        | "ExpiredTokenException"
        | "InvalidSignatureException" => Kind::Denied,
        _ if status.is_server_error() || status == http::StatusCode::TOO_MANY_REQUESTS => Kind::Unreachable,
        _ if matches!(status.as_u16(), 401 | 403) => Kind::Denied,
        _ => Kind::Invalid,
    }
}

/// The region in the name of a service's host.
fn region_of(endpoint: &str) -> Option<String> {
    let url = url::Url::parse(endpoint).ok()?;
    let mut labels = url.host_str()?.split('.');
    let is_glue = labels.next().is_some_and(|label| label.starts_with("glue"));
    labels.next().filter(|region| is_glue && region.contains('-')).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_in_the_name_of_the_host() {
        assert_eq!(region_of("https://glue.eu-west-1.amazonaws.com").as_deref(), Some("eu-west-1"));
        assert_eq!(
            region_of("https://glue-fips.us-gov-west-1.amazonaws.com").as_deref(),
            Some("us-gov-west-1")
        );
        assert_eq!(region_of("http://127.0.0.1:5000"), None);
    }

    #[test]
    fn refusals_are_told_apart_by_their_code() {
        let bad = http::StatusCode::BAD_REQUEST;
        assert_eq!(kind(bad, "com.amazonaws.glue#AccessDeniedException"), Kind::Denied);
        assert_eq!(kind(bad, "ThrottlingException"), Kind::Unreachable);
        assert_eq!(kind(bad, "EntityNotFoundException"), Kind::Invalid);
        assert_eq!(kind(http::StatusCode::BAD_GATEWAY, ""), Kind::Unreachable);
    }
}
