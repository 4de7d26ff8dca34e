"""Tests of redirects by token services: which are followed, and whether credentials are sent along."""

from collections.abc import Callable

import pytest

from syncer.errors import RegistryError
from syncer.http.request import Answer
from tests.support.login_stage import ANNA, IDENTITY, KNOWN, PASSWORD, Asked, Stage, asks, bearer
from tests.support.messages import headers_of


def sends_on(*locations: str, status: int = 307) -> Callable[[Asked], object]:
    """A token service that redirects once for each location and then returns a token."""
    left = iter(locations)

    def answer(asked: Asked) -> object:
        location = next(left, None)
        return (
            {"token": "t0ken-2"}
            if location is None
            else Answer(status, headers_of({"location": location}), b"", "")
        )

    return answer


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_within_one_origin_is_followed_with_credentials(status):
    stage = Stage(ANNA, ping=asks(bearer()), answer=sends_on("/other?x=1", status=status))

    assert await stage.header() == "Bearer t0ken-2"
    assert stage.asked[1].url == "https://auth.example.com/other?x=1"
    assert stage.asked[1].user == f"anna:{PASSWORD}"


@pytest.mark.parametrize(
    ("realm", "location", "goes_along"),
    [
        ("https://a.io/token", "https://a.io:443/t", True),
        ("https://a.io/token", "https://A.IO/t", True),
        ("http://a.io/token", "https://a.io/t", True),
        ("http://a.io:5000/token", "https://a.io/t", True),
        ("https://a.io/token", "https://a.io:8443/t", False),
        ("https://a.io/token", "https://b.a.io/t", False),
        ("https://a.io/token", "//evil.io/t", False),
        ("http://a.io/token", "https://evil.io/t", False),
        ("http://a.io/token", "http://a.io:81/t", False),
    ],
)
async def test_credentials_follow_a_redirect_to_the_same_origin_or_to_https_of_the_host(
    realm, location, goes_along
):
    stage = Stage(ANNA, ping=asks(bearer(realm)), answer=sends_on(location), secure=False)

    assert await stage.header() == "Bearer t0ken-2"
    assert (stage.asked[1].user is not None) == goes_along


async def test_dropped_credentials_are_not_sent_after_a_redirect_back():
    stage = Stage(
        ANNA, ping=asks(bearer()), answer=sends_on("https://evil.io/", "https://auth.example.com/token")
    )

    assert await stage.header() == "Bearer t0ken-2"
    assert [asked.user is not None for asked in stage.asked] == [True, False, False]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_identity_token_is_reposted_only_within_the_same_origin(status):
    stage = Stage(KNOWN, ping=asks(bearer()), answer=sends_on("/other", status=status))
    assert await stage.header() == "Bearer t0ken-2"
    assert stage.asked[1].method == "POST"
    assert stage.asked[1].form["refresh_token"] == [IDENTITY]

    stage = Stage(KNOWN, ping=asks(bearer()), answer=sends_on("https://evil.io/", status=status))
    with pytest.raises(RegistryError, match=r"redirects to evil\.io, where credentials are not sent"):
        await stage.header()
    assert len(stage.asked) == 1


@pytest.mark.parametrize("account", [ANNA, None], ids=["account", "nobody"])
@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("http://auth.example.com/t", "from https to http"),
        ("HTTP://auth.example.com/t", "from https to http"),
        ("ftp://auth.example.com/", "invalid URL"),
        ("https://user:x@auth.example.com/", "invalid URL"),
        ("https://[::1", "invalid URL"),
        ("", "invalid URL"),
    ],
)
async def test_invalid_redirect_of_a_token_service_is_refused(account, location, message):
    stage = Stage(account, answer=sends_on(location))
    await stage.challenge()

    with pytest.raises(RegistryError, match=message):
        await stage.header()
    assert len(stage.asked) == 1


async def test_endless_token_redirects_are_stopped():
    stage = Stage(ANNA, ping=asks(bearer()), answer=sends_on(*["/again"] * 100))

    with pytest.raises(RegistryError, match="more than 5 times"):
        await stage.header()
    assert len(stage.asked) == 6
