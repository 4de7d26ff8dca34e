"""The distribution specification's own conformance suite, on the demo's registry."""

import os
import subprocess
from xml.etree import ElementTree as ET

from tests.interop.registries import TOOLS
from tests.support.announced import demo_registry


def test_demo_registry_conforms_to_distribution_spec_1_1(tmp_path):
    # Its defaults ask for all that 1.1 has, and leave out what a registry need not do: cancelled uploads, manifests
    # that refer to nothing.
    with demo_registry(tmp_path / "registry") as registry:
        settings = {
            "OCI_VERSION": "1.1",
            "OCI_REGISTRY": registry.host,
            "OCI_TLS": "disabled",
            "OCI_REPO1": "conformance/first",
            "OCI_REPO2": "conformance/second",
        }
        done = subprocess.run(
            [TOOLS / "conformance"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | settings,
            capture_output=True,
            text=True,
            check=True,
        )
    # Its exit status is 0 whatever failed.
    report = ET.parse(tmp_path / "results/junit.xml").getroot()
    assert (report.get("failures", "0"), report.get("errors", "0")) == ("0", "0"), done.stdout
    assert report.get("tests") == "858"
