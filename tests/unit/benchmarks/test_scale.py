"""The model of many shares: it loses nothing, it is the same every time, and the page says what it computes."""

from dataclasses import replace

import pytest

from benchmarks.corpus import FOR_TESTS, write_corpus
from benchmarks.scale import tables
from benchmarks.scale.cases import CASES
from benchmarks.scale.content import Assumed, Blobs, assumed_content, corpus_content
from benchmarks.scale.fit import FITTED, costs, median, predictions
from benchmarks.scale.large import run, world
from benchmarks.scale.measured import Measured
from benchmarks.scale.model import Cost, Lane, Site, World, simulate, throughputs
from benchmarks.scale.work import Kind, split, work_of
from syncer.rules.shard import share_of

KINDS: tuple[Kind, ...] = ("cold", "same", "changed")
SMALL = Assumed(repositories=300, tags=6_000, bases=20, base_versions=10)
HOST = "registry.example"


@pytest.fixture(scope="module")
def measured():
    return Measured.read()


@pytest.fixture(scope="module")
def content():
    return assumed_content(SMALL)


@pytest.fixture(scope="module")
def given(measured):
    return world(costs(measured))


def works(content, kind, shares):
    return [work_of(part, content, kind) for part in split(content, HOST, shares)]


# --- what there is ------------------------------------------------------------------------------------------------


def test_content_has_the_tags_that_are_asked_for_and_is_the_same_every_time(content):
    assert content.tags == 6_000
    assert len(content.repositories) == 300
    assert assumed_content(SMALL) == content
    assert assumed_content(replace(SMALL, seed="other")) != content


def test_a_corpus_is_counted_as_it_is(tmp_path):
    corpus = write_corpus(tmp_path, FOR_TESTS)
    content = corpus_content(FOR_TESTS)
    work = work_of(content.repositories, content, "cold")
    assert content.tags == work.tags == len(corpus.images)
    assert work.repositories == len(corpus.repositories)
    assert work.manifests == len(corpus.manifests)
    assert work.moved.count == len(corpus.blobs)
    assert work.moved.nbytes == content.nbytes == sum(corpus.blobs.values())


# --- what the shares have to do -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shares", [1, 3, 16])
def test_every_tag_is_done_once_however_many_shares_there_are(content, kind, shares):
    found = works(content, kind, shares)
    assert sum(work.tags for work in found) == content.tags
    assert sum(work.repositories for work in found) == len(content.repositories)
    assert sum(work.manifests for work in found) == pytest.approx(works(content, kind, 1)[0].manifests)


@pytest.mark.parametrize("shares", [1, 4, 64])
def test_the_split_is_that_of_the_program(content, shares):
    parts = split(content, HOST, shares)
    for share, part in enumerate(parts):
        assert all(share_of(f"{HOST}/{repository.name}", shares) == share for repository in part)


def test_one_share_downloads_nothing_twice_and_more_shares_what_they_have_in_common(content):
    pulled = [sum(work.moved.nbytes for work in works(content, "cold", shares)) for shares in (1, 2, 8, 64)]
    assert pulled[0] == pytest.approx(content.nbytes)
    assert pulled == sorted(pulled)
    # At worst, each repository brings all that it has.
    at_most = sum(
        repository.own.nbytes + sum(content.shared[group].nbytes for group in repository.shared)
        for repository in content.repositories
    )
    assert content.nbytes < pulled[-1] <= at_most


def test_what_is_not_downloaded_again_is_mounted(content):
    for shares in (1, 8):
        found = works(content, "cold", shares)
        placed = sum(work.mounts + work.moved.count for work in found)
        assert placed == pytest.approx(
            sum(
                repository.own.count + sum(content.shared[group].count for group in repository.shared)
                for repository in content.repositories
            )
        )


def test_a_run_with_nothing_to_do_asks_once_for_each_tag_and_side(content):
    (work,) = works(content, "same", 1)
    assert work.source_requests == work.destination_requests == content.tags + len(content.repositories)
    assert work.moved == Blobs()


# --- how long it takes --------------------------------------------------------------------------------------------


def test_a_lane_of_delays_alone_runs_at_workers_over_delay():
    assert throughputs([Lane("short requests", 1000, 24, 0.12, {}, 0)]) == [pytest.approx(200)]


