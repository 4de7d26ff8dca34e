"""A plan names destinations that come from variables as they are written."""

import pytest

from syncer.config.rule_reader import rules_from
from syncer.events import ImageSynced, RunStarted
from syncer.observe.plan_table import render_plan
from syncer.observe.report import ReportObserver
from syncer.oci.digest import Digest
from syncer.oci.reference import Reference

ENVIRONMENT = {"HOST": "private.example", "TAG": "private-tag", "ALL": "private.example/x:private-tag"}


@pytest.mark.parametrize(
    ("destination", "target", "shown"),
    [
        ("$HOST/x", "private.example/x:1", "$HOST/x:1"),
        ("${HOST}/x:new", "private.example/x:new", "${HOST}/x:new"),
        ("d.io/x:$TAG", "d.io/x:private-tag", "d.io/x:$TAG"),
        ("$ALL", "private.example/x:private-tag", "$ALL"),
        ("d.io/x", "d.io/x:1", "d.io/x:1"),
        (["d.io/x", "$HOST/y"], "private.example/y:1", "$HOST/y:1"),
    ],
)
def test_a_plan_shows_the_destination_as_written(destination, target, shown):
    (rule,) = rules_from({"q.io/x:1": destination}, ENVIRONMENT)
    report = ReportObserver()
    report.notify(RunStarted("r", "cli", 1, dry_run=True))
    image = Digest.of(b"one")
    report.notify(
        ImageSynced(rule, Reference.parse("q.io/x:1"), Reference.parse(target), image, None, 1, 0.1)
    )
    text = "\n".join(render_plan(report.plan()))
    assert f"q.io/x:1 -> {shown}" in text
    assert "private" not in text
