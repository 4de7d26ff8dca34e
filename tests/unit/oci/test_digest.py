"""Digests: checked text that can check bytes."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.oci.digest import Digest, InvalidDigest


@given(st.binary(max_size=100), st.sampled_from(["sha256", "sha384", "sha512"]))
def test_a_digest_matches_the_bytes_it_is_of_and_no_others(content, algorithm):
    digest = Digest.of(content, algorithm)
    assert Digest.parse(str(digest)) == digest
    assert (digest.algorithm, digest.hex) == (algorithm, hashlib.new(algorithm, content).hexdigest())
    hasher = digest.hasher()
    hasher.update(content)
    assert digest.matches(hasher)
    hasher.update(b"x")
    assert not digest.matches(hasher)


@given(st.none() | st.integers() | st.binary() | st.text() | st.text("sha256:abcdef0", max_size=80))
def test_anything_else_is_refused_in_few_words(thing):
    with pytest.raises(InvalidDigest) as error:
        Digest.parse(thing)
    assert len(str(error.value)) < 700


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "sha256:" + "a" * 63,
        "sha256:" + "A" * 64,
        "sha512:" + "a" * 64,
        "md5:" + "a" * 32,
        "sha256:" + "a" * 64 + "\n",
        " sha256:" + "a" * 64,
        "sha256:" + "g" * 64,
    ],
)
def test_a_digest_has_a_known_algorithm_and_its_length_in_lower_case(text):
    with pytest.raises(InvalidDigest):
        Digest.parse(text)