def test_no_station_serves_more_than_it_can():
    lanes = [
        Lane("transfers", 1000, 24, 0.001, {"registry": 0.01, f"thread {n}": 0.001}, 0) for n in range(8)
    ]
    rates = throughputs(lanes)
    assert sum(rates) <= 100
    assert sum(rates) == pytest.approx(100, rel=0.02)
    assert max(rates) == pytest.approx(min(rates), rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_run_takes_the_same_time(content, given, kind):
    assert run(content, kind, 5, given) == run(content, kind, 5, given)


@pytest.mark.parametrize("kind", KINDS)
def test_better_lines_registries_and_programs_never_take_longer(content, given, kind):
    base = run(content, kind, 8, given).seconds
    source, destination = given.source, given.destination
    for better in (
        replace(given, source=replace(source, rtt=source.rtt / 2)),
        replace(given, source=replace(source, rate=source.rate * 2)),
        replace(given, source=replace(source, line=source.line * 2)),
        replace(given, source=replace(source, cores=source.cores * 2)),
        replace(given, destination=replace(destination, rtt=destination.rtt / 2)),
        replace(given, destination=replace(destination, cores=destination.cores * 2)),
        replace(given, program=Cost()),
        replace(given, proc=given.proc * 2),
    ):
        # Its grain: lanes that end at nearly the same time are taken to end together.
        assert run(content, kind, 8, better).seconds <= base * 1.01


def test_a_share_more_helps_where_nothing_is_shared_and_work_is_even(given):
    (work,) = works(assumed_content(replace(SMALL, repositories=50)), "same", 1)
    alone = replace(
        given, source=replace(given.source, cores=0), destination=replace(given.destination, cores=0)
    )
    assert simulate(alone, [work] * 4).seconds == pytest.approx(simulate(alone, [work]).seconds)


def test_shares_on_one_machine_get_no_more_than_its_cores(content):
    cost = Cost(0.002, 0.002)
    near = World(Site(0, 0, cost), Site(0, 0, cost), cost, start=0.5, proc=6, cores=2)
    found = [simulate(near, works(content, "same", shares)).seconds for shares in (1, 2, 8)]
    # Two requests of 4 ms each for every tag, on two cores.
    at_least = (2 * (6_000 + 300) * 0.004) / 2
    assert min(found) >= at_least
    assert found[2] > found[1]  # only the starts are more


def test_no_run_is_faster_than_the_line(content, given):
    for shares in (1, 16, 40):
        outcome = run(content, "cold", shares, given)
        assert outcome.seconds >= outcome.nbytes / given.source.line
        assert outcome.nbytes / outcome.seconds <= shares * given.proc * given.source.rate * 1.3


# --- what was measured, and the page ------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_run_that_was_measured_is_counted_as_the_model_counts(measured, case):
    predicted = predictions(measured, case)
    assert len(predicted) >= 3
    for each in predicted:
        assert sum(each.run.source.values()) == sum(work.source_requests for work in each.works)
        assert sum(each.run.destination.values()) == sum(work.destination_requests for work in each.works)
        # Blobs are counted exactly; the model leaves the bytes of manifests out.
        assert sum(work.moved.nbytes for work in each.works) == pytest.approx(each.run.pulled, rel=0.01)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name not in FITTED], ids=lambda case: case.name
)
def test_the_model_is_within_a_fifth_of_every_run_that_it_was_not_fitted_to(measured, case):
    for each in predictions(measured, case):
        assert abs(each.error) <= 0.2


@pytest.mark.parametrize("name", FITTED)
def test_the_fit_gives_the_cpu_of_the_case_it_was_made_from(measured, name):
    (case,) = (case for case in CASES if case.name == name)
    fitted = median(predictions(measured, case))
    assert fitted.cpu == pytest.approx(fitted.run.cpu["program"], rel=0.01)


def test_the_page_says_what_is_computed_from_the_measurements(measured):
    page = tables.read()
    assert page["costs"] == tables.cells(tables.costs_table(measured))
    assert page["measured"] == tables.cells(tables.measured_table(measured))
    assert page["elsewhere"] == tables.cells(tables.elsewhere_table(measured))
    assert page["proc"][:2] == tables.cells(tables.proc_table(measured, procs=[6]))
    for kind in KINDS:
        # Every other number of shares takes seconds.
        computed = tables.cells(tables.large_table(measured, kind, shares=[1, 8]))
        assert all(row in page[kind] for row in computed)
        assert len(page[kind]) == 10
