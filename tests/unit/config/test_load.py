"""Tests of loading both files, the combined file, and files of image-syncer's users."""

import os
import sys
import textwrap
from subprocess import run

import pytest

from syncer.config import Config
from syncer.oci.reference import Repository
from syncer.rules.tags import AllTags

BROUGHT_AUTH = """\
{
    "harbor.test.digitalchina.com": {    
        "username": "harboradmin",               
        "password": "P@ssw0rd",
        "insecure": true                 
    },
    "proxy.localharbor.com": {
\t\t"username": "admin",
        "password": "Harbor12345",
        "insecure": true  
    }
}
"""  # noqa: W291 - the blanks are what is tested
BROUGHT_IMAGES = """\
{
    "harbor.test.digitalchina.com/test2/nfs-client-provisioner": "proxy.localharbor.com/repo/nfs-client-provisioner",
    "harbor.test.digitalchina.com/test2/anhx/nginx": "proxy.localharbor.com/repo/nginx"
}
"""
PROXY = "quay.io/coreos/kube-rbac-proxy"
COPY = "quay.io/ruohe/kube-rbac-proxy"
DIGEST = "sha256:14b267eb38aa85fd12d0e168fffa2d8a6187ac53a14a0212b0d4fce8d729598c"
DOCUMENTED_AUTH = {
    "quay.io": {"username": "xxx", "password": "xxxxxxxxx", "insecure": True},
    "registry.cn-beijing.aliyuncs.com": {"username": "xxx", "password": "xxxxxxxxx"},
    "registry.hub.docker.com": {"username": "xxx", "password": "xxxxxxxxxx"},
    "quay.io/coreos": {"username": "abc", "password": "xxxxxxxxx", "insecure": True},
}
DOCUMENTED_IMAGES = {
    PROXY: COPY,
    "xxxx": "xxxxx",
    "xxx/xxx/xx:tag1,tag2,tag3": "xxx/xxx/xx",
    f"{PROXY}:v1.0": COPY,
    f"{PROXY}:v1.0,v2.0": COPY,
    f"{PROXY}:v1.0,v2.1": f"{COPY}:new1,new2",
    f"{PROXY}@{DIGEST}": COPY,
    f"{PROXY}:v1.1": [f"{COPY}1", f"{COPY}2"],
    f"{PROXY}:/a+/": COPY,
    "quay.io/operator-framework/olm:v0.18.3": "localhost:5000/image-syncer-test/olm",
    "alpine:3.18.2": "localhost:5000/image-syncer-test/alpine",
}


def username(config: Config, repository: str) -> str | None:
    account = config.auth.account_for(Repository.parse(repository))
    return account.username if account else None


def test_files_with_tabs_and_trailing_blanks_are_read(folder):
    config = folder.load(auth=BROUGHT_AUTH, images=BROUGHT_IMAGES)
    assert config.warnings == ()
    assert [
        (str(rule.source), rule.selection, str(rule.destinations[0].repository)) for rule in config.rules
    ] == [
        (
            "harbor.test.digitalchina.com/test2/nfs-client-provisioner",
            AllTags(),
            "proxy.localharbor.com/repo/nfs-client-provisioner",
        ),
        ("harbor.test.digitalchina.com/test2/anhx/nginx", AllTags(), "proxy.localharbor.com/repo/nginx"),
    ]
    assert username(config, "harbor.test.digitalchina.com/test2/anhx/nginx") == "harboradmin"
    assert username(config, "proxy.localharbor.com/repo/nginx") == "admin"
    assert config.auth.secrets() == {"P@ssw0rd", "Harbor12345"}
    assert config.auth.settings_for(config.rules[0].source).insecure


def test_the_documented_examples_of_image_syncer_are_read(folder):
    images = {key: value for key, value in DOCUMENTED_IMAGES.items() if key != "xxx/xxx/xx:tag1,tag2,tag3"}
    config = folder.load(auth=DOCUMENTED_AUTH, images=images)
    assert len(config.rules) == len(images)
    assert username(config, "nginx") == "xxx"
    assert username(config, "quay.io/coreos/x") == "abc"
    assert config.warnings == ()
    assert len(folder.load(combined={"auth": DOCUMENTED_AUTH, "images": images}).rules) == len(images)


