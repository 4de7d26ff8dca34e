"""How an account shows itself: which token is fetched, from whom, when again, and what never leaves."""

import base64

import anyio
import pytest
from anyio.lowlevel import checkpoint

from syncer.accounts.settings import Account, Secret
from syncer.errors import Kind, RegistryError
from syncer.http.auth import MAX_TOKENS
from tests.support.login_stage import (
    ANNA,
    IDENTITY,
    KNOWN,
    PASSWORD,
    PULL,
    PUSH,
    REALM,
    Stage,
    asks,
    bearer,
    numbered,
)

# --- which challenge -------------------------------------------------------------------------------------------------


async def test_nothing_is_sent_to_a_registry_that_does_not_ask():
    stage = Stage(ANNA)

    assert await stage.header() is None
    assert not stage.asked
    assert stage.pings == [None]


async def test_without_an_account_nothing_is_asked_before_the_first_request():
    stage = Stage(ping=asks(bearer()))

    assert await stage.header() is None
    assert not stage.pings


async def test_basic_credentials_are_sent_to_a_registry_that_asks_for_them():
    stage = Stage(ANNA)

    assert await stage.challenge('Basic realm="x"')
    assert await stage.header() == "Basic " + base64.b64encode(f"anna:{PASSWORD}".encode()).decode()


async def test_basic_credentials_that_were_refused_are_not_sent_again():
    stage = Stage(ANNA)
    await stage.challenge('Basic realm="x"')
    header = await stage.header()

    with pytest.raises(RegistryError, match="401 unauthorized"):
        await stage.challenge('Basic realm="x"', sent=header)
    with pytest.raises(RegistryError, match="401 unauthorized"):
        await stage.header()


async def test_without_an_account_a_basic_challenge_is_the_end():
    stage = Stage()

    assert not await stage.challenge('Basic realm="x"')


async def test_bearer_is_taken_where_basic_stands_beside_it():
    stage = Stage(ANNA)

    assert await stage.challenge(f'Basic realm="x", {bearer(service="s")}')
    assert await stage.header() == "Bearer t"


async def test_basic_is_taken_where_bearer_beside_it_leads_nowhere():
    stage = Stage(ANNA)

    assert await stage.challenge(f'{bearer("ftp://x/")}, Basic realm="x"')
    assert (await stage.header() or "").startswith("Basic ")


@pytest.mark.parametrize("header", ["", "Negotiate", "Bearer service=x", "nonsense"])
async def test_where_an_answer_has_no_challenge_v2_is_asked_for_it(header):
    stage = Stage(ping=asks(bearer(scope="repository:user/image:pull")))

    assert await stage.challenge(header)
    assert await stage.header() == "Bearer t"
    # The scope of another answer is not this one's.
    assert stage.asked[0].scopes == list(PULL)
    assert stage.pings == [None]


async def test_a_challenge_once_known_is_not_asked_for_again():
    stage = Stage(ping=asks(bearer()), answer=numbered())
    await stage.challenge("")

    assert await stage.challenge("", sent=await stage.header())
    assert await stage.header() == "Bearer t2"
    assert stage.pings == [None]


async def test_where_v2_asks_for_nothing_either_there_is_nothing_to_try():
    assert not await Stage(ANNA).challenge("")


# --- asked first -----------------------------------------------------------------------------------------------------


async def test_v2_is_asked_once_for_all_before_the_first_request_of_an_account():
    stage = Stage(ANNA, ping=asks(bearer(service="s")), answer=numbered())
    headers = []

    async def request(number: int) -> None:
        headers.append(str(await stage.header((f"repository:app{number}:pull",))))

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(request, number)

    assert stage.pings == [None]
    assert sorted(headers) == [f"Bearer t{number}" for number in range(1, 6)]
    assert all(asked.user == f"anna:{PASSWORD}" for asked in stage.asked)


@pytest.mark.parametrize("status", [200, 403, 404, 405])
async def test_where_v2_has_no_challenge_requests_go_without_an_account_and_that_is_said(status, caplog):
    stage = Stage(ANNA, ping=lambda authorization: (status, ""))

    with caplog.at_level("INFO"):
        assert await stage.header() is None
        assert await stage.header(PUSH) is None
    assert stage.pings == [None]
    (said,) = [record.getMessage() for record in caplog.records]
    assert "it is asked without the account 'registry.example.com'" in said


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_v2_that_answers_badly_is_asked_once_more_and_then_done_without(status):
    stage = Stage(ANNA, ping=lambda authorization: (status, ""))

    with pytest.raises(RegistryError) as error:
        await stage.header()
    assert error.value.status == status
    assert not error.value.permanent
    assert await stage.header() is None
    assert stage.pings == [None, None]


