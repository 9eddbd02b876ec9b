"""Lists the entry points of Python source without executing it.

The source comes on standard input; standard output gets one JSON object, either
``{"entry_points": {name: entry}}`` or ``{"syntax_error": {"line", "message"}}``.

Listed are the public functions of the module, plain and async, and the public
methods of its public classes under ``Class::method``, which is how a handler names
them. When a comment ``# mlrun:handler`` stands above any of them (decorators,
blank lines and other comments may come between), only those are listed, private
ones too. Types come from annotations, defaults are literal values or source text,
and documentation is read from reST, Google and NumPy docstrings.
"""

from __future__ import annotations

import ast
import copy
import json
import math
import re
import sys
import warnings

# typing and tokenize cost more to import than small sources take to describe.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Union

    Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]

_MARKER = r"#\s*mlrun:\s*handler\b"
_REST_FIELD = r":(\w+)(?:\s+([^:]*?))?\s*:(?:\s+(.*)|\s*)$"
_GOOGLE_ITEM = r"\*{0,2}(\w+)\s*(?:\(([^)]*(?:\([^)]*\)[^)]*)*)\))?\s*:\s*(.*)$"
_GOOGLE_RETURN = r"([\w.]+(?:\[.*?\])?(?:\s*\|\s*[\w.\[\]]+)*)\s*:\s+(.*)$"
_REST_PARAM = {"param", "parameter", "arg", "argument", "key", "keyword"}
_PARAM_SECTIONS = {"args", "arguments", "parameters", "params", "keyword args", "keyword arguments", "other parameters"}
_RETURN_SECTIONS = {"return", "returns", "yield", "yields"}
_OTHER_SECTIONS = {
    "attributes", "example", "examples", "methods", "note", "notes", "raises", "references", "see also", "todo",
    "warning", "warnings", "warns", "receives",
}  # fmt: skip
_SECTIONS = _PARAM_SECTIONS | _RETURN_SECTIONS | _OTHER_SECTIONS


class Docs:
    """What a docstring says: the text, and type and doc of parameters and result."""

    def __init__(self) -> None:
        self.text = ""
        self.params: dict[str, dict[str, str]] = {}
        self.result: dict[str, str] = {}
        self.types_win = False  # reST types override annotations

    def param(self, name: str) -> dict[str, str]:
        return self.params.setdefault(name, {})


def parse_docstring(text: str) -> Docs:
    lines = text.splitlines()
    if any(line.startswith(":") and re.match(_REST_FIELD, line) for line in lines):
        return _parse_rest(lines)
    return _parse_sections(lines)


def _parse_rest(lines: list[str]) -> Docs:
    docs = Docs()
    docs.types_win = True
    start = next(i for i, line in enumerate(lines) if line.startswith(":") and re.match(_REST_FIELD, line))
    docs.text = "\n".join(lines[:start]).strip()
    fields: list[tuple[str, str, list[str]]] = []
    for line in lines[start:]:
        match = re.match(_REST_FIELD, line)
        if match:
            fields.append((match.group(1), match.group(2) or "", [match.group(3) or ""]))
        else:
            fields[-1][2].append(line)
    for tag, argument, content in fields:
        value = " ".join(" ".join(content).split())
        words = argument.rsplit(None, 1)
        if tag in _REST_PARAM and words:
            entry = docs.param(words[-1].lstrip("*\\"))
            entry["doc"] = value
            if len(words) == 2:
                entry["type"] = words[0]
        elif tag == "type" and words:
            docs.param(argument)["type"] = value
        elif tag in ("return", "returns"):
            docs.result["doc"] = value
        elif tag == "rtype":
            docs.result["type"] = value
    return docs


def _parse_sections(lines: list[str]) -> Docs:
    """Reads Google and NumPy sections; those for parameters and results leave the text."""
    docs = Docs()
    text: list[str] = []
    at = 0
    while at < len(lines):
        name, numpy, body_at = _section(lines, at)
        if name not in _PARAM_SECTIONS and name not in _RETURN_SECTIONS:
            text.append(lines[at])
            at += 1
            continue
        end = body_at
        while end < len(lines) and not _ends(lines, end, numpy):
            end += 1
        body = lines[body_at:end]
        if name in _PARAM_SECTIONS:
            (_numpy_params if numpy else _google_params)(docs, body)
        else:
            (_numpy_result if numpy else _google_result)(docs, body)
        at = end
    docs.text = "\n".join(text).strip()
    return docs


