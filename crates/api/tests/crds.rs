//! The CRDs are upstream's: their digests, and where the reference data exists every difference by path.

use std::path::Path;

use semver::Version;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use trainerd_api::crds::{self, CrdChannel, ServiceRef};

/// Component, version, CRD, SHA-256 of its canonical JSON (keys sorted, no blanks) as upstream installs it:
/// without descriptions, with the labels and the conversion service of the component's own release.
#[rustfmt::skip]
const DIGESTS: &[(&str, &str, &str, &str)] = &[
    ("trainer", "2.0.1", "clustertrainingruntimes.trainer.kubeflow.org", "9cce0ae97609413b53a93fdc774f20b309593a7bcb59b6bf0f1eee52d9f750f8"),
    ("trainer", "2.0.1", "trainingruntimes.trainer.kubeflow.org", "d548eb84392010d85d4f8820180740017b6e699b396f6fa3b57c98a293793f93"),
    ("trainer", "2.0.1", "trainjobs.trainer.kubeflow.org", "883c37f99ef1a8cc65250ecee8deeeeba4a7813412327ba75f4a550824c6d912"),
    ("trainer", "2.1.0", "clustertrainingruntimes.trainer.kubeflow.org", "15df06105895dea7cfe0ebb10cefd5f76e12b800fcb528070f07954ef4537425"),
    ("trainer", "2.1.0", "trainingruntimes.trainer.kubeflow.org", "35858cfc620474eae3af1d1f8ec59b60fe195cdd2f34bd272263f39c75001bcb"),
    ("trainer", "2.1.0", "trainjobs.trainer.kubeflow.org", "5f639d3c4bdddbca379bae97dc1ab48da4f759fd73a9ed8b4e2b8e440a898da4"),
    ("trainer", "2.2.1", "clustertrainingruntimes.trainer.kubeflow.org", "41309b07c1df6ec36c7731b2e0af1aa2d1e1f2e14782e04ec7a0a7c4ca7ca55e"),
    ("trainer", "2.2.1", "trainingruntimes.trainer.kubeflow.org", "13ef19ef238004754e3e7a6a1aae83a21fcc7cb8aa1c18c1c2996fc3d2da157d"),
    ("trainer", "2.2.1", "trainjobs.trainer.kubeflow.org", "4185786eaa2d3bcceeb9eba112e88fac11e64771788b3651257bc97e00033883"),
    ("trainer", "2.3.0", "clustertrainingruntimes.trainer.kubeflow.org", "48b64e3998360c098745146be42779ecaa9dfb953c10792253c0b7c1829b7a10"),
    ("trainer", "2.3.0", "trainingruntimes.trainer.kubeflow.org", "95ac0bbfdd300c5825ddd281a06a48e41218805a18f407b57975b46ca62729d4"),
    ("trainer", "2.3.0", "trainjobs.trainer.kubeflow.org", "9d34b0b8eb95e03d4a1b074ff23a82d521fd1cbf9fe5a261bf03a9fc89859aea"),
    ("jobset", "0.8.2", "jobsets.jobset.x-k8s.io", "cc3ea38fae1961ffce112919dd8fa187eca420cafc49cea62f4c2d379acd3022"),
    ("jobset", "0.10.1", "jobsets.jobset.x-k8s.io", "93b20b9e783b695c548dd1aa9501a92c5d982963d86f79cdc839a79883743b3d"),
    ("jobset", "0.11.0", "jobsets.jobset.x-k8s.io", "8cec8d4c2e65087361a5e8e81c0e0b26d91ea067f8cc69618d79a22b74010f45"),
    ("jobset", "0.11.1", "jobsets.jobset.x-k8s.io", "8cec8d4c2e65087361a5e8e81c0e0b26d91ea067f8cc69618d79a22b74010f45"),
    ("jobset", "0.12.0", "jobsets.jobset.x-k8s.io", "1354924cbf1f7551de822a1802bdc84ceb2cad03020e2b68f638cdc74e24f133"),
    ("lws", "0.7.0", "leaderworkersets.leaderworkerset.x-k8s.io", "22a9dbeb1bf3753f734cb7bbf4b629349d950507ab8c1884f2828939f12dd40a"),
    ("lws", "0.8.0", "leaderworkersets.leaderworkerset.x-k8s.io", "eda6d29d956dc515e3d477ae2bc032ec8ad83d6bae23d409d8b885a50dd858cf"),
];

