"""Accounts at real registries: passwords, expiring tokens, credential helpers, certificates, and namespaces."""

import json
import shlex
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.corpus import CorpusSpec, push_corpus
from syncer.accounts.book import AuthBook
from syncer.accounts.credentials import Credentials
from syncer.accounts.settings import Account, HostSettings, Secret
from syncer.config import load
from syncer.errors import Kind, RegistryError
from syncer.events import ImageFailed
from syncer.http.wire import ConnectionPool
from syncer.observers import Observer
from syncer.oci.reference import Repository
from syncer.places.open import PlaceDirectory
from syncer.run import Run, RunOptions
from tests.support.judge import judge
from tests.support.registries import PASSWORD, USER, Registry
from tests.support.tokens import Grant

FEW = CorpusSpec(images=3, repositories=2, bases=1, kinds=("docker-list", "oci"), smallest=100, largest=9_000)
PLAIN = HostSettings(plain_http=True)
OURS = Account("ours", USER, Secret(PASSWORD))


@asynccontextmanager
async def opened(account_for: Callable[[Repository], Account | None], settings: HostSettings = PLAIN):
    """Repositories as a run opens them."""
    async with ConnectionPool() as transport:
        yield PlaceDirectory(
            account_for=account_for,
            settings_for=lambda repository: settings,
            transport=transport,
            observer=Observer(),
            connections=8,
        )


async def resolve(
    registry: Registry, account_for: Callable[[Repository], Account | None], settings: HostSettings = PLAIN
) -> bool:
    """Whether an image of the corpus exists. Raises `RegistryError`."""
    name, _, tag = filled(registry).partition(":")
    async with opened(account_for, settings) as directory:
        return await directory.source(Repository(registry.host, name)).resolve(tag) is not None


def filled(registry: Registry) -> str:
    """Push an image and return its name."""
    with registry.client() as client:
        return push_corpus(client, FEW).images[0].name


class Copying:
    """Copies the corpus from one registry to another, with an auth file, in this process."""

    def __init__(self, folder: Path, source: Registry, destination: Registry) -> None:
        self.folder, self.source, self.destination = folder, source, destination
        with source.client() as client:
            self.corpus = push_corpus(client, FEW)
        self.auth: dict[str, Any] = {each.host: each.auth_entry for each in (source, destination)}
        self.failures: list[str] = []

    async def run(self, *, retries: int = 0) -> str:
        auth, images = self.folder / "auth.json", self.folder / "images.json"
        auth.write_text(json.dumps(self.auth))
        images.write_text(json.dumps(self.corpus.rules(self.source.host, self.destination.host)))
        config = load(auth, images, environment={})
        failures = self.failures

        class Failures(Observer):
            def on_image_failed(self, event: ImageFailed) -> None:
                failures.append(event.failure.message)

        options = RunOptions(transfers=2, retries=retries)
        run = Run(config.rules, config.auth, options, observers=[Failures()])
        return str((await run.execute()).outcome)

    def judge(self) -> None:
        judge(self.source, self.destination, [(image.name, image.name) for image in self.corpus.images])


@pytest.fixture
def copying(tmp_path: Path):
    return lambda source, destination: Copying(tmp_path, source, destination)


# --- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["token", "access_token"])
@pytest.mark.parametrize("expires_in", [300, None])
async def test_images_go_from_and_to_registries_with_tokens(registry, copying, field, expires_in):
    job = copying(registry(auth="token"), registry(auth="token"))
    for each in (job.source, job.destination):
        each.token_server.field = field
        each.token_server.expires_in = expires_in

    assert await job.run() == "success", job.failures
    job.judge()


async def test_tokens_with_one_second_lifetime_are_renewed(registry, copying):
    job = copying(registry(), registry(auth="token"))
    job.destination.token_server.expires_in = 1

    assert await job.run() == "success", job.failures
    job.judge()


async def test_tokens_revoked_early_are_replaced(registry, copying):
    job = copying(registry(), registry(auth="token"))
    tokens = job.destination.token_server
    mint: Callable[..., str] = tokens.mint
    dead = set()

    def first_one_dead(access: list[dict[str, Any]], *, user: str = "tests") -> str:
        tokens.lifetime = -120 if user == USER and str(access) not in dead else 300
        dead.add(str(access))
        return mint(access, user=user)

    tokens.mint = first_one_dead

    assert await job.run() == "success", job.failures
    assert len(dead) >= len(job.corpus.repositories)
    tokens.mint, tokens.lifetime = mint, None
    job.judge()


