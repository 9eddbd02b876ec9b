"""Start a function worker: python -S boot.py [HOST-PID READ-FD WRITE-FD].

The worker's half of the protocol (docs/protocol.md) is on descriptors 3 and 4.
The modules needed by every worker are loaded from one file of marshalled code,
written on the first start of an interpreter version: one read instead of a
search, a stat and a read for each of them. The other modules of the package
are imported in the ordinary way when something needs them.
"""

import sys


def _load() -> None:
    from _frozen_importlib import ModuleSpec
    from _frozen_importlib_external import SourceFileLoader
    from marshal import loads

    root = sys.path.pop(0)
    name = "%s/cache/%s-%x-%d.bin" % (
        root,
        sys.implementation.cache_tag,
        sys.hexversion,
        sys.flags.optimize,
    )
    try:
        with open(name, "rb") as file:
            modules = loads(file.read())  # noqa: S302 - written by this very runtime
    except (OSError, ValueError, EOFError, TypeError):
        path = root + "/millrace/_bundle.py"
        with open(path, "rb") as file:
            scope = {"__name__": "millrace._bundle"}
            exec(compile(file.read(), path, "exec"), scope)
        modules = scope["build"](root, name)  # type: ignore[operator]
    # The core keeps working when user code replaces built-in functions.
    builtins = sys.modules["builtins"].__dict__.copy()
    for name, file, code in modules:
        path = root + "/millrace/" + file
        spec = ModuleSpec(name, SourceFileLoader(name, path), origin=path, is_package=file == "__init__.py")
        spec.has_location = True
        module = type(sys)(name)
        module.__dict__["__builtins__"] = builtins
        module.__spec__, module.__file__, module.__loader__ = spec, path, spec.loader
        if file == "__init__.py":
            module.__path__ = spec.submodule_search_locations = [root + "/millrace"]
            module.__package__ = name
        else:
            module.__package__ = "millrace"
        sys.modules[name] = module
        if file != "__init__.py":
            setattr(sys.modules["millrace"], name.partition(".")[2], module)
        exec(code, module.__dict__)


if __name__ == "__main__":
    _load()
    if sys.argv[1:2] == ["template"]:
        from millrace import _template

        _template.main(sys.argv[2:])
    else:
        sys.modules["millrace._worker"].main(sys.argv[1:])
