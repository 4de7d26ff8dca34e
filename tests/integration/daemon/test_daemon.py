"""A daemon between two registries: on schedule, stopped, killed, started again."""

import threading

import httpx
import pytest

from benchmarks.corpus import FOR_TESTS, write_corpus
from syncer.rules.shard import share_of
from tests.e2e.test_kept_tags import push_image
from tests.integration.daemon.conftest import wait_until
from tests.support.judge import MANIFEST_TYPES, judge, raw_manifest, whole, whole_storage
from tests.support.plain_http import NO_AUTHORITIES

STATE = "state"
PATHS = ["/metrics", "/healthz", "/readyz", "/api/v1/status", "/api/v1/runs", "/", "/runs"]


@pytest.fixture
def origin(registry):
    """A registry of this test with the corpus in it."""
    started = registry()
    started.corpus = write_corpus(started.storage, FOR_TESTS)
    return started


@pytest.fixture
def target(registry):
    return registry()


def rules(origin, target):
    return {f"{origin.host}/{name}": f"{target.host}/mirror/{name}" for name in origin.corpus.repositories}


def pairs(origin):
    return [(image.name, f"mirror/{image.name}") for image in origin.corpus.images]


def add_tag(registry, repository, tag, new):
    """Give an image one more tag."""
    with registry.client() as client:
        found = client.get(f"/v2/{repository}/manifests/{tag}", headers={"accept": MANIFEST_TYPES})
        put = client.put(
            f"/v2/{repository}/manifests/{new}",
            content=found.content,
            headers={"content-type": found.headers["content-type"]},
        )
        assert put.status_code == 201


def test_daemon_copies_on_schedule_and_finds_new_tags(served, origin, target):
    served.write(rules(origin, target), origin, target)
    served.start("--schedule", "*/2 * * * * *", "--state-dir", STATE)
    wait_until(lambda: [run for run in served.runs if run["outcome"] == "success"])
    judge(origin, target, pairs(origin))

    image = origin.corpus.images[0]
    add_tag(origin, image.repository, image.tag, "brand-new")

    def arrived():
        with target.client() as client:
            return client.head(
                f"/v2/mirror/{image.repository}/manifests/brand-new", headers={"accept": MANIFEST_TYPES}
            ).is_success

    wait_until(arrived)
    assert raw_manifest(target, f"mirror/{image.repository}:brand-new") == raw_manifest(origin, image.name)
    assert all(served.status_of(path) == 200 for path in PATHS)
    runs = served.runs
    assert {run["trigger"] for run in runs} == {"schedule"}
    report = served.get(f"/api/v1/runs/{runs[-1]['id']}")
    assert report["totals"]["images"]["synced"] == len(origin.corpus.images)
    status = served.get("/api/v1/status")
    assert {rule["last"]["outcome"] for rule in status["rules"]} == {"success"}
    served.terminate()


def test_history_is_intact_after_stop_and_kill_during_run(served, origin, target):
    served.options = ["--state-dir", STATE, "--proc", "2"]
    served.write(rules(origin, target), origin, target, bandwidth="200KiB")

    served.start("--run-on-start")
    stopped = served.copying()["id"]
    assert served.terminate() < 25.5
    whole_storage(target.storage)

    served.start("--run-on-start")
    assert served.runs[-1]["id"] == stopped
    assert served.runs[-1]["outcome"] == "interrupted"
    killed = served.copying()["id"]
    served.process.kill()
    served.process.wait()
    whole_storage(target.storage)

    served.write(rules(origin, target), origin, target)
    served.start()
    assert "marked as interrupted" in served.log
    assert [run["id"] for run in served.runs] == [killed, stopped]
    assert served.runs[0]["outcome"] == "interrupted"
    assert served.runs[0]["finished"] is not None
    last = served.run()
    assert last["outcome"] == "success"
    judge(origin, target, pairs(origin))
    assert whole(target) == len(origin.corpus.images)
    assert [run["id"] for run in served.runs] == [last["id"], killed, stopped]
    for run in served.runs:
        assert served.get(f"/api/v1/runs/{run['id']}")["run"]["outcome"] == run["outcome"]
    served.terminate()


def test_a_run_is_cancelled_and_what_is_finished_stays(served, origin, target):
    served.write(rules(origin, target), origin, target, bandwidth="300KiB")
    served.start("--run-on-start")
    run_id = served.copying()["id"]
    assert served.post("/api/v1/runs").status_code == 409
    assert served.post(f"/api/v1/runs/{run_id}/cancel").status_code == 202
    assert served.ended(run_id)["outcome"] == "interrupted"
    whole_storage(target.storage)
    assert served.status_of("/readyz") == 200
    served.terminate()


def test_open_streams_do_not_delay_exit(served, origin, target):
    served.write(rules(origin, target), origin, target)
    served.start()
    on_retry: list[str] = []

    def listen(number):
        with httpx.stream("GET", f"{served.url}/api/v1/events", timeout=60, trust_env=False) as stream:
            for line in stream.iter_lines():
                if number == 0:
                    on_retry.append(line)

    listeners = [threading.Thread(target=listen, args=(number,)) for number in range(5)]
    for listener in listeners:
        listener.start()
    wait_until(lambda: "event: progress" in on_retry)
    served.run()
    wait_until(lambda: on_retry.count("event: run") == 2)
    assert served.terminate() < 5
    for listener in listeners:
        listener.join(timeout=10)
        assert not listener.is_alive()
    assert on_retry.count("event: image") == len(origin.corpus.images)


def test_all_endpoints_respond_during_run(served, origin, target):
    """How fast is a matter of benchmarks/answering.py."""
    served.write(rules(origin, target), origin, target, bandwidth="150KiB")
    served.start("--run-on-start")
    served.copying()
    run_id = served.runs[0]["id"]
    paths = [*PATHS, f"/api/v1/runs/{run_id}", f"/runs/{run_id}"]
    with httpx.Client(base_url=served.url, trust_env=False, verify=NO_AUTHORITIES) as client:
        for number in range(150):
            assert client.get(paths[number % len(paths)]).status_code == 200
        assert client.get("/api/v1/status").json()["run"]["id"] == run_id
    served.terminate()


def test_plan_knows_ages_that_only_the_state_folder_has(served, origin, target):
    push_image(origin, "ageless", "1", b"{}")
    rule = {"from": f"{origin.host}/ageless", "to": f"{target.host}/ageless", "tags": {"max_age": "1d"}}
    served.write({"rules": [rule | {"name": "young"}]}, origin, target)
    served.start("--state-dir", STATE)
    assert served.run()["outcome"] == "success"
    plan = served.get("/api/v1/rules/young/plan")
    assert [image["outcome"] for image in plan["images"]] == ["skipped"]


def test_daemon_with_shard_names_it_in_reports(served, origin, target):
    served.write(rules(origin, target), origin, target)
    served.start("--shard", "1/2")
    images = served.get(f"/api/v1/runs/{served.run()['id']}")["images"]
    assert [run["shard"] for run in served.runs] == ["1/2"]
    repositories = {image["destination"].rpartition(":")[0] for image in images}
    assert repositories == {name for name in rules(origin, target).values() if share_of(name, 2) == 1}
    assert f"shard 1/2 has {len(repositories)} of {len(origin.corpus.repositories)} rules" in served.log
    served.terminate()
