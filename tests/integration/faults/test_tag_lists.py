"""Tag lists: page sizes, forms of links, and endless lists."""

import json
import sys

import anyio
import pytest

from syncer.demo.images import make_image, make_layer
from syncer.places.registry import tag_list
from tests.integration.faults.test_big_blobs import MEASURED
from tests.support.faults import Faults, Reply

TAGS = "/v2/app/tags/list"
RULE = {"here/app": "there/app"}
ONE_OF_MANY = {"here/app:/^1$/": "there/app"}


@pytest.fixture(autouse=True)
def image(source):
    return make_image(source.store, "app", "1", layers=[make_layer({"a": b"a"})])


def tag_many(source, count):
    image = source.store.get_manifest("app", "1")
    for number in range(count):
        source.store.tag("app", f"t{number:03}", image.digest)


LINKS = {
    "relative": '</v2/app/tags/list?n=2&last={last}>; rel="next"',
    "absolute": '<http://{host}/v2/app/tags/list?n=2&last={last}>; rel="next"',
    "without quotes": "</v2/app/tags/list?n=2&last={last}>; rel=next",
    "behind others": '</x>; rel="prev", </v2/app/tags/list?n=2&last={last}>; title="a"; rel="next"',
    "without a slash": '<list?n=2&last={last}>; rel="next"',
}


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS.keys())
async def test_all_pages_of_tags_are_read(here, source, net, link):
    tag_many(source, 4)

    def rewrite(headers):
        if "link" in headers:
            last = headers["link"].partition("last=")[2].partition(">")[0].partition("&")[0]
            headers["link"] = link.format(last=last, host=here.host)

    source._endpoints._max_page = 2
    here.on("GET", TAGS, rewrite=rewrite)
    assert (await net.sync(RULE, retries=0)).counts == (5, 0, 0)


async def test_tag_list_with_link_loop_fails(here, net):
    here.on(
        "GET",
        TAGS,
        rewrite=lambda headers: headers.update({"link": '</v2/app/tags/list?n=1000>; rel="next"'}),
    )
    outcome = await net.sync(RULE, retries=0)
    assert "form a loop" in outcome.failed[0].failure.message


async def test_tag_list_truncated_at_100_without_link_is_completed(here, source, net):
    tag_many(source, 149)
    source._endpoints._max_page = 100
    here.on("GET", TAGS, drop=["link"])
    outcome = await net.sync(RULE, retries=0)
    assert outcome.counts == (150, 0, 0)


@pytest.mark.parametrize("most", [10, 20, 50, 90])
async def test_tags_cut_at_any_round_number_without_a_link_are_all_found(here, source, net, most):
    tag_many(source, 129)
    source._endpoints._max_page = most
    here.on("GET", TAGS, drop=["link"])
    assert (await net.sync(RULE, retries=0)).counts == (130, 0, 0)


async def test_a_page_that_ends_with_what_is_no_tag_is_gone_on_from(here, source, net):
    tag_many(source, 4)
    digests = json.dumps({"tags": [f"sha256:{number:064}" for number in range(100)]}).encode()
    here.on("GET", f"{TAGS}?n=1000", reply=lambda _asked: Reply(200, {}, digests))
    # The tag 1 sorts before the digests.
    assert (await net.sync(RULE, retries=0)).counts == (4, 0, 0)
    assert here.requests[1].target.endswith(f"last=sha256%3A{99:064}")


@pytest.mark.parametrize("status", [400, 403, 404, 405])
async def test_a_list_whose_end_cannot_be_asked_for_is_told(here, source, net, caplog, status):
    tag_many(source, 129)
    source._endpoints._max_page = 100
    here.on("GET", f"{TAGS}?n=1000&last=*", status=status)
    here.on("GET", TAGS, drop=["link"])
    assert (await net.sync(RULE, retries=0)).counts == (100, 0, 0)
    assert "the next page cannot be requested" in caplog.text


