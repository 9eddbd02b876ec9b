"""Compares two Python sources by their syntax trees, without executing them.

Standard input has a JSON object ``{"a": text, "b": text}``; standard output gets
``{"same": bool, "reason": text, "changed": [names of top-level statements]}``.

``same`` means that no execution can tell the two apart, except by reading source
text or line numbers, and sources that seem to do that are never the same. What is
let pass is what the parser drops: comments, layout, blank lines, line breaks,
quotes, prefixes and escapes of equal literals, redundant parentheses, trailing
commas, and statements without effect (``pass`` and bare constants that do not
begin a block). Everything else counts, docstrings, annotations and the order of
imports too: programs can read them, or depend on them.
"""

from __future__ import annotations

import ast
import io
import json
import re
import sys
import tokenize
import warnings

# Names and texts by which code gets at its own source or line numbers.
_READS_SOURCE = re.compile(
    r"inspect|linecache|traceback|tokenize|lineno|sourcelines|getsource|findsource|_getframe|currentframe|"
    r"findCaller|stack_info|stacklevel|pathname|__file__|__loader__|__spec__|__code__|__traceback__|get_data|"
    r"\bargv\b|set_trace|settrace|setprofile|warnings"
)
# Comments that are more than comments to programs that we know of.
_MEANT = re.compile(r"mlrun\s*:|nuclio\s*:|^#\s*///|^#!|\bcoding[:=]")


def strip(tree: ast.AST) -> ast.AST:
    """Drop statements without effect and the u before literals."""
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list) and len(block) > 1:
                setattr(node, field, block[:1] + [s for s in block[1:] if not _idle(s)])
        if isinstance(node, ast.Constant):
            node.kind = None
    return tree


def _idle(statement: ast.AST) -> bool:
    if isinstance(statement, ast.Pass):
        return True
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def instructions(source: str) -> list[str]:
    """Return the source without its layout, if one of its comments is more than that."""
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    if not any(t.type == tokenize.COMMENT and _MEANT.search(t.string) for t in tokens):
        return []
    layout = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    return [t.string for t in tokens if t.type not in layout]


def title(statement: ast.AST) -> str:
    """Return what people call a statement."""
    name = getattr(statement, "name", None)
    if isinstance(name, str):
        return ("class " if isinstance(statement, ast.ClassDef) else "def ") + name
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return "imports"
    targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
    if isinstance(targets[0], ast.Name):
        return targets[0].id
    return "line %d" % getattr(statement, "lineno", 0)


def changed(a: ast.Module, b: ast.Module) -> list[str]:
    """Return the names of the top-level statements that only one of the two has."""
    left = [(ast.dump(s), title(s)) for s in a.body]
    right = [(ast.dump(s), title(s)) for s in b.body]
    dumps = {d for d, _ in left} & {d for d, _ in right}
    names = [t for d, t in left + right if d not in dumps]
    return list(dict.fromkeys(names)) or ["the order of statements"]


def compare(a: str, b: str) -> dict[str, object]:
    """Return the answer for two sources."""

    def differs(reason: str, names: list[str] | None = None) -> dict[str, object]:
        return {"same": False, "reason": reason, "changed": names or []}

    try:
        left, right = ast.parse(a), ast.parse(b)
        meant = instructions(a), instructions(b)
    except (SyntaxError, ValueError, tokenize.TokenError) as error:
        return differs("it can not be parsed: %s" % str(error).splitlines()[0])
    strip(left), strip(right)
    if ast.dump(left) != ast.dump(right):
        return differs("the syntax trees differ", changed(left, right))
    if meant[0] != meant[1]:
        return differs("some comments are instructions to programs, and more than the layout differs")
    if any(_READS_SOURCE.search(ast.dump(tree)) for tree in (left, right)):
        return differs("the code may read its own source or line numbers, which differ")
    return {"same": True, "reason": "the syntax trees are equal", "changed": []}


def main() -> None:
    """Answer one question."""
    warnings.simplefilter("ignore")
    pair = json.loads(sys.stdin.buffer.read().decode("utf-8", "surrogatepass"))
    try:
        answer = compare(pair["a"], pair["b"])
    except (RecursionError, MemoryError, ValueError):
        answer = {"same": False, "reason": "it is too deeply nested to compare", "changed": []}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
