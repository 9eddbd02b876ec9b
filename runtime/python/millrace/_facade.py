"""Finding the built-in `mlrun` and `nuclio_sdk`, where the packages themselves are not installed.

The modules are the files in facade/. A module or an attribute that it does not
have is an error whose text says how to get the package itself.
"""

from __future__ import annotations

import sys
from abc import ABCMeta

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

_FOLDER = __file__.rpartition("/")[0] + "/facade/"
_FILES = (
    "artifacts", "config", "data_types", "datastore", "db", "errors", "execution", "feature_store", "features",
    "model", "package", "projects", "run", "runtimes", "secrets", "serving", "utils",
)  # fmt: skip
# Modules of the package whose names are those of the module above them here.
_ALIASES = (
    "artifacts.base", "artifacts.dataset", "artifacts.document", "artifacts.llm_prompt", "artifacts.manager",
    "artifacts.model", "artifacts.plots", "data_types.data_types", "data_types.infer", "datastore.base",
    "datastore.datastore", "datastore.sources", "datastore.store_resources", "datastore.targets", "feature_store.api",
    "feature_store.steps", "package.context_handler", "package.errors", "package.log_hint", "package.packager",
    "package.packagers", "package.packagers.default_packager", "package.utils", "projects.operations",
    "projects.project", "runtimes.base", "runtimes.nuclio", "serving.remote", "serving.routers", "serving.server",
    "serving.states", "serving.utils", "serving.v1_serving", "serving.v2_serving", "utils.helpers", "utils.logger",
)  # fmt: skip


def sentence(what: str) -> str:
    """Say that what is not here, and what to do."""
    return "%s is not part of the mlrun built into Millrace; add `mlrun` to the function's requirements" % what


def top() -> tuple[str, ...]:
    """Return the names of the modules of the first level."""
    return _FILES


def load(name: str) -> ModuleType:
    """Import a module of the facade."""
    __import__(name)
    return sys.modules[name]


def submodule(owner: str, name: str) -> Any:
    """Answer a module's __getattr__: one of its modules, or an AttributeError."""
    full = "%s.%s" % (owner, name)
    path = full.partition(".")[2]
    if path in _FILES or path in _ALIASES:
        return load(full)
    if name.startswith("__"):
        raise AttributeError("module %r has no attribute %r" % (owner, name))
    raise AttributeError(sentence(full))


class Absent(ABCMeta):
    """The type of stand-ins for classes and functions that are not here.

    They can be imported, named in type hints and derived from, as modules do when
    they are loaded; whoever calls one, or takes something from it, is told what to do.
    """

    def __call__(cls, *_args: Any, **_options: Any) -> Any:
        raise NotImplementedError(sentence(_absent_of(cls)))

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError("type object %r has no attribute %r" % (cls.__name__, name))
        raise AttributeError(sentence("%s.%s" % (_absent_of(cls), name)))


def _absent_of(cls: type) -> str:
    """Name the stand-in that cls is, or is derived from."""
    stand_in = next((base for base in cls.__mro__ if base.__dict__.get("__absent__")), cls)
    return "%s.%s" % (stand_in.__module__, stand_in.__name__)


def absent(owner: str, name: str, names: tuple[str, ...]) -> Any:
    """Answer a module's __getattr__: the stand-in of one of names, else what submodule answers."""
    if name not in names:
        return submodule(owner, name)
    stand_in = Absent(name, (), {"__module__": owner, "__absent__": True})
    setattr(sys.modules[owner], name, stand_in)
    return stand_in


def find(name: str, finder: Any) -> Any:
    """Return the spec of a module of the facade; None if the real package is there.

    finder is the one that asks. Finders that were added after it are asked first.
    """
    finders = sys.meta_path
    later = finders[finders.index(finder) + 1 :] if finder in finders else []
    if name in ("mlrun", "nuclio_sdk"):
        for other in later:
            spec = other.find_spec(name, None) if hasattr(other, "find_spec") else None
            if spec is not None:
                return spec
    elif not hasattr(sys.modules.get("mlrun"), "__millrace__"):
        return None
    from importlib.machinery import ModuleSpec, SourceFileLoader

    path = name.partition(".")[2]
    if name == "nuclio_sdk":
        path = name
    if path in _ALIASES:
        return ModuleSpec(name, _Alias(), is_package=True)  # type: ignore[arg-type]
    if path and path not in _FILES and path != name:
        # Its name is not the one asked for: `from mlrun import x` would hide the sentence otherwise.
        raise ModuleNotFoundError(sentence(name), name="mlrun")
    file = _FOLDER + (path or "__init__") + ".py"
    spec = ModuleSpec(name, SourceFileLoader(name, file), origin=file, is_package=True)
    spec.has_location = True
    spec.submodule_search_locations = []
    return spec


class _Alias:
    """Makes a module whose names are those of its parent."""

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        owner = module.__name__.rpartition(".")[0]
        parent = load(owner)

        def get(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError("module %r has no attribute %r" % (module.__name__, name))
            return getattr(parent, name)

        module.__dict__["__getattr__"] = get
