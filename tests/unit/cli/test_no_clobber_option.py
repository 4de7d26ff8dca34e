"""`--no-clobber` goes before every rule's `overwrite`."""

import json

import pytest

from syncer.cli.once import load_config
from syncer.cli.once_options import OnceOptions


@pytest.mark.parametrize(
    ("option", "expected"), [(False, [True, True, False]), (True, [False, False, False])]
)
def test_no_clobber_wins_over_overwrite(tmp_path, option, expected):
    rules = {
        "q.io/a": "d.io/a",
        "q.io/b": {"to": "d.io/b", "overwrite": True},
        "q.io/c": {"to": "d.io/c", "overwrite": False},
    }
    path = tmp_path / "images.json"
    path.write_text(json.dumps(rules))
    config = load_config(OnceOptions(images=path, no_clobber=option))
    assert [rule.overwrite for rule in config.rules] == expected
