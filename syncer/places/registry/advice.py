"""Advice for failed pushes: what the user must create or change first, with the command of the registry's vendor."""

import re

from syncer.errors import Kind, ManifestRefused, RegistryError
from syncer.lazy_pattern import lazy_pattern
from syncer.oci import media_types
from syncer.oci.attestations import has_attestations
from syncer.oci.manifest import Manifest
from syncer.oci.reference import DOCKER_HUB, Repository

_ECR = lazy_pattern(r"[0-9]{12}\.dkr\.ecr(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_GOOGLE = lazy_pattern(r"([a-z0-9-]+)-docker\.pkg\.dev")
_ALIBABA = (".aliyuncs.com",)
_TENCENT = (".tencentcloudcr.com", "ccs.tencentyun.com")
_HUAWEI = (".myhuaweicloud.com",)
_REFUSED_KIND = frozenset({400, 404, 405, 415, 422})
_REFUSED_CONTENT = frozenset({400, 403, 404, 405, 406, 409, 415, 422, 501})
_IN_TROUBLE = frozenset({500, 502, 503})
_OTHER_KINDS = frozenset({Kind.UNAUTHORIZED, Kind.IMMUTABLE, Kind.THROTTLED, Kind.TOO_LARGE})
# Harbor: "exceed the configured upper limit", "project is in read only mode", content trust and scanning policies.
_OTHER_REASONS = lazy_pattern(
    r"quota|exceed|upper limit|no space|too many|read.?only|immutab|already\s?exists|overwrit|signed|vulnerab|policy|billing|overdue",
    re.IGNORECASE,
)
# Alibaba ACR: "unknown manifest class for application/vnd.oci.empty.v1+json" (matrixorigin/matrixone-operator#613).
# Huawei SWR: "Invalid image, fail to parse 'manifest.json'" (regclient/regclient#720).
_NAMES_CONTENT = lazy_pattern(
    r"manifest|media.?type|attestation|invalid image|unsupported|not support", re.IGNORECASE
)


def advise(
    error: RegistryError, repository: Repository, manifest: Manifest | None = None, *, scheme: str = "https"
) -> RegistryError:
    """Return the error of a failed push with advice on what to do. Keep the advice that the error already has.

    `scheme` is the URL scheme of the registry: "http" or "https".
    """
    if manifest is not None:
        error = _advise_on_content(error, manifest)
    if error.presence not in {"missing", "unknown"}:
        return error
    how = missing(repository, scheme=scheme)
    if error.presence == "unknown":
        return error.with_changes(advice=f"{error.advice}; or it is missing: {how}")
    return error.with_changes(advice=f"{error.advice}: {how}" if error.advice else how)


def _advise_on_content(error: RegistryError, manifest: Manifest) -> RegistryError:
    """Add the likely reason why a registry rejects a manifest. The blobs are already pushed, so the repository exists."""
    vague = error.presence == "unknown"
    if vague:
        error = error.with_changes(presence="exists")
    elif error.advice:
        return error
    if _refuses_content(error):
        error = ManifestRefused.of(error)
    if error.status in _REFUSED_KIND and manifest.media_type in media_types.SCHEMA1:
        return error.with_changes(
            kind=Kind.UNSUPPORTED,
            presence="exists",
            advice="the manifest is of schema 1, which most registries no longer accept: rebuild the image",
        )
    if error.status in {*_REFUSED_CONTENT, 500} and manifest.foreign:
        # docker-registry 2.8 answers 500 with the code UNKNOWN for each foreign layer.
        return error.with_changes(
            kind=Kind.UNSUPPORTED,
            permanent=True,
            presence="exists",
            advice=f"the manifest has foreign layers (urls), which {error.registry} may not accept: allow them in the"
            " registry (docker-registry: validation.manifests.urls.allow), or copy an image without foreign layers",
        )
    if (error.status == 500 or isinstance(error, ManifestRefused)) and has_attestations(manifest):
        before = f"{error.advice}; or " if vague else ""
        return error.with_changes(
            presence="exists",
            advice=f"{before}the image has attestations (platform unknown/unknown), which some registries refuse: if"
            f' that is the reason, set "attestations": "drop" in the rule, or for {error.registry} in the auth file',
        )
    return error


def missing(repository: Repository, *, scheme: str = "https") -> str:
    """Return how to create the repository, or its project or namespace, at this registry."""
    host, path = repository.host, repository.path
    first, _, rest = path.partition("/")
    if match := _ECR.fullmatch(host):
        return f"create it: aws ecr create-repository --region {match[1]} --repository-name {path}"
    if host == "public.ecr.aws":
        name = rest or path
        return f"create it: aws ecr-public create-repository --region us-east-1 --repository-name {name}"
    if match := _GOOGLE.fullmatch(host):
        name = rest.partition("/")[0]
        return (
            f"create it: gcloud artifacts repositories create {name} --repository-format=docker"
            f" --location={match[1]} --project={first}"
        )
    if host.endswith(_TENCENT):
        return (
            f"create namespace {first!r} and repository {rest!r} in the TCR console (or tccli tcr CreateNamespace"
            f" --NamespaceName {first}, tccli tcr CreateRepository)"
        )
    if host.endswith(_ALIBABA):
        return f"create namespace {first!r} in the ACR console, and allow it to create repositories"
    if host.startswith("swr.") and host.endswith(_HUAWEI):
        return f"create organization {first!r} in the SWR console"
    if "gitlab" in host:
        return f"create the GitLab project that {path!r} belongs to"
    if host == DOCKER_HUB:
        return (
            f"create the organization or user {first!r} at Docker Hub, and give the account push permission"
        )
    return (
        f'create project {first!r} (Harbor: set "create": true in the auth file, or run: curl -u USER'
        f" -H 'Content-Type: application/json' -d '{{\"project_name\":\"{first}\"}}' {scheme}://{host}/api/v2.0/projects)"
    )


def _refuses_content(error: RegistryError) -> bool:
    """Whether a registry refuses a manifest for what it is, and not for want of rights or room, or for its tag."""
    if error.kind in _OTHER_KINDS or _OTHER_REASONS.search(error.message):
        return False
    # Most say it with 4xx; of the others only those that name the manifest are not in trouble themselves.
    return error.status in _REFUSED_CONTENT or (
        error.status in _IN_TROUBLE and bool(_NAMES_CONTENT.search(error.message))
    )