async def test_one_token_serves_all_requests_to_a_repository(registry):
    guarded = registry(auth="token")
    name, _, tag = filled(guarded).partition(":")
    async with opened(lambda repository: OURS) as directory:
        for _ in range(5):
            await directory.source(Repository(guarded.host, name)).resolve(tag)

    (asked,) = guarded.token_server.requests
    assert (asked.user, asked.service, asked.scopes) == (USER, "test-registry", (f"repository:{name}:pull",))


async def test_identity_token_grants_access(registry):
    guarded = registry(auth="token")
    guarded.token_server.refresh_tokens["1dentity"] = USER

    assert await resolve(guarded, lambda repository: Account("x", identity_token=Secret("1dentity")))
    assert [asked.method for asked in guarded.token_server.requests] == ["POST"]


@pytest.mark.parametrize(
    "service", ["reads only the first", "refuses more than one", "answers for one at a time"]
)
async def test_single_scope_token_service_disables_only_mounts(registry, copying, service):
    job = copying(registry(), registry(auth="token"))
    tokens = job.destination.token_server
    answer = tokens.answer
    several = []

    def narrow(method: str, parameters: dict[str, list[str]], authorization: str | None) -> Any:
        scopes = parameters.get("scope", [])
        if len(scopes) > 1:
            several.append(scopes)
            if service == "refuses more than one":
                parameters = {**parameters, "grant_type": ["refresh_token"], "refresh_token": ["wrong"]}
            kept = scopes[-1:] if service == "answers for one at a time" else scopes[:1]
            parameters = {**parameters, "scope": kept}
        return answer(method, parameters, authorization)

    tokens.answer = narrow

    assert await job.run() == "success", job.failures
    assert several
    job.judge()


async def test_accounts_apply_to_their_namespaces(registry):
    guarded = registry(auth="token")
    name, _, tag = filled(guarded).partition(":")
    team, _, _ = name.partition("/")
    tokens = guarded.token_server
    tokens.users = {"reader": "r-pw", "outsider": "o-pw"}
    tokens.grants = [Grant("reader", f"{team}/*", frozenset({"pull"})), Grant("outsider", "other/*")]
    accounts = {team: Account("in", "reader", Secret("r-pw"))}

    async with opened(
        lambda repository: accounts.get(
            repository.path.partition("/")[0], Account("out", "outsider", Secret("o-pw"))
        )
    ) as directory:
        assert await directory.source(Repository(guarded.host, name)).resolve(tag) is not None
        assert await directory.source(Repository(guarded.host, "other/app")).resolve(tag) is None
    assert {asked.user for asked in tokens.requests} == {"reader", "outsider"}


# --- rejected credentials -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", ["htpasswd", "token"])
async def test_wrong_password_is_a_one_line_error(registry, auth):
    guarded = registry(auth=auth)

    with pytest.raises(RegistryError) as error:
        await resolve(guarded, lambda repository: Account("the-key", USER, Secret("wr0ng-pw")))

    line = str(error.value)
    assert error.value.kind is Kind.UNAUTHORIZED
    assert error.value.permanent
    assert guarded.host in line
    assert "401 unauthorized" in line
    assert line.endswith("check user name, password and rights of the entry 'the-key'")
    assert "\n" not in line
    assert "wr0ng-pw" not in repr(error.value) + line


async def test_wrong_password_is_tried_once_and_never_printed(registry, copying):
    job = copying(registry(), registry(auth="token"))
    job.auth[job.destination.host]["password"] = "wr0ng-pw"

    assert await job.run(retries=2) == "failure"
    assert len(job.failures) == len(job.corpus.images)
    assert all("401 unauthorized" in line and "\n" not in line for line in job.failures)
    assert "wr0ng-pw" not in str(job.failures)
    assert len(job.destination.token_server.requests) <= 2 * len(job.corpus.images)


@pytest.mark.parametrize("auth", ["htpasswd", "token"])
async def test_missing_credentials_error_says_what_to_add(registry, auth):
    guarded = registry(auth=auth)

    with pytest.raises(RegistryError, match=f"no credentials for {guarded.host} were found: add an entry"):
        await resolve(guarded, lambda repository: None)