async def test_a_registry_that_gives_the_last_page_again_has_no_more(here, source, net):
    tag_many(source, 19)
    pages = [source.store.tags("app")[:10], source.store.tags("app")[10:]]

    def page(asked):
        listed = pages["last=" in asked.target]
        return Reply(200, {}, json.dumps({"tags": listed}).encode())

    here.on("GET", TAGS, reply=page)
    assert (await net.sync(RULE, retries=0)).counts == (20, 0, 0)


@pytest.mark.parametrize(
    "body", [b"{}", b'{"Tags": ["1"]}', b'{"errors": [{"code": "DENIED"}]}', b'{"name": "app", "data": []}']
)
async def test_a_document_without_tags_is_no_empty_list(here, net, body):
    here.on("GET", TAGS, status=200, body=body)
    assert (await net.sync(RULE, retries=0)).failed[0].failure.kind == "invalid"


async def test_a_name_without_tags_is_an_empty_list(here, net):
    here.on("GET", TAGS, status=200, body=b'{"name": "app"}')
    assert (await net.sync(RULE, retries=0)).counts == (0, 0, 0)


async def test_100_tags_without_pagination_are_listed_once(here, source, net):
    tag_many(source, 99)
    body = source.store.tags("app")
    document = ('{"tags": ["' + '","'.join(body) + '"]}').encode()
    here.on("GET", TAGS, status=200, body=document)
    outcome = await net.sync(RULE, retries=0)
    assert outcome.counts == (100, 0, 0)
    assert here.count("GET", TAGS) == 2


@pytest.mark.parametrize(
    "listed",
    ['["1", null]', f'["1", "sha256:{"0" * 64}"]', '["1", 7, "../../x", ""]'],
    ids=["null", "digests", "hostile"],
)
async def test_entries_that_are_not_tags_are_ignored(here, net, listed):
    here.on("GET", TAGS, status=200, body=b'{"name": "app", "tags": ' + listed.encode() + b"}")
    assert (await net.sync(RULE, retries=0)).counts == (1, 0, 0)


@pytest.mark.parametrize("listed", ['[{"name": "1"}]', '["1", ["2"]]'])
async def test_entries_in_another_format_are_no_empty_list(here, net, listed):
    here.on("GET", TAGS, status=200, body=f'{{"tags": {listed}}}'.encode())
    outcome = await net.sync(RULE, retries=0)
    assert "the entries of the tag list are no strings" in outcome.failed[0].failure.message


async def test_empty_tag_list_copies_nothing(here, net):
    here.on("GET", TAGS, status=200, body=b'{"name": "app", "tags": null}')
    assert (await net.sync(RULE, retries=0)).counts == (0, 0, 0)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"tags": {}}', b"\xff", b"<!doctype html>"])
async def test_invalid_tag_list_is_reported(here, net, body):
    here.on("GET", TAGS, status=200, body=body)
    outcome = await net.sync(RULE, retries=0)
    assert outcome.failed[0].failure.kind == "invalid"
    assert f"GET tags of {here.host}/app" in outcome.failed[0].failure.message


# --- refused pages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 403, 405, 413, 414, 416, 422, 500, 501])
@pytest.mark.parametrize("most", [100, 0], ids=["at most 100", "no number at all"])
async def test_refused_page_size_is_reduced(here, source, net, status, most):
    tag_many(source, 249)

    def picky(asked):
        number = asked.target.partition("n=")[2].partition("&")[0]
        return Reply(status) if number and int(number) > most else None

    here.on("GET", TAGS, reply=picky)
    # Some tags of each page.
    assert (await net.sync({"here/app:/5$/": "there/app"}, retries=0)).counts == (25, 0, 0)


async def test_refused_page_size_is_not_requested_again(here, source, net):
    names = [f"app{number}" for number in range(12)]
    for name in names:
        make_image(source.store, name, "1", layers=[make_layer({"a": b"a"})])
    here.on("GET", "*/tags/list?n=1000", status=400)
    outcome = await net.sync({f"here/{name}": f"there/{name}" for name in names}, retries=0, transfers=1)
    assert outcome.counts == (12, 0, 0)
    # Only the requests that were already in progress at the first refusal.
    assert sum("n=1000" in asked.target for asked in here.requests) <= 5


