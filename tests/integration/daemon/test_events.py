"""Events of a real docker-registry: a pushed tag is copied without a schedule."""

import random
import re
import signal
import time
from functools import partial

import pytest

from benchmarks.corpus import FOR_TESTS, write_corpus
from tests.integration.daemon.conftest import wait_until
from tests.integration.daemon.test_daemon import add_tag
from tests.support.judge import MANIFEST_TYPES, judge, whole_storage

TOKEN = "hook-t0ken-of-the-test"


@pytest.fixture
def announcing(served, registry, tmp_path):
    """A daemon whose source sends its events, with a token in the URL. The daemon has no schedule."""
    origin, target = registry(), registry()
    corpus = write_corpus(origin.storage, FOR_TESTS)
    served.write(
        {f"{origin.host}/{name}": f"{target.host}/mirror/{name}" for name in corpus.repositories},
        origin,
        target,
    )
    (tmp_path / "token").write_text(TOKEN)
    served.options += ["--hook-token-file", str(tmp_path / "token"), "--hook-delay", "0.2"]
    served.options += ["--state-dir", str(tmp_path / "state"), "--log-level", "debug"]
    served.start()
    served.taken = lambda: _taken(served.text("/metrics"))
    served.has_taken = lambda number: served.taken() >= number
    served.origin = origin
    announce_to(served)
    served.origin, served.target, served.corpus = origin, target, corpus
    return served


def announce_to(served):
    """Let the source send its events to the daemon, whose port is another one after each start."""
    served.origin.events_to = f"{served.url}/hooks/distribution?token={TOKEN}"
    served.origin.restart()


def _taken(metrics):
    found = re.search(r'syncer_events_total{.*outcome="taken"} (\d+)', metrics)
    return int(found[1]) if found else 0


def holds(registry, repository, tag):
    with registry.client() as client:
        found = client.head(f"/v2/{repository}/manifests/{tag}", headers={"accept": MANIFEST_TYPES})
        return found.status_code == 200


def test_pushed_tag_is_copied_by_a_run_of_its_own(announcing):
    image = announcing.corpus.images[0]
    add_tag(announcing.origin, image.repository, image.tag, "brand-new")
    wait_until(lambda: holds(announcing.target, f"mirror/{image.repository}", "brand-new"))
    run = wait_until(lambda: next((run for run in announcing.runs if run["outcome"]), None))
    assert (run["trigger"], run["outcome"]) == ("event", "success")
    assert run["totals"]["images"] == {"synced": 1, "skipped": 0, "failed": 0}
    name = f"{image.repository}:brand-new"
    judge(announcing.origin, announcing.target, [(name, f"mirror/{name}")])
    # Only this tag was copied, and the events of our own requests started nothing.
    assert len(announcing.runs) == 1
    with announcing.target.client() as client:
        tags = client.get(f"/v2/mirror/{image.repository}/tags/list").json()["tags"]
    assert tags == ["brand-new"]
    assert TOKEN not in announcing.log
    text = announcing.text("/metrics")
    assert 'syncer_events_total{kind="distribution",outcome="taken"}' in text
    assert TOKEN not in text


def test_kill_during_an_event_leaves_whole_images(announcing):
    image = announcing.corpus.images[0]
    announcing.target.stop()  # the event's image cannot be completed
    add_tag(announcing.origin, image.repository, image.tag, "brand-new")
    wait_until(lambda: announcing.get("/api/v1/status")["run"])
    announcing.signal(signal.SIGKILL)
    announcing.process.wait(timeout=20)
    announcing.target.start()
    assert whole_storage(announcing.target.storage) == 0
    announcing.start()
    run = announcing.run()
    assert run["outcome"] == "success"
    assert holds(announcing.target, f"mirror/{image.repository}", "brand-new")
    killed = next(each for each in announcing.runs if each["trigger"] == "event")
    assert killed["outcome"] == "interrupted"


@pytest.mark.parametrize("seed", range(3))
def test_killed_daemon_completes_the_events_that_it_answered(announcing, seed):
    """Kills at seeded moments: after the answer, at the start of the run, and while images are copied."""
    moments = random.Random(seed)
    names = []
    for number, image in enumerate(announcing.corpus.images[:6]):
        tag = f"new-{number}"
        before = announcing.taken()
        add_tag(announcing.origin, image.repository, image.tag, tag)
        wait_until(partial(announcing.has_taken, before + 1))
        names.append(f"{image.repository}:{tag}")
        if number % 2:
            time.sleep(moments.uniform(0, 0.4))
            announcing.signal(signal.SIGKILL)
            announcing.process.wait(timeout=20)
            whole_storage(announcing.target.storage)
            announcing.start()
            announce_to(announcing)
    # Nobody starts a run: what was answered is enough.
    for name in names:
        repository, _, tag = name.partition(":")
        wait_until(partial(holds, announcing.target, f"mirror/{repository}", tag))
    judge(announcing.origin, announcing.target, [(name, f"mirror/{name}") for name in names])


def test_run_of_one_rule_and_tag_by_the_api(announcing):
    name = announcing.corpus.images[0]
    body = {"rules": [f"*/{name.repository}"], "tags": [name.tag]}
    answer = announcing.post("/api/v1/runs", json=body)
    run = announcing.ended(answer.json()["id"])
    assert run["totals"]["images"]["synced"] == 1
