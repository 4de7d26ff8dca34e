"""axe-core, the accessibility checker, in a page of the browser."""

import json
from functools import cache
from pathlib import Path

from tests.support.browser import Page

_FOLDER = Path(__file__).parents[1] / "vendor/axe-core"


@cache
def _script() -> str:
    return (_FOLDER / "axe.min.js").read_text()


def violations(page: Page) -> list[str]:
    """Check the page as it is now, with all rules that axe-core has on by default. Return a text for each violation."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(f"void (() => {{ {_script()} }})()")
    found = json.loads(
        page.evaluate(
            "axe.run(document, {resultTypes: ['violations']}).then(r => JSON.stringify(r.violations))"
        )
    )
    return [
        f"{rule['id']}: {node['html']} {node['failureSummary']}" for rule in found for node in rule["nodes"]
    ]
