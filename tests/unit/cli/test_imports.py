"""Tests that a run imports no slow modules at startup."""

import subprocess
import sys

SLOW = """
    certifi croniter h11 httpcore jinja2 multiprocessing prometheus_client pygments re2 rich
    sqlite3 starlette tenacity uvicorn yaml
"""


def test_run_imports_no_optional_modules():
    code = "import sys, syncer.cli.once; print(*sorted(set(sys.argv[1].split()) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code, SLOW], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == []
