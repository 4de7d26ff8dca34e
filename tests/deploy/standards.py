"""What holds for every manifest that is handed out, whatever renders it."""

import json
import re
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import kubernetes_validate

from syncer import __version__
from syncer.cli.serve import LAST_SECONDS
from tests.deploy.manifests import KUBECTL, ROOT, Manifests, Pod, Resource

SCHEMAS = ("1.31", "1.37")
"""The oldest version in which podFailurePolicy needs no switch, and a new one."""
BY_HAND = {
    *("image-syncer-passwords", "image-syncer-api-token", "image-syncer-hook-token", "image-syncer-docker"),
    *("image-syncer-ca", "image-syncer-state", "image-syncer-reports"),
}
"""What no overlay makes: Secrets, the authorities' ConfigMap and the claims."""
OF_OPERATORS = {"monitoring.coreos.com/v1"}
_WRITTEN = {"report", "metrics_file", "state_dir", "output_success_images", "output_failed_images"}
_BINARY = {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3, "Ti": 1024**4}


def check_schemas(manifests: Manifests) -> None:
    """The API server takes every resource, by the schemas of an old and a new version."""
    for resource in manifests.resources:
        if resource["apiVersion"] not in OF_OPERATORS:
            for version in SCHEMAS:
                kubernetes_validate.validate(resource, version, strict=True)


def check_nothing_changes(manifests: Manifests) -> None:
    """The API server stores what is written: a second apply, and `kubectl diff`, find nothing to change."""
    for resource in manifests.resources:
        name = f"{manifests} {resource['kind']}/{resource['metadata']['name']}"
        assert list(_dropped(resource)) == [], name
        assert list(_normalised(resource)) == [], name
        assert resource["kind"] != "Secret", "its data would have to be written as the API server writes it"
        if resource["kind"] in ("CronJob", "Deployment"):
            assert list(_different(resource, _decoded(resource))) == [], name


def _dropped(value: Any, path: str = "") -> Iterator[str]:
    """Empty lists and nulls: the API server stores neither. (`{}` means something, and stays.)"""
    if value is None or value == []:
        yield path
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _dropped(each, f"{path}.{key}")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _dropped(each, f"{path}[{index}]")


def _normalised(value: Any, path: str = "") -> Iterator[str]:
    """Quantities that the API server writes in another way, such as 0.5 (500m) and 1024Mi (1Gi)."""
    if isinstance(value, dict):
        for key, each in value.items():
            here = f"{path}.{key}"
            if re.search(r"\.(requests|limits)\.(cpu|memory|storage)$|\.sizeLimit$", here):
                if each != canonical(str(each)):
                    yield here
            else:
                yield from _normalised(each, here)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _normalised(each, f"{path}[{index}]")


def canonical(quantity: str) -> str:
    """A quantity in the form in which the API server stores it (no fraction, the largest suffix)."""
    number, suffix = re.fullmatch(r"([\d.]+)([A-Za-z]*)", quantity).groups()  # type: ignore[union-attr]
    if suffix in _BINARY:
        amount = Decimal(number) * _BINARY[suffix]
        for name, factor in reversed(_BINARY.items()):
            if amount % factor == 0:
                return f"{amount / factor:f}".removesuffix(".0") + name
        return f"{amount:f}"
    amount = Decimal(number) * {"": 1000, "m": 1, "k": 10**6, "M": 10**9, "G": 10**12}[suffix]
    for name, factor in (("G", 10**12), ("M", 10**9), ("k", 10**6), ("", 1000), ("m", 1)):
        if amount % factor == 0:
            return f"{amount / factor:f}{name}"
    raise ValueError(quantity)


