"""Accounts at a Harbor: logins, tokens, permissions, and missing or created projects."""

from collections.abc import Awaitable, Callable
from subprocess import CompletedProcess

import pytest

from syncer.demo import MemoryRegistry
from syncer.events import ProjectMade, RequestSent
from tests.integration.harbor.conftest import (
    ADMIN,
    CREATOR,
    DISABLED,
    EXPIRED,
    PULLER,
    PUSHER,
    USER,
    add_image,
)
from tests.support.harbor import Harbor
from tests.support.wire import Net, Outcome

LogIn = Callable[..., None]


def messages(outcome: Outcome) -> set[str]:
    return {event.failure.message for event in outcome.failed}


def failed_logins(harbor: Harbor) -> int:
    return sum(not login.accepted for login in harbor.logins)


def requests_to(harbor: Harbor, outcome: Outcome) -> int:
    return sum(event.registry == harbor.host for event in outcome.told.of(RequestSent))


def basic_requests(harbor: Harbor) -> list[str]:
    """Where a password was shown, but for the token service."""
    return [login.where for login in harbor.logins if login.where != "token"]


# --- /v2/ before the first request -----------------------------------------------------------------------------------------------------


async def test_v2_is_asked_once_for_all_repositories_of_an_account(net: Net, harbor: Harbor) -> None:
    await net.sync({f"plain/app:v{number}": f"harbor/mirror/app{number}" for number in (1, 2, 3)})

    assert harbor.kinds()["GET ping", 401] == 1
    assert not harbor.kinds()["GET tags", 401]


async def test_v2_is_not_asked_without_an_account(net: Net, harbor: Harbor, log_in: LogIn) -> None:
    log_in(None)
    add_image(harbor, "open/app", "v1")
    await net.sync({"harbor/open/app": "plain/copied"})

    assert not [request for request in harbor.requests if request.path == "/v2/"]


async def test_twenty_new_repositories_take_at_most_two_hundred_requests(
    net: Net, harbor: Harbor, plain: MemoryRegistry
) -> None:
    for number in range(20):
        add_image(plain, f"app{number}", "v1")
    outcome = await net.sync({f"plain/app{number}:v1": f"harbor/mirror/app{number}" for number in range(20)})

    assert outcome.counts == (20, 0, 0)
    assert requests_to(harbor, outcome) <= 200
    assert not harbor.kinds()["HEAD manifest", 404]
    assert not harbor.kinds()["HEAD blob", 404]


# --- rejected accounts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["one rule of all tags", "one rule a tag", "one rule a repository"])
async def test_wrong_password_fails_all_at_once_with_few_logins(
    net: Net, harbor: Harbor, plain: MemoryRegistry, log_in: LogIn, shape: str
) -> None:
    for number in range(60):
        add_image(plain, "many", f"t{number}", size=10)
    rules = {
        "one rule of all tags": {"plain/many": "harbor/mirror/many"},
        "one rule a tag": {f"plain/many:t{n}": f"harbor/mirror/many:t{n}" for n in range(60)},
        "one rule a repository": {f"plain/many:t{n}": f"harbor/mirror/many{n}" for n in range(60)},
    }[shape]
    log_in(ADMIN, password="wr0ng-pw")
    outcome = await net.sync(rules, transfers=6, retries=2)

    assert outcome.counts == (0, 0, 60)
    assert failed_logins(harbor) <= 3
    (message,) = messages(outcome)
    assert message.endswith(f"check user name, password and rights of the entry '{harbor.host}'")
    assert "401 unauthorized" in message
    assert "wr0ng-pw" not in message
    assert not basic_requests(harbor)


@pytest.mark.parametrize("robot", [DISABLED, EXPIRED])
async def test_disabled_robot_fails_like_a_wrong_password(
    net: Net, harbor: Harbor, log_in: LogIn, robot: str
) -> None:
    log_in(robot)
    outcome = await net.sync({"plain/app": "harbor/mirror/app"})

    assert outcome.counts == (0, 0, 3)
    assert failed_logins(harbor) <= 3
    assert len(messages(outcome)) == 1


async def test_wrong_password_at_the_source_fails_with_few_logins(
    net: Net, harbor: Harbor, log_in: LogIn
) -> None:
    for number in range(30):
        add_image(harbor, "mirror/app", f"t{number}", size=10)
    log_in(ADMIN, password="wrong")
    tags = ",".join(f"t{number}" for number in range(30))
    outcome = await net.sync({f"harbor/mirror/app:{tags}": "plain/copied"})

    assert outcome.counts == (0, 0, 30)
    assert failed_logins(harbor) <= 3


