"""What a container's health check asks."""

import os

import pytest

from syncer.daemon.health import address_of, main

PROGRAM = ("/app/bin/python", "/app/bin/image-syncer")


@pytest.mark.parametrize(
    ("words", "environment", "address"),
    [
        (("serve",), {}, "127.0.0.1:8080"),
        (("serve", "--listen", "0.0.0.0:9000"), {}, "127.0.0.1:9000"),
        (("serve", "--listen=[::]:9000"), {}, "[::1]:9000"),
        (("serve",), {"SYNCER_LISTEN": "0.0.0.0:81"}, "127.0.0.1:81"),
        (("serve", "--listen", "10.0.0.1:82"), {"SYNCER_LISTEN": "0.0.0.0:81"}, "10.0.0.1:82"),
        (("sync", "--listen", "10.0.0.1:82"), {}, None),
        (("--config", "/etc/image-syncer/image-syncer.json"), {}, None),
    ],
)
def test_address_follows_listen_option(words, environment, address):
    assert address_of([*PROGRAM, *words], environment) == address


def test_process_that_does_not_serve_is_healthy():
    assert main(str(os.getpid())) == 0