async def test_a_challenge_that_comes_later_is_followed_where_v2_had_none():
    stage = Stage(ANNA)
    await stage.header()

    assert await stage.challenge()
    assert await stage.header() == "Bearer t"


# --- Bearer stays Bearer ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ['Basic realm="harbor"', "", "Negotiate"])
async def test_a_401_to_a_token_without_a_bearer_challenge_means_a_fresh_token(header):
    stage = Stage(ANNA, ping=asks(bearer()), answer=numbered())
    first = await stage.header()

    assert await stage.challenge(header, sent=first)
    assert await stage.header() == "Bearer t2"


async def test_a_fresh_token_that_is_refused_too_lacks_a_right_and_is_kept():
    stage = Stage(ANNA, ping=asks(bearer()), answer=numbered())
    assert await stage.challenge('Basic realm="x"', sent=await stage.header())
    second = await stage.header()

    assert not await stage.challenge('Basic realm="x"', sent=second)
    assert await stage.header() == second
    stage.time += 20
    # It may be the token again, later on.
    assert await stage.challenge('Basic realm="x"', sent=second)
    assert await stage.header() == "Bearer t3"


async def test_tokens_are_forgotten_for_what_has_changed():
    stage = Stage(ANNA, ping=asks(bearer()), answer=numbered())
    for name in ("made/app", "made", "maderight/app", "other"):
        await stage.header((f"repository:{name}:pull",))
    stage.auth.forget("made")

    headers = [
        await stage.header((f"repository:{name}:pull",))
        for name in ("maderight/app", "other", "made/app", "made")
    ]
    assert headers == ["Bearer t3", "Bearer t4", "Bearer t5", "Bearer t6"]


# --- which token -----------------------------------------------------------------------------------------------------


async def test_a_token_is_asked_for_by_service_and_scope_with_the_password():
    stage = Stage(ANNA)
    await stage.challenge(bearer(service="registry.example.com", scope=PULL[0]))

    await stage.header(PUSH)

    (asked,) = stage.asked
    assert asked.method == "GET"
    assert asked.url.startswith(f"{REALM}?")
    assert asked.form == {"service": ["registry.example.com"], "scope": list(PUSH)}
    assert asked.user == f"anna:{PASSWORD}"


async def test_a_realm_keeps_its_own_query():
    stage = Stage(ANNA)
    await stage.challenge(bearer(f"{REALM}?tenant=7#part"))

    await stage.header()

    assert stage.asked[0].url.startswith(f"{REALM}?tenant=7&scope=")
    assert "#" not in stage.asked[0].url


async def test_a_mount_asks_for_both_scopes_in_one_token():
    stage = Stage(ANNA)
    await stage.challenge()

    await stage.header((*PUSH, "repository:acme/base:pull"))

    assert stage.asked[0].scopes == [*PUSH, "repository:acme/base:pull"]


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_service_that_refuses_two_scopes_is_asked_for_the_first(status):
    stage = Stage(ANNA, answer=lambda asked: status if len(asked.scopes) > 1 else {"token": "first"})
    await stage.challenge()

    assert await stage.header((*PUSH, "repository:acme/base:pull")) == "Bearer first"
    assert stage.asked[-1].scopes == list(PUSH)


async def test_a_scope_that_a_registry_has_of_its_own_is_asked_for_instead():
    stage = Stage(ANNA)
    await stage.challenge(bearer(scope="repository:behind/proxy/acme/app:pull"))

    await stage.header()

    assert stage.asked[0].scopes == ["repository:behind/proxy/acme/app:pull"]


async def test_further_actions_that_a_registry_asks_for_are_added_to_ours():
    stage = Stage(ANNA)
    await stage.challenge(bearer(scope="repository:acme/app:metadata_read,pull"), PUSH)

    await stage.header(PUSH)

    assert stage.asked[0].scopes == ["repository:acme/app:pull,push,metadata_read"]


async def test_a_narrower_scope_in_a_challenge_does_not_narrow_ours():
    stage = Stage(ANNA)
    await stage.challenge(bearer(scope=PULL[0]), PUSH)

    await stage.header(PUSH)

    assert stage.asked[0].scopes == list(PUSH)


