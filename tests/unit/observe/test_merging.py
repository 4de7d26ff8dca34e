"""Reports of shares as one: what is in it, and what stands in the way."""

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

import syncer.observe
from syncer.cli.main import cli

SCHEMA = json.loads((Path(syncer.observe.__file__).parent / "schemas/report.schema.json").read_text())
DIGEST = f"sha256:{'a' * 64}"


def image(name, **fields):
    usual = {"digest": DIGEST, "previous_digest": None, "outcome": "synced", "bytes": 5, "seconds": 0.1}
    return {"source": f"s.io/{name}", "destination": f"d.io/{name}", **usual, **fields}


def skipped(name):
    return image(name, outcome="skipped", reason="up to date", skip_reason="up_to_date")


def drifted(name):
    reason = "the rule does not overwrite existing tags"
    return image(name, outcome="skipped", reason=reason, skip_reason="kept", drift=True)


def failed(name):
    error = {"kind": "not_found", "message": "404", "registry": "s.io", "status": 404, "permanent": True}
    return image(name, outcome="failed", digest=None, error=error)


def report(shard, *images, outcome="success", **run):
    counts = {
        kind: sum(each["outcome"] == kind for each in images) for kind in ("synced", "skipped", "failed")
    }
    if drift := sum("drift" in each for each in images):
        counts["drifted"] = drift
    return {
        "run": {
            "id": f"run-{shard}",
            "trigger": "cli",
            "started": "2026-11-21T03:00:05Z",
            "finished": "2026-11-21T03:10:00Z",
            "outcome": outcome,
            **({"shard": shard} if shard else {}),
            **run,
        },
        "images": list(images),
        "totals": {
            "images": counts,
            "blobs": {"copied": 3, "mounted": 2, "present": 1, "shared": 0},
            "bytes": {"pulled": 100, "pushed": 90},
            "requests": 7,
            "retries": 1,
        },
    }


@pytest.fixture
def merge(tmp_path, monkeypatch):
    """`merge(*reports)` writes them to `0.json`, `1.json`, … and merges these. Text is written as it is."""
    monkeypatch.chdir(tmp_path)

    def run(*reports, options=()):
        for number, content in enumerate(reports):
            text = content if isinstance(content, str) else json.dumps(content)
            (tmp_path / f"{number}.json").write_text(text)
        names = [f"{number}.json" for number in range(len(reports))]
        return CliRunner().invoke(cli, ["report", "merge", *names, *options], catch_exceptions=False)

    return run


@pytest.fixture
def merged(merge):
    """The document, found to be what the schema says."""

    def run(*reports, options=()):
        done = merge(*reports, options=options)
        assert done.exit_code == 0, done.stderr
        document = json.loads(done.stdout)
        jsonschema.validate(document, SCHEMA)
        return document

    return run


@pytest.fixture
def problems(merge):
    """What is said of reports that cannot be one."""

    def run(*reports, options=()):
        done = merge(*reports, options=options)
        assert done.exit_code == 2
        assert done.stdout == ""
        *lines, last = done.stderr.splitlines()
        count = len(lines)
        assert last == f"{count} problem{'' if count == 1 else 's'}; nothing was merged"
        return [line.removeprefix("error: ") for line in lines]

    return run


# --- what is in it ------------------------------------------------------------------------------------------------


def test_merged_report_has_all_images_in_the_order_of_the_shards(merged):
    first, second = report("0/2", image("a:1"), skipped("a:2")), report("1/2", image("b:1"))
    document = merged(second, first)
    assert document["images"] == [*first["images"], *second["images"]]


def test_totals_are_added_up(merged):
    totals = merged(report("0/2", image("a:1"), skipped("a:2")), report("1/2", image("b:1")))["totals"]
    assert totals == {
        "images": {"synced": 2, "skipped": 1, "failed": 0},
        "blobs": {"copied": 6, "mounted": 4, "present": 2, "shared": 0},
        "bytes": {"pulled": 200, "pushed": 180},
        "requests": 14,
        "retries": 2,
    }


def test_drift_is_added_up_although_not_all_reports_have_some(merged):
    document = merged(report("0/2", image("a:1")), report("1/2", drifted("b:1"), drifted("b:2")))
    assert document["totals"]["images"] == {"synced": 1, "skipped": 2, "failed": 0, "drifted": 2}
    assert document["images"][1]["drift"] is True


