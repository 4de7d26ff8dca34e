import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from syncer.config import load, rules_from
from syncer.diagnostics import ConfigError
from syncer.rules.patterns import EVERY_REPOSITORY
from syncer.rules.prune import PruneRule
from syncer.rules.referrers import EVERY_REFERRER, ReferrerFilter
from syncer.rules.tags import TheseTags
from tests.support.signing import public_pem

SOURCE = "quay.io/a/b"


def rule_with(**keys):
    (rule,) = rules_from({SOURCE: {"to": "reg.example.com/a/b", **keys}})
    return rule


def test_keys_are_read_into_the_rule():
    rule = rule_with(
        name="web", overwrite=False, immutable="v*", referrers=True, prune={"keep": ["v1*"], "limit": "25%"}
    )
    assert rule.name == str(rule) == "web"
    assert rule.overwrite is False
    assert rule.immutable == ("v*",)
    assert rule.referrers == EVERY_REFERRER
    assert rule.prune == PruneRule(keep=("v1*",), limit=0.25)


def test_rule_without_keys_has_the_defaults():
    rule = rule_with()
    assert (rule.overwrite, rule.immutable, rule.referrers, rule.verify, rule.prune) == (
        True,
        (),
        None,
        (),
        None,
    )
    assert rule.name == SOURCE


def test_empty_list_excludes_nothing():
    none: dict[str, list[str]] = {"exclude": []}
    keys = {"to": "d.io/a", "immutable": [], "referrers": none, "prune": {"keep": []}, "tags": none}
    (rule,) = rules_from([{"from": "q.io/a", **keys}])
    (pattern,) = rules_from([{"from": "q.io/**", "to": "d.io/{1}", "repositories": none}])
    assert rule.immutable == ()
    assert rule.referrers == EVERY_REFERRER
    assert rule.prune == PruneRule()
    assert pattern.repositories == EVERY_REPOSITORY


def test_empty_list_replaces_that_of_defaults():
    (rule,) = rules_from(
        {"defaults": {"immutable": ["v*"]}, "rules": [{"from": "q.io/a", "to": "d.io/a", "immutable": []}]}
    )
    assert rule.immutable == ()


def test_null_sets_no_key():
    names = (
        "platforms schedule attestations name overwrite immutable referrers verify repositories prune tags"
    )
    (rule,) = rules_from({"q.io/a:1": {"to": "d.io/a", **dict.fromkeys(names.split())}})
    assert rule.selection == TheseTags(("1",))
    assert rule.overwrite


def test_referrers_takes_globs_of_artifact_types():
    rule = rule_with(referrers={"include": ["application/*"], "exclude": "*sbom*"})
    assert rule.referrers == ReferrerFilter(("application/*",), ("*sbom*",))
    assert rule.referrers.matches("application/x")
    assert not rule.referrers.matches("application/sbom")
    assert not rule.referrers.matches("text/plain")


def test_referrers_false_is_off():
    assert rule_with(referrers=False).referrers is None


def test_key_files_are_read_relative_to_the_images_file(tmp_path):
    pem = public_pem(ed25519.Ed25519PrivateKey.generate())
    (tmp_path / "cosign.pub").write_bytes(pem)
    images = tmp_path / "images.yaml"
    images.write_text(f"{SOURCE}: {{to: reg.example.com/a/b, verify: {{keys: [cosign.pub]}}}}\n")
    (rule,) = load(images=images).rules
    assert [(key.name, key.pem) for key in rule.verify] == [("cosign.pub", pem)]


def test_a_missing_extra_is_a_problem_of_the_file(tmp_path, monkeypatch):
    (tmp_path / "cosign.pub").write_bytes(public_pem(ed25519.Ed25519PrivateKey.generate()))
    for name in ("cryptography.exceptions", "cryptography.hazmat.primitives.serialization"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"install image-syncer\[verify\]"):
        rule_with(verify={"keys": [str(tmp_path / "cosign.pub")]})


def test_a_file_that_is_no_key_is_a_problem_of_the_file(tmp_path):
    (tmp_path / "cosign.key").write_bytes(b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----")
    with pytest.raises(ConfigError, match="expected a public key in PEM format"):
        rule_with(verify={"keys": [str(tmp_path / "cosign.key")]})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"overwrite": "no"}, "expected true or false"),
        ({"immutable": "{a,b}"}, "no braces"),
        ({"immutable": {}}, "a list of globs"),
        ({"name": " "}, "expected a name"),
        ({"name": "a\nb"}, "printable"),
        ({"referrers": {"types": ["x"]}}, "unknown key 'types'"),
        ({"verify": {}}, "found no keys"),
        ({"verify": {"keys": ["/proc/self/environ"]}}, "cannot read the key"),
        ({"verify": {"keys": ["none.pub"]}}, "no such file"),
        ({"prune": True}, "expected a mapping"),
        ({"prune": {"limit": 10}}, "a percentage"),
        ({"prune": {"limit": "101%"}}, "a percentage"),
        ({"prune": {"limit": "1.2.3%"}}, "a percentage"),
        ({"prune": {"kept": []}}, "unknown key 'kept'"),
    ],
)
def test_invalid_value_is_an_error_that_names_the_key(keys, message):
    with pytest.raises(ConfigError, match=message) as caught:
        rule_with(**keys)
    assert next(iter(keys)) in str(caught.value)


@pytest.mark.parametrize(("tags", "most"), [(0, 1), (5, 1), (10, 1), (19, 1), (20, 2), (100, 10)])
def test_limit_is_rounded_down_and_at_least_one(tags, most):
    assert PruneRule().most_of(tags) == most