@pytest.mark.parametrize(
    "answer",
    [
        {"token": "good"},
        {"access_token": "good"},
        {"token": "good", "access_token": "other"},
        {"token": "", "access_token": "good"},
        {"token": None, "access_token": "good", "refresh_token": 7, "scope": []},
    ],
)
async def test_a_token_comes_under_either_name(answer):
    stage = Stage(answer=lambda asked: answer)
    await stage.challenge()

    assert await stage.header() == "Bearer good"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"token": ""},
        {"token": 7},
        {"token": "line\r\nbreak: x"},
        {"token": "tökén"},
        {"token": "x" * 70_000},
        [],
        b"<html>",
        b"\xff",
        b"[" * 100_000,
    ],
    ids=repr,
)
async def test_an_answer_without_a_usable_token_is_a_failure_in_one_line(answer):
    stage = Stage(ANNA, answer=lambda asked: answer)
    await stage.challenge()

    with pytest.raises(RegistryError, match=r"^GET token for registry.example.com: ") as error:
        await stage.header()

    assert len(str(error.value)) < 200
    assert "\n" not in str(error.value)


# --- when again ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "used", "renewed"),
    [
        ({}, 50, 60),
        ({"expires_in": 300}, 260, 300),
        ({"expires_in": "300"}, 260, 300),
        ({"expires_in": 300.5}, 260, 300),
        ({"expires_in": 5}, 4, 5),
        ({"expires_in": 0}, 50, 60),
        ({"expires_in": -3}, 50, 60),
        ({"expires_in": "soon"}, 50, 60),
        ({"expires_in": None}, 50, 60),
        ({"expires_in": 10**400}, 50, 60),
        ({"expires_in": 10**12}, 20 * 3600, 24 * 3600),
        # 1_700_001_000 is now: the first was issued 200 s ago.
        ({"expires_in": 300, "issued_at": "2023-11-14T22:26:40Z"}, 80, 100),
        ({"expires_in": 300, "issued_at": "2023-11-14T22:26:40.123456789+00:00"}, 80, 100),
        ({"expires_in": 300, "issued_at": "2023-11-14T20:00:00Z"}, 260, 300),
        ({"expires_in": 300, "issued_at": "2033-01-01T00:00:00Z"}, 260, 300),
        ({"expires_in": 300, "issued_at": "yesterday"}, 260, 300),
    ],
)
async def test_a_token_is_used_for_as_long_as_it_lasts(stated, used, renewed):
    names = iter("ab")
    stage = Stage(answer=lambda asked: {"token": next(names), **stated})
    await stage.challenge()
    assert await stage.header() == "Bearer a"

    stage.time += used
    assert await stage.header() == "Bearer a"
    stage.time += renewed - used
    assert await stage.header() == "Bearer b"


async def test_a_token_is_fetched_once_for_all_who_wait():
    stage = Stage(ANNA, answer=numbered())
    await stage.challenge()
    headers = []

    async def request() -> None:
        headers.append(await stage.header())

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(request)

    assert headers == ["Bearer t1"] * 20
    assert len(stage.asked) == 1


async def test_a_wrong_password_is_tried_once_for_all_who_wait():
    stage = Stage(ANNA, answer=lambda asked: 401)
    await stage.challenge()
    failures = []

    async def request() -> None:
        with pytest.raises(RegistryError) as error:
            await stage.header()
        failures.append(error.value.status)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(request)

    assert failures == [401] * 20
    # With a scope, and without: that is how to tell a wrong password from a missing right.
    assert [asked.scopes for asked in stage.asked] == [list(PULL), []]


async def test_those_who_wait_go_on_where_the_one_that_fetched_was_cancelled():
    stage = Stage(ANNA)
    begun, held = anyio.Event(), anyio.Event()

    async def slow() -> None:
        if not begun.is_set():
            begun.set()
            await held.wait()

    stage.slowly = slow
    await stage.challenge()
    headers = []

    async def request() -> None:
        headers.append(await stage.header())

    async with anyio.create_task_group() as group:
        first = anyio.CancelScope()

        async def leader() -> None:
            with first:
                await stage.header()

        group.start_soon(leader)
        await begun.wait()
        group.start_soon(request)
        group.start_soon(request)
        await checkpoint()
        first.cancel()

    assert headers == ["Bearer t"] * 2