def _decoded(resource: Resource) -> Resource:
    """A workload as kubectl's own types write it, which are those of the API server."""
    container = _template(resource)["spec"]["containers"][0]
    # Nothing is written where nothing is to be changed.
    done = subprocess.run(
        [KUBECTL, "set", "image", "--local", "--filename=-", "--output=json", f"{container['name']}=other"],
        input=json.dumps(resource),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: Resource = json.loads(done.stdout)
    _template(found)["spec"]["containers"][0]["image"] = container["image"]
    return found


def _template(resource: Resource) -> Resource:
    spec = resource["spec"]
    found: Resource = spec["jobTemplate"]["spec"]["template"] if "jobTemplate" in spec else spec["template"]
    return found


def _different(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """Where `theirs` lacks what we have written, or has something else there."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, each in ours.items():
            yield from _different(each, theirs.get(key), f"{path}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, each in enumerate(ours):
            yield from _different(each, theirs[index], f"{path}[{index}]")
    elif ours != theirs or type(ours) is not type(theirs):
        yield f"{path}: {ours!r} becomes {theirs!r}"


# --- pods ---------------------------------------------------------------------------------------------------------


def check_restricted(pod: Pod) -> None:
    """The pod keeps to the restricted standard of pod security, and to a read-only root file system."""
    assert set(pod.spec) <= {
        *("automountServiceAccountToken", "containers", "enableServiceLinks", "imagePullSecrets"),
        *("restartPolicy", "securityContext", "serviceAccountName", "terminationGracePeriodSeconds"),
        *("volumes", "nodeSelector", "tolerations", "affinity", "priorityClassName"),
    }, "no host namespaces and the like"
    whole, own = pod.spec["securityContext"], pod.container["securityContext"]
    assert whole["runAsNonRoot"] is True
    assert whole["runAsUser"] == whole["runAsGroup"] == 65532, "the user of the image"
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
    assert all(set(volume) - {"name"} <= allowed for volume in pod.spec["volumes"])


def check_gets_nothing_of_the_cluster(pod: Pod) -> None:
    assert pod.spec["automountServiceAccountToken"] is False
    assert pod.spec["enableServiceLinks"] is False, "a Service named syncer would set SYNCER_* variables"
    account = pod.manifests.find("ServiceAccount")[pod.spec["serviceAccountName"]]
    assert account["automountServiceAccountToken"] is False
    assert not [each["kind"] for each in pod.manifests.resources if "Role" in each["kind"]]


def check_memory(pod: Pod) -> None:
    """Memory is reserved and bounded, and is enough for what was measured."""
    requests, limits = (pod.container["resources"][kind] for kind in ("requests", "limits"))
    assert {"cpu", "memory"} <= set(requests)
    assert set(limits) == {"memory"}
    if pod.merges:
        return
    text = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    columns = r"\| (?:memory|memory-tls|tags-100000) +\| syncer +\|(?:[^|\n]+\|){7,8} +([\d.]+) \|"
    measured = [float(value) for value in re.findall(columns, text)]
    assert len(measured) >= 3
    assert int(requests["memory"].removesuffix("Mi")) * 1.048576 > max(measured)
    assert int(limits["memory"].removesuffix("Mi")) > 2 * max(measured)


def check_image(pod: Pod) -> None:
    name, _, tag = pod.container["image"].rpartition(":")
    assert name.endswith("/image-syncer")
    assert tag == __version__


def check_volumes(pod: Pod) -> None:
    """Volumes and mounts belong together, and what they refer to is in the manifests or made by hand."""
    volumes = [volume["name"] for volume in pod.spec["volumes"]]
    mounts = [mount["name"] for mount in pod.container["volumeMounts"]]
    assert sorted(volumes) == sorted(mounts)
    assert all("subPath" not in mount for mount in pod.container["volumeMounts"]), "it would never be renewed"
    for volume in pod.spec["volumes"]:
        if claim := volume.get("persistentVolumeClaim"):
            assert claim["claimName"] in pod.manifests.find("PersistentVolumeClaim").keys() | BY_HAND
        if secret := volume.get("secret"):
            assert secret["secretName"] in BY_HAND
            assert secret.get("optional", False) == (secret["secretName"] != "image-syncer-docker")
        if config := volume.get("configMap"):
            assert config["name"] in pod.manifests.find("ConfigMap").keys() | BY_HAND


def check_command(pod: Pod) -> None:
    """The program understands how it is called, finds its files, and can write what it is to write."""
    assert pod.command.paths
    written = {
        mount["name"]
        for name, value in pod.command.options.items()
        if name in _WRITTEN and isinstance(value, Path) and (mount := pod.mount_of(value))
    }
    for path in pod.command.paths:
        mount = pod.mount_of(path)
        assert mount, f"{path} is in no volume"
        assert bool(mount.get("readOnly")) == (mount["name"] not in written), path
        if files := pod.files_in(mount):
            assert path.name in files, f"{path} is not in what is mounted there"


def check_end(pod: Pod) -> None:
    """Kubernetes gives the program the time that it takes to stop, and shows why it failed."""
    if not pod.merges:
        assert pod.spec["terminationGracePeriodSeconds"] > LAST_SECONDS
    assert pod.container["terminationMessagePolicy"] == "FallbackToLogsOnError"


def check_network(pod: Pod, *, anywhere: set[int], near: set[int], listens: bool) -> None:
    """The pod reaches the ports `anywhere`, but for link-local addresses, and those `near` within the cluster."""
    policies = pod.manifests.policies_of(pod)
    assert {kind for policy in policies for kind in policy["policyTypes"]} == {"Ingress", "Egress"}
    out = [rule for policy in policies for rule in policy.get("egress", [])]
    ports: dict[bool, set[int]] = {True: set(), False: set()}
    for rule in out:
        blocks = {each["ipBlock"]["cidr"]: each["ipBlock"] for each in rule["to"] if "ipBlock" in each}
        wide = {"0.0.0.0/0", "::/0"} & blocks.keys()
        if wide:
            assert wide == {"0.0.0.0/0", "::/0"}
            assert "169.254.0.0/16" in blocks["0.0.0.0/0"]["except"]
            assert "fe80::/10" in blocks["::/0"]["except"]
            assert {"namespaceSelector": {}} in rule["to"], "pods are no addresses for some network plugins"
        ports[bool(wide)] |= {port["port"] for port in rule["ports"]}
    assert ports[True] == anywhere
    assert ports[False] == near
    let_in = [rule for policy in policies for rule in policy.get("ingress", [])]
    if not listens:
        assert not let_in
        return
    (rule,) = let_in
    assert [port["port"] for port in rule["ports"]] == [pod.container["ports"][0]["containerPort"]]
    assert rule["from"]


CHECKS_OF_ALL_PODS = (
    *(check_restricted, check_gets_nothing_of_the_cluster, check_memory, check_image),
    *(check_volumes, check_end),
)
