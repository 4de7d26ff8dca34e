"""The table of how fast the daemon answers."""

from benchmarks.answering import PATHS, report


def test_each_path_has_its_median_its_99th_percentile_and_its_slowest_answer():
    took = {path: [0.001] * 98 + [0.05, 0.2] for path in PATHS}
    lines = report(took).splitlines()
    assert lines[2].split() == ["|", "`/`", "|", "100", "|", "1", "|", "200", "|", "200", "|"]
    assert lines[-1].split()[1:4] == ["`all`", "|", "900"]
    assert len(lines) == 2 + len(PATHS) + 1
