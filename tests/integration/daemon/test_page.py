"""The pages in a real browser: what a person on call sees and does."""

import json

import pytest

from tests.integration.daemon.conftest import rules

PHONE = (360, 740)
HOLD_ANSWERS_TILL_THE_END = """
void (() => {
    const ended = new Promise((resolve) => new MutationObserver(() => {
        if (document.querySelector("#spoken").textContent.startsWith("Run finished")) resolve();
    }).observe(document.querySelector("#spoken"), { childList: true }));
    const real = window.fetch;
    window.fetch = async (...request) => {
        const answer = await real(...request);
        window.held = true;
        await ended;
        return answer;
    };
})()
"""


def going(page) -> str:
    """The id of the run that is shown as in progress."""
    return str(page.evaluate("document.querySelector('#live')?.dataset.run ?? ''"))


def focused(page) -> str:
    return str(page.evaluate("document.activeElement.id || document.activeElement.innerText"))


def tab_to(page, name: str) -> None:
    for _ in range(30):
        if focused(page) == name:
            return
        page.press("Tab")
    pytest.fail(f"no way to {name} by the keyboard")


def assert_fits(page) -> None:
    """Nothing sticks out at the side."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("innerWidth") == PHONE[0]


def moved(page) -> float:
    """How far the bars of transfers are, in all."""
    bars = "[...document.querySelectorAll('.transfers progress')].map((bar) => bar.value)"
    return float(page.evaluate(f"{bars}.reduce((sum, value) => sum + value, 0)"))


def find_failure(images, page) -> None:
    """The failed one among so many images of a run, on its page; and then another one by its name."""
    assert "404 not found" in page.text("#failures")
    total = len(images) + 1
    assert f"1 to {total} of {total} images." in page.text("#images")
    page.evaluate("document.querySelector('#outcome').value = 'failed'")
    page.click(".search button")
    page.until(lambda: "1 to 1 of 1 image that matches." in page.text("#images"))
    page.evaluate("document.querySelector('#outcome').value = ''")
    page.click("#text")
    page.type(images[0].name)
    page.press("Enter")
    page.until(lambda: "outcome=&q=" in page.url and "that match" in page.text("#images"))
    assert "nope" not in page.text("#images")
    assert images[0].name in page.text("#images")


def test_a_run_is_started_watched_and_its_failure_found(served, source, registry, page):
    target = registry()
    missing = f"{source.registry.host}/{source.corpus.repositories[0]}:nope"
    served.write(
        rules(source, target) | {missing: f"{target.host}/mirror/nope"},
        *(source.registry, target),
        bandwidth="800KiB",
    )
    served.start("--schedule", "0 3 1 1 *")
    page.set_timezone("Asia/Tokyo")
    page.open(served.url)
    page.until(lambda: page.text("#link") == "Live")
    assert "No rule has run yet." in page.text("#health")
    assert "1 Jan" in page.text("#facts")
    assert "12:00" in page.text("#facts")
    assert page.text("#zone") == "Asia/Tokyo"

    page.click("#start")
    run_id = page.until(lambda: going(page))
    first = page.until(lambda: moved(page))
    page.until(lambda: moved(page) not in {0, first})
    page.until(lambda: "not found" in page.text(".failing"))
    assert page.text("#live [data-of='images.failed']") == "1"
    page.resize(*PHONE, phone=True)
    assert_fits(page)
    page.resize(1280, 900)

    page.until(lambda: not going(page) and "failing" in page.text("#health"))
    assert "is failing; it has not succeeded yet." in page.text("#health")
    assert "check the rule's source" in page.text("#failures")
    assert "partial" in page.text("#history")
    assert page.complaints == []

    page.click(".runs a")
    page.until(lambda: "Failures" in page.text())
    assert page.url == f"{served.url}/runs/{run_id}"
    find_failure(source.corpus.images, page)

    ground = "getComputedStyle(document.body).backgroundColor"
    page.prefer(prefers_color_scheme="light")
    light = page.evaluate(ground)
    page.prefer(prefers_color_scheme="dark")
    assert page.evaluate(ground) != light
    page.resize(*PHONE, phone=True)
    assert_fits(page)
    assert page.complaints == []
    assert all(url.startswith(f"{served.url}/") for url in page.requested)

    served.terminate()
    page.until(lambda: "No connection to the daemon" in page.text("#link"))


def test_response_in_flight_at_end_of_run_does_not_delay_refresh(slow, page):
    slow.start()
    page.open(slow.url)
    page.click("#start")
    run_id = page.until(lambda: going(page))
    page.evaluate(HOLD_ANSWERS_TILL_THE_END)
    page.evaluate("void document.dispatchEvent(new Event('visibilitychange'))")
    page.until(lambda: page.evaluate("window.held"))
    slow.post(f"/api/v1/runs/{run_id}/cancel")
    page.until(lambda: not going(page) and "interrupted" in page.text("#history"))


def test_token_typed_before_late_close_event_is_kept(slow, page):
    (slow.folder / "token").write_text("s3cret")
    slow.start("--api-token-file", str(slow.folder / "token"))
    page.open(slow.url)
    page.click("#start")
    page.until(lambda: page.evaluate("document.querySelector('#ask').open"))
    page.evaluate("document.querySelector('#token').value = 'never mind'")
    page.press("Escape")
    page.until(lambda: page.evaluate("document.querySelector('#token').value === ''"))
    page.click("#start")
    page.type("s3cret")
    page.evaluate("void document.querySelector('#ask').dispatchEvent(new Event('close'))")
    page.press("Enter")
    page.until(lambda: going(page))


def test_page_works_with_keyboard_only(slow, page):
    slow.start()
    page.open(slow.url)
    page.press("Tab")
    assert focused(page) == "Skip to main content"
    page.press("Enter")
    assert focused(page) == "main"
    tab_to(page, "start")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.press("Enter")
    run_id = page.until(lambda: going(page))
    tab_to(page, "cancel")
    page.press(" ")
    page.until(lambda: "interrupted" in page.text("#summary"))
    assert page.url == f"{slow.url}/runs/{run_id}"
    assert page.complaints == []


def test_token_is_requested_once_and_not_stored(slow, page):
    token = "s3cret-töken"
    (slow.folder / "token").write_text(token)
    slow.start("--api-token-file", str(slow.folder / "token"))
    page.open(slow.url)
    page.click("#start")
    page.until(lambda: page.evaluate("document.querySelector('#ask').open"))
    page.press("Escape")
    page.until(lambda: not page.evaluate("document.querySelector('#ask').open"))
    page.click("#start")
    page.type("wrong")
    page.press("Enter")
    page.until(lambda: "Wrong token" in page.text("#ask"))
    # The browser itself writes down that the answer was 401.
    assert all("401" in complaint for complaint in page.complaints)
    page.type(token)
    page.press("Enter")
    run_id = page.until(lambda: going(page))
    page.click("#cancel")
    page.until(lambda: not going(page) and "interrupted" in page.text("#history"))
    assert slow.ended(run_id)["outcome"] == "interrupted"
    kept = "JSON.stringify([location.href, document.cookie, {...localStorage}, {...sessionStorage}])"
    held = page.evaluate("document.documentElement.outerHTML + document.querySelector('#token').value")
    for place in (page.evaluate(kept), held, json.dumps(page.requested)):
        assert "s3cret" not in place


def test_forms_work_without_javascript(slow, page):
    slow.start()
    page.disable_scripts()
    page.open(slow.url)
    assert "Without JavaScript this page does not update itself" in page.text()
    assert page.text("#zone") == "UTC"
    page.click("#start")
    run_id = page.until(lambda: slow.runs and slow.runs[0]["id"])

    def shown() -> bool:
        page.open(slow.url)
        return bool(going(page) == run_id)

    page.until(shown)
    page.click("#cancel")
    page.until(lambda: page.url == f"{slow.url}/runs/{run_id}")
    assert slow.ended(run_id)["outcome"] == "interrupted"
    page.open(f"{slow.url}/runs/{run_id}")
    page.click("#text")
    page.type("no such image")
    page.click(".search button")
    page.until(lambda: "No images that match." in page.text("#images"))
    assert page.complaints == []