def test_the_documented_yaml_examples_of_image_syncer_are_read(folder):
    images = textwrap.dedent(
        f"""\
        {PROXY}: {COPY}
        {PROXY}:v1.0: {COPY}
        {PROXY}:v1.0,v2.0: {COPY}
        {PROXY}@{DIGEST}: {COPY}
        {PROXY}:v1.1:
          - {COPY}1
          - {COPY}2
        {PROXY}:/a+/: {COPY}
        alpine:3.18.2: "localhost:5000/image-syncer-test/alpine"
        """
    )
    auth = "quay.io:\n  username: xxx\n  password: xxxxxxxxx\n  insecure: true\ndocker.io:\n  username: xxx\n  password: xxxxxxxxxx\n"
    assert len(folder.load(auth=auth, images=images, ending="yaml").rules) == 7
    indented = "auth:\n" + textwrap.indent(auth, "  ") + "images:\n" + textwrap.indent(images, "  ")
    config = folder.load(combined=indented, ending="yml")
    assert (len(config.rules), username(config, "nginx")) == (7, "xxx")


def test_rule_onto_itself_is_a_conflict_even_in_a_placeholder(folder):
    config = folder.load(images={"xxx/xxx/xx:tag1,tag2,tag3": "xxx/xxx/xx"})
    assert len(config.conflicts) == 3
    assert all("both sides are the same image" in str(conflict) for conflict in config.conflicts)


def test_credentials_in_a_combined_file_are_literal_and_destinations_are_not(folder):
    config = folder.load(
        combined={
            "auth": {"a.io": {"username": "$U", "password": "${P}"}},
            "images": {"a.io/x": "${HOST}/x"},
        },
        environment={"U": "no", "P": "no", "HOST": "b.io"},
    )
    assert username(config, "a.io/x") == "$U"
    assert config.auth.secrets() == {"${P}"}
    assert str(config.rules[0].destinations[0].repository) == "b.io/x"


def test_a_combined_file_needs_rules_and_no_accounts(folder):
    assert folder.load(combined={"images": {}}).auth.empty
    assert 'expected "images" with the rules, found none' in folder.problem(combined={"auth": {}})
    assert "images: expected a mapping of sources" in folder.problem(combined={"auth": {}, "images": None})
    (warning,) = folder.load(combined={"images": {}, "defaultDestRegistry": "x"}).warnings
    assert warning.message == "unknown key 'defaultDestRegistry', ignored"


def test_combined_file_in_the_wrong_option_is_reported(folder):
    assert "give it with --config" in folder.problem(images={"auth": {}, "images": {}})


@pytest.mark.parametrize("name", ["auth", "images"])
def test_a_schema_key_is_allowed_for_editors(folder, name):
    assert folder.load(**{name: {"$schema": "https://example.org/schema.json"}}).warnings == ()
    assert folder.load(combined={"$schema": "x", "images": {"$schema": "y"}}).warnings == ()


def test_all_problems_of_both_files_are_reported_at_once(folder):
    problems = folder.problems(
        auth={"a.io": {"insecure": "yes", "username": "$U", "password": "p"}, "b.io": {}, "a.io/x": []},
        images={
            "a.io/x": "d.io/x",
            "a.io/y:1": {"to": ["D.io/Y", None], "platforms": ["amd64"], "when": "now"},
            "a.io/z:(": "$UNSET/z",
            "a.io/w:1": "d.io/w:n",
            "a.io/v:1": "d.io/w:n",
        },
    )
    assert [line.split(": ")[:2] for line in problems] == [
        ["auth.json:3", 'auth."a.io".insecure'],
        ["auth.json:4", 'auth."a.io".username'],
        ["auth.json:8", 'auth."a.io/x"'],
        ["images.json:5", 'images."a.io/y:1".to[0]'],
        ["images.json:6", 'images."a.io/y:1".to[1]'],
        ["images.json:9", 'images."a.io/y:1".platforms[0]'],
        ["images.json:11", 'images."a.io/y:1".when'],
        ["images.json:13", 'images."a.io/z:("'],
        ["images.json:13", 'images."a.io/z:("'],
    ]


def test_unreadable_file_does_not_hide_problems_of_the_other(folder):
    assert folder.problems(auth="{", images={"a": 5})[1].startswith(
        "images.json:2: images.a: expected a destination"
    )


def test_without_files_there_are_no_rules_and_no_accounts(folder):
    config = folder.load()
    assert (config.rules, config.auth.empty, config.warnings) == ((), True, ())


def test_importing_and_reading_json_loads_no_slow_library(folder):
    images = folder.write("images.json", {"a": "b.io/a", "b:1": ["c.io/b"]})
    program = (
        f"import sys, pathlib, syncer.config as c; c.load(images=pathlib.Path({str(images)!r}), environment={{}}); "
        "print({'yaml', 're2', 'croniter', 'difflib', 'asyncio', 'httpx'} & set(sys.modules))"
    )
    done = run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "set()"


def test_ten_thousand_rules_take_seconds_at_most(folder):
    config = folder.load(images={f"quay.io/a/b{number}:v1": f"h.io/a/b{number}" for number in range(10_000)})
    assert len(config.rules) == 10_000
