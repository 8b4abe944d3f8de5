//! Texts: configuration files, reports of status, quantities.

use serde_json::{Value, json};
use trainerd_pipeline::Quantity;
use trainerd_pipeline::config::{Config, ConfigError, FeatureGates, format_duration, parse_duration};
use trainerd_pipeline::status_server::{self, Refusal, Target};

use crate::random::{any, fuzz, mutate, scramble, word};

fn a_config() -> Value {
    json!({
        "apiVersion": "config.trainer.kubeflow.org/v1alpha1", "kind": "Configuration", "compatibility": "extended",
        "webhook": {"port": 9443, "host": ""},
        "leaderElection": {
            "leaderElect": true, "leaseDuration": "15s", "renewDeadline": "10s", "retryPeriod": "2s",
            "resourceLock": "leases", "resourceName": "trainer.kubeflow.org", "resourceNamespace": "n",
        },
        "metrics": {"bindAddress": ":8443", "secureServing": true, "auth": {"enabled": true}},
        "health": {"healthProbeBindAddress": ":8081", "readinessEndpointName": "readyz", "livenessEndpointName": "healthz"},
        "controller": {"groupKindConcurrency": {"TrainJob.trainer.kubeflow.org": 5}},
        "certManagement": {"enable": true, "webhookServiceName": "s", "webhookSecretName": "c"},
        "clientConnection": {"qps": 50.5, "burst": 100},
        "statusServer": {"port": 10443, "qps": 5, "burst": 10},
        "featureGates": {"TrainJobStatus": true, "AllAlpha": false},
        "tls": {"minVersion": "1.3", "cipherSuites": ["TLS_AES_128_GCM_SHA256", "x"], "nextProtos": ["h2"]},
    })
}

#[test]
fn configuration_files() {
    let whole = a_config();
    fuzz("configuration files", 3000, |random| {
        let mut document = whole.clone();
        mutate(random, &mut document);
        let as_yaml = random.bool();
        let text = if as_yaml { serde_yaml::to_string(&document).unwrap() } else { document.to_string() };
        let mut bytes = text.into_bytes();
        if random.bool() {
            scramble(random, &mut bytes);
        }
        match Config::read(&String::from_utf8_lossy(&bytes)) {
            Ok(config) => {
                // All of it can be asked for.
                let _ = (
                    config.compatibility(),
                    config.webhook(),
                    config.metrics(),
                    config.health(),
                    config.concurrency(),
                );
                let _ =
                    (config.certificates(), config.client_rate(), config.status_port(), config.status_rate());
                let _ = (config.leader_election(), config.tls());
                let mut gates = FeatureGates::default();
                if let Err(error) = gates.set(config.feature_gates()) {
                    assert!(error.to_string().starts_with("unrecognized feature gate: "), "{error}");
                }
            }
            Err(ConfigError::Decode(text) | ConfigError::Invalid(text)) => assert!(!text.trim().is_empty()),
            Err(error @ ConfigError::Read(_)) => panic!("nothing was read: {error}"),
        }
        let gate = format!("{}={},{}", word(random), word(random), word(random));
        if let Err(error) = FeatureGates::default().set_text(&gate) {
            assert!(!error.to_string().is_empty());
        }
        let duration = format!("{}{}", word(random), ["s", "ms", "h1m", "ns", "", "µs"][random.usize(0..6)]);
        if let Ok(nanos) = parse_duration(&duration) {
            assert_eq!(parse_duration(&format_duration(nanos)), Ok(nanos), "{duration}");
        }
    });
}

