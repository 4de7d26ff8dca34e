"""What may import what: read from the sources, so that a wrong import is found before it becomes a habit."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_LINES = 400
ALLOWED = {
    "syncer.oci": {"syncer.oci", "syncer.lazy_pattern"},
    "syncer.rules": {"syncer.rules", "syncer.oci", "syncer.diagnostics", "syncer.lazy_pattern"},
    "syncer.references": {"syncer.references", "syncer.oci", "syncer.lazy_pattern"},
    "syncer.engine": {
        "syncer.engine",
        "syncer.places.content",
        "syncer.rules",
        "syncer.oci",
        "syncer.errors",
        "syncer.events",
        "syncer.observers",
    },
}
FORBIDDEN = {
    "syncer.http": {"syncer.config"},
    "syncer.places": {"syncer.config"},
    "syncer.accounts": {"syncer.config"},
}
# Not private, whatever they look like: namedtuple's method, and the end of the process.
PUBLIC = {"_replace", "_exit"}


@cache
def modules() -> dict[str, ast.Module]:
    paths = sorted((ROOT / "syncer").rglob("*.py"))
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths
    ]
    return {name: ast.parse(path.read_text()) for name, path in zip(names, paths, strict=True)}


def imports(tree: ast.Module, *, everywhere: bool) -> Iterator[str]:
    """The modules of this project that a module imports: at its top, `TYPE_CHECKING` included, or `everywhere`."""
    for node in ast.walk(tree) if everywhere else _top(tree.body):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "syncer":
            for name in node.names:
                full = f"{node.module}.{name.name}"
                yield full if full in modules() else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] == "syncer")


def _top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, ast.If):
            yield from _top(node.body + node.orelse)
        elif isinstance(node, ast.Try):
            yield from _top(node.body + node.orelse + node.finalbody)


def is_in(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("package", ALLOWED)
def test_a_layer_imports_only_the_layers_below(package):
    wrong = {
        (name, imported)
        for name, tree in modules().items()
        if is_in(name, {package})
        for imported in imports(tree, everywhere=True)
        if not is_in(imported, ALLOWED[package])
    }
    assert not wrong


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_layer_does_not_know_where_its_settings_come_from(package):
    wrong = {
        (name, imported)
        for name, tree in modules().items()
        if is_in(name, {package})
        for imported in imports(tree, everywhere=True)
        if is_in(imported, FORBIDDEN[package])
    }
    assert not wrong


def test_modules_import_each_other_in_no_circle():
    graph = {name: set(imports(tree, everywhere=False)) for name, tree in modules().items()}
    TopologicalSorter(graph).prepare()


def test_no_module_touches_the_private_attributes_of_another_object():
    wrong = [
        f"{name}:{node.lineno} {ast.unparse(node)}"
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and _is_private(node.attr) and not _is_own(node.value, node.attr)
    ]
    assert not wrong


def _is_private(attribute: str) -> bool:
    return attribute.startswith("_") and not attribute.endswith("__") and attribute not in PUBLIC


def _is_own(value: ast.expr, attribute: str) -> bool:
    match value:
        # Two values of one class compare what they hide.
        case ast.Name("other"):
            return attribute == "_text"
        case ast.Name("self" | "cls") | ast.Call(func=ast.Name("super")):
            return True
    return False


def test_no_module_is_longer_than_can_be_read_at_once():
    long = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / "syncer").rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert not long
