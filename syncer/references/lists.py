"""Finds images in lists with one reference per line, such as the output of `kubeadm config images list`."""

from collections.abc import Iterator

from syncer.references.found import Found, is_reference


def entries(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line (from 1) and the first word of each line. Comments and `--platform=…` before it are left out."""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.removeprefix("\ufeff").split()
        if words[:1] == ["-"]:
            words = words[1:]
        while words and words[0].startswith("--"):
            words = words[1:]
        if words and not words[0].startswith("#"):
            yield number, words[0].strip("\"',")


def is_list(text: str) -> bool:
    """Whether each line begins with a reference that has a tag or a digest, and there is at least one."""
    found = [word for _, word in entries(text)]
    return bool(found) and all(map(is_reference, found))


def read_list(text: str, found: Found) -> None:
    """Add the first word of each line."""
    for line, word in entries(text):
        found.add(word, line)
