"""The pages for people who see, read or work in other ways: axe-core's rules, languages, the keyboard, a phone."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.corpus import FOR_TESTS, write_corpus
from tests.integration.daemon.conftest import Served
from tests.support.axe import violations
from tests.support.browser import Page
from tests.support.program import Program
from tests.support.registries import Registry

CORPUS = replace(FOR_TESTS, repositories=4)
LARGE = replace(FOR_TESTS, largest=8_000_000)
PHONE = (390, 844)
DESKTOP = (1280, 900)
SCHEMES = ("light", "dark")
LANGUAGES = ("en", "zh-CN")
PAGES = {
    "overview": "/",
    "rules": "/?q=corpus#rules-title",
    "rule that fails": "/rule?name=fails",
    "rule that removed tags": "/rule?name=pruned",
    "plan": "/plan?name=fails",
    "plan that removes tags": "/plan?name=to+prune",
    "image": "/image?destination={synced}",
    "image that is behind": "/image?destination={failed}",
    "image that was removed": "/image?destination={removed}",
    "unknown image": "/image?destination=none",
    "runs": "/runs",
    "run": "/runs/{run}",
    "search": "/images?q=mirror",
    "search without result": "/images?q=none",
    "message": "/rule?name=none",
}
CONTROLS = """[...document.querySelectorAll("a[href], button, input, select")].filter(
    (each) => each.tabIndex >= 0 && each.type !== "hidden" && each.checkVisibility()
)"""
FOCUSED = """(() => {
    const focused = document.activeElement, box = focused.getBoundingClientRect(), style = getComputedStyle(focused);
    return {
        place: controls.indexOf(focused),
        outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
        inView: box.width > 0 && box.left >= 0 && box.right <= innerWidth && box.bottom > 0 && box.top < innerHeight,
    };
})()"""


@pytest.fixture(scope="module")
def settled(scratch: Path) -> Iterator[Served]:
    """A daemon after a run in which one rule succeeded, one failed, and tags were removed. No test changes it."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="access-", dir=scratch))
        stack.callback(shutil.rmtree, folder)
        corpus = write_corpus(folder / "source", CORPUS)
        write_corpus(folder / "target", CORPUS)
        registries = {}
        for name in ("source", "target", "closed"):
            registries[name] = Registry(
                folder=folder / f"{name}-files", storage=folder / name, read_only=name == "closed"
            )
            stack.callback(registries[name].close)
            registries[name].start()
        source, target, closed = registries.values()
        program = Program(folder)
        stack.callback(program.close)
        served = Served(program, folder)
        one, two, *pruned = corpus.repositories
        tag, *_, kept = (image.tag for image in corpus.images if image.repository == one)
        # The destinations of these rules have all tags of the corpus, and the rules select one of them.
        keys = {"tags": {"include": [tag]}, "prune": {"foreign": True, "limit": "100%", "keep": [kept]}}
        served.write(
            {
                f"{source.host}/{one}": {"to": f"{target.host}/mirror/one", "name": "works"},
                f"{source.host}/{two}": {"to": f"{closed.host}/mirror/two", "name": "fails"},
                f"{source.host}/{pruned[0]}": {"to": f"{target.host}/{pruned[0]}", "name": "pruned"} | keys,
                f"{source.host}/{pruned[1]}": {"to": f"{target.host}/{pruned[1]}", "name": "to prune"} | keys,
            },
            *registries.values(),
        )
        served.start("--schedule", "0 3 1 1 *", "--prune", "--state-dir", str(folder / "state"))
        started = served.post("/api/v1/runs", json={"rules": ["works", "fails", "pruned"]})
        served.ended(started.json()["id"])
        yield served


@pytest.fixture(scope="module")
def names(settled: Served) -> dict[str, str]:
    """What the addresses of `PAGES` name."""
    report = settled.get(f"/api/v1/runs/{settled.runs[0]['id']}")
    plan = settled.get("/api/v1/rules/to%20prune/plan")
    assert plan["pruned"]
    assert plan["not_pruned"]
    images = {image["outcome"]: image["destination"] for image in report["images"]}
    return {"run": report["run"]["id"], "removed": report["pruned"][0]["destination"]} | images


def check(page: Page) -> None:
    """No rule is violated, at a desk and on a phone, light and dark; nothing sticks out at the side."""
    for width, height in (DESKTOP, PHONE):
        page.resize(width, height, phone=width == PHONE[0])
        for scheme in SCHEMES:
            page.prefer(prefers_color_scheme=scheme)
            assert violations(page) == [], f"{scheme}, {width} px"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("innerWidth") == width


def test_checker_finds_what_is_wrong(settled, page):
    page.open(settled.url)
    page.evaluate("void (document.querySelector('#zone').style.color = 'color-mix(in srgb, gray, white)')")
    page.evaluate("void document.querySelector('label[for=image-text]').remove()")
    page.evaluate("void document.querySelector('#image-text').removeAttribute('placeholder')")
    assert {text.partition(":")[0] for text in violations(page)} == {"color-contrast", "label"}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", PAGES)
def test_page_is_accessible_in_each_language_scheme_and_width(settled, names, page, kind, language):
    page.speak(language)
    page.open(settled.url + PAGES[kind].format(**names))
    assert page.evaluate("document.documentElement.lang") == language
    assert ("状态" in page.text()) == (language == "zh-CN")
    check(page)


@pytest.mark.parametrize("language", LANGUAGES)
def test_run_in_progress_and_question_for_token_are_accessible(served, registry, page, language):
    origin, target = registry(), registry()
    corpus = write_corpus(origin.storage, LARGE)
    # The run goes on for minutes, longer than the test.
    served.write(corpus.rules(origin.host, target.host), origin, target, bandwidth="300KiB")
    served.options = ["--proc", "1"]
    (served.folder / "token").write_text("s3cret")
    served.start("--api-token-file", str(served.folder / "token"))
    page.speak(language)
    page.open(served.url)
    page.click("#start")
    page.until(lambda: page.evaluate("document.querySelector('#ask').open"))
    check(page)
    page.type("s3cret")
    page.press("Enter")
    page.until(lambda: page.evaluate("document.querySelectorAll('.transfers li').length"))
    check(page)
    page.open(f"{served.url}/runs/{served.get('/api/v1/status')['run']['id']}")
    check(page)


@pytest.mark.parametrize(
    ("kind", "size"), [*((kind, DESKTOP) for kind in PAGES), ("overview", PHONE), ("run", PHONE)]
)
def test_tab_reaches_every_control_in_order_with_visible_focus(settled, names, page, kind, size):
    page.resize(*size)
    # Without the fragment: the browser would start from there.
    page.open(settled.url + PAGES[kind].format(**names).partition("#")[0])
    number = page.evaluate(f"(window.controls = {CONTROLS}).length")
    assert number >= 7
    for place in range(number):
        page.press("Tab")
        found = page.evaluate(FOCUSED)
        name = page.evaluate("document.activeElement.outerHTML")
        assert found["place"] == place, name
        assert found["outline"] >= 2, name
        assert found["inView"], name


def test_search_works_with_keyboard_only(settled, page):
    page.open(f"{settled.url}/images")
    page.evaluate("void document.querySelector('#state').focus()")
    page.press("Tab")
    page.type("mirror/one")
    page.press("Enter")
    page.until(lambda: "q=mirror%2Fone" in page.url and "mirror/one" in page.text("#images"))
    assert "mirror/two" not in page.text("#images")
    assert page.complaints == []
