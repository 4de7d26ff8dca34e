"""What was recorded of a Harbor is sent to the Harbor for tests: it answers the same."""

import httpx
import pytest

from tests.support.harbor import Harbor
from tests.support.harbor_answers import EXCHANGES, recorded
from tests.support.harbor_recordings import Contents, exchanges_of
from tests.support.harbor_replay import Player
from tests.support.harbor_stage import Stage, accounts_of, projects_of

CASES = sorted(path.stem for path in EXCHANGES.glob("*.json"))


@pytest.mark.parametrize("case", CASES)
async def test_recorded_requests_get_the_recorded_answers(case: str) -> None:
    exchanges = exchanges_of(recorded(case))
    contents = Contents(exchanges)
    async with Harbor(projects_of(exchanges), accounts_of(exchanges)) as harbor:
        stage = Stage(harbor, contents)
        blobs = harbor.blobs
        stage.prepare(exchanges, collecting=blobs.stuck if "stuck" in case else blobs.collecting)
        harbor.read_only = case == "read-only"
        if case == "missing-things":
            stage.put_image("mirror/app", "v1")
        if case == "list-project":
            fill_lists(stage)
        if case == "quota-at-index-with-attestations":
            stage.fill("q2", used=3890, quota=3892)  # bytes: both are 3.8 KiB
        player = Player(harbor, contents, exchanges)
        differences = []
        async with httpx.AsyncClient(trust_env=False, headers={"Accept-Encoding": "identity"}) as client:
            for exchange in exchanges:
                if case != "cookie":
                    client.cookies.clear()
                found = await player.play(client, exchange)
                differences += [f"{exchange.method} {exchange.path}: {each}" for each in found]
        assert not differences, "\n".join(differences)
        assert not harbor.unrecorded


def fill_lists(stage: Stage) -> None:
    """The repositories that the recorded lists name, and as many others as they count."""
    for project, names in {
        "kinds": ("a", "b", "c", "x/y/z/w"),
        "robots": ("d2", "docker"),
        "a": ("app",),
        "cache": ("src/app", "src/many", "src/more"),
    }.items():
        for name in names:
            stage.put_image(f"{project}/{name}", "1")
    for repository in ("kinds/multi", "robots/m2"):
        stage.put_image(repository, "1")
        stage.put_image(repository, "2")
    for repository in ("robots/app", "mirror/app", "open/app"):
        for tag, digest in TAGGED.items():
            stage.put_image(repository, tag, digest)
    stage.put_image("robots/x/y/z", "1", "d6be069d41ae043fbf2ccd8c14269e5a9aee0d0bff6f31d128e6e40a4e5db51b")


TAGGED = {
    "v1": "169d4663005f5c78eb3798f7a11942de7a323729cd5877512b2b5337e662d8f8",
    "v2": "ffb6c7c12807d46ba04003880693d94508ec6ae9f8279a604923111294f309d5",
    "v3": "90162a4d2d5b5becdf38407c35c165f2db0eb68284c6f76d09642478161c193e",
}
