//! One rule an option: from its value to its type.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;
use serde_json::Value;
use trainerd_plan::crd_policy::CrdPolicy;
use trainerd_plan::drift::{Ignored, Policy};

use super::{
    Conflicts, DAEMON_IMAGE, InvalidOptions, Known, LogLevel, OptionError, Options, PATCHES, Provider, Raw,
    Reconciler, Rule, RuntimeChoice, UpgradePolicy, VERSIONED, VersionChoice,
};
use crate::image::{ImageRef, Registry};
use crate::nearest::nearest;
use crate::patches::{self, Patch, Unreadable};
use crate::schema::OptionType;
use crate::yaml;

/// Longest DNS subdomain, the form of most names in Kubernetes.
const MAX_SUBDOMAIN: usize = 253;

pub(super) fn options(known: &Known<'_>, given: &BTreeMap<String, Raw>) -> Result<Options, InvalidOptions> {
    let mut reader = Reader::new(known, given);
    let mut images = BTreeMap::new();
    let mut versions = BTreeMap::new();
    for row in &VERSIONED {
        if let Some(image) = reader.image(row.image_option) {
            images.insert(row.image_option.to_owned(), image);
        }
        versions.insert(row.component.to_owned(), reader.version(row.version_option, row.component));
    }
    if let Some(image) = reader.image(DAEMON_IMAGE) {
        images.insert(DAEMON_IMAGE.to_owned(), image);
    }
    let components = reader.components();
    let data_cache = reader.boolean("data-cache");
    if data_cache && !components.contains("lws") {
        reader.fail("data-cache", Rule::NeedsLws, None);
    }
    let (reconciler, train_job_status) = (reader.reconciler(), reader.boolean("trainjob-status"));
    if train_job_status && reconciler == Reconciler::Hosted {
        reader.fail("trainjob-status", Rule::NotHosted, Some("false".to_owned()));
    }
    let options = Options {
        images,
        versions,
        reconciler,
        components,
        runtimes: reader.runtimes(),
        runtime_images: reader.runtime_images(),
        data_cache,
        data_cache_server: reader.provider("data-cache-server"),
        initializers: reader.provider("initializers"),
        image_registry: reader.registry(),
        patches: reader.patches(),
        image_pull_secrets: reader.secrets(),
        conflicts: reader.conflicts(),
        crd_policy: reader.crd_policy(),
        drift_policy: reader.drift_policy(),
        drift_ignore: reader.drift_ignore(),
        settle: reader.number("settle", 0, 300, " seconds"),
        small_footprint: reader.boolean("small-footprint"),
        train_job_status,
        auto_rollback: reader.boolean("auto-rollback"),
        hook_wait: reader.number("hook-wait", 1, 30, " seconds"),
        log_level: reader.log_level(),
        upgrade_policy: reader.upgrade_policy(),
        progress_deadline: reader.number("progress-deadline", 30, 3600, " seconds"),
        retry_failed: reader.wide_number("retry-failed", 0, 86_400, " seconds"),
        revision_history: reader.number("revision-history", 1, 50, ""),
        values: reader.values,
        given: given.keys().cloned().collect(),
    };
    InvalidOptions::check(reader.errors)?;
    Ok(options)
}

/// Reads options one by one and collects what is wrong. What it returns beside an error is never seen.
struct Reader<'a> {
    known: &'a Known<'a>,
    values: BTreeMap<String, Value>,
    errors: Vec<OptionError>,
}

