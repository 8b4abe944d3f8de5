//! Judgements: a table for what people meet, a law for the rest.

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::sample::Index;
use serde_json::{Value, json};

use super::{Comparison, FieldPath, Segment, applied_by, compare, made_by, others_own};

const US: &str = "trainerd";

/// FieldsV1 as the API server writes it: lists of objects with a `name` merge by it, others are atomic.
fn fields_v1(value: &Value) -> Value {
    let mut fields = json!({});
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                fields[format!("f:{name}")] = fields_v1(value);
            }
        }
        Value::Array(items) if items.iter().all(|item| item.get("name").is_some()) => {
            for item in items {
                let mut own = fields_v1(item);
                own["."] = json!({});
                fields[format!("k:{}", json!({"name": item["name"]}))] = own;
            }
        }
        _ => {}
    }
    fields
}

fn entry(manager: &str, operation: &str, fields: &Value) -> Value {
    json!({"manager": manager, "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": fields})
}

/// `object` as it stands in the cluster, with these entries.
fn stored(object: &Value, entries: &[Value]) -> Value {
    let mut live = object.clone();
    live["metadata"]["managedFields"] = json!(entries);
    live["metadata"]["uid"] = json!("u");
    live
}

fn ours(object: &Value) -> Value {
    entry(US, "Apply", &fields_v1(object))
}

/// `.path: from -> to`, one a line; conflicts as `manager .path: theirs / ours`.
fn lines(comparison: &Comparison) -> Vec<String> {
    let text = |value: &Option<Value>| value.as_ref().map_or_else(|| "none".to_owned(), Value::to_string);
    let changes =
        comparison.changes.iter().map(|c| format!("{}: {} -> {}", c.path, text(&c.from), text(&c.to)));
    let conflicts =
        comparison.conflicts.iter().map(|c| format!("{} {}: {} / {}", c.manager, c.path, c.theirs, c.ours));
    changes.chain(conflicts).collect()
}

/// Intent and live object alone: everything in the intent is ours.
fn differences(intent: &Value, live: &Value) -> Vec<String> {
    lines(&compare(intent, Some(intent), &stored(live, &[ours(intent)]), US))
}

