"""What becomes of the attestations in an index at a destination."""

from enum import StrEnum


class Attestations(StrEnum):
    """As a rule, `--attestations` or the auth file asks for it.

    `AUTO` keeps them without a platform filter and drops them with one. Where it keeps them and the destination refuses
    them, the image goes there without.
    """

    KEEP = "keep"
    DROP = "drop"
    AUTO = "auto"
