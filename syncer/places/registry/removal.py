"""Removes tags from a repository.

- Harbor: `DELETE /api/v2.0/projects/{project}/repositories/{repository}/artifacts/{tag}/tags/{tag}` of its API 2.0
  ("deleteTag"). The artifact and its other tags stay.
- `DELETE /v2/{name}/manifests/{tag}` (distribution-spec 1.1, "Deleting tags"). Some registries remove the manifest too.
- `DELETE /v2/{name}/manifests/{digest}` ("Deleting manifests") where tags are refused, as by docker-registry 2.8: all
  tags of the manifest go.
"""

from urllib.parse import quote

import msgspec

from syncer.errors import Kind, RegistryError
from syncer.http.client import RegistryClient
from syncer.http.failures import is_html
from syncer.oci.digest import Digest
from syncer.oci.reference import DOCKER_HUB, Repository
from syncer.places.registry.answers import SUCCESS
from syncer.places.registry.capabilities import Capabilities

_NO_HARBOR = frozenset({400, 401, 403, 404, 405, 406, 410, 415, 422, 501})
_REFUSES_TAGS = frozenset({400, 404, 405, 415, 422, 501})
_GONE = frozenset({404, 410})


class TagRemoval:
    """Removes tags of one repository, in the way that its registry has."""

    def __init__(self, client: RegistryClient, name: Repository, capabilities: Capabilities) -> None:
        self._client = client
        self._name = name
        self._capabilities = capabilities
        self._is_harbor: bool | None = None

    async def untags(self) -> bool:
        """Return whether the registry has Harbor's API, and the account may use it."""
        if self._is_harbor is None:
            self._is_harbor = await self._finds_harbor()
        return self._is_harbor

    async def remove(self, tag: str, digest: Digest) -> None:
        """Remove a tag, or its manifest. Raises `RegistryError`, with advice."""
        try:
            if await self.untags():
                await self._remove_from_harbor(tag)
            elif not await self._remove_by_tag(tag):
                await self._delete(f"/v2/{self._name.path}/manifests/{digest}", f"{self._name}@{digest}")
        except RegistryError as error:
            raise error.with_changes(advice=self._advice(error)) from error.__cause__

    async def _finds_harbor(self) -> bool:
        if "/" not in self._name.path or self._name.host == DOCKER_HUB:
            return False
        credentials = await self._client.basic()
        if not credentials:
            return False
        try:
            answer = await self._client.send(
                "GET",
                f"{self._artifacts()}?with_tag=true&page_size=1",
                endpoint="tags",
                scopes=(),
                what=f"artifacts of {self._name}",
                headers=credentials,
            )
        except RegistryError as error:
            if error.status in _NO_HARBOR:
                return False
            raise
        if is_html(answer.headers, answer.body):
            return False
        try:
            # Many registries answer any path.
            return all(
                "digest" in each for each in msgspec.json.decode(answer.body, type=list[dict[str, object]])
            )
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False

    def _artifacts(self) -> str:
        project, _, repository = self._name.path.partition("/")
        # Harbor decodes the name twice.
        encoded = quote(quote(repository, safe=""), safe="")
        return f"/api/v2.0/projects/{quote(project, safe='')}/repositories/{encoded}/artifacts"

    async def _remove_from_harbor(self, tag: str) -> None:
        await self._client.send(
            "DELETE",
            f"{self._artifacts()}/{tag}/tags/{tag}",
            endpoint="manifest",
            scopes=(),
            what=f"tag {self._name}:{tag}",
            headers=await self._client.basic(),
            ok=SUCCESS | _GONE,
        )

    async def _remove_by_tag(self, tag: str) -> bool:
        """Return whether the registry removed the tag. It may not exist, or only manifests can be removed."""
        if not self._capabilities.removes_tags:
            return False
        try:
            await self._delete(f"/v2/{self._name.path}/manifests/{tag}", f"{self._name}:{tag}", ok=SUCCESS)
        except RegistryError as error:
            if error.status not in _REFUSES_TAGS:
                raise
            self._capabilities.removes_tags = error.status in _GONE
            return False
        return True

    async def _delete(self, target: str, what: str, *, ok: frozenset[int] = SUCCESS | _GONE) -> None:
        await self._client.send(
            "DELETE",
            target,
            endpoint="manifest",
            scopes=(f"repository:{self._name.path}:delete",),
            what=f"manifest {what}",
            ok=ok,
        )

    def _advice(self, error: RegistryError) -> str:
        if error.kind is Kind.IMMUTABLE:
            return "the registry protects the tag: remove it from the rule of the registry, or name it in `prune.keep`"
        if error.status == 405 or error.kind is Kind.UNSUPPORTED:
            return (
                "the registry does not allow deletion: allow it (docker-registry: REGISTRY_STORAGE_DELETE_ENABLED=true),"
                " or take `prune` from the rule"
            )
        if error.kind in {Kind.FORBIDDEN, Kind.UNAUTHORIZED}:
            return (
                "give the account the permission to delete (Harbor: of tags), or take `prune` from the rule"
            )
        return error.advice
