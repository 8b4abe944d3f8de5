use proptest::prelude::*;
use serde_json::json;

use super::*;

fn error(text: &str) -> String {
    Config::read(text).unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_the_default() {
    for text in ["", "\n", "{}", "# nothing\n"] {
        assert_eq!(Config::read(text), Ok(Config::default()), "{text:?}");
    }
    let config = Config::default();
    assert_eq!(config.webhook(), ("", 9443));
    assert_eq!(config.metrics(), (":8443", true, false));
    assert_eq!(config.health(), (":8081", "readyz", "healthz"));
    assert!(config.certificates().0);
    assert_eq!((config.client_rate(), config.status_rate()), ((50.0, 100), (5.0, 10)));
    assert_eq!((config.status_port(), config.leader_election()), (10443, None));
    assert_eq!(config.tls().next_protocols, ["http/1.1"]);
    assert_eq!(config.compatibility(), Compatibility::Extended);
}

#[test]
fn given_values_are_kept() {
    let config = Config::read(
        "apiVersion: config.trainer.kubeflow.org/v1alpha1\nkind: Configuration\nleaderElection: {leaderElect: true, \
         leaseDuration: 90s}\nhealth: {healthProbeBindAddress: ''}\ncontroller: {groupKindConcurrency: {TrainJob.x: 5}}\n\
         tls: {minVersion: '1.3', cipherSuites: [A, TLS_AES_128_GCM_SHA256], nextProtos: [h2]}\ncompatibility: upstream\n",
    )
    .unwrap();
    let election = config.leader_election().unwrap();
    assert_eq!(
        (election.leader_elect, election.lease_duration, election.retry_period),
        (true, 90_000_000_000, 0)
    );
    assert_eq!(config.document()["leaderElection"]["leaseDuration"], json!("1m30s"));
    assert_eq!(config.health().0, ":8081");
    assert_eq!(config.concurrency(), [("TrainJob.x", 5)].into());
    let tls = config.tls();
    assert_eq!(
        (tls.min_version, tls.cipher_suites, tls.next_protocols),
        (0x0304, vec![0x1301], vec!["h2".to_owned()])
    );
    assert_eq!(tls.warnings, [TlsWarning::CipherSuite("A".to_owned())]);
    assert_eq!(config.compatibility(), Compatibility::Upstream);
}

#[test]
fn every_error_has_upstreams_text() {
    for (text, expected) in [
        (
            "foo: 1\nwebhook: {bar: 2}",
            "failed to decode config file: strict decoding error: unknown field \"foo\", unknown field \"webhook.bar\"",
        ),
        (
            "webhook: {}\nmetrics: {}\nwebhook: {}\n",
            "failed to decode config file: strict decoding error: yaml: unmarshal errors:\n  line 3: key \"webhook\" already set in map",
        ),
        (
            "{\"webhook\": {}, \"webhook\": {}}",
            "failed to decode config file: strict decoding error: duplicate field \"webhook\"",
        ),
        (
            "kind: WrongKind",
            "failed to decode config file: no kind \"WrongKind\" is registered for version \"config.trainer.kubeflow.org/v1alpha1\" in scheme \"trainerd\"",
        ),
        (
            "webhook: {port: 0}",
            "invalid configuration: webhook.port: Invalid value: 0: must be between 1 and 65535",
        ),
        (
            "statusServer: {port: 70000, qps: -0.5}\nclientConnection: {burst: -1}\ncontroller: {groupKindConcurrency: {a: 0}}",
            "invalid configuration: [clientConnection.burst: Invalid value: -1: must be greater than or equal to 0, \
             controller.groupKindConcurrency[a]: Invalid value: 0: must be greater than 0, statusServer.port: Invalid value: \
             70000: must be between 1 and 65535, statusServer.qps: Invalid value: -0.5: must be greater than or equal to 0]",
        ),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
    for text in [
        "webhook: {port: a}",
        "leaderElection: {leaseDuration: 15}",
        "leaderElection: {leaseDuration: x}",
        "a: [",
        "- a",
        "featureGates: {A: 1}",
        "compatibility: 1",
    ] {
        assert!(error(text).starts_with("failed to decode config file: "), "{text}");
    }
    assert!(error("compatibility: both").starts_with("invalid configuration: compatibility"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_handled(text in "(webhook|tls|leaderElection|featureGates|health|[a-z]{1,3})?[:{}\\[\\], \n\"'&*!|>%@0-9a-zA-Z-]{0,60}") {
        let _ = Config::read(&text);
    }
}
