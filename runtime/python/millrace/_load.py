"""Loading user code and finding the handler in it."""

from __future__ import annotations

import posix
import sys

from millrace import _site
from millrace._bind import Binder
from millrace._errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType
    from typing import Any

    from millrace._context import MLClientCtx

_Module = type(sys)
_Function = type(lambda: None)


class Script:
    """A file that runs as __main__ in every call."""

    name = "__main__"
    returns = False

    def __init__(self, file: str, argv: list[str]) -> None:
        self._file = file
        self._argv = argv
        self._code, self._loader = _code("__main__", file)
        _site.before(self._code)

    def __call__(self, context: MLClientCtx) -> None:
        module = _Module("__main__")
        module.__file__ = self._file
        module.__loader__ = self._loader
        module.__dict__["__builtins__"] = sys.modules["builtins"]
        module.__dict__["__cached__"] = None
        sys.modules["__main__"] = module
        sys.argv = [self._file, *self._argv]
        exec(self._code, module.__dict__)


class Handler:
    """A function or a method of a class, called with the run's arguments."""

    returns = True

    def __init__(self, name: str, function: Any, cls: Any = None, method: str = "") -> None:
        self.name = name
        self._function = function
        self._class = cls
        self._method = method
        self._binder = Binder(function, name) if cls is None else None

    def __call__(self, context: MLClientCtx) -> Any:
        target: Any = context
        get_input = context.get_input
        if "mlrun" in sys.modules:
            from millrace import _mlrun

            real = _mlrun.context_for(context)
            if real is not None:
                target, get_input = real, real.get_input
        parameters, inputs = context._parameters, context._inputs
        function, binder = self._function, self._binder
        if binder is None:
            parameters = dict(parameters)
            function = self._bound(target, parameters.pop("_init_args", None))
            binder = Binder(function, self.name)
        typed = None
        if target is context and "custom_packagers" in (context._document.get("spec") or ()):
            from millrace import _packagers

            _packagers.of_run(context)  # one that is needed and missing fails the run before its code begins
        if target is context and inputs and binder.has_types(inputs, context._hints):
            from millrace import _unpack

            typed = _unpack.for_handler(function, context._hints)
        args, kwargs = binder.bind(target, parameters, inputs, get_input, typed)
        if target is not context:
            function = _mlrun.wrap(function, context, [*args, *kwargs.values()])
        value = function(*args, **kwargs)
        if type(value).__name__ == "coroutine":
            from asyncio import run

            value = run(value)
        return value

    def _bound(self, context: Any, init_args: Any) -> Any:
        """Make the instance of one call and return its method."""
        given = dict(init_args or {})
        cls = self._class
        name = cls.__name__
        init = cls.__init__
        if isinstance(init, _Function):
            from millrace._bind import EXTRA_KEYWORD, parameters_of

            taken = parameters_of(init, name)[1:]
            if any(p.is_context or p.kind == EXTRA_KEYWORD for p in taken):
                wanted = next((p.name for p in taken if p.is_context), "context")
                given.setdefault(wanted, context)
        try:
            instance = cls(**given)
        except TypeError as error:
            shown = ", ".join(sorted(key for key in given if key != "context")) or "no arguments"
            raise UserError("%s cannot be made with %s; set the run parameter _init_args" % (name, shown)) from error
        return getattr(instance, self._method)


def load(head: dict[str, Any]) -> Script | Handler:
    """Prepare the process as the load message asks for and load the code."""
    file = head.get("file")
    if head.get("mode") == "main":
        _prepare(head)
        if not file:
            raise UserError("there is no file to run")
        return Script(file, head.get("argv") or [])
    return resolve(head.get("handler") or "", load_module(head))


def load_module(head: dict[str, Any]) -> ModuleType | None:
    """Do what load does, but for finding the handler."""
    _prepare(head)
    file = head.get("file")
    sys.argv = [file or "", *(head.get("argv") or [])]
    if file:
        return _load_file(file)
    if head.get("module"):
        _site.complete()
        return _import(head["module"])
    return None


def _prepare(head: dict[str, Any]) -> None:
    env = head.get("env") or {}
    _environment(env)
    if "MILLRACE_SEED" in env or "MILLRACE_WATCH" in env:
        from millrace import _repeat

        _repeat.prepare(env)
    workdir = head.get("workdir")
    if workdir:
        try:
            posix.chdir(workdir)
        except OSError as error:
            raise UserError("the working directory %s cannot be entered: %s" % (workdir, error.strerror)) from None
    file = head.get("file")
    if head.get("path"):
        sys.path[:0] = head["path"]
    elif file:
        sys.path.insert(0, file.rpartition("/")[0] or "/")
    for folder in [posix.getcwd() if workdir else None, *(head.get("pythonpath") or ())]:
        if folder and folder not in sys.path:
            sys.path.append(folder)


