//! The nearest valid spelling.

/// The candidate that a person most likely meant, `None` if none is near: more than half of it would have
/// to be typed again. Equally near ones: the first.
pub(crate) fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let given = given.trim().to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&given, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| distance * 2 <= candidate.len().max(given.len()))
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_close() {
        let names = ["jobset-image", "jobset-version", "lws-image"];
        assert_eq!(nearest("jobset-imgae", names), Some("jobset-image".to_owned()));
        assert_eq!(nearest("LWS-Image", names), Some("lws-image".to_owned()));
        assert_eq!(nearest("colour", names), None);
        assert_eq!(nearest("x", []), None);
    }
}
