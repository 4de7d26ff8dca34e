"""Tests of credential helpers, with real programs on a separate PATH."""

import json
import os
import shlex
import time
from pathlib import Path

import anyio
import pytest

from syncer.accounts import helpers
from syncer.accounts.book import AuthBook
from syncer.accounts.credentials import Credentials
from syncer.accounts.settings import Account, Secret
from syncer.errors import Kind, RegistryError
from syncer.oci.reference import Repository

REPOSITORY = Repository.parse("registry.example.com/acme/app")
NOT_FOUND = "echo credentials not found in native keychain; exit 1"


class Machine:
    """A user with programs: `helper(name, script)` writes one; `asked` is what all of them were asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.time = 1000.0
        self.log = path / "asked.log"
        self.environment = {"HOME": str(path), "PATH": f"{path / 'bin'}:/usr/bin:/bin", "PROFILE": "blue"}
        (path / "bin").mkdir()

    def helper(self, name: str, script: str) -> None:
        program = self.path / "bin" / f"docker-credential-{name}"
        log = shlex.quote(str(self.log))
        program.write_text(
            f'#!/bin/sh\nread -r server || true\necho "{name} $1 $server" >> {log}\n{script}\n'
        )
        program.chmod(0o755)

    def answers(self, name: str, username: str, secret: str) -> None:
        self.helper(
            name,
            f"echo {shlex.quote(json.dumps({'ServerURL': 'x', 'Username': username, 'Secret': secret}))}",
        )

    def credentials(self, **config: object) -> Credentials:
        path = self.path / ".docker/config.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(config))
        return Credentials(AuthBook(), environment=self.environment, clock=lambda: self.time)

    @property
    def asked(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


async def resolved(
    credentials: Credentials, repository: Repository = REPOSITORY, *, refused: Account | None = None
) -> Account | None:
    account = credentials.account_for(repository)
    assert account is not None
    return account if account.provider is None else await account.provider.account(refused=refused)


async def test_helper_gets_the_host_of_its_registry(machine):
    machine.answers("ecr", "AWS", "s3cret")
    credentials = machine.credentials(credHelpers={"registry.example.com": "ecr"})

    account = credentials.account_for(REPOSITORY)
    assert account
    assert account.provider
    assert not machine.asked
    found = await resolved(credentials)

    assert found == Account("registry.example.com (docker-credential-ecr)", "AWS", Secret("s3cret"))
    assert machine.asked == ["ecr get registry.example.com"]
    assert credentials.account_for(Repository.parse("other.example.com/app")) is None


async def test_helper_gets_the_legacy_url_for_docker_hub(machine):
    machine.answers("store", "anna", "pw")
    credentials = machine.credentials(credsStore="store")

    await resolved(credentials, Repository.parse("nginx"))

    assert machine.asked == ["store get https://index.docker.io/v1/"]


async def test_helper_inherits_the_environment(machine):
    machine.helper("env", 'echo "{\\"Username\\":\\"u\\",\\"Secret\\":\\"$PROFILE\\"}"')

    found = await resolved(machine.credentials(credsStore="env"))

    assert found
    assert found.password == Secret("blue")


async def test_user_name_token_marks_an_identity_token(machine):
    machine.answers("acr", "<token>", "1dentity")

    found = await resolved(machine.credentials(credsStore="acr"))

    assert found
    assert found.identity_token == Secret("1dentity")
    assert not found.username
    assert found.password is None


async def test_cred_helper_of_a_registry_precedes_the_creds_store(machine):
    machine.answers("own", "own", "pw")
    machine.answers("all", "all", "pw")
    credentials = machine.credentials(credHelpers={"registry.example.com": "own"}, credsStore="all")

    own = await resolved(credentials)
    other = await resolved(credentials, Repository.parse("quay.io/app"))

    assert own
    assert own.username == "own"
    assert other
    assert other.username == "all"


async def test_empty_helper_uses_the_file(machine):
    credentials = machine.credentials(
        credHelpers={"registry.example.com": ""},
        credsStore="all",
        auths={"registry.example.com": {"username": "file", "password": "pw"}},
    )

    found = credentials.account_for(REPOSITORY)
    assert found
    assert found.username == "file"


@pytest.mark.parametrize(
    "script", [NOT_FOUND, "echo no credentials server URL; exit 1", "echo '{}'", NOT_FOUND.replace("1", "5")]
)
async def test_helper_without_credentials_falls_back_to_the_files(machine, script):
    machine.helper("store", script)
    credentials = machine.credentials(
        credsStore="store", auths={"registry.example.com": {"username": "file", "password": "pw"}}
    )
    found = await resolved(credentials)

    assert found
    assert found.username == "file"


async def test_without_any_credentials_access_is_anonymous(machine):
    machine.helper("store", NOT_FOUND)

    assert await resolved(machine.credentials(credsStore="store")) is None


async def test_podmans_file_is_used_after_dockers_helper(machine):
    machine.helper("store", NOT_FOUND)
    machine.environment["REGISTRY_AUTH_FILE"] = str(machine.path / "auth.json")
    (machine.path / "auth.json").write_text(
        '{"auths": {"registry.example.com/acme": {"auth": "YW5uYTpwdw=="}}}'
    )

    found = await resolved(machine.credentials(credsStore="store"))

    assert found
    assert found.username == "anna"


# --- caching -------------------------------------------------------------------------------------------------


async def test_account_is_cached(machine):
    machine.answers("store", "anna", "pw")
    credentials = machine.credentials(credsStore="store")

    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(resolved, credentials, Repository.parse(f"registry.example.com/app-{number}"))
    machine.time += helpers.ACCOUNT_TTL - 1
    await resolved(credentials)
    assert len(machine.asked) == 1

    machine.time += 2
    await resolved(credentials)
    assert len(machine.asked) == 2


async def test_all_repositories_of_a_registry_share_one_account(machine):
    credentials = machine.credentials(credsStore="store")

    accounts = {credentials.account_for(Repository.parse(f"registry.example.com/{name}")) for name in "abc"}
    assert len(accounts) == 1
    assert credentials.account_for(Repository.parse("quay.io/a")) not in accounts


async def test_refused_account_is_renewed_unless_it_is_new(machine):
    machine.answers("store", "anna", "old")
    credentials = machine.credentials(credsStore="store")
    old = await resolved(credentials)
    machine.answers("store", "anna", "new")

    assert await resolved(credentials, refused=old) == old
    machine.time += helpers.FAILURE_TTL + 1
    new = await resolved(credentials, refused=old)
    assert new
    assert new.password == Secret("new")
    # The old account was refused again by another request. It has already been replaced.
    machine.time += helpers.FAILURE_TTL + 1
    assert await resolved(credentials, refused=old) == new
    assert len(machine.asked) == 2


async def test_no_credentials_is_cached_for_a_shorter_time(machine):
    machine.helper("store", NOT_FOUND)
    credentials = machine.credentials(credsStore="store")
    assert await resolved(credentials) is None
    machine.answers("store", "anna", "pw")

    assert await resolved(credentials) is None
    machine.time += helpers.NOT_FOUND_TTL + 1
    assert await resolved(credentials) is not None


# --- failures -------------------------------------------------------------------------------------------------

FAILING = {
    "says why": ("echo the vault is locked; exit 3", "the program exited with status 3: the vault is locked"),
    "says nothing": ("exit 1", "the program exited with status 1"),
    "fails with an answer": ("""echo '{"Secret": "hunter2"}'; exit 1""", "the program exited with status 1"),
    "talks on standard error": ("echo hunter2 >&2; exit 1", "the program exited with status 1"),
    "no JSON": ("echo hunter2", "the output is not the expected JSON object"),
    "wrong JSON": ("""echo '{"Username": "a", "Secret": ["hunter2"]}'""", "the output is not the expected JSON object"),
    "no UTF-8": (r"printf '\377'", "the output is not the expected JSON object"),
    "endless": ("yes hunter2", "the output exceeds 65536 bytes"),
}  # fmt: skip


@pytest.mark.parametrize(("script", "reason"), FAILING.values(), ids=FAILING)
async def test_failing_cred_helper_raises_a_one_line_error(machine, script, reason):
    machine.helper("own", script)
    credentials = machine.credentials(credHelpers={"registry.example.com": "own"})

    with pytest.raises(RegistryError) as error:
        await resolved(credentials)

    assert str(error.value) == (
        f"get credentials for registry.example.com from docker-credential-own: {reason};"
        " fix the credential helper, or add an entry with credentials to the auth file"
    )
    assert error.value.kind is Kind.UNAUTHORIZED
    assert not error.value.permanent
    assert "hunter2" not in repr(error.value)


async def test_missing_program_is_a_permanent_error(machine):
    credentials = machine.credentials(credHelpers={"registry.example.com": "gone"})

    with pytest.raises(RegistryError, match="program not found on the PATH") as error:
        await resolved(credentials)
    assert error.value.permanent


async def test_unexecutable_program_is_an_error(machine):
    program = machine.path / "bin/docker-credential-own"
    program.write_bytes(b"\x7fELF")
    program.chmod(0o755)
    credentials = machine.credentials(credHelpers={"registry.example.com": "own"})

    with pytest.raises(RegistryError, match="cannot run the program: Exec format error"):
        await resolved(credentials)


async def test_failing_creds_store_is_a_warning_and_falls_back_to_the_files(machine, caplog):
    credentials = machine.credentials(
        credsStore="desktop", auths={"registry.example.com": {"username": "file", "password": "pw"}}
    )
    found = await resolved(credentials)
    await resolved(credentials)

    assert found
    assert found.username == "file"
    assert caplog.messages == [
        "docker-credential-desktop failed for registry.example.com: program not found on the PATH; continuing without credentials"
    ]


async def test_failure_is_cached_for_a_short_time(machine):
    machine.helper("own", "exit 1")
    credentials = machine.credentials(credHelpers={"registry.example.com": "own"})
    for _ in range(5):
        with pytest.raises(RegistryError):
            await resolved(credentials)
    assert len(machine.asked) == 1

    machine.answers("own", "anna", "pw")
    machine.time += helpers.FAILURE_TTL + 1
    assert await resolved(credentials) is not None


async def test_hanging_helper_is_killed_with_its_children(machine, monkeypatch):
    monkeypatch.setattr(helpers, "TIMEOUT", 1.0)
    pids = machine.path / "pids"
    machine.helper("own", f"sleep 60 & echo $! $$ > {shlex.quote(str(pids))}; wait")
    credentials = machine.credentials(credHelpers={"registry.example.com": "own"})
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0.05)
            ticks += 1

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        with pytest.raises(RegistryError, match="timed out after 1 s"):
            await resolved(credentials)
        group.cancel_scope.cancel()

    # The event loop went on meanwhile.
    assert ticks > 5
    for pid in map(int, pids.read_text().split()):
        assert ends(pid)


async def test_cancellation_kills_the_helper(machine):
    pid_file = machine.path / "pid"
    machine.helper("own", f"echo $$ > {shlex.quote(str(pid_file))}; sleep 60")
    credentials = machine.credentials(credHelpers={"registry.example.com": "own"})

    with anyio.move_on_after(20) as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(resolved, credentials)
            while not pid_file.exists() or not pid_file.read_text():  # noqa: ASYNC110 - another process writes it
                await anyio.sleep(0.02)
            group.cancel_scope.cancel()

    assert not scope.cancelled_caught
    assert ends(int(pid_file.read_text()))


async def test_helper_that_ignores_stdin_may_answer(machine):
    program = machine.path / "bin/docker-credential-own"
    program.write_text('#!/bin/sh\nexec 0<&-\necho \'{"Username": "anna", "Secret": "pw"}\'\n')
    program.chmod(0o755)

    found = await resolved(machine.credentials(credHelpers={"registry.example.com": "own"}))

    assert found
    assert found.username == "anna"


async def test_secret_of_a_helper_is_masked_and_never_printed(machine):
    machine.answers("own", "anna", "hunter2")
    credentials = machine.credentials(credHelpers={"registry.example.com": "own"})
    account = credentials.account_for(REPOSITORY)
    found = await resolved(credentials)

    assert credentials.secrets() == {"hunter2"}
    assert "hunter2" not in f"{found!r} {account!r} {account.provider!r} {vars(credentials)!r}"


@pytest.mark.parametrize("name", ["../x", "a/b", "", "-x", "a b", "a;b", "$(x)", "x" * 65, "a\nb", ".x"])
def test_helper_name_with_a_path_is_refused(name):
    assert not helpers.is_helper_name(name)


@pytest.mark.parametrize("name", ["ecr-login", "gcloud", "desktop.exe", "pass", "osxkeychain", "wincred_2"])
def test_common_helper_names_are_accepted(name):
    assert helpers.is_helper_name(name)


def ends(pid: int) -> bool:
    """Whether a process is gone, or will be in a moment."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.02)
    return False
