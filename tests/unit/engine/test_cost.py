"""What a small blob costs beside its requests: calls are counted, not timed."""

import inspect
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import anyio

import syncer
from syncer.demo.images import make_image, make_layer, noise

OURS = tuple(f"{Path(syncer.__file__).parent / name}/" for name in ("engine", "places"))
ANYIO = f"{Path(anyio.__file__).parent}/"
NOT_PLAIN = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
SCOPES = {"create_task_group", "move_on_after", "fail_after", "CancelScope.__new__"}
IMAGES, LAYERS = 10, 4
BLOBS = IMAGES * (LAYERS + 1)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the plain functions of the engine that are called, and the scopes of anyio that it makes."""
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _argument: object) -> None:
        if event != "call":
            return
        code, caller = frame.f_code, frame.f_back
        # A coroutine is called again for each of its waits: that depends on the network.
        if code.co_filename.startswith(OURS) and not code.co_flags & NOT_PLAIN:
            calls["functions"] += 1
        elif code.co_filename.startswith(ANYIO) and code.co_qualname in SCOPES:
            calls["scopes"] += caller is not None and caller.f_code.co_filename.startswith(OURS)

    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(None)


async def test_small_blobs_need_few_calls_and_no_scopes(source, destination, net):
    for image in range(IMAGES):
        layers = [make_layer({"file": noise(f"{image} {layer}", 2000)}) for layer in range(LAYERS)]
        make_image(source.store, "app", str(image), layers=layers)
    with counted() as calls:
        outcome = await net.sync({"source/app": "destination/app"})
    assert outcome.counts == (IMAGES, 0, 0)
    # The pool has a task group, and the list of tags.
    assert calls["scopes"] <= 2
    assert calls["functions"] <= 215 * BLOBS
