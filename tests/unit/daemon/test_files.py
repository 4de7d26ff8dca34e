"""The user's files: followed, read again, never let go of for worse ones."""

import json
import os
from pathlib import Path

import pytest

from syncer.config import load
from syncer.daemon.files import ConfigFiles
from syncer.diagnostics import ConfigError
from syncer.observe.metrics import MetricsObserver

OTHER = {"quay.io/other:1": "there.example/other"}


class Mounted:
    """Files of a user, and what the daemon makes of them."""

    def __init__(self, folder: Path) -> None:
        self.auth, self.images = folder / "auth.json", folder / "images.json"
        self.auth.write_text("{}")
        self.write({"quay.io/app:1": "there.example/app"})
        self.metrics = MetricsObserver(now=lambda: 5000.0)
        self.files = ConfigFiles(
            lambda: load(self.auth, self.images), [self.auth, self.images], metrics=self.metrics
        )

    def write(self, images: object) -> None:
        self.images.write_text(json.dumps(images))

    @property
    def sources(self) -> list[str]:
        return [str(rule) for rule in self.files.config.rules]

    def sample(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"syncer_config_last_reload_{name}")


@pytest.fixture
def mounted(tmp_path):
    return Mounted(tmp_path)


async def test_unchanged_files_are_not_reported_as_changed(mounted):
    for _ in range(3):
        assert not await mounted.files.changed()


async def test_change_counts_after_two_checks(mounted):
    mounted.images.write_text("{")  # half written
    assert not await mounted.files.changed()
    mounted.write(OTHER)
    assert not await mounted.files.changed()
    assert await mounted.files.changed()
    assert await mounted.files.reload()
    assert mounted.sources == ["quay.io/other:1"]
    assert not await mounted.files.changed()


async def test_change_with_same_size_and_time_is_detected(mounted):
    before = mounted.images.stat()
    mounted.write({"quay.io/two:1": "there.example/app"})
    os.utime(mounted.images, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert mounted.images.stat().st_size == before.st_size
    await mounted.files.changed()
    assert await mounted.files.changed()


async def test_replaced_config_map_link_is_detected(tmp_path):
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "images.json").write_text(
            json.dumps({f"quay.io/{version}:1": "there.example/app"})
        )
    data = tmp_path / "..data"
    data.symlink_to("one")
    images = tmp_path / "images.json"
    images.symlink_to("..data/images.json")
    files = ConfigFiles(lambda: load(None, images), [images], metrics=MetricsObserver())

    # As the kubelet does it: a new link is made, and renamed over the old one.
    (tmp_path / "..data_tmp").symlink_to("two")
    (tmp_path / "..data_tmp").replace(data)

    await files.changed()
    assert await files.changed()
    assert await files.reload()
    assert [str(rule) for rule in files.config.rules] == ["quay.io/two:1"]


@pytest.mark.parametrize("bad", ['{"quay.io/app:1": 7, "quay.io/b:/(/": "x"}', "{", None])
async def test_invalid_files_are_logged_and_previous_version_is_kept(mounted, caplog, bad):
    if bad is None:
        mounted.images.unlink()
    else:
        mounted.images.write_text(bad)
    assert not await mounted.files.reload()
    assert mounted.sources == ["quay.io/app:1"]
    assert "images.json" in mounted.files.problems[0]
    assert "still using the version loaded at" in caplog.text
    assert mounted.sample("successful") == 0
    assert mounted.sample("timestamp_seconds") == 5000

    told = caplog.text
    assert not await mounted.files.reload()
    assert caplog.text == told  # not once for each run

    mounted.write(OTHER)
    assert await mounted.files.reload()
    assert mounted.files.problems == ()
    assert mounted.sample("successful") == 1


async def test_secrets_are_reloaded_if_auth_file_is_unchanged(mounted):
    password = mounted.auth.with_name("password")
    password.write_text("old")
    mounted.auth.write_text(json.dumps({"quay.io": {"username": "robot", "password_file": "password"}}))
    assert await mounted.files.reload()
    password.write_text("new")
    assert not await mounted.files.changed()
    assert await mounted.files.reload()
    assert mounted.files.config.auth.secrets() == {"new"}


async def test_unexpected_error_while_reading_is_logged(mounted, caplog):
    def crash():
        raise ZeroDivisionError("a defect")

    mounted.files._load = crash
    assert not await mounted.files.reload()
    assert mounted.sources == ["quay.io/app:1"]
    assert "a defect" in mounted.files.problems[0]


def test_invalid_files_at_start_are_refused(tmp_path):
    images = tmp_path / "images.json"
    images.write_text("{")
    with pytest.raises(ConfigError):
        ConfigFiles(lambda: load(None, images), [images], metrics=MetricsObserver())


async def test_new_and_changed_files_of_a_folder_are_read(tmp_path):
    (tmp_path / "a.json").write_text('{"quay.io/a:1": "there.example/a"}')
    files = ConfigFiles(lambda: load(images=tmp_path), [tmp_path], metrics=MetricsObserver())
    for name, text, count in (
        ("b.txt", "quay.io/b:1 there.example/b", 2),
        ("b.txt", "quay.io/b:1 there.example/b\nquay.io/c:1 there.example/c", 3),
    ):
        (tmp_path / name).write_text(text)
        await files.changed()
        assert await files.changed()
        assert await files.reload()
        assert len(files.config.rules) == count
    (tmp_path / "notes.md").write_text("not a rule")
    await files.changed()
    assert not await files.changed()


async def test_pipe_is_read_once_and_kept_for_reloads(tmp_path):
    auth = tmp_path / "auth.json"
    auth.write_text("{}")
    reader, writer = os.pipe()
    os.write(writer, json.dumps(OTHER).encode())
    os.close(writer)
    pipe = Path(f"/dev/fd/{reader}")
    files = ConfigFiles(lambda: load(auth, pipe), [auth, pipe], metrics=MetricsObserver())
    auth.write_text('{"quay.io": {}}')
    assert await files.reload()
    assert [str(rule) for rule in files.config.rules] == list(OTHER)
    assert not await files.changed()
    os.close(reader)


async def test_file_replaced_by_pipe_without_writer_is_a_change_that_does_not_block(mounted):
    mounted.images.unlink()
    os.mkfifo(mounted.images)
    assert not await mounted.files.changed()
    assert await mounted.files.changed()
