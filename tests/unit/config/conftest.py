"""Fixtures that write files from text or Python data and read them as the program does."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from syncer.config import Config, load
from syncer.diagnostics import ConfigError


class Folder:
    """A folder of files to be read. Text is written as it is, anything else as JSON."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, content: object) -> Path:
        path = self.path / name
        path.write_text(
            content if isinstance(content, str) else json.dumps(content, indent=2), encoding="utf-8"
        )
        return path

    def load(
        self, *, ending: str = "json", environment: Mapping[str, str] | None = None, **contents: object
    ) -> Config:
        """Read the files `auth`, `images` and `combined` with these contents."""
        paths: dict[str, Any] = {
            name: self.write(f"{name}.{ending}", content) for name, content in contents.items()
        }
        return load(**paths, environment=environment or {})

    def problems(
        self, *, ending: str = "json", environment: Mapping[str, str] | None = None, **contents: object
    ) -> list[str]:
        """What reading them complains of, without the folder's name."""
        with pytest.raises(ConfigError) as error:
            self.load(ending=ending, environment=environment, **contents)
        lines = [str(problem).replace(f"{self.path}/", "") for problem in error.value.problems]
        assert str(error.value).count("\n") == len(lines) - 1
        return lines

    def problem(self, **contents: object) -> str:
        """The only thing it complains of."""
        (problem,) = self.problems(**contents)  # type: ignore[arg-type]
        return problem


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)
