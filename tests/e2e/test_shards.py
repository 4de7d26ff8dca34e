"""Several processes with one share each produce the same result as a single process."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, count
from pathlib import Path
from typing import Any

import pytest

from benchmarks.corpus import Corpus
from syncer.rules.shard import share_of
from tests.e2e.jobs import JobFiles, gets, last_line, read_json, slowed, stored_blobs, tags, watch
from tests.support.judge import MANIFEST_TYPES, judge, whole_storage
from tests.support.program import Program
from tests.support.registries import Registry, Request, Source

SHARES = 4


def spread(corpus: Corpus, destination: Registry, shares: int) -> dict[str, str]:
    """A name at the destination for each repository, such that each share has at least one: ports come by chance."""
    candidates = ({name: f"mirror-{number}/{name}" for name in corpus.repositories} for number in count())
    return next(
        names
        for names in candidates
        if len({share_of(f"{destination.host}/{name}", shares) for name in names.values()}) == shares
    )


@dataclass
class Story:
    """The corpus copied by one process to one registry, and by four to another. `asked`: what the source was, by these."""

    source: Source
    names: Mapping[str, str]
    by_one: Registry
    by_four: Registry
    one: Any
    four: list[Any]
    merged: Any
    asked: list[Request]
    logs: list[str]


@pytest.fixture(scope="module")
def story(full_source: Source, scratch: Path, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("shards")
    by_one, by_four = (Registry(scratch / name, scratch / name / "storage") for name in ("one", "four"))
    program, files = Program(folder), JobFiles(folder)
    source = full_source.registry
    try:
        by_one.start()
        by_four.start()
        names = spread(full_source.corpus, by_four, SHARES)

        def job(destination: Registry) -> list[str]:
            rules = {f"{source.host}/{name}": f"{destination.host}/{new}" for name, new in names.items()}
            return files(rules, source, destination)

        alone = folder / "one.json"
        done = program.run("sync", *job(by_one), "--report", alone)
        assert done.returncode == 0, done.stderr

        source.clear_access_log()
        arguments, parts, processes = job(by_four), [], []
        for index in range(SHARES):
            parts.append(folder / f"part-{index}.json")
            flag = ["--shard", f"{index}/{SHARES}"] if index < 2 else []
            pod = {"JOB_COMPLETION_INDEX": str(index), "SYNCER_SHARDS": str(SHARES)} if index >= 2 else {}
            processes.append(program.start("sync", *arguments, *flag, "--report", parts[-1], env=pod))
        for process in processes:
            assert process.wait(timeout=120) == 0, process.read_stderr()
        asked = source.access_log()

        whole = folder / "whole.json"
        done = program.run("report", "merge", *parts, "--output", whole)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        yield Story(
            full_source,
            names,
            by_one,
            by_four,
            one=read_json(alone),
            four=[read_json(part) for part in parts],
            merged=read_json(whole),
            asked=asked,
            logs=[process.read_stderr() for process in processes],
        )
    finally:
        program.close()
        by_one.close()
        by_four.close()


def test_every_image_arrives_with_its_digest_and_all_its_blobs(story):
    pairs = [
        (image.name, f"{story.names[image.repository]}:{image.tag}") for image in story.source.corpus.images
    ]
    judge(story.source.registry, story.by_four, pairs)
    assert whole_storage(story.by_four.storage) == 60


def test_shares_produce_the_same_destination_as_one_process(story):
    assert everything(story.by_four) == everything(story.by_one)
    assert len(everything(story.by_one)) == 60
    assert blobs(story.by_four) == blobs(story.by_one)


def test_merged_report_equals_the_report_of_one_process(story):
    assert images(story.merged) == images(story.one)
    assert (
        story.merged["totals"]["images"]
        == story.one["totals"]["images"]
        == {"synced": 60, "skipped": 0, "failed": 0}
    )
    assert set(story.merged["run"]) == set(story.one["run"])
    assert (story.merged["run"]["outcome"], story.merged["run"]["trigger"]) == ("success", "cli")
    for end, first in (("started", min), ("finished", max)):
        assert story.merged["run"][end] == first(part["run"][end] for part in story.four)


def test_each_repository_is_written_by_exactly_one_share(story):
    written = [{image["destination"].rpartition(":")[0] for image in part["images"]} for part in story.four]
    assert all(written)
    assert not any(one & other for one, other in combinations(written, 2))
    assert set().union(*written) == {f"{story.by_four.host}/{name}" for name in story.names.values()}


def test_each_share_fetches_each_of_its_blobs_once(story):
    wanted: Counter[str] = Counter()
    for index in range(SHARES):
        own = [
            name
            for name, new in story.names.items()
            if share_of(f"{story.by_four.host}/{new}", SHARES) == index
        ]
        wanted.update(set().union(*(linked(story.source.registry, name) for name in own)))
    assert gets(story.asked, "blob") == wanted
    assert max(wanted.values()) > 1


def test_a_share_is_the_same_by_flag_and_by_the_environment_of_a_job(story):
    for index, (part, log) in enumerate(zip(story.four, story.logs, strict=True)):
        repositories = {image["destination"].rpartition(":")[0] for image in part["images"]}
        assert part["run"]["shard"] == f"{index}/{SHARES}"
        assert {share_of(name, SHARES) for name in repositories} == {index}
        assert f" shard {index}/{SHARES} has {len(repositories)} of 10 rules\n" in log
        assert last_line(log).startswith("Synchronization finished, 0 tasks failed, cost ")


def test_killed_share_completes_when_it_is_restarted(source, registry, files, program):
    destination, corpus = registry(), source.corpus
    names = spread(corpus, destination, 2)
    rules = {f"{source.registry.host}/{name}": f"{destination.host}/{new}" for name, new in names.items()}
    share = Counter(share_of(f"{destination.host}/{new}", 2) for new in names.values()).most_common(1)[0][0]
    fast, slow = (
        files(rules, source.registry, destination),
        files(rules, destination, auth=slowed(source.registry, "2MiB")),
    )
    reports = [program.folder / f"report-{index}.json" for index in range(2)]

    def options(index: int) -> list[str]:
        return ["--shard", f"{index}/2", "--report", str(reports[index])]

    killed = program.start("sync", *slow, *options(share))
    watch(killed, destination.storage, until=lambda: stored_blobs(destination.storage) >= 10)
    assert killed.poll() is None, "it was not killed, it had ended"
    killed.kill()
    killed.wait()
    other = program.run("sync", *fast, *options(1 - share))
    incomplete = program.run("report", "merge", reports[1 - share])
    again = program.run("sync", *fast, *options(share))
    whole = program.run("report", "merge", *reports, "--output", program.folder / "whole.json")

    assert (other.returncode, again.returncode, whole.returncode) == (0, 0, 0)
    assert incomplete.returncode == 2
    assert f"the report of shard {share}/2 is missing" in incomplete.stderr
    merged = read_json(program.folder / "whole.json")
    assert merged["run"]["outcome"] == "success"
    assert len(merged["images"]) == len(corpus.images)
    assert whole_storage(destination.storage) == len(corpus.images)
    expected = {f"{names[image.repository]}:{image.tag}": image.digest for image in corpus.images}
    assert tags(destination.storage) == expected


# --- what is compared ---------------------------------------------------------------------------------------------


def everything(registry: Registry) -> dict[tuple[str, str], tuple[str, str, bytes]]:
    """Digest, media type and bytes of each tag's manifest, as the API gives them."""
    found = {}
    with registry.client() as client:
        for name in client.get("/v2/_catalog?n=1000").json()["repositories"]:
            for tag in client.get(f"/v2/{name}/tags/list").json()["tags"]:
                answer = client.get(f"/v2/{name}/manifests/{tag}", headers={"accept": MANIFEST_TYPES})
                digest, kind = (answer.headers[key] for key in ("docker-content-digest", "content-type"))
                found[name, tag] = digest, kind, answer.content
    return found


def blobs(registry: Registry) -> set[str]:
    """The digest of each blob and manifest that is stored."""
    return {path.parent.name for path in registry.storage.glob("docker/registry/v2/blobs/sha256/*/*/data")}


def linked(registry: Registry, repository: str) -> set[str]:
    """The blobs that a repository has."""
    folder = registry.storage / "docker/registry/v2/repositories" / repository / "_layers/sha256"
    return {f"sha256:{path.name}" for path in folder.iterdir()}


def images(report: Any) -> list[tuple[str, ...]]:
    """What a report tells of each image, but for the time it took and the port of the destination."""
    fields = ("source", "digest", "previous_digest", "outcome")
    return sorted(
        (image["destination"].partition("/")[2], *(str(image[field]) for field in fields))
        for image in report["images"]
    )
