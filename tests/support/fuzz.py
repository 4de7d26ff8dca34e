"""Runs the tests of parsers with generated inputs for minutes: what `scripts/fuzz` starts.

Everything happens in this process, so that SIGSTOP and SIGCONT pause all of it. Only CPU time counts.
"""

import argparse
import io
import os
import random
import re
import signal
import sys
import threading
import time
from contextlib import redirect_stdout
from dataclasses import dataclass

import pytest

_ANSWERS = "tests/integration/faults/test_generated_answers.py"
_CONFIG = "tests/unit/config"
_LAYOUT = "tests/unit/places/layout"
TARGETS = {
    "http": [
        "tests/unit/http/test_wire_differential.py::test_response_is_parsed_as_httpx_parses_it",
        "tests/unit/http/test_wire.py::test_response_is_the_same_for_any_segmentation",
    ],
    "challenge": ["tests/unit/http/test_challenges.py::test_no_challenge_text_raises"],
    "link": [f"{_ANSWERS}::test_links", f"{_ANSWERS}::test_next_link_is_found_in_any_valid_header"],
    "location": [f"{_ANSWERS}::test_locations"],
    "retry-after": [f"{_ANSWERS}::test_retry_after"],
    "range": [
        f"{_ANSWERS}::test_content_ranges",
        f"{_ANSWERS}::test_ranges_of_sessions",
        f"{_ANSWERS}::test_least_lengths_of_chunks",
    ],
    "manifest": [f"{_ANSWERS}::test_manifests_and_indexes", f"{_ANSWERS}::test_manifests_of_any_bytes"],
    "error": [f"{_ANSWERS}::test_error_answers"],
    "auth": [
        f"{_CONFIG}/test_auth.py::test_any_json_is_an_auth_file_or_a_problem",
        f"{_CONFIG}/test_auth.py::test_the_longest_matching_key_always_wins",
        "tests/unit/accounts/test_credentials.py::test_no_file_content_raises",
    ],
    "images": [
        f"{_CONFIG}/test_rules.py::test_any_text_as_a_source_or_destination_is_a_rule_or_a_problem",
        f"{_CONFIG}/test_rules.py::test_any_json_is_rules_or_problems",
        f"{_CONFIG}/test_files.py::test_json_is_read_as_the_standard_library_reads_it",
        f"{_CONFIG}/test_files.py::test_any_text_is_either_read_or_a_problem",
        f"{_CONFIG}/test_files.py::test_text_made_of_punctuation_is_either_read_or_a_problem",
    ],
    "forms": [
        f"{_CONFIG}/test_forms.py::test_any_document_gives_rules_or_problems",
        f"{_CONFIG}/test_forms.py::test_any_text_gives_rules_or_problems",
    ],
    "tar": [
        f"{_LAYOUT}/test_tar_headers.py::test_members_are_those_that_tarfile_wrote",
        f"{_LAYOUT}/test_tar_headers.py::test_damaged_archive_is_refused_or_read_within_its_limits",
    ],
    "layout": [
        f"{_LAYOUT}/test_index.py::test_any_entries_are_read_or_reported",
        f"{_LAYOUT}/test_index.py::test_any_bytes_are_an_index_or_refused",
    ],
}
_ROUND = {"EXAMPLES": "10", "EXAMPLE_SECONDS": "10"}
_OPTIONS = [
    *("-q", "-p", "no:xdist", "-p", "no:cacheprovider", "--no-header", "--tb=short", "--capture=sys"),
    "--hypothesis-show-statistics",
]
_HANG_SECONDS = 300
"""CPU time of a round after which it is ended. Rounds take seconds."""
_PAUSE_SECONDS = 5
_COUNT = re.compile(r"- (\d+) passing, (\d+) failing, and (\d+) invalid test cases")


class Pauses(threading.Thread):
    """Counts how often the process was stopped. Time limits of tests then mean nothing."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.count = 0

    def run(self) -> None:
        while True:
            clock, cpu = time.monotonic(), time.process_time()
            time.sleep(1)
            passed, worked = time.monotonic() - clock, time.process_time() - cpu
            # If a call into C hangs, this thread waits too, but CPU time passes.
            self.count += passed - worked > _PAUSE_SECONDS


class Failures:
    """A plugin of pytest: which tests failed, without their parameters."""

    def __init__(self) -> None:
        self.tests: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.tests.add(report.nodeid.partition("[")[0])


@dataclass
class Round:
    """One run of the tests of a target."""

    examples: int
    failed: set[str]
    output: str


def run_round(tests: list[str], without: set[str], seed: int) -> Round:
    """Run `tests` once, except those that have failed before.

    All tests count as failed if one of them hangs, if there is no such test, or if none generates examples.
    """
    failures, output = Failures(), io.StringIO()
    deselected = [f"--deselect={name}" for name in without]
    signal.setitimer(signal.ITIMER_PROF, _HANG_SECONDS)
    with redirect_stdout(output):
        code = pytest.main(
            [*_OPTIONS, f"--hypothesis-seed={seed}", *deselected, *tests],
            plugins=[failures],
        )
    rest, _ = signal.setitimer(signal.ITIMER_PROF, 0)
    if code == pytest.ExitCode.INTERRUPTED and rest:
        raise KeyboardInterrupt
    counts = [sum(map(int, found)) for found in _COUNT.findall(output.getvalue())]
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or not counts:
        failures.tests.update(tests)
    return Round(sum(counts), failures.tests, output.getvalue())


def fuzz(target: str, minutes: float, pauses: Pauses) -> int:
    """Run rounds until `minutes` of CPU time have passed or each test has failed. Return the number of failures."""
    start, examples, failed = time.process_time(), 0, set[str]()
    seed = new_seed()
    while time.process_time() - start < minutes * 60 and not failed.issuperset(TARGETS[target]):
        pauses_before = pauses.count
        done = run_round(TARGETS[target], failed, seed)
        if done.failed and pauses.count > pauses_before:
            tell(f"{target}: seed {seed} is repeated, because a pause interrupted it")
            continue
        if done.failed:
            failed |= done.failed
            tell(f"{target}: failure with seed {seed}\n{done.output}")
        examples += done.examples
        seed = new_seed()
    used = (time.process_time() - start) / 60
    tell(f"{target}: {examples} examples, {len(failed)} failures in {used:.1f} minutes of CPU time")
    return len(failed)


def new_seed() -> int:
    return random.SystemRandom().getrandbits(32)


def tell(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - it is a script


def main() -> int:
    """Exit status 1 if a test failed."""
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz", description="Run the tests of parsers with generated inputs for minutes each."
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all, or some of: {', '.join(TARGETS)}")
    parser.add_argument("--minutes", type=float, default=10, help="CPU time for each target (default: 10)")
    chosen = parser.parse_args()
    if unknown := set(chosen.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    os.environ.update(_ROUND)  # read when the first test is imported
    signal.signal(signal.SIGPROF, signal.default_int_handler)
    pauses = Pauses()
    pauses.start()
    failures = sum(fuzz(target, chosen.minutes, pauses) for target in chosen.targets or TARGETS)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