#[expect(clippy::unwrap_used, reason = "a version of the table above")]
fn version(text: &str) -> Version {
    Version::parse(text).unwrap()
}

/// The CRD as the component's own release installs it.
#[expect(clippy::unwrap_used, reason = "a test asks for what the table above lists")]
fn released(component: &str, version: &Version, name: &str) -> Value {
    let service = match component {
        "jobset" => Some(ServiceRef { namespace: "jobset-system", name: "jobset-webhook-service" }),
        "lws" => Some(ServiceRef { namespace: "lws-system", name: "lws-webhook-service" }),
        _ => None,
    };
    let mut crd = crds::emit(component, version, CrdChannel::Release, name, service).unwrap();
    if component == "jobset" && *version >= Version::new(0, 11, 0) {
        crd["metadata"]["labels"] = json!({
            "app.kubernetes.io/instance": "jobset",
            "app.kubernetes.io/managed-by": "kustomize",
            "app.kubernetes.io/name": "jobset",
        });
    }
    if component == "lws" && *version >= Version::new(0, 8, 0) {
        crd["metadata"]["labels"] =
            json!({ "app.kubernetes.io/instance": "lws", "app.kubernetes.io/name": "lws" });
    }
    crd
}

/// JSON with keys sorted and without blanks, whatever order the maps are in.
fn canonical(value: &Value) -> String {
    let mut value = value.clone();
    value.sort_all_objects();
    value.to_string()
}

/// What differs, a line a path: `path: wanted ≠ made`.
fn differences(path: &str, wanted: Option<&Value>, made: Option<&Value>, out: &mut Vec<String>) {
    match (wanted, made) {
        (Some(Value::Object(wanted)), Some(Value::Object(made))) => {
            let mut keys: Vec<_> = wanted.keys().chain(made.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                differences(&format!("{path}.{key}"), wanted.get(key), made.get(key), out);
            }
        }
        (Some(Value::Array(wanted)), Some(Value::Array(made))) => {
            for index in 0..wanted.len().max(made.len()) {
                differences(&format!("{path}[{index}]"), wanted.get(index), made.get(index), out);
            }
        }
        (wanted, made) if wanted == made => {}
        (wanted, made) => {
            let show = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
            out.push(format!("{path}: {} ≠ {}", show(wanted), show(made)));
        }
    }
}

#[test]
fn digests_are_those_of_upstream() {
    let mut wrong = Vec::new();
    for (component, of, name, digest) in DIGESTS {
        let made = hex::encode(Sha256::digest(canonical(&released(component, &version(of), name))));
        if made != *digest {
            wrong.push(format!("    (\"{component}\", \"{of}\", \"{name}\", \"{made}\"),"));
        }
    }
    assert!(wrong.is_empty(), "digests that changed:\n{}", wrong.join("\n"));
}

#[test]
fn every_crd_has_a_digest() {
    let mut listed: Vec<_> = DIGESTS.iter().map(|(c, of, name, _)| (*c, version(of), *name)).collect();
    let mut known: Vec<_> = crds::all()
        .flat_map(|id| crds::versions(id.component).map(move |v| (id.component, v.clone(), id.name)))
        .collect();
    listed.sort();
    known.sort();
    assert_eq!(listed, known);
}

