"""What the access logs say went over the wire."""

from benchmarks.counting import count, kind
from tests.support.registries import Request

BIG, SMALL, IMAGE = "sha256:b", "sha256:5", "sha256:1"
SIZES = {BIG: 100, SMALL: 10, IMAGE: 7, "a/b:1": 7}


def ask(method: str, path: str, status: int = 200, nbytes: int = 0) -> Request:
    return Request(method, f"/v2/{path}", status, "anyone", nbytes)


def test_requests_have_kinds_and_a_mount_is_no_upload():
    asked = [
        ask("HEAD", "a/b/manifests/1"),
        ask("GET", f"a/b/blobs/{BIG}"),
        ask("POST", "a/b/blobs/uploads/"),
        ask("POST", f"a/b/blobs/uploads/?mount={BIG}&from=c"),
        ask("PUT", f"a/b/blobs/uploads/1234?digest={BIG}"),
        ask("GET", "a/b/tags/list?n=1000"),
        ask("GET", ""),
    ]
    assert [kind(each) for each in asked] == [
        "HEAD manifest", "GET blob", "POST upload", "POST mount", "PUT upload", "GET tags", "GET ping",
    ]  # fmt: skip


def test_parts_of_a_blob_add_up_to_one_download():
    parts = [ask("GET", f"a/b/blobs/{BIG}", 206, 40), ask("GET", f"a/b/blobs/{BIG}", 206, 60)]
    assert count(parts, [], SIZES).downloads == (1.0, 1.0)


def test_a_blob_that_is_fetched_twice_shows():
    asked = [ask("GET", f"{name}/blobs/{BIG}", 200, 100) for name in ("a", "c")]
    asked.append(ask("GET", f"a/blobs/{SMALL}", 200, 10))
    traffic = count(asked, [], SIZES)
    assert traffic.downloads == (1.0, 2.0)
    assert traffic.pulled == 210


def test_bytes_of_manifests_are_pulled_too_but_not_those_of_refusals():
    asked = [ask("GET", "a/b/manifests/1", 200, 7), ask("GET", f"a/b/blobs/{BIG}", 404, 90)]
    traffic = count(asked, [], SIZES)
    assert (traffic.pulled, traffic.downloads) == (7, None)


def test_what_was_pushed_is_what_was_taken():
    told = [
        ask("PUT", "a/b/blobs/uploads/1?digest=sha256%3Ab", 201),
        ask("POST", f"a/b/blobs/uploads/?digest={SMALL}", 201),
        ask("PUT", f"a/b/blobs/uploads/2?digest={BIG}", 500),
        ask("PUT", "a/b/manifests/1", 201),
        ask("PUT", f"a/b/manifests/{IMAGE}", 201),
    ]
    assert count([], told, SIZES).pushed == 100 + 10 + 7 + 7


def test_only_mounts_that_were_granted_count():
    told = [ask("POST", f"a/blobs/uploads/?mount={BIG}&from=c", status) for status in (201, 202)]
    traffic = count([], told, SIZES)
    assert traffic.mounts == 1
    assert traffic.destination == {"POST mount": 2}
