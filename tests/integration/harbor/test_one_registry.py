"""Copies within one Harbor."""

from syncer.events import RequestSent
from tests.integration.harbor.conftest import add_image
from tests.support.harbor import Harbor
from tests.support.wire import Net


async def test_copy_within_one_registry_mounts_every_blob_and_moves_no_bytes(
    net: Net, harbor: Harbor
) -> None:
    for tag in ("v1", "v2", "v3"):
        add_image(harbor, "open/app", tag)
    harbor.forget()
    outcome = await net.sync({"harbor/open/app": "harbor/mirror/app"})

    assert outcome.counts == (3, 0, 0)
    requests = [event for event in outcome.told.of(RequestSent) if event.registry == harbor.host]
    assert len(requests) <= 20
    assert not harbor.moved
