"""Tests of `Authenticator`: challenges, token requests, token caching, and protection of credentials."""

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

# --- challenges -------------------------------------------------------------------------------------------------


async def test_no_challenge_sends_no_authorization():
    stage = Stage(ANNA)

    assert await stage.header() is None
    assert not stage.asked
    assert stage.pings == [None]


async def test_without_an_account_v2_is_not_requested_first():
    stage = Stage(ping=asks(bearer()))

    assert await stage.header() is None
    assert not stage.pings


async def test_basic_challenge_is_answered_with_the_password():
    stage = Stage(ANNA)

    assert await stage.challenge('Basic realm="x"')
    assert await stage.header() == "Basic " + base64.b64encode(f"anna:{PASSWORD}".encode()).decode()


async def test_refused_basic_credentials_are_not_sent_again():
    stage = Stage(ANNA)
    await stage.challenge('Basic realm="x"')
    header = await stage.header()

    with pytest.raises(RegistryError, match="401 unauthorized"):
        await stage.challenge('Basic realm="x"', sent=header)
    with pytest.raises(RegistryError, match="401 unauthorized"):
        await stage.header()


async def test_basic_challenge_without_an_account_is_not_retried():
    stage = Stage()

    assert not await stage.challenge('Basic realm="x"')


async def test_bearer_is_preferred_to_basic():
    stage = Stage(ANNA)

    assert await stage.challenge(f'Basic realm="x", {bearer(service="s")}')
    assert await stage.header() == "Bearer t"


async def test_bearer_with_an_invalid_realm_falls_back_to_basic():
    stage = Stage(ANNA)

    assert await stage.challenge(f'{bearer("ftp://x/")}, Basic realm="x"')
    assert (await stage.header() or "").startswith("Basic ")


@pytest.mark.parametrize("header", ["", "Negotiate", "Bearer service=x", "nonsense"])
async def test_401_without_a_challenge_takes_the_challenge_of_v2(header):
    stage = Stage(ping=asks(bearer(scope="repository:user/image:pull")))

    assert await stage.challenge(header)
    assert await stage.header() == "Bearer t"
    # The scope of another answer is not this one's.
    assert stage.asked[0].scopes == list(PULL)
    assert stage.pings == [None]


async def test_known_challenge_is_not_requested_again():
    stage = Stage(ping=asks(bearer()), answer=numbered())
    await stage.challenge("")

    assert await stage.challenge("", sent=await stage.header())
    assert await stage.header() == "Bearer t2"
    assert stage.pings == [None]


async def test_401_without_any_challenge_is_not_retried():
    assert not await Stage(ANNA).challenge("")


# --- /v2/ before the first request -----------------------------------------------------------------------------------------------------


async def test_v2_is_requested_once_before_the_first_request_of_an_account():
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
async def test_v2_without_a_challenge_makes_requests_anonymous_and_is_logged(status, caplog):
    stage = Stage(ANNA, ping=lambda authorization: (status, ""))

    with caplog.at_level("INFO"):
        assert await stage.header() is None
        assert await stage.header(PUSH) is None
    assert stage.pings == [None]
    (said,) = [record.getMessage() for record in caplog.records]
    assert "requests are anonymous until it asks for the account 'registry.example.com'" in said


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_failing_v2_is_retried_once_and_then_ignored(status):
    stage = Stage(ANNA, ping=lambda authorization: (status, ""))

    with pytest.raises(RegistryError) as error:
        await stage.header()
    assert error.value.status == status
    assert not error.value.permanent
    assert await stage.header() is None
    assert stage.pings == [None, None]


async def test_later_challenge_is_followed_if_v2_had_none():
    stage = Stage(ANNA)
    await stage.header()

    assert await stage.challenge()
    assert await stage.header() == "Bearer t"


