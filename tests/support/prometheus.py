"""Debian's prometheus as a real process on a free port of 127.0.0.1."""

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.support.plain_http import NO_AUTHORITIES
from tests.support.processes import Process


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Prometheus:
    """A server that scrapes `targets` twice a second."""

    def __init__(self, folder: Path, targets: Mapping[str, str]) -> None:
        folder.mkdir()
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
            "scrape_configs": [
                {"job_name": job, "honor_labels": job == "gateway", "static_configs": [{"targets": [target]}]}
                for job, target in targets.items()
            ],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))
        self.url = f"http://127.0.0.1:{free_port()}"
        self.process = Process(
            [
                "prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address={self.url.removeprefix('http://')}",
                "--log.level=warn",
            ],
            stdout=folder / "out",
            stderr=folder / "err",
        )

    def ask(self, text: str) -> httpx.Response:
        """The answer to a query, whatever it is."""
        return httpx.get(
            f"{self.url}/api/v1/query",
            params={"query": text},
            timeout=5,
            trust_env=False,
            verify=NO_AUTHORITIES,
        )

    def query(self, text: str) -> list[dict[str, Any]]:
        """What a query finds; nothing where it is not answered yet."""
        try:
            answer = self.ask(text)
        except httpx.TransportError:
            return []
        found: list[dict[str, Any]] = answer.json()["data"]["result"] if answer.status_code == 200 else []
        return found

    def value(self, text: str) -> float | None:
        found = self.query(text)
        return float(found[0]["value"][1]) if found else None
