"""Error messages for refusals by a registry: one line that states what to do."""

import json

import pytest

from syncer.demo.images import make_attestation, make_image, make_index, make_layer
from syncer.oci.digest import Digest
from tests.support.faults import Faults, Reply
from tests.support.wire import same

LAYER = make_layer({"a": b"a"})
ONE = {"here/app:1": "there/app"}
UPLOADS = "/v2/app/blobs/uploads/*"


@pytest.fixture(autouse=True)
def image(source):
    return make_image(source.store, "app", "1", layers=[LAYER])


@pytest.fixture
def failure(net):
    async def failing(rules=ONE, **options):
        outcome = await net.sync(rules, **{"retries": 0, **options})
        assert outcome.result.failed == 1
        return outcome.failed[0].failure

    return failing


def error(code, message=""):
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


async def test_missing_credentials_are_reported(here, failure):
    here.on("*", "/v2/*", status=401, body=error("UNAUTHORIZED", "authentication required"))
    on_retry = await failure()
    assert on_retry.kind == "unauthorized"
    assert on_retry.permanent
    assert f"{here.host}/app" in on_retry.message
    assert "401 unauthorized (UNAUTHORIZED: authentication required)" in on_retry.message
    assert (
        f"no credentials for {here.host} were found: add an entry for it to the auth file" in on_retry.message
    )
    assert "spelling" in on_retry.message


async def test_wrong_credentials_are_reported_with_their_entry(here, net, failure):
    net.settings["here"] = {"username": "me", "password": "wrong-secret"}
    here.on("*", "/v2/*", status=401, headers={"www-authenticate": 'Basic realm="x"'})
    on_retry = await failure()
    assert f"check user name, password and rights of the entry {here.host!r}" in on_retry.message
    assert "wrong-secret" not in on_retry.message


async def test_exhausted_rate_limit_is_reported(here, failure):
    here.on(
        "*",
        "*/manifests/*",
        status=429,
        body=error("TOOMANYREQUESTS", "You have reached your pull rate limit"),
    )
    on_retry = await failure()
    assert on_retry.kind == "throttled"
    assert "pull rate limit" in on_retry.message
    assert "add an entry" in on_retry.message
    assert "trying again may help" in on_retry.message


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, "The system is in read only mode. Any modification is prohibited."),
        (405, "can not push artifact to a proxy project: cache"),
    ],
)
async def test_read_only_project_is_reported(there, failure, status, message):
    there.on("POST", UPLOADS, status=status, body=error("DENIED", message))
    on_retry = await failure(retries=3)
    assert on_retry.kind == "forbidden"
    assert "does not accept pushes" in on_retry.message
    # Two blobs, each once as a mount from the repository itself.
    assert there.count("POST") <= 4


async def test_registry_without_push_support_is_reported(registry, net, failure):
    frozen = registry(read_only=True)
    net.registries["there"] = frozen
    on_retry = await failure()
    assert on_retry.kind == "unsupported"
    assert "does not accept pushes: it is read-only" in on_retry.message


async def test_exceeded_quota_is_reported(there, failure):
    there.on(
        "PUT",
        UPLOADS,
        status=403,
        body=error("DENIED", "adding 1 MiB of storage resource exceeds the configured upper limit"),
    )
    on_retry = await failure()
    assert on_retry.kind == "forbidden"
    assert "quota" in on_retry.message


async def test_missing_harbor_project_is_reported(there, failure):
    there.on("POST", UPLOADS, status=404, body=error("NOT_FOUND", "project app not found"))
    on_retry = await failure()
    assert on_retry.kind == "not_found"
    assert "create project 'app'" in on_retry.message
    assert "api/v2.0/projects" in on_retry.message


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_missing_harbor_project_is_created_if_configured(there, target, source, net, status):
    net.settings["there"] = {"create": True, "username": "admin", "password": "hush"}
    made = []

    def projects(asked):
        made.append(asked)
        return Reply(201)

    there.on("POST", "/api/v2.0/projects", reply=projects)
    there.on("*", "/v2/app/*", reply=lambda _asked: None if made else Reply(status))
    outcome = await net.sync(ONE, retries=0)
    assert outcome.counts == (1, 0, 0)
    assert same(source.store, target.store, "app")
    assert len(made) == 1
    assert made[0].headers["authorization"].startswith("Basic ")


async def test_refused_creation_of_harbor_project_is_reported(there, net, failure):
    net.settings["there"] = {"create": True, "username": "admin", "password": "hush"}
    there.on("POST", "/api/v2.0/projects", status=403)
    there.on("*", "/v2/app/*", status=404, body=error("NOT_FOUND"))
    on_retry = await failure()
    assert on_retry.status == 403
    assert "create project 'app' manually" in on_retry.message


async def test_refused_index_with_attestations_is_reported(there, source, image, failure):
    attestation = make_attestation(source.store, "app", image=image)
    make_index(source.store, "app", "2", children=[image, attestation])
    there.on("PUT", "/v2/app/manifests/2", status=400, body=error("MANIFEST_INVALID"))
    on_retry = await failure({"here/app:2": {"to": "there/app", "attestations": "keep"}})
    assert "attestations (platform unknown/unknown)" in on_retry.message
    assert '"attestations": "drop"' in on_retry.message


async def test_registry_without_tls_is_reported(source, net, failure):
    net.registries["here"] = source
    net.settings["here"] = {"plain_http": False}
    on_retry = await failure()
    assert on_retry.kind == "tls"
    assert '"plain_http": true' in on_retry.message