# --- Basic challenges to a Bearer token ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ['Basic realm="harbor"', "", "Negotiate"])
async def test_401_without_a_bearer_challenge_refreshes_the_token(header):
    stage = Stage(ANNA, ping=asks(bearer()), answer=numbered())
    first = await stage.header()

    assert await stage.challenge(header, sent=first)
    assert await stage.header() == "Bearer t2"


async def test_refused_fresh_token_is_kept_and_not_refreshed_again():
    stage = Stage(ANNA, ping=asks(bearer()), answer=numbered())
    assert await stage.challenge('Basic realm="x"', sent=await stage.header())
    second = await stage.header()

    assert not await stage.challenge('Basic realm="x"', sent=second)
    assert await stage.header() == second
    stage.time += 20
    # A later 401 may mean the token again.
    assert await stage.challenge('Basic realm="x"', sent=second)
    assert await stage.header() == "Bearer t3"


async def test_forget_drops_the_tokens_of_a_repository():
    stage = Stage(ANNA, ping=asks(bearer()), answer=numbered())
    for name in ("made/app", "made", "maderight/app", "other"):
        await stage.header((f"repository:{name}:pull",))
    stage.auth.forget("made")

    headers = [
        await stage.header((f"repository:{name}:pull",))
        for name in ("maderight/app", "other", "made/app", "made")
    ]
    assert headers == ["Bearer t3", "Bearer t4", "Bearer t5", "Bearer t6"]


# --- token requests -----------------------------------------------------------------------------------------------------


async def test_token_request_has_service_scope_and_password():
    stage = Stage(ANNA)
    await stage.challenge(bearer(service="registry.example.com", scope=PULL[0]))

    await stage.header(PUSH)

    (asked,) = stage.asked
    assert asked.method == "GET"
    assert asked.url.startswith(f"{REALM}?")
    assert asked.form == {"service": ["registry.example.com"], "scope": list(PUSH)}
    assert asked.user == f"anna:{PASSWORD}"


async def test_query_of_a_realm_is_kept():
    stage = Stage(ANNA)
    await stage.challenge(bearer(f"{REALM}?tenant=7#part"))

    await stage.header()

    assert stage.asked[0].url.startswith(f"{REALM}?tenant=7&scope=")
    assert "#" not in stage.asked[0].url


async def test_mount_requests_both_scopes_in_one_token():
    stage = Stage(ANNA)
    await stage.challenge()

    await stage.header((*PUSH, "repository:acme/base:pull"))

    assert stage.asked[0].scopes == [*PUSH, "repository:acme/base:pull"]


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_refused_scopes_fall_back_to_the_first_scope(status):
    stage = Stage(ANNA, answer=lambda asked: status if len(asked.scopes) > 1 else {"token": "first"})
    await stage.challenge()

    assert await stage.header((*PUSH, "repository:acme/base:pull")) == "Bearer first"
    assert stage.asked[-1].scopes == list(PUSH)


async def test_scope_of_the_challenge_replaces_ours_for_another_resource():
    stage = Stage(ANNA)
    await stage.challenge(bearer(scope="repository:behind/proxy/acme/app:pull"))

    await stage.header()

    assert stage.asked[0].scopes == ["repository:behind/proxy/acme/app:pull"]


async def test_actions_of_the_challenge_are_added_to_ours():
    stage = Stage(ANNA)
    await stage.challenge(bearer(scope="repository:acme/app:metadata_read,pull"), PUSH)

    await stage.header(PUSH)

    assert stage.asked[0].scopes == ["repository:acme/app:pull,push,metadata_read"]


async def test_narrower_scope_of_the_challenge_keeps_our_actions():
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
async def test_token_and_access_token_are_both_read(answer):
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
async def test_response_without_a_valid_token_raises_a_one_line_error(answer):
    stage = Stage(ANNA, answer=lambda asked: answer)
    await stage.challenge()

    with pytest.raises(RegistryError, match=r"^GET token for registry.example.com: ") as error:
        await stage.header()

    assert len(str(error.value)) < 200
    assert "\n" not in str(error.value)


