"""Registries as real processes on free ports of 127.0.0.1: Debian's docker-registry, and others of its kind."""

import json
import os
import random
import re
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Generator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import httpx
import trustme

from benchmarks.corpus import Corpus
from tests.support.processes import Process
from tests.support.tokens import TokenServer

USER, PASSWORD = "user", "s3cret"  # of registries that live for one test
HARNESS = "test-harness"
"""The user agent of the tests' own requests. The access log omits them."""
START_SECONDS = 30
_ENVIRONMENT = {
    "OTEL_TRACES_EXPORTER": "none",
    # Half of a registry's CPU time would go into collecting a few megabytes of garbage.
    "GOGC": "off",
    "GOMEMLIMIT": "100MiB",
}

_ACCESS = re.compile(
    r'^\S+ - \S+ \[[^]]*] "(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[\d.]+" (?P<status>\d+) (?P<bytes>\d+)'
    r' "(?:[^"\\]|\\.)*" "(?P<user_agent>(?:[^"\\]|\\.)*)"$'
)
_ENDPOINT = re.compile(
    r"^/v2/(?P<repository>.+?)/(?P<kind>manifests|blobs/uploads|blobs|tags)/(?P<rest>[^?]*)"
)


@dataclass(frozen=True, slots=True)
class Request:
    """A line of the access log. `path` has the query; `bytes` is the size of the response's body."""

    method: str
    path: str
    status: int
    user_agent: str
    bytes: int

    @property
    def endpoint(self) -> str:
        """`manifest`, `blob`, `upload`, `tags`, `ping`, or `other`."""
        if self.path.partition("?")[0].rstrip("/") == "/v2":
            return "ping"
        found = _ENDPOINT.match(self.path)
        names = {"manifests": "manifest", "blobs": "blob", "blobs/uploads": "upload", "tags": "tags"}
        return names[found["kind"]] if found else "other"

    @property
    def repository(self) -> str:
        found = _ENDPOINT.match(self.path)
        return found["repository"] if found else ""

    @property
    def reference(self) -> str:
        """The tag or digest asked for; of an upload, its id."""
        found = _ENDPOINT.match(self.path)
        return found["rest"] if found else ""