async def test_credentials_are_not_sent_to_a_token_service_without_tls(registry):
    guarded = registry(auth="token", tls=True)

    with pytest.raises(RegistryError, match="credentials are not sent") as error:
        await resolve(guarded, lambda repository: OURS, HostSettings(ca_file=str(guarded.ca_file)))
    assert error.value.kind is Kind.TLS
    assert not guarded.token_server.requests


# --- TLS -------------------------------------------------------------------------------------------------------------


async def test_private_ca_grants_access(registry):
    guarded = registry(auth="htpasswd", tls=True)

    assert await resolve(guarded, lambda repository: OURS, HostSettings(ca_file=str(guarded.ca_file)))


async def test_unknown_ca_is_reported_with_advice_and_gets_no_password(registry):
    guarded = registry(auth="htpasswd", tls=True)

    with pytest.raises(
        RegistryError, match=f'to the CA certificate, or set "insecure": true, for {guarded.host}'
    ) as error:
        await resolve(guarded, lambda repository: OURS, HostSettings())
    assert error.value.kind is Kind.TLS


@pytest.mark.parametrize("options", [{}, {"tls": True}], ids=["http", "unknown certificate"])
async def test_insecure_accepts_any_certificate_and_plain_http(registry, options):
    guarded = registry(auth="htpasswd", **options)

    assert await resolve(guarded, lambda repository: OURS, HostSettings(insecure=True))


# --- other tools' credentials ----------------------------------------------------------------------------------------


class User:
    """A home with a Docker configuration and a helper program."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.time = 0.0
        self.environment = {"HOME": str(folder), "PATH": f"{folder / 'bin'}:/usr/bin:/bin"}

    def helper(self, name: str, username: str, secret: str) -> None:
        program = self.folder / "bin" / f"docker-credential-{name}"
        program.parent.mkdir(exist_ok=True)
        answer = json.dumps({"ServerURL": "", "Username": username, "Secret": secret})
        program.write_text(f"#!/bin/sh\ncat > /dev/null\necho {shlex.quote(answer)}\n")
        program.chmod(0o755)

    def credentials(self, **config: object) -> Credentials:
        path = self.folder / ".docker/config.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(config))
        return Credentials(AuthBook(), environment=self.environment, clock=lambda: self.time)


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path)


@pytest.mark.parametrize("auth", ["htpasswd", "token"])
async def test_credentials_of_docker_login_grant_access(registry, user, auth):
    guarded = registry(auth=auth)
    credentials = user.credentials(auths={guarded.host: {"username": USER, "password": PASSWORD}})

    assert await resolve(guarded, credentials.account_for)


@pytest.mark.parametrize("auth", ["htpasswd", "token"])
async def test_credential_helper_grants_access(registry, user, auth):
    guarded = registry(auth=auth)
    user.helper("vault", USER, PASSWORD)

    assert await resolve(guarded, user.credentials(credHelpers={guarded.host: "vault"}).account_for)


async def test_identity_token_of_a_helper_grants_access(registry, user):
    guarded = registry(auth="token")
    guarded.token_server.refresh_tokens["1dentity"] = USER
    user.helper("vault", "<token>", "1dentity")

    assert await resolve(guarded, user.credentials(credsStore="vault").account_for)


async def test_changed_password_is_requested_from_the_helper_again(registry, user):
    guarded = registry(auth="token")
    guarded.token_server.expires_in = 1
    name, _, tag = filled(guarded).partition(":")
    user.helper("vault", USER, PASSWORD)
    credentials = user.credentials(credsStore="vault")

    async with opened(credentials.account_for) as directory:
        source = directory.source(Repository(guarded.host, name))
        assert await source.resolve(tag)
        user.helper("vault", USER, "rotated")
        guarded.token_server.users[USER] = "rotated"
        user.time += 60
        other = directory.source(Repository(guarded.host, "never/seen"))
        assert await other.resolve(tag) is None


async def test_missing_helper_is_a_one_line_error(registry, user):
    guarded = registry(auth="htpasswd")
    credentials = user.credentials(credHelpers={guarded.host: "gone"})

    with pytest.raises(
        RegistryError,
        match=r"docker-credential-gone.*program not found on the PATH; fix the credential helper",
    ):
        await resolve(guarded, credentials.account_for)


async def test_helper_is_not_run_without_a_challenge(registry, user):
    assert await resolve(registry(), user.credentials(credsStore="gone").account_for)
