"""Programs under measurement: how they are called, and what is told of how they ended."""

import json
import shlex
import sys

import pytest

from benchmarks.cases import CASES, ONE_TRANSFER, SKOPEO, Contender, CopyCase
from benchmarks.contenders import copy_programs
from benchmarks.processes import helper, run_measured, run_together

REGCTL = Contender("regctl", "regctl", proc=24)


def regctl_hosts(home):
    return json.loads((home / ".regctl/config.json").read_text())["hosts"]


def test_syncer_is_told_to_copy_each_repository(tmp_path):
    [(command, _)] = copy_programs(ONE_TRANSFER, tmp_path, ["corpus/a", "corpus/b"], "one:1", "two:2")
    images = json.loads((tmp_path / "images.json").read_text())
    assert images == {"one:1/corpus/a": "two:2/corpus/a", "one:1/corpus/b": "two:2/corpus/b"}
    assert command[-2:] == ["--proc", "1"]


def test_each_share_is_a_program_with_a_folder_of_its_own(tmp_path):
    programs = copy_programs(Contender("two", shares=2), tmp_path, ["corpus/a"], "one:1", "two:2")
    assert [command[-2:] for command, _ in programs] == [["--shard", "0/2"], ["--shard", "1/2"]]
    assert len({folder for _, folder in programs}) == 2


def test_programs_at_once_are_measured_together(tmp_path):
    pauses = [(["sleep", "0.2"], tmp_path / "one"), (["sh", "-c", "exit 3"], tmp_path / "two")]
    used = run_together(pauses, limit=60)
    assert used.seconds >= 0.2
    assert used.problem.startswith("exit code 3")


def test_skopeo_is_told_to_keep_the_names(tmp_path):
    [(command, _)] = copy_programs(SKOPEO, tmp_path, ["corpus/a", "corpus/b"], "one:1", "two:2")
    assert command[-1] == "two:2/corpus"
    with pytest.raises(ValueError, match="several folders"):
        copy_programs(SKOPEO, tmp_path, ["corpus/a", "other/b"], "one:1", "two:2")


def test_regctl_copies_repository_by_repository(tmp_path):
    [(command, home)] = copy_programs(REGCTL, tmp_path, ["corpus/a", "corpus/b"], "one:1", "two:2")
    assert home == tmp_path
    first, second = (shlex.split(call) for call in command[-1].split(" && "))
    assert first[1:] == [
        "repo",
        "copy",
        "--concurrent",
        "24",
        "-v",
        "error",
        "one:1/corpus/a",
        "two:2/corpus/a",
    ]
    assert second[-2:] == ["one:1/corpus/b", "two:2/corpus/b"]


def test_regctl_without_tls_finds_both_hosts_in_its_home(tmp_path):
    copy_programs(REGCTL, tmp_path, ["corpus/a"], "one:1", "two:2")
    assert regctl_hosts(tmp_path) == {
        host: {"hostname": host, "reqConcurrent": 24, "tls": "disabled"} for host in ("one:1", "two:2")
    }


def test_regctl_with_tls_trusts_the_ca(tmp_path):
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text("PEM")
    copy_programs(REGCTL, tmp_path / "home", ["corpus/a"], "one:1", "two:2", ca_file=ca_file)
    for host in regctl_hosts(tmp_path / "home").values():
        assert (host["tls"], host["regcert"]) == ("enabled", "PEM")


@pytest.mark.parametrize(
    "case", [case for case in CASES if isinstance(case, CopyCase)], ids=lambda case: case.name
)
def test_peers_get_as_many_transfers_as_the_first_contender(case):
    added = case.with_peers().contenders[len(case.contenders) :]
    assert [peer.program for peer in added] == ["regsync", "crane", "regctl"]
    assert {peer.proc for peer in added} == {case.contenders[0].proc}


def test_the_time_cpu_and_memory_of_a_program_are_its_own(tmp_path):
    work = "import time; b = b'x' * 60_000_000; time.sleep(0.05); sum(range(300_000))"
    usage = run_measured([sys.executable, "-I", "-S", "-c", work], tmp_path, limit=60)
    assert usage.problem == ""
    assert usage.seconds >= 0.05
    assert usage.cpu_seconds > 0
    small = run_measured([sys.executable, "-I", "-S", "-c", "pass"], tmp_path, limit=60)
    # This process, which has imported the tests, has more than that.
    assert small.peak_bytes < 40_000_000 < usage.peak_bytes


def test_a_program_that_fails_is_a_problem_with_its_last_words(tmp_path):
    usage = run_measured(["sh", "-c", "echo no such thing >&2; exit 3"], tmp_path, limit=60)
    assert usage.problem == "exit code 3: no such thing"


def test_a_program_that_takes_too_long_is_stopped(tmp_path):
    usage = run_measured(["sleep", "60"], tmp_path, limit=0.2)
    assert usage.timed_out
    assert "stopped after" in usage.problem


def test_a_helper_tells_what_it_did_when_it_ends(tmp_path):
    with helper("benchmarks.wan_proxy", "--to", "127.0.0.1:1", folder=tmp_path) as proxy:
        assert proxy.host.startswith("127.0.0.1:")
    assert proxy.told["connections"] == 0


def test_a_helper_that_does_not_start_is_an_error(tmp_path):
    with (
        pytest.raises(RuntimeError, match="does not start"),
        helper("benchmarks.wan_proxy", folder=tmp_path),
    ):
        pass
