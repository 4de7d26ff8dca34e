"""The report of a run: events in, a document out, judged by the published schema."""

import json
import tracemalloc
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

import syncer.observe
from syncer.errors import Kind
from syncer.events import (
    BlobCompleted,
    BlobCounts,
    BytesMoved,
    Failure,
    ImageFailed,
    ImageSkipped,
    ImageSynced,
    IndexFiltered,
    PruneFailed,
    RequestRetried,
    RequestSent,
    RunFinished,
    RunStarted,
    SkipReason,
)
from syncer.observe.report import ReportObserver, write_report
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference, Repository
from tests.support.rules import numbered

SCHEMA = json.loads((Path(syncer.observe.__file__).parent / "schemas" / "report.schema.json").read_text())
OLD, NEW = Digest.of(b"old"), Digest.of(b"new")
NOT_FOUND = Failure("not_found", "GET manifest 1: 404 not found", "q.io", 404, permanent=True)
START = datetime(2026, 11, 21, 4, 0, tzinfo=timezone(timedelta(hours=1)))


def ref(text: str) -> Reference:
    return Reference.parse(text)


def synced(source: str = "q.io/a:1", destination: str = "d.io/a:1", **fields) -> ImageSynced:
    defaults: dict[str, Any] = {
        "rule": numbered(0),
        "digest": NEW,
        "previous": None,
        "nbytes": 12,
        "seconds": 1.23456,
    }
    return ImageSynced(source=ref(source), destination=ref(destination), **(defaults | fields))


def report_of(*events: object, dry_run: bool = False, shard="", outcome="success") -> ReportObserver:
    times = iter([START, START + timedelta(minutes=2)])
    observer = ReportObserver(now=lambda: next(times))
    for event in (
        RunStarted("4f1c", "cli", 1, dry_run, shard),
        *events,
        RunFinished("4f1c", "cli", outcome, 120.0),
    ):
        observer.notify(event)
    return observer


def document_of(*events: object, dry_run: bool = False, outcome="success") -> Any:
    """The document as a reader of the file gets it, found to be what the schema says."""
    read = json.loads(msgspec.json.encode(report_of(*events, dry_run=dry_run, outcome=outcome).document()))
    jsonschema.validate(read, SCHEMA, format_checker=jsonschema.FormatChecker())
    return read


def image_of(*events: object, dry_run: bool = False) -> Any:
    (image,) = document_of(*events, dry_run=dry_run)["images"]
    return image


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$defs"]["error"]["properties"]["kind"]["enum"] == [str(kind) for kind in Kind]


def test_a_report_has_exactly_the_form_of_the_contract():
    document = document_of(
        ImageFailed(numbered(0), ref("q.io/a:1"), ref("d.io/a:1"), NOT_FOUND, NEW, 1.2),
        RequestSent("q.io", "GET", "manifest", "/v2/a/manifests/1", 404, 0.1),
        RequestRetried("q.io", "timeout", 1.0),
        outcome="failure",
    )
    assert document == {
        "run": {
            "id": "4f1c",
            "trigger": "cli",
            "started": "2026-11-21T03:00:00Z",
            "finished": "2026-11-21T03:02:00Z",
            "outcome": "failure",
        },
        "images": [
            {
                "source": "q.io/a:1",
                "destination": "d.io/a:1",
                "digest": NEW,
                "previous_digest": None,
                "outcome": "failed",
                "bytes": 0,
                "seconds": 1.2,
                "error": {
                    "kind": "not_found",
                    "message": "GET manifest 1: 404 not found",
                    "registry": "q.io",
                    "status": 404,
                    "permanent": True,
                },
            }
        ],
        "totals": {
            "images": {"synced": 0, "skipped": 0, "failed": 1},
            "blobs": {"copied": 0, "mounted": 0, "present": 0, "shared": 0},
            "bytes": {"pulled": 0, "pushed": 0},
            "requests": 1,
            "retries": 1,
        },
    }


def test_a_synced_image_tells_what_it_replaced():
    image = image_of(synced("nginx:1.27", previous=OLD))
    assert image == {
        "source": "docker.io/library/nginx:1.27",
        "destination": "d.io/a:1",
        "digest": NEW,
        "previous_digest": OLD,
        "outcome": "synced",
        "bytes": 12,
        "seconds": 1.235,
    }