async def test_plain_http_to_tls_registry_is_reported(here, failure):
    here.on("*", "*", status=400, body=b"Client sent an HTTP request to an HTTPS server.\n")
    on_retry = await failure()
    assert 'remove "plain_http"' in on_retry.message


async def test_untrusted_certificate_is_reported(source, net, failure, ca):
    async with Faults(source.host, tls=ca) as guarded:
        net.registries["here"] = guarded
        net.settings["here"] = {"plain_http": False}
        on_retry = await failure()
    assert on_retry.kind == "tls"
    assert on_retry.permanent
    assert '"ca_file"' in on_retry.message
    assert "SSLContext" not in on_retry.message


async def test_refused_connection_is_reported(net, failure):
    net.dead["gone"] = "127.0.0.1:9"
    on_retry = await failure({"gone/app:1": "there/app"})
    assert on_retry.kind == "connection"
    assert "cannot connect" in on_retry.message
    assert "trying again may help" in on_retry.message


async def test_unknown_host_name_is_reported(net, failure):
    net.dead["gone"] = "registry.invalid"
    on_retry = await failure({"gone/app:1": "there/app"})
    assert on_retry.kind == "connection"
    assert "check the spelling of the registry's name" in on_retry.message


async def test_refusal_by_proxy_is_reported(net, failure, monkeypatch, source, ca):
    async with Faults(source.host) as proxy:
        proxy.on("CONNECT", "*", status=407)
        net.settings["here"] = {"plain_http": False}
        monkeypatch.setenv("https_proxy", f"http://user:proxy-secret@{proxy.host}")
        monkeypatch.setenv("no_proxy", "")
        on_retry = await failure()
    assert on_retry.kind == "connection"
    assert "the proxy refuses" in on_retry.message
    assert "HTTPS_PROXY" in on_retry.message
    assert "proxy-secret" not in on_retry.message


async def test_missing_image_is_reported_with_registry_and_tag(here, failure):
    on_retry = await failure({"here/app:nope": "there/app"})
    assert on_retry.kind == "not_found"
    assert f"{here.host}/app:nope" in on_retry.message


PENDING = (
    'current image with "Pending" status of vulnerability scanning cannot be pulled due to configured policy in'
    " 'Prevent images with vulnerability severity of \"Critical\" or higher from running.'"
)
"""Harbor, src/server/middleware/vulnerable."""


async def test_image_being_scanned_is_copied_in_a_retry_round(here, net, source, target):
    here.on("GET", "*/manifests/*", status=412, body=error("PROJECTPOLICYVIOLATION", PENDING), times=1)
    outcome = await net.sync(ONE, retries=1)
    assert outcome.counts == (1, 0, 0)
    assert same(source.store, target.store, "app")


async def test_unscanned_image_fails_with_message_of_policy(here, failure):
    here.on("GET", "*/manifests/*", status=412, body=error("PROJECTPOLICYVIOLATION", PENDING))
    on_retry = await failure(retries=1)
    assert (on_retry.kind, on_retry.permanent) == ("forbidden", False)
    assert "status of vulnerability scanning" in on_retry.message
    assert "immutable" not in on_retry.message


@pytest.mark.parametrize("status", [499, 500, 507, 509, 520, 525, 530, 598, 599])
async def test_any_5xx_status_is_retried(here, net, source, target, status):
    here.on("GET", "*/blobs/*", status=status, times=1)
    assert (await net.sync(ONE, retries=0)).counts == (1, 0, 0)
    assert same(source.store, target.store, "app")


async def test_redirect_to_registry_that_requires_login_is_reported(here, there, failure):
    there.on(
        "GET", "/cdn/*", status=401, headers={"www-authenticate": 'Bearer realm="https://x.example/token"'}
    )
    here.on("GET", "*/blobs/*", status=307, headers={"location": f"http://{there.host}/cdn/blob"})
    on_retry = await failure(retries=2)
    assert (on_retry.kind, on_retry.permanent) == ("unauthorized", True)
    assert f"{there.host} requires its own login" in on_retry.message


async def test_refused_foreign_layers_are_reported(net, source, failure, repository_name):
    """By default, docker-registry rejects manifests with URLs."""
    config = source.store.put_blob("app", b"{}")
    foreign = {
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": Digest.of(b"windows"),
        "size": 7,
        "urls": ["https://example.com/layer"],
    }
    media_type = "application/vnd.docker.distribution.manifest.v2+json"
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": config,
            "size": 2,
        },
        "layers": [foreign],
    }
    source.store.put_manifest("app", json.dumps(document).encode(), media_type, reference="1")
    on_retry = await failure({"here/app:1": f"docker/{repository_name}"})
    assert (on_retry.kind, on_retry.permanent) == ("unsupported", True)
    assert "foreign layers (urls)" in on_retry.message
    assert "validation.manifests.urls.allow" in on_retry.message


async def test_skipped_requests_report_the_original_cause(net):
    net.dead["gone"] = "127.0.0.1:9"
    outcome = await net.sync({f"gone/app{number}:1": f"there/app{number}" for number in range(12)}, retries=0)
    told = [each.failure for each in outcome.failed]
    assert len(told) == 12
    assert any("several consecutive attempts failed" in each.message for each in told)
    assert {each.kind for each in told} == {"connection"}
    for each in told:
        assert "Connect call failed" in each.message
        assert "check that 127.0.0.1:9 is running and that the port is correct" in each.message
