"""What each registry sends, and what is read from it. Each payload names where it was seen."""

import json

import pytest

from syncer.daemon.hooks.payloads import READERS, NoEvent, Pushed, read_event
from syncer.oci.digest import Digest
from tests.support.harbor_answers import EXCHANGES

DIGEST = "sha256:" + "ab" * 32

# https://distribution.github.io/distribution/about/notifications, "Events": a push by tag and the push of a layer.
DISTRIBUTION = {
    "events": [
        {
            "id": "320678d8-ca14-430f-8bb6-4ca139cd83f7",
            "timestamp": "2016-03-09T14:44:26.402973972-08:00",
            "action": "push",
            "target": {
                "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "size": 708,
                "digest": DIGEST,
                "length": 708,
                "repository": "hello-world",
                "url": f"http://192.168.100.227:5000/v2/hello-world/manifests/{DIGEST}",
                "tag": "latest",
            },
            "request": {
                "id": "6df24a34-0959-4923-81ca-14f09767db19",
                "addr": "192.168.64.11:42961",
                "host": "192.168.100.227:5000",
                "method": "PUT",
                "useragent": "curl/7.38.0",
            },
            "actor": {},
            "source": {"addr": "xtal.local:5000", "instanceID": "a53db899-3b4b-4a62-a067-8dd013beaca4"},
        },
        {
            "action": "push",
            "target": {
                "mediaType": "application/octet-stream",
                "size": 17,
                "digest": DIGEST,
                "repository": "hello-world",
            },
            "request": {"host": "192.168.100.227:5000"},
        },
    ]
}
# https://docs.docker.com/docker-hub/repos/manage/webhooks, "Example webhook payload".
DOCKER_HUB = {
    "callback_url": "https://registry.hub.docker.com/u/svendowideit/testhook/hook/2141b5bi5i5b02bec211i4eeih0242eg11000a/",
    "push_data": {"pushed_at": 1417566161, "pusher": "trustedbuilder", "tag": "latest"},
    "repository": {
        "comment_count": 0,
        "date_created": 1417494799,
        "is_official": False,
        "name": "testhook",
        "namespace": "svendowideit",
        "owner": "svendowideit",
        "repo_name": "svendowideit/testhook",
        "repo_url": "https://registry.hub.docker.com/u/svendowideit/testhook/",
        "status": "Active",
    },
}
# https://docs.redhat.com/en/documentation/red_hat_quay/3.4/html/use_red_hat_quay/repository_notifications
QUAY = {
    "name": "repository",
    "repository": "dgangaia/test",
    "namespace": "dgangaia",
    "docker_url": "quay.io/dgangaia/test",
    "homepage": "https://quay.io/repository/dgangaia/repository",
    "updated_tags": ["latest"],
}
# https://gist.github.com/jakedt/7533338, an older Quay
QUAY_WITH_IDS = QUAY | {
    "updated_tags": {"latest": "b750fe79269d2ec9a3c593ef05b4332b1d1a02a62b4accb2c21d589ff2f5f2dc"}
}
# https://docs.redhat.com/…/repository_notifications, "Dockerfile Build Queued"
QUAY_BUILD = {
    "build_id": "296ec063-5f86-4706-a469-f0a400bf9df2",
    "name": "test",
    "repository": "dgangaia/test",
    "namespace": "dgangaia",
    "docker_url": "quay.io/dgangaia/test",
}
# https://www.alibabacloud.com/help/doc-detail/60949.htm, "Notification payload"
ALIBABA = {
    "push_data": {"digest": DIGEST, "pushed_at": "2016-11-29 12:25:46", "tag": "latest"},
    "repository": {
        "date_created": "2016-10-28 21:31:42",
        "name": "repoTest",
        "namespace": "namespace",
        "region": "cn-hangzhou",
        "repo_authentication_type": "NO_CERTIFIED",
        "repo_full_name": "namespace/repo",
        "repo_origin_type": "NO_CERTIFIED",
        "repo_type": "PUBLIC",
    },
}
# https://learn.microsoft.com/azure/container-registry/container-registry-webhook-reference, "Payload example: image push"
AZURE = {
    "id": "cb8c3971-9adc-488b-xxxx-43cbb4974ff5",
    "timestamp": "2017-11-17T16:52:01.343145347Z",
    "action": "push",
    "target": {
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "size": 524,
        "digest": DIGEST,
        "length": 524,
        "repository": "hello-world",
        "tag": "v1",
    },
    "request": {
        "id": "3cbb6949",
        "host": "myregistry.azurecr.io",
        "method": "PUT",
        "useragent": "docker/17.09.0-ce",
    },
}
# https://learn.microsoft.com/azure/event-grid/event-schema-container-registry, "Example event" (CloudEvents schema)
EVENT_GRID = {
    "id": "831e1650-001e-001b-66ab-eeb76e069631",
    "source": "/subscriptions/1/resourceGroups/2/providers/Microsoft.ContainerRegistry/registries/demo",
    "subject": "aci-helloworld:v1",
    "type": "Microsoft.ContainerRegistry.ImagePushed",
    "time": "2018-04-25T21:39:47.6549614Z",
    "data": AZURE,
    "specversion": "1.0",
}
# modules/structs/hook_package.go and package.go of https://github.com/go-gitea/gitea
GITEA = {
    "action": "created",
    "repository": None,
    "package": {
        "id": 7,
        "owner": {"id": 1, "login": "Team"},
        "repository": None,
        "creator": {"id": 1, "login": "dev"},
        "type": "container",
        "name": "tools/app",
        "version": "1.0",
        "html_url": "https://gitea.example.com/Team/-/packages/container/tools%2Fapp/1.0",
        "created_at": "2026-01-01T00:00:00Z",
    },
    "organization": None,
    "sender": {"id": 1, "login": "dev"},
}

