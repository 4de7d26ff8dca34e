"""Which tags of a destination a rule may remove."""

import msgspec

DEFAULT_LIMIT = 0.1


class PruneRule(msgspec.Struct, frozen=True):
    """`keep` are globs of tags that are never removed.

    `limit` is the largest fraction of a repository's tags that one run removes. With `foreign`, tags that this program
    did not write may be removed too.
    """

    keep: tuple[str, ...] = ()
    limit: float = DEFAULT_LIMIT
    foreign: bool = False

    def most_of(self, tags: int) -> int:
        """Return how many of a repository's `tags` may be removed: the limit rounded down, and at least one."""
        return max(1, int(tags * self.limit + 1e-9))
