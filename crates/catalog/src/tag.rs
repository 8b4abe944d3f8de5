//! What an image's tag says about the version inside.

/// The version that a tag begins with: `v?X.Y.Z` or `v?X.Y`, then the end or anything that is no digit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TagVersion {
    pub(crate) major: u64,
    pub(crate) minor: u64,
    /// `None` for a tag that names a minor version alone.
    pub(crate) patch: Option<u64>,
}

impl TagVersion {
    pub(crate) fn of(tag: &str) -> Option<Self> {
        let tag = tag.strip_prefix('v').unwrap_or(tag);
        let (major, rest) = leading_number(tag)?;
        let (minor, rest) = leading_number(rest.strip_prefix('.')?)?;
        let patch = rest.strip_prefix('.').and_then(leading_number).map(|(patch, _)| patch);
        Some(Self { major, minor, patch })
    }
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_begin_with_versions() {
        let of = |tag| TagVersion::of(tag).map(|TagVersion { major, minor, patch }| (major, minor, patch));
        for (tag, version) in [
            ("v2.3.0", Some((2, 3, Some(0)))),
            ("2.2.1-26331db-20260801050835", Some((2, 2, Some(1)))),
            ("2.2", Some((2, 2, None))),
            ("2.2-edge", Some((2, 2, None))),
            ("2.2.x", Some((2, 2, None))),
            ("2.13.0-cuda13.0", Some((2, 13, Some(0)))),
            ("latest", None),
            ("2", None),
            ("v", None),
            ("vv2.3.0", None),
            ("sha-48e7a93", None),
            ("99999999999999999999.1.0", None),
        ] {
            assert_eq!(of(tag), version, "{tag}");
        }
    }
}