# --- token caching ------------------------------------------------------------------------------------------------------


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
async def test_token_is_reused_until_it_is_stale(stated, used, renewed):
    names = iter("ab")
    stage = Stage(answer=lambda asked: {"token": next(names), **stated})
    await stage.challenge()
    assert await stage.header() == "Bearer a"

    stage.time += used
    assert await stage.header() == "Bearer a"
    stage.time += renewed - used
    assert await stage.header() == "Bearer b"


async def test_concurrent_requests_fetch_one_token():
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


async def test_concurrent_requests_try_a_wrong_password_once():
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
    # One request with a scope and one without: the second separates a wrong password from a missing permission.
    assert [asked.scopes for asked in stage.asked] == [list(PULL), []]


async def test_cancelled_token_request_is_taken_over_by_a_waiting_one():
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
        with anyio.fail_after(10):
            await begun.wait()
        group.start_soon(request)
        group.start_soon(request)
        await checkpoint()
        first.cancel()

    assert headers == ["Bearer t"] * 2


async def test_token_failure_is_not_cached_for_later_requests():
    answers = iter([500, {"token": "late"}])
    stage = Stage(ANNA, answer=lambda asked: next(answers))
    await stage.challenge()

    with pytest.raises(RegistryError):
        await stage.header()
    assert await stage.header() == "Bearer late"


async def test_refused_token_is_refreshed_once():
    stage = Stage(ANNA, answer=numbered())
    await stage.challenge()
    sent = await stage.header()

    assert await stage.challenge(sent=sent)
    assert await stage.challenge(sent=sent)
    assert await stage.header() == "Bearer t2"
    # A late 401 to the old token does not drop the new one.
    assert await stage.challenge(sent=sent)
    assert await stage.header() == "Bearer t2"


async def test_token_cache_is_bounded():
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


# OAuth services such as authentik (https://github.com/goauthentik/authentik/issues/11714); RFC 6749, section 3.2.
@pytest.mark.parametrize("status", [400, 404, 405, 501])
async def test_a_service_without_get_gets_the_password_in_a_post(status):
    stage = Stage(ANNA, answer=lambda asked: status if asked.method == "GET" else {"access_token": "got"})
    await stage.challenge(bearer(service="s"))

    assert await stage.header() == "Bearer got"
    assert await stage.header(PUSH) == "Bearer got"
    assert [asked.method for asked in stage.asked] == ["GET", "POST", "POST"]
    assert stage.asked[1].user is None
    assert stage.asked[1].form == {
        "grant_type": ["password"],
        "username": ["anna"],
        "password": [PASSWORD],
        "service": ["s"],
        "client_id": ["image-syncer"],
        "scope": [PULL[0]],
    }


@pytest.mark.parametrize("status", [404, 405])
async def test_a_service_that_refuses_get_and_post_fails_with_the_answer_to_get(status):
    stage = Stage(ANNA, answer=lambda asked: status if asked.method == "GET" else 405)
    await stage.challenge()

    with pytest.raises(RegistryError) as failure:
        await stage.header()
    assert failure.value.status == status


async def test_a_wrong_password_in_a_post_ends_the_account():
    stage = Stage(ANNA, answer=lambda asked: 405 if asked.method == "GET" else 401)
    await stage.challenge()

    for number in range(5):
        with pytest.raises(RegistryError) as failure:
            await stage.header((f"repository:app{number}:pull",))
        assert failure.value.status == 401
    # The refusal, and one login without scope that confirms it.
    assert [asked.method for asked in stage.asked] == ["GET", "POST"] * 2


async def test_an_anonymous_request_is_never_posted():
    stage = Stage(answer=lambda asked: 405)
    await stage.challenge()

    with pytest.raises(RegistryError):
        await stage.header()
    assert [asked.method for asked in stage.asked] == ["GET"]