HELLO = Pushed("hello-world", "latest", Digest.parse(DIGEST), ("192.168.100.227:5000",))
AZURE_PUSH = Pushed("hello-world", "v1", Digest.parse(DIGEST), ("myregistry.azurecr.io",))
QUAY_PUSH = Pushed("dgangaia/test", "latest", None, ("quay.io",))
ENDINGS = (
    ".cn-hangzhou.aliyuncs.com",
    ".cn-hangzhou.cr.aliyuncs.com",
    ".cn-hangzhou.personal.cr.aliyuncs.com",
)

READ = {
    "distribution": ("distribution", DISTRIBUTION, [HELLO]),
    "distribution without events": ("distribution", {"events": []}, []),
    "docker-hub": ("docker-hub", DOCKER_HUB, [Pushed("svendowideit/testhook", "latest", None, ("docker.io",))]),
    "docker-hub, official": (
        "docker-hub",
        DOCKER_HUB | {"repository": {"repo_name": "nginx"}},
        [Pushed("library/nginx", "latest", None, ("docker.io",))],
    ),
    "quay": ("quay", QUAY, [QUAY_PUSH]),
    "quay, older": ("quay", QUAY_WITH_IDS, [QUAY_PUSH]),
    "quay, build": ("quay", QUAY_BUILD, []),
    "acr of Alibaba": ("acr", ALIBABA, [Pushed("namespace/repo", "latest", Digest.parse(DIGEST), (), ENDINGS)]),
    "acr of Azure": ("acr", AZURE, [AZURE_PUSH]),
    "acr of Azure, delete": ("acr", AZURE | {"action": "delete"}, []),
    "acr of Azure, ping": ("acr", {"id": "1", "action": "ping"}, []),
    "gitea": ("gitea", GITEA, [Pushed("team/tools/app", "1.0", None, ("gitea.example.com",))]),
    "gitea, deleted": ("gitea", GITEA | {"action": "deleted"}, []),
    "cloudevents of Event Grid": ("cloudevents", EVENT_GRID, [AZURE_PUSH]),
    "cloudevents in a batch": ("cloudevents", [EVENT_GRID, EVENT_GRID], [AZURE_PUSH, AZURE_PUSH]),
    "cloudevents of another kind": ("cloudevents", EVENT_GRID | {"type": "com.example.other", "data": 1}, []),
    # https://zotregistry.dev/latest/articles/events/: types end with image.updated, `source` is configured
    "cloudevents of zot": (
        "cloudevents",
        {
            "specversion": "1.0",
            "type": "zotregistry.image.updated",
            "source": "https://zot.example.com:8443",
            "data": {"name": "team/app", "reference": "1.0", "digest": DIGEST},
        },
        [Pushed("team/app", "1.0", Digest.parse(DIGEST), ("zot.example.com:8443",))],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_payload_becomes_pushes(name):
    kind, body, expected = READ[name]
    assert list(read_event(kind, json.dumps(body).encode(), {})) == expected


def with_nulls(value, names):
    """Add the keys that are missing in some payloads, with null as their value, to every object."""
    if isinstance(value, dict):
        present = {key: with_nulls(each, names) for key, each in value.items()}
        return dict.fromkeys(names) | present
    return [with_nulls(each, names) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", sorted(READ.keys() - {"quay, older"}))  # its tags are keys
def test_key_with_null_is_a_missing_key(name):
    kind, body, expected = READ[name]
    names = ("digest", "url", "mediaType", "request", "target", "source", "html_url", "unknown")
    assert list(read_event(kind, json.dumps(with_nulls(body, names)).encode(), {})) == expected


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("distribution", {"events": [{"action": "pull", "target": None, "request": None}]}),
        ("harbor", {"type": "QUOTA_EXCEED", "event_data": {"resources": None, "repository": None}}),
        ("acr", {"action": "ping", "target": None, "request": None}),
    ],
)
def test_other_event_with_null_is_no_push(kind, body):
    assert read_event(kind, json.dumps(body).encode(), {}) == ()


def test_other_events_of_distribution_are_no_pushes():
    # https://distribution.github.io/distribution/about/notifications: "action" is pull, push, mount or delete.
    for action in ("pull", "mount", "delete"):
        event = DISTRIBUTION["events"][0] | {"action": action}
        assert read_event("distribution", json.dumps({"events": [event]}).encode(), {}) == ()


def recorded():
    return json.loads((EXCHANGES / "webhooks.json").read_text())["webhooks"]


@pytest.mark.parametrize("path", ["/plain", "/ce"])
def test_recorded_events_of_harbor_are_read(path):
    headers = {"content-type": "application/cloudevents+json" if path == "/ce" else "application/json"}
    found = [
        push
        for each in recorded()
        if each["path"] == path
        for push in read_event("harbor", json.dumps(each["body"]).encode(), headers)
    ]
    assert {push.hosts for push in found} == {("harbor.test",)}
    tags = {(push.path, push.tag) for push in found if push.tag and not push.tag.startswith("sha256-")}
    assert tags == {("hooked/team/app", "v1"), ("hooked/signed", "1"), ("hooked/multi", "1")}
    # Children of an index: Harbor writes the digest in place of the tag.
    assert {push.path for push in found if push.tag is None} == {"hooked/multi"}
    assert all(push.digest for push in found)


def test_cloud_event_of_harbor_is_read_in_every_mode():
    body = next(each["body"] for each in recorded() if each["path"] == "/ce")
    expected = read_event("harbor", json.dumps(body).encode(), {})
    assert expected
    assert read_event("cloudevents", json.dumps(body).encode(), {}) == expected
    binary = {"ce-type": body["type"], "ce-specversion": "1.0", "content-type": "application/json"}
    assert read_event("cloudevents", json.dumps(body["data"]).encode(), binary) == expected
    assert read_event("harbor", json.dumps(body["data"]).encode(), binary) == expected


def test_other_events_of_harbor_are_no_pushes():
    # https://goharbor.io/docs/2.13.0/working-with-projects/project-configuration/configure-webhooks/
    body = next(each["body"] for each in recorded() if each["path"] == "/plain")
    for kind in ("PULL_ARTIFACT", "DELETE_ARTIFACT", "SCANNING_COMPLETED", "QUOTA_EXCEED"):
        assert read_event("harbor", json.dumps(body | {"type": kind}).encode(), {}) == ()


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[1]", b'"text"', b"{}", b'{"events": 1}', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000],
    ids=range(10),
)  # fmt: skip
def test_other_bodies_are_no_events(kind, body):
    with pytest.raises(NoEvent):
        read_event(kind, body, {})


@pytest.mark.parametrize(
    "change",
    [
        {"repository": "../../etc"},
        {"repository": "Upper/Case"},
        {"repository": ""},
        {"tag": "a b"},
        {"tag": "x" * 129},
        {"tag": "", "digest": ""},
        {"digest": "sha256:short"},
        {"tag": "sha256:short"},
    ],
    ids=str,
)
def test_invalid_names_are_no_events(change):
    event = json.loads(json.dumps(DISTRIBUTION["events"][0]))
    event["target"] |= change
    with pytest.raises(NoEvent):
        read_event("distribution", json.dumps({"events": [event]}).encode(), {})
