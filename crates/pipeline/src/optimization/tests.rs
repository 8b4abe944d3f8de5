use serde_json::json;

use super::*;

const NOW: &str = "2026-01-02T03:04:05Z";

fn job(more: Value) -> Value {
    let mut job = json!({
        "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "OptimizationJob",
        "metadata": {"name": "a", "namespace": "n", "uid": "u"},
        "spec": {
            "objectives": [{"metric": "loss", "direction": "Minimize"}],
            "numTrials": 6, "parallelTrials": 2,
            "searchAlgorithm": {"random": {"seed": 7}},
            "parameters": [
                {"name": "lr", "searchSpace": {"logUniform": {"min": "1e-4", "max": "1e-1", "type": "Float"}}},
                {"name": "batch-size", "searchSpace": {"categorical": {"choices": ["16", "32"]}}},
            ],
            "trainJobTemplate": {"spec": {
                "runtimeRef": {"name": "r"},
                "trainer": {"env": [{"name": "A", "value": "b"}], "numNodes": 2},
            }},
        },
    });
    merge(&mut job, more);
    job
}

fn merge(target: &mut Value, more: Value) {
    match (target, more) {
        (Value::Object(target), Value::Object(more)) => {
            for (key, value) in more {
                if value.is_null() {
                    target.remove(&key);
                } else {
                    merge(target.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (target, more) => *target = more,
    }
}

/// How a trial ends.
#[derive(Clone, Copy)]
enum End {
    Running,
    Loss(&'static str),
    Silent,
    Failed,
}

fn ended(mut trial: Value, end: End) -> Value {
    let condition = |kind: &str| json!([{"type": kind, "status": "True", "reason": "R", "message": "said"}]);
    trial["status"] = match end {
        End::Running => json!({}),
        End::Loss(value) => json!({
            "conditions": condition("Complete"),
            "trainerStatus": {"metrics": [{"name": "other", "value": "0"}, {"name": "loss", "value": value}]},
        }),
        End::Silent => json!({"conditions": condition("Complete")}),
        End::Failed => json!({"conditions": condition("Failed")}),
    };
    trial
}

fn with(job: &Value, ends: &[End]) -> Vec<Value> {
    let mut trials = Vec::new();
    for end in ends {
        // As the controller does it: one after another, whatever runs counting as ended here.
        let number = u32::try_from(trials.len()).unwrap();
        let search = Search::of(job).unwrap();
        let known = Trial::all(job, &search, &trials);
        trials.push(ended(trial::train_job(job, number, &search.values(number, &known), &search), *end));
    }
    trials
}

fn settle(job: &Value, trials: &[Value], failure: Option<&str>) -> Outcome {
    reconcile(&Pass { job, trials, failure, now: NOW.parse().unwrap() })
}

fn conditions(outcome: &Outcome) -> Vec<[String; 4]> {
    let all = outcome.status["conditions"].as_array().unwrap();
    let field = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    all.iter().map(|it| ["type", "status", "reason", "message"].map(|key| field(it, key))).collect()
}

#[test]
fn a_trial_is_the_template_with_values_and_an_owner() {
    let job = job(json!({"spec": {"trainJobTemplate": {"metadata": {
        "labels": {"kueue.x-k8s.io/queue-name": "q"}, "annotations": {"x": "y"},
    }}}}));
    let trial = next(&job, &[]).unwrap();
    assert_eq!(
        trial,
        json!({
            "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob",
            "metadata": {
                "name": "a-trial-0", "namespace": "n",
                "labels": {
                    "kueue.x-k8s.io/queue-name": "q", "extended.trainer.kubeflow.org/optimization-job": "a",
                },
                "annotations": {
                    "x": "y",
                    "extended.trainer.kubeflow.org/parameters": "{\"batch-size\":\"32\",\"lr\":\"0.0029367762499300258\"}",
                },
                "ownerReferences": [{
                    "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "OptimizationJob", "name": "a", "uid": "u",
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "runtimeRef": {"name": "r"},
                "trainer": {"numNodes": 2, "env": [
                    {"name": "KUBEFLOW_TRAINER_OPT_LR", "value": "0.0029367762499300258"},
                    {"name": "KUBEFLOW_TRAINER_OPT_BATCH_SIZE", "value": "32"},
                    {"name": "A", "value": "b"},
                ]},
            },
        })
    );
}

#[test]
fn trials_are_created_up_to_the_parallelism_each_once() {
    use End::{Failed, Loss, Running};
    let job = job(json!({}));
    let name = |trials: &[Value]| next(&job, trials).map(|it| it["metadata"]["name"].clone());
    for (ends, expected) in [
        (&[][..], Some("a-trial-0")),
        (&[Running], Some("a-trial-1")),
        (&[Running, Running], None),
        (&[Running, Loss("1")], Some("a-trial-2")),
        (&[Loss("1"), Failed, Failed, Failed], Some("a-trial-4")),
        (&[Failed, Failed, Failed, Failed], None),
        (&[Loss("1"), Loss("1"), Loss("1"), Loss("1"), Loss("1"), Running], None),
    ] {
        let trials = with(&job, ends);
        assert_eq!(name(&trials), expected.map(Value::from), "{}", ends.len());
    }
    // One that went is run again, under its own number.
    let mut trials = with(&job, &[Loss("1"), Loss("2"), Loss("3")]);
    let gone = trials.remove(1);
    let again = next(&job, &trials).unwrap();
    assert_eq!((&again["metadata"], &again["spec"]), (&gone["metadata"], &gone["spec"]));
    // TrainJobs of others that have such a name are none of ours.
    let mut theirs = with(&job, &[Running, Running]);
    theirs[1]["metadata"]["ownerReferences"][0]["uid"] = "other".into();
    assert!(!is_trial_of(&job, &theirs[1]));
    assert_eq!(name(&theirs), Some("a-trial-1".into()));
}

#[test]
fn no_trials_for_finished_deleted_or_invalid_jobs() {
    for more in [
        json!({"metadata": {"deletionTimestamp": NOW}}),
        json!({"status": {"conditions": [{"type": "Failed", "status": "True"}]}}),
        json!({"metadata": {"annotations": {"extended.trainer.kubeflow.org/search-algorithm": "luck"}}}),
    ] {
        assert_eq!(next(&job(more.clone()), &[]), None, "{more}");
    }
}

#[test]
fn the_status_shows_progress_and_result() {
    use End::{Failed, Loss, Running, Silent};
    let running = "Created True TrialsRunning";
    for (spec, ends, expected, best) in [
        (json!({}), &[Running][..], vec![format!("{running} 1 of 6 trials are running, 0 succeeded, 0 failed")], None),
        (
            json!({}),
            &[Loss("0.5"), Running, Loss("-1e-3"), Loss("-0.001"), Failed],
            vec![format!("{running} 1 of 6 trials are running, 3 succeeded, 1 failed")],
            Some("a-trial-2"),
        ),
        (
            json!({"numTrials": 3}),
            &[Loss("0.5"), Silent, Loss("0.25")],
            vec![
                format!("{running} 0 of 3 trials are running, 2 succeeded, 1 failed"),
                "Complete True MaxTrialsReached 2 of 3 trials succeeded; the best is a-trial-2, with loss = 0.25".into(),
            ],
            Some("a-trial-2"),
        ),
        (
            json!({"numTrials": 2, "objectives": [{"metric": "loss", "direction": "Maximize"}]}),
            &[Loss("0.5"), Loss("0.25")],
            vec![
                format!("{running} 0 of 2 trials are running, 2 succeeded, 0 failed"),
                "Complete True MaxTrialsReached 2 of 2 trials succeeded; the best is a-trial-0, with loss = 0.5".into(),
            ],
            Some("a-trial-0"),
        ),
        (
            json!({"numTrials": 2}),
            &[Loss("NaN"), Silent],
            vec![
                format!("{running} 0 of 2 trials are running, 0 succeeded, 2 failed"),
                "Failed True NoSuccessfulTrials No trial succeeded: a-trial-0: ObjectiveMetricInvalid: the metric \
                 \"loss\" is \"NaN\", which is no finite number; a-trial-1: ObjectiveMetricMissing: no metric \"loss\" \
                 was reported"
                    .into(),
            ],
            None,
        ),
        (
            json!({}),
            &[Failed, Failed, Running, Failed, Failed],
            vec![
                format!("{running} 1 of 6 trials are running, 0 succeeded, 4 failed"),
                "Failed True MaxFailedTrialsReached 4 trials failed, more than the 3 that may; the one that still ran \
                 is ended: a-trial-0: R: said; a-trial-1: R: said; a-trial-3: R: said; and 1 more"
                    .into(),
            ],
            None,
        ),
        (
            json!({"searchAlgorithm": {"random": null, "grid": {}}, "parameters": [
                {"name": "x", "searchSpace": {"categorical": {"choices": ["1", "2"]}}},
            ]}),
            &[Loss("0.5"), Loss("0.25")],
            vec![
                format!("{running} 0 of 2 trials are running, 2 succeeded, 0 failed"),
                "Complete True GridExhausted 2 of 2 trials succeeded; the best is a-trial-1, with loss = 0.25".into(),
            ],
            Some("a-trial-1"),
        ),
    ] {
        let job = job(json!({"spec": spec}));
        let trials = with(&job, ends);
        let outcome = settle(&job, &trials, None);
        let said: Vec<String> = conditions(&outcome).iter().map(|it| it.join(" ")).collect();
        assert_eq!(said, expected);
        assert_eq!(outcome.status["result"]["trainJobName"].as_str(), best);
        if let Some(best) = best {
            let trial = trials.iter().find(|it| it["metadata"]["name"] == best).unwrap();
            for parameter in outcome.status["result"]["parameters"].as_array().unwrap() {
                let annotation = &trial["metadata"]["annotations"]["extended.trainer.kubeflow.org/parameters"];
                let values: Value = serde_json::from_str(annotation.as_str().unwrap()).unwrap();
                assert_eq!(values[parameter["name"].as_str().unwrap()], parameter["value"]);
            }
        }
        // The next pass finds nothing to change.
        let mut settled = job.clone();
        settled["status"] = outcome.status.clone();
        let again = settle(&settled, &trials, None);
        assert!(!again.is_changed && again.events.is_empty(), "{again:?}");
        assert_eq!(crate::api_server::store(&settled, Some(&job), crate::api_server::Part::Status).unwrap().errors, [""; 0]);
    }
}

#[test]
fn errors_of_trials_are_reported_and_retried() {
    let bad =
        job(json!({"metadata": {"annotations": {"extended.trainer.kubeflow.org/max-failed-trials": "-1"}}}));
    for (job, failure, reason, message) in [
        (
            &bad,
            None,
            "InvalidSpec",
            "metadata.annotations[extended.trainer.kubeflow.org/max-failed-trials]: Invalid value: \"-1\": must be a \
             number of trials, 0 or more",
        ),
        (&job(json!({})), Some("denied"), "TrainJobsCreationFailed", "denied"),
    ] {
        let outcome = settle(job, &[], failure);
        assert_eq!(conditions(&outcome), [["Created", "False", reason, message].map(str::to_owned)]);
        let events: Vec<_> =
            outcome.events.iter().map(|it| (it.kind.as_str(), it.reason, it.note.as_str())).collect();
        assert_eq!(events, [("Warning", reason, message)]);
        let mut mended = self::job(json!({}));
        mended["status"] = outcome.status;
        let outcome = settle(&mended, &[], None);
        assert_eq!(conditions(&outcome)[0][1], "True");
    }
}

#[test]
fn a_finished_search_keeps_its_status() {
    let mut job = job(json!({"spec": {"numTrials": 1, "parallelTrials": 1}}));
    let trials = with(&job, &[End::Loss("1")]);
    let outcome = settle(&job, &trials, None);
    let reasons: Vec<_> = outcome.events.iter().map(|it| it.reason).collect();
    assert_eq!(reasons, ["BestTrialChanged", "Completed"]);
    job["status"] = outcome.status;
    assert!(is_finished(&job));
    assert!(!settle(&job, &[], None).is_changed);
}

#[test]
fn sequences_follow_the_seed_or_the_uid() {
    let values = |job: &Value| -> Vec<Vec<String>> {
        let search = Search::of(job).unwrap();
        (0..6).map(|number| search.values(number, &[])).collect()
    };
    let seeded = job(json!({}));
    let other_uid = job(json!({"metadata": {"uid": "v"}}));
    assert_eq!(values(&seeded), values(&other_uid));
    let free = |uid: &str| {
        job(json!({"metadata": {"uid": uid}, "spec": {"searchAlgorithm": {"random": {"seed": null}}}}))
    };
    assert_eq!(values(&free("u")), values(&free("u")));
    assert_ne!(values(&free("u")), values(&free("v")));
    // A further parameter changes no other.
    let mut more = seeded.clone();
    more["spec"]["parameters"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({"name": "z", "searchSpace": {"uniform": {"min": "0", "max": "9", "type": "Int"}}}));
    let without = |rows: Vec<Vec<String>>| -> Vec<Vec<String>> {
        rows.into_iter().map(|row| row[1..].to_vec()).collect()
    };
    assert_eq!(without(values(&more)), values(&seeded));
}

#[test]
fn a_grid_has_every_combination_once() {
    let choices = |name: &str, choices: &[&str]| json!({"name": name, "searchSpace": {"categorical": {"choices": choices}}});
    let job = job(json!({"spec": {
        "numTrials": 100, "searchAlgorithm": {"random": null, "grid": {}},
        "parameters": [choices("a", &["1", "2", "3"]), choices("b", &["x", "y"])],
    }}));
    let search = Search::of(&job).unwrap();
    let all: Vec<String> = (0..search.total()).map(|number| search.values(number, &[]).concat()).collect();
    assert_eq!(all, ["1x", "1y", "2x", "2y", "3x", "3y"]);
}

/// A job that is run to its end, its trials' loss given by their values: the least loss.
fn least(job: &Value, loss: impl Fn(&[f64]) -> f64) -> f64 {
    let mut trials: Vec<Value> = Vec::new();
    let mut least = f64::INFINITY;
    while let Some(trial) = next(job, &trials) {
        let env = trial["spec"]["trainer"]["env"].as_array().unwrap();
        let values: Vec<f64> = env.iter().filter_map(|it| it["value"].as_str()?.parse().ok()).collect();
        let loss = loss(&values);
        least = least.min(loss);
        let mut ended = ended(trial, End::Silent);
        ended["status"]["trainerStatus"] = json!({"metrics": [{"name": "loss", "value": loss.to_string()}]});
        trials.push(ended);
    }
    least
}

#[test]
fn tpe_is_better_than_random_search() {
    let search = |seed: u32, annotations: &Value| {
        job(json!({"metadata": {"annotations": annotations}, "spec": {
            "numTrials": 60, "searchAlgorithm": {"random": {"seed": seed}},
            "parameters": [
                {"name": "x", "searchSpace": {"uniform": {"min": "-5", "max": "5", "type": "Float"}}},
                {"name": "y", "searchSpace": {"logUniform": {"min": "1e-4", "max": "1", "type": "Float"}}},
                {"name": "z", "searchSpace": {"uniform": {"min": "1", "max": "20", "type": "Int"}}},
                {"name": "c", "searchSpace": {"categorical": {"choices": ["0", "1", "2", "3"]}}},
            ],
        }}))
    };
    let loss = |it: &[f64]| {
        (it[0] - 1.0).powi(2)
            + (it[1].log10() + 2.5).powi(2)
            + ((it[2] - 7.0) / 5.0).powi(2)
            + 3.0 * (it[3] - 2.0).abs()
    };
    let tpe = json!({"extended.trainer.kubeflow.org/search-algorithm": "tpe"});
    let of = |annotations: &Value| -> Vec<f64> {
        (0..20).map(|seed| least(&search(seed, annotations), loss)).collect()
    };
    let (mut guided, mut random) = (of(&tpe), of(&json!({})));
    assert_eq!(guided, of(&tpe), "the same history gives the same values");
    let better = guided.iter().zip(&random).filter(|(guided, random)| guided < random).count();
    guided.sort_by(f64::total_cmp);
    random.sort_by(f64::total_cmp);
    assert!(better >= 15 && guided[10] < random[10] / 2.0, "{better} of 20; {guided:?} {random:?}");
}

#[test]
fn invalid_trials_are_rejected_at_admission() {
    let template = |spec: Value| json!({"spec": {"trainJobTemplate": {"spec": spec}}});
    let parameter = |name: &str| json!({"name": name, "searchSpace": {"categorical": {"choices": ["1"]}}});
    let many: Vec<Value> = (0..127).map(|at| json!({"name": format!("V{at}"), "value": ""})).collect();
    let ttl = "extended.trainer.kubeflow.org/ttl-seconds-after-finished";
    for (more, expected) in [
        (json!({}), vec![]),
        (template(json!({"trainer": null})), vec![]),
        (
            template(
                json!({"trainer": {"args": ["$(KUBEFLOW_TRAINER_OPT_LR) $(KUBEFLOW_TRAINER_OPT_BATCH_SIZE)"]}}),
            ),
            vec![],
        ),
        (
            template(json!({"trainer": {"command": ["a", "--lr=$(KUBEFLOW_TRAINER_OPT_RATE)"]}})),
            vec![
                "spec.trainJobTemplate.spec.trainer.command[1]: Invalid value: \"--lr=$(KUBEFLOW_TRAINER_OPT_RATE)\": \
                 refers to $(KUBEFLOW_TRAINER_OPT_RATE), and no parameter gives that variable",
            ],
        ),
        (
            template(json!({"trainer": {"env": [{"name": "KUBEFLOW_TRAINER_OPT_LR", "value": "1"}]}})),
            vec![
                "spec.trainJobTemplate.spec.trainer.env[0].name: Invalid value: \"KUBEFLOW_TRAINER_OPT_LR\": names with \
                 KUBEFLOW_TRAINER_OPT_ are set for each trial",
            ],
        ),
        (
            template(json!({"trainer": {"env": many}})),
            vec![
                "spec.trainJobTemplate.spec.trainer.env: Invalid value: 127: must have at most 128 items, 2 parameters \
                 included",
            ],
        ),
        (
            json!({"spec": {"parameters": [parameter("a-b"), parameter("a.b")]}}),
            vec![
                "spec.parameters[1].name: Invalid value: \"a.b\": must give another environment variable than parameter \
                 \"a-b\"; both give KUBEFLOW_TRAINER_OPT_A_B",
            ],
        ),
        (
            template(json!({"ttlSecondsAfterFinished": 5})),
            vec![
                "spec.trainJobTemplate.spec.ttlSecondsAfterFinished: Forbidden: trials must stay while their \
                 OptimizationJob does: delete that one to delete them",
            ],
        ),
        (
            json!({"spec": {"trainJobTemplate": {"metadata": {"annotations": {ttl: "5"}}}}}),
            vec![
                "spec.trainJobTemplate.metadata.annotations[extended.trainer.kubeflow.org/ttl-seconds-after-finished]: \
                 Forbidden: trials must stay while their OptimizationJob does: delete that one to delete them",
            ],
        ),
        (
            json!({"metadata": {"name": "A.b"}}),
            vec![
                "metadata.name: Invalid value: \"A.b\": must be a lower-case RFC 1035 label, as the names of its TrainJobs",
            ],
        ),
        (
            json!({
                "metadata": {"annotations": {"extended.trainer.kubeflow.org/search-algorithm": "tpe"}},
                "spec": {
                    "searchAlgorithm": {"random": null, "grid": {}},
                    "parameters": [parameter("a")],
                },
            }),
            vec![
                "metadata.annotations[extended.trainer.kubeflow.org/search-algorithm]: Invalid value: \"tpe\": may take \
                 the place of random only, and this is a grid search",
            ],
        ),
    ] {
        let verdict = validate(&job(more.clone()), true);
        assert_eq!(verdict.errors, expected, "{more}");
        assert!(verdict.warnings.is_empty() || !expected.is_empty(), "{more}: {:?}", verdict.warnings);
    }
    let long = job(json!({"metadata": {"name": "a".repeat(55)}}));
    assert_eq!(validate(&long, true).errors.len(), 1);
    let name =
        next(&job(json!({"metadata": {"name": "a".repeat(54)}})), &[]).unwrap()["metadata"]["name"].clone();
    assert_eq!(name.as_str().unwrap().len(), 62);
}

#[test]
fn likely_mistakes_are_warnings() {
    let job = job(
        json!({"spec": {"trainJobTemplate": {"spec": {"trainer": {"args": ["$(KUBEFLOW_TRAINER_OPT_LR)"]}}}}}),
    );
    let verdict = validate(&job, false);
    assert_eq!(verdict.errors, [""; 0]);
    assert!(verdict.warnings[0].contains("KUBEFLOW_TRAINER_OPT_BATCH_SIZE"), "{:?}", verdict.warnings);
    assert!(verdict.warnings[1].contains("TrainJobStatus"), "{:?}", verdict.warnings);
}
