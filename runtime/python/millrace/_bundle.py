"""Write the file that boot.py starts from: the code of the core modules."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType

# In the order in which they can be executed.
CORE = ("__init__", "_json", "_wire", "_errors", "_site", "_bind", "_values", "_context", "_load", "_worker")


def build(root: str, target: str) -> "list[tuple[str, str, CodeType]]":
    """Compile the core modules, store them in target and return them.

    A folder that cannot be written costs time on every start, nothing else.
    Concurrent builders each write a file of their own and rename it.
    """
    import marshal
    import os

    modules = []
    folder = root + "/millrace/"
    for stem in CORE:
        with open(folder + stem + ".py", "rb") as file:
            code = compile(file.read(), folder + stem + ".py", "exec", dont_inherit=True)
        modules.append(("millrace" if stem == "__init__" else "millrace." + stem, stem + ".py", code))
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        temporary = "%s.%d" % (target, os.getpid())
        with open(temporary, "wb") as file:
            file.write(marshal.dumps(modules))
        os.replace(temporary, target)
        _precompile(folder, "millrace.")
        _precompile(folder + "facade/", "mlrun.")
    except OSError:
        pass
    return modules


def _precompile(folder: str, package: str) -> None:
    """Cache the bytecode of the modules that are imported later."""
    import os
    from importlib.machinery import SourceFileLoader
    from importlib.util import cache_from_source

    for entry in os.listdir(folder):
        stem, extension = os.path.splitext(entry)
        if extension == ".py" and (stem not in CORE or package == "mlrun."):
            loader = SourceFileLoader(package + stem, folder + entry)
            stats = loader.path_stats(folder + entry)
            code = compile(loader.get_data(folder + entry), folder + entry, "exec", dont_inherit=True)
            data = _pyc(code, int(stats["mtime"]), stats["size"])
            cached = cache_from_source(folder + entry)
            os.makedirs(os.path.dirname(cached), exist_ok=True)
            temporary = "%s.%d" % (cached, os.getpid())
            with open(temporary, "wb") as file:
                file.write(data)
            os.replace(temporary, cached)


def _pyc(code: object, mtime: int, size: int) -> bytes:
    import marshal
    from importlib.util import MAGIC_NUMBER

    header = MAGIC_NUMBER + bytes(4) + (mtime & 0xFFFFFFFF).to_bytes(4, "little")
    return header + (size & 0xFFFFFFFF).to_bytes(4, "little") + marshal.dumps(code)  # type: ignore[arg-type]
