"""Packagers that a project adds: what they are made from, and how they are found.

The classes have the names and methods of MLRun's, so that one packager works on
either side.
"""

from __future__ import annotations

import os

from millrace import _pack, _unpack
from millrace._errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from millrace._context import MLClientCtx

_PRIORITY = 3  # of a packager that sets none; a lower one is asked earlier

# One run is executed at a time: its context and its packagers, which remember what they have to delete.
_owner: MLClientCtx | None = None
_found: list[Packager] = []


class Packager:
    """Turns values of one type into artifacts or results, and artifacts back into values."""

    PACKABLE_OBJECT_TYPE: Any = ...
    PRIORITY: Any = ...

    def __init__(self) -> None:
        self.priority: Any = self.PRIORITY
        self.future_clearing_path_list: list[str] = []

    def get_default_packing_artifact_type(self, obj: Any) -> str:
        """Return the artifact type of obj when its hint names none."""
        raise NotImplementedError(_missing(self, "get_default_packing_artifact_type"))

    def get_default_unpacking_artifact_type(self, data_item: Any) -> str:
        """Return the artifact type of a data item that was not packed."""
        raise NotImplementedError(_missing(self, "get_default_unpacking_artifact_type"))

    def get_supported_artifact_types(self) -> list[str]:
        """Return the artifact types."""
        raise NotImplementedError(_missing(self, "get_supported_artifact_types"))

    def get_supported_packing_artifact_types(self) -> list[str]:
        """Return the artifact types that values can be packed as."""
        return self.get_supported_artifact_types()

    def get_supported_unpacking_artifact_types(self) -> list[str]:
        """Return the artifact types that values can be unpacked from."""
        return self.get_supported_artifact_types()

    def pack(self, obj: Any, key: Any = None, artifact_type: Any = None, configurations: Any = None) -> Any:
        """Return a dict of results, or an artifact and the instructions that unpack gets."""
        raise NotImplementedError(_missing(self, "pack"))

    def unpack(self, data_item: Any, artifact_type: Any = None, instructions: Any = None) -> Any:
        """Return the value that a data item holds."""
        raise NotImplementedError(_missing(self, "unpack"))

    def is_packable(self, obj: Any, artifact_type: Any = None, configurations: Any = None) -> bool:
        """Say whether obj can be packed as artifact_type: it is exactly of the packager's type."""
        fits = self.PACKABLE_OBJECT_TYPE is ... or type(obj) in _types(self.PACKABLE_OBJECT_TYPE)
        return fits and (not artifact_type or artifact_type in self.get_supported_packing_artifact_types())

    def is_unpackable(self, data_item: Any, type_hint: Any, artifact_type: Any = None) -> bool:
        """Say whether a data item of artifact_type can become a type_hint."""
        fits = self.PACKABLE_OBJECT_TYPE is ... or issubclass(type_hint, _types(self.PACKABLE_OBJECT_TYPE))
        return fits and (not artifact_type or artifact_type in self.get_supported_unpacking_artifact_types())

    def add_future_clearing_path(self, path: Any) -> None:
        """Have a file or folder deleted once everything is logged."""
        self.future_clearing_path_list.append(str(path))

    def get_data_item_local_path(self, data_item: Any, add_to_future_clearing_path: bool | None = None) -> str:
        """Return a local path of a data item; a downloaded copy is deleted in the end."""
        path = str(data_item.local())
        if add_to_future_clearing_path or (add_to_future_clearing_path is None and data_item.kind != "file"):
            self.add_future_clearing_path(path)
        return path

    def clear(self) -> None:
        """Delete what add_future_clearing_path was told."""
        import shutil

        for path in self.future_clearing_path_list:
            if os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)
            elif os.path.exists(path):
                os.remove(path)
        self.future_clearing_path_list.clear()

    def __lt__(self, other: Any) -> bool:
        return bool(self.priority < other.priority)


