//! The handlers of the admission webhooks.

use std::future::Future;
use std::sync::Arc;

use serde_json::Value;
use trainerd_pipeline::{
    Compatibility, RuntimeError, Verdict, defaulting, needs_runtime, optimization, priority_classes,
    runtime_admission, runtime_kind, snapshot, validate,
};

use crate::cache::Name;
use crate::facts::Context;
use crate::webhook::{Answer, Hook, Operation, Request};

/// Answers the admission webhooks.
#[derive(Clone)]
pub(crate) struct WebhookHandlers {
    context: Context,
}

impl WebhookHandlers {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    /// The webhooks by path.
    pub(crate) fn hooks(&self) -> Vec<(&'static str, Hook)> {
        let (jobs, searches, compatibility) = (self.clone(), self.clone(), self.context.compatibility());
        let runtimes = move |request: Request| std::future::ready(validate_runtime(request, compatibility));
        vec![
            (
                "/mutate-trainer-kubeflow-org-v1alpha1-trainjob",
                hook(|request| std::future::ready(default(request))),
            ),
            ("/validate-trainer-kubeflow-org-v1alpha1-clustertrainingruntime", hook(runtimes)),
            (
                "/validate-trainer-kubeflow-org-v1alpha1-optimizationjob",
                hook(move |request| {
                    let searches = searches.clone();
                    async move { searches.validate_optimization_job(request).await }
                }),
            ),
            ("/validate-trainer-kubeflow-org-v1alpha1-trainingruntime", hook(runtimes)),
            (
                "/validate-trainer-kubeflow-org-v1alpha1-trainjob",
                hook(move |request| {
                    let jobs = jobs.clone();
                    async move { jobs.validate_train_job(request).await }
                }),
            ),
        ]
    }

    async fn validate_train_job(&self, request: Request) -> Answer {
        let namespace = request.namespace.clone();
        let (old, new) = match request.operation() {
            Ok(Operation::Create(new)) => (None, new),
            Ok(Operation::Update { old, new }) => (Some(old), new),
            Ok(Operation::Delete) => return Answer::allowed(),
            Err(answer) => return answer,
        };
        answer(self.judge(old.as_ref(), &in_namespace(new, &namespace)).await)
    }

    /// An OptimizationJob is judged by itself, and on its creation by its first trial.
    async fn validate_optimization_job(&self, request: Request) -> Answer {
        let namespace = request.namespace.clone();
        let (is_new, job) = match request.operation() {
            Ok(Operation::Create(new)) => (true, new),
            Ok(Operation::Update { new, .. }) => (false, new),
            Ok(Operation::Delete) => return Answer::allowed(),
            Err(answer) => return answer,
        };
        // Whatever is wrong with one that goes, its finalizers must go.
        if self.context.compatibility() == Compatibility::Upstream
            || job["metadata"]["deletionTimestamp"].is_string()
        {
            return Answer::allowed();
        }
        let job = in_namespace(job, &namespace);
        let mut verdict = optimization::validate(&job, self.context.build.train_job_status);
        if is_new
            && verdict.errors.is_empty()
            && let Some(trial) = optimization::first(&job)
        {
            let judged = self.judge(None, &trial).await;
            verdict.warnings.extend(judged.warnings);
            verdict
                .errors
                .extend(judged.errors.iter().map(|error| format!("spec.trainJobTemplate: {error}")));
        }
        answer(verdict)
    }

    async fn judge(&self, old: Option<&Value>, new: &Value) -> Verdict {
        let runtime = self.runtime(old, new).await;
        let classes = match &runtime {
            Ok(runtime) => priority_classes(runtime, new),
            Err(_) => Vec::new(),
        };
        let seen = self.context.see(&Name::of(new), &classes).await;
        let (profile, _) = snapshot::profile(self.context.compatibility(), None, seen.job_set.as_ref(), new);
        let facts = seen.facts(&self.context, profile);
        validate(runtime.as_ref(), old, new, &facts)
    }

    /// The runtime to judge by: in extended compatibility an update is judged by what the TrainJob was built from.
    async fn runtime(&self, old: Option<&Value>, new: &Value) -> Result<Value, RuntimeError> {
        // What is unsupported, or needs no runtime, is known without one.
        let Ok(kind) = runtime_kind(new) else { return Ok(Value::Null) };
        if !needs_runtime(self.context.compatibility(), old, new) {
            return Ok(Value::Null);
        }
        if old.is_some()
            && self.context.compatibility() == Compatibility::Extended
            && let Some((_, runtime)) = self.context.snapshot(kind, new).await?
        {
            return Ok(runtime);
        }
        self.context.live_runtime(kind, new).await
    }
}

fn hook<F>(answer: impl Fn(Request) -> F + Send + Sync + 'static) -> Hook
where
    F: Future<Output = Answer> + Send + 'static,
{
    Arc::new(move |request| Box::pin(answer(request)))
}

fn default(request: Request) -> Answer {
    let (old, new) = match request.operation() {
        Ok(Operation::Create(new)) => (None, new),
        Ok(Operation::Update { old, new }) => (Some(old), new),
        Ok(Operation::Delete) => return Answer::allowed(),
        Err(answer) => return answer,
    };
    let changes = defaulting::patch_times(old.as_ref(), &new, jiff::Timestamp::now());
    Answer::patched(defaulting::json_patch(&changes))
}

fn validate_runtime(request: Request, compatibility: Compatibility) -> Answer {
    match request.operation() {
        Ok(Operation::Create(new)) => answer(runtime_admission::validate(&new, false, compatibility)),
        Ok(Operation::Update { new, .. }) => answer(runtime_admission::validate(&new, true, compatibility)),
        Ok(Operation::Delete) => Answer::allowed(),
        Err(answer) => answer,
    }
}

fn answer(verdict: Verdict) -> Answer {
    match verdict.message() {
        Some(message) => Answer::denied(message).warn(verdict.warnings),
        None => Answer::allowed().warn(verdict.warnings),
    }
}

/// An object of a create may leave its namespace out, which the request names.
fn in_namespace(mut object: Value, namespace: &str) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        let named = metadata.get("namespace").and_then(Value::as_str).is_some_and(|name| !name.is_empty());
        if !named && !namespace.is_empty() {
            metadata.insert("namespace".to_owned(), namespace.into());
        }
    }
    object
}

#[cfg(test)]
mod fuzz;
