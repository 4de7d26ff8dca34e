"""Registries that echo secrets or send terminal control characters: neither reaches any output."""

import base64
import json
from urllib.parse import quote

import anyio.to_thread
import pytest

from syncer.demo.images import make_image, make_index, make_layer
from tests.support.program import Program

PASSWORD = "Sw0rdf/ish&co"
PAIR = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
TOKEN = "tok-" + "".join(f"{number:03}" for number in range(100))
STEERING = "\x1b]0;title\x07\u202eevil\u200b"
SPELLINGS = (PASSWORD, quote(PASSWORD, safe=""), quote(PASSWORD, safe="").replace("%2F", "%2f"), PAIR, TOKEN)
ECHO = " ".join((*SPELLINGS, STEERING))
ONE = {"here/app:1": "there/app"}


def said(message, code="DENIED"):
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


@pytest.fixture(autouse=True)
def image(source, net):
    net.settings["here"] = {"username": "me", "password": PASSWORD}
    net.settings["there"] = {"username": "me", "password": PASSWORD}
    images = [
        make_image(source.store, "app", "1", layers=[make_layer({"a": b"a"})], platform=at)
        for at in ("linux/amd64", "linux/arm64")
    ]
    make_index(source.store, "app", "index", children=images)


def bearer(faults, *, token=None):
    """A token service for the registry behind `faults`. It issues `token`, or echoes the request."""
    body = json.dumps({"token": token}).encode() if token else said(ECHO)
    faults.on("GET", "/token*", status=200 if token else 403, body=body)
    challenge = f'Bearer realm="http://{faults.host}/token",service="x"'

    faults.on(
        "*",
        "/v2/*",
        status=401,
        headers={"www-authenticate": challenge},
        times=1 if token else 1_000_000,
    )


FAULTS = {
    "message": lambda here: here.on("*", "*/manifests/*", status=403, body=said(ECHO)),
    "code": lambda here: here.on("*", "*/manifests/*", status=403, body=said("x", ECHO)),
    "text": lambda here: here.on("*", "*/manifests/*", status=500, body=" ".join(SPELLINGS).encode()),
    "text that is long": lambda here: here.on(
        "*", "*/manifests/*", status=500, body=b"x" * 190 + " ".join(SPELLINGS).encode()
    ),
    "web page": lambda here: here.on(
        "GET", "*/manifests/*", status=502, body=f"<html><title>{ECHO}</title>".encode()
    ),
    "web page with status 200": lambda here: here.on(
        "GET",
        "*",
        status=200,
        headers={"content-type": "text/html"},
        body=f"<html><title>{ECHO}</title>".encode(),
    ),
    "realm": lambda here: here.on(
        "*", "*", status=401, headers={"www-authenticate": f'Bearer realm="ftp://{PASSWORD} {PAIR}"'}
    ),
    "redirect": lambda here: here.on(
        "GET", "*/blobs/*", status=307, headers={"location": f"http://[{PASSWORD}{PAIR}"}
    ),
    "redirect that is followed": lambda here: here.on(
        "GET",
        "*/blobs/*",
        status=307,
        headers={"location": f"http://{here.host}/x/{quote(PASSWORD, safe='')}/{PAIR}/{TOKEN}"},
    ),
    "media type": lambda here: here.on(
        "GET",
        "*/manifests/*",
        status=200,
        headers={"content-type": f"application/{PAIR}"},
        body=json.dumps({"mediaType": f"x/{PASSWORD}\x1b[2J"}).encode(),
    ),
    "digest": lambda here: here.on(
        "GET",
        "*/manifests/*",
        status=200,
        body=json.dumps({"schemaVersion": 2, "config": {"digest": f"{PASSWORD} {PAIR}", "size": 1}}).encode(),
    ),
    "token service": bearer,
    "token": lambda here: (
        bearer(here, token=TOKEN),
        here.on("*", "*/manifests/*", status=403, body=said(ECHO)),
    ),
}


