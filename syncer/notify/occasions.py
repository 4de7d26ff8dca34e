"""The occasions of notifications: the outcomes of a run, and `recovery`."""

from typing import Literal, get_args

Occasion = Literal["success", "failure", "partial", "interrupted", "recovery"]
OCCASIONS: tuple[Occasion, ...] = get_args(Occasion)
USUALLY: tuple[Occasion, ...] = ("failure", "partial", "recovery")
