"""Reads databags as their consumers do, and prints what these would not accept: a line each.

Input, as JSON: {ENDPOINT: {"app": {KEY: VALUE}, "unit": {KEY: VALUE}}}. Where a consumer's library is published as a
package its own code reads; the rest are the rules of the libraries that are not.
"""

import copy
import json
import re
import sys
import uuid

from canonical_service_mesh.utils.istio import build_policy_resources_istio
from charmlibs.interfaces.service_mesh._service_mesh import CMRData, MeshPolicy
from cosl.juju_topology import JujuTopology
from cosl.rules import Rules
from cosl.utils import LZMABase64

# What prometheus_scrape keeps of a job; another key is dropped in silence.
JOB_KEYS = set(
    "job_name metrics_path static_configs scrape_interval scrape_timeout proxy_url relabel_configs "
    "metric_relabel_configs sample_limit label_limit label_name_length_limit label_value_length_limit scheme "
    "basic_auth tls_config authorization params".split()
)
RULE_KEYS = {"alert", "expr", "for", "labels", "annotations"}
LINK_KEYS = {"desc", "icon", "link", "location", "text", "type"}
LINK_LOCATIONS = {"menu", "external", "quick", "documentation"}
POLICY_KEYS = {
    "source_namespace",
    "source_app_name",
    "target_namespace",
    "target_app_name",
    "target_selector_labels",
    "target_service",
    "target_type",
    "endpoints",
}


def must(holds, problem):
    if not holds:
        raise ValueError(problem)


def exactly(keys, known, what):
    must(set(keys) == known, f"{what} has the keys {sorted(keys)}, and should have {sorted(known)}")


def metrics(app, unit):
    metadata = json.loads(app["scrape_metadata"])
    topology = JujuTopology.from_dict(metadata)
    must(uuid.UUID(metadata["model_uuid"]).version == 4, "the model's uuid is not of version 4")
    jobs = json.loads(app["scrape_jobs"])
    must(isinstance(jobs, list) and jobs, "there is nothing to scrape")
    for number, job in enumerate(jobs):
        must(set(job) <= JOB_KEYS, f"job {number} has keys that are dropped: {sorted(set(job) - JOB_KEYS)}")
        targets = [target for config in job["static_configs"] for target in config["targets"]]
        must(targets and all(re.fullmatch(r"[^:/]+:\d+", target) for target in targets), f"targets of job {number}")
    must("job_name" not in jobs[0] or len(jobs) == 1, "the first job has a name")
    rules = json.loads(app["alert_rules"])
    names = [group["name"] for group in rules["groups"]]
    must(len(set(names)) == len(names), "two groups have one name")
    for group in rules["groups"]:
        must(re.fullmatch(r"[A-Za-z0-9_:]+", group["name"]), f"group {group['name']!r} has a name that is changed")
        for rule in group["rules"]:
            exactly(rule, RULE_KEYS, f"rule {rule.get('alert')!r}")
            must(rule["labels"].get("severity"), f"rule {rule['alert']!r} has no severity")
    # What the consumer puts around each rule is there already: it changes nothing.
    read = Rules(query_type="promql", topology=topology)._from_dict(copy.deepcopy(rules), metadata=topology)
    must(read == rules["groups"], "the consumer changes groups or labels of the alert rules")
    must(unit.get("prometheus_scrape_unit_address"), "the unit has no address")
    must(unit.get("prometheus_scrape_unit_name"), "the unit has no name")


def dashboards(app, _unit):
    told = json.loads(app["dashboards"])
    exactly(told, {"templates", "uuid"}, "dashboards")
    uuid.UUID(told["uuid"])
    must(told["templates"], "there is no dashboard")
    for name, template in told["templates"].items():
        must(re.fullmatch(r"(file|prog):\S+", name), f"template {name!r} is of no kind")
        must(re.fullmatch(r"[0-9a-f]{16}", template["dashboard_alt_uid"]), f"the uid of {name}")
        topology = template["juju_topology"]
        JujuTopology(topology["model"], topology["model_uuid"], topology["application"], topology["unit"])
        dashboard = json.loads(LZMABase64.decompress(template["content"]))
        must(dashboard.get("title") and dashboard.get("panels"), f"{name} is no dashboard")
        sources = set(re.findall(r"\$\{(\w+ds)\}", json.dumps(dashboard)))
        must(sources and sources <= {"prometheusds", "lokids"}, f"{name} asks data sources {sorted(sources)}")


def links(app, _unit):
    for link in json.loads(app["dashboard_links"]):
        exactly(link, LINK_KEYS, "a link")
        must(link["location"] in LINK_LOCATIONS, f"there is no location {link['location']!r}")


def mesh(app, _unit):
    told = json.loads(app["policies"])
    policies = []
    for policy in told:
        # The model ignores what it does not know, and would let in more or less than was meant.
        exactly(policy, POLICY_KEYS, "a policy")
        policies.append(MeshPolicy.model_validate(policy))
    built = build_policy_resources_istio("beacon", "istio-system", policies)
    for policy, resource in zip(policies, built, strict=True):
        must(resource is not None, f"the mesh makes nothing of the policy for {policy.source_app_name}")


def cross_model(app, _unit):
    CMRData.model_validate(json.loads(app["cmr_data"]))


READERS = {
    "metrics-endpoint": metrics,
    "grafana-dashboard": dashboards,
    "dashboard-links": links,
    "service-mesh": mesh,
    "require-cmr-mesh": cross_model,
}


def main():
    for endpoint, bags in json.load(sys.stdin).items():
        try:
            READERS[endpoint](bags["app"], bags.get("unit", {}))
        except Exception as error:  # whatever the consumer's code raises is what it would say
            first = str(error).splitlines()[:1] or [""]
            print(f"{endpoint}: {type(error).__name__}: {first[0]}")


main()
