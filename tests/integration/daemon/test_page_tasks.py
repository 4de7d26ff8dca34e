"""What people come to the pages for, done in a real browser between real registries."""

import pytest

from benchmarks.corpus import FOR_TESTS, write_corpus
from tests.integration.daemon.conftest import rules, wait_until
from tests.integration.daemon.test_daemon import add_tag

HOOK_TOKEN = "hook-t0ken-of-the-test"
READ = {"GET", "HEAD"}


@pytest.fixture
def mirroring(served, source, registry):
    """A daemon without a schedule, which has not run yet."""
    target = registry()
    served.write(rules(source, target), source.registry, target)
    served.start()
    served.target = target
    return served


def follow(page, text: str, within: str = "main") -> None:
    """Click the link with this text, and wait for its page."""
    before = page.url
    page.evaluate(
        f"void [...document.querySelectorAll({within + ' a'!r})]"
        f".find((each) => each.innerText.trim() === {text!r}).setAttribute('data-chosen', '')"
    )
    page.click("[data-chosen]")
    page.until(lambda: page.url != before and page.evaluate("document.readyState") == "complete")


def stay(page) -> None:
    """Mark the document, to tell later whether it is still the same: `assert stayed(page)`."""
    page.evaluate("void (window.stayed = true)")


def stayed(page) -> bool:
    return bool(page.evaluate("window.stayed === true"))


def fact(page, name: str) -> str:
    """The value beside this name."""
    return str(
        page.evaluate(
            f"[...document.querySelectorAll('dt')].find((each) => each.innerText === {name!r})"
            "?.nextElementSibling.innerText ?? ''"
        )
    )


def test_one_rule_is_run_from_its_page_and_its_end_is_seen(mirroring, source, page):
    first, *others = source.corpus.repositories
    page.open(mirroring.url)
    follow(page, f"{source.registry.host}/{first}", within="#rules")
    assert fact(page, "Last run") == "not yet"
    page.click("#start")
    page.until(lambda: "success" in fact(page, "Last run"))
    stay(page)
    number = sum(image.repository == first for image in source.corpus.images)
    page.until(lambda: f"{number} synced" in fact(page, "Images"))
    assert stayed(page)
    assert fact(page, "Behind") == "none"
    follow(page, "Status", within="nav")
    assert page.text("#rules").count("not yet") == len(others)
    with mirroring.target.client() as client:
        held = client.get("/v2/_catalog").json()["repositories"]
    assert held == [f"mirror/{first}"]
    assert page.complaints == []


def test_end_of_run_is_told_in_the_language_of_the_page(mirroring, page):
    page.speak("zh-CN")
    page.open(mirroring.url)
    page.until(lambda: page.text("#link") == "实时更新中")
    page.click("#start")
    page.until(lambda: page.text("#spoken").startswith("运行已结束"))
    assert page.text("#spoken").endswith("成功")
    assert page.complaints == []


def test_plan_of_rule_is_shown_and_nothing_is_written(mirroring, source, page):
    name = source.corpus.repositories[0]
    tags = sum(image.repository == name for image in source.corpus.images)
    page.open(mirroring.url)
    follow(page, f"{source.registry.host}/{name}", within="#rules")
    mirroring.target.clear_access_log()
    page.click("#plan")
    page.until(lambda: fact(page, "To copy"))
    assert (fact(page, "To copy"), fact(page, "To replace"), fact(page, "Unchanged")) == (f"{tags}", "0", "0")
    assert page.text(".images").count("not at the destination yet") == tags
    assert page.complaints == []
    assert {request.method for request in mirroring.target.access_log()} <= READ
    assert mirroring.runs == []

    mirroring.run()
    page.open(page.url)
    assert (fact(page, "To copy"), fact(page, "Unchanged")) == ("0", f"{tags}")
    assert "up to date" in page.text(".images")
    follow(page, "Back to the rule")
    assert "success" in fact(page, "Last run")
    assert page.complaints == []


