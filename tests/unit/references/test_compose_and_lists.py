"""Images in compose files, and in lists."""

import pytest

from syncer.references.formats import read_references

HUB = "docker.io/library"


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("nginx", f"{HUB}/nginx:latest"),
        ("nginx:${TAG:-1.27}", f"{HUB}/nginx:1.27"),
        ("nginx:${TAG-1.27}", f"{HUB}/nginx:1.27"),
        ("${REGISTRY:-quay.io}/acme/app:${TAG:-${FALLBACK:-v1}}", "quay.io/acme/app:v1"),
        ("nginx${X:+:1}", f"{HUB}/nginx:latest"),
    ],
)
def test_compose_image_with_defaults(image, expected):
    text = f'services:\n  web:\n    image: "{image}"\n    profiles: [debug]\n'
    assert read_references("compose.yaml", text).references == {expected}


@pytest.mark.parametrize(
    "image", ["nginx:${TAG}", "nginx:$TAG", "nginx:${TAG:?set it}", "${IMAGE:-}", "${A/b/c}", "x:$$TAG"]
)
def test_compose_image_without_default_is_reported(image):
    result = read_references("docker-compose.yml", f'services:\n  web:\n    image: "{image}"\n')
    assert not result.references
    assert [(each.line, each.text) for each in result.unresolved] == [(3, image)]


def test_compose_service_that_is_built():
    text = """\
x-common: &common
  image: redis:7
services:
  cache:
    <<: *common
    build: !reset null
  web:
    image: acme/web
    build:
      context: .
      additional_contexts: {base: "docker-image://alpine:3.20"}
      dockerfile_inline: |
        FROM nginx:1.27
        FROM $$OTHER
    volumes:
      - {type: image, source: acme/data:1, target: /data}
      - ./a:/b
"""
    result = read_references("compose.yaml", text)
    assert result.references == {
        f"{HUB}/redis:7",
        f"{HUB}/alpine:3.20",
        f"{HUB}/nginx:1.27",
        "docker.io/acme/data:1",
    }
    assert sorted((each.line, each.text) for each in result.unresolved) == [(8, "acme/web"), (14, "$OTHER")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "nginx:1.27\nquay.io/acme/app:v1\n"),
        ("images.txt", "# all\n\nquay.io/acme/app:v1   # ours\nnginx:1.27 harbor.example.com/nginx:1.27\n"),
        ("images.txt", "--platform=linux/amd64 nginx:1.27\r\n- docker://quay.io/acme/app:v1\r\n"),
        ("images.yaml", "- nginx:1.27\n- quay.io/acme/app:v1\n"),
        ("images.json", '["nginx:1.27", "quay.io/acme/app:v1"]'),
        ("", '["nginx:1.27", "quay.io/acme/app:v1", "nginx:1.27"]'),
    ],
)
def test_list_of_references(name, text):
    result = read_references(name, text)
    assert result.references == {f"{HUB}/nginx:1.27", "quay.io/acme/app:v1"}
    assert not result.unresolved


@pytest.mark.parametrize(
    "text", ["W1126 12:00:00 could not fetch a version\n", "a:1,2\n", "a:/v1/\n", "https://a/b\n"]
)
def test_line_that_is_no_reference_is_reported(text):
    result = read_references("", text)
    assert not result.references
    assert [each.line for each in result.unresolved] == [1]


@pytest.mark.parametrize("text", ["replicas: 3\nimage: {repository: a}\n", "[one, two]", '{"name": "a"}'])
def test_file_of_another_format_is_not_recognized(text):
    result = read_references("values.yaml", text)
    assert not result.recognized
    assert not result.references
