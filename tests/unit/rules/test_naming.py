"""Placeholders in destinations."""

import pytest

from syncer.oci.digest import Digest
from syncer.oci.reference import InvalidReference, Repository
from syncer.rules.naming import DefaultDestination, DestinationTemplate, completed
from syncer.rules.tags import AllTags, MatchingTags, OneDigest, TheseTags

ETCD = "quay.io/coreos/etcd"
DIGEST = Digest.of(b"one")


def resolve(text, source=ETCD, captures=(), selection=None, written=""):
    template = DestinationTemplate(text, written or text, selection or AllTags())
    return template.resolve(Repository.parse(source), captures)


@pytest.mark.parametrize(
    ("text", "source", "expected"),
    [
        ("h.io/m/{name}", ETCD, "h.io/m/etcd"),
        ("h.io/m/{path}", ETCD, "h.io/m/coreos/etcd"),
        ("h.io/m/{full}", ETCD, "h.io/m/quay.io/coreos/etcd"),
        ("h.io/{host}/{name}", ETCD, "h.io/quay.io/etcd"),
        ("h.io/{parent}/x-{name}", ETCD, "h.io/coreos/x-etcd"),
        ("h.io/{path|-}", "a.io/b/c/d", "h.io/b-c-d"),
        ("h.io/{path|_}", "a.io/b/c/d", "h.io/b_c_d"),
        ("h.io/{path|.}", "a.io/b/c", "h.io/b.c"),
        ("h.io/{path|--}", "a.io/b/c", "h.io/b--c"),
        ("h.io/{path|__}", "a.io/b/c", "h.io/b__c"),
        ("h.io/{full|-}", "a.io:5000/b", "h.io/a.io-5000-b"),
        ("h.io/{parent|-}/{name}", "a.io/b/c/d", "h.io/b-c/d"),
        # Docker Hub's short names stand for their full ones.
        ("h.io/{full}", "nginx", "h.io/docker.io/library/nginx"),
        ("h.io/{parent}/{name}", "nginx", "h.io/library/nginx"),
        # The slash of an empty parent disappears.
        ("h.io/m/{parent}/{name}", "a.io/b", "h.io/m/b"),
        ("h.io/m/{parent}", "a.io/b", "h.io/m"),
        ("h.io/m/{parent}:x", "a.io/b:1", "h.io/m"),
        ("h.io/m/{parent}/{parent}/x", "a.io/b", "h.io/m/x"),
        # What a repository name does not allow is converted, but a host stays a host.
        ("h.io/{host}/{name}", "localhost:5000/b", "h.io/localhost-5000/b"),
        ("h.io/{full}", "[::1]:5000/b", "h.io/1-5000/b"),
        ("{host}/m/{path}", "localhost:5000/b", "localhost:5000/m/b"),
        ("{full}-copy", "localhost:5000/b", "localhost:5000/b-copy"),
        ("m/{name}", ETCD, "docker.io/m/etcd"),
        ("{name}", ETCD, "docker.io/library/etcd"),
    ],
)
def test_placeholders_stand_for_parts_of_the_source(text, source, expected):
    source, _, _tag = source.partition(":1") if source.endswith(":1") else (source, "", "")
    selection = TheseTags(("1",)) if text.endswith(":x") else None
    assert str(resolve(text, source, selection=selection).repository) == expected


@pytest.mark.parametrize(
    ("text", "captures", "expected"),
    [
        ("h.io/t/{1}", ["a/b"], "h.io/t/a/b"),
        ("h.io/{2}/{1}", ["a", "b"], "h.io/b/a"),
        ("h.io/{1|-}", ["a/b"], "h.io/a-b"),
        ("h.io/app{1}", ["-x"], "h.io/app-x"),
        ("h.io/t/{1}/{name}", [""], "h.io/t/etcd"),
        ("h.io/t/{1}", ["App/B"], "h.io/t/app/b"),
    ],
)
def test_numbers_stand_for_what_the_pattern_matched(text, captures, expected):
    assert str(resolve(text, captures=captures).repository) == expected