def test_merged_report_covers_the_whole_time_without_a_shard(merged):
    times = {"started": "2026-11-21T03:00:00Z"}, {"finished": "2026-11-22T00:00:00Z"}
    run = merged(report("0/2", **times[0]), report("1/2", **times[1], trigger="cli"))["run"]
    assert (run["started"], run["finished"]) == ("2026-11-21T03:00:00Z", "2026-11-22T00:00:00Z")
    assert set(run) == {"id", "trigger", "started", "finished", "outcome"}
    assert run["trigger"] == "cli"


def test_the_id_is_the_same_whatever_the_order_of_the_files_and_another_for_other_runs(merged):
    parts = report("0/2"), report("1/2")
    name = merged(*parts)["run"]["id"]
    assert name == merged(*reversed(parts))["run"]["id"]
    assert len(name) == 12
    assert name != merged(parts[0], report("1/2", id="another"))["run"]["id"]


GOOD, BAD = image("a:1"), failed("b:1")


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([("success", GOOD), ("success", skipped("b:1"))], "success"),
        ([("success",), ("success",)], "success"),
        ([("success", GOOD), ("failure", BAD)], "partial"),
        ([("success", GOOD), ("partial", image("b:0"), BAD)], "partial"),
        ([("failure", failed("a:1")), ("failure", BAD)], "failure"),
        ([("success",), ("failure", BAD)], "failure"),
        ([("success", skipped("a:1")), ("failure", BAD)], "partial"),
        ([("success", GOOD), ("interrupted", BAD)], "interrupted"),
        ([("failure", failed("a:1")), ("interrupted", BAD)], "interrupted"),
    ],
)
def test_the_outcome_is_that_of_all_together(merged, parts, expected):
    reports = [
        report(f"{index}/2", *images, outcome=outcome) for index, (outcome, *images) in enumerate(parts)
    ]
    assert merged(*reports)["run"]["outcome"] == expected


def test_plans_are_merged_as_plans(merged):
    plan = {"action": "copy", "blobs": dict.fromkeys(("copied", "mounted", "present", "shared"), 0)}
    planned = image("a:1", plan=plan | {"bytes": 0, "reason": "not there"})
    document = merged(report("0/2", planned, dry_run=True), report("1/2", dry_run=True))
    assert document["run"]["dry_run"] is True
    assert document["images"] == [planned]


def test_an_image_is_a_line_also_where_the_reports_were_indented(merge):
    parts = [json.dumps(report(f"{index}/2", image(f"a-{index}:1")), indent=4) for index in range(2)]
    lines = merge(*parts).stdout.splitlines()
    assert len(lines) == 5
    assert [json.loads(line.rstrip(",]"))["destination"] for line in lines[2:4]] == [
        "d.io/a-0:1",
        "d.io/a-1:1",
    ]


def test_the_report_of_one_process_is_a_whole_already(merged):
    assert merged(report("", GOOD))["images"] == [GOOD]


def test_the_file_takes_its_place_when_it_is_whole(merge, tmp_path):
    done = merge(report("0/2", GOOD), report("1/2", BAD, outcome="failure"), options=["--output", "0.json"])
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    assert len(json.loads((tmp_path / "0.json").read_text())["images"]) == 2


# --- what stands in the way ---------------------------------------------------------------------------------------

WHOLE = report("", GOOD)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "0.json: not JSON: Input data was truncated"),
        ('{"run":\n\n x}', "0.json:3: not JSON: JSON is malformed: invalid character (byte 10)"),
        ("[]", "0.json: not the report of a finished run: Expected `object`, got `array`"),
        ('{"x":' + "[" * 100_000, "0.json: not JSON: nested too deeply"),
        ({"images": []}, "0.json: not the report of a finished run: Object missing required field `run`"),
        (WHOLE | {"totals": {}}, "0.json: not the report of a finished run: totals: Object missing required field `images`"),
        (report("", finished=None, outcome=None), "0.json: not the report of a finished run: run.finished: Expected `str`, got `null`"),
        (report("", outcome="fine"), "0.json: not the report of a finished run: run.outcome: Invalid enum value 'fine'"),
        (report("4/4"), "0.json: not a report: run.shard: expected I/N with 0 <= I < N, such as 0/4, found '4/4' (the last of 4 is 3)"),
        (report("", GOOD, image("a:2", destination=5)), "0.json: not a report: images[1].destination: Expected `str`, got `int`"),
        (WHOLE | {"images": [5]}, "0.json: not a report: images[0]: Expected `object`, got `int`"),
    ],
)  # fmt: skip
def test_invalid_report_is_an_error_with_its_location(problems, content, said):
    assert problems(content) == [said]


