"""Harbor projects: missing projects are reported, and created through Harbor's API for entries with `"create": true`.

Harbor returns the same status for a missing project and for one that the account may not see. Only the error message
differs.
"""

import asyncio
import re
from typing import Protocol

import msgspec

from syncer.errors import Kind, RegistryError
from syncer.events import ProjectMade
from syncer.http.client import RegistryClient
from syncer.lazy_pattern import lazy_pattern
from syncer.observers import Observer
from syncer.oci.reference import Repository

_API = "/api/v2.0/projects"
_NO_PROJECT = lazy_pattern(r"project \S{1,255} not found", re.IGNORECASE)
_HAS_PROJECT = lazy_pattern(
    r"(?:repository|artifact) \S{1,600} not found|unauthorized to access repository", re.IGNORECASE
)
_NO_SUCH_API = frozenset({400, 404, 405, 415, 422, 501})


class Projects(Protocol):
    """The projects of one registry."""

    def check(self, repository: Repository) -> None:
        """Raise `RegistryError` if the project of `repository` is known to be missing."""
        ...

    async def provide(self, repository: Repository, answer: RegistryError) -> bool:
        """Make sure that the project of `repository` exists, after a response that may mean that it is missing.

        Return True if the project was created. Return False if it exists, or if the response has another cause. Raise
        `RegistryError` if the project is missing and is not created.
        """
        ...

    def advise(self, error: RegistryError, repository: Repository) -> RegistryError:
        """Return the error of a failed push with advice about the project."""
        ...


class MissingProjects(Projects):
    """Detects missing projects and does not create them."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client
        self._lacking: dict[str, RegistryError] = {}

    def check(self, repository: Repository) -> None:
        error = self._lacking.get(_project(repository))
        if error is not None:
            raise error.with_changes() from error.__cause__

    async def provide(self, repository: Repository, answer: RegistryError) -> bool:
        self.check(repository)
        if _NO_PROJECT.search(answer.message):
            from syncer.places.registry.advice import advise

            scheme = "https" if self._client.address.secure else "http"
            self._lacks(repository, answer, advise(answer, repository, scheme=scheme).advice)
        return False

    def advise(self, error: RegistryError, _repository: Repository) -> RegistryError:
        return error

    def _lacks(self, repository: Repository, answer: RegistryError, advice: str) -> None:
        """Remember that the project is missing, and raise the error."""
        kind = answer.kind if answer.kind is Kind.FORBIDDEN else Kind.NOT_FOUND
        self._lacking[_project(repository)] = answer.with_changes(kind=kind, permanent=True, advice=advice)
        self.check(repository)


class CreatedProjects(MissingProjects):
    """Creates missing projects, with one request for each."""

    def __init__(self, client: RegistryClient, observer: Observer) -> None:
        super().__init__(client)
        self._observer = observer
        self._lock = asyncio.Lock()
        self._asked: dict[str, bool] = {}
        self._refused: dict[str, RegistryError] = {}

    async def provide(self, repository: Repository, answer: RegistryError) -> bool:
        project = _project(repository)
        if _HAS_PROJECT.search(answer.message):
            return False
        async with self._lock:
            self.check(repository)
            if project not in self._asked:
                self._asked[project] = await self._make(repository, answer)
        return self._asked[project]

    async def _make(self, repository: Repository, answer: RegistryError) -> bool:
        """Return whether the project was created. Return False if it exists, or if the registry has no such API."""
        project = _project(repository)
        try:
            made = await self._post(project)
        except RegistryError as error:
            if not error.permanent:
                raise
            if _NO_PROJECT.search(answer.message):
                self._lacks(
                    repository,
                    error,
                    f'the project is missing and could not be created ("create": true); create project {project!r}'
                    " manually, or allow the account to create projects",
                )
            if error.status not in _NO_SUCH_API:
                self._refused[project] = error
            return False
        if made:
            # Tokens issued earlier have no permission in the new project.
            self._client.forget_rights(project)
            self._observer.notify(ProjectMade(repository.host, project))
        return made

    async def _post(self, project: str) -> bool:
        body = {"project_name": project, "metadata": {"public": "false"}}
        answer = await self._client.send(
            "POST",
            _API,
            endpoint="ping",
            scopes=(),
            what=f"project {project} at {self._client.host}",
            headers={"Content-Type": "application/json", **await self._client.basic()},
            content=msgspec.json.encode(body),
            ok=frozenset({201, 409}),
        )
        return answer.status == 201

    def advise(self, error: RegistryError, repository: Repository) -> RegistryError:
        project = _project(repository)
        if self._asked.get(project) and error.status in {401, 403}:
            return error.with_changes(
                advice=f"project {project!r} was created, but the account has no push permission in it: grant it"
            )
        if refused := self._refused.get(project):
            return refused.with_changes(
                message=f"{refused.message}; the push without the project: {error.message}",
                advice=f'the project could not be created ("create": true); create project {project!r} manually,'
                " or allow the account to create projects",
            )
        return error


class PlannedProjects(CreatedProjects):
    """Reports the projects that a run would create, for a dry run."""

    async def _make(self, repository: Repository, answer: RegistryError) -> bool:
        if not _NO_PROJECT.search(answer.message):
            return False
        self._observer.notify(ProjectMade(repository.host, _project(repository)))
        return True


def _project(repository: Repository) -> str:
    return repository.path.partition("/")[0]


def says_new(message: str, codes: tuple[str, ...]) -> bool:
    """Return whether a 404 for a tag list means that the repository is empty, by the specification's or Harbor's codes."""
    return "NAME_UNKNOWN" in codes or (
        "NOT_FOUND" in codes and re.search(r"repository \S{1,600} not found", message) is not None
    )