@pytest.mark.parametrize(
    ("text", "selection", "tags"),
    [
        ("h.io/x:{tag}-m", TheseTags(("1", "2")), ["1-m", "2-m"]),
        ("h.io/x:{tag}-a,{tag}-b", TheseTags(("1", "2")), ["1-a", "2-b"]),
        ("h.io/x:{name}-{tag}", TheseTags(("1", "2")), ["etcd-1", "etcd-2"]),
        ("h.io/x:{path|_}.{tag}", AllTags(), ["coreos_etcd.1", "coreos_etcd.2"]),
        ("h.io/x:{tag}-m", MatchingTags("."), ["1-m", "2-m"]),
        ("h.io/x:{tag}-m", OneDigest(DIGEST, "1"), ["1-m", "1-m"]),
        ("h.io/x:{host}-{tag}", AllTags(), ["quay.io-1", "quay.io-2"]),
    ],
)
def test_tag_placeholder_gives_each_tag_its_new_name(text, selection, tags):
    destination = resolve(text, selection=selection)
    indexes = (0, 0) if isinstance(selection, OneDigest) else (0, 1)
    assert [destination.tag_for(tag, index) for tag, index in zip(("1", "2"), indexes, strict=True)] == tags
    assert destination.tags_are_written


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("h.io/{nme}", "unknown placeholder '{nme}': expected {host}, {path}"),
        ("h.io/{}", "unknown placeholder '{}'"),
        ("h.io/{0}", "unknown placeholder"),
        ("h.io/{path|/}", "expected one of - _ . -- __"),
        ("h.io/{path|}", "expected one of - _ . -- __"),
        ("h.io/{path", "found '{' alone"),
        ("h.io/path}", "found '}' alone"),
        ("h.io/{tag}", "{tag} can only be in the tag"),
        ("h.io/x:{tag|-}", "nothing in {tag}"),
        ("h.io/{1}", "{1} has no value: the source has no * or **"),
        ("h.io/x:{path}-{tag}", "not a tag"),
        ("h.io/x:{tag},{tag}-b", "expected one tag with {tag}"),
        ("h.io/Mirror/{path}", "upper case is not allowed"),
        ("h.io/{parent}-x", "not a repository name"),
        ("h.io/" + "{path}" * 1000, "at most 4096 characters"),
        ("https://h.io/{path}", "drop 'https://'"),
    ],
)
def test_invalid_templates_are_refused_with_a_reason(text, told):
    with pytest.raises(InvalidReference) as error:
        resolve(text, "a.io/b" if "parent" in text else ETCD)
    assert told in str(error.value)


def test_missing_capture_is_an_error_that_says_how_many_there_are():
    with pytest.raises(InvalidReference, match=r"\{3\} has no value: the source has only 2 of"):
        resolve("h.io/{3}", captures=["a", "b"])


def test_digest_without_tag_has_no_tag_placeholder():
    with pytest.raises(InvalidReference, match="a digest without a tag"):
        resolve("h.io/x:{tag}", selection=OneDigest(DIGEST))


@pytest.mark.parametrize(
    ("text", "written", "expected"),
    [
        ("h.io/m/{path}", "$HOST/m/{path}", "$HOST/m/coreos/etcd"),
        ("h.io/m/{name}", "${HOST}/m/{name}", "${HOST}/m/etcd"),
        ("h.io/m/{name}", "$PLACE", "$PLACE"),
    ],
)
def test_written_text_keeps_variables_and_has_no_placeholders(text, written, expected):
    destination = resolve(text, written=written)
    assert destination.written == expected
    assert destination.name == expected


def test_value_of_a_variable_is_not_shown_in_errors():
    with pytest.raises(InvalidReference) as error:
        resolve("h.io/S3CRET/{path}", written="$HOST/{path}")
    assert "S3CRET" not in str(error.value)
    with pytest.raises(InvalidReference, match=r"unknown placeholder '{pth}'"):
        resolve("h.io/S3CRET/{pth}", written="$HOST/{pth}")


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("h.io/m", "h.io/m/{name}"),
        ("h.io/m/", "h.io/m/{name}"),
        ("h.io", "h.io/{name}"),
        ("localhost:5000", "localhost:5000/{name}"),
        ("localhost:5000/m", "localhost:5000/m/{name}"),
        ("acme", "acme/{name}"),
        ("h.io/m:stable", "h.io/m/{name}:stable"),
        ("h.io/m/{path}", "h.io/m/{path}"),
        ("h.io/m:{tag}-x", "h.io/m:{tag}-x"),
        ("oci:folder", "oci:folder"),
    ],
)
def test_place_without_placeholder_is_completed_with_the_name(place, expected):
    assert completed(place) == expected


@pytest.mark.parametrize(
    ("registry", "namespace", "expected"),
    [
        ("h.io", "m", "h.io/m/{name}"),
        ("h.io/", "/m/n/", "h.io/m/n/{name}"),
        ("h.io", "", "h.io/{path}"),
        ("", "m", ""),
    ],
)
def test_registry_and_namespace_name_a_place(registry, namespace, expected):
    assert DefaultDestination(registry, namespace).text == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("h.io/m/{1}", "h.io/m/*"),
        ("h.io/{full}:x", "h.io/a.io-5000/*"),
        ("{host}/{path|-}-{1}", "a.io:5000/*-*"),
        ("mirror/{name}", "docker.io/mirror/*"),
        ("{name}", "docker.io/library/*"),
        ("h.io/m", "h.io/m"),
    ],
)
def test_outline_has_a_star_for_what_is_not_known(text, expected):
    assert DestinationTemplate(text, text).outline("a.io:5000", 1) == expected
