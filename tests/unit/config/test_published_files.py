"""Files as people publish them, the examples and the schemas: each is accepted, or refused in one clear line."""

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
    parts = schema("images")["$defs"]
    assert tuple(parts["keys"]["properties"]) == OBJECT_KEYS
    assert parts["rule"]["unevaluatedProperties"] is False
    assert parts["structured"]["properties"]["defaults"]["unevaluatedProperties"] is False


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
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (written_auth,) = (block for block in blocks if "username" in block)
    folder.write("ca.pem", "x")
    environment = {"REGISTRY": "r.io", "QUAY_ACME_USER": "u", "QUAY_ACME_PASSWORD": "p", "DOCKER_TOKEN": "t"}
    auth = written_auth.replace("/run/secrets/quay", "ca.pem")
    numbers = []
    for images in blocks:
        if images != written_auth:
            config = folder.load(images=images, auth=auth, ending="yaml", environment=environment)
            assert config.warnings == ()
            numbers.append(len(config.rules))
    assert {8, 4, 2, 1} <= set(numbers)


IMAGES = {
    "json, one destination each": '{"nginx:1.27": "r.example/mirror/nginx", "quay.io/a/b:v1": "r.example/mirror/b:v1"}',
    "json, lists and empty lists of tags": '{"quay.io/a/b:v1,v2": ["r.example/x/b", "s.example/y/b:p,q"]}',
    "json with a byte order mark and tabs": '\ufeff{\n\t"nginx": "r.example/m/nginx"\n}\n',
    "json, the same rule three times": '{"a:1": "r.example/m/a", "b:1": "r.example/m/b", "a:1": "r.example/m/a", "a:1": "r.example/m/a"}',
}
YAML_IMAGES = {
    "comments and blank lines": "# base images\n\nnginx:1.27: r.example/m/nginx\n# busybox:1: r.example/m/busybox\n",
    "quoted keys": "\"nginx:1.27\": 'r.example/m/nginx'\n",
    "lists": "quay.io/a/b:v1,v2:\n  - r.example/m/b\n  - s.example/m/b\n",
    "a regular expression": "quay.io/a/b:/v1\\.[0-9]+$/: r.example/m/b\n",
    "a digest": f"quay.io/a/b@sha256:{'a' * 64}: r.example/m/b\n",
    "variables": "nginx: ${REGISTRY}/${NAMESPACE}/nginx\nredis: $REGISTRY/m/redis\n",
    "a document start and windows line ends": "---\r\nnginx:1: r.example/m/nginx\r\n",
    "json in a yaml file": '{"nginx:1": "r.example/m/nginx"}',
    "the same rule twice, differently written": "nginx:1: r.example/m/nginx\ndocker.io/library/nginx:1:\n  - r.example/m/nginx\n",
    "names in capital letters at the host": "Quay.IO/a/b:1: R.Example/m/b\n",
    "ports": "localhost:5000/a:1: 10.0.0.1:8443/m/a\n",
    "one source by its tags to one repository under other names": "quay.io/a/b:1: r.example/m/b:x-1\nquay.io/a/b:2: r.example/m/b:x-2\n",
    "anchors": "nginx:1: &to [r.example/m/x]\nnginx:1.27: *to\n",
}
ENVIRONMENT = {"REGISTRY": "r.example", "NAMESPACE": "n"}


@pytest.mark.parametrize("text", IMAGES.values(), ids=IMAGES)
def test_a_published_json_file_is_accepted(folder, text):
    assert folder.load(images=text, environment=ENVIRONMENT).conflicts == ()


@pytest.mark.parametrize("text", YAML_IMAGES.values(), ids=YAML_IMAGES)
def test_a_published_yaml_file_is_accepted(folder, text):
    assert folder.load(images=text, ending="yaml", environment=ENVIRONMENT).conflicts == ()


REFUSED = {
    "a comma behind the last entry": ('{"a:1": "r.example/m/a",}', "the last entry has no comma behind it"),
    "comments in json": ('{\n// base\n"a:1": "r.example/m/a"}', "JSON has no comments"),
    "a text behind the object": ('{"a:1": "r.example/m/a"}\nEOF', "found other text"),
    "one source with two destinations": (
        '{"a:1": "r.example/m/a",\n "a:1": "s.example/m/a"}',
        'write one rule with a list, "a:1": ["r.example/m/a", "s.example/m/a"]',
    ),
    "an address": ('{"https://quay.io/a:1": "r.example/m/a"}', "drop 'https://'"),
    "several tags for a repository": ('{"a": "r.example/m/a:1"}', "expected a destination without tag"),
    "a list of rules as the value": ('{"a:1": [{"r.example/m/a": "1"}]}', "expected a destination as text"),
    "an empty destination": ('{"a:1": ""}', "name a place for all of them with --to"),
    "a combined file": ('{"auth": {}, "images": {}}', "give it with --config"),
    "upper case in a path": ('{"quay.io/A/b:1": "r.example/m/a"}', "not a repository name"),
}


@pytest.mark.parametrize(("text", "expected"), REFUSED.values(), ids=REFUSED)
def test_a_published_file_that_cannot_be_meant_is_refused_in_one_line(folder, text, expected):
    problem = folder.problem(images=text)
    assert expected in problem
    assert "\n" not in problem


AUTH = {
    "one registry": '{"quay.io": {"username": "u", "password": "p"}}',
    "a namespace and insecure": '{"quay.io/acme": {"username": "u", "password": "p", "insecure": true}}',
    "no credentials": '{"r.example:5000": {"insecure": true}}',
    "variables": '{"quay.io": {"username": "$REGISTRY", "password": "${NAMESPACE}"}}',
    "a robot's name with a dollar": '{"r.example": {"username": "robot$a+b", "password": "p$"}}',
    "empty": "{}",
    "disableexpandenv": '{"quay.io": {"username": "u", "password": "p", "disableexpandenv": true}}',
    "attestations": '{"quay.io": {"attestations": "drop"}}',
}


@pytest.mark.parametrize("text", AUTH.values(), ids=AUTH)
def test_a_published_auth_file_is_accepted(folder, text):
    folder.load(auth=text, images="{}", environment=ENVIRONMENT)


def test_an_old_combined_file_with_settings_of_its_own_is_accepted(folder):
    text = '{"auth": {"quay.io": {"username": "u", "password": "p$x"}}, "images": {"quay.io/a:1": "r.example/m/a"}, "proc": 6}'
    assert len(folder.load(combined=text).rules) == 1
