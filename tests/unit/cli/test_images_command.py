"""`images`: what it prints, and what it says on stderr."""

import os

import pytest
from click.testing import CliRunner

from syncer.cli import images
from syncer.cli.main import cli

POD = "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: %s}]}\n"


def run(*arguments, stdin=""):
    return CliRunner().invoke(cli, ["images", *map(str, arguments)], input=stdin)


def test_folder_gives_sorted_references_without_duplicates(tmp_path):
    files = {
        "b/pod.yaml": POD % "redis:7",
        "a.yml": POD % "docker.io/library/redis:7",
        "b/Dockerfile": "FROM alpine:3\n",
        "c/compose.yaml": "services: {web: {image: nginx}}\n",
        "list.txt": "quay.io/acme/app:1\n",
        # Nothing of these:
        "values.yaml": "image: {repository: acme/values}\n",
        "requirements.txt": "flask==3.0\n",
        "tsconfig.json": "{ // comment\n}",
        "README.md": "image: acme/readme:1\n",
        ".git/pod.yaml": POD % "acme/hidden:1",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.yaml")
    done = run(tmp_path)
    assert done.stdout.splitlines() == [
        "docker.io/library/alpine:3",
        "docker.io/library/nginx:latest",
        "docker.io/library/redis:7",
        "quay.io/acme/app:1",
    ]
    assert (done.stderr, done.exit_code) == ("", 0)


def test_output_of_powershell_is_read(tmp_path):
    path = tmp_path / "manifest.yaml"
    path.write_text(POD % "redis:7", encoding="utf-16")
    assert run(path).stdout == "docker.io/library/redis:7\n"


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_standard_input_is_read(arguments):
    done = run(*arguments, stdin=POD % "redis:7")
    assert (done.stdout, done.exit_code) == ("docker.io/library/redis:7\n", 0)


def test_unresolved_references_are_printed_with_file_and_line(tmp_path):
    path = tmp_path / "compose.yaml"
    path.write_text("services:\n  a: {image: 'x:${T}'}\n  b: {image: y:1}\n  c: {image: \"x\\e[31m\"}\n")
    done = run(path)
    assert (done.stdout, done.exit_code) == ("docker.io/library/y:1\n", 0)
    first, second = done.stderr.splitlines()
    assert first == f"warning: {path}:2: 'x:${{T}}' is not resolved: variable T has no default"
    assert second.startswith(f"warning: {path}:4: ")
    assert "\x1b" not in second


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"apiVersion: v1\nkind: Pod\nx: [\n", ": not YAML"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"replicas: 3\n", "expected a Kubernetes manifest"),
        (None, "no such file"),
        (b"a: " + b"b" * 2000, "larger than"),
    ],
)
def test_file_that_cannot_be_read_is_an_error_after_the_others(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(images, "MAX_FILE_SIZE", 1000)
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(POD % "redis:7")
    if content is not None:
        bad.write_bytes(content)
    done = run(bad, good)
    assert (done.stdout, done.exit_code) == ("docker.io/library/redis:7\n", 2)
    assert done.stderr.startswith(f"error: {bad}")
    assert message in done.stderr