@dataclass
class Registry:
    """A docker-registry. `folder` has its files; what it stores is in `storage`.

    `program` is docker-registry 2.8, or the path of a later release of the same. It sends its events to `events_to`.
    """

    folder: Path
    storage: Path
    auth: Literal["htpasswd", "token"] | None = None
    tls: trustme.CA | None = None
    delete: bool = True
    read_only: bool = False
    token_server: TokenServer | None = None
    program: str | Path = "docker-registry"
    events_to: str = ""
    port: int = 0
    process: Process | None = field(default=None, repr=False)
    _log_start: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.storage.mkdir(parents=True, exist_ok=True)
        if self.auth == "token":
            self.token_server = TokenServer({USER: PASSWORD})

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}"

    @property
    def username(self) -> str | None:
        return USER if self.auth else None

    @property
    def password(self) -> str | None:
        return PASSWORD if self.auth else None

    @cached_property
    def ca_file(self) -> Path:
        if self.tls is None:
            raise ValueError("a registry without TLS has no CA")
        path = self.folder / "ca.pem"
        self.tls.cert_pem.write_to_path(str(path))
        return path

    @property
    def auth_entry(self) -> dict[str, Any]:
        """The entry of an auth file that gives access to this registry."""
        entry: dict[str, Any] = {}
        if self.auth:
            entry |= {"username": USER, "password": PASSWORD}
        return entry | ({"ca_file": str(self.ca_file)} if self.tls else {"plain_http": True})

    @property
    def skopeo_options(self) -> list[str]:
        return ["--tls-verify=false", *(["--creds", f"{USER}:{PASSWORD}"] if self.auth else [])]

    def client(self) -> httpx.Client:
        """A client with full access whose requests are not in the access log. The caller closes it."""
        verify = _context(self.tls)
        headers = {"user-agent": HARNESS}
        auth: httpx.Auth | None = None
        if self.token_server:
            auth = _FullAccess(self.token_server)
        elif self.auth:
            auth = httpx.BasicAuth(USER, PASSWORD)
        return httpx.Client(
            base_url=self.url, auth=auth, verify=verify, headers=headers, timeout=60, trust_env=False
        )

    def start(self) -> None:
        """Start the registry, on its previous port if it had one. Returns when it responds."""
        ports = [self.port] if self.port else random.sample(_PORTS, 20)
        for port in ports:
            if not _is_free(port):
                continue
            self.port = port
            self._write_config()
            self.process = Process(
                [str(self.program), "serve", str(self.folder / "config.yml")],
                stdout=self._access_log,
                stderr=self.folder / "registry.log",
                env=os.environ | _ENVIRONMENT,
            )
            if self._wait_until_ready():
                return
            self.process.end()
        log = self.folder / "registry.log"
        raise RuntimeError(f"{self.program} does not start:\n{log.read_text() if log.exists() else ports}")

    def stop(self) -> None:
        """Kill the registry. Its storage remains, and `start` restarts it on the same port."""
        if self.process:
            self.process.end()
            self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop the registry permanently."""
        self.stop()
        if self.token_server:
            self.token_server.stop()
            self.token_server = None

    def access_log(self, *, all_agents: bool = False) -> list[Request]:
        """Return the requests since the start or `clear_access_log`, without those of the tests' own tools."""
        self._settle()
        with self._access_log.open() as log:
            log.seek(self._log_start)
            found = [match for line in log if (match := _ACCESS.match(line.rstrip("\n")))]
        requests = [
            Request(m["method"], m["path"], int(m["status"]), m["user_agent"], int(m["bytes"])) for m in found
        ]
        return [
            request
            for request in requests
            if not request.user_agent.startswith(HARNESS)
            and (all_agents or not request.user_agent.startswith("skopeo/"))
        ]

    def clear_access_log(self) -> None:
        """Clear the access log."""
        self._settle()
        self._log_start = self._access_log.stat().st_size

    @property
    def _access_log(self) -> Path:
        return self.folder / "access.log"

    def _settle(self) -> None:
        """Wait until the log has all earlier requests, by sending a marker request that is logged after them."""
        if self.process:
            self._mark(deadline=time.monotonic() + START_SECONDS)

    def _wait_until_ready(self) -> bool:
        """Whether the registry responds. Its log shows that it is this process and not another one on the same port."""
        return self._mark(deadline=time.monotonic() + START_SECONDS)

    def _mark(self, deadline: float) -> bool:
        marker = f"{HARNESS} {uuid.uuid4().hex}"
        verify = _context(self.tls)
        with httpx.Client(verify=verify, trust_env=False, headers={"user-agent": marker}) as client:
            while time.monotonic() < deadline:
                assert self.process
                if self.process.poll() is not None:
                    return False
                try:
                    client.get(f"{self.url}/v2/", timeout=5)
                except httpx.TransportError:
                    time.sleep(0.01)
                    continue
                if marker in self._access_log.read_text():
                    return True
                time.sleep(0.005)
        return False

    def _write_config(self) -> None:
        http: dict[str, Any] = {"addr": self.host, "secret": "only for tests"}
        if self.tls:
            http["tls"] = self._server_certificate()
        config: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {
                "filesystem": {"rootdirectory": str(self.storage)},
                "delete": {"enabled": self.delete},
                "maintenance": {
                    "uploadpurging": {"enabled": False},
                    "readonly": {"enabled": self.read_only},
                },
            },
            "http": http,
        }
        if self.events_to:
            endpoint = {
                "name": "test",
                "url": self.events_to,
                "timeout": "5s",
                "threshold": 5,
                "backoff": "1s",
            }
            config["notifications"] = {"endpoints": [endpoint]}
        if self.auth == "htpasswd":
            config["auth"] = {"htpasswd": {"realm": "tests", "path": str(self._password_file())}}
        elif self.token_server:
            trusted = self.folder / "token.pem"
            self.token_server.write_certificate(trusted)
            config["auth"] = {
                "token": {
                    "realm": self.token_server.realm,
                    "service": self.token_server.service,
                    "issuer": self.token_server.issuer,
                    "rootcertbundle": str(trusted),
                }
            }
        # JSON is YAML.
        (self.folder / "config.yml").write_text(json.dumps(config))

    def _server_certificate(self) -> dict[str, str]:
        assert self.tls
        chain, key = self.folder / "server.pem", self.folder / "server.key"
        if not chain.exists():
            issued = self.tls.issue_cert("127.0.0.1", "localhost")
            issued.private_key_pem.write_to_path(str(key))
            for certificate in issued.cert_chain_pems:
                certificate.write_to_path(str(chain), append=True)
        return {"certificate": str(chain), "key": str(key)}

    def _password_file(self) -> Path:
        path = self.folder / "htpasswd"
        if not path.exists():
            # Cost 5: bcrypt is checked at every request, and the tests are not about bcrypt.
            command = ["htpasswd", "-BbnC", "5", USER, PASSWORD]
            path.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
        return path


@dataclass(frozen=True)
class Source:
    """A registry that holds a corpus. Tests that share one only read from it."""

    registry: Registry
    corpus: Corpus


# Below the range that the kernel takes for outgoing connections: a port stays free while a registry restarts.
_PORTS = range(20_000, 32_000)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _context(ca: trustme.CA | None) -> ssl.SSLContext:
    # Trusts this CA only: reading the system's takes longer than many a test.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca:
        ca.configure_trust(context)
    return context


class _FullAccess(httpx.Auth):
    """Adds a token with all required permissions to the tests' own requests."""

    def __init__(self, tokens: TokenServer) -> None:
        self.tokens = tokens

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        found = _ENDPOINT.match(request.url.path)
        access = [{"type": "registry", "name": "catalog", "actions": ["*"]}]
        names = {found["repository"] if found else "", request.url.params.get("from") or ""} - {""}
        access += [
            {"type": "repository", "name": name, "actions": ["pull", "push", "delete", "*"]} for name in names
        ]
        request.headers["authorization"] = f"Bearer {self.tokens.mint(access)}"
        yield request
