"""The commands of the programs that are measured: how each is told to copy everything."""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.cases import Contender

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
    return [sys.executable, "-m", "syncer", *files, "--proc", str(proc)]


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
