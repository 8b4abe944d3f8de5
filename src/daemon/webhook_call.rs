//! What stood in the way of an admission webhook, as far as the API server tells: its answer has no field for it.

use trainerd_juju::status::Reason;

/// Beginnings and ends of what it quotes.
const WEBHOOK: (&str, &str) = ("failed calling webhook \"", "\"");
const HOST: (&str, &str) = ("\"https://", ".svc:");

/// What Go's client says of a call, and how that is shown.
const CALLS: [(&str, &str); 4] = [
    ("connection refused", "connection refused"),
    ("context deadline exceeded", "timeout"),
    ("i/o timeout", "timeout"),
    ("Client.Timeout", "timeout"),
];

/// The reason of a status for what a dry run through a webhook was answered; `configuration` is what names the webhook
/// where the answer does not.
pub(super) fn trouble(answer: &str, configuration: &str) -> Reason {
    // By the Service that was called, and else by the webhook's own name.
    let host = between(answer, HOST).and_then(|host| host.split('.').next());
    let service = host.or_else(|| between(answer, WEBHOOK)).unwrap_or(configuration).to_owned();
    if answer.contains("no endpoints available") {
        return Reason::WebhookEndpoint { service };
    }
    // Whom it reached it could not believe.
    if ["x509:", "tls:", "certificate"].into_iter().any(|word| answer.contains(word)) {
        return Reason::WebhookCert { service };
    }
    let known = CALLS.into_iter().find(|(said, _)| answer.contains(said));
    let cause = known.map_or("not answering yet", |(_, shown)| shown).to_owned();
    Reason::WebhookCall { service, cause }
}

fn between<'a>(text: &'a str, (begin, end): (&str, &str)) -> Option<&'a str> {
    let (_, rest) = text.split_once(begin)?;
    rest.split_once(end).map(|(found, _)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_of_webhook_error_has_its_message() {
        let call = |url: &str, why: &str| {
            format!(
                "Internal error occurred: failed calling webhook \"v.example.com\": failed to call webhook: \
                 Post \"{url}?timeout=10s\": {why}"
            )
        };
        let ours = "https://trainer-hooks.kubeflow.svc:443/validate";
        for (answer, shown) in [
            (
                call(ours, "dial tcp 10.96.0.7:443: connect: connection refused"),
                "trainer-hooks: connection refused",
            ),
            (call(ours, "context deadline exceeded"), "trainer-hooks: timeout"),
            (call(ours, "dial tcp 10.96.0.7:443: i/o timeout"), "trainer-hooks: timeout"),
            (
                call(ours, "no endpoints available for service \"trainer-hooks\""),
                "trainer-hooks: no endpoints",
            ),
            (
                call(
                    ours,
                    "tls: failed to verify certificate: x509: certificate signed by unknown authority",
                ),
                "trainer-hooks: certificate",
            ),
            (call("https://127.0.0.1:9/", "EOF"), "v.example.com: not answering yet"),
            ("not answering yet".to_owned(), "validator.example.com: not answering yet"),
        ] {
            let reason = trouble(&answer, "validator.example.com");
            assert_eq!(reason.message("a"), format!("Waiting for webhook {shown}"), "{answer}");
        }
    }
}
