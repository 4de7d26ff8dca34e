"""The program where it may open few files."""

import subprocess
from pathlib import Path

import pytest

from tests.e2e.jobs import names
from tests.support.judge import judge
from tests.support.program import Program


def limited(program: Program, limit: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The program under `ulimit`."""
    command = program._command(arguments)
    return subprocess.run(
        ["sh", "-c", f'ulimit {limit} && exec "$@"', "sh", *command],
        env=program._environment(None),
        cwd=program.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("limit", ["-n 64", "-S -n 64", "-n 256"])
def test_few_descriptors_slow_a_run_down_and_break_nothing(registry, files, fill, program, limit):
    source, destination = registry(), registry()
    corpus = fill(source)
    rules = corpus.rules(source.host, destination.host)
    arguments = files(rules, source, destination)

    done = limited(program, limit, "sync", *arguments, "--proc", "50", "--retries", "0")

    assert done.returncode == 0, done.stderr
    assert "cannot" not in done.stderr
    judge(source, destination, names(corpus))
