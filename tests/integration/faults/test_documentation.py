"""The tests that docs/registries.md names exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_tests_named_in_registries_page_exist():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/registries.md").read_text()))
    written = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 60
    assert sorted(name for name in named if f"def {name}(" not in written) == []
