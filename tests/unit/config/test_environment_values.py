"""Tests that problems do not show values of environment variables, which may be secrets."""

import pytest

from syncer.config.json_reader import read_json
from syncer.config.rule_reader import parse_rules
from syncer.diagnostics import Findings


@pytest.mark.parametrize(
    "value", ["Not A Name/hush", "x:hush!", "quay.io/app@sha256:hush", "https://hush/x", "quay.io/app:/hush/"]
)
def test_invalid_destination_from_a_variable_does_not_show_its_value(value):
    findings = Findings()
    node = read_json('{"nginx": "${PLACE}"}', "images.json", "images", findings)
    assert node is not None
    assert parse_rules([node], environment={"PLACE": value}, findings=findings) == ()
    (problem,) = findings.problems
    assert "hush" not in str(problem)
    assert "'${PLACE}' is no destination" in str(problem)