async def test_refused_identity_token_is_not_sent_as_a_password():
    stage = Stage(KNOWN, answer=lambda asked: 401)
    await stage.challenge()

    with pytest.raises(RegistryError):
        await stage.header()
    assert [asked.method for asked in stage.asked] == ["POST", "POST"]


async def test_registry_token_is_sent_unchanged_and_only_once():
    stage = Stage(Account("x", registry_token=Secret("my-own")))

    assert await stage.challenge()
    assert await stage.header() == "Bearer my-own"
    assert not await stage.challenge(sent="Bearer my-own")
    assert not stage.asked


# --- accounts that change --------------------------------------------------------------------------------------------


class Changing:
    """Returns passwords p1, p2, …: the next one each time the last one was refused."""

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


async def test_provider_is_called_only_after_a_challenge():
    provider = Changing()
    stage = Stage(Account("helper", provider=provider))

    await stage.header()
    assert provider.asked == 0
    await stage.challenge()
    await stage.header()
    assert stage.asked[0].user == "anna:p1"
    assert stage.auth.current == Account("helper", "anna", Secret("p1"))


async def test_provider_is_called_again_if_the_token_service_refuses():
    stage = Stage(
        Account("helper", provider=Changing()),
        answer=lambda asked: {"token": "t"} if asked.user == "anna:p2" else 401,
    )
    await stage.challenge()

    assert await stage.header() == "Bearer t"


async def test_provider_is_called_again_if_basic_is_refused():
    stage = Stage(Account("helper", provider=Changing(limit=2)))
    await stage.challenge('Basic realm="x"')
    first = await stage.header()

    assert await stage.challenge('Basic realm="x"', sent=first)
    second = await stage.header()
    assert second != first
    # A late 401 to the first password leads to a try with the second. A 401 to the second is final.
    assert await stage.challenge('Basic realm="x"', sent=first)
    with pytest.raises(RegistryError, match="401 unauthorized"):
        await stage.challenge('Basic realm="x"', sent=second)


async def test_provider_without_an_account_means_anonymous_access():
    class Nobody:
        async def account(self, *, refused: Account | None = None) -> Account | None:
            return None

    stage = Stage(Account("helper", provider=Nobody()))
    await stage.challenge()

    assert await stage.header() == "Bearer t"
    assert stage.asked[0].user is None
    assert stage.auth.current is None


# --- protection of credentials -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("account", [ANNA, KNOWN], ids=["password", "identity"])
async def test_credentials_are_not_sent_from_https_to_a_plain_http_token_service(account):
    stage = Stage(account)
    await stage.challenge(bearer("http://auth.example.com/token"))

    with pytest.raises(RegistryError, match="does not: credentials are not sent") as error:
        await stage.header()
    assert error.value.kind is Kind.TLS
    assert not stage.asked


async def test_anonymous_token_request_over_plain_http_is_allowed():
    stage = Stage()
    await stage.challenge(bearer("http://auth.example.com/token"))

    assert await stage.header() == "Bearer t"


async def test_plain_http_registry_may_use_a_plain_http_token_service():
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
async def test_invalid_realm_is_refused(realm):
    stage = Stage(ANNA)
    await stage.challenge(bearer(realm))

    with pytest.raises(RegistryError, match="token service with an invalid URL"):
        await stage.header()
    assert not stage.asked


@pytest.mark.parametrize("account", [ANNA, KNOWN, Account("x", registry_token=Secret("s3cr3t\n"))])
@pytest.mark.parametrize("answer", [401, {"nothing": 1}, {"token": "t0k3n\r\n"}])
async def test_errors_and_reprs_contain_no_secret(account, answer):
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


async def test_repr_of_a_token_hides_it():
    stage = Stage(answer=lambda asked: {"token": "t0k3n"})
    await stage.challenge()
    await stage.header()

    assert "t0k3n" not in repr(stage.auth._tokens)
