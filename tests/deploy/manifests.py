"""Kubernetes manifests as the tests look at them: rendered, by kind and name, with what a pod sees."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from tests.support.command_line import Parsed, parse

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = KUBERNETES / "overlays"
KUBECTL = Path(sys.executable).with_name("kubectl")
SHARED = ("dockerconfig", "private-ca", "proxy", "pull-secret")
COMPONENTS = {
    "cronjob": (*SHARED, "pushgateway", "prometheusrule-jobs"),
    "daemon": (*SHARED, "podmonitor", "prometheusrule-daemon", "hooks"),
    "sharded": (*SHARED, "pushgateway", "prometheusrule-jobs"),
}
"""The components that a user can add to each overlay."""
NAMES = tuple(COMPONENTS)
Resource = dict[str, Any]


@dataclass(frozen=True)
class Manifests:
    """Rendered resources, such as those of an overlay. `name` is for messages."""

    name: str
    resources: tuple[Resource, ...]

    def __str__(self) -> str:
        return self.name

    def find(self, kind: str) -> dict[str, Resource]:
        """The resources of a kind, by name."""
        return {each["metadata"]["name"]: each for each in self.resources if each["kind"] == kind}

    def pods(self) -> Iterator["Pod"]:
        for each in self.resources:
            owner = f"{each['kind']}/{each['metadata']['name']}"
            if each["kind"] == "CronJob":
                yield Pod(self, owner, each["spec"]["jobTemplate"]["spec"]["template"])
            elif each["kind"] in ("Deployment", "Job"):
                yield Pod(self, owner, each["spec"]["template"])

    def pod(self, owner: str) -> "Pod":
        return next(each for each in self.pods() if each.owner == owner)

    def policies_of(self, pod: "Pod") -> list[Resource]:
        """The specs of the network policies that select a pod."""
        return [
            each["spec"]
            for each in self.find("NetworkPolicy").values()
            if each["spec"]["podSelector"]["matchLabels"].items() <= pod.labels.items()
        ]


@dataclass(frozen=True)
class Pod:
    """A pod template, with the manifests that it is in. Every one of ours has a single container."""

    manifests: Manifests
    owner: str
    template: Resource

    def __str__(self) -> str:
        return f"{self.manifests} {self.owner}"

    @property
    def spec(self) -> Resource:
        found: Resource = self.template["spec"]
        return found

    @property
    def labels(self) -> dict[str, str]:
        found: dict[str, str] = self.template["metadata"]["labels"]
        return found

    @property
    def container(self) -> Resource:
        assert len(self.spec["containers"]) == 1
        assert not self.spec.get("initContainers")
        found: Resource = self.spec["containers"][0]
        return found

    @property
    def merges(self) -> bool:
        """Whether it merges reports, and copies nothing."""
        return self.labels["app.kubernetes.io/component"] == "merge"

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the container, with those of ConfigMaps."""
        found: dict[str, str] = {}
        for source in self.container.get("envFrom", []):
            found |= self.manifests.find("ConfigMap")[source["configMapRef"]["name"]]["data"]
        return found | {each["name"]: each["value"] for each in self.container.get("env", [])}

    @cached_property
    def command(self) -> Parsed:
        """What the program makes of the arguments and the environment, in share 0 where there are shares."""
        given = self.environment
        if "SYNCER_SHARDS" in given:
            given["JOB_COMPLETION_INDEX"] = "0"
        assert "command" not in self.container, "the image says what is run"
        # As the kubelet does: a variable that is not known stays as it is written.
        arguments = [
            re.sub(r"\$\((\w+)\)", lambda match: given.get(match[1], match[0]), word)
            for word in self.container["args"]
        ]
        return parse(arguments, given)

    def mount_of(self, path: Path) -> Resource | None:
        """The innermost mount that a path of the container is in."""
        place = PurePosixPath(path)
        mounts = [
            mount for mount in self.container["volumeMounts"] if place.is_relative_to(mount["mountPath"])
        ]
        return max(mounts, key=lambda mount: len(mount["mountPath"]), default=None)

    def volume(self, name: str) -> Resource:
        return next(each for each in self.spec["volumes"] if each["name"] == name)

    def files_in(self, mount: Resource) -> dict[str, str]:
        """Text by name of what a ConfigMap of the manifests puts at a mount."""
        source = self.volume(mount["name"]).get("configMap", {})
        found = self.manifests.find("ConfigMap").get(source.get("name", ""), {})
        texts: dict[str, str] = found.get("data", {})
        return texts


@cache
def overlay(name: str) -> Manifests:
    """What `kubectl apply -k` of an overlay sends."""
    return Manifests(name, kustomize(OVERLAYS / name))


@cache
def with_components(name: str, components: Sequence[str]) -> Manifests:
    """An overlay to which a kustomization of a user's own adds components, and the dashboard."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        way = Path(os.path.relpath(KUBERNETES, folder))
        added = [*(way / "components" / each for each in components), way.parent / "grafana"]
        own = {"resources": [str(way / "overlays" / name)], "components": [str(each) for each in added]}
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(own))
        return Manifests(f"{name} with {', '.join(components)}", kustomize(folder))


def all_overlays() -> list[Manifests]:
    """Each overlay as it is, and with all the components that it can have."""
    return [overlay(name) for name in NAMES] + [
        with_components(name, COMPONENTS[name]) for name in COMPONENTS
    ]


def kustomize(folder: Path) -> tuple[Resource, ...]:
    done = subprocess.run(
        [KUBECTL, "kustomize", folder], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return tuple(yaml.safe_load_all(done.stdout))


def read_setup() -> dict[str, Resource]:
    """What is applied once, beside the overlays, by file."""
    return {path.name: yaml.safe_load(path.read_text()) for path in (KUBERNETES / "setup").iterdir()}
