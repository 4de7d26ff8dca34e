"""The commands of the programs that are measured: how each is told to copy everything."""

import json
import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.cases import Contender

TOOLS = Path(__file__).parent.parent / ".cache/interop/bin"
"""Where `scripts/interop --build` puts them."""
PYTHON = os.environ.get("BENCH_PYTHON", sys.executable)
"""The interpreter that runs syncer: the python of a venv in which this checkout is installed."""
Programs = list[tuple[list[str], Path]]
"""Commands that run at once, each with the folder that is its home."""


def copy_programs(
    contender: Contender,
    folder: Path,
    repositories: Iterable[str],
    source: str,
    destination: str,
    *,
    ca_file: Path | None = None,
) -> Programs:
    """Copies whole repositories from one host to another, where they keep their names. Writes the files it needs.

    With `ca_file` both hosts speak TLS. skopeo checks no certificates then, which is only in its favour.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if contender.program == "skopeo":
        return [(_skopeo_sync(folder, repositories, source, destination), folder)]
    if contender.program == "regsync":
        return [(_regsync(folder, repositories, (source, destination), contender.proc, ca_file), folder)]
    if contender.program == "crane":
        return [(_crane(repositories, source, destination, contender.proc, ca_file), folder)]
    if contender.program == "regctl":
        return [(_regctl(folder, repositories, (source, destination), contender.proc, ca_file), folder)]
    entry = {"ca_file": str(ca_file)} if ca_file else {"plain_http": True}
    images = {f"{source}/{name}": f"{destination}/{name}" for name in repositories}
    command = syncer_command(folder, images, {source: entry, destination: entry}, proc=contender.proc)
    if contender.shares == 1:
        return [(command, folder)]
    shares = range(contender.shares)
    return [
        ([*command, "--shard", f"{share}/{contender.shares}"], folder / f"share-{share}") for share in shares
    ]


def syncer_command(
    folder: Path, images: Mapping[str, str], auth: Mapping[str, Mapping[str, Any]], *, proc: int
) -> list[str]:
    """One run of the program under test, from this checkout."""
    auth_file, images_file = folder / "auth.json", folder / "images.json"
    auth_file.write_text(json.dumps(auth))
    images_file.write_text(json.dumps(images))
    files = ["--auth", str(auth_file), "--images", str(images_file)]
    return [PYTHON, "-m", "syncer", *files, "--proc", str(proc)]


def _skopeo_sync(folder: Path, repositories: Iterable[str], source: str, destination: str) -> list[str]:
    names = list(repositories)
    # Of a source's name it keeps what is behind the last slash.
    prefixes = {name.rpartition("/")[0] for name in names}
    if len(prefixes) != 1:
        raise ValueError(f"skopeo cannot keep the names of repositories in several folders: {names}")
    document = {source: {"tls-verify": False, "images": {name: [] for name in names}}}
    path = folder / "skopeo.yaml"
    path.write_text(json.dumps(document))  # JSON is YAML
    options = ["--insecure-policy", "sync", "--all", "--preserve-digests", "--dest-tls-verify=false"]
    return [
        "skopeo",
        *options,
        "--src",
        "yaml",
        "--dest",
        "docker",
        str(path),
        f"{destination}/{prefixes.pop()}",
    ]


def _regsync(
    folder: Path, repositories: Iterable[str], hosts: tuple[str, str], proc: int, ca_file: Path | None
) -> list[str]:
    source, destination = hosts
    document = {
        "version": 1,
        "creds": [{"registry": host, **_regclient_host(proc, ca_file)} for host in hosts],
        "defaults": {"parallel": proc},
        "sync": [
            {"source": f"{source}/{name}", "target": f"{destination}/{name}", "type": "repository"}
            for name in repositories
        ],
    }
    path = folder / "regsync.yaml"
    path.write_text(json.dumps(document))  # JSON is YAML
    return [str(TOOLS / "regsync"), "once", "-c", str(path), "-v", "error"]


def _crane(
    repositories: Iterable[str], source: str, destination: str, proc: int, ca_file: Path | None
) -> list[str]:
    """One call for each repository, since crane copies one."""
    trust = f"SSL_CERT_FILE={shlex.quote(str(ca_file))} " if ca_file else ""
    options = f"-a -j {proc}" if ca_file else f"--insecure -a -j {proc}"
    crane = shlex.quote(str(TOOLS / "crane"))
    calls = [f"{trust}{crane} cp {options} {source}/{name} {destination}/{name}" for name in repositories]
    return ["sh", "-c", " && ".join(calls)]


def _regctl(
    folder: Path, repositories: Iterable[str], hosts: tuple[str, str], proc: int, ca_file: Path | None
) -> list[str]:
    """One call for each repository, since regctl copies one."""
    source, destination = hosts
    document = {"hosts": {host: {"hostname": host, **_regclient_host(proc, ca_file)} for host in hosts}}
    path = folder / ".regctl/config.json"  # `folder` is its home
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))
    regctl = shlex.quote(str(TOOLS / "regctl"))
    options = f"--concurrent {proc} -v error"
    calls = [f"{regctl} repo copy {options} {source}/{name} {destination}/{name}" for name in repositories]
    return ["sh", "-c", " && ".join(calls)]


def _regclient_host(proc: int, ca_file: Path | None) -> dict[str, str | int]:
    """What regsync and regctl, which share a client, are told of a host."""
    tls = {"tls": "enabled", "regcert": ca_file.read_text()} if ca_file else {"tls": "disabled"}
    return {"reqConcurrent": proc, **tls}
