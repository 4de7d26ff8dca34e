"""`--attestations`: the rule goes before the option, and the option before the auth file."""

import json

import pytest

from syncer.cli.once import load_config
from syncer.cli.once_options import OnceOptions


@pytest.mark.parametrize(
    ("rule", "option", "auth", "expected"),
    [
        (None, None, None, "auto"),
        (None, None, "drop", "drop"),
        (None, "keep", "drop", "keep"),
        (None, "auto", "drop", "auto"),
        ("drop", "keep", "keep", "drop"),
        ("auto", "keep", "keep", "auto"),
    ],
)
def test_precedence(tmp_path, rule, option, auth, expected):
    to = {"to": "d.io/ns/a", **({"attestations": rule} if rule else {})}
    (tmp_path / "images.json").write_text(json.dumps({"q.io/a:1": to}))
    entry = {"attestations": auth} if auth else {}
    (tmp_path / "auth.json").write_text(json.dumps({"q.io": {"attestations": "keep"}, "d.io/ns": entry}))
    config = load_config(
        OnceOptions(auth=tmp_path / "auth.json", images=[tmp_path / "images.json"], attestations=option)
    )
    assert config.rules[0].destinations[0].attestations == expected


def test_the_longest_key_of_each_destination_counts(tmp_path):
    (tmp_path / "images.json").write_text('{"q.io/a:1": ["d.io/a", "d.io/ns/a", "e.io/a"]}')
    (tmp_path / "auth.json").write_text(
        '{"d.io": {"attestations": "drop"}, "d.io/ns": {"attestations": "keep"}, "e.io": {}}'
    )
    config = load_config(OnceOptions(auth=tmp_path / "auth.json", images=[tmp_path / "images.json"]))
    assert [each.attestations for each in config.rules[0].destinations] == ["drop", "keep", "auto"]