async def test_wrong_password_for_a_public_project_copies_and_warns_once(
    net: Net, harbor: Harbor, log_in: LogIn, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("one", "two", "three"):
        add_image(harbor, f"open/{name}", "v1")
    log_in(ADMIN, password="wrong")
    outcome = await net.sync({f"harbor/open/{name}": f"plain/{name}" for name in ("one", "two", "three")})

    assert outcome.counts == (3, 0, 0)
    assert failed_logins(harbor) <= 3
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"rejects the credentials of the entry '{harbor.host}'" in warning


async def test_next_run_tries_again(net: Net, harbor: Harbor, log_in: LogIn) -> None:
    log_in(ADMIN, password="wrong")
    await net.sync({"plain/app": "harbor/mirror/app"})
    log_in(ADMIN)

    assert (await net.sync({"plain/app": "harbor/mirror/app"})).counts == (3, 0, 0)


# --- Basic challenges to a Bearer token ---------------------------------------------------------------------------------------------


async def test_missing_permission_is_retried_with_a_fresh_token_and_never_with_basic(
    net: Net, harbor: Harbor, log_in: LogIn
) -> None:
    log_in(PULLER)
    outcome = await net.sync({"plain/app": "harbor/mirror/app"})

    assert outcome.counts == (0, 0, 3)
    assert "action: push" in "".join(messages(outcome))
    assert not basic_requests(harbor)
    assert failed_logins(harbor) == 0
    # The first token, and one more in case the permission has been added since.
    assert harbor.kinds()["GET token", 200] == 2


async def test_expired_tokens_are_replaced_without_basic(net: Net, harbor: Harbor) -> None:
    died = False

    @harbor.before
    async def expire(request) -> None:
        nonlocal died
        if request.method == "PUT" and not died:
            died = True
            harbor.access.expire_tokens()

    outcome = await net.sync({"plain/app": "harbor/mirror/app"})

    assert outcome.counts == (3, 0, 0)
    assert died
    assert not basic_requests(harbor)


# --- projects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("force", [False, True])
async def test_missing_project_error_quotes_harbor_and_advises_to_create_it(
    net: Net, harbor: Harbor, *, force: bool
) -> None:
    outcome = await net.sync({"plain/app": "harbor/nothere/app"}, force=force)

    assert outcome.counts == (0, 0, 3)
    (message,) = messages(outcome)
    assert "project nothere not found" in message
    assert "create project 'nothere'" in message
    assert "check user name" not in message
    assert {event.failure.kind for event in outcome.failed} == {"not_found"}
    assert not basic_requests(harbor)


async def test_missing_source_project_error_quotes_harbor(net: Net) -> None:
    outcome = await net.sync({"harbor/nothere/app": "plain/copied"})

    (message,) = messages(outcome)
    assert "project nothere not found" in message
    assert "has no project of that name" in message


@pytest.mark.parametrize("account", [ADMIN, CREATOR])
async def test_project_is_created_and_images_are_pushed(
    net: Net, harbor: Harbor, log_in: LogIn, account: str
) -> None:
    log_in(account, create=True)
    if account == CREATOR:
        harbor.access.accounts[CREATOR].rights["made"] = ("pull", "push")
    outcome = await net.sync({"plain/app": "harbor/made/app", "plain/app:v1": "harbor/made/other"})

    assert outcome.counts == (4, 0, 0)
    assert outcome.told.of(ProjectMade) == [ProjectMade(harbor.host, "made")]
    assert basic_requests(harbor) == ["api"]


async def test_existing_project_is_not_created_again(net: Net, harbor: Harbor, log_in: LogIn) -> None:
    log_in(PUSHER, create=True)
    outcome = await net.sync({"plain/app": "harbor/mirror/app"})

    assert outcome.counts == (3, 0, 0)
    assert not basic_requests(harbor)


async def test_refused_project_creation_is_reported(net: Net, harbor: Harbor, log_in: LogIn) -> None:
    log_in(USER, create=True)
    outcome = await net.sync({"plain/app": "harbor/nothere/app"})

    assert outcome.counts == (0, 0, 3)
    (message,) = messages(outcome)
    assert "Only system admin can create project" in message
    assert "create project 'nothere' manually" in message
    assert basic_requests(harbor) == ["api"]


async def test_created_project_without_push_permission_is_reported(
    net: Net, harbor: Harbor, log_in: LogIn
) -> None:
    log_in(CREATOR, create=True)
    outcome = await net.sync({"plain/app": "harbor/made/app"})

    assert outcome.counts == (0, 0, 3)
    assert "project 'made' was created, but the account has no push permission in it" in "".join(
        messages(outcome)
    )
    assert basic_requests(harbor) == ["api"]


@pytest.mark.parametrize("force", [False, True])
async def test_plan_into_a_missing_project_with_create_is_planned(
    net: Net, harbor: Harbor, log_in: LogIn, *, force: bool
) -> None:
    log_in(ADMIN, create=True)
    outcome = await net.sync({"plain/app": "harbor/made/app"}, dry_run=True, force=force)

    assert outcome.counts == (3, 0, 0), messages(outcome)
    assert outcome.told.of(ProjectMade) == [ProjectMade(harbor.host, "made")]
    assert "made" not in harbor.projects
    assert not basic_requests(harbor)


async def test_plan_into_a_missing_project_without_create_fails(net: Net) -> None:
    outcome = await net.sync({"plain/app": "harbor/nothere/app"}, dry_run=True)

    assert outcome.counts == (0, 0, 3)
    assert "create project 'nothere'" in "".join(messages(outcome))


# --- the program, as a process ---------------------------------------------------------------------------------------


async def test_wrong_password_is_one_line_of_advice_in_the_log(
    command: Callable[..., Awaitable[CompletedProcess[str]]], harbor: Harbor
) -> None:
    harbor.access.accounts[ADMIN].password = "another"
    right = harbor.entry
    harbor.entry = lambda account: {**right(account), "password": "wr0ng-pw"}  # type: ignore[method-assign]
    done = await command("sync", {"plain/app": "harbor/mirror/app"})

    assert done.returncode == 1
    assert done.stderr.count("check user name, password") == 1
    assert "wr0ng-pw" not in done.stdout + done.stderr


async def test_plan_names_the_project_to_create(
    command: Callable[..., Awaitable[CompletedProcess[str]]], harbor: Harbor
) -> None:
    right = harbor.entry
    harbor.entry = lambda account: {**right(account), "create": True}  # type: ignore[method-assign]
    done = await command("plan", {"plain/app": "harbor/made/app"})

    assert done.returncode == 0, done.stderr
    assert "makes project made" in done.stdout
    assert "made" not in harbor.projects


async def check_online(
    command: Callable[..., Awaitable[CompletedProcess[str]]], rules: dict[str, str], as_: str = ADMIN
) -> tuple[int, str]:
    done = await command("check", rules, "--online", as_=as_)
    return done.returncode, done.stdout


async def test_check_online_sends_only_token_requests_if_all_is_well(
    command: Callable[..., Awaitable[CompletedProcess[str]]], harbor: Harbor
) -> None:
    code, told = await check_online(command, {"plain/app": "harbor/mirror/app"}, as_=PUSHER)

    assert code == 0, told
    assert f"{harbor.host} with the account '{harbor.host}': ok" in told
    assert {request.path for request in harbor.requests} == {"/v2/", "/service/token"}


async def test_check_online_without_credentials_reads_the_source(
    command: Callable[..., Awaitable[CompletedProcess[str]]], harbor: Harbor
) -> None:
    add_image(harbor, "open/app", "v1")
    harbor.entry = lambda account: {"plain_http": True}  # type: ignore[method-assign]

    code, told = await check_online(command, {"harbor/open/app": "plain/a", "harbor/open/app:v1": "plain/b"})
    assert code == 0, told
    assert f"{harbor.host} anonymously: ok" in told
    for missing in ("open/app:v9", "mirror/app", "nothere/app"):
        code, told = await check_online(command, {f"harbor/{missing}": "plain/a"})
        assert code == 1, told


async def test_check_online_reports_missing_push_permission(
    command: Callable[..., Awaitable[CompletedProcess[str]]], harbor: Harbor
) -> None:
    code, told = await check_online(command, {"plain/app": "harbor/mirror/app"}, as_=PULLER)

    assert code == 1
    assert f"{harbor.host}/mirror/app: the account may not push there" in told


async def test_check_online_reports_a_missing_project(
    command: Callable[..., Awaitable[CompletedProcess[str]]], harbor: Harbor
) -> None:
    code, told = await check_online(command, {"plain/app": "harbor/nothere/app"})
    assert code == 1
    assert "project nothere not found" in told

    right = harbor.entry
    harbor.entry = lambda account: {**right(account), "create": True}  # type: ignore[method-assign]
    code, told = await check_online(command, {"plain/app": "harbor/nothere/app"})
    assert code == 0, told
    assert "project nothere is missing, a run makes it" in told


async def test_check_online_with_a_wrong_password_logs_in_once(
    command: Callable[..., Awaitable[CompletedProcess[str]]], harbor: Harbor
) -> None:
    right = harbor.entry
    harbor.entry = lambda account: {**right(account), "password": "wrong"}  # type: ignore[method-assign]
    code, told = await check_online(
        command, {f"plain/app:v{number}": f"harbor/mirror/app{number}" for number in (1, 2, 3)}
    )

    assert code == 1
    assert "check user name, password" in told
    assert failed_logins(harbor) == 1
