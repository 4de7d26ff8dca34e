"""Tests of the error messages for error responses and failed connections."""

import pytest

from syncer.accounts.settings import Account, Secret
from syncer.errors import Attempt, Kind
from syncer.http import failures
from syncer.http.transport_errors import ConnectError, ConnectTimeout
from tests.support.messages import headers_of

ACCOUNT = Account("reg.example/team", "me", Secret("hush"))


def answer(status, body=b"", *, method="GET", account=None, elsewhere="", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return failures.from_answer(
        status,
        headers_of(named),
        body,
        attempt=Attempt("reg.example", method, "manifest", "manifest reg.example/app:1"),
        account=account,
        elsewhere=elsewhere,
    )


@pytest.mark.parametrize(
    ("status", "kind", "permanent"),
    [
        (400, Kind.INVALID, True),
        (401, Kind.UNAUTHORIZED, True),
        (403, Kind.FORBIDDEN, True),
        (404, Kind.NOT_FOUND, True),
        (405, Kind.UNSUPPORTED, True),
        (408, Kind.TIMEOUT, False),
        (409, Kind.CONFLICT, True),
        (410, Kind.NOT_FOUND, True),
        (412, Kind.FORBIDDEN, True),
        (499, Kind.SERVER_ERROR, False),
        (505, Kind.UNSUPPORTED, True),
        (507, Kind.SERVER_ERROR, False),
        (511, Kind.CONNECTION, True),
        (599, Kind.SERVER_ERROR, False),
        (413, Kind.TOO_LARGE, True),
        (415, Kind.UNSUPPORTED, True),
        (422, Kind.INVALID, True),
        (425, Kind.SERVER_ERROR, False),
        (429, Kind.THROTTLED, False),
        (500, Kind.SERVER_ERROR, False),
        (501, Kind.UNSUPPORTED, True),
        (502, Kind.SERVER_ERROR, False),
        (503, Kind.SERVER_ERROR, False),
        (504, Kind.TIMEOUT, False),
        (522, Kind.SERVER_ERROR, False),
    ],
)
def test_status_maps_to_kind(status, kind, permanent):
    error = answer(status)
    assert (error.kind, error.permanent, error.status) == (kind, permanent, status)
    assert ("trying again may help" in error.as_failure().message) is not permanent


def test_503_with_retry_after_is_throttling():
    error = answer(503, retry_after="7")
    assert error.kind is Kind.THROTTLED
    assert error.retry_after == 7


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"errors":[{"code":"DENIED","message":"no access"}]}', "(DENIED: no access)"),
        (b'{"errors":[{"code":"A","message":"x"},{"code":"B","message":"y"}]}', "(A B: x; y)"),
        (b'{"errors":[{"code":"UNKNOWN"}]}', "(UNKNOWN)"),
        (b'{"errors":[{"message":"line\\nbreak"}]}', "(line break)"),
        (b'{"details":"incorrect username or password"}', "(incorrect username or password)"),
        (b'{"error":"invalid_grant","error_description":"expired"}', "(expired)"),
        (b'{"message":"no Route matched"}', "(no Route matched)"),
        (b"404 page not found\n", "(404 page not found)"),
        (b"<html><title>502 Bad\nGateway</title>", "(a web page, '502 Bad Gateway')"),
        (b"<!doctype html>", "(a web page)"),
        (b"\x00\x01\x02", ""),
        (b'{"errors": 7}', ""),
        (b"[]", ""),
    ],
)
def test_error_quotes_the_registrys_message(body, said):
    line = str(answer(403, body, account=ACCOUNT))
    assert line.startswith(f"GET manifest reg.example/app:1: 403 forbidden {said}".strip())
    assert "\n" not in line


