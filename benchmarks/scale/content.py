"""What there is to copy, as the model sees it: repositories, and what they share. Real corpora, and one of a million tags."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

from benchmarks.corpus import CorpusSpec, make_corpus
from benchmarks.stores import digest_of
from syncer.engine.blobs import SMALL


@dataclass(frozen=True, slots=True)
class Blobs:
    """How many there are, and their bytes: small ones travel in the metadata lane. Means may be fractions."""

    small: float = 0
    large: float = 0
    small_bytes: float = 0
    large_bytes: float = 0

    @classmethod
    def of(cls, sizes: Iterable[int]) -> "Blobs":
        small: list[int] = []
        large: list[int] = []
        for size in sizes:
            (small if size < SMALL else large).append(size)
        return cls(len(small), len(large), sum(small), sum(large))

    @property
    def count(self) -> float:
        return self.small + self.large

    @property
    def nbytes(self) -> float:
        return self.small_bytes + self.large_bytes

    def __add__(self, other: "Blobs") -> "Blobs":
        return Blobs(
            self.small + other.small,
            self.large + other.large,
            self.small_bytes + other.small_bytes,
            self.large_bytes + other.large_bytes,
        )

    def __mul__(self, times: float) -> "Blobs":
        return Blobs(
            self.small * times, self.large * times, self.small_bytes * times, self.large_bytes * times
        )


NOTHING = Blobs()


@dataclass(frozen=True, slots=True)
class Repository:
    """`own` blobs are in no other repository, and `each` of them are of one tag alone; `shared` are numbers of
    groups of blobs that other repositories may have too. `manifests` counts indexes and their children.
    """

    name: str
    tags: int
    manifests: float
    own: Blobs
    shared: tuple[int, ...] = ()
    each: Blobs = NOTHING


@dataclass(frozen=True, slots=True)
class Content:
    """`shared` are the groups of blobs that repositories share, such as the layers of a base image."""

    repositories: tuple[Repository, ...]
    shared: tuple[Blobs, ...]

    @property
    def tags(self) -> int:
        return sum(repository.tags for repository in self.repositories)

    @property
    def nbytes(self) -> float:
        """Of all blobs, each once."""
        used = set(itertools.chain.from_iterable(each.shared for each in self.repositories))
        own = sum(each.own.nbytes for each in self.repositories)
        return own + sum(self.shared[number].nbytes for number in used)


# --- what is measured ---------------------------------------------------------------------------------------------


@dataclass
class _Recorder:
    """A store that only remembers what was put where."""

    blobs: dict[str, dict[str, int]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    manifests: Counter[str] = field(default_factory=Counter)

    def put_blob(self, repository: str, content: bytes) -> str:
        digest = digest_of(content)
        self.sizes[digest] = len(content)
        self.blobs.setdefault(repository, {})[digest] = len(content)
        return digest

    def link_blob(self, repository: str, digest: str, from_repository: str) -> None:  # noqa: ARG002
        self.blobs.setdefault(repository, {})[digest] = self.sizes[digest]

    def put_manifest(self, repository: str, content: bytes, media_type: str, tag: str | None = None) -> str:  # noqa: ARG002
        self.manifests[repository] += 1
        return digest_of(content)


@cache
def corpus_content(spec: CorpusSpec) -> Content:
    """Exactly what the corpus of the measurements has."""
    store = _Recorder()
    corpus = make_corpus(store, spec)
    tags = Counter(image.repository for image in corpus.images)
    places = Counter(digest for blobs in store.blobs.values() for digest in blobs)
    numbers = {digest: number for number, digest in enumerate(each for each in places if places[each] > 1)}
    repositories = tuple(
        Repository(
            name,
            tags[name],
            store.manifests[name],
            Blobs.of(size for digest, size in blobs.items() if digest not in numbers),
            tuple(numbers[digest] for digest in blobs if digest in numbers),
        )
        for name, blobs in store.blobs.items()
    )
    return Content(repositories, tuple(Blobs.of([store.sizes[digest]]) for digest in numbers))


# --- what is assumed ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Assumed:
    """A large mirror. Sizes are bytes, after compression.

    Tags of a repository are log-normal; half of all tags are indexes of two platforms, half are single manifests.
    Each platform has four layers of a base image, two that all tags of its repository share, two of its own, and
    a config. Base images are chosen by Zipf's law, and each has so many versions, over which tags are spread.
    """

    repositories: int = 10_000
    tags: int = 1_000_000
    tag_spread: float = 1.5
    """Sigma of the logarithm: the largest repository has about a hundred times the mean."""
    bases: int = 500
    base_versions: int = 40
    zipf: float = 1.0
    base_layer: float = 10e6
    own_layer: float = 4e6
    """The mean over all; a repository's own mean is log-normal around it."""
    layer_spread: float = 2.0
    """Sigma of the logarithm of layers within a repository: a third are small then."""
    repository_spread: float = 1.0
    config: float = 5e3
    seed: str = "scale"