#[test]
fn only_the_leaves_of_the_intent_count() {
    let rows = [
        ("defaults", json!({"spec": {"a": 1}}), json!({"spec": {"a": 1, "b": 2}, "status": {}}), vec![]),
        ("scalar", json!({"spec": {"a": 1}}), json!({"spec": {"a": 2}}), vec![".spec.a: 2 -> 1"]),
        ("number and string", json!({"p": 80}), json!({"p": "80"}), vec![r#".p: "80" -> 80"#]),
        (
            "absent",
            json!({"spec": {"a": {"b": 1}}}),
            json!({"spec": {}}),
            vec![r#".spec.a: none -> {"b":1}"#],
        ),
        ("another type", json!({"a": {"b": 1}}), json!({"a": "b"}), vec![r#".a: "b" -> {"b":1}"#]),
        ("empty and absent", json!({"a": {}, "b": [], "c": null, "d": {"e": {}}}), json!({}), vec![]),
        ("null is a field left out", json!({"a": null}), json!({"a": 1}), vec![".a: 1 -> none"]),
        ("zero that the server left out", json!({"a": false, "b": "", "c": 0}), json!({}), vec![]),
        ("zero that is not", json!({"a": false}), json!({"a": true}), vec![".a: true -> false"]),
        (
            "identity",
            json!({"kind": "A", "metadata": {"name": "a", "creationTimestamp": null}, "status": {"x": 1}}),
            json!({"kind": "A", "metadata": {"name": "a", "creationTimestamp": "t"}}),
            vec![],
        ),
        (
            "quantities",
            json!({"resources": {"limits": {"cpu": "1000m", "memory": 1024}}, "image": "1000m"}),
            json!({"resources": {"limits": {"cpu": "1", "memory": "1Ki"}}, "image": "1"}),
            vec![r#".image: "1" -> "1000m""#],
        ),
        (
            "items by key, whatever the order",
            json!({"c": [{"name": "a", "x": 1}, {"name": "b", "x": 2}]}),
            json!({"c": [{"name": "b", "x": 3}, {"name": "a", "x": 1, "y": 1}]}),
            vec![".c[name=b].x: 3 -> 2"],
        ),
        (
            "a new item",
            json!({"c": [{"name": "a", "x": 1}]}),
            json!({"c": []}),
            vec![r#".c[name=a]: none -> {"name":"a","x":1}"#],
        ),
        (
            "scalars as a whole",
            json!({"args": ["a", "b"]}),
            json!({"args": ["b", "a"]}),
            vec![r#".args: ["b","a"] -> ["a","b"]"#],
        ),
        (
            "objects by place",
            json!({"rules": [{"verbs": ["get"]}, {"verbs": ["list"]}]}),
            json!({"rules": [{"verbs": ["get"]}, {"verbs": ["watch"], "scope": "*"}]}),
            vec![r#".rules[1].verbs: ["watch"] -> ["list"]"#],
        ),
        (
            "another length",
            json!({"rules": [{"a": 1}]}),
            json!({"rules": [{"a": 1}, {"a": 2}]}),
            vec![r#".rules: [{"a":1},{"a":2}] -> [{"a":1}]"#],
        ),
    ];
    for (name, intent, live, expected) in rows {
        assert_eq!(differences(&intent, &live), expected, "{name}");
    }
}

#[test]
fn an_empty_environment_variable_equals_none_even_when_new() {
    let intent = json!({"env": [{"name": "A", "value": ""}]});
    let live = stored(&json!({"env": [{"name": "A"}]}), &[entry("x", "Update", &json!({}))]);
    assert_eq!(lines(&compare(&intent, None, &live, US)), Vec::<String>::new());
}

#[test]
fn without_entries_well_known_lists_still_merge_by_their_keys() {
    let intent = json!({
        "metadata": {"finalizers": ["x/y"]},
        "ports": [{"port": 80, "targetPort": 1}],
        "containers": [{"name": "a", "ports": [{"containerPort": 1, "name": "n"}],
            "volumeMounts": [{"mountPath": "/m", "name": "v"}]}],
        "tolerations": [{"key": "a"}]});
    let live = json!({
        "metadata": {"finalizers": ["a/b"]},
        "ports": [{"port": 443, "protocol": "TCP"}, {"port": 80, "protocol": "TCP", "targetPort": 2}],
        "containers": [{"name": "b"}, {"name": "a", "ports": [{"containerPort": 1, "protocol": "TCP"}],
            "volumeMounts": [{"mountPath": "/m", "name": "w"}]}],
        "tolerations": [{"key": "b"}]});
    assert_eq!(
        lines(&compare(&intent, None, &live, US)),
        [
            r#".containers[name=a].ports[containerPort=1,protocol=TCP].name: none -> "n""#,
            r#".containers[name=a].volumeMounts[mountPath="/m"].name: "w" -> "v""#.replace("\"/m\"", "/m").as_str(),
            r#".metadata.finalizers[="x/y"]: none -> "x/y""#,
            ".ports[port=80,protocol=TCP].targetPort: 2 -> 1",
            r#".tolerations[0].key: "b" -> "a""#,
        ]
    );
}

#[test]
fn fields_that_only_we_own_are_removed_when_no_longer_desired() {
    let before = json!({"metadata": {"labels": {"a": "1", "b": "2"}, "finalizers": ["x/y"]},
        "spec": {"probe": {"path": "/", "port": 1}, "c": [{"name": "a", "x": 1, "y": 2}, {"name": "b", "x": 1}]}});
    let after = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"c": [{"name": "a", "x": 1}]}});
    let mut fields = fields_v1(&before);
    fields["f:metadata"]["f:finalizers"] = json!({"v:\"x/y\"": {}});
    let theirs = |fields: Value| entry("other", "Update", &fields);
    let mine = || entry(US, "Apply", &fields);
    let all = [
        r#".metadata.finalizers: ["x/y"] -> none"#,
        r#".metadata.labels.b: "2" -> none"#,
        ".spec.c[name=a].y: 2 -> none",
        r#".spec.c[name=b]: {"name":"b","x":1} -> none"#,
        r#".spec.probe: {"path":"/","port":1} -> none"#,
    ];
    assert_eq!(lines(&compare(&after, Some(&before), &stored(&before, &[mine()]), US)), all);
    // Ownership decides: the last revision need not be known.
    assert_eq!(lines(&compare(&after, None, &stored(&before, &[mine()]), US)), all);
    // What is shared stays; around it the rest goes.
    let shared = theirs(json!({"f:metadata": {"f:labels": {"f:b": {}}, "f:finalizers": {"v:\"x/y\"": {}}},
        "f:spec": {"f:probe": {"f:port": {}}, "f:c": {"k:{\"name\":\"b\"}": {".": {}, "f:name": {}}}}}));
    assert_eq!(
        lines(&compare(&after, Some(&before), &stored(&before, &[mine(), shared]), US)),
        [".spec.c[name=a].y: 2 -> none", ".spec.c[name=b].x: 1 -> none", r#".spec.probe.path: "/" -> none"#,]
    );
    // What was never ours stays.
    let fields = theirs(fields_v1(&before));
    assert_eq!(lines(&compare(&after, None, &stored(&before, &[ours(&after), fields]), US)), [""; 0]);
}

#[test]
fn in_atomic_values_the_last_intent_distinguishes_edits_from_defaults() {
    let before = json!({"rules": [{"verbs": ["get"], "resourceNames": ["x"]}]});
    let after = json!({"rules": [{"verbs": ["get"]}]});
    let live = json!({"rules": [{"verbs": ["get"], "resourceNames": ["x"], "scope": "*"}]});
    let removed = [r#".rules[0].resourceNames: ["x"] -> none"#];
    assert_eq!(lines(&compare(&after, Some(&before), &stored(&live, &[ours(&before)]), US)), removed);
    // The server's: what we never sent, while the list is still ours.
    assert_eq!(lines(&compare(&after, Some(&after), &stored(&live, &[ours(&before)]), US)), [""; 0]);
    // Nothing known of what we sent: only known defaults may stand.
    assert_eq!(lines(&compare(&after, None, &stored(&live, &[ours(&before)]), US)), removed);
    // Somebody took the list over and narrowed it: the last revision is enforced.
    let taken = [entry(US, "Apply", &json!({"f:x": {}})), entry("kubectl-edit", "Update", &fields_v1(&live))];
    assert_eq!(lines(&compare(&after, Some(&after), &stored(&live, &taken), US)), removed);
    assert_eq!(
        lines(&compare(&after, None, &stored(&live, &taken), US)),
        [removed[0].to_owned(), format!("kubectl-edit .rules: {} / {}", live["rules"], after["rules"]),]
    );
}

#[test]
fn conflicts_are_for_fields_that_were_never_ours() {
    let intent = json!({"spec": {"replicas": 1, "selector": {"a": "1"}, "tier": "x"}});
    let live = json!({"spec": {"replicas": 3, "selector": {"a": "2"}, "tier": "x"}});
    let fields = json!({"f:spec": {"f:replicas": {}, "f:selector": {}, "f:tier": {}}});
    let hpa = || [ours(&json!({"spec": {"tier": "x"}})), entry("hpa", "Update", &fields)];
    let changes = [".spec.replicas: 3 -> 1", r#".spec.selector.a: "2" -> "1""#];
    assert_eq!(
        lines(&compare(&intent, None, &stored(&live, &hpa()), US)),
        [changes[0], changes[1], "hpa .spec.replicas: 3 / 1", r#"hpa .spec.selector: {"a":"2"} / {"a":"1"}"#,]
    );
    // Of the last revision: enforced.
    assert_eq!(lines(&compare(&intent, Some(&intent), &stored(&live, &hpa()), US)), changes);
    // Ours together with another: ours.
    let both = [ours(&intent), entry("hpa", "Apply", &fields)];
    assert!(compare(&intent, None, &stored(&live, &both), US).conflicts.is_empty());
    // Nobody's: adopted without a word.
    assert_eq!(lines(&compare(&intent, None, &stored(&live, &[ours(&json!({}))]), US)), changes);
}

#[test]
fn an_object_without_an_entry_of_ours_was_never_applied() {
    let labelled = json!({"metadata": {"name": "x", "labels": {"a": "1"}}});
    let bare =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "x", "namespace": "n"}});
    let others =
        [entry(US, "Update", &fields_v1(&labelled)), entry("kubectl", "Apply", &fields_v1(&labelled))];
    let compared = |intent: &Value, entries: &[Value]| compare(intent, None, &stored(intent, entries), US);
    assert!(compared(&labelled, &others).never_applied && !compared(&labelled, &others).holds());
    assert!(compared(&labelled, &[]).never_applied);
    assert!(compared(&labelled, &[ours(&labelled)]).holds());
    // Nothing to own leaves no entry, however often it is applied.
    assert!(compared(&bare, &[]).holds());
}

#[test]
fn secrets_are_compared_in_their_stored_form() {
    let secret =
        |field: &str, value: &str| json!({"apiVersion": "v1", "kind": "Secret", field: {"k": value}});
    let live = |value: &str| stored(&secret("data", value), &[ours(&secret("data", "eA=="))]);
    let intent = secret("stringData", "x");
    assert_eq!(lines(&compare(&intent, Some(&intent), &live("eA=="), US)), [""; 0]);
    assert_eq!(lines(&compare(&intent, Some(&intent), &live("eQ=="), US)), [r#".data.k: "eQ==" -> "eA==""#]);
}

#[test]
fn the_comparison_round_trips_through_json() {
    let live = stored(&json!({"a": [{"name": "x", "b": 1}]}), &[ours(&json!({}))]);
    let comparison = compare(&json!({"a": [{"name": "x", "b": 2}]}), None, &live, US);
    assert_eq!(comparison.changes.len(), 1);
    let json = serde_json::to_string(&comparison).unwrap();
    assert_eq!(serde_json::from_str::<Comparison>(&json).unwrap(), comparison);
}

/// Values as manifests have them: nothing empty, no zero; lists of objects have names.
fn values() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        "[a-z0-9/.]{1,6}".prop_map(Value::from),
        (1_i64..100).prop_map(Value::from),
        Just(Value::Bool(true)),
    ];
    let list = proptest::collection::vec("[a-z]{1,3}", 1..4).prop_map(Value::from);
    prop_oneof![scalar, list].prop_recursive(4, 40, 4, |inner| {
        let map = proptest::collection::btree_map("[a-d/]{1,2}", inner, 1..4);
        let items = proptest::collection::btree_map("[a-z]{1,2}", map.clone(), 1..4);
        let items = items.prop_map(|items| {
            let named = items.into_iter().map(|(name, fields)| {
                let mut item = json!(fields);
                item["name"] = Value::from(name);
                item
            });
            named.collect()
        });
        prop_oneof![map.prop_map(|fields| json!(fields)), items]
    })
}

fn intents() -> impl Strategy<Value = Value> {
    proptest::collection::btree_map("[a-d]{1,2}", values(), 1..4).prop_map(|spec| json!({"spec": spec}))
}

/// Adds to every map and to every list that merges by keys something that is not ours.
fn grow(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(grow);
            fields.insert("foreign".to_owned(), json!(1));
        }
        Value::Array(items) if items.iter().all(Value::is_object) => {
            items.iter_mut().for_each(grow);
            items.insert(0, json!({"name": "foreign", "x": 1}));
        }
        _ => {}
    }
}

/// The leaves: scalars and lists of scalars; the keys of items are none.
fn leaves(value: &mut Value, path: Vec<Segment>, visit: &mut dyn FnMut(Vec<Segment>, &mut Value)) {
    let below = |segment: Segment| path.iter().cloned().chain([segment]).collect();
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut().filter(|(name, _)| *name != "name") {
                leaves(value, below(Segment::Field(name.clone())), visit);
            }
        }
        Value::Array(items) if items.iter().all(Value::is_object) => {
            for item in items {
                let keys = vec![("name".to_owned(), item["name"].clone())];
                leaves(item, below(Segment::Item(keys)), visit);
            }
        }
        leaf => visit(path, leaf),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn foreign_fields_are_not_changes(
        intent in intents(), which in any::<Index>(), with_last in any::<bool>()
    ) {
        let mut grown = intent.clone();
        grow(&mut grown["spec"]);
        let entries = |live: &Value| [ours(&intent), entry("other", "Update", &json!({"f:spec": {"f:foreign": {}}})),
            entry("all", "Apply", &fields_v1(live))];
        let last = with_last.then_some(&intent);
        let live = stored(&grown, &entries(&grown)[..2]);
        assert!(compare(&intent, last, &live, US).holds());
        let live = stored(&grown, &entries(&grown));
        assert!(compare(&intent, last, &live, US).holds());

        let mut count = 0;
        leaves(&mut intent.clone(), vec![], &mut |_, _| count += 1);
        let (target, mut place, mut edited) = (which.index(count), 0, None);
        let mut mutated = intent.clone();
        leaves(&mut mutated, vec![], &mut |path, leaf| {
            if place == target {
                *leaf = json!("EDITED");
                edited = Some(path.into_iter().collect::<FieldPath>());
            }
            place += 1;
        });
        let comparison = compare(&mutated, last, &live, US);
        let paths: Vec<_> = comparison.changes.iter().map(|change| change.path.clone()).collect();
        assert_eq!(paths, [edited.unwrap()]);
        assert_eq!(comparison.changes[0].to, Some(json!("EDITED")));
        assert!(comparison.conflicts.is_empty());
    }

    #[test]
    fn a_field_that_leaves_the_intent_is_one_removal(intent in intents(), which in any::<Index>()) {
        let mut grown = intent.clone();
        grow(&mut grown["spec"]);
        let live = stored(&grown, &[ours(&intent), entry("other", "Update", &json!({"f:spec": {"f:foreign": {}}}))]);
        let names: Vec<_> = intent["spec"].as_object().unwrap().keys().cloned().collect();
        let gone = which.get(&names).as_str();
        let mut smaller = intent.clone();
        smaller["spec"].as_object_mut().unwrap().remove(gone);
        let comparison = compare(&smaller, Some(&intent), &live, US);
        assert_eq!(comparison.changes.len(), 1);
        assert_eq!(comparison.changes[0].path, format!(".spec.{gone}").parse().unwrap());
        assert_eq!((comparison.changes[0].from.as_ref(), &comparison.changes[0].to), (Some(&grown["spec"][gone]), &None));
    }
}

#[test]
fn fields_are_contested_if_an_apply_needs_force() {
    let theirs = |fields: Value| entry("them", "Update", &fields);
    let a = json!({"f:spec": {"f:a": {}}});
    let rows = [
        ("ours alone", json!({"a": 1}), json!({"a": 2}), vec![], false),
        (
            "theirs elsewhere",
            json!({"a": 1}),
            json!({"a": 2}),
            vec![theirs(json!({"f:spec": {"f:b": {}}}))],
            false,
        ),
        ("theirs", json!({"a": 1}), json!({"a": 2}), vec![theirs(a.clone())], true),
        ("theirs with our value", json!({"a": 1}), json!({"a": 1}), vec![theirs(a.clone())], false),
        ("theirs as a whole", json!({"a": [1]}), json!({"a": [2]}), vec![theirs(a)], true),
        (
            "the same quantity, spelled differently",
            json!({"limits": {"cpu": "1000m"}}),
            json!({"limits": {"cpu": "1"}}),
            vec![theirs(json!({"f:spec": {"f:limits": {"f:cpu": {}}}}))],
            true,
        ),
    ];
    for (name, intent, live, entries, contested) in rows {
        let live = stored(&json!({"spec": live}), &entries);
        assert_eq!(compare(&json!({"spec": intent}), None, &live, US).contested, contested, "{name}");
    }
}

#[test]
fn ownership_includes_parents_and_children_of_a_path() {
    let fields = json!({"f:spec": {
        "f:whole": {},
        "f:list": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {"f:port": {}}},
        "f:set": {"v:\"x\"": {}}}});
    let ours = json!({"f:spec": {"f:mine": {}}});
    let live = stored(&json!({}), &[entry("them", "Apply", &fields), entry(US, "Apply", &ours)]);
    let rows = [
        (".spec", true),
        (".spec.whole", true),
        (".spec.whole.inside[0]", true),
        (".spec.list[protocol=TCP,port=80].port", true),
        (".spec.list[port=80,protocol=UDP]", false),
        (".spec.list[port=80,protocol=TCP].name", false),
        (r#".spec.set[="x"]"#, true),
        (".spec.mine", false),
        (".spec.absent.deep", false),
    ];
    for (path, owned) in rows {
        let path: FieldPath = path.parse().unwrap();
        assert_eq!(others_own(&live, US, &path), owned, "{path}");
    }
}

#[test]
fn only_an_apply_of_ours_to_the_object_itself_counts() {
    let mut status = entry(US, "Apply", &json!({}));
    status["subresource"] = json!("status");
    let rows = [
        (entry(US, "Apply", &json!({})), true),
        (entry(US, "Update", &json!({})), false),
        (entry("them", "Apply", &json!({})), false),
        (status, false),
    ];
    for (entry, applied) in rows {
        assert_eq!(applied_by(&stored(&json!({}), std::slice::from_ref(&entry)), US), applied, "{entry}");
    }
    assert!(!applied_by(&json!({}), US));
}

#[test]
fn the_creator_is_found_by_the_times_of_managed_fields() {
    let entry = |manager: &str, operation: &str, subresource: &str, time: &str| json!({"manager": manager, "operation": operation, "subresource": subresource, "time": time});
    let at = |second: u8| format!("2026-01-01T00:00:{second:02}Z");
    let ours = |second| entry("trainerd", "Apply", "", &at(second));
    for (what, entries, made) in [
        ("made by an apply of ours", vec![ours(5)], true),
        ("its entry a second older", vec![ours(4)], true),
        ("changed by a controller later", vec![ours(5), entry("c", "Update", "", &at(7))], true),
        ("its status written at once", vec![ours(5), entry("c", "Update", "status", &at(5))], true),
        ("made by others, merged into later", vec![entry("kubectl", "Update", "", &at(5)), ours(8)], false),
        ("made by others in that very second", vec![entry("kubectl", "Apply", "", &at(5)), ours(5)], false),
        ("made by others without a field of theirs", vec![ours(8)], false),
        ("an update of ours", vec![entry("trainerd", "Update", "", &at(5))], false),
        ("nobody's", vec![], false),
    ] {
        let live = json!({"metadata": {"creationTimestamp": at(5), "managedFields": entries}});
        assert_eq!(made_by(&live, "trainerd"), made, "{what}");
    }
}
