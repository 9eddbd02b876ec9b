"""Where a run's secrets are looked up."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def lookup(document: dict[str, Any], key: str) -> str | None:
    """Return the secret key of a run, None if it is nowhere. Empty values count as nothing.

    The run's secret_sources come first (later ones win), then the environment
    variables KEY and MLRUN_K8S_SECRET__KEY.
    """
    found = ""
    for source in (document.get("spec") or {}).get("secret_sources") or ():
        found = _values(source).get(key) or found
    return found or os.environ.get(key) or os.environ.get("MLRUN_K8S_SECRET__" + key.upper()) or None


def given(url: str, secrets: Any) -> dict[str, str] | None:
    """Return secrets that are given for what is at url as text by name; None without any."""
    if not secrets:
        return None
    if not isinstance(secrets, dict):
        raise TypeError(
            "%s: secrets is of type %s; give a dict of credentials by their names, such as "
            '{"AWS_ACCESS_KEY_ID": "…"}' % (url, type(secrets).__name__)
        )
    return {str(name): str(value) for name, value in secrets.items() if value is not None}


def _values(source: dict[str, Any]) -> dict[str, str]:
    kind, given = source.get("kind"), source.get("source")
    prefix = "%s_" % source["prefix"] if source.get("prefix") else ""
    values: dict[str, str] = {}
    if kind == "inline":
        if isinstance(given, str):
            from ast import literal_eval

            try:
                given = literal_eval(given)
            except (ValueError, SyntaxError):
                given = {}
        values = {str(name): str(value) for name, value in given.items()} if isinstance(given, dict) else {}
    elif kind == "file":
        values = _from_file(str(given))
    elif kind == "env":
        names = [name.strip() for name in str(given).split(",")]
        values = {name: os.environ[name] for name in names if name in os.environ}
    elif kind == "kubernetes" and isinstance(given, list):
        names = [str(name) for name in given]
        values = {name: os.environ.get("MLRUN_K8S_SECRET__" + name.upper(), "") for name in names}
    return {prefix + name: value for name, value in values.items()}


def _from_file(path: str) -> dict[str, str]:
    values = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            name, separator, value = line.partition("=")
            if separator and not line.lstrip().startswith("#"):
                values[name.strip()] = os.path.expandvars(value.strip())
    return values
