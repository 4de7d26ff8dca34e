"""Tests of rejected accounts: one rejection ends the use of an account after few logins."""

import anyio
import pytest
from anyio.lowlevel import checkpoint

from syncer.accounts.settings import Account
from syncer.errors import Kind, RegistryError
from syncer.http.request import Answer
from syncer.http.standing import Standing
from tests.support.login_stage import ANNA, KNOWN, PUSH, Stage, asks, bearer, jwt


async def at_many_repositories(stage: Stage, count: int = 50) -> list[str]:
    """Request a token for each repository concurrently. Return the errors."""
    errors = []

    async def request(number: int) -> None:
        scopes = (f"repository:app{number}:pull",)
        try:
            sent = await stage.header(scopes)
            if sent is not None and "good" not in sent:
                await stage.challenge('Basic realm="x"', scopes, sent=sent)
        except RegistryError as error:
            errors.append(str(error))

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(request, number)
    return errors


@pytest.mark.parametrize("account", [ANNA, KNOWN], ids=["password", "identity"])
@pytest.mark.parametrize("status", [401, 403])
async def test_rejected_account_costs_two_token_requests(account, status):
    stage = Stage(account, ping=asks(bearer()), answer=lambda asked: status)

    errors = await at_many_repositories(stage)
    errors += await at_many_repositories(stage)

    assert len(errors) == 100
    assert len(set(errors)) == 1
    assert len(stage.asked) == 2


async def test_unknown_identity_token_ends_the_account():
    stage = Stage(KNOWN, ping=asks(bearer()), answer=lambda asked: 400)

    assert len(set(await at_many_repositories(stage))) == 1
    assert len(stage.asked) == 2


async def test_anonymous_token_for_a_password_is_checked_by_a_login_without_scope():
    stage = Stage(
        ANNA, ping=asks(bearer()), answer=lambda asked: {"token": jwt(None)} if asked.scopes else 401
    )

    assert len(await at_many_repositories(stage)) == 50
    assert sum(asked.user is not None for asked in stage.asked) == 2


async def test_refused_opaque_token_is_checked_by_a_login_without_scope():
    stage = Stage(ANNA, ping=asks(bearer()), answer=lambda asked: {"token": "t"} if asked.scopes else 401)

    assert await at_many_repositories(stage, 1)
    assert len(await at_many_repositories(stage)) == 50
    assert len(stage.asked) == 2


async def test_refused_scope_does_not_end_a_valid_account():
    stage = Stage(
        ANNA,
        ping=asks(bearer()),
        answer=lambda asked: 403 if asked.scopes == ["repository:secret:pull"] else {"token": "good"},
    )

    for _ in range(20):
        with pytest.raises(RegistryError):
            await stage.header(("repository:secret:pull",))
    assert await stage.header() == "Bearer good"
    # The refusal, and one login that shows that the account is valid, regardless of the number of requests.
    assert len(stage.asked) == 3


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_401_ends_the_account_if_a_login_without_scope_is_inconclusive(status):
    stage = Stage(ANNA, ping=asks(bearer()), answer=lambda asked: 401 if asked.scopes else status)

    assert len(set(await at_many_repositories(stage))) == 1
    assert len(stage.asked) == 2


@pytest.mark.parametrize(
    "ping", [lambda header: (401, 'Basic realm="x"'), lambda header: (401 if header else 200, "")]
)
async def test_wrong_basic_password_is_sent_once(ping):
    stage = Stage(ANNA, ping=ping)
    await stage.challenge('Basic realm="x"')

    errors = await at_many_repositories(stage)

    assert len(errors) == 50
    assert len(set(errors)) == 1
    assert sum(header is not None for header in stage.pings) == 1


async def test_missing_permission_at_a_basic_registry_does_not_end_the_account():
    stage = Stage(ANNA, ping=asks('Basic realm="x"'))
    header = await stage.header()

    assert not await stage.challenge('Basic realm="x"', sent=header)
    assert await stage.header(PUSH) == header
    assert stage.pings == [None, header]


