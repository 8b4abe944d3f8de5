//! The status server: pods of a TrainJob say how far it is. What is read and answered is the pipeline's to say.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use serde_json::Value;
use trainerd_cluster::{ApplyParams, Cluster, FieldValidation, RequestError};
use trainerd_pipeline::status_server::{
    Answer, FIELD_MANAGER, MAX_BODY, Refusal, Target, audience, bearer, report, route,
};

use crate::kinds;
use crate::metrics::TrainJobMetrics;
use crate::report_auth::Tokens;

/// Answers reports. Clones share everything.
#[derive(Clone)]
pub(crate) struct StatusServer {
    cluster: Cluster,
    tokens: Tokens,
    metrics: Option<TrainJobMetrics>,
}

impl StatusServer {
    /// With a connection of its own limits.
    pub(crate) fn new(cluster: Cluster, metrics: Option<TrainJobMetrics>) -> Self {
        Self { tokens: Tokens::new(cluster.clone()), cluster, metrics }
    }

    /// The one route, and the refusal of all others.
    pub(crate) fn router(self) -> Router {
        Router::new().fallback(handle).with_state(self)
    }

    async fn answer(&self, request: Request) -> Result<Answer, Refusal> {
        let (parts, body) = request.into_parts();
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
        let target = route(parts.method.as_str(), parts.uri.path(), length)?;
        let authorization = parts.headers.get(AUTHORIZATION).and_then(|it| it.to_str().ok());
        let token = authorization.and_then(bearer).ok_or(Refusal::Forbidden)?;
        self.authorize(token, &target).await?;
        let most = usize::try_from(MAX_BODY).unwrap_or(usize::MAX);
        let body = to_bytes(body, most).await.map_err(|_| Refusal::Payload)?;
        let report = report(&target, &body)?;
        if let Some(status) = &report.apply {
            self.apply(&target, status).await?;
        }
        Ok(report.answer)
    }

    async fn authorize(&self, token: &str, target: &Target) -> Result<(), Refusal> {
        let Target { namespace, name } = target;
        match self.tokens.are_good(token, &audience(namespace, name), namespace).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::Forbidden),
            Err(error) => {
                tracing::error!(%error, "failed to ask whose token it is");
                Err(Refusal::Internal)
            }
        }
    }

    async fn apply(&self, target: &Target, status: &Value) -> Result<(), Refusal> {
        // An apply would make a TrainJob that does not exist, were it not for the subresource; the answer to that is 404.
        let params = ApplyParams {
            force: true,
            status: true,
            field_manager: Some(FIELD_MANAGER.to_owned()),
            field_validation: FieldValidation::Ignore,
            metadata_only: true,
            ..ApplyParams::default()
        };
        match self.cluster.apply(&kinds::train_job(), status, &params).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_absent() => Err(Refusal::NoTrainJob),
            Err(RequestError::Invalid { message, .. } | RequestError::BadRequest { message }) => {
                Err(Refusal::Invalid(message))
            }
            Err(error) => {
                let Target { namespace, name } = target;
                tracing::error!(%error, namespace, name, "failed to write the reported status");
                Err(Refusal::Internal)
            }
        }
    }
}

async fn handle(State(server): State<StatusServer>, request: Request) -> Response {
    let metrics = server.metrics.clone();
    // A panic is that request's alone.
    let answered = tokio::spawn(async move { server.answer(request).await }).await;
    let answer = match answered {
        Ok(Ok(answer)) => answer,
        Ok(Err(refusal)) => refusal.answer(),
        Err(error) => {
            tracing::error!(%error, "a report panicked");
            Refusal::Internal.answer()
        }
    };
    if let Some(metrics) = metrics {
        metrics.reported(answer.code);
    }
    let code = StatusCode::from_u16(answer.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, [(CONTENT_TYPE, "application/json")], Body::from(answer.body)).into_response()
}