def _section(lines: list[str], at: int) -> tuple[str, bool, int]:
    """The section that begins at a line: its name, whether in NumPy style, its body's first line."""
    line = lines[at]
    if line.strip().lower() in _SECTIONS and at + 1 < len(lines) and re.match(r"\s*-{3,}\s*$", lines[at + 1]):
        return line.strip().lower(), True, at + 2
    name = line.rstrip()[:-1].lower()
    if line.rstrip().endswith(":") and name in _SECTIONS and at + 1 < len(lines) and lines[at + 1][:1] in (" ", "\t"):
        return name, False, at + 1
    return "", False, at


def _ends(lines: list[str], at: int, numpy: bool) -> bool:
    line = lines[at]
    if numpy:
        return bool(_section(lines, at)[0])
    return bool(line.strip()) and line[0] not in " \t"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _items(body: list[str]) -> Iterator[tuple[str, str]]:
    """Splits a body into items: lines of the smallest indentation and the deeper text below each."""
    lines = [line for line in body if line.strip()]
    margin = min((_indent(line) for line in lines), default=0)
    head = ""
    rest: list[str] = []
    for line in lines:
        if _indent(line) == margin:
            if head:
                yield head, " ".join(rest)
            head, rest = line.strip(), []
        else:
            rest.append(line.strip())
    if head:
        yield head, " ".join(rest)


def _google_params(docs: Docs, body: list[str]) -> None:
    for head, rest in _items(body):
        match = re.match(_GOOGLE_ITEM, head)
        if match:
            entry = docs.param(match.group(1))
            entry["type"] = _plain_type(match.group(2) or "")
            entry["doc"] = f"{match.group(3)} {rest}".strip()


def _numpy_params(docs: Docs, body: list[str]) -> None:
    for head, rest in _items(body):
        names, _, kind = head.partition(":")
        for name in names.split(","):
            entry = docs.param(name.strip().lstrip("*"))
            entry["type"] = _plain_type(kind)
            entry["doc"] = rest


def _plain_type(text: str) -> str:
    return re.sub(r",?\s*(optional|default\b.*)$", "", text.strip()).strip()


def _google_result(docs: Docs, body: list[str]) -> None:
    text = " ".join(" ".join(body).split())
    match = re.match(_GOOGLE_RETURN, text)
    docs.result = {"type": match.group(1), "doc": match.group(2)} if match else {"doc": text}


def _numpy_result(docs: Docs, body: list[str]) -> None:
    for head, rest in _items(body):
        name, colon, kind = head.partition(":")
        docs.result = {"type": (kind if colon else name).strip(), "doc": rest}
        return