def _environment(env: dict[str, str]) -> None:
    """Set variables that were not known when the process started."""
    if not env:
        return
    added = env.get("PYTHONPATH")
    if "os" in sys.modules:
        sys.modules["os"].environ.update(env)
    else:
        for key, value in env.items():
            name, data = key.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape")
            posix.putenv(name, data)
            posix.environ[name] = data
    if added:
        sys.path[:0] = [part for part in added.split(":") if part]
        _site.complete()
        site = sys.modules.get("site")
        if site is not None and "sitecustomize" not in sys.modules:
            site.execsitecustomize()


def _code(name: str, file: str) -> tuple[CodeType, Any]:
    """Compile file, or take its cached bytecode."""
    from _frozen_importlib_external import SourceFileLoader

    loader = SourceFileLoader(name, file)
    try:
        return loader.get_code(name), loader  # type: ignore[return-value]
    except FileNotFoundError:
        raise UserError("the code file %s does not exist" % file) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("the code file %s cannot be read: %s" % (file, error)) from None
    except ValueError as error:  # null bytes
        raise UserError("the code file %s is not Python source: %s" % (file, error)) from None


def _load_file(file: str) -> ModuleType:
    """Execute file as the module of its stem, replacing one of that name."""
    from _frozen_importlib import ModuleSpec

    stem = file.rpartition("/")[2]
    stem = stem.rpartition(".")[0] or stem
    if stem == "millrace" or stem in sys.builtin_module_names:
        raise UserError("a code file cannot be called %s.py, which is the name of a module it needs; rename it" % stem)
    code, loader = _code(stem, file)
    _site.before(code)
    spec = ModuleSpec(stem, loader, origin=file)
    spec.has_location = True
    module = _Module(stem)
    module.__file__, module.__loader__, module.__spec__ = file, loader, spec
    module.__package__ = ""
    module.__dict__["__builtins__"] = sys.modules["builtins"].__dict__
    sys.modules[stem] = module
    try:
        exec(code, module.__dict__)
    except BaseException:
        sys.modules.pop(stem, None)
        raise
    return sys.modules.get(stem, module)


def _import(name: str) -> ModuleType:
    """Import a module by its dotted path; one that is not there is a UserError."""
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(missing + "."):
            raise UserError(
                "there is no module %r; give a file, or the folder that contains it (looked in %s)"
                % (name, ", ".join(part or "." for part in sys.path[:4]))
            ) from None
        raise
    return sys.modules[name]


def resolve(handler: str, module: ModuleType | None) -> Handler:
    """Find what the handler string names."""
    if not handler:
        raise UserError("no handler was given; name one of: " + ", ".join(_names(module)), _names(module))
    if handler.startswith("("):
        raise UserError("the handler %r is an expression; write it as a function and name that" % handler)
    owner, separator, method = handler.partition("::")
    if separator:
        cls = _find(owner, module, handler)
        if not isinstance(cls, type):
            raise UserError("%r is not a class, so %r is not a handler" % (owner, handler))
        if not callable(getattr(cls, method, None)):
            found = [name for name in dir(cls) if not name.startswith("_") and callable(getattr(cls, name))]
            raise UserError(_not_found("method %r in the class %s" % (method, owner), method, found), found)
        return Handler(handler, None, cls, method)
    function = _find(handler, module, handler)
    if not callable(function):
        raise UserError("%r is %s, not something that can be called" % (handler, type(function).__name__))
    return Handler(handler, function)


def _find(name: str, module: ModuleType | None, handler: str) -> Any:
    if module is not None and name in module.__dict__:
        return module.__dict__[name]
    if module is not None and "." not in name and hasattr(module, name):
        return getattr(module, name)
    path, _, last = name.rpartition(".")
    if not path:
        found = _names(module)
        where = " in %s" % _where(module) if module is not None else ": no code was given"
        what = "handler" if name == handler else "class"
        raise UserError(_not_found("%s %r%s" % (what, name, where), name, found), found)
    _site.complete()
    owner = module if module is not None and path == module.__name__ else _import(path)
    if not hasattr(owner, last):
        found = _names(owner)
        raise UserError(_not_found("%r in %s" % (last, _where(owner)), last, found), found)
    return getattr(owner, last)


def _where(module: ModuleType) -> str:
    file = getattr(module, "__file__", None)
    return file.rpartition("/")[2] if file else "the module " + module.__name__


def _names(module: ModuleType | None) -> list[str]:
    """Return the functions and classes defined in module, in their order."""
    if module is None:
        return []
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, (_Function, type)) and value.__module__ == module.__name__ and not name.startswith("_")
    ]


def _not_found(what: str, name: str, found: list[str]) -> str:
    _site.complete()
    from difflib import get_close_matches

    close = get_close_matches(name, found, 1)
    hint = "; did you mean %r?" % close[0] if close else ""
    return "there is no %s%s (found: %s)" % (what, hint, ", ".join(found) or "none")