impl<'a> Reader<'a> {
    /// Names and types are judged here; a value of another type is replaced by the default, so that no
    /// option is reported twice.
    fn new(known: &'a Known<'a>, given: &BTreeMap<String, Raw>) -> Self {
        let schema = known.schema;
        let defaults = schema.options.iter().map(|(name, option)| (name.clone(), option.default.clone()));
        let mut reader = Self { known, values: defaults.collect(), errors: Vec::new() };
        for (name, raw) in given {
            let typed = match raw {
                Raw::Text(text) => schema.options.get(name).and_then(|option| option.kind.read(text)),
                // A list of patches may stand in a file of options as it is.
                Raw::Typed(value @ Value::Array(_)) if name == PATCHES => {
                    Some(Value::String(yaml::document(value)))
                }
                Raw::Typed(value) => Some(value.clone()),
            };
            let shown = match raw {
                Raw::Text(text) => Value::from(text.as_str()),
                Raw::Typed(value) => value.clone(),
            };
            let (rule, nearest) = match (schema.options.get(name), typed) {
                (None, _) => (Rule::UnknownOption, nearest(name, schema.options.keys().map(String::as_str))),
                (Some(option), Some(value)) if option.kind.holds(&value) => {
                    reader.values.insert(name.clone(), value);
                    continue;
                }
                (Some(option), _) => (Rule::Type(option.kind), respelled(option.kind, &shown)),
            };
            reader.errors.push(OptionError { option: name.clone(), value: shown, rule, nearest });
        }
        reader
    }

    fn fail(&mut self, option: &str, rule: Rule, nearest: Option<String>) {
        let value = self.values.get(option).cloned().unwrap_or_default();
        self.errors.push(OptionError { option: option.to_owned(), value, rule, nearest });
    }

    fn text(&self, option: &str) -> String {
        self.values.get(option).and_then(Value::as_str).unwrap_or_default().trim().to_owned()
    }

    fn boolean(&self, option: &str) -> bool {
        self.values.get(option).and_then(Value::as_bool).unwrap_or_default()
    }

    fn number(&mut self, option: &str, min: u16, max: u16, unit: &'static str) -> u16 {
        u16::try_from(self.wide_number(option, min.into(), max.into(), unit)).unwrap_or(min)
    }

    fn wide_number(&mut self, option: &str, min: u32, max: u32, unit: &'static str) -> u32 {
        let value = self.values.get(option).and_then(Value::as_i64).unwrap_or_default();
        let clamped = value.clamp(i64::from(min), i64::from(max));
        if clamped != value {
            self.fail(option, Rule::Range { min, max, unit }, Some(clamped.to_string()));
        }
        u32::try_from(clamped).unwrap_or(min)
    }

