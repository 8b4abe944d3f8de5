//! What the webhook servers answer.

use serde_json::{Value, json};

/// The answer to an admission review (allowed) or a conversion review (the same objects, relabelled).
/// `None` for anything else.
pub(super) fn answer(review: &Value) -> Option<Value> {
    let request = review.get("request")?;
    let uid = request.get("uid")?;
    let response = match review.get("kind")?.as_str()? {
        "AdmissionReview" => json!({"uid": uid, "allowed": true}),
        "ConversionReview" => {
            let version = request.get("desiredAPIVersion")?;
            let mut objects = request.get("objects")?.as_array()?.clone();
            for object in &mut objects {
                object["apiVersion"] = version.clone();
            }
            json!({"uid": uid, "convertedObjects": objects, "result": {"status": "Success"}})
        }
        _ => return None,
    };
    Some(json!({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reviews_are_answered_in_their_version() {
        let admission = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                               "request": {"uid": "u", "object": {}}});
        assert_eq!(
            answer(&admission).unwrap(),
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                   "response": {"uid": "u", "allowed": true}})
        );
        let conversion = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
            "request": {"uid": "u", "desiredAPIVersion": "g/v2", "objects": [{"apiVersion": "g/v1", "spec": 1}]}});
        let converted = answer(&conversion).unwrap();
        assert_eq!(converted["response"]["convertedObjects"], json!([{"apiVersion": "g/v2", "spec": 1}]));
        for other in
            [json!({}), json!({"kind": "Pod", "request": {"uid": "u"}}), json!({"kind": "AdmissionReview"})]
        {
            assert_eq!(answer(&other), None, "{other}");
        }
    }
}