class DefaultPackager(Packager):
    """A packager whose methods pack_<artifact type> and unpack_<artifact type> are what it can do."""

    PACK_SUBCLASSES = False
    DEFAULT_PACKING_ARTIFACT_TYPE: Any = "object"
    DEFAULT_UNPACKING_ARTIFACT_TYPE: Any = "object"

    def get_default_packing_artifact_type(self, obj: Any) -> str:
        """Return DEFAULT_PACKING_ARTIFACT_TYPE."""
        return _text(self.DEFAULT_PACKING_ARTIFACT_TYPE)

    def get_default_unpacking_artifact_type(self, data_item: Any) -> str:
        """Return DEFAULT_UNPACKING_ARTIFACT_TYPE."""
        return _text(self.DEFAULT_UNPACKING_ARTIFACT_TYPE)

    def get_supported_artifact_types(self) -> list[str]:
        """Return the artifact types that there are methods for."""
        packing, unpacking = self.get_supported_packing_artifact_types(), self.get_supported_unpacking_artifact_types()
        return sorted({*packing, *unpacking})

    def get_supported_packing_artifact_types(self) -> list[str]:
        """Return the artifact types that there are methods pack_<artifact type> for."""
        return [name[len("pack_") :] for name in dir(self) if name.startswith("pack_")]

    def get_supported_unpacking_artifact_types(self) -> list[str]:
        """Return the artifact types that there are methods unpack_<artifact type> for."""
        return [name[len("unpack_") :] for name in dir(self) if name.startswith("unpack_")]

    def pack(self, obj: Any, key: Any = None, artifact_type: Any = None, configurations: Any = None) -> Any:
        """Call pack_<artifact type> with the configurations that it takes."""
        kind = _text(artifact_type) or self.get_default_packing_artifact_type(obj)
        return _call(getattr(self, "pack_" + kind), (obj, key), configurations)

    def unpack(self, data_item: Any, artifact_type: Any = None, instructions: Any = None) -> Any:
        """Call unpack_<artifact type> with the instructions that it takes."""
        kind = _text(artifact_type) or self.get_default_unpacking_artifact_type(data_item)
        return _call(getattr(self, "unpack_" + kind), (data_item,), instructions)

    def is_packable(self, obj: Any, artifact_type: Any = None, configurations: Any = None) -> bool:
        """Say whether obj can be packed as artifact_type."""
        if self.PACK_SUBCLASSES and self.PACKABLE_OBJECT_TYPE is not ...:
            if not isinstance(obj, _types(self.PACKABLE_OBJECT_TYPE)):
                return False
            return not artifact_type or artifact_type in self.get_supported_packing_artifact_types()
        return super().is_packable(obj, artifact_type, configurations)

    def pack_object(self, obj: Any, key: str, pickle_module_name: str = "") -> Any:
        """Pickle obj."""
        packed = _pack.pack(key, obj, "object", {"pickle_module_name": pickle_module_name})
        self.add_future_clearing_path(packed.temporary)
        return packed.artifact, packed.artifact.unpackaging_instructions["instructions"]

    def pack_result(self, obj: Any, key: str) -> dict[str, Any]:
        """Make obj a result."""
        return {key: obj}

    def unpack_object(self, data_item: Any, pickle_module_name: str = "", **versions: Any) -> Any:
        """Load a pickle; the versions that were recorded with it are not looked at."""
        return _unpack.unpickle(data_item, {"pickle_module_name": pickle_module_name})


def of_run(context: MLClientCtx) -> list[Packager]:
    """Return the packagers of a run, the first to be asked first.

    They are spec.custom_packagers of the run, pairs of a class's dotted path (`*`
    instead of a class: all of its module) and whether the run fails without it.
    """
    global _owner, _found
    if _owner is context:
        return _found
    found: list[Packager] = []
    for entry in (context._document.get("spec") or {}).get("custom_packagers") or ():
        path, mandatory = (entry, False) if isinstance(entry, str) else (str(entry[0]), bool(entry[1]))
        try:
            made = [cls() for cls in _classes(path)]
        except Exception as error:
            text = "the packager %s of the project cannot be used: %s" % (path, str(error) or type(error).__name__)
            if mandatory:
                raise UserError(text) from None
            context.logger.warning(text)
            continue
        for packager in made:
            if packager.priority is ...:
                packager.priority = _PRIORITY
            found.insert(0, packager)
    found.sort(key=lambda packager: packager.priority)
    _owner, _found = context, found
    return found


def unpack(packagers: list[Any], item: Any, kind: type, recorded: dict[str, Any]) -> tuple[bool, Any]:
    """Return whether one of packagers is for item as kind, and the value that it makes of it.

    An artifact that says which packager has packed it is that one's business; others are its type's.
    """
    name, how = recorded.get("packager_name"), recorded.get("artifact_type") or None
    for packager in packagers:
        if name and type(packager).__name__ != name:
            continue
        if packager.is_unpackable(item, kind, how):
            return True, packager.unpack(item, how, recorded.get("instructions") or {})
    return False, None


def _classes(path: str) -> list[Any]:
    from importlib import import_module

    module_name, _, name = path.rpartition(".")
    module = import_module(module_name or "__main__")
    if name == "*":
        own = [cls for _, cls in sorted(vars(module).items()) if getattr(cls, "__module__", "") == module.__name__]
        kinds = [cls for cls in own if isinstance(cls, type) and issubclass(cls, Packager)]
        return [cls for cls in kinds if not cls.__name__.startswith("_")]
    cls = getattr(module, name, None)
    if cls is None:
        raise UserError("the module %s has no %s" % (module.__name__, name))
    if not isinstance(cls, type) or not issubclass(cls, Packager):
        raise UserError("it is not a subclass of mlrun.Packager")
    return [cls]


def _call(method: Any, arguments: tuple[Any, ...], options: Any) -> Any:
    """Call method with those of options that it takes."""
    import inspect

    given = dict(options or {})
    known = inspect.signature(method).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        given = {name: value for name, value in given.items() if name in known}
    return method(*arguments, **given)


def _types(hint: Any) -> tuple[type, ...]:
    """Return the classes behind a type or a hint such as dict[str, int]."""
    from millrace import _hints

    return tuple(_hints.types_of(hint, {})) or (object,)


def _text(kind: Any) -> str:
    return str(getattr(kind, "value", kind)) if kind else ""


def _missing(packager: Packager, method: str) -> str:
    return "the packager %s has no method %s; derive it from mlrun.DefaultPackager or write one" % (
        type(packager).__name__, method,
    )  # fmt: skip