def test_invalid_encoding_is_an_error(problems, tmp_path):
    text = json.dumps(WHOLE).encode()
    (tmp_path / "one").write_bytes(text.replace(b"s.io", b"\xff\xfe"))
    (tmp_path / "two").write_bytes(text.replace(b"run-", b"\xff\xfe"))
    one, two = problems(options=["one", "two"])
    assert one.startswith("one: not a report: images[0]: 'utf-8' codec can't decode")
    assert two.startswith("two: not JSON: 'utf-8' codec can't decode")


def test_all_problems_are_reported_at_once(problems):
    told = problems("[]", report("0/2"), "{}", options=["gone.json"])
    assert [line.partition(" ")[0] for line in told] == ["0.json:", "2.json:", "gone.json"]


def test_a_missing_share_is_an_error(problems):
    assert problems(report("1/4"), report("3/4")) == [
        "the report of shard 0/4 is missing (--partial merges without it)",
        "the report of shard 2/4 is missing (--partial merges without it)",
    ]


def test_with_partial_a_missing_share_is_told_and_marked_and_no_success(merge):
    done = merge(report("0/3", GOOD), options=["--partial"])
    assert done.exit_code == 0
    assert done.stderr == "warning: merged without the reports of 1/3, 2/3\n"
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    assert document["run"]["missing_shards"] == ["1/3", "2/3"]
    assert document["run"]["outcome"] == "partial"


def test_a_merge_without_some_shares_is_not_merged_again(merge, problems):
    incomplete = merge(report("0/3", GOOD), options=["--partial"]).stdout
    (told,) = problems(incomplete)
    assert told.startswith("0.json: is a merged report without some shards")


@pytest.mark.parametrize("options", [[], ["--partial"]])
def test_two_reports_of_one_share_and_a_missing_one_are_both_said(problems, options):
    told = problems(report("0/2"), report("0/2"), options=options)
    assert told[0] == "0.json and 1.json are both of shard 0/2"
    assert len(told) == (1 if options else 2)


def test_shares_of_different_splits_are_no_whole(problems):
    told = problems(report("0/2"), report("1/3"))
    assert told == ["0.json (0/2) and 1.json (1/3) are of different splits: expected shards with the same N"]


def test_a_plan_and_a_run_are_no_whole(problems):
    told = problems(report("0/2", dry_run=True), report("1/2"))
    assert told == ["0.json and 1.json: one is of a dry run, the other is not"]


def test_an_image_in_two_reports_means_that_their_rules_differed(problems):
    (told,) = problems(report("0/2", image("a:1")), report("1/2", image("b:1"), image("a:1")))
    assert told == "d.io/a:1 is in two reports, 0.json and 1.json: did the shards have different rules?"


def test_many_such_images_are_counted(problems):
    images = [image(f"a:{number}") for number in range(30)]
    told = problems(report("0/2", *images), report("1/2", *images))
    assert len(told) == 11
    assert told[-1] == "20 more images are in two reports"


def test_two_rules_of_a_share_may_name_the_same_image(merged):
    assert len(merged(report("0/2", GOOD, GOOD), report("1/2"))["images"]) == 2


def test_a_report_that_cannot_be_written_is_said(merge):
    done = merge(WHOLE, options=["--output", "no/such/folder.json"])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: cannot write the report: ")


def test_no_file_is_bad_usage(merge):
    done = merge()
    assert done.exit_code == 2
    assert "Missing argument 'FILE...'" in done.stderr


def test_errors_of_runs_are_joined(merged):
    kept = report("0/2", image("a:1"), outcome="partial", error="1 tag could not be removed: d.io/x:1: 405")
    other = report("1/2", image("b:1"), outcome="partial", error="2 tags could not be removed: d.io/y:1: 405")
    assert merged(kept, other)["run"]["error"] == f"{kept['run']['error']}; {other['run']['error']}"
    assert "error" not in merged(report("0/2", image("a:1")), report("1/2", image("b:1")))["run"]
