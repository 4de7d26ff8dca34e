"""Tests of registry limits that are divided among several processes."""

import pytest

from syncer.accounts.settings import HostSettings
from syncer.cli.files import sharded
from syncer.oci.reference import Repository
from syncer.rules.shard import WHOLE, Shard

AUTH = {
    "a.io": {"max_connections": 10, "requests_per_second": 10, "bandwidth": "20MiB", "plain_http": True},
    "a.io/team": {"username": "us", "password": "s3cret", "max_connections": 3},
    "b.io": {"create": True},
}


@pytest.fixture
def parts(folder):
    """`parts(name, shares)` are the settings that each share has for a repository."""
    config = folder.load(auth=AUTH, images={})

    def settings(name, shares):
        configs = [sharded(config, Shard(index, shares)) for index in range(shares)]
        return [each.auth.settings_for(Repository.parse(name)) for each in configs]

    return settings


def test_rate_and_bandwidth_are_divided_equally(parts):
    for part in parts("a.io/app", 4):
        assert part.requests_per_second == 2.5
        assert part.bandwidth == 5 << 20
        assert part.plain_http


def test_connections_are_divided_without_remainder(parts):
    assert [part.max_connections for part in parts("a.io/app", 4)] == [3, 3, 2, 2]


def test_each_share_has_at_least_one_connection(parts):
    assert [part.max_connections for part in parts("a.io/team/app", 4)] == [1, 1, 1, 1]


def test_unlimited_stays_unlimited(parts):
    assert parts("b.io/app", 3) == [HostSettings(create=True)] * 3
    assert parts("c.io/app", 3) == [HostSettings()] * 3


def test_divided_bandwidth_is_at_least_one():
    assert HostSettings(bandwidth=2).part(1, 3).bandwidth == 1


def test_accounts_are_not_divided(folder):
    config = folder.load(auth=AUTH, images={})
    name = Repository.parse("a.io/team/app")
    assert sharded(config, Shard(1, 4)).auth.account_for(name) == config.auth.account_for(name) is not None


def test_fewer_connections_than_shares_is_a_warning(folder):
    config = sharded(folder.load(auth=AUTH, images={}), Shard(0, 4))
    (warning,) = map(str, config.warnings)
    assert warning.endswith("max_connections is 3, but must be at least 4: each of the 4 shares needs one")
    assert '"a.io/team"' in warning
    assert not sharded(folder.load(auth=AUTH, images={}), Shard(0, 3)).warnings


def test_single_process_keeps_the_limits(folder):
    config = folder.load(auth=AUTH, images={})
    assert sharded(config, WHOLE) is config
