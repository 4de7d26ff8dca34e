"""Accounts that are not let in: one rejection ends all that would use them, after few logins."""

import anyio
import pytest
from anyio.lowlevel import checkpoint

from syncer.accounts.settings import Account
from syncer.errors import Kind, RegistryError
from syncer.http.request import Answer
from syncer.http.standing import Standing
from tests.support.login_stage import ANNA, KNOWN, PUSH, Stage, asks, bearer, jwt


async def at_many_repositories(stage: Stage, count: int = 50) -> list[str]:
    """Ask for a token for each at once, and show it. The errors."""
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
async def test_a_token_service_that_refuses_the_account_is_asked_twice_in_all(account, status):
    stage = Stage(account, ping=asks(bearer()), answer=lambda asked: status)

    errors = await at_many_repositories(stage)
    errors += await at_many_repositories(stage)

    assert len(errors) == 100
    assert len(set(errors)) == 1
    assert len(stage.asked) == 2


async def test_an_identity_token_that_an_oauth_service_does_not_know_ends_the_account():
    stage = Stage(KNOWN, ping=asks(bearer()), answer=lambda asked: 400)

    assert len(set(await at_many_repositories(stage))) == 1
    assert len(stage.asked) == 2


async def test_an_anonymous_token_for_a_password_is_followed_by_a_login_without_scope():
    stage = Stage(
        ANNA, ping=asks(bearer()), answer=lambda asked: {"token": jwt(None)} if asked.scopes else 401
    )

    assert len(await at_many_repositories(stage)) == 50
    assert sum(asked.user is not None for asked in stage.asked) == 2


async def test_an_opaque_token_that_is_refused_is_followed_by_a_login_without_scope():
    stage = Stage(ANNA, ping=asks(bearer()), answer=lambda asked: {"token": "t"} if asked.scopes else 401)

    assert await at_many_repositories(stage, 1)
    assert len(await at_many_repositories(stage)) == 50
    assert len(stage.asked) == 2


async def test_a_scope_that_is_refused_to_a_good_account_is_that_scopes_matter():
    stage = Stage(
        ANNA,
        ping=asks(bearer()),
        answer=lambda asked: 403 if asked.scopes == ["repository:secret:pull"] else {"token": "good"},
    )

    for _ in range(20):
        with pytest.raises(RegistryError):
            await stage.header(("repository:secret:pull",))
    assert await stage.header() == "Bearer good"
    # The refusal, and the login that showed that it is not the account: not once for each who asks.
    assert len(stage.asked) == 3


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_where_a_login_without_scope_tells_nothing_a_401_still_ends_the_account(status):
    stage = Stage(ANNA, ping=asks(bearer()), answer=lambda asked: 401 if asked.scopes else status)

    assert len(set(await at_many_repositories(stage))) == 1
    assert len(stage.asked) == 2


@pytest.mark.parametrize(
    "ping", [lambda header: (401, 'Basic realm="x"'), lambda header: (401 if header else 200, "")]
)
async def test_a_wrong_password_at_a_basic_registry_is_shown_once(ping):
    stage = Stage(ANNA, ping=ping)
    await stage.challenge('Basic realm="x"')

    errors = await at_many_repositories(stage)

    assert len(errors) == 50
    assert len(set(errors)) == 1
    assert sum(header is not None for header in stage.pings) == 1


async def test_a_right_that_is_missing_at_a_basic_registry_does_not_end_the_account():
    stage = Stage(ANNA, ping=asks('Basic realm="x"'))
    header = await stage.header()

    assert not await stage.challenge('Basic realm="x"', sent=header)
    assert await stage.header(PUSH) == header
    assert stage.pings == [None, header]


async def test_a_password_that_changes_at_a_basic_registry_ends_the_account_at_the_next_refusal():
    stage = Stage(ANNA, ping=asks('Basic realm="x"'))
    header = await stage.header()
    stage.ping = lambda authorization: (401, 'Basic realm="x"')
    stage.time += 60

    with pytest.raises(RegistryError, match="check user name, password"):
        await stage.challenge('Basic realm="x"', sent=header)
    with pytest.raises(RegistryError, match="check user name, password"):
        await stage.header()
    assert len(stage.pings) == 3


async def test_a_basic_account_that_was_accepted_is_not_ended_where_v2_tells_nothing():
    stage = Stage(ANNA)
    await stage.challenge('Basic realm="x"')
    header = await stage.header()
    assert header is not None
    stage.auth.accepted(header)

    assert not await stage.challenge('Basic realm="x"', sent=header)
    assert await stage.header() == header


async def test_clients_of_one_account_share_its_rejection():
    standing = Standing()
    stages = [Stage(ANNA, ping=asks(bearer()), answer=lambda asked: 401, standing=standing) for _ in range(3)]

    for stage in stages:
        with pytest.raises(RegistryError):
            await stage.header()
    assert sum(len(stage.asked) for stage in stages) == 2


async def test_a_helper_program_that_fails_for_good_ends_its_account():
    class Broken:
        asked = 0

        async def account(self, *, refused: Account | None = None) -> Account | None:
            self.asked += 1
            raise RegistryError(Kind.UNAUTHORIZED, "there is no such program", permanent=True)

    provider = Broken()
    stage = Stage(Account("helper", provider=provider), ping=asks(bearer()))

    assert len(await at_many_repositories(stage)) == 50
    assert provider.asked == 1


async def test_what_a_token_grants_is_read_from_it():
    stage = Stage(
        ANNA, ping=asks(bearer()), answer=lambda asked: {"token": jwt("anna", **{"acme/app": ["pull"]})}
    )

    assert await stage.auth.rights(PUSH) == {"acme/app": frozenset({"pull"})}


@pytest.mark.parametrize("token", ["opaque", "a.b.c", "a.e30.c", "....", "a.%.c", f"x.{'W' * 999}.y"])
async def test_a_token_that_says_nothing_of_rights_grants_what_it_may(token):
    stage = Stage(ANNA, ping=asks(bearer()), answer=lambda asked: {"token": token})

    assert await stage.auth.rights(PUSH) is None


async def test_a_registry_that_cannot_be_reached_is_tried_once_for_all_who_wait():
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


async def test_a_token_service_that_fails_for_now_is_asked_once_for_all_who_wait():
    stage = Stage(ANNA, ping=asks(bearer()), answer=lambda asked: 503)

    assert len(await at_many_repositories(stage, 20)) == 20
    assert len(stage.asked) == 1


async def test_a_first_login_that_is_refused_its_scope_is_no_failure_of_others():
    stage = Stage(
        ANNA,
        ping=asks(bearer()),
        answer=lambda asked: 404 if "app0:" in str(asked.scopes) else {"token": "good"},
    )

    assert len(await at_many_repositories(stage, 20)) == 1


async def test_those_who_wait_for_a_first_login_go_on_where_it_is_cancelled():
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
        await begun.wait()
        group.start_soon(request, 1)
        group.start_soon(request, 2)
        await checkpoint()
        first.cancel()

    assert headers == ["Bearer t"] * 2
