"""The split of the work: even, the same everywhere, and never between rules that meet at a destination."""

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.config.rule_reader import rules_from
from syncer.oci.reference import Repository
from syncer.rules.shard import WHOLE, InvalidShard, Shard, share_of

NAMES = [f"r.io/team-{number % 97}/app-{number}" for number in range(10_000)]


@pytest.mark.parametrize("shares", [2, 4, 7, 16])
def test_shares_are_even(shares):
    counts = Counter(share_of(name, shares) for name in NAMES)
    fair = len(NAMES) / shares
    assert sorted(counts) == list(range(shares))
    assert max(abs(count - fair) for count in counts.values()) < 4 * fair**0.5  # four deviations of chance


@pytest.mark.parametrize("shares", [1, 3, 8, 15])
def test_one_more_share_takes_its_part_and_moves_nothing_else(shares):
    before = [share_of(name, shares) for name in NAMES]
    after = [share_of(name, shares + 1) for name in NAMES]
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    fair = len(NAMES) / (shares + 1)
    assert set(moved) == {shares}
    assert abs(len(moved) - fair) < 4 * fair**0.5


def test_a_repository_and_its_text_are_one():
    assert all(share_of(Repository.parse(name), 5) == share_of(name, 5) for name in NAMES[:100])


def test_the_split_is_the_same_for_ever():
    assert [share_of(name, 1000) for name in NAMES[:6]] == KNOWN


def test_the_split_does_not_depend_on_the_process():
    code = f"from syncer.rules.shard import share_of; print([share_of(n, 1000) for n in {NAMES[:6]}])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(KNOWN)


KNOWN = [962, 535, 973, 269, 842, 279]


# --- rules --------------------------------------------------------------------------------------------------------

_images = st.dictionaries(
    st.integers(0, 40).map(lambda number: f"s.io/app-{number}"),
    st.lists(st.integers(0, 25).map(lambda number: f"d.io/app-{number}"), min_size=1, max_size=3),
    max_size=25,
)


@given(images=_images, shares=st.integers(1, 9))
def test_each_rule_is_in_one_share_and_rules_that_meet_are_in_the_same(images, shares):
    rules = rules_from(images)
    parts = [Shard(index, shares).rules_of(rules) for index in range(shares)]
    assert sorted((rule for part in parts for rule in part), key=lambda rule: rule.number) == list(rules)
    assert all(list(part) == sorted(part, key=lambda rule: rule.number) for part in parts)
    written = [{each.repository for rule in part for each in rule.destinations} for part in parts]
    assert sum(map(len, written)) == len(set().union(*written))


@given(images=_images, shares=st.integers(2, 9))
def test_a_group_goes_where_its_first_destination_belongs(images, shares):
    rules = rules_from(images)
    for index in range(shares):
        met: set[Repository] = set()
        for rule in Shard(index, shares).rules_of(rules):
            destinations = {each.repository for each in rule.destinations}
            if not met & destinations and share_of(rule.destinations[0].repository, shares) != index:
                later = [other for other in rules if other.number > rule.number]
                assert any(destinations & {each.repository for each in other.destinations} for other in later)
            met |= destinations


def test_rules_without_a_common_destination_are_parted_also_when_their_source_is_the_same():
    rules = rules_from({f"s.io/app:{number}": f"d.io/app-{number}" for number in range(100)})
    assert all(len(Shard(index, 4).rules_of(rules)) > 10 for index in range(4))


def test_a_chain_of_common_destinations_holds_all_its_rules_together():
    rules = rules_from({f"s.io/app-{n}": [f"d.io/app-{n}", f"d.io/app-{n + 1}"] for n in range(50)})
    sizes = [len(Shard(index, 4).rules_of(rules)) for index in range(4)]
    assert sizes[share_of("d.io/app-0", 4)] == 50


def test_all_of_it_is_one_share():
    rules = rules_from({"s.io/a": "d.io/a", "s.io/b": "d.io/b"})
    assert WHOLE.rules_of(rules) == rules
    assert WHOLE.whole


# --- text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["0/1", "0/4", "3/4", "999/1000"])
def test_a_share_is_read_as_it_is_written(text):
    assert str(Shard.parse(f" {text} ")) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found ''"),
        ("4", "found '4'"),
        ("/4", "found '/4'"),
        ("1/", "found '1/'"),
        ("-1/4", "found '-1/4'"),
        ("1/4/5", "found '1/4/5'"),
        ("1.0/4", "found '1.0/4'"),
        ("१/4", "found '१/4'"),
        ("0/0", "found '0/0'"),
        ("4/4", "found '4/4' (the last of 4 is 3)"),
        ("0/1001", "expected 1000 shares at most, found 1001"),
        ("9" * 1000 + "/4", "expected I/N with 0 <= I < N, such as 0/4, found '9999999999999999999999999999999999999999'"),
    ],
)  # fmt: skip
def test_invalid_shard_is_an_error(text, said):
    with pytest.raises(InvalidShard) as error:
        Shard.parse(text)
    assert said in str(error.value)
