"""A registry in memory, and a client that speaks plain HTTP to it."""

from collections.abc import AsyncIterator

import httpx
import pytest

from syncer.demo import MemoryRegistry
from tests.support.plain_http import NO_AUTHORITIES


@pytest.fixture
async def memory() -> AsyncIterator[MemoryRegistry]:
    async with MemoryRegistry() as registry:
        yield registry


@pytest.fixture
async def client(memory: MemoryRegistry) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=f"http://{memory.host}", trust_env=False, verify=NO_AUTHORITIES
    ) as client:
        yield client
