"""Projects that a Harbor has not got yet, made through its API: for entries with `"create": true`."""

import anyio
import msgspec

from syncer.errors import RegistryError
from syncer.http.client import RegistryClient
from syncer.oci.reference import Repository


class HarborProjects:
    """Makes projects at one registry, asked for once each."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client
        self._lock = anyio.Lock()
        self._asked: dict[str, bool] = {}

    async def create(self, repository: Repository) -> bool:
        """Make the project that `repository` belongs to. True if it is new, or has been made by us before.

        Raises `RegistryError` where the account may not, or where that is no Harbor.
        """
        project = repository.path.partition("/")[0]
        async with self._lock:
            if project not in self._asked:
                self._asked[project] = await self._post(project)
            return self._asked[project]

    async def _post(self, project: str) -> bool:
        body = {"project_name": project, "metadata": {"public": "false"}}
        try:
            answer = await self._client.send(
                "POST",
                "/api/v2.0/projects",
                endpoint="ping",
                scopes=(),
                what=f"project {project} at {self._client.host}",
                headers={"Content-Type": "application/json", **await self._client.basic()},
                content=msgspec.json.encode(body),
                ok=frozenset({201, 409}),
            )
        except RegistryError as error:
            raise error.with_changes(
                advice=f'creating it was tried since the entry has "create": true; make project {project!r} by hand,'
                " or give the account the right to"
            ) from error.__cause__
        return answer.status == 201
