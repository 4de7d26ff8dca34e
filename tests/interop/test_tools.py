"""The tools that `scripts/interop` builds do here what tests need them for, without the internet."""

import re
from pathlib import Path

import pytest

from tests.interop.images import REPOSITORY

ROOT = Path(__file__).parents[2]
OFFLINE = ("--allow-http-registry", "--key")


@pytest.mark.parametrize("bundle", ["true", "false"], ids=["bundle", "signature-tag"])
def test_cosign_verifies_what_it_signed(bundle, start_registry, holding, tool):
    registry = start_registry("distribution")
    held = holding("distribution")
    image = f"{registry.host}/{REPOSITORY}@{held.digests['docker']}"
    tool("crane", "copy", f"{held.registry.host}/{REPOSITORY}:docker", f"{registry.host}/{REPOSITORY}:docker")
    tool("cosign", "generate-key-pair")
    form = f"--new-bundle-format={bundle}"
    no_log = ("--tlog-upload=false", "--use-signing-config=false")

    tool("cosign", "sign", "--yes", form, *no_log, *OFFLINE, "cosign.key", image)

    verified = tool("cosign", "verify", form, "--insecure-ignore-tlog", *OFFLINE, "cosign.pub", image)
    assert held.digests["docker"] in verified


def test_helm_pulls_the_chart_that_it_pushed(start_registry, tool, tmp_path):
    registry = start_registry("distribution")
    tool("helm", "create", "app")
    tool("helm", "lint", "--strict", "app")
    tool("helm", "package", "app")
    tool("helm", "push", "--plain-http", "app-0.1.0.tgz", f"oci://{registry.host}/charts")
    chart = f"oci://{registry.host}/charts/app"
    (tmp_path / "pulled").mkdir()

    tool("helm", "pull", "--plain-http", chart, "--version", "0.1.0", "--destination", "pulled")

    assert (tmp_path / "pulled/app-0.1.0.tgz").read_bytes() == (tmp_path / "app-0.1.0.tgz").read_bytes()


def test_documented_versions_are_those_installed():
    script = (ROOT / "scripts/interop").read_text()
    installed = dict(re.findall(r"^    \S+/(\w+)@v(\S+)$", script, re.MULTILINE))
    documented = dict(
        re.findall(r"^\| `(\w+)` \| (\S+) \|", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
    )
    assert documented == installed
