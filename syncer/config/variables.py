"""The environment as rules may see it: without the variables that hold secrets.

An images file may come from somebody who must not read the secrets of the machine that runs it, since a value that is
put into a destination goes to a registry.
"""

import re
from collections.abc import Collection, Iterator, Mapping

from syncer.config import nodes
from syncer.config.documents import RefusedVariable, variable_named
from syncer.config.nodes import Node
from syncer.lazy_pattern import lazy_pattern

_SECRET_NAME = lazy_pattern(
    r"PASSW(?:OR)?D|PASSPHRASE|SECRET|TOKEN|CREDENTIAL|API_?KEY|PRIVATE"
    r"|(?:^|_)(?:PASS|PWD|PW|KEY|AUTH|JWT|PAT|CREDS?|COOKIE|SESSION)(?:_|$)",
    re.ASCII | re.IGNORECASE,
)
_OWN = "SYNCER_"
_URL_PASSWORD = lazy_pattern(r"://[^/?#@\s]{0,500}@", re.ASCII)
_MIN_CONTAINED = 4
"""A shorter secret may be part of any text: only a value that equals it is refused."""


class RuleVariables(Mapping[str, str]):
    """The variables of `environment` that rules may use.

    `credentials` are the names that the auth file uses, and `secrets` the texts of its passwords and tokens: neither
    can be read by a rule. If `allowed` names variables, rules can use only those; otherwise all whose names and
    values do not look like a secret. `[]` raises `RefusedVariable`, or `KeyError` if a variable is not set.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        credentials: Collection[str] = (),
        secrets: Collection[str] = (),
        allowed: Collection[str] = (),
    ) -> None:
        self._environment = environment
        self._credentials = frozenset(credentials)
        self._secrets = frozenset(filter(None, secrets))
        self._allowed = frozenset(allowed)

    def __getitem__(self, name: str) -> str:
        if reason := self._refusal(name):
            raise RefusedVariable(name, reason)
        return self._environment[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._environment if not self._refusal(name))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _refusal(self, name: str) -> str:
        if name in self._credentials:
            return "the auth file takes credentials from it"
        value = self._environment.get(name, "")
        if any(self._holds(value, secret) for secret in self._secrets):
            return "its value holds a secret of the auth file"
        if self._allowed:
            return "" if name in self._allowed else "--allow-env does not name it"
        if name.upper().startswith(_OWN) or _SECRET_NAME.search(name):
            return f"its name is that of a secret (if it is none: --allow-env {name})"
        if _URL_PASSWORD.search(value):
            return f"its value is a URL with credentials (if they are no secret: --allow-env {name})"
        return ""

    @staticmethod
    def _holds(value: str, secret: str) -> bool:
        return secret in value if len(secret) >= _MIN_CONTAINED else secret == value


def credential_variables(auth: Node) -> frozenset[str]:
    """The names of all variables that an auth file refers to, whatever the key."""
    match auth:
        case nodes.Scalar():
            name = variable_named(auth.text)
            return frozenset() if name is None else frozenset({name})
        case nodes.Sequence():
            return frozenset().union(*map(credential_variables, auth.items))
        case nodes.Mapping():
            return frozenset().union(*(credential_variables(entry.value) for entry in auth))