def assert_nothing_is_told(outcome, spellings):
    assert outcome.result.failed == 1
    told = "\n".join(map(repr, outcome.told.events))
    assert not [spelling for spelling in spellings if spelling in told]
    assert outcome.failed[0].failure.message.isprintable()


@pytest.mark.parametrize("fault", FAULTS)
async def test_secret_echoed_by_source_is_in_no_event(here, net, fault):
    FAULTS[fault](here)
    # The token is a secret only if the registry has issued it.
    assert_nothing_is_told(await net.sync(ONE, retries=1), SPELLINGS if fault == "token" else SPELLINGS[:-1])


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 403, "body": said(ECHO)},
        {"status": 403, "body": said("x", ECHO)},
        {"status": 500, "body": " ".join(SPELLINGS).encode()},
        {"status": 401, "headers": {"www-authenticate": f'Bearer realm="ftp://{PASSWORD} {PAIR}"'}},
        {"status": 202, "headers": {"location": f"http://[{PASSWORD}{PAIR}"}},
        {"status": 202, "headers": {"location": f"/v2/x/{quote(PASSWORD, safe='')}/{PAIR}"}},
    ],
)
async def test_secret_echoed_by_destination_is_in_no_event(there, net, fault):
    there.on("POST", "*/blobs/uploads/*", **fault)
    there.on("PUT", "/v2/x/*", status=403, body=said(ECHO))
    there.on("PATCH", "/v2/x/*", status=403, body=said(ECHO))
    assert_nothing_is_told(await net.sync(ONE, retries=1), SPELLINGS[:-1])


async def test_index_platforms_leak_no_secrets_or_control_characters(here, net, source):
    evil = json.loads(source.store.get_manifest("app", "index").raw)
    evil["manifests"][1]["platform"] = {"os": f"{STEERING}{PASSWORD}", "architecture": "x"}
    source.store.put_manifest("app", json.dumps(evil).encode(), evil["mediaType"], reference="evil")
    outcome = await net.sync({"here/app:evil": {"to": "there/app", "platforms": ["linux/amd64"]}}, retries=0)
    told = "\n".join(map(repr, outcome.told.events))
    assert PASSWORD not in told
    assert "\\\\x1b]0;title" in told
    assert "\x1b" not in told
    assert "\\x1b" not in told.replace("\\\\x1b", "")


async def test_echoed_secret_is_in_no_output_of_the_program(here, there, tmp_path):
    program = Program(tmp_path)
    (tmp_path / "auth.json").write_text(
        json.dumps(
            {
                each.host: {"username": "me", "password": PASSWORD, "plain_http": True}
                for each in (here, there)
            }
        )
    )
    (tmp_path / "images.json").write_text(
        json.dumps({f"{here.host}/app:1": f"{there.host}/app", f"{here.host}/app": f"{there.host}/all"})
    )
    here.on("*", "*", status=403, body=said(ECHO))
    files = ("--auth", "auth.json", "--images", "images.json")
    kept = ("report.json", "failed.yaml", "metrics.prom")

    def runs():
        yield program.run(
            *("sync", *files, "--retries", "0", "--log-level", "debug"),
            *("--report", kept[0], "--output-failed-images", kept[1], "--metrics-file", kept[2]),
        )
        yield program.run("plan", *files)
        yield program.run("check", "--online", *files)

    done = await anyio.to_thread.run_sync(lambda: list(runs()))
    assert [each.returncode for each in done] == [1, 1, 1]
    written = [text for each in done for text in (each.stdout, each.stderr)]
    written += [(tmp_path / name).read_text() for name in kept]
    for text in written:
        assert not [spelling for spelling in SPELLINGS[:-1] if spelling in text]
        assert not {"\x1b", "\x07", "\u202e", "\u200b"} & set(text)
    assert "***" in written[0] + written[1]
    assert "***" in (tmp_path / "report.json").read_text()