    fn one_of(&mut self, option: &str, allowed: &'static [&'static str]) -> String {
        let value = self.text(option);
        if !allowed.contains(&value.as_str()) {
            self.fail(option, Rule::OneOf(allowed), nearest(&value, allowed.iter().copied()));
        }
        value
    }

    fn provider(&mut self, option: &str) -> Provider {
        match self.one_of(option, &["native", "upstream"]).as_str() {
            "native" => Provider::Native,
            _ => Provider::Upstream,
        }
    }

    fn reconciler(&mut self) -> Reconciler {
        match self.one_of("reconciler", &["hosted", "native", "upstream"]).as_str() {
            "hosted" => Reconciler::Hosted,
            "native" => Reconciler::Native,
            _ => Reconciler::Upstream,
        }
    }

    fn conflicts(&mut self) -> Conflicts {
        match self.one_of("conflicts", &["force", "refuse", "yield"]).as_str() {
            "force" => Conflicts::Force,
            "yield" => Conflicts::Yield,
            _ => Conflicts::Refuse,
        }
    }

    fn crd_policy(&mut self) -> CrdPolicy {
        match self.one_of("crd-policy", &["keep", "delete"]).as_str() {
            "delete" => CrdPolicy::Delete,
            _ => CrdPolicy::Keep,
        }
    }

    fn log_level(&mut self) -> LogLevel {
        match self.one_of("log-level", &["error", "warn", "info", "debug", "trace"]).as_str() {
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "debug" => LogLevel::Debug,
            "trace" => LogLevel::Trace,
            _ => LogLevel::Info,
        }
    }

    fn upgrade_policy(&mut self) -> UpgradePolicy {
        match self.one_of("upgrade-policy", &["auto", "manual"]).as_str() {
            "manual" => UpgradePolicy::Manual,
            _ => UpgradePolicy::Auto,
        }
    }

    fn drift_policy(&mut self) -> Policy {
        let text = self.one_of("drift-policy", &["enforce", "report", "ignore"]);
        text.parse().unwrap_or_default()
    }

    fn drift_ignore(&mut self) -> Vec<Ignored> {
        let entries = Ignored::list(&self.text("drift-ignore"));
        if let Err(at) = &entries {
            self.fail("drift-ignore", Rule::NotAPointer(*at), None);
        }
        entries.unwrap_or_default()
    }

    /// An override; `None` for the packaged default, which stands for the catalog's image.
    fn image(&mut self, option: &str) -> Option<ImageRef> {
        let text = self.text(option);
        let default = self.known.schema.default_of(option).and_then(Value::as_str).unwrap_or_default();
        if text == default {
            return None;
        }
        let image = pinned(&text);
        if image.is_none() {
            let tag = default.parse::<ImageRef>().ok().and_then(|image| image.tag().map(str::to_owned));
            self.fail(option, Rule::BadImage, respelled_image(&text, tag.as_deref()));
        }
        image
    }

    fn version(&mut self, option: &str, component: &str) -> VersionChoice {
        let text = self.text(option);
        let known = self.known.versions.get(component).cloned().unwrap_or_default();
        let choice = version_choice(&text);
        let has = |choice: &VersionChoice| match choice {
            VersionChoice::Auto => true,
            VersionChoice::Minor(major, minor) => {
                known.iter().any(|v| (v.major, v.minor) == (*major, *minor))
            }
            VersionChoice::Exact(version) => known.contains(version),
        };
        if let Some(choice) = choice.filter(has) {
            return choice;
        }
        // The newest first: of equally near spellings it is the likelier.
        let whole_and_minor = |v: &Version| [v.to_string(), format!("{}.{}", v.major, v.minor)];
        let spellings: Vec<String> =
            known.iter().rev().flat_map(whole_and_minor).chain(["auto".to_owned()]).collect();
        let near = nearest(&text, spellings.iter().map(String::as_str));
        self.fail(option, Rule::UnknownVersion { version: text, known }, near);
        VersionChoice::Auto
    }

    fn components(&mut self) -> BTreeSet<String> {
        let names = list(&self.text("components"));
        let known = VERSIONED.map(|row| row.component);
        if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
            self.fail("components", Rule::UnknownComponent(unknown.clone()), nearest(unknown, known));
        } else if !names.iter().any(|name| name == "trainer") {
            self.fail("components", Rule::TrainerRequired, None);
        }
        names.into_iter().collect()
    }

    fn runtimes(&mut self) -> RuntimeChoice {
        let names = list(&self.text("runtimes"));
        match names.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["all"] => return RuntimeChoice::All,
            ["none"] => return RuntimeChoice::Named(BTreeSet::new()),
            _ => {}
        }
        let known = &self.known.runtimes;
        if let Some(unknown) = names.iter().find(|name| !known.contains(name.as_str())) {
            let near = nearest(unknown, known.iter().copied());
            self.fail("runtimes", Rule::UnknownRuntime(unknown.clone()), near);
        }
        RuntimeChoice::Named(names.into_iter().collect())
    }

    fn runtime_images(&mut self) -> BTreeMap<String, ImageRef> {
        let mut images = BTreeMap::new();
        let keys = &self.known.runtime_images;
        for (at, entry) in list(&self.text("runtime-images")).iter().enumerate() {
            let parsed =
                entry.split_once('=').and_then(|(key, image)| Some((key.trim(), pinned(image.trim())?)));
            match parsed {
                None => self.fail("runtime-images", Rule::NotKeyImage(at + 1), None),
                Some((key, _)) if !keys.contains(key) => {
                    let near = nearest(key, keys.iter().copied());
                    self.fail("runtime-images", Rule::UnknownKey(key.to_owned()), near);
                }
                Some((key, image)) => {
                    images.insert(key.to_owned(), image);
                    continue;
                }
            }
            break;
        }
        images
    }

    fn registry(&mut self) -> Option<Registry> {
        let text = self.text("image-registry");
        if text.is_empty() {
            return None;
        }
        let registry = text.parse().ok();
        if registry.is_none() {
            let bare = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest).trim_end_matches('/');
            let near = bare.parse::<Registry>().is_ok().then(|| bare.to_owned());
            self.fail("image-registry", Rule::BadRegistry, near);
        }
        registry
    }

    fn patches(&mut self) -> Vec<Patch> {
        let components: Vec<&str> = self.known.versions.keys().copied().collect();
        match patches::read(&self.text(PATCHES), &components) {
            Ok(patches) => return patches,
            Err(Unreadable::NotAList(why)) => self.fail(PATCHES, Rule::NotPatches(why), None),
            Err(Unreadable::Entry(entry, fault, near)) => {
                self.fail(PATCHES, Rule::Patch(entry, fault), near);
            }
        }
        Vec::new()
    }

    fn secrets(&mut self) -> Vec<String> {
        let names = list(&self.text("image-pull-secrets"));
        if let Some(bad) = names.iter().find(|name| !is_subdomain(name)) {
            let near = Some(bad.to_lowercase().replace('_', "-")).filter(|name| is_subdomain(name));
            self.fail("image-pull-secrets", Rule::BadSecretName(bad.clone()), near);
        }
        names
    }
}

