"""What holds for a whole registry, whichever repository is asked for."""

from syncer.config.settings import Account, HostSettings, Secret
from syncer.demo import Answer
from syncer.events import ConcurrencyChanged
from syncer.http.wire import ConnectionPool
from syncer.oci.reference import Repository
from syncer.registry.directory import RepositoryDirectory
from tests.support.wire import Recorder


async def test_how_much_a_registry_is_asked_at_once_is_told_for_all_its_accounts_together(memory):
    told = Recorder()
    accounts = {"ours": Account("ours", "user", Secret("password"))}
    answers = [Answer(429, {}, b""), Answer(404, {}, b"")]

    @memory.before
    async def throttle(_request):
        return answers.pop(0) if answers else None

    async with ConnectionPool() as transport:
        directory = RepositoryDirectory(
            account_for=lambda name: accounts.get(name.path),
            settings_for=lambda _name: HostSettings(plain_http=True),
            transport=transport,
            observer=told,
            connections=4,
        )
        for path in ("ours", "others", "others2"):
            directory.source(Repository(memory.host, path))
        await directory.source(Repository(memory.host, "others")).find("1")
    host = memory.host
    assert told.of(ConcurrencyChanged) == [
        ConcurrencyChanged(host, 4),
        ConcurrencyChanged(host, 8),
        ConcurrencyChanged(host, 6),
    ]
    assert not answers
