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
    except OSError:
        pass
    return modules
