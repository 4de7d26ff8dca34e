"""Finds images in Kubernetes objects of every kind, lists and custom resources included.

A field named `image` holds an image in pod templates, and in nearly all custom resources. The fields are found wherever
they are, because custom resources place pod templates anywhere.
"""

from collections.abc import Iterator

from syncer.oci.reference import split_reference
from syncer.references.documents import Node, Text
from syncer.references.found import Found, is_reference, names_host

_WITHOUT_IMAGES = frozenset({"ConfigMap", "CustomResourceDefinition", "Secret"})
"""Kinds whose fields named `image` are schemas or data."""
_POLICIES = ("kyverno.io/", "policies.kyverno.io/", "constraints.gatekeeper.sh/", "templates.gatekeeper.sh/")
"""API groups whose fields named `image` are patterns of images."""
_OPERAND = "RELATED_IMAGE_"
"""Operators take images from environment variables of this prefix (Operator Lifecycle Manager)."""


def is_object(node: Node) -> bool:
    """Whether a document is a Kubernetes object."""
    return isinstance(node, dict) and isinstance(node.get("apiVersion"), Text) and "kind" in node


def read_object(document: Node, found: Found) -> None:
    """Add the images of an object. `metadata` and `status` are left out: they repeat images, or name former ones."""
    for mapping in _mappings(document):
        if _text(mapping, "kind") == "DockerImage":
            _add(mapping.get("name"), found)  # OpenShift's build configurations and image streams
        for key, value in mapping.items():
            if key == "image":
                _read_image(value, found)
            elif key == "images" and isinstance(value, list):
                is_kubeadm = _text(mapping, "kind") == "Images"
                for item in value:
                    if isinstance(item, Text) and (is_kubeadm or names_host(item.value)):
                        _add(item, found)
            elif key == "env" and isinstance(value, list):
                _read_environment(value, found)
            elif key in {"args", "command"} and isinstance(value, list):
                _read_arguments(value, found)
            elif isinstance(value, Text) and key.endswith(("Image", "imageName")) and names_host(value.value):
                _add(value, found)


def _mappings(document: Node) -> Iterator[dict[str, Node]]:
    """Yield each mapping of a document that may hold images, once."""
    seen: set[int] = set()
    stack: list[Node] = [document]
    while stack:
        node = stack.pop()
        if isinstance(node, Text) or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, list):
            stack += node
            continue
        is_whole = is_object(node)
        if is_whole and (
            _text(node, "kind") in _WITHOUT_IMAGES or _text(node, "apiVersion").startswith(_POLICIES)
        ):
            continue
        yield node
        stack += [
            value for key, value in node.items() if key != "metadata" and not (is_whole and key == "status")
        ]


def _read_image(value: Node, found: Found) -> None:
    """Add an image that is a text, an image volume's `reference`, or `repository` and `tag` of a custom resource."""
    if isinstance(value, Text):
        if value.value == "auto":
            found.reject("auto", value.line, "set when the pod is created, by Istio")
        else:
            _add(value, found)
    elif isinstance(value, dict) and isinstance(value.get("reference"), Text):
        _add(value["reference"], found)
    elif isinstance(value, dict) and (repository := _text(value, "repository")):
        registry, tag, digest = (_text(value, name) for name in ("registry", "tag", "digest"))
        text = f"{f'{registry}/' if registry else ''}{repository}{f':{tag}' if tag else ''}{f'@{digest}' if digest else ''}"
        place = value["repository"]
        line = place.line if isinstance(place, Text) else 0
        if tag or digest:
            found.add(text, line)
        else:
            found.reject(text, line, "it has no tag: the operator chooses one")


def _read_environment(entries: list[Node], found: Found) -> None:
    for entry in entries:
        if isinstance(entry, dict) and _text(entry, "name").startswith(_OPERAND):
            _add(entry.get("value"), found)


def _read_arguments(arguments: list[Node], found: Found) -> None:
    """Add values such as that of `--acme-http01-solver-image=quay.io/…:v1`: controllers start pods with these images."""
    for argument in arguments:
        if not isinstance(argument, Text) or not argument.value.startswith("-"):
            continue
        name, _, value = argument.value.partition("=")
        if names_host(value) and is_reference(value):
            _, tag, _ = split_reference(value)
            # host/path:80 is an address.
            if "image" in name.lower() or not (tag or "").isdecimal():
                found.add(value, argument.line)


def _add(value: Node | None, found: Found) -> None:
    if isinstance(value, Text):
        found.add(value.value, value.line)


def _text(mapping: dict[str, Node], key: str) -> str:
    value = mapping.get(key)
    return value.value if isinstance(value, Text) else ""