@pytest.mark.parametrize("status", [401, 404])
async def test_missing_tag_list_is_requested_once(here, net, status):
    here.on("GET", TAGS, status=status)
    outcome = await net.sync(RULE, retries=0)
    assert outcome.failed[0].failure.status == status
    assert not any("n=100&" in asked.target for asked in here.requests)


# --- links ---------------------------------------------------------------------------------------------------------


MORE_LINKS = {
    "single quotes": "<{next}>; rel='next'",
    "capitals": '<{next}>; REL="Next"',
    "several relations": '<{next}>; rel="prev next"',
    "commas in a parameter": '<{next}>; title="a, b; c=\\"d\\", <x>; rel=prev"; rel="next"',
    "blanks": '  <{next}> ;\trel = "next" ',
    "the first of two relations": "<{next}>; rel=next; rel=last",
    "no relation": "<{next}>",
    "several links": '</a,b>; rel="first", <{next}>; rel="next", </z>; rel="last"',
    "nothing between commas": ', , <{next}>; rel="next", ,',
    "another host": '<http://internal.test:5000{next}>; rel="next"',
    "another scheme": '<https://{host}{next}>; rel="next"',
    "no scheme": '<//internal.test{next}>; rel="next"',
    "a scheme in capitals": '<HTTP://internal.test{next}>; rel="next"',
    "a fragment": '<{next}#top>; rel="next"',
    "a query alone": '<?{query}>; rel="next"',
    "a path behind a proxy's own": '</registry{next}>; rel="next"',
    "a path from here": '<../tags/list?{query}>; rel="next"',
    "an address in the query": '<{next}&from=http://other.test/>; rel="next"',
}


@pytest.mark.parametrize("link", MORE_LINKS.values(), ids=MORE_LINKS.keys())
async def test_link_is_parsed_in_every_form(here, source, net, link):
    tag_many(source, 4)

    def rewrite(headers):
        if "link" in headers:
            target = headers["link"].partition(">")[0].removeprefix("<")
            query = target.partition("?")[2]
            headers["link"] = link.format(next=target, query=query, host=here.host)

    source._endpoints._max_page = 2
    here.on("GET", TAGS, rewrite=rewrite)
    assert (await net.sync(RULE, retries=0)).counts == (5, 0, 0)


async def test_links_in_several_headers_are_read(here, source, net):
    tag_many(source, 4)

    def rewrite(headers):
        if link := headers.pop("link", None):
            headers["link"] = "</x>; rel=prev"
            headers["Link"] = link

    source._endpoints._max_page = 2
    here.on("GET", TAGS, rewrite=rewrite)
    assert (await net.sync(RULE, retries=0)).counts == (5, 0, 0)


BAD_LINKS = {
    "no target": '<>; rel="next"',
    "no brackets": '/v2/app/tags/list?last=1; rel="next"',
    "no end": '</v2/app/tags/list?last=1; rel="next"',
    "a quote without an end": '</v2/app/tags/list?last=1>; rel="next',
    "text behind": '</v2/app/tags/list?last=1> rel="next"',
    "no comma between links": "</v2/app/tags/list?last=1>; rel=prev </v2/app/tags/list?last=2>; rel=next",
    "no relation and another path": "</somewhere>",
    "two next pages": '</a?1>; rel="next", </b?2>; rel="next"',
    "no path": '<mailto:somebody>; rel="next"',
    "a bad host": '<http://[::1/x>; rel="next"',
    "blanks in the path": '</v2/app/ tags/list>; rel="next"',
    "too long": f'</v2/app/tags/list?{"x" * 9000}>; rel="next"',
}


@pytest.mark.parametrize("link", BAD_LINKS.values(), ids=BAD_LINKS.keys())
async def test_invalid_link_fails(here, source, net, link):
    tag_many(source, 4)
    here.on("GET", TAGS, rewrite=lambda headers: headers.update(link=link))
    outcome = await net.sync(RULE, retries=0)
    assert outcome.counts == (0, 0, 1)
    assert outcome.failed[0].failure.kind == "invalid"


