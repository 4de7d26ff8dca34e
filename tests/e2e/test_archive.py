"""Tests of the archive for hosts without internet access: it needs nothing but Python."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.e2e.jobs import names
from tests.support.judge import judge

ROOT = Path(__file__).parents[2]
NO_NETWORK = "unshare --map-root-user --net --mount"


def build(folder: Path) -> Path:
    done = subprocess.run([ROOT / "scripts/archive", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (archive,) = folder.glob("image-syncer-*-linux-amd64.tar.gz")
    return archive


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return build(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def unpacked(archive):
    with tarfile.open(archive) as packed:
        packed.extractall(archive.parent, filter="data")
    return archive.parent / archive.name.removesuffix(".tar.gz")


@pytest.fixture
def only_python(tmp_path):
    """The environment of a host that has Python, no packages for it, and no way to the internet."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "python3").symlink_to(Path(sys.base_prefix, "bin", f"python3.{sys.version_info[1]}"))
    nowhere = "http://127.0.0.1:9"
    return {
        "PATH": str(programs),
        "PIP_NO_INDEX": "1",
        "HTTP_PROXY": nowhere,
        "HTTPS_PROXY": nowhere,
        "NO_PROXY": "127.0.0.1",
    }


def run(*command, env):
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)


def test_archive_runs_with_python_only(unpacked, only_python, source, registry, files):
    destination = registry()
    rules = source.corpus.rules(source.registry.host, destination.host)
    arguments = files(rules, source.registry, destination)

    version = run(unpacked / "bin/image-syncer", "--version", env=only_python)
    link = files.folder / "link"
    link.symlink_to(unpacked / "bin/syncer")
    done = run(link, *arguments, env=only_python)

    assert version.stdout == f"image-syncer {unpacked.name.split('-')[2]}\n"
    assert done.returncode == 0, done.stderr
    judge(source.registry, destination, names(source.corpus))


def test_archive_needs_no_network_and_no_writable_folder(unpacked):
    probe = [*NO_NETWORK.split(), "ip", "link", "set", "lo", "up"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("namespaces are not allowed here")
    script = (
        'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && ip link set lo up '
        '&& ! touch "$0/written" 2>/dev/null && exec "$0/bin/image-syncer" demo'
    )
    done = run(*NO_NETWORK.split(), "sh", "-c", script, unpacked, env={"PATH": os.environ["PATH"]})

    assert done.returncode == 0, done.stderr
    assert "Every tag has the same digest as at the source." in done.stdout


def test_archive_reports_an_unsupported_python(unpacked, tmp_path):
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\necho /lib/cp39\n")
    old.chmod(0o755)

    done = run(unpacked / "bin/image-syncer", "--version", env={"PATH": str(tmp_path)})

    assert done.returncode == 2
    assert "needs Python 3.11, 3.12 or 3.13" in done.stderr
    for version in ("311", "312", "313"):
        assert list(unpacked.glob(f"lib/cp{version}/re2/*.so"))


def test_archive_contains_the_license_of_each_package(unpacked):
    _, *listed = (unpacked / "LICENCES-OF-PACKAGES").read_text().splitlines()

    assert all((unpacked / line).is_file() for line in listed)
    packages = {path.relative_to(unpacked) for path in unpacked.glob("lib/*/*.dist-info")}
    licensed = {Path(*Path(line).parts[:3]) for line in listed}
    assert packages
    assert packages == licensed


def test_archive_build_is_reproducible(archive, tmp_path):
    assert build(tmp_path).read_bytes() == archive.read_bytes()
