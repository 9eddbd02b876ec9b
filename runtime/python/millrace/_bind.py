"""From a run's parameters and inputs to the arguments of a handler."""

from __future__ import annotations

from millrace._errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

# Kinds of parameters; the order is that of a signature.
POSITIONAL, NORMAL, EXTRA_POSITIONAL, KEYWORD, EXTRA_KEYWORD = range(5)

_FUNCTION = type(lambda: None)
_METHOD = type((lambda _: None).__get__(1))


class Parameter:
    """One parameter of a handler."""

    __slots__ = ("annotation", "is_context", "kind", "name", "required", "string_default")

    def __init__(self, name: str, kind: int) -> None:
        self.name = name
        self.kind = kind
        self.required = kind in (POSITIONAL, NORMAL, KEYWORD)
        self.string_default = False
        self.annotation: Any = None
        self.is_context = name == "context"


class Binder:
    """Knows how to call one handler; made once, used for every call."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self._name = name
        self.parameters = parameters_of(function, name)
        self.wants_context = any(p.is_context for p in self.parameters)

    def has_types(self, inputs: dict[str, Any], hints: dict[str, str]) -> bool:
        """Say whether an input has a type: by hints, or by the annotation of its parameter."""
        return bool(hints) or any(p.annotation is not None and p.name in inputs for p in self.parameters)

    def bind(
        self,
        context: Any,
        parameters: dict[str, Any],
        inputs: dict[str, Any],
        get_input: Callable[[str], Any],
        typed: Callable[[str, Any, Any], Any] | None = None,
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return the positional and keyword arguments of one call.

        A parameter wins over an input of the same name; what the handler does
        not take is left out, unless it takes **kwargs. Values are copied one
        level deep. typed, if given, turns an input into what its parameter's
        annotation asks for. A missing argument is a UserError that names it.
        """
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        missing: list[str] = []
        skipped: str | None = None  # a positional-only parameter that fell back to its default
        for parameter in self.parameters:
            name, kind = parameter.name, parameter.kind
            if kind == EXTRA_POSITIONAL:
                continue
            if kind == EXTRA_KEYWORD:
                taken = {p.name for p in self.parameters if p.kind in (NORMAL, KEYWORD)}
                for key, value in parameters.items():
                    if key not in taken:
                        kwargs[key] = shallow(value)
                for key in inputs:
                    if key not in taken and key not in kwargs:
                        value = get_input(key)
                        kwargs[key] = typed(key, value, None) if typed is not None else value
                continue
            if parameter.is_context:
                value = context
            elif name in parameters:
                value = shallow(parameters[name])
            elif name in inputs:
                value = get_input(name)
                item = value
                if typed is not None:
                    value = typed(name, item, parameter.annotation)
                if value is item and parameter.string_default and parameter.annotation is None:
                    value = value.local()
            else:
                if parameter.required:
                    missing.append(name)
                elif kind == POSITIONAL:
                    skipped = name
                continue
            if kind != POSITIONAL:
                kwargs[name] = value
            elif skipped is not None:
                raise UserError(
                    "%s() takes %r by position only, so %r has to be given too" % (self._name, name, skipped)
                )
            else:
                args.append(value)
        if missing:
            raise UserError(_missing_text(self._name, missing, parameters, inputs))
        return args, kwargs


def _missing_text(name: str, missing: list[str], parameters: dict[str, Any], inputs: dict[str, Any]) -> str:
    given = sorted(list(parameters) + [key for key in inputs if key not in parameters])
    return "%s() needs %s %s, which %s neither a parameter nor an input of the run (%s)" % (
        name,
        "the argument" if len(missing) == 1 else "the arguments",
        ", ".join(repr(key) for key in missing),
        "is" if len(missing) == 1 else "are",
        "given: " + ", ".join(given) if given else "none were given",
    )


def shallow(value: Any) -> Any:
    """Copy a decoded JSON value one level deep."""
    kind = type(value)
    if kind is dict or kind is list:
        return value.copy()
    return value


def parameters_of(function: Callable[..., Any], name: str) -> list[Parameter]:
    """Return the parameters of function, without the bound first one of a method."""
    plain: Any = function
    skip = 0
    if type(plain) is _METHOD:
        plain, skip = plain.__func__, 1
    if type(plain) is _FUNCTION and "__wrapped__" not in plain.__dict__ and "__signature__" not in plain.__dict__:
        return _from_code(plain)[skip:]
    return _from_signature(function, name)


def _from_code(function: Any) -> list[Parameter]:
    """Read a plain function; the same as inspect.signature, which is slow to import."""
    code = function.__code__
    names = code.co_varnames
    count, only = code.co_argcount, code.co_posonlyargcount
    found = [Parameter(names[i], POSITIONAL if i < only else NORMAL) for i in range(count)]
    defaults = function.__defaults__ or ()
    for parameter, default in zip(found[count - len(defaults) :], defaults):
        parameter.required = False
        parameter.string_default = isinstance(default, str)
    end = count + code.co_kwonlyargcount
    rest = end
    if code.co_flags & 0x04:
        found.append(Parameter(names[rest], EXTRA_POSITIONAL))
        rest += 1
    for keyword in names[count:end]:
        parameter = Parameter(keyword, KEYWORD)
        if function.__kwdefaults__ and keyword in function.__kwdefaults__:
            parameter.required = False
            parameter.string_default = isinstance(function.__kwdefaults__[keyword], str)
        found.append(parameter)
    if code.co_flags & 0x08:
        found.append(Parameter(names[rest], EXTRA_KEYWORD))
    annotations = _annotations(function)
    if annotations:
        for parameter in found:
            if parameter.name in annotations:
                _annotate(parameter, annotations[parameter.name])
    return found


def _annotations(function: Any) -> dict[str, Any]:
    try:
        return dict(function.__annotations__)
    except Exception:  # evaluated late, of names that do not exist
        from annotationlib import Format, get_annotations  # type: ignore[import-not-found]

        return dict(get_annotations(function, format=Format.FORWARDREF))


def _annotate(parameter: Parameter, annotation: Any) -> None:
    if parameter.kind in (EXTRA_POSITIONAL, EXTRA_KEYWORD):
        return
    parameter.annotation = annotation
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    if isinstance(name, str) and name.strip("'\" ").rpartition(".")[2] == "MLClientCtx":
        parameter.is_context = True


def _from_signature(function: Callable[..., Any], name: str) -> list[Parameter]:
    from millrace import _site

    _site.complete()
    from inspect import Parameter as Signed
    from inspect import signature

    try:
        signed = signature(function)
    except (TypeError, ValueError):
        raise UserError("%s has no signature that can be read; wrap it in a Python function" % name) from None
    kinds = {
        Signed.POSITIONAL_ONLY: POSITIONAL,
        Signed.POSITIONAL_OR_KEYWORD: NORMAL,
        Signed.VAR_POSITIONAL: EXTRA_POSITIONAL,
        Signed.KEYWORD_ONLY: KEYWORD,
        Signed.VAR_KEYWORD: EXTRA_KEYWORD,
    }
    found = []
    for item in signed.parameters.values():
        parameter = Parameter(item.name, kinds[item.kind])
        if item.default is not Signed.empty:
            parameter.required = False
            parameter.string_default = isinstance(item.default, str)
        if item.annotation is not Signed.empty:
            _annotate(parameter, item.annotation)
        found.append(parameter)
    return found