@pytest.fixture
def announcing(served, registry):
    """`announcing(bandwidth)` starts a daemon whose source tells it what is pushed. Returns an image of the source."""

    def start(bandwidth: str):
        origin, target = registry(), registry()
        corpus = write_corpus(origin.storage, FOR_TESTS)
        served.write(corpus.rules(origin.host, f"{target.host}/mirror"), origin, target, bandwidth=bandwidth)
        (served.folder / "token").write_text(HOOK_TOKEN)
        served.start("--hook-token-file", str(served.folder / "token"), "--hook-delay", "0.1")
        origin.events_to = f"{served.url}/hooks/distribution?token={HOOK_TOKEN}"
        origin.restart()
        served.origin, served.target = origin, target
        return corpus.images[0]

    return start


def test_image_of_event_is_followed_live(announcing, served, browser, page):
    image = announcing("100KiB")
    page.open(f"{served.url}/image?destination={served.target.host}/mirror/{image.repository}:new")
    page.until(lambda: page.text("#link") == "Live")
    assert "The latest runs did not copy this image." in page.text("#image")
    stay(page)
    overview = browser.page()
    overview.open(served.url)
    overview.until(lambda: overview.text("#link") == "Live")
    stay(overview)

    add_tag(served.origin, image.repository, image.tag, "new")
    overview.until(lambda: "event" in overview.text("#live") and overview.text(".transfers .what"))
    assert f"{served.origin.host}/{image.repository}" in overview.text(".transfers .what")
    page.until(lambda: "A run is in progress." in page.text("#image"))
    assert "The image is behind since" in page.text("#image")
    page.until(lambda: "complete at its destination" in page.text("#image"))
    page.until(lambda: "synced" in page.text("#moments") and "event" in page.text("#moments"))
    overview.until(lambda: not overview.text("#live") and "1 synced" in overview.text("#history"))
    assert stayed(page)
    assert stayed(overview)
    assert page.complaints == []
    assert overview.complaints == []
    overview.close()
    with served.target.client() as client:
        tags = client.get(f"/v2/mirror/{image.repository}/tags/list").json()["tags"]
    assert tags == ["new"]


def test_page_of_image_in_progress_leads_to_progress_of_its_run(announcing, served, page):
    image = announcing("20KiB")
    add_tag(served.origin, image.repository, image.tag, "new")
    run = wait_until(lambda: served.get("/api/v1/status")["run"])
    page.open(f"{served.url}/image?destination={served.target.host}/mirror/{image.repository}:new")
    page.until(lambda: "A run is in progress." in page.text("#image"))
    follow(page, "A run is in progress.")
    assert page.url == f"{served.url}/runs/{run['id']}"
    page.until(lambda: page.text(".transfers .what"))
    assert page.complaints == []


def test_reason_why_image_is_behind_is_found_from_the_overview(served, source, registry, page):
    """One destination refuses to be written to."""
    works, refuses = registry(), registry(read_only=True)
    first, second, *_ = source.corpus.repositories
    host = source.registry.host
    served.write(
        {
            f"{host}/{first}": f"{works.host}/mirror/first",
            f"{host}/{second}": f"{refuses.host}/mirror/second",
        },
        *(source.registry, works, refuses),
    )
    served.start()
    served.run()
    number = sum(image.repository == second for image in source.corpus.images)
    tag = next(image.tag for image in source.corpus.images if image.repository == second)
    page.open(served.url)
    assert "failing" in page.text("#health")
    follow(page, f"{number} behind", within="#mirror")
    assert page.text("#images").count("since") == number
    assert "mirror/first" not in page.text("#images")
    follow(page, f"{refuses.host}/mirror/second:{tag}")
    assert "The image is behind since" in page.text("#image")
    assert "the last copy failed." in page.text("#image")
    reason = page.text("#image .message")
    assert "405 method not allowed" in reason
    assert f"{refuses.host} does not accept pushes: it is read-only or a pull-through cache" in reason
    assert fact(page, "Source").startswith(f"{host}/{second}:{tag}")
    assert fact(page, "Next run") == "on request only"
    follow(page, f"{host}/{second}")
    assert fact(page, "Behind").startswith(f"{number} images")
    assert page.complaints == []