async def test_changed_basic_password_ends_the_account_at_the_next_refusal():
    stage = Stage(ANNA, ping=asks('Basic realm="x"'))
    header = await stage.header()
    stage.ping = lambda authorization: (401, 'Basic realm="x"')
    stage.time += 60

    with pytest.raises(RegistryError, match="check user name, password"):
        await stage.challenge('Basic realm="x"', sent=header)
    with pytest.raises(RegistryError, match="check user name, password"):
        await stage.header()
    assert len(stage.pings) == 3


async def test_accepted_basic_account_is_not_ended_if_v2_is_open():
    stage = Stage(ANNA)
    await stage.challenge('Basic realm="x"')
    header = await stage.header()
    assert header is not None
    stage.auth.accepted(header)

    assert not await stage.challenge('Basic realm="x"', sent=header)
    assert await stage.header() == header


async def test_rejection_is_shared_by_all_clients_of_an_account():
    standing = Standing()
    stages = [Stage(ANNA, ping=asks(bearer()), answer=lambda asked: 401, standing=standing) for _ in range(3)]

    for stage in stages:
        with pytest.raises(RegistryError):
            await stage.header()
    assert sum(len(stage.asked) for stage in stages) == 2


async def test_permanent_helper_failure_ends_the_account():
    class Broken:
        asked = 0

        async def account(self, *, refused: Account | None = None) -> Account | None:
            self.asked += 1
            raise RegistryError(Kind.UNAUTHORIZED, "there is no such program", permanent=True)

    provider = Broken()
    stage = Stage(Account("helper", provider=provider), ping=asks(bearer()))

    assert len(await at_many_repositories(stage)) == 50
    assert provider.asked == 1


async def test_rights_are_read_from_the_token():
    stage = Stage(
        ANNA, ping=asks(bearer()), answer=lambda asked: {"token": jwt("anna", **{"acme/app": ["pull"]})}
    )

    assert await stage.auth.rights(PUSH) == {"acme/app": frozenset({"pull"})}


@pytest.mark.parametrize("token", ["opaque", "a.b.c", "a.e30.c", "....", "a.%.c", f"x.{'W' * 999}.y"])
async def test_token_without_access_claims_has_unknown_rights(token):
    stage = Stage(ANNA, ping=asks(bearer()), answer=lambda asked: {"token": token})

    assert await stage.auth.rights(PUSH) is None


async def test_concurrent_requests_try_an_unreachable_registry_once():
    stage = Stage(ANNA)
    tried = []

    async def unreachable(authorization: str | None) -> Answer:
        tried.append(authorization)
        await checkpoint()
        raise RegistryError(Kind.CONNECTION, "cannot connect")

    stage.auth._ping = unreachable
    errors = await at_many_repositories(stage, 20)

    assert errors == ["cannot connect"] * 20
    assert len(tried) == 1


async def test_concurrent_requests_try_a_failing_token_service_once():
    stage = Stage(ANNA, ping=asks(bearer()), answer=lambda asked: 503)

    assert len(await at_many_repositories(stage, 20)) == 20
    assert len(stage.asked) == 1


async def test_refused_scope_of_the_first_login_does_not_fail_others():
    stage = Stage(
        ANNA,
        ping=asks(bearer()),
        answer=lambda asked: 404 if "app0:" in str(asked.scopes) else {"token": "good"},
    )

    assert len(await at_many_repositories(stage, 20)) == 1


async def test_cancelled_first_login_is_taken_over_by_a_waiting_one():
    stage = Stage(ANNA, ping=asks(bearer()))
    begun, held = anyio.Event(), anyio.Event()

    async def slow() -> None:
        if not begun.is_set():
            begun.set()
            await held.wait()

    stage.slowly = slow
    headers = []

    async def request(number: int) -> None:
        headers.append(await stage.header((f"repository:app{number}:pull",)))

    async with anyio.create_task_group() as group:
        first = anyio.CancelScope()

        async def leader() -> None:
            with first:
                await stage.header()

        group.start_soon(leader)
        with anyio.fail_after(10):
            await begun.wait()
        group.start_soon(request, 1)
        group.start_soon(request, 2)
        await checkpoint()
        first.cancel()

    assert headers == ["Bearer t"] * 2
