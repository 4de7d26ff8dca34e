"""Texts of strangers: bounded, on one line, without steering characters and without secrets."""

import base64
import gc
import json
from html import escape
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer import untrusted
from syncer.accounts.settings import Account, Secret
from syncer.errors import MAX_MESSAGE, Kind, RegistryError
from syncer.events import IndexFiltered
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository
from syncer.untrusted import MAX_SEARCHED, clean
from tests.support.rules import numbered

PASSWORD = "pa/ss w0rd+ü&"


def b64(text):
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def account():
    return Account("reg.example", "robot$ci", Secret(PASSWORD))


@pytest.mark.parametrize(
    "spell",
    [
        str,
        repr,
        json.dumps,
        quote,
        quote_plus,
        lambda text: quote(text, safe=""),
        lambda text: quote(text, safe="").lower(),
        lambda text: quote(quote(text, safe=""), safe=""),
        lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
        escape,
        lambda text: "".join(f"&#{ord(char)};" for char in text),
        "\u200b".join,
        b64,
        lambda text: b64(f"robot$ci:{text}"),
        lambda text: b64(f"robot$ci:{text}").rstrip("="),
        lambda text: quote(b64(f"robot$ci:{text}"), safe=""),
        lambda text: b64(f"someone:{text} else"),
        lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    ],
)
def test_a_secret_that_a_stranger_sends_back_is_masked_in_every_spelling(account, spell):
    shown = clean(f"login failed for <{spell(PASSWORD)}>", 1000)

    assert shown.startswith("login failed for <")
    assert "***" in shown
    assert "w0rd" not in shown
    assert spell(PASSWORD) not in shown


def test_the_basic_value_of_a_short_password_is_masked():
    account = Account("reg.example", "me", Secret("abcd"))
    assert clean(f"got Basic {b64('me:abcd')}") == "got Basic ***"
    assert account.username == "me"


def test_a_secret_is_masked_for_as_long_as_someone_holds_it():
    one, other = Secret("correct horse"), Secret("correct horse")
    del one
    gc.collect()
    assert clean("it was correct horse") == "it was ***"
    del other
    gc.collect()
    assert clean("it was correct horse") == "it was correct horse"


@pytest.mark.parametrize(
    ("text", "masked"),
    [("a banana, a", "*** banana, ***"), ("say a.", "say ***."), ("'a'", "'***'"), ("aa", "aa")],
)
def test_a_secret_under_four_characters_is_masked_as_a_word_only(text, masked):
    secret = Secret("a")
    assert clean(text) == masked
    assert secret.reveal() == "a"


def test_the_beginning_of_a_long_token_is_masked():
    token = Secret("".join(f"{number:04}" for number in range(500)))
    assert clean(f"bad token {token.reveal()[:40]}... sent") == "bad token ***... sent"


@pytest.mark.parametrize("shift", range(1, 14))
def test_a_secret_that_is_cut_off_at_the_end_leaves_next_to_nothing(account, shift):
    shown = clean("x" * (MAX_SEARCHED - shift) + PASSWORD * 2, 10_000)
    assert PASSWORD[:4] not in shown
    assert account.username


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines\tand  blanks ", "two lines and blanks"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\u202eb\u2066c", "a\\u202eb\\u2066c"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("nb\u00a0sp", "nb\\xa0sp"),
        ("c1 \x9b31m", "c1 \\x9b31m"),
        ("fill\u3164er\ufe0f", "fill\\u3164er\\ufe0f"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("line\u2028sep\x85", "line\\u2028sep\\x85"),
        ("lone\ud800", "lone\\ud800"),
        ("ünï 中文", "ünï 中文"),
    ],
)
def test_characters_that_steer_or_hide_are_made_visible(text, shown):
    assert clean(text) == shown


@given(st.text(max_size=300))
def test_what_is_shown_is_one_printable_line_and_stays_as_it_is(text):
    shown = clean(text)
    assert len(shown) <= untrusted.MAX_SHOWN
    assert shown.isprintable()
    assert clean(shown) == shown.strip()


def test_an_error_is_clean_whoever_made_its_message(account):
    error = RegistryError(Kind.INVALID, f"it said\n\x1b[2J{PASSWORD}" + "x" * 5000)
    assert error.message.startswith("it said \\x1b[2J***")
    assert len(error.message) == MAX_MESSAGE
    assert str(error) == str(error.args[0]) == error.message
    assert account.username
    changed = error.with_changes(message=f"again {PASSWORD}")
    assert changed.message == "again ***"


def test_platforms_that_an_index_names_are_clean():
    digest = Digest.of(b"")
    source = Reference(Repository("reg.example", "app"), "1")
    event = IndexFiltered(
        numbered(0), source, digest, digest, ("linux/amd64",), ("\x1b]0;x\x07" + "y" * 500,)
    )
    assert event.kept == ("linux/amd64",)
    assert event.dropped[0].startswith("\\x1b]0;x\\x07")
    assert len(event.dropped[0]) == untrusted.MAX_SHOWN
