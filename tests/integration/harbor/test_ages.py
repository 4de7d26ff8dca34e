"""Selections by age with a Harbor as the source. All of its tags were pushed at one time, as it says."""

from collections.abc import Callable
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from syncer.demo import MemoryRegistry
from syncer.engine import listing
from tests.integration.harbor.conftest import PULLER, add_image
from tests.support.harbor import Harbor
from tests.support.harbor_api import _THEN
from tests.support.wire import Net

DAY = 86400
PUSHED = datetime.fromisoformat(_THEN).timestamp()


@pytest.fixture
def five_days_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "time", SimpleNamespace(time=lambda: PUSHED + 5 * DAY))


def rule(**tags: Any) -> dict[str, object]:
    return {"harbor/mirror/team/app": {"to": "plain/copy", "tags": tags}}


@pytest.mark.usefixtures("five_days_later")
async def test_age_counts_from_the_push_time_of_harbor(
    net: Net, harbor: Harbor, plain: MemoryRegistry
) -> None:
    for tag in ("v1", "v2"):
        add_image(harbor, "mirror/team/app", tag)
    assert (await net.sync(rule(min_age="6d"))).counts == (0, 0, 0)
    assert (await net.sync(rule(max_age="6d", latest=1))).counts == (1, 0, 0)
    assert plain.store.tags("copy") == ["v2"]


@pytest.mark.usefixtures("five_days_later")
async def test_age_counts_from_the_creation_for_an_account_that_may_not_list_artifacts(
    net: Net, harbor: Harbor, plain: MemoryRegistry, log_in: Callable[..., None]
) -> None:
    add_image(harbor, "mirror/team/app", "v1")
    log_in(PULLER)
    assert (await net.sync(rule(max_age="6d"))).counts == (0, 0, 0)
    assert (await net.sync(rule(min_age="6d"))).counts == (1, 0, 0)
    assert plain.store.tags("copy") == ["v1"]
