"""Images in Dockerfiles."""

import pytest

from syncer.references.formats import read_references

HUB = "docker.io/library"


def found(text, name="Dockerfile"):
    return read_references(name, text).references


@pytest.mark.parametrize(
    ("text", "images"),
    [
        ("FROM nginx", {f"{HUB}/nginx:latest"}),
        ("from nginx:1 as web\nFROM WEB\nFROM scratch", {f"{HUB}/nginx:1"}),
        ("FROM --platform=$BUILDPLATFORM golang:1.23 AS build", {f"{HUB}/golang:1.23"}),
        # A stage hides an image only after it was declared.
        ("FROM nginx AS nginx\nFROM nginx", {f"{HUB}/nginx:latest"}),
        (
            "FROM a:1 AS b\nCOPY --from=b / /\nCOPY --from=0 / /\nCOPY --from=c:2 / /",
            {f"{HUB}/a:1", f"{HUB}/c:2"},
        ),
        ("FROM a:1\nCOPY --chown=1 --from=quay.io/acme/b:1 /x /y", {f"{HUB}/a:1", "quay.io/acme/b:1"}),
        (
            "FROM a:1\nRUN --mount=type=bind,from=b:2,target=/b --mount=type=cache,target=/c x",
            {f"{HUB}/a:1", f"{HUB}/b:2"},
        ),
        ("FROM a:1\nONBUILD COPY --from=b:2 / /", {f"{HUB}/a:1", f"{HUB}/b:2"}),
        ("ARG TAG=1.27\nARG NAME=nginx BASE=${NAME}:$TAG\nFROM ${BASE}-alpine", {f"{HUB}/nginx:1.27-alpine"}),
        ('ARG REGISTRY=\nARG TAG="1"\nFROM ${REGISTRY}nginx:${TAG}', {f"{HUB}/nginx:1"}),
        ("ARG TAG\nFROM nginx:${TAG:-1}\nFROM redis${TAG:+:2}", {f"{HUB}/nginx:1", f"{HUB}/redis:latest"}),
        # An ARG within a stage does not count for FROM.
        ("ARG TAG=1\nFROM nginx:$TAG\nARG TAG=2\nFROM redis:$TAG", {f"{HUB}/nginx:1", f"{HUB}/redis:1"}),
        ("FROM \\\n  # a comment\n\n  nginx:1 \\\n  AS web\n", {f"{HUB}/nginx:1"}),
        ("# escape=`\nFROM `\n nginx:1\nRUN dir c:\\\nFROM redis:1", {f"{HUB}/nginx:1", f"{HUB}/redis:1"}),
        ("# syntax=docker/dockerfile:1\nFROM a:1", {"docker.io/docker/dockerfile:1", f"{HUB}/a:1"}),
        (
            "#!/usr/bin/env x\n#Syntax = docker/dockerfile:1\nFROM a:1",
            {"docker.io/docker/dockerfile:1", f"{HUB}/a:1"},
        ),
        ("# about\n# syntax=docker/dockerfile:1\nFROM a:1", {f"{HUB}/a:1"}),
        ("FROM a:1\nRUN <<EOF\nFROM b:1\nEOF\nFROM c:1", {f"{HUB}/a:1", f"{HUB}/c:1"}),
        (
            "FROM a:1\nRUN cat <<'X' > f && 3<<-Y true\nFROM b:1\nX\n\tFROM b:2\n\tY\nFROM c:1",
            {f"{HUB}/a:1", f"{HUB}/c:1"},
        ),
        ("FROM a:1\nRUN echo $((1 <<2))\nRUN x <<NEVER\nFROM c:1", {f"{HUB}/a:1", f"{HUB}/c:1"}),
        ("FROM x:1 AS b-amd64\nFROM y:1 AS b-arm64\nFROM b-${TARGETARCH}", {f"{HUB}/x:1", f"{HUB}/y:1"}),
        ("FROM a:1\r\nFROM b:1\r\n", {f"{HUB}/a:1", f"{HUB}/b:1"}),
    ],
)
def test_images_that_a_build_pulls(text, images):
    result = read_references("Dockerfile", text)
    assert result.references == images
    assert not result.unresolved


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("FROM nginx:${TAG}", 1),
        ("ARG TAG\n\nFROM nginx:$TAG", 3),
        ("FROM a:1\nCOPY --from=$X / /", 2),
        ("FROM a:1\nRUN --mount=from=${X} x", 2),
        ("FROM app-${TARGETARCH}", 1),
        ("FROM nginx:${TAG%-*}", 1),
        ("FROM ${A", 1),
        ("ARG A=${A0}\nFROM $A", 2),
        ("FROM {{ image }}", 1),
    ],
)
def test_image_that_depends_on_the_build_is_reported_with_its_line(text, line):
    result = read_references("Dockerfile", text)
    assert [each.line for each in result.unresolved] == [line]


@pytest.mark.parametrize(
    "name", ["Dockerfile", "Dockerfile.dev", "web.Dockerfile", "Containerfile", "a.dockerfile", ""]
)
def test_dockerfile_is_recognized_by_its_name_or_content(name):
    assert found("# about\nARG TAG=1\nFROM nginx:$TAG\n", name) == {f"{HUB}/nginx:1"}


def test_manifest_in_a_heredoc_is_no_manifest():
    text = "FROM a:1\nCOPY <<EOF /m.yaml\napiVersion: v1\nkind: Pod\nEOF\n"
    assert found(text, "") == {f"{HUB}/a:1"}


def test_arguments_that_double_are_bounded():
    lines = [
        "ARG A0=aaaaaaaaaa",
        *(f"ARG A{n}=${{A{n - 1}}}${{A{n - 1}}}" for n in range(1, 60)),
        "FROM $A59",
    ]
    result = read_references("Dockerfile", "\n".join(lines))
    assert not result.references
    assert len(result.unresolved) == 1


def test_defaults_within_defaults_are_bounded():
    result = read_references("Dockerfile", f"FROM {'${A:-' * 1000}x{'}' * 1000}")
    assert len(result.unresolved) == 1
