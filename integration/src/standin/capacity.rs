//! How much CPU pods ask for.

use serde_json::Value;

/// CPU that a pod's containers request together, in thousandths of a core. What cannot be read counts as
/// nothing, as no request does.
pub(super) fn requested_millis(pod: &Value) -> u64 {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    containers
        .into_iter()
        .flatten()
        .filter_map(|c| c.pointer("/resources/requests/cpu")?.as_str())
        .map(millis)
        .sum()
}

/// `500m`, `2`, `0.25`: the spellings of CPU that manifests use.
fn millis(text: &str) -> u64 {
    if let Some(millis) = text.strip_suffix('m') {
        return millis.parse().unwrap_or(0);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction: String = fraction.chars().chain("000".chars()).take(3).collect();
    whole.parse::<u64>().unwrap_or(0) * 1000 + fraction.parse::<u64>().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cpu_requests_are_summed_in_millicores() {
        for (text, expected) in [("500m", 500), ("2", 2000), ("0.25", 250), ("1.5", 1500), ("", 0)] {
            assert_eq!(millis(text), expected, "{text}");
        }
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let pod = json!({"spec": {"containers": [container("1"), container("20m"), {"name": "none"}]}});
        assert_eq!(requested_millis(&pod), 1020);
    }
}
