"""No secret is in a line of the log, however it is spelled there."""

import base64
import io
import json
import logging
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.observe.logs import configure_logging
from syncer.observe.masking import masker

NASTY = r'a.*+?[b](c)$^|\d{2} "quoted" ünï/=%&'


def basic(user, secret):
    return base64.b64encode(f"{user}:{secret}".encode()).decode()


@pytest.mark.parametrize(
    "spell",
    [
        str,
        repr,
        json.dumps,
        quote,
        quote_plus,
        lambda secret: quote(secret, safe=""),
        lambda secret: quote(secret, safe="").lower(),
        lambda secret: urlencode({"p": secret}),
        lambda secret: base64.b64encode(secret.encode()).decode(),
        lambda secret: base64.urlsafe_b64encode(secret.encode()).decode(),
    ],
)
def test_a_secret_is_masked_in_every_spelling(spell):
    mask = masker([NASTY.lower()])

    masked = mask(f"it said <{spell(NASTY.lower())}>")

    assert masked.startswith("it said <")
    assert masked.endswith(">")
    assert "***" in masked
    assert "quoted" not in masked


@pytest.mark.parametrize("user", ["", "u", "me", "bob", "robot$ci"])
def test_a_secret_is_masked_inside_of_basic_credentials(user):
    secret = "correct horse battery"

    masked = masker([secret])(f"auth is {basic(user, secret)} there")

    assert secret not in base64.b64decode(masked.split()[2].replace("*", "A") + "==").decode(errors="replace")
    assert "***" in masked


def test_of_secrets_within_each_other_the_longer_goes_as_a_whole():
    mask = masker(["pass", "password123", "word"])

    assert mask("<password123> <pass> <word>") == "<***> <***> <***>"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Authorization: Basic dTpw", "Authorization: ***"),
        ("{'authorization': 'Bearer abc.def-_'}", "{'authorization': '***'}"),
        ("(b'Authorization', b'Bearer abc')", "(b'Authorization', b'***')"),
        ("it sent Bearer eyJhbGciOi.J9-_~+/= there", "it sent Bearer *** there"),
        ("Bearer token-of-mine", "Bearer ***"),
        ("/token?service=x&token=abc&scope=y", "/token?service=x&token=***&scope=y"),
        (
            "grant_type=password&password=p%20q&refresh_token=r",
            "grant_type=password&password=***&refresh_token=***",
        ),
        ("X-Amz-Signature=0af&X-Amz-Date=1", "X-Amz-Signature=***&X-Amz-Date=1"),
        ('{"access_token": "a\\"b", "expires_in": 300}', '{"access_token": "***", "expires_in": 300}'),
        ("https://me:secret@q.io/v2/", "https://me:***@q.io/v2/"),
    ],
)
def test_what_stands_where_secrets_stand_is_masked_unknown_as_it_is(text, masked):
    assert masker([])(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        'the registry answers with Bearer realm="https://auth.q.io/token"',
        "Basic authentication is refused",
        "GET token for quay.io: 401 unauthorized",
        "localhost:5000/app:1.0 -> q.io:443/app@sha256:0123",
        "password: see the entry 'q.io/team'",
    ],
)
def test_sentences_that_have_no_secret_stay(text):
    assert masker([])(text) == text


@given(st.lists(st.text(min_size=4, max_size=12), max_size=6), st.text(max_size=40))
def test_no_secret_of_any_kind_stands_in_a_masked_text(secrets, text):
    masked = masker(secrets)(text + "".join(secrets) + text)

    # Masks may meet and, with their asterisks, make up what a secret of asterisks looks like.
    assert not [secret for secret in secrets if secret in masked.replace("***", "\0") and "\0" not in secret]


@pytest.mark.parametrize("format_", ["text", "json"])
def test_every_way_into_the_log_is_masked(format_):
    stream = io.StringIO()
    log = configure_logging(
        level="debug", format=format_, file=None, stream=stream, secrets=[NASTY, "s3cr3t"]
    )
    try:
        log.logger.info("event", message=f"has {NASTY}", nested={"list": [NASTY, {"deep": "s3cr3t"}]})
        logging.getLogger("syncer.http.client").debug("sent %s", NASTY)
        logging.getLogger("httpx").warning("lib: %r", {"Authorization": "Basic dTpwYXNz"})
        try:
            raise ValueError(NASTY)
        except ValueError:
            logging.getLogger("syncer.engine").exception("failed with s3cr3t")
    finally:
        log.close()

    text = stream.getvalue()
    for spelled in (NASTY, json.dumps(NASTY)[1:-1], "quoted", "s3cr3t", "dTpwYXNz"):
        assert spelled not in text
    assert text.count("***") >= 5


def test_a_secret_of_one_digit_is_masked_as_a_word_and_leaves_json_and_its_times_whole():
    stream = io.StringIO()
    log = configure_logging(level="info", format="json", file=None, stream=stream, secrets=["2", "e", '"'])
    log.logger.info("x2", message="2 e")
    log.close()

    line = json.loads(stream.getvalue())
    assert line["timestamp"].startswith("20")
    assert line["level"] == "info"
    assert line["event"] == "x2"
    assert line["message"] == "*** ***"