@pytest.mark.parametrize("link", ["", "</v2/app/tags/list>; rel=prev", '</a>; rel="last first"'])
async def test_link_without_next_relation_ends_the_list(here, net, link):
    here.on("GET", TAGS, rewrite=lambda headers: headers.update(link=link))
    assert (await net.sync(RULE, retries=0)).counts == (1, 0, 0)


async def test_link_to_another_host_is_requested_from_the_registry(here, source, net):
    tag_many(source, 4)
    source._endpoints._max_page = 2
    async with Faults(source.host) as other:

        def rewrite(headers):
            if "link" in headers:
                headers["link"] = f"<http://{other.host}{headers['link'][1:]}"

        here.on("GET", TAGS, rewrite=rewrite)
        assert (await net.sync(RULE, retries=0)).counts == (5, 0, 0)
        assert not other.requests


# --- endless lists -------------------------------------------------------------------------------------------------


def endless(listed):
    """Return a handler that serves pages with a link to another page."""
    numbers = iter(range(10**9))

    def page(_asked):
        number = next(numbers)
        link = f'</v2/app/tags/list?cursor={number}>; rel="next"'
        return Reply(200, {"link": link}, json.dumps({"tags": listed(number)}).encode())

    return page


@pytest.mark.parametrize("listed", [[], None], ids=["empty", "null"])
async def test_endless_empty_pages_fail(here, net, listed, monkeypatch):
    monkeypatch.setattr(tag_list, "MAX_EMPTY_PAGES", 5)
    here.on("GET", TAGS, reply=endless(lambda _number: listed))
    outcome = await net.sync(RULE, retries=0)
    assert "does not end" in outcome.failed[0].failure.message
    assert here.count("GET", TAGS) < 10


async def test_a_few_empty_pages_are_skipped(here, net):
    pages = iter(
        [{"link": '</v2/app/tags/list?p=1>; rel="next"'}, {"link": '</v2/app/tags/list?p=2>; rel="next"'}]
    )

    def page(_asked):
        headers = next(pages, None)
        return headers and Reply(200, headers, b'{"tags": []}')

    here.on("GET", TAGS, reply=page)
    assert (await net.sync(RULE, retries=0)).counts == (1, 0, 0)


async def test_endless_pages_without_valid_tags_fail(here, net, monkeypatch):
    monkeypatch.setattr(tag_list, "MAX_PAGES", 5)
    here.on("GET", TAGS, reply=endless(lambda _number: [None]))
    outcome = await net.sync(RULE, retries=0)
    assert "does not end" in outcome.failed[0].failure.message


async def test_repeated_page_fails(here, net):
    here.on("GET", TAGS, reply=endless(lambda number: ["1"] if number % 2 else ["0"]))
    outcome = await net.sync(RULE, retries=0)
    assert "contains a page twice" in outcome.failed[0].failure.message
    assert here.count("GET", TAGS) == 3


# --- many tags -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [3, 1000], ids=["in pages", "in one answer"])
async def test_too_many_tags_fail(here, source, net, monkeypatch, size):
    monkeypatch.setattr(tag_list, "MAX_TAGS", 10)
    tag_many(source, 20)
    source._endpoints._max_page = size
    outcome = await net.sync(RULE, retries=0)
    assert "more than 10 tags" in outcome.failed[0].failure.message


async def test_420_000_tags_in_one_response_fit_into_256_mb(here, there, tmp_path):
    tags = [f"release-{number:06}-{'x' * 60}" for number in range(420_000)]
    here.on("GET", TAGS, status=200, body=json.dumps({"name": "app", "tags": [*tags, "1"]}).encode())
    (tmp_path / "images.json").write_text(json.dumps({f"{here.host}/app:/^1$/": f"{there.host}/app"}))
    (tmp_path / "auth.json").write_text(
        json.dumps({host: {"plain_http": True} for host in (here.host, there.host)})
    )
    done = await anyio.run_process(
        [sys.executable, "-c", MEASURED, "--auth", "auth.json", "--images", "images.json"],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stderr.decode().rpartition("VmHWM ")[2]) < 256 * 1024
