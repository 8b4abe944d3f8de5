//! What the webhooks answer.

use std::future::Future;
use std::sync::Arc;

use serde_json::Value;
use trainerd_pipeline::{
    Mode, RuntimeError, Verdict, defaulting, needs_runtime, priority_classes, runtime_admission,
    runtime_kind, snapshot, validate,
};

use crate::cache::Name;
use crate::facts::Context;
use crate::webhook::{Answer, Hook, Operation, Request};

/// Answers the webhooks.
#[derive(Clone)]
pub(crate) struct Admission {
    context: Context,
}

impl Admission {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    /// The webhooks by path.
    pub(crate) fn hooks(&self) -> Vec<(&'static str, Hook)> {
        let (jobs, mode) = (self.clone(), self.context.mode());
        let runtimes = move |request: Request| std::future::ready(judge_runtime(request, mode));
        vec![
            (
                "/mutate-trainer-kubeflow-org-v1alpha1-trainjob",
                hook(|request| std::future::ready(default(request))),
            ),
            ("/validate-trainer-kubeflow-org-v1alpha1-clustertrainingruntime", hook(runtimes)),
            ("/validate-trainer-kubeflow-org-v1alpha1-trainingruntime", hook(runtimes)),
            (
                "/validate-trainer-kubeflow-org-v1alpha1-trainjob",
                hook(move |request| {
                    let jobs = jobs.clone();
                    async move { jobs.judge_train_job(request).await }
                }),
            ),
        ]
    }

    async fn judge_train_job(&self, request: Request) -> Answer {
        let namespace = request.namespace.clone();
        let (old, new) = match request.operation() {
            Ok(Operation::Create(new)) => (None, new),
            Ok(Operation::Update { old, new }) => (Some(old), new),
            Ok(Operation::Delete) => return Answer::allowed(),
            Err(answer) => return answer,
        };
        let new = in_namespace(new, &namespace);
        let runtime = self.runtime(old.as_ref(), &new).await;
        let classes = match &runtime {
            Ok(runtime) => priority_classes(runtime, &new),
            Err(_) => Vec::new(),
        };
        let seen = self.context.see(&Name::of(&new), &classes).await;
        let (profile, _) = snapshot::profile(self.context.mode(), None, seen.job_set.as_ref(), &new);
        let facts = seen.facts(&self.context, profile);
        answer(validate(runtime.as_ref(), old.as_ref(), &new, &facts))
    }

    /// The runtime to judge by: in extended mode an update is judged by what the TrainJob was built from.
    async fn runtime(&self, old: Option<&Value>, new: &Value) -> Result<Value, RuntimeError> {
        // What is unsupported, or needs no runtime, is known without one.
        let Ok(kind) = runtime_kind(new) else { return Ok(Value::Null) };
        if !needs_runtime(self.context.mode(), old, new) {
            return Ok(Value::Null);
        }
        if old.is_some()
            && self.context.mode() == Mode::Extended
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

fn judge_runtime(request: Request, mode: Mode) -> Answer {
    match request.operation() {
        Ok(Operation::Create(new)) => answer(runtime_admission::validate(&new, false, mode)),
        Ok(Operation::Update { new, .. }) => answer(runtime_admission::validate(&new, true, mode)),
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
    if let Some(metadata) = object["metadata"].as_object_mut() {
        let named = metadata.get("namespace").and_then(Value::as_str).is_some_and(|name| !name.is_empty());
        if !named && !namespace.is_empty() {
            metadata.insert("namespace".to_owned(), namespace.into());
        }
    }
    object
}
