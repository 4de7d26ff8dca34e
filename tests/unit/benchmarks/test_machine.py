"""What is told of the interpreter that runs syncer."""

import pytest

from benchmarks.machine import has_pgo

FLAG = "-fprofile-use -fprofile-correction"


@pytest.mark.parametrize(
    ("config_args", "flag", "expected"),
    [
        pytest.param("'--enable-optimizations' '--with-lto'", FLAG, True, id="as in images of Docker Hub"),
        pytest.param("'--prefix=/usr' '--enable-shared'", "", True, id="as in packages of Debian"),
        pytest.param("'--enable-shared'", FLAG, False, id="plain configure, as pyenv runs it"),
    ],
)
def test_pgo_is_found_in_the_variables_of_the_build(config_args, flag, expected):
    assert has_pgo({"CONFIG_ARGS": config_args, "PGO_PROF_USE_FLAG": flag}) is expected


def test_unknown_build_counts_as_built_without_pgo():
    assert not has_pgo({})
