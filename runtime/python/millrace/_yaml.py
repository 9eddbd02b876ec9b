"""YAML as model_spec.yaml has it: block style, sorted keys; written whole, read in that style."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What YAML 1.1 takes for something else than text.
_OTHER = re.compile(
    r"""^(?:~|null|Null|NULL|true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF|=|<<
    |[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+
    |[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?
    |[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)
    |[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9:.]*.*)$""",
    re.VERBOSE,
)
_PLAIN = re.compile(r"^(?!---|\.\.\.)[^\s\-?:,\[\]{}#&*!|>'\"%@`][^\n]*$|^[-?:][^\s,\[\]{}][^\n]*$")
_SHORT = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "\0": "\\0"}
_LONG = {value[1]: key for key, value in _SHORT.items()}


def dump(value: Any) -> str:
    """Return value (dicts, lists, text, numbers, booleans, None) as YAML."""
    lines: list[str] = []
    _write(value, 0, "", lines)
    return "\n".join(lines) + "\n"


def _write(value: Any, depth: int, lead: str, lines: list[str]) -> None:
    """Append value; lead is what stands before it on its first line."""
    pad = "  " * depth
    if isinstance(value, dict) and value:
        first = lead
        for key in sorted(value, key=str):
            item, name = value[key], _scalar(key)
            start = (first if first else pad) + name + ":"
            first = ""
            if isinstance(item, (dict, list)) and item:
                lines.append(start)
                # A list in a dict stands under its key, without a step to the right.
                _write(item, depth if isinstance(item, list) else depth + 1, "", lines)
            else:
                lines.append("%s %s" % (start, _scalar(item)))
    elif isinstance(value, list) and value:
        first = lead
        for item in value:
            start = (first if first else pad) + "- "
            first = ""
            if isinstance(item, (dict, list)) and item:
                _write(item, depth + 1, start, lines)
            else:
                lines.append(start + _scalar(item))
    else:
        lines.append((lead or pad) + _scalar(value))


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, float):
        if value != value:
            return ".nan"
        if value in (float("inf"), float("-inf")):
            return ".inf" if value > 0 else "-.inf"
        text = repr(value)
        # YAML wants a point in a number that has an exponent.
        return text if "." in text or "e" not in text else text.replace("e", ".0e", 1)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, list):
        return "[]"
    return _text(str(value))


def _text(text: str) -> str:
    special = any(not char.isprintable() for char in text)
    if special:
        return '"%s"' % "".join(_escape(char) for char in text)
    plain = bool(_PLAIN.match(text)) and text == text.strip()
    if plain and ": " not in text and " #" not in text and not text.endswith(":") and not _OTHER.match(text):
        return text
    return "'%s'" % text.replace("'", "''")


def _escape(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    if char.isprintable():
        return char
    code = ord(char)
    return "\\x%02X" % code if code < 0x100 else "\\u%04X" % code if code < 0x10000 else "\\U%08X" % code


def load(text: str) -> Any:
    """Read YAML in block style: what dump and MLRun write. Anything else is a ValueError, unless PyYAML is there."""
    try:
        import yaml
    except ImportError:
        return _Reader(text).document()
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError("this is not YAML: %s" % " ".join(str(error).split())) from None


class _Reader:
    def __init__(self, text: str) -> None:
        self.lines = []
        for number, line in enumerate(text.splitlines(), 1):
            stripped = line.strip()
            if stripped and not stripped.startswith("#") and stripped != "---":
                self.lines.append((len(line) - len(line.lstrip(" ")), line.rstrip()[_indent(line) :], number))
        self.at = 0

    def document(self) -> Any:
        if not self.lines:
            return None
        value = self.block(self.lines[0][0])
        if self.at < len(self.lines):
            raise self.fault()
        return value

    def fault(self) -> ValueError:
        number = self.lines[min(self.at, len(self.lines) - 1)][2]
        return ValueError("line %d of the YAML is not understood; add PyYAML to the function's requirements" % number)

    def block(self, indent: int) -> Any:
        _, text, _ = self.lines[self.at]
        if text == "-" or text.startswith("- "):
            return self.sequence(indent)
        if _key(text) is not None:
            return self.mapping(indent)
        self.at += 1
        return self.value(text)

    def sequence(self, indent: int) -> list[Any]:
        found = []
        while self.at < len(self.lines):
            at, text, number = self.lines[self.at]
            if at != indent or not (text == "-" or text.startswith("- ")):
                break
            rest = text[2:].lstrip(" ")
            if not rest:
                self.at += 1
                found.append(self.nested(indent))
                continue
            # What follows the dash is a block of its own, further to the right.
            inner = indent + len(text) - len(rest)
            self.lines[self.at] = (inner, rest, number)
            found.append(self.block(inner))
        return found

    def mapping(self, indent: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        while self.at < len(self.lines):
            at, text, _ = self.lines[self.at]
            if at != indent:
                break
            pair = _key(text)
            if pair is None:
                raise self.fault()
            self.at += 1
            name = self.value(pair[0])
            if pair[1]:
                found[name] = self.value(pair[1])
            elif self.at < len(self.lines) and self.lines[self.at][0] == indent and self.lines[self.at][1][:1] == "-":
                found[name] = self.sequence(indent)
            else:
                found[name] = self.nested(indent)
        if self.at < len(self.lines) and self.lines[self.at][0] > indent:
            raise self.fault()
        return found

    def nested(self, indent: int) -> Any:
        if self.at >= len(self.lines) or self.lines[self.at][0] <= indent:
            return None
        return self.block(self.lines[self.at][0])

    def value(self, text: str) -> Any:
        if text in ("{}", "[]"):
            return {} if text == "{}" else []
        if text[0] == "'" and len(text) > 1 and text[-1] == "'":
            return text[1:-1].replace("''", "'")
        if text[0] == '"' and len(text) > 1 and text[-1] == '"':
            return re.sub(r"\\(x..|u.{4}|U.{8}|.)", _unescape, text[1:-1])
        if text[0] in "'\"[{|>&*!%@`":
            raise self.fault()
        return _plain(text.partition(" #")[0].rstrip())


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _key(text: str) -> tuple[str, str] | None:
    """Split "key: value"; None if text is none."""
    if text[0] in "'\"":
        end = re.match(r"""'(?:[^']|'')*'|"(?:[^"\\]|\\.)*\"""", text)
        if end is None or text[end.end() : end.end() + 1] != ":":
            return None
        return end.group(), text[end.end() + 1 :].strip()
    if text.endswith(":"):
        return text[:-1], ""
    name, separator, rest = text.partition(": ")
    return (name, rest.strip()) if separator else None


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1)
    return chr(int(code[1:], 16)) if len(code) > 1 else _LONG.get(code, code)


def _plain(text: str) -> Any:
    if text in ("null", "~", "Null", "NULL", ""):
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if not _OTHER.match(text):
        return text
    special = {".nan": "nan", ".inf": "inf", "-.inf": "-inf", "+.inf": "inf"}.get(text.lower(), text)
    for kind in (int, float):
        try:
            return kind(special)
        except ValueError:
            continue
    return text