class _Shorten(ast.NodeTransformer):
    """Makes ``pd.DataFrame`` ``DataFrame``, but not in unions and not before a bracket."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name):
            return ast.copy_location(ast.Name(id=node.attr, ctx=ast.Load()), node)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        node.slice = self.visit(node.slice)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        return node


class Module:
    """Parsed source and what has to be known of its text."""

    def __init__(self, source: bytes) -> None:
        self.tree = ast.parse(source)
        self.text = source.decode(_encoding(source), "replace")
        self.lines = self.text.split("\n")
        self.comments: set[int] = set()
        self.markers: set[int] = set()
        if "mlrun:" in self.text:
            self._find_markers()

    def _find_markers(self) -> None:
        import io
        import tokenize

        try:
            for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
                if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#"):
                    self.comments.add(token.start[0])
                    if re.match(_MARKER, token.string):
                        self.markers.add(token.start[0])
        except (tokenize.TokenError, SyntaxError):
            pass  # the parser is the judge; markers up to here count

    def entry_points(self) -> dict[str, Any]:
        out = {}
        for name, node, bound in _functions(self.tree.body):
            private = any(part.startswith("_") for part in name.split("::"))
            if self._marked(node) if self.markers else not private:
                out[name] = self._entry(name, node, bound)
        return out

    def _marked(self, node: Function) -> bool:
        first = min([node.lineno] + [decorator.lineno for decorator in node.decorator_list])
        if any(first <= line <= node.lineno for line in self.markers):
            return True
        line = first - 1
        while line >= 1 and (line in self.comments or not self.lines[line - 1].strip()):
            if line in self.markers:
                return True
            line -= 1
        return False

    def _entry(self, name: str, node: Function, bound: bool) -> dict[str, Any]:
        docs = parse_docstring(ast.get_docstring(node) or "")
        entry: dict[str, Any] = {"name": name, "doc": docs.text}
        parameters = self._parameters(node, bound, docs)
        if parameters:
            entry["parameters"] = parameters
        output = {"type": self._type(node.returns) if node.returns else "", "doc": docs.result.get("doc", "")}
        if docs.result.get("type") and (docs.types_win or not output["type"]):
            output["type"] = docs.result["type"]
        output = {key: value for key, value in output.items() if value}
        if output:
            entry["outputs"] = [output]
        entry["lineno"] = node.lineno
        entry["has_varargs"] = node.args.vararg is not None
        entry["has_kwargs"] = node.args.kwarg is not None
        return entry

    def _parameters(self, node: Function, bound: bool, docs: Docs) -> list[dict[str, Any]]:
        positional = node.args.posonlyargs + node.args.args
        missing: list[ast.expr | None] = [None] * (len(positional) - len(node.args.defaults))
        pairs = list(zip(positional, missing + list(node.args.defaults)))[1 if bound else 0 :]
        pairs += zip(node.args.kwonlyargs, node.args.kw_defaults)
        out = []
        for argument, default in pairs:
            documented = docs.params.get(argument.arg, {})
            kind = self._type(argument.annotation) if argument.annotation else ""
            if documented.get("type") and (docs.types_win or not kind):
                kind = documented["type"]
            parameter: dict[str, Any] = {"name": argument.arg}
            if kind:
                parameter["type"] = kind
            if default is not None:
                parameter["default"] = self._default(default)
            if documented.get("doc"):
                parameter["doc"] = documented["doc"]
            out.append(parameter)
        return out

    def _type(self, node: ast.expr) -> str:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        return ast.unparse(_Shorten().visit(copy.deepcopy(node)))

    def _default(self, node: ast.expr) -> Any:
        try:
            return _plain(ast.literal_eval(node))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            text = ast.get_source_segment(self.text, node)
            return text if text and "\n" not in text else ast.unparse(node)


def _encoding(source: bytes) -> str:
    if b"coding" not in b"".join(source.splitlines(True)[:2]):
        return "utf-8"
    import io
    import tokenize

    return tokenize.detect_encoding(io.BytesIO(source).readline)[0]


def _plain(value: Any) -> Any:
    """The value as JSON has it; ValueError when JSON has none."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        str(value)  # ValueError when it is too long to write
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(item) for key, item in value.items()}
    raise ValueError("not a JSON value")


def _functions(body: list[ast.stmt]) -> Iterator[tuple[str, Function, bool]]:
    """The functions and methods of a module, each with the name that a handler gives it.

    The last item says whether the first parameter is bound (self or cls).
    """
    for statement in body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield statement.name, statement, False
        elif isinstance(statement, ast.ClassDef):
            for name, method, _ in _functions(statement.body):
                decorators = {ast.unparse(decorator) for decorator in method.decorator_list}
                if "::" not in name and not decorators & {"property", "cached_property", "functools.cached_property"}:
                    yield f"{statement.name}::{name}", method, "staticmethod" not in decorators
        else:
            for field in ("body", "orelse", "finalbody"):
                yield from _functions(getattr(statement, field, []))
            for handler in getattr(statement, "handlers", []):
                yield from _functions(handler.body)


def describe(source: bytes) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    try:
        return {"entry_points": Module(source).entry_points()}
    except SyntaxError as error:
        return {"syntax_error": {"line": error.lineno or 0, "message": error.msg or "invalid syntax"}}
    except (RecursionError, MemoryError):
        return {"syntax_error": {"line": 0, "message": "the code is nested too deeply"}}
    except (UnicodeDecodeError, LookupError, ValueError) as error:
        return {"syntax_error": {"line": 0, "message": str(error)}}


if __name__ == "__main__":
    json.dump(describe(sys.stdin.buffer.read()), sys.stdout)
