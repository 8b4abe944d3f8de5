//! Which files are brought, out of what a source has.

use std::collections::HashMap;

use crate::error::Error;
use crate::pattern::Filter;
use crate::source::Remote;
use crate::uri::Kind;

/// Ends of a model's weights that are preferred.
const PREFERRED: [&str; 2] = [".safetensors", ".gguf"];

/// Ends of weights in other formats.
const OTHERS: [&str; 6] = [".bin", ".pt", ".pth", ".h5", ".msgpack", ".ckpt"];

/// The wanted files, sorted by name, and none that would be another's folder.
pub fn select(
    files: Vec<Remote>,
    filter: &Filter,
    kind: Kind,
    is_hub: bool,
    uri: &str,
) -> Result<Vec<Remote>, Error> {
    let listed = files.len();
    let (mut wanted, rest): (Vec<Remote>, Vec<Remote>) =
        files.into_iter().partition(|file| filter.wants(&file.key));
    let has = |files: &[Remote], ends: &[&str]| {
        files.iter().any(|file| ends.iter().any(|end| file.key.ends_with(end)))
    };
    if is_hub && kind == Kind::Model && !has(&wanted, &PREFERRED) && has(&rest, &OTHERS) {
        // A model without weights is of no use: these were left out for others that it does not have.
        let weights = rest.into_iter().filter(|file| OTHERS.iter().any(|end| file.key.ends_with(end)));
        let before = wanted.len();
        wanted.extend(weights);
        tracing::warn!(
            "{uri} has no .safetensors and no .gguf; its {} files of weights in other formats are fetched",
            wanted.len() - before
        );
    }
    if listed == 0 {
        return Err(Error::NotFound { what: uri.to_owned(), why: ": it has no files".to_owned() });
    }
    if wanted.is_empty() {
        return Err(Error::NothingMatched { uri: uri.to_owned(), listed });
    }
    wanted.sort_by(|one, other| one.name.cmp(&other.name));
    distinct(&wanted)?;
    Ok(wanted)
}

/// No two files have one name, and none has the name of another's folder.
fn distinct(files: &[Remote]) -> Result<(), Error> {
    let mut names: HashMap<&str, &str> = HashMap::new();
    for file in files {
        if let Some(other) = names.insert(file.name.as_str(), &file.key) {
            return Err(Error::Clash(other.to_owned(), file.key.clone()));
        }
    }
    for file in files {
        if let Some(other) = file.name.folders().find_map(|folder| names.get(folder)) {
            return Err(Error::Clash((*other).to_owned(), file.key.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;
    use crate::pattern::Pattern;

    fn remote(name: &str) -> Remote {
        let size = Some(1);
        Remote {
            name: Name::new(name).unwrap(),
            key: name.to_owned(),
            size,
            version: None,
            digest: None,
            ranged: true,
        }
    }

    fn selected(names: &[&str], allow: &[&str], ignore: &[&str]) -> Result<Vec<String>, String> {
        let patterns = |texts: &[&str]| texts.iter().map(|text| Pattern::new(text)).collect();
        let filter = Filter { allow: patterns(allow), ignore: patterns(ignore) };
        let files = names.iter().map(|name| remote(name)).collect();
        let selected = select(files, &filter, Kind::Model, true, "hf://a/b");
        selected
            .map(|files| files.into_iter().map(|file| file.key).collect())
            .map_err(|error| error.to_string())
    }

    const ALLOW: [&str; 5] = ["*.json", "*.safetensors", "*.model", "*.txt", "*.gguf"];
    const IGNORE: [&str; 5] = ["*.msgpack", "*.h5", "*.bin", "*.pt", "*.pth"];

    #[test]
    fn a_model_has_its_weights_in_the_format_that_there_is() {
        let both = selected(&["b.safetensors", "a.json", "c.bin"], &ALLOW, &IGNORE).unwrap();
        assert_eq!(both, ["a.json", "b.safetensors"]);
        let old = selected(&["config.json", "pytorch_model.bin", "README.md"], &ALLOW, &IGNORE).unwrap();
        assert_eq!(old, ["config.json", "pytorch_model.bin"]);
    }

    #[test]
    fn nothing_and_clashes_are_named() {
        assert_eq!(
            selected(&["a.md"], &ALLOW, &[]).unwrap_err(),
            "none of the 1 files of hf://a/b is wanted by the patterns"
        );
        assert_eq!(selected(&[], &[], &[]).unwrap_err(), "hf://a/b does not exist: it has no files");
        assert_eq!(
            selected(&["a", "a/b"], &[], &[]).unwrap_err(),
            "a and a/b of the source would be the same file or folder"
        );
        assert!(selected(&["a-b", "a/b", "ab"], &[], &[]).is_ok());
        assert!(selected(&["a", "a"], &[], &[]).is_err());
    }
}
