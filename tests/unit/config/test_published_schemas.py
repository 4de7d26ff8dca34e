"""Tests that the published JSON Schemas agree with the program's own validation."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

import syncer.config

ROOT = Path(__file__).parents[3]
SCHEMAS = Path(syncer.config.__file__).parent / "schemas"


def validator(kind):
    schema = json.loads((SCHEMAS / f"{kind}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("kind", ["auth", "images"])
def test_examples_match_and_name_their_schema(kind):
    read_json = json.loads((ROOT / f"examples/{kind}.json").read_text())
    text = (ROOT / f"examples/{kind}.yaml").read_text()
    validator(kind).validate(read_json)
    validator(kind).validate(yaml.safe_load(text))
    named = (ROOT / "examples" / read_json["$schema"]).resolve()
    assert named == SCHEMAS / f"{kind}.schema.json"
    assert f"$schema={read_json['$schema']}" in text.splitlines()[0]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*")), ids=str)
def test_every_example_matches_its_schema(path):
    if path.suffix not in (".json", ".yaml"):
        return
    validator("auth" if path.stem == "auth" else "images").validate(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    "document",
    [
        ["nginx"],
        [{"from": ["nginx", "redis"], "to": ["r.io/{name}"], "overwrite": False}],
        {"rules": []},
        {"$schema": "x", "rules": ["nginx"], "defaults": {"to": "r.io", "platforms": ["linux/amd64"]}},
        {"nginx": {"to": "r.io/n", "immutable": [], "prune": {"keep": []}, "tags": {"exclude": []}}},
        {"rules": "r.io/rules", "nginx": {"to": "", "name": "web"}},
    ],
)
def test_schema_accepts_every_form(document):
    validator("images").validate(document)


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        ("auth", {"quay.io": {"username": 5.5, "insecure": "maybe"}}),
        ("auth", {"quay.io": "password"}),
        ("images", {"nginx": {"to": "r.io/nginx", "attestations": "some"}}),
        ("auth", {"quay.io": {"attestations": True}}),
        ("images", {"nginx": {"to": "r.io/nginx", "colour": "red"}}),
        ("images", {"nginx": 5}),
        ("images", [5]),
        ("images", [{"to": "r.io/nginx"}]),
        ("images", [{"from": [], "to": "r.io/nginx"}]),
        ("images", [{"from": "nginx", "colour": "red"}]),
        ("images", {"rules": [{"from": "nginx", "colour": "red"}]}),
        ("images", {"rules": [], "defaults": {"name": "x"}}),
        ("images", {"rules": [], "defaults": {"from": "x"}}),
        ("images", {"rules": [], "nginx": "r.io/nginx"}),
        ("images", {"nginx": {"from": "x", "to": "r.io/nginx"}}),
    ],
)
def test_schema_rejects_what_the_program_refuses(kind, document):
    with pytest.raises(jsonschema.ValidationError):
        validator(kind).validate(document)
