"""Tests of the test fixtures: access to registries, reproducible corpora, and the judge."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from benchmarks.corpus import FOR_TESTS, CorpusSpec, make_layer, push_corpus, write_corpus
from benchmarks.stores import Pushed, StorageFolder
from tests.support.judge import Open, judge, raw_manifest, whole, whole_storage
from tests.support.processes import Process
from tests.support.registries import PASSWORD, USER, Request, Source
from tests.support.tokens import Grant

FEW = CorpusSpec(images=2, repositories=1, bases=1, kinds=("docker-list", "oci"), smallest=100, largest=9_000)
KINDS = [
    pytest.param({}, id="anonymous"),
    pytest.param({"auth": "htpasswd"}, id="htpasswd"),
    pytest.param({"tls": True}, id="tls"),
    pytest.param({"auth": "token"}, id="token"),
    pytest.param({"auth": "token", "tls": True}, id="token-tls"),
]


@pytest.mark.parametrize("options", KINDS)
def test_skopeo_copies_between_registries_of_each_kind_and_the_judge_agrees(registry, options, tmp_path):
    there, here = registry(**options), registry(**options)
    with there.client() as client:
        corpus = push_corpus(client, FEW)

    for image in corpus.images:
        skopeo(
            "copy",
            "--all",
            *(option.replace("--", "--src-") for option in there.skopeo_options),
            *(option.replace("--", "--dest-") for option in here.skopeo_options),
            f"docker://{there.host}/{image.name}",
            f"docker://{here.host}/{image.name}",
        )

    judge(there, here, [(image.name, image.name) for image in corpus.images])
    assert whole(here) == whole_storage(here.storage) == 2


@pytest.mark.parametrize("options", KINDS[1:2] + KINDS[3:4])
def test_registry_with_users_refuses_anonymous_access(registry, options):
    guarded = registry(**options)

    assert httpx.get(f"{guarded.url}/v2/").status_code == 401
    for wrong in ("somebody:else", f"{USER}:wrong"):
        command = [
            "skopeo",
            "inspect",
            "--tls-verify=false",
            "--creds",
            wrong,
            f"docker://{guarded.host}/a:b",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "unauthorized" in done.stderr or "authentication required" in done.stderr


def test_a_registry_with_tls_is_trusted_by_its_ca_only(registry):
    guarded = registry(tls=True)

    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{guarded.url}/v2/")
    with guarded.client() as client:
        assert client.get("/v2/").status_code == 200
    assert guarded.ca_file.read_text().startswith("-----BEGIN CERTIFICATE-----")


class TestTokenServer:
    def ask(self, registry, scope, *, method="GET", user=USER, password=PASSWORD, **form):
        challenge = httpx.get(f"{registry.url}/v2/").headers["www-authenticate"]
        assert f'realm="{registry.token_server.realm}"' in challenge
        parameters = {"service": registry.token_server.service, "scope": scope, **form}
        auth = (user, password) if user else None
        if method == "POST":
            return httpx.post(registry.token_server.realm, data=parameters)
        return httpx.get(registry.token_server.realm, params=parameters, auth=auth)

    def tags(self, registry, token, repository="team/app"):
        headers = {"authorization": f"Bearer {token}"}
        return httpx.get(f"{registry.url}/v2/{repository}/tags/list", headers=headers).status_code

    def test_grants_what_the_policy_says(self, registry):
        guarded = registry(auth="token")
        guarded.token_server.grants = [Grant(USER, "team/*", frozenset({"pull"}))]

        allowed = self.ask(guarded, "repository:team/app:pull,push").json()["token"]
        refused = self.ask(guarded, "repository:other/app:pull").json()["token"]

        assert self.tags(guarded, allowed) == 404  # let in: there is no such repository
        assert self.tags(guarded, refused, "other/app") == 401
        headers = {"authorization": f"Bearer {allowed}"}
        assert httpx.post(f"{guarded.url}/v2/team/app/blobs/uploads/", headers=headers).status_code == 401

    def test_records_who_asked_for_what(self, registry):
        guarded = registry(auth="token")

        self.ask(guarded, "repository:team/app:pull")
        self.ask(guarded, "repository:team/app:pull", user="")
        self.ask(guarded, "repository:team/app:pull", password="wrong")

        requests = guarded.token_server.requests
        assert [(request.user, request.status) for request in requests] == [(USER, 200), ("", 200), ("", 401)]
        assert requests[0].scopes == ("repository:team/app:pull",)
        assert requests[0].service == "test-registry"

    def test_responds_like_other_token_services(self, registry):
        guarded = registry(auth="token")
        tokens = guarded.token_server
        tokens.field, tokens.expires_in = "access_token", None
        tokens.failures = [503]
        tokens.refresh_tokens["an identity token"] = USER
        form = {"grant_type": "refresh_token", "refresh_token": "an identity token"}

        assert self.ask(guarded, "repository:team/app:pull", method="POST", **form).status_code == 503
        answer = self.ask(guarded, "repository:team/app:pull", method="POST", **form).json()

        assert set(answer) == {"access_token"}
        assert self.tags(guarded, answer["access_token"]) == 404

    def test_can_issue_expired_tokens(self, registry):
        guarded = registry(auth="token")
        guarded.token_server.lifetime = -120

        token = self.ask(guarded, "repository:team/app:pull").json()["token"]

        assert self.tags(guarded, token) == 401


class TestAccessLog:
    def test_records_requests_except_those_of_the_test_tools(self, registry):
        quiet = registry(auth="htpasswd")
        with quiet.client() as client:
            client.get("/v2/").raise_for_status()
        httpx.get(
            f"{quiet.url}/v2/team/app/manifests/1.0",
            auth=(USER, PASSWORD),
            headers={"user-agent": 'a "b"'},
        )
        httpx.get(f"{quiet.url}/v2/team/app/tags/list?n=5", headers={"user-agent": "c"})

        first, second = quiet.access_log()

        assert (first.method, first.status, first.endpoint) == ("GET", 404, "manifest")
        assert (first.repository, first.reference) == ("team/app", "1.0")
        assert (second.path, second.user_agent, second.status) == ("/v2/team/app/tags/list?n=5", "c", 401)
        quiet.clear_access_log()
        assert quiet.access_log() == []

    @pytest.mark.parametrize(
        ("path", "endpoint", "reference"),
        [
            ("/v2/", "ping", ""),
            ("/v2/a/blobs/sha256:0", "blob", "sha256:0"),
            ("/v2/a/b/blobs/uploads/?mount=sha256:0&from=c", "upload", ""),
            ("/v2/a/blobs/uploads/some-id?_state=x", "upload", "some-id"),
            ("/v2/_catalog", "other", ""),
        ],
    )
    def test_names_the_endpoint(self, path, endpoint, reference):
        request = Request("GET", path, 200, "", 0)

        assert (request.endpoint, request.reference) == (endpoint, reference)


def test_a_registry_comes_back_on_its_port_with_what_it_stored(registry):
    restarted = registry()
    with restarted.client() as client:
        push_corpus(client, FEW)
    host = restarted.host

    restarted.restart()

    assert restarted.host == host
    assert whole(restarted) == 2


def test_two_registries_can_have_one_storage_after_each_other(registry, tmp_path):
    first = registry(storage=tmp_path / "storage")
    write_corpus(first.storage, FEW)
    first.stop()

    assert whole(registry(storage=tmp_path / "storage")) == 2


def test_a_registry_can_refuse_changes(registry):
    with registry(read_only=True).client() as client:
        assert client.post("/v2/team/app/blobs/uploads/").status_code == 405
    with registry(delete=False).client() as client:
        digest = Pushed(client).put_blob("team/app", b"content")
        assert client.delete(f"/v2/team/app/blobs/{digest}").status_code == 405
    with registry().client() as client:
        digest = Pushed(client).put_blob("team/app", b"content")
        assert client.delete(f"/v2/team/app/blobs/{digest}").status_code == 202


def test_child_processes_end_with_their_parent(tmp_path):
    script = (
        "import os, pathlib, signal, sys\n"
        "from tests.support.processes import Process\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "child = Process(['sleep', '600'], stdout=folder / 'out', stderr=folder / 'err')\n"
        "while b'sleep' not in pathlib.Path(f'/proc/{child.pid}/cmdline').read_bytes()[:5]: pass\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)

    assert done.returncode == -signal.SIGKILL, done.stderr
    status = Path(f"/proc/{int(done.stdout)}/status")
    for _ in range(10_000):
        if not status.exists() or "State:\tZ" in status.read_text():
            break
        os.sched_yield()
    else:
        pytest.fail("still there")


def test_the_program_runs_in_a_clean_environment(program, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", "/somewhere")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", "/somewhere/else")

    environment = program._environment({"SYNCER_PROC": "3"})

    assert environment["SYNCER_PROC"] == "3"
    assert environment["HOME"] == str(program.folder)
    assert not {"DOCKER_CONFIG", "REGISTRY_AUTH_FILE"} & set(environment)


def test_a_process_writes_its_output_to_files(tmp_path):
    process = Process(
        ["sh", "-c", "echo out; echo err >&2; exit 3"], stdout=tmp_path / "o", stderr=tmp_path / "e"
    )

    assert process.wait(timeout=10) == 3
    assert (process.read_stdout(), process.read_stderr()) == ("out\n", "err\n")


class TestCorpus:
    def test_has_the_same_digests_every_time(self, tmp_path):
        assert write_corpus(tmp_path / "a", FEW) == write_corpus(tmp_path / "b", FEW)

    def test_has_all_kinds_of_images_and_shared_layers(self, source):
        corpus = source.corpus

        assert (len(corpus.images), len(corpus.repositories)) == (12, 3)
        assert {image.kind for image in corpus.images} == {"oci-index", "docker", "docker-list", "oci"}
        assert (len(corpus.manifests), len(corpus.blobs)) == (24, 82)
        assert 2_000_000 < sum(corpus.blobs.values()) < 4_000_000
        assert any(size > 256 * 1024 for size in corpus.blobs.values())
        assert whole(source.registry) == whole_storage(source.registry.storage) == 12

    def test_written_to_the_storage_is_what_was_pushed(self, registry):
        written, pushed = registry(), registry()
        spec = replace(FEW, repositories=2, kinds=("docker-list",))  # layers in both: mounts
        expected = write_corpus(written.storage, spec)
        with pushed.client() as client:
            corpus = push_corpus(client, spec)

        assert corpus == expected
        judge(written, pushed, [(image.name, image.name) for image in corpus.images])

    def test_change_moves_some_tags(self, tmp_path):
        before = write_corpus(tmp_path, FOR_TESTS)
        after = write_corpus(tmp_path, replace(FOR_TESTS, change=0.25))

        moved = [new.name for old, new in zip(before.images, after.images, strict=True) if old != new]
        assert len(moved) == 3
        assert whole_storage(tmp_path) == 12

    def test_layers_are_archives_that_tar_can_read(self, tmp_path):
        for size in (10, 200_000):
            content, _ = make_layer("file", bytes(size))
            (tmp_path / "layer").write_bytes(content)
            subprocess.run(["tar", "-xzf", "layer"], cwd=tmp_path, check=True)
            assert (tmp_path / "file").stat().st_size == size


class TestJudge:
    @pytest.fixture
    def original(self, registry):
        original = registry()
        return Source(original, write_corpus(original.storage, FEW))

    @pytest.fixture
    def copied(self, registry):
        """A faithful copy, to damage."""
        copied = registry()
        write_corpus(copied.storage, FEW)
        return copied

    def pairs(self, original):
        return [(image.name, image.name) for image in original.corpus.images]

    def base(self, registry):
        return registry.storage / "docker/registry/v2"

    def content(self, registry, digest):
        encoded = digest.removeprefix("sha256:")
        return self.base(registry) / "blobs/sha256" / encoded[:2] / encoded / "data"

    def test_accepts_a_faithful_copy(self, original, copied):
        judge(original.registry, copied, self.pairs(original))

    def test_accepts_any_http_registry(self, original, copied):
        judge(Open(original.registry.host), Open(copied.host), self.pairs(original))

    def test_reports_a_missing_tag(self, original, copied):
        image = original.corpus.images[0]
        shutil.rmtree(self.base(copied) / "repositories" / image.repository / "_manifests/tags" / image.tag)

        with pytest.raises(AssertionError, match="manifest unknown"):
            judge(original.registry, copied, self.pairs(original))

    def test_reports_another_image_under_the_tag(self, original, copied):
        one, other = original.corpus.images
        raw = raw_manifest(original.registry, other.name)
        StorageFolder(copied.storage).put_manifest(one.repository, raw, "", one.tag)

        with pytest.raises(AssertionError, match="arrived, not"):
            judge(original.registry, copied, self.pairs(original))
        assert whole(copied) == whole_storage(copied.storage) == 2

    @pytest.mark.parametrize("damage", ["missing", "short", "other"])
    def test_reports_a_damaged_blob(self, original, copied, damage):
        digest, size = next(iter(original.corpus.blobs.items()))
        path = self.content(copied, digest)
        match damage:
            case "missing":
                path.unlink()
            case "short":
                path.write_bytes(path.read_bytes()[:-1])
            case "other":
                path.write_bytes(bytes(size))

        with pytest.raises(AssertionError, match=f"blob .*{digest}"):
            judge(original.registry, copied, self.pairs(original))
        with pytest.raises(AssertionError, match=f"blob .*{digest}"):
            whole(copied)
        if damage != "other":
            with pytest.raises(AssertionError, match=f"blob .*{digest}"):
                whole_storage(copied.storage)

    def test_reports_a_blob_missing_in_one_repository(self, original, copied):
        repository = original.corpus.images[0].repository
        layers = self.base(copied) / "repositories" / repository / "_layers/sha256"
        shutil.rmtree(next(layers.iterdir()))

        for check in (lambda: whole(copied), lambda: whole_storage(copied.storage)):
            with pytest.raises(AssertionError, match="blob "):
                check()

    def test_reports_a_missing_child(self, original, copied):
        index = json.loads(raw_manifest(original.registry, original.corpus.images[0].name))
        child = index["manifests"][0]["digest"]
        self.content(copied, child).unlink()

        for check in (lambda: whole(copied), lambda: whole_storage(copied.storage)):
            with pytest.raises(AssertionError, match=f"manifest .*{child}"):
                check()


def skopeo(*arguments: str) -> None:
    done = subprocess.run(["skopeo", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