#[test]
fn status_bodies() {
    let whole = json!({"trainerStatus": {
        "progressPercentage": 50, "estimatedRemainingSeconds": 7, "lastUpdatedTime": "2026-01-02T03:04:05+02:00",
        "metrics": [{"name": "loss", "value": "0.5"}, {"name": "eval_loss", "value": "1e-3"}],
    }});
    let target = Target { namespace: "n".to_owned(), name: "a".to_owned() };
    fuzz("status bodies", 20_000, |random| {
        let mut body = whole.clone();
        mutate(random, &mut body);
        let mut bytes = body.to_string().into_bytes();
        scramble(random, &mut bytes);
        match status_server::report(&target, &bytes) {
            Ok(report) => {
                assert_eq!(report.answer.code, 200);
                assert!(serde_json::from_str::<Value>(&report.answer.body).is_ok(), "{}", report.answer.body);
                if let Some(apply) = report.apply {
                    let keys: Vec<_> =
                        apply["status"].as_object().into_iter().flatten().map(|(key, _)| key).collect();
                    assert_eq!(keys, ["trainerStatus"]);
                }
            }
            Err(refusal) => {
                assert_eq!(refusal, Refusal::Payload);
                let answer = refusal.answer();
                let status: Value = serde_json::from_str(&answer.body).unwrap();
                assert_eq!((answer.code, &status["message"]), (422, &json!("Invalid payload")));
            }
        }
        let path = format!(
            "/apis/trainer.kubeflow.org/v1alpha1/namespaces/{}/trainjobs/{}/status",
            word(random),
            word(random)
        );
        let length = [None, Some(0), Some(u64::MAX)][random.usize(0..3)];
        if let Err(refusal) = status_server::route(["POST", "GET", ""][random.usize(0..3)], &path, length) {
            assert!(matches!(refusal, Refusal::NoRoute | Refusal::TooLarge));
        }
        let header = format!("{} {}", ["Bearer", "bearer\t", "Basic", ""][random.usize(0..4)], word(random));
        assert!(status_server::bearer(&header).is_none_or(|token| !token.is_empty()));
        // What the API server said goes into the answer, whatever it is.
        let told: Value =
            serde_json::from_str(&Refusal::Invalid(word(random).to_owned()).answer().body).unwrap();
        assert_eq!(told["code"], 422);
    });
}

#[test]
fn quantities() {
    const SUFFIXES: [&str; 20] = [
        "",
        "n",
        "u",
        "m",
        "k",
        "M",
        "G",
        "T",
        "P",
        "E",
        "Ki",
        "Mi",
        "Gi",
        "Ti",
        "Pi",
        "Ei",
        "e3",
        "E-3",
        "e99999999999",
        "i",
    ];
    fuzz("quantities", 20_000, |random| {
        let digits = |random: &mut fastrand::Rng, most: usize| -> String {
            (0..random.usize(0..most)).map(|_| char::from(random.u8(b'0'..=b'9'))).collect()
        };
        let sign = ["", "-", "+", "--"][random.usize(0..4)];
        let point = ["", ".", ".."][random.usize(0..3)];
        let text = format!(
            "{sign}{}{point}{}{}",
            digits(random, 40),
            digits(random, 15),
            SUFFIXES[random.usize(0..SUFFIXES.len())]
        );
        let mut bytes = text.into_bytes();
        if random.u8(0..4) == 0 {
            scramble(random, &mut bytes);
        }
        let value =
            if random.u8(0..8) == 0 { any(random) } else { Value::from(String::from_utf8_lossy(&bytes)) };
        let Some(quantity) = Quantity::of(&value) else {
            if let Value::String(text) = &value {
                let error = text.trim().parse::<Quantity>().unwrap_err();
                assert!(error.to_string().starts_with("failed to read a quantity"));
            }
            return;
        };
        // What is written is read as the same, and written the same again.
        let written = quantity.to_string();
        let again: Quantity =
            written.parse().unwrap_or_else(|error| panic!("{value} is written {written}: {error}"));
        assert_eq!((again, again.to_string()), (quantity, written), "{value}");
        let other: Quantity = ["1", "9223372036854775807", "-9223372036854775808", "1n", "3Ki"]
            [random.usize(0..5)]
        .parse()
        .unwrap();
        let sum = quantity + other;
        assert_eq!(sum, other + quantity, "{value} + {other}");
        assert_eq!(sum.to_string().parse(), Ok(sum), "{value} + {other}");
        let product = quantity.times([0, 1, -1, i64::MAX, i64::MIN][random.usize(0..5)]);
        assert_eq!(product.to_string().parse(), Ok(product), "{value}");
        assert!(quantity.is_zero() || quantity.ceil() != 0 || quantity < Quantity::default());
    });
}
