"""What `save` and `load` have in common: a run with layouts that were opened before."""

from collections.abc import Callable

import msgspec

from syncer.cli.once import run_config, run_files
from syncer.cli.once_options import OnceOptions
from syncer.config import Config
from syncer.places.content import StreamsBlobs
from syncer.places.layout.open import Layouts
from syncer.run import RunResult


class Prepared(msgspec.Struct, frozen=True):
    """What a run needs: the checked files, the layouts, and the stream of blobs if there is one.

    `complete` is called with the result, to write what is written last. It blocks, and may raise `OSError`.
    """

    config: Config
    layouts: Layouts
    stream: StreamsBlobs | None = None
    complete: Callable[[RunResult], None] | None = None


def run_prepared(options: OnceOptions, prepare: Callable[[], Prepared]) -> int:
    """Run what `prepare` returns. Return the exit code. `prepare` raises `ConfigError`."""
    made: list[Prepared] = []

    def read() -> Config:
        made.append(prepare())
        return made[0].config

    async def execute(config: Config) -> int:
        prepared = made[0]
        return await run_config(
            config, options, prepared.complete, layouts=prepared.layouts, stream=prepared.stream
        )

    try:
        return run_files(options, execute, read)
    finally:
        for prepared in made:
            prepared.layouts.close()
