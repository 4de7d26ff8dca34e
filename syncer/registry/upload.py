"""Ways to push a blob into an upload session (distribution-spec, "Pushing blobs")."""

from collections.abc import AsyncIterator

from syncer.http.auth import Scopes
from syncer.http.client import RegistryClient
from syncer.http.errors import RegistryError
from syncer.http.wire import streamed
from syncer.oci.descriptor import Descriptor
from syncer.oci.reference import Repository
from syncer.registry.repository import Upload

_STORED = frozenset({200, 201, 202, 204})


class RemoteUpload(Upload):
    """An upload session: one PUT with the whole body closes it, the shortest way there is."""

    def __init__(self, client: RegistryClient, repository: Repository, scopes: Scopes, location: str) -> None:
        self._client = client
        self._repository = repository
        self._scopes = scopes
        self._location = location

    async def put(self, blob: Descriptor, content: bytes | AsyncIterator[bytes]) -> None:
        whole = isinstance(content, bytes)
        await self._client.send(
            "PUT",
            f"{self._location}{'&' if '?' in self._location else '?'}digest={blob.digest}",
            endpoint="upload",
            scopes=self._scopes,
            what=f"blob {blob.digest} into {self._repository}",
            headers={"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)},
            content=content if isinstance(content, bytes) else streamed(content),
            ok=_STORED,
            # After a failure the session's state is not known: the blob starts over with a new one.
            again=whole,
        )

    async def cancel(self) -> None:
        try:
            await self._client.send(
                "DELETE",
                self._location,
                endpoint="upload",
                scopes=self._scopes,
                what=f"upload to {self._repository}",
                ok=frozenset({200, 202, 204, 404, 405}),
                again=False,
            )
        except RegistryError:
            # Registries drop abandoned uploads by themselves; this only spares them the wait.
            return
