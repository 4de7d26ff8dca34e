"""Generated invalid responses: parsers raise only the documented exceptions."""

import json

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syncer.accounts.settings import HostSettings
from syncer.errors import Attempt, RegistryError
from syncer.http import failures
from syncer.http.address import Address
from syncer.http.transport import Headers
from syncer.oci.digest import Digest
from syncer.oci.manifest import InvalidManifest, parse_manifest
from syncer.places.registry.headers import (
    MAX_CHUNK,
    content_range,
    min_chunk_size,
    session_offset,
)
from syncer.places.registry.link_header import InvalidLink, next_link, parse_links
from tests.support.generated import examples, long

many = examples(200)
fewer = examples(100)

texts = st.text(max_size=80)
headers = st.one_of(
    texts,
    st.text(st.sampled_from('<>;,="/:?&%@[] relnextbytes0123456789-*hpst.\\\x00\n\u00e9'), max_size=60),
)
addresses = st.one_of(
    headers,
    st.builds(
        "{}://{}{}/{}".format, st.sampled_from(["http", "https", "ftp", ""]), headers, headers, headers
    ),
)
blanks = st.sampled_from(["", " ", "\t "])
numbers = st.one_of(st.integers(-(10**25), 10**25).map(str), texts)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
digests = st.one_of(texts, st.just(f"sha256:{'a' * 64}"), st.just(f"sha512:{'b' * 128}"))
descriptors = st.one_of(
    json_values,
    st.fixed_dictionaries(
        {},
        optional={
            "digest": digests | json_values,
            "size": st.integers() | json_values,
            "mediaType": texts | json_values,
            "platform": json_values,
            "urls": st.lists(texts, max_size=2) | json_values,
            "annotations": json_values,
        },
    ),
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "schemaVersion": st.sampled_from([1, 2]) | json_values,
        "mediaType": st.sampled_from(
            [
                "application/vnd.oci.image.index.v1+json",
                "application/vnd.oci.image.manifest.v1+json",
                "application/vnd.docker.distribution.manifest.v1+prettyjws",
            ]
        )
        | json_values,
        "config": descriptors,
        "layers": st.lists(descriptors, max_size=3) | json_values,
        "manifests": st.lists(descriptors, max_size=3) | json_values,
        "fsLayers": st.lists(st.fixed_dictionaries({"blobSum": digests}), max_size=3) | json_values,
        "subject": descriptors,
        "artifactType": texts | json_values,
    },
)


@many
@given(long(headers))
@example('</v2/a/tags/list?last=b&n=1>; rel="next"')
def test_links(value):
    try:
        links = parse_links(value)
    except InvalidLink:
        return
    assert all(">" not in link.target for link in links)
    # A header without links consists of commas only.
    assert links or not value.replace(",", "").strip()


quoted = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
names = st.text(st.sampled_from("abcxyz*-"), min_size=1, max_size=6).filter(lambda name: name != "rel")
parameters = st.builds("{}{}={}{}".format, names, blanks, blanks, quoted) | names
nexts = st.sampled_from(["next", '"next"', "'next'", '"prev next"', "NEXT", '"\\ne\\xt"'])


@fewer
@given(
    st.lists(parameters, max_size=3),
    nexts,
    st.lists(parameters, max_size=3),
    st.lists(st.lists(parameters, max_size=2), max_size=2),
    blanks,
)
def test_next_link_is_found_in_any_valid_header(before, relation, after, others, blank):
    """Headers are generated from the grammar of RFC 8288, section 3."""
    target = "/v2/a/tags/list?last=b,c;d&n=1"
    link = f";{blank}".join([f"<{target}>", *before, f"rel{blank}={blank}{relation}", *after])
    value = f"{blank},{blank}".join([*(";".join(["</x>", "rel=last", *each]) for each in others), link])
    assert next_link([value], same_list="/v2/a/tags/list") == target


@pytest.mark.parametrize("setting", [HostSettings(), HostSettings(plain_http=True)], ids=["https", "http"])
@many
@given(location=long(addresses))
@example(location="//[::1")
@example(location="http://\u2100/")
@example(location="https://registry.example:99999/")
def test_locations(setting, location):
    address = Address("registry.example:5000", setting)
    scheme = "http" if setting.plain_http else "https"
    try:
        url = address.resolve(f"{scheme}://registry.example:5000/v2/a/blobs/uploads/?x=1", location)
    except RegistryError:
        return
    parsed = httpx.URL(url)
    assert parsed.scheme in {"http", "https"}
    assert parsed.host
    # Credentials are sent to the registry only, for any location.
    if address.is_own(url):
        assert (parsed.scheme, parsed.host, parsed.port) == (scheme, "registry.example", 5000)


@many
@given(long(headers))
@example("bytes 5-9/10")
def test_content_ranges(value):
    start, _end, size = content_range(value)
    assert start >= -1
    assert size >= -1


@many
@given(long(st.one_of(headers, st.builds("{}-{}".format, numbers, numbers))))
@example("0-0")
@example("bytes=0-5")
def test_ranges_of_sessions(value):
    assert session_offset(value) >= 0


@many
@given(long(numbers))
def test_least_lengths_of_chunks(value):
    assert 0 <= min_chunk_size(value) <= MAX_CHUNK


@many
@given(long(st.one_of(headers, numbers)))
@example("Wed, 21 Oct 2015 07:28:00 GMT")
@example("Fri, 31 Dec 9999 23:59:59 -9959")
@example("Mon, 01 Jan 0001 00:00:00 +2359")
def test_retry_after(value):
    seconds = failures.retry_after(value)
    assert seconds is None or seconds >= 0


@fewer
@given(documents.map(json.dumps), long(texts))
def test_manifests_and_indexes(document, content_type):
    try:
        manifest = parse_manifest(document.encode("utf-8", "surrogatepass"), content_type)
    except InvalidManifest:
        return
    for part in (*manifest.blobs, *manifest.children, *manifest.foreign):
        assert Digest.parse(part.digest)
        assert part.size >= -1


@fewer
@given(st.binary(max_size=300))
@example(b"[" * 100_000)
def test_manifests_of_any_bytes(raw):
    with pytest.raises(InvalidManifest):
        parse_manifest(raw)


@fewer
@given(
    st.integers(300, 599),
    st.one_of(
        st.binary(max_size=200),
        json_values.map(lambda value: json.dumps(value).encode()),
        st.fixed_dictionaries({"errors": json_values}).map(lambda value: json.dumps(value).encode()),
        st.fixed_dictionaries(
            {
                "errors": st.lists(
                    st.fixed_dictionaries({"code": json_values, "message": json_values}), max_size=3
                )
            }
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_error_answers(status, body):
    error = failures.from_answer(
        status,
        Headers(),
        body,
        attempt=Attempt("r", "PUT", "manifest", "manifest r/a:1"),
        account=None,
    )
    line = str(error)
    assert "\n" not in line
    assert len(line) < 3000