def test_a_skipped_image_tells_why():
    image = image_of(ImageSkipped(numbered(0), ref("q.io/a:1"), ref("d.io/a:1"), NEW, SkipReason.UP_TO_DATE))
    assert (image["outcome"], image["reason"], image["bytes"]) == ("skipped", "up to date", 0)


def test_drift_is_marked_and_counted():
    kept = ImageSkipped(numbered(0), ref("q.io/a:1"), ref("d.io/a:1"), OLD, SkipReason.KEPT, wanted=NEW)
    immutable = ImageSkipped(numbered(0), ref("q.io/a:2"), ref("d.io/a:2"), None, SkipReason.IMMUTABLE)
    document = document_of(kept, immutable)
    first, second = document["images"]
    assert (first["skip_reason"], first["drift"], first["digest"]) == ("kept", True, str(OLD))
    assert str(NEW) in first["reason"]
    assert (second["skip_reason"], second["reason"]) == ("immutable", "the tag is immutable and exists")
    assert "drift" not in second
    assert document["totals"]["images"] == {"synced": 0, "skipped": 2, "failed": 0, "drifted": 1}


def test_an_image_that_only_a_mirror_vouches_for_is_marked():
    assert image_of(synced(unverified=True))["unverified"] is True


def test_a_digest_without_tag_is_written_behind_an_at():
    assert image_of(synced(f"q.io/a@{NEW}", f"d.io/a@{NEW}"))["destination"] == f"d.io/a@{NEW}"


def test_a_rule_whose_tags_could_not_be_listed_is_one_failure():
    image = image_of(
        ImageFailed(
            numbered(0), Reference(Repository("q.io", "a")), Reference(Repository("d.io", "a")), NOT_FOUND
        )
    )
    assert (image["source"], image["destination"], image["digest"]) == ("q.io/a", "d.io/a", None)


def test_a_narrowed_index_tells_what_was_kept():
    event = IndexFiltered(
        numbered(0), ref(f"q.io/a:1@{OLD}"), OLD, NEW, ("linux/arm64",), ("linux/amd64", "linux/s390x")
    )
    other = synced("q.io/a:2", "d.io/a:2")
    first, second = document_of(event, synced(), other)["images"]
    assert first["narrowed"] == {
        "kept": ["linux/arm64"],
        "dropped": ["linux/amd64", "linux/s390x"],
        "source_digest": OLD,
    }
    assert "narrowed" not in second


def test_totals_are_sums_over_everything_that_happened():
    place = Repository("d.io", "a")
    totals = document_of(
        synced(),
        synced("q.io/a:2", "d.io/a:2"),
        *(BlobCompleted(outcome, NEW, 5, place) for outcome in ("copied", "mounted", "present", "shared")),
        BlobCompleted("copied", OLD, 7, place),
        BytesMoved("pulled", "q.io", 10),
        BytesMoved("pushed", "d.io", 8),
        BytesMoved("pushed", "d.io", 3),
    )["totals"]
    assert totals["images"] == {"synced": 2, "skipped": 0, "failed": 0}
    assert totals["blobs"] == {"copied": 2, "mounted": 1, "present": 1, "shared": 1}
    assert totals["bytes"] == {"pulled": 10, "pushed": 11}


def test_images_are_in_the_order_of_rules_and_tags_however_they_ended():
    events = [
        synced("q.io/b:1", "d.io/b:1", rule=numbered(1)),
        synced("q.io/a:1.10", "d.io/a:1.10"),
        synced("q.io/a:1.9", "e.io/a:1.9"),
        synced("q.io/a:latest", "d.io/a:latest"),
        synced("q.io/a:1.9", "d.io/a:1.9"),
    ]
    assert [image["destination"] for image in document_of(*events)["images"]] == [
        "d.io/a:1.9",
        "e.io/a:1.9",
        "d.io/a:1.10",
        "d.io/a:latest",
        "d.io/b:1",
    ]