async def test_a_failure_is_not_remembered_for_who_comes_later():
    answers = iter([500, {"token": "late"}])
    stage = Stage(ANNA, answer=lambda asked: next(answers))
    await stage.challenge()

    with pytest.raises(RegistryError):
        await stage.header()
    assert await stage.header() == "Bearer late"


async def test_a_token_that_a_registry_refuses_is_fetched_anew_once():
    stage = Stage(ANNA, answer=numbered())
    await stage.challenge()
    sent = await stage.header()

    assert await stage.challenge(sent=sent)
    assert await stage.challenge(sent=sent)
    assert await stage.header() == "Bearer t2"
    # A late 401 to the old token does not cost the new one.
    assert await stage.challenge(sent=sent)
    assert await stage.header() == "Bearer t2"


async def test_tokens_are_kept_for_some_repositories_and_not_for_ten_thousand():
    stage = Stage(ANNA, answer=numbered())
    await stage.challenge()
    for number in range(2 * MAX_TOKENS):
        scopes = (f"repository:acme/app-{number}:pull",)
        await stage.header(scopes)
        await stage.challenge(bearer(scope=f"repository:other/app-{number}:pull"), scopes)

    assert len(stage.auth._tokens) <= MAX_TOKENS
    assert len(stage.auth._scopes) <= MAX_TOKENS
    assert not stage.auth._refreshing
    asked = len(stage.asked)
    await stage.header((f"repository:acme/app-{2 * MAX_TOKENS - 1}:pull",))
    assert len(stage.asked) == asked


async def test_stale_tokens_are_dropped_before_good_ones():
    stage = Stage(
        ANNA, answer=lambda asked: {"token": "x", "expires_in": 9000 if "keep" in asked.url else 60}
    )
    await stage.challenge()
    await stage.header(("repository:keep:pull",))
    for number in range(MAX_TOKENS - 1):
        await stage.header((f"repository:old-{number}:pull",))
    stage.time += 100
    await stage.header(("repository:new:pull",))

    assert list(stage.auth._tokens) == [("repository:keep:pull",), ("repository:new:pull",)]


# --- identity and registry tokens ------------------------------------------------------------------------------------


async def test_an_identity_token_is_posted_as_a_refresh_token():
    stage = Stage(KNOWN, answer=lambda asked: {"access_token": "from-identity"})
    await stage.challenge(bearer(service="s"))

    assert await stage.header((*PUSH, "repository:acme/base:pull")) == "Bearer from-identity"

    (asked,) = stage.asked
    assert (asked.method, asked.url, asked.user) == ("POST", REALM, None)
    assert asked.raw_headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert asked.form == {
        "grant_type": ["refresh_token"],
        "refresh_token": [IDENTITY],
        "service": ["s"],
        "client_id": ["image-syncer"],
        "scope": [f"{PUSH[0]} repository:acme/base:pull"],
    }


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_a_service_without_post_gets_the_identity_token_as_a_password(status):
    stage = Stage(KNOWN, answer=lambda asked: status if asked.method == "POST" else {"token": "got"})
    await stage.challenge()

    assert await stage.header() == "Bearer got"
    assert await stage.header(PUSH) == "Bearer got"
    assert [asked.method for asked in stage.asked] == ["POST", "GET", "GET"]
    assert stage.asked[1].user == f":{IDENTITY}"


async def test_an_identity_token_that_is_refused_is_not_tried_in_other_ways():
    stage = Stage(KNOWN, answer=lambda asked: 401)
    await stage.challenge()

    with pytest.raises(RegistryError):
        await stage.header()
    assert [asked.method for asked in stage.asked] == ["POST", "POST"]


async def test_a_registry_token_is_shown_as_it_is_and_not_twice():
    stage = Stage(Account("x", registry_token=Secret("my-own")))

    assert await stage.challenge()
    assert await stage.header() == "Bearer my-own"
    assert not await stage.challenge(sent="Bearer my-own")
    assert not stage.asked


# --- accounts that change --------------------------------------------------------------------------------------------


class Changing:
    """Knows passwords p1, p2, …: the next one whenever the last one was refused."""

    def __init__(self, limit: int = 100) -> None:
        self.number, self.limit = 1, limit
        self.asked = 0

    async def account(self, *, refused: Account | None = None) -> Account | None:
        self.asked += 1
        if refused == self._now() and self.number < self.limit:
            self.number += 1
        return self._now()

    def _now(self) -> Account:
        return Account("helper", "anna", Secret(f"p{self.number}"))