PLATFORMS, MANIFESTS = 1.5, 2.0
"""On average, of a tag."""
BASE_LAYERS, REPOSITORY_LAYERS, OWN_LAYERS = 4, 2, 2
PARTS = 1 + BASE_LAYERS + REPOSITORY_LAYERS + OWN_LAYERS
"""Blobs of an image of one platform."""


def assumed_content(assumed: Assumed) -> Content:
    """The same for the same assumptions, always."""
    chance = random.Random(assumed.seed)
    drawn = [chance.lognormvariate(0, assumed.tag_spread) for _ in range(assumed.repositories)]
    counts = _in_proportion(drawn, assumed.tags)
    weights = list(itertools.accumulate(1 / rank**assumed.zipf for rank in range(1, assumed.bases + 1)))
    sizes = [assumed.base_layer * chance.lognormvariate(-0.5, 1) for _ in range(assumed.bases)]
    shared = tuple(
        # Both platforms: the few tags of one only are not worth a case of their own.
        Blobs(large=2 * BASE_LAYERS, large_bytes=2 * BASE_LAYERS * size)
        for size in sizes
        for _ in range(assumed.base_versions)
    )
    repositories = []
    for number, tags in enumerate(counts):
        mean = assumed.own_layer * chance.lognormvariate(
            -(assumed.repository_spread**2) / 2, assumed.repository_spread
        )
        layer = _log_normal(mean, assumed.layer_spread)
        each = (layer * OWN_LAYERS + Blobs(small=1, small_bytes=assumed.config)) * PLATFORMS
        base = chance.choices(range(assumed.bases), cum_weights=weights)[0] * assumed.base_versions
        versions = tuple(base + version for version in range(min(tags, assumed.base_versions)))
        own = each * tags + layer * (REPOSITORY_LAYERS * 2)
        repositories.append(
            Repository(f"mirror/app-{number:05}", tags, MANIFESTS * tags, own, versions, each)
        )
    return Content(tuple(repositories), shared)


def _in_proportion(weights: list[float], total: int) -> list[int]:
    """Whole numbers of at least 1 with this sum."""
    each = (total - len(weights)) / sum(weights)
    ends = [round(each * end) for end in itertools.accumulate(weights)]
    return [1 + end - start for start, end in itertools.pairwise([0, *ends])]


def _log_normal(mean: float, sigma: float) -> Blobs:
    """One blob of such a size, on average: how much of it is a small one, and the bytes of either."""
    middle = math.log(mean) - sigma**2 / 2
    border = (math.log(SMALL) - middle) / sigma
    small, small_bytes = _normal(border), mean * _normal(border - sigma)
    return Blobs(small, 1 - small, small_bytes, mean - small_bytes)


def _normal(place: float) -> float:
    """The distribution function of the normal distribution."""
    return (1 + math.erf(place / math.sqrt(2))) / 2