#[test]
fn crds_equal_the_reference_data() {
    let data = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/upstream/crds"));
    if !data.is_dir() {
        #[expect(clippy::disallowed_macros, reason = "a test that does not run says so")]
        {
            eprintln!("skipped: no reference data beside the checkout");
        }
        return;
    }
    let mut out = Vec::new();
    for (component, of, name, _) in DIGESTS {
        let version = version(of);
        // JobSet 0.11.0 and 0.11.1 have the same CRD; the data has it once.
        let set = match (*component, *of) {
            ("jobset", "0.11.0") => "jobset-v0.11.1".to_owned(),
            _ => format!("{component}-v{version}"),
        };
        let text = std::fs::read_to_string(data.join(&set).join(format!("{name}.json"))).unwrap();
        let wanted: Value = serde_json::from_str(&text).unwrap();
        differences(
            &format!("{set}/{name}: "),
            Some(&wanted),
            Some(&released(component, &version, name)),
            &mut out,
        );
    }
    assert!(out.is_empty(), "{} differences, wanted ≠ made:\n{}", out.len(), out.join("\n"));
}

/// What the CRDs of the native reconciler have beside those of the release: its additions, and what upstream's main branch
/// tightens. Nothing of the release is missing.
#[test]
fn the_native_edition_is_a_superset() {
    let version = Version::new(2, 3, 0);
    let mut added = Vec::new();
    for name in crds::names("trainer", &version, CrdChannel::Native) {
        let native = crds::emit("trainer", &version, CrdChannel::Native, name, None).unwrap();
        match crds::emit("trainer", &version, CrdChannel::Release, name, None) {
            Ok(release) => {
                let (short, _) = name.split_once('.').unwrap();
                let schema = "/spec/versions/0/schema/openAPIV3Schema/properties";
                let (release, native) = (release.pointer(schema), native.pointer(schema));
                differences(&format!("{short}: "), release, native, &mut added);
            }
            Err(_) => added.push(name.to_owned()),
        }
    }
    let runtime = |kind: &str| {
        format!(
            "{kind}: .spec.properties.mlPolicy.properties.mpi.properties.numProcPerNode.x-kubernetes-validations: nothing ≠ \
             [{{\"message\":\"NumProcPerNode in mpiPolicy must be >= 1\",\"rule\":\"self >= 1\"}}]"
        )
    };
    let trainer = "trainjobs: .spec.properties.trainer.properties";
    assert_eq!(
        added,
        [
            runtime("clustertrainingruntimes"),
            "optimizationjobs.trainer.kubeflow.org".to_owned(),
            runtime("trainingruntimes"),
            format!("{trainer}.numNodes.minimum: nothing ≠ 0"),
            format!(
                "{trainer}.numProcPerNode.x-kubernetes-validations: nothing ≠ [{{\"message\":\"numProcPerNode must be greater \
                 than or equal to 1\",\"rule\":\"self >= 1\"}}]"
            ),
            "trainjobs: .spec.properties.ttlSecondsAfterFinished: nothing ≠ \
             {\"format\":\"int32\",\"minimum\":0,\"type\":\"integer\"}"
                .to_owned(),
            "trainjobs: .status.properties.completionTime: nothing ≠ {\"format\":\"date-time\",\"type\":\"string\"}".to_owned(),
            "trainjobs: .status.properties.startTime: nothing ≠ {\"format\":\"date-time\",\"type\":\"string\"}".to_owned(),
        ]
    );
    let unreleased = "optimizationjobs.trainer.kubeflow.org";
    assert!(crds::emit("trainer", &version, CrdChannel::Release, unreleased, None).is_err());
}

#[test]
fn differences_name_the_path() {
    for (wanted, made, expected) in [
        (json!({ "a": [1, { "b": 2 }] }), json!({ "a": [1, { "b": 3 }] }), vec![".a[1].b: 2 ≠ 3"]),
        (json!({ "a": 1 }), json!({ "b": "x" }), vec![".a: 1 ≠ nothing", ".b: nothing ≠ \"x\""]),
        (json!([1]), json!([1, 2]), vec!["[1]: nothing ≠ 2"]),
        (json!({ "a": {} }), json!({ "a": {} }), vec![]),
    ] {
        let mut out = Vec::new();
        differences("", Some(&wanted), Some(&made), &mut out);
        assert_eq!(out, expected);
    }
}
