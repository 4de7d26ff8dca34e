"""The cache of the repositories that were used last."""

from syncer.places.recent import Recent


def test_value_that_was_not_used_for_longest_is_made_again():
    made: list[str] = []

    def make(key: str) -> str:
        made.append(key)
        return key.upper()

    recent = Recent(make, limit=2)
    assert [recent[key] for key in ("a", "b", "a", "c", "a", "b")] == ["A", "B", "A", "C", "A", "B"]
    assert made == ["a", "b", "c", "b"]