async def test_a_provider_is_asked_only_when_a_registry_wants_to_know():
    provider = Changing()
    stage = Stage(Account("helper", provider=provider))

    await stage.header()
    assert provider.asked == 0
    await stage.challenge()
    await stage.header()
    assert stage.asked[0].user == "anna:p1"
    assert stage.auth.current == Account("helper", "anna", Secret("p1"))


async def test_a_provider_is_asked_again_where_the_token_service_refuses():
    stage = Stage(
        Account("helper", provider=Changing()),
        answer=lambda asked: {"token": "t"} if asked.user == "anna:p2" else 401,
    )
    await stage.challenge()

    assert await stage.header() == "Bearer t"


async def test_a_provider_is_asked_again_where_basic_is_refused():
    stage = Stage(Account("helper", provider=Changing(limit=2)))
    await stage.challenge('Basic realm="x"')
    first = await stage.header()

    assert await stage.challenge('Basic realm="x"', sent=first)
    second = await stage.header()
    assert second != first
    # A late 401 to the first is worth a try with the second; a 401 to the second is the end.
    assert await stage.challenge('Basic realm="x"', sent=first)
    with pytest.raises(RegistryError, match="401 unauthorized"):
        await stage.challenge('Basic realm="x"', sent=second)


async def test_a_provider_that_knows_nobody_means_anonymous_access():
    class Nobody:
        async def account(self, *, refused: Account | None = None) -> Account | None:
            return None

    stage = Stage(Account("helper", provider=Nobody()))
    await stage.challenge()

    assert await stage.header() == "Bearer t"
    assert stage.asked[0].user is None
    assert stage.auth.current is None


# --- what never leaves -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("account", [ANNA, KNOWN], ids=["password", "identity"])
async def test_credentials_do_not_go_from_tls_to_a_service_without(account):
    stage = Stage(account)
    await stage.challenge(bearer("http://auth.example.com/token"))

    with pytest.raises(RegistryError, match="has no TLS") as error:
        await stage.header()
    assert error.value.kind is Kind.TLS
    assert not stage.asked


async def test_without_credentials_a_service_without_tls_may_be_asked():
    stage = Stage()
    await stage.challenge(bearer("http://auth.example.com/token"))

    assert await stage.header() == "Bearer t"


async def test_a_registry_without_tls_may_have_a_service_without():
    stage = Stage(ANNA, secure=False)
    await stage.challenge(bearer("http://auth.example.com/token"))

    assert await stage.header() == "Bearer t"


@pytest.mark.parametrize(
    "realm",
    [
        "/token",
        "auth.example.com/token",
        "ftp://auth.example.com/",
        "https://",
        "https://[::1",
        "https://a.example:99999/",
        "https://user:x@a.example/t",
        "https://a.example/to ken",
        "https://ä.example/",
        "https://a.example/\x7f",
    ],
)
async def test_an_impossible_realm_is_refused(realm):
    stage = Stage(ANNA)
    await stage.challenge(bearer(realm))

    with pytest.raises(RegistryError, match="impossible token service"):
        await stage.header()
    assert not stage.asked


@pytest.mark.parametrize("account", [ANNA, KNOWN, Account("x", registry_token=Secret("s3cr3t\n"))])
@pytest.mark.parametrize("answer", [401, {"nothing": 1}, {"token": "t0k3n\r\n"}])
async def test_no_secret_shows_in_an_error_or_in_a_representation(account, answer):
    stage = Stage(account, answer=lambda asked: answer)
    await stage.challenge()

    with pytest.raises(RegistryError) as error:
        await stage.header()

    shown = f"{error.value} {error.value!r} {error.value.as_failure()} {account!r} {stage.auth!r}"
    for secret in (
        PASSWORD,
        IDENTITY,
        "s3cr3t",
        "t0k3n",
        base64.b64encode(f"anna:{PASSWORD}".encode()).decode(),
    ):
        assert secret not in shown


async def test_a_token_does_not_show_in_its_representation():
    stage = Stage(answer=lambda asked: {"token": "t0k3n"})
    await stage.challenge()
    await stage.header()

    assert "t0k3n" not in repr(stage.auth._tokens)
