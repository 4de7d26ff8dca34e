"""Repositories and references, in all the ways they are written."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.oci.digest import Digest
from syncer.oci.reference import (
    InvalidReference,
    Reference,
    Repository,
    canonical_host,
    check_tag,
    is_host,
    is_path,
    is_tag,
    split_reference,
)

DIGEST = Digest.of(b"x")

hosts = st.sampled_from(
    ["quay.io", "localhost", "localhost:5000", "127.0.0.1:5001", "a-b.example.org:443", "[::1]:5000"]
)
parts = st.from_regex(r"[a-z0-9]{1,6}(?:(?:[.]|_|__|-{1,3})[a-z0-9]{1,6}){0,2}", fullmatch=True)
paths = st.lists(parts, min_size=1, max_size=4).map("/".join)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", fullmatch=True).filter(is_tag)
repositories = st.builds(Repository, hosts, paths)
references = st.builds(Reference, repositories, st.none() | tags, st.none() | st.just(DIGEST))


@given(references)
def test_a_reference_reads_what_it_writes(reference):
    assert Reference.parse(str(reference)) == reference
    assert Repository.parse(str(reference.repository)) == reference.repository


@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_refused(text):
    with suppress(InvalidReference):
        reference = Reference.parse(text)
        assert Reference.parse(str(reference)) == reference


def test_endless_text_is_refused_in_few_words():
    for text in ("a" * 10**6, "a." * 10**6 + "/b", "a:" + "b" * 10**6, "a@" + "b" * 10**6):
        with pytest.raises(InvalidReference) as error:
            Reference.parse(text)
        assert len(str(error.value)) < 500


@given(st.text("abZ09._-/:@[]", max_size=40))
def test_text_of_the_grammars_letters_is_a_reference_or_refused(text):
    with suppress(InvalidReference):
        reference = Reference.parse(text)
        assert Reference.parse(str(reference)) == reference
        assert is_path(reference.repository.path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nginx", "docker.io/library/nginx"),
        ("docker.io/nginx", "docker.io/library/nginx"),
        ("index.docker.io/library/nginx", "docker.io/library/nginx"),
        ("registry-1.docker.io/bitnami/redis", "docker.io/bitnami/redis"),
        ("bitnami/redis", "docker.io/bitnami/redis"),
        ("quay.io/a", "quay.io/a"),
        ("Quay.IO/a", "quay.io/a"),
        ("localhost/a", "localhost/a"),
        ("host:5000/a/b/c", "host:5000/a/b/c"),
        ("host/a", "docker.io/host/a"),
    ],
)
def test_the_first_part_is_a_host_only_with_a_dot_a_port_or_as_localhost(text, expected):
    assert str(Repository.parse(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "a//b",
        "a/",
        "/a",
        "A",
        "quay.io",
        "quay.io/",
        "localhost",
        "h:5000",
        "a b",
        "a\n",
        "quay.io/a\n",
        "-a",
        "a-",
        "a..b",
        "a___b",
        "h.io:0x/a",
        "h.io:99999/a",
        "h_h.io/a",
        "h.io/" + "a" * 256,
        "é",
    ],
)
def test_other_text_names_no_repository(text):
    with pytest.raises(InvalidReference):
        Repository.parse(text)


def test_a_colon_behind_the_last_host_part_begins_the_tag():
    assert split_reference("h:5000/a/b:1") == ("h:5000/a/b", "1", None)
    assert split_reference("h:5000/a") == ("h:5000/a", None, None)
    assert split_reference("a:1") == ("a", "1", None)
    assert split_reference(f"a@{DIGEST}") == ("a", None, DIGEST)
    assert split_reference(f"h:5000/a:1@{DIGEST}") == ("h:5000/a", "1", DIGEST)
    assert split_reference("a:") == ("a", "", None)


@pytest.mark.parametrize("name", ["nginx", "bitnami/redis", "h:5000/a/b", "[::1]:5000/a"])
def test_a_regular_expression_is_left_whole(name):
    assert split_reference(f"{name}:/v1:x/y@z/") == (name, "/v1:x/y@z/", None)


@pytest.mark.parametrize(
    "text",
    ["a:", "a:b c", "a:.b", "a:-b", f"a:{'b' * 129}", "a@", "a@sha256:1", f"a:@{DIGEST}", "a:b:c", "a:b\n"],
)
def test_a_bad_tag_or_digest_is_refused(text):
    with pytest.raises(InvalidReference):
        Reference.parse(text)


def test_the_digest_is_what_is_asked_for_where_there_is_one():
    assert Reference.parse(f"a:1@{DIGEST}").target == DIGEST
    assert Reference.parse("a:1").target == "1"


def test_hosts_have_one_form():
    assert canonical_host("Registry.Hub.Docker.com") == "docker.io"
    assert canonical_host("LOCALHOST:5000") == "localhost:5000"
    assert not is_host("library")
    for text in ("", "a/b", "a:b", "https://a.io", "a.io:", ".a", "a.", "h.io:65536"):
        with pytest.raises(InvalidReference):
            canonical_host(text)


def test_a_tag_is_given_back_or_refused():
    assert check_tag("v1.0_a-b") == "v1.0_a-b"
    assert not is_tag("ä")
    with pytest.raises(InvalidReference):
        check_tag("a/b")


@pytest.mark.parametrize(
    ("text", "host", "path", "tag"),
    [
        ("oci:/data/images//quay.io/acme/app:1.0", "oci:/data/images", "quay.io/acme/app", "1.0"),
        ("oci:/data/images//nginx", "oci:/data/images", "docker.io/library/nginx", None),
        ("oci:/data/images", "oci:/data/images", "", None),
        ("oci:/data//localhost:5000/a:1", "oci:/data", "localhost:5000/a", "1"),
        ("oci:/a:b/c//quay.io/x", "oci:/a:b/c", "quay.io/x", None),
        ("oci:/data/../other/.//quay.io/x", "oci:/other", "quay.io/x", None),
    ],
)
def test_repository_in_a_layout(text, host, path, tag):
    reference = Reference.parse(text)
    assert (reference.repository, reference.tag) == (Repository(host, path), tag)
    assert Reference.parse(str(reference)) == reference
    assert reference.repository.layout == host.removeprefix("oci:")
    assert reference.repository.is_whole_layout == (not path)


def test_relative_folder_of_a_layout_starts_at_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Repository.parse("oci:images//quay.io/x") == Repository(f"oci:{tmp_path}/images", "quay.io/x")


def test_repository_inside_of_a_layout_has_the_host_of_its_reference():
    assert Repository.parse("oci:/data//quay.io/acme/app").inside == Repository("quay.io", "acme/app")
    assert Repository("quay.io", "x").inside == Repository("quay.io", "x")


@pytest.mark.parametrize(
    "text",
    [
        "oci:",
        "oci://quay.io/x",
        "oci:/data:1.0",
        "oci:data:1.0//quay.io/x",
        "oci:/data//",
        "oci:/data//Upper/x",
        "oci:/data//oci:/other//quay.io/x",
        "oci:/da\0ta",
    ],
)
def test_invalid_name_in_a_layout_is_refused(text):
    with pytest.raises(InvalidReference):
        Repository.parse(text)


def test_regular_expression_after_a_layout_is_split_off():
    assert split_reference("oci:/data//quay.io/x:/^v1/") == ("oci:/data//quay.io/x", "/^v1/", None)
    assert split_reference("oci:/data") == ("oci:/data", None, None)
