"""What `syncer demo` shows, and the registry as a process of its own."""

import json
import os
import re
import signal
import sys
from pathlib import Path

import anyio
import httpx
import pytest

from syncer.demo import MemoryRegistry, PortInUse
from syncer.demo.command import demo_registries, describe, serve
from tests.support.plain_http import NO_AUTHORITIES


async def test_demo_starts_with_a_seeded_source_and_an_empty_destination():
    async with demo_registries() as (source, destination):
        assert source.store.repositories() == ["library/alpine", "library/nginx", "team/app"]
        assert destination.store.repositories() == []
        assert source.host != destination.host


async def test_describe_lists_tags_digests_and_platforms():
    async with demo_registries() as (source, destination):
        lines = describe(source)
        assert lines[0] == f"{source.host}: 3 repositories"
        digest = source.store.get_manifest("library/alpine", "3.20").digest
        assert f"    latest  {digest[:19]}  linux/amd64, linux/arm64" in lines
        assert any(line.endswith("linux/amd64, linux/arm64, 2 attestations") for line in lines)
        assert "    and 1 referrer of these" in lines
        assert lines[-1] == "  36 blobs, 2.8 MB"
        assert describe(destination) == [f"{destination.host}: 0 repositories", "  0 blobs, 0.0 MB"]


async def test_serving_ends_with_a_signal():
    said = []

    def say(text):
        said.append(text)
        os.kill(os.getpid(), signal.SIGTERM)

    with anyio.fail_after(60):
        await serve(source_port=0, destination_port=0, say=say)
    assert " sync --auth examples/auth.json --images examples/images.json" in said[0]
    (shown,) = re.findall(r"/v2/(\S+)/tags/list", said[0])
    rules = json.loads((Path(__file__).parents[3] / "examples/images.json").read_text())
    assert shown in {str(destination).partition("/")[2] for destination in rules.values()}


async def test_serving_fails_if_the_port_is_in_use():
    async with MemoryRegistry() as other:
        with pytest.raises(PortInUse):
            await serve(source_port=0, destination_port=int(other.host.partition(":")[2]))


async def test_a_registry_runs_as_a_process():
    command = [sys.executable, "-m", "syncer.demo", "--seed"]
    with anyio.fail_after(60):
        async with await anyio.open_process(command) as process:
            assert process.stdout is not None
            host = (await process.stdout.receive()).decode().strip()
            async with httpx.AsyncClient(trust_env=False, verify=NO_AUTHORITIES) as client:
                response = await client.get(f"http://{host}/v2/library/alpine/tags/list")
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    assert response.json()["tags"] == ["3.19", "3.20", "latest"]


async def test_process_names_the_port_that_is_in_use():
    async with MemoryRegistry() as other:
        port = other.host.partition(":")[2]
        run = await anyio.run_process([sys.executable, "-m", "syncer.demo", "--port", port], check=False)
    assert run.returncode == 1
    assert f"port {port} of 127.0.0.1 is in use" in run.stderr.decode()