def test_long_message_is_truncated():
    assert len(str(answer(400, b"x" * 100_000))) < 600


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (answer(401), "no credentials for reg.example were found"),
        (
            answer(401, account=ACCOUNT),
            "check user name, password and rights of the entry 'reg.example/team'",
        ),
        (answer(403), "refuses anonymous access"),
        (answer(429), "anonymous requests have the lowest rate limit"),
        (answer(413), "client_max_body_size"),
        (answer(412, method="PUT"), "write to another tag"),
        (answer(403, b'{"errors":[{"message":"exceeds quota"}]}', account=ACCOUNT), "quota"),
        (answer(400, b"Client sent an HTTP request to an HTTPS server."), 'remove "plain_http"'),
    ],
)
def test_error_has_advice(error, advice):
    assert advice in str(error)


def test_refusal_by_a_redirect_target_is_not_blamed_on_the_account():
    error = answer(403, b"<Error/>", account=ACCOUNT, elsewhere="cdn.example")
    assert not error.permanent
    assert "403 forbidden from cdn.example, to which the registry redirected" in str(error)
    assert "password" not in str(error)


def test_body_of_a_redirect_target_is_not_quoted():
    body = b'{"errors":[{"code":"DENIED","message":"internal-host-9 says no"}]}'
    error = answer(500, body, elsewhere="10.0.0.9")
    assert "internal-host-9" not in str(error)
    assert error.codes == ()


def test_redirect_target_with_a_challenge_is_named_in_the_advice():
    error = answer(
        401, account=ACCOUNT, elsewhere="other.example", www_authenticate='Bearer realm="https://x/token"'
    )
    assert error.kind is Kind.UNAUTHORIZED
    assert error.permanent
    assert "other.example requires its own login" in str(error)


def test_connect_timeout_advises_to_check_firewalls():
    attempt = Attempt("reg.example", "GET", "ping", "/v2/")
    error = failures.from_transport(ConnectTimeout("no connection within 15 s"), attempt=attempt)
    assert error.kind is Kind.TIMEOUT
    assert error.retryable
    assert "a firewall or NetworkPolicy may block connections to reg.example" in str(error)


def test_refused_connection_advises_to_check_the_port():
    attempt = Attempt("reg.example", "GET", "ping", "/v2/")
    error = failures.from_transport(ConnectError("Connect call failed"), attempt=attempt)
    assert error.kind is Kind.CONNECTION
    assert (
        "cannot connect: Connect call failed; check that reg.example is running and that the port is correct"
        in str(error)
    )


def test_page_title_is_found_in_a_large_page_and_ignored_if_unterminated():
    assert "'Bad Gateway'" in str(answer(502, b"<html>" + b" " * 60_000 + b"<title>Bad Gateway</title>"))
    assert "(a web page)" in str(answer(502, b"<title" * 11_000))


def test_412_is_an_immutable_tag_only_for_a_push():
    body = b'{"errors":[{"code":"TAG_INVALID","message":"the tag is immutable"}]}'
    assert answer(400, body, method="PUT").kind is Kind.IMMUTABLE
    assert answer(400, body).kind is Kind.INVALID


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5", 5.0),
        (" 7 ", 7.0),
        ("2.5", 2.5),
        ("0", 1.0),
        ("0.001", 1.0),
        ("-1", 1.0),
        ("99999999", 86400.0),
        ("9" * 20, 86400.0),
        ("9" * 40, None),
        (None, None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("1e3", None),
        ("\u0665", None),
    ],
)
def test_retry_after_in_seconds(value, seconds):
    assert failures.retry_after(value) == seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("Wed, 21 Oct 2015 07:28:00 GMT", 1.0),
        ("Fri, 31 Dec 2100 23:59:59 GMT", 86400.0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 86400.0),
        ("1700000000", 1.0),
        ("4102444800", 86400.0),
        ("1700000000000", 1.0),
        ("4102444800000", 86400.0),
    ],
)
def test_retry_after_as_a_date_is_bounded(value, seconds):
    assert failures.retry_after(value) == seconds


def test_retry_after_as_a_unix_timestamp_is_converted(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.0)
    assert failures.retry_after("1800000030") == 30
    assert failures.retry_after("1800000030000") == 30
