"""Tests that a run imports and compiles at startup only what every run needs."""

import subprocess
import sys

SLOW = """
    anyio bz2 certifi croniter email encodings.idna h11 hashlib html http.client httpcore httpx idna jinja2 multiprocessing prometheus_client pygments
    random re2 rich shutil sqlite3 starlette tarfile tempfile tenacity urllib.request uvicorn yaml
"""
OF_SOME_RUNS = """
    syncer.accounts.helpers syncer.cli.notifications syncer.cli.outcome_files syncer.engine.announced
    syncer.engine.blobs syncer.engine.discovery syncer.engine.download syncer.engine.manifests syncer.engine.pruning
    syncer.engine.receiving syncer.engine.referrers syncer.engine.verification syncer.http.certificates
    syncer.http.registry_words syncer.http.statuses syncer.notify.channel syncer.observe.plan_table
    syncer.oci.schema1 syncer.oci.signature_layers syncer.places.dry_run syncer.places.layout
    syncer.places.registry.advice syncer.places.registry.catalog syncer.places.registry.mirrors
    syncer.places.registry.pieces syncer.places.registry.push_times syncer.places.registry.referrers
    syncer.places.registry.removal syncer.places.registry.upload syncer.signatures
"""


def printed(code: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.split()


def test_run_imports_no_optional_modules():
    code = "import sys, syncer.cli.once; print(*sorted(set(sys.argv[1].split()) & set(sys.modules)))"
    assert printed(code, SLOW + OF_SOME_RUNS) == []


def test_no_expression_of_the_program_is_compiled_at_startup():
    code = (
        "import re, sys\n"
        "compiled = re._compile\n"
        "def watch(pattern, flags):\n"
        "    caller = sys._getframe(2).f_globals['__name__']\n"
        "    if caller.startswith('syncer'): print(caller)\n"
        "    return compiled(pattern, flags)\n"
        "re._compile = watch\n"
        "import syncer.cli.once\n"
    )
    assert printed(code) == []


def test_nothing_is_collected_while_the_program_starts():
    code = (
        "import gc, sys\n"
        "from syncer.__main__ import main\n"
        "gc.callbacks.append(lambda *_: print('collected'))\n"
        "sys.argv = ['syncer', '--version']\n"
        "main()\n"
    )
    assert "collected" not in printed(code)


def test_options_of_several_commands_are_built_once():
    code = (
        "import click\n"
        "from syncer.cli.main import cli\n"
        "for name in ('sync', 'plan', 'save', 'serve'): print(*(id(each) for each in cli.commands[name].params))\n"
    )
    options = printed(code)
    assert len(options) > 150
    assert len(set(options)) < 70
