"""The examples and the schemas say what the program does."""

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from syncer.accounts.settings import HostSettings
from syncer.config import load
from syncer.config.auth_fields import SETTINGS
from syncer.config.rule_reader import OBJECT_KEYS
from syncer.rules.tags import MatchingTags

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"


def schema(name: str) -> Any:
    return json.loads((files("syncer.config") / "schemas" / f"{name}.schema.json").read_text())


def test_the_examples_are_read_and_both_forms_say_the_same():
    one, other = (
        load(EXAMPLES / f"auth.{ending}", EXAMPLES / f"images.{ending}", environment={})
        for ending in ("json", "yaml")
    )
    assert one.rules == other.rules
    assert one.warnings == other.warnings == ()
    assert one.auth.hosts() == other.auth.hosts() == ("127.0.0.1:5001", "127.0.0.1:5002")
    assert all(one.auth.settings_for(rule.source).plain_http for rule in one.rules)
    assert any(
        isinstance(rule.selection, MatchingTags) and rule.selection.matches("v1.0") for rule in one.rules
    )


def test_the_schemas_know_the_same_keys_as_the_program():
    entry = schema("auth")["$defs"]["entry"]["properties"]
    assert set(entry) == {"username", "password", "password_file", "token", "token_file", *SETTINGS}
    assert set(SETTINGS) == set(HostSettings.__struct_fields__)
    rule = schema("images")["$defs"]["rule"]
    assert tuple(rule["properties"]) == OBJECT_KEYS
    assert rule["additionalProperties"] is False


@pytest.mark.parametrize("name", ["auth", "images"])
def test_the_schemas_are_of_the_draft_they_name_and_refer_to_what_they_define(name):
    whole = schema(name)
    assert whole["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    text = json.dumps(whole)
    for part in whole["$defs"]:
        assert f'"#/$defs/{part}"' in text
    assert text.count('"$ref"') == text.count('"#/$defs/')


def test_the_files_in_the_documentation_are_read(folder):
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    images, auth = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    folder.write("ca.pem", "x")
    environment = {"REGISTRY": "r.io", "QUAY_ACME_USER": "u", "QUAY_ACME_PASSWORD": "p", "DOCKER_TOKEN": "t"}
    auth = auth.replace("/run/secrets/quay", "ca.pem")
    config = folder.load(images=images, auth=auth, ending="yaml", environment=environment)
    assert len(config.rules) == 8
    assert config.warnings == ()