/// The parts of a comma-separated list, without empty ones and repetitions, in the order given.
fn list(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        if !parts.iter().any(|known| known == part) {
            parts.push(part.to_owned());
        }
    }
    parts
}

/// A reference that names one image; an untagged one means whatever `latest` is, which is never rendered.
fn pinned(text: &str) -> Option<ImageRef> {
    text.parse().ok().filter(ImageRef::is_pinned)
}

/// `auto`, `X.Y` or `X.Y.Z`.
fn version_choice(text: &str) -> Option<VersionChoice> {
    if text == "auto" {
        return Some(VersionChoice::Auto);
    }
    if let Ok(version) = text.parse() {
        return Some(VersionChoice::Exact(version));
    }
    let (major, minor) = text.split_once('.')?;
    Some(VersionChoice::Minor(major.parse().ok()?, minor.parse().ok()?))
}

/// A value of another type, spelled as one of this type.
fn respelled(kind: OptionType, value: &Value) -> Option<String> {
    match (kind, value) {
        (OptionType::String, Value::Number(number)) => Some(format!("\"{number}\"")),
        (OptionType::String, Value::Array(items)) => {
            items.iter().map(Value::as_str).collect::<Option<Vec<_>>>().map(|items| items.join(","))
        }
        (OptionType::Boolean, Value::String(text)) => match text.to_lowercase().as_str() {
            "true" | "yes" | "on" | "y" | "1" => Some("true".to_owned()),
            "false" | "no" | "off" | "n" | "0" => Some("false".to_owned()),
            _ => None,
        },
        (OptionType::Int, Value::String(text)) => {
            let digits: String = text.trim().chars().take_while(char::is_ascii_digit).collect();
            Some(digits).filter(|digits| !digits.is_empty())
        }
        _ => None,
    }
}

fn respelled_image(text: &str, tag: Option<&str>) -> Option<String> {
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    match bare.parse::<ImageRef>() {
        Ok(image) if image.is_pinned() => Some(image.to_string()),
        Ok(image) => tag.map(|tag| image.tagged(tag).to_string()),
        Err(_) => Some(bare.to_lowercase()).filter(|lower| pinned(lower).is_some()),
    }
}

/// Whether a text is a DNS subdomain (RFC 1123), the form of a Secret's name.
fn is_subdomain(name: &str) -> bool {
    name.len() <= MAX_SUBDOMAIN && name.split('.').all(|label| !label.is_empty() && is_label(label))
}

/// Whether a text has the characters of a DNS label (RFC 1123), whatever its length.
pub(crate) fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
}
