"""Tests of the `WWW-Authenticate` parser with valid, unusual and hostile headers."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.http.challenge import parse_challenges
from tests.support.generated import examples, long

READ = {
    "plain": (
        'Bearer realm="https://auth.example.com/token",service="registry",scope="repository:app:pull,push"',
        [
            {
                "realm": "https://auth.example.com/token",
                "service": "registry",
                "scope": "repository:app:pull,push",
            }
        ],
    ),
    "any order, case and spacing": (
        'bEARER  Scope = "repository:app:pull" ,SERVICE="registry",\tRealm="https://a.example/t"',
        [{"realm": "https://a.example/t", "service": "registry", "scope": "repository:app:pull"}],
    ),
    "no quotes": (
        "Bearer realm=https://a.example/t?x=1,service=registry",
        [{"realm": "https://a.example/t?x=1", "service": "registry"}],
    ),
    "no quotes, and commas in the scope": (
        "Bearer realm=https://a.example/t,scope=repository:app:pull,push,service=registry",
        [{"realm": "https://a.example/t", "scope": "repository:app:pull,push", "service": "registry"}],
    ),
    "quotes and backslashes in quotes": (
        r'Basic realm="the \"inner\" \\ realm"',
        [{"realm": 'the "inner" \\ realm'}],
    ),
    "the first of two values": ('Basic realm="one", realm="two"', [{"realm": "one"}]),
    "empty service": ('Bearer realm="https://a.example/t",service=""', [{"realm": "https://a.example/t", "service": ""}]),
}  # fmt: skip


@pytest.mark.parametrize(("header", "parameters"), READ.values(), ids=READ)
def test_challenge_is_parsed_in_any_spelling(header, parameters):
    assert [challenge.parameters for challenge in parse_challenges([header])] == parameters


SEVERAL = {
    "in one header": ['Basic realm="x", Bearer realm="https://a.example/t",service="s"'],
    "in two headers": ['Basic realm="x"', 'Bearer realm="https://a.example/t",service="s"'],
    "after one without parameters": ['Negotiate, Basic realm="x", Bearer realm="https://a.example/t",service="s"'],
    "after one with a token": [
        'NTLM TlRMTVNTUAACAAAA+/=, Basic realm="x", Bearer realm="https://a.example/t",service="s"'
    ],
}  # fmt: skip


@pytest.mark.parametrize("headers", SEVERAL.values(), ids=SEVERAL)
def test_several_challenges_are_separated(headers):
    found = {challenge.scheme: challenge.parameters for challenge in parse_challenges(headers)}

    assert found["basic"] == {"realm": "x"}
    assert found["bearer"] == {"realm": "https://a.example/t", "service": "s"}


@pytest.mark.parametrize(
    "header", ["", ",", "=", '"', "Bearer", 'Bearer realm="open', "§§§", "realm=x", '=="",']
)
def test_invalid_parts_of_a_challenge_are_skipped(header):
    for challenge in parse_challenges([header]):
        assert not challenge.parameters.get("realm")


PIECES = st.sampled_from(
    ["Bearer", "basic", "realm", "=", '"', "\\", ",", " ", "\t", "scope", "https://a.example/t", "pull", "push", "NTLM", "é"]
)  # fmt: skip
HEADERS = st.one_of(st.text(max_size=100), st.lists(PIECES, max_size=25).map("".join))


@examples(300)
@given(st.lists(long(HEADERS), max_size=3))
def test_no_challenge_text_raises(headers):
    for challenge in parse_challenges(headers):
        assert challenge.scheme == challenge.scheme.lower()
        assert all(name == name.lower() for name in challenge.parameters)


@pytest.mark.parametrize(
    "piece", ["a", "a ", ",", " ", "a=,", 'a="', 'B a="\\', "Bearer realm=x,", "=", "a  =", ",pull"]
)
def test_long_hostile_header_is_parsed_in_linear_time(piece):
    start = time.process_time()

    parse_challenges([f"Bearer {piece * 100_000}"] * 1000)

    assert time.process_time() - start < 3
