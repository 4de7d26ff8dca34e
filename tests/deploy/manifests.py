"""Kubernetes manifests as the tests look at them: rendered, by kind and name, with what a pod sees."""

import base64
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from tests.support.command_line import Parsed, parse

ROOT = Path(__file__).parents[2]
OVERLAYS = ROOT / "deploy" / "kubernetes" / "overlays"
NAMES = ("cronjob", "daemon", "sharded")
Resource = dict[str, Any]


@cache
def render(overlay: str) -> tuple[Resource, ...]:
    """What `kubectl apply -k` would send."""
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run(
        [kubectl, "kustomize", OVERLAYS / overlay], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return tuple(yaml.safe_load_all(done.stdout))


def find(overlay: str, kind: str) -> dict[str, Resource]:
    """The resources of a kind, by name."""
    return {each["metadata"]["name"]: each for each in render(overlay) if each["kind"] == kind}


@dataclass(frozen=True)
class Pod:
    """A pod template, with the overlay that it is in. Every one of ours has a single container."""

    overlay: str
    owner: str
    template: Resource

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

    @cached_property
    def command(self) -> Parsed:
        """What the program makes of the arguments and the environment, in share 0 where there are shares."""
        environment = {each["name"]: each["value"] for each in self.container.get("env", [])}
        given = environment | ({"JOB_COMPLETION_INDEX": "0"} if "SYNCER_SHARDS" in environment else {})
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
        """Text by name of what ConfigMaps and Secrets of the overlay put at a mount."""
        sources = self.volume(mount["name"]).get("projected", {}).get("sources", [])
        found: dict[str, str] = {}
        for source in sources:
            if "configMap" in source:
                found |= find(self.overlay, "ConfigMap")[source["configMap"]["name"]]["data"]
            else:
                data = find(self.overlay, "Secret")[source["secret"]["name"]]["data"]
                found |= {name: base64.b64decode(text).decode() for name, text in data.items()}
        return found


def pods() -> Iterator[Pod]:
    """Every pod template of every overlay."""
    for overlay in NAMES:
        for each in render(overlay):
            owner = f"{overlay} {each['kind']}/{each['metadata']['name']}"
            if each["kind"] == "CronJob":
                yield Pod(overlay, owner, each["spec"]["jobTemplate"]["spec"]["template"])
            elif each["kind"] in ("Deployment", "Job"):
                yield Pod(overlay, owner, each["spec"]["template"])