def test_a_run_that_goes_on_can_be_asked_for():
    observer = ReportObserver(now=lambda: START)
    observer.notify(RunStarted("4f1c", "api", 1))
    observer.notify(synced())
    document = json.loads(msgspec.json.encode(observer.document()))
    jsonschema.validate(document, SCHEMA)
    assert (document["run"]["finished"], document["run"]["outcome"]) == (None, None)
    assert document["totals"]["images"]["synced"] == 1


def test_the_part_of_one_of_several_processes_says_which_it_is():
    observer = report_of(shard="1/4")
    jsonschema.validate(observer.document(), SCHEMA)
    assert observer.run()["shard"] == "1/4"
    assert "shard" not in report_of().run()


def test_a_dry_run_says_so_and_has_a_plan_for_each_image():
    counts = BlobCounts(copied=2, mounted=1, present=1, shared=3)
    document = document_of(
        synced("q.io/a:1", "d.io/a:1", blobs=counts),
        synced("q.io/a:2", "d.io/a:2", previous=OLD),
        synced("q.io/a:3", "d.io/a:3", previous=NEW),
        ImageSkipped(numbered(0), ref("q.io/a:4"), ref("d.io/a:4"), NEW, SkipReason.UP_TO_DATE),
        ImageFailed(numbered(0), ref("q.io/a:5"), ref("d.io/a:5"), NOT_FOUND),
        dry_run=True,
    )
    assert document["run"]["dry_run"] is True
    plans = [image["plan"] for image in document["images"]]
    none = {"copied": 0, "mounted": 0, "present": 0, "shared": 0}
    assert plans[0] == {
        "action": "copy",
        "blobs": {"copied": 2, "mounted": 1, "present": 1, "shared": 3},
        "bytes": 12,
        "reason": "not at the destination yet",
    }
    assert (plans[1]["action"], plans[1]["reason"]) == ("replace", "the destination has another digest")
    assert (plans[2]["action"], plans[2]["reason"]) == ("replace", "forced")
    assert plans[3] == {"action": "none", "blobs": none, "bytes": 0, "reason": "up to date"}
    assert plans[4] == {"action": "none", "blobs": none, "bytes": 0, "reason": NOT_FOUND.message}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_file_holds_the_document(tmp_path, count):
    observer = report_of(*(synced(f"q.io/a:{number}", f"d.io/a:{number}") for number in range(count)))
    write_report(tmp_path / "report.json", observer)
    text = (tmp_path / "report.json").read_text()
    assert json.loads(text) == observer.document()
    assert text.endswith("}\n")


@pytest.mark.parametrize(
    "spoil",
    [
        {"outcome": "done"},
        {"error": {}},
        {"extra": 1},
        {"reason": "up to date"},
        {"digest": "sha256:1"},
    ],
)
def test_schema_refuses_an_invalid_report(spoil):
    document = document_of(synced())
    document["images"][0].update(spoil)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)


def test_an_image_that_is_done_is_remembered_in_a_few_hundred_bytes():
    source, destination, count = Repository("q.io", "team/app"), Repository("d.io", "mirror/app"), 2000

    def event(number: int) -> ImageSynced:
        tag = f"v1.2.{number}"
        digests = Digest.of(tag.encode()), Digest.of(b"old" + tag.encode())
        return ImageSynced(
            numbered(0),
            Reference(source, tag),
            Reference(destination, tag),
            *digests,
            10**7 + number,
            number / 7,
            BlobCounts(3, 1, 0, 2),
        )

    observer = ReportObserver(now=lambda: START)
    observer.notify(event(0))
    tracemalloc.start()
    for number in range(count):
        observer.notify(event(number))
    used = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    assert used < 800


def test_tags_that_could_not_be_removed_are_the_error_of_the_run():
    failure = Failure("unsupported", "DELETE: 405 method not allowed", "d.io", 405)
    failures = [PruneFailed(numbered(0), ref(f"d.io/a:{tag}"), NEW, failure) for tag in ("2", "1")]
    report = report_of(synced(), *failures, outcome="partial")
    jsonschema.validate(report.document(), SCHEMA)
    assert report.run()["error"] == "2 tags could not be removed: d.io/a:1: DELETE: 405 method not allowed"
    assert "error" not in report_of(synced()).run()
