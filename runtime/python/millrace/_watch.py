"""Which sources of chance user code uses, seen while a run is repeated.

Functions that draw random numbers or read a clock are replaced by ones that
note it and then do the same. Only what user code or a package that it installed
calls counts: a module of the standard library that names a temporary file does
not make the code random. A generator that the code has seeded itself is not
chance. The clock of datetime is of classes written in C, which cannot be
replaced; calls of it are seen by a profiling function, installed only when the
source of the code names one of them.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, ModuleType
    from typing import Any, Callable

_noted: set[str] = set()
_seeded: set[str] = set()
_urandom: Any = None
_original: Any = None
_numpy: Any = None
_state: Any = None
_STANDARD: frozenset[str] = getattr(sys, "stdlib_module_names", frozenset())
_LIBRARY = (getattr(sys, "_stdlib_dir", None) or sys.base_prefix + "/lib/python%d.%d" % sys.version_info[:2]) + "/"
_CARRIERS = ("random", "secrets", "uuid", "numpy")

_RANDOM = (
    "random randint randrange randbytes getrandbits choice choices sample shuffle uniform triangular betavariate "
    "binomialvariate expovariate gammavariate gauss lognormvariate normalvariate vonmisesvariate paretovariate "
    "weibullvariate"
).split()
_NUMPY = (
    "beta binomial bytes chisquare choice dirichlet exponential f gamma geometric gumbel hypergeometric laplace "
    "logistic lognormal logseries multinomial multivariate_normal negative_binomial noncentral_chisquare "
    "noncentral_f normal pareto permutation poisson power rand randint randn random random_integers random_sample "
    "ranf rayleigh sample shuffle standard_cauchy standard_exponential standard_gamma standard_normal standard_t "
    "triangular uniform vonmises wald weibull zipf"
).split()
_CLOCKS = "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns process_time process_time_ns".split()
_CALENDAR = "localtime gmtime ctime strftime asctime".split()
_NOW = ("now", "utcnow", "today")


def prepare(on: Callable[[str, Callable[[ModuleType], None]], None]) -> None:
    """Watch what is there and, through on, what is imported later."""
    import posix

    original = posix.urandom

    def urandom(size: int, /) -> bytes:
        if _counts(sys._getframe(1), _CARRIERS):
            _noted.add("os.urandom")
        return original(size)

    global _urandom, _original
    _original = original
    _urandom = posix.urandom = urandom
    if "os" in sys.modules:
        sys.modules["os"].urandom = urandom  # type: ignore[attr-defined]
    on("uuid", _uuid)
    on("threading", _threading)
    _time(sys.modules.get("time") or __import__("time"))


def begin() -> None:
    """Start a call; what the code did while it was loaded counts as well."""
    _look_at_numpy()
    if _names_now():
        sys.setprofile(_profile)
        threading = sys.modules.get("threading")
        if threading is not None:
            threading.setprofile(_profile)


def end() -> list[str]:
    """End a call and return what was noted, sorted."""
    _look_at_numpy()
    if sys.getprofile() is _profile:
        sys.setprofile(None)
    return sorted(_noted)


def _counts(frame: FrameType | None, skip: tuple[str, ...] = ()) -> bool:
    """Say whether a call from frame is one of user code; modules in skip pass on who called them."""
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        top = name.partition(".")[0]
        if top in skip and name != "__main__":
            frame = frame.f_back
            continue
        if top == "millrace":
            return False
        if top == "__main__":
            return True
        file = frame.f_code.co_filename
        if not _STANDARD and file.startswith("<frozen"):  # before Python 3.10
            return False
        if top in _STANDARD and file.startswith((_LIBRARY, "<frozen")):
            return False
        return not (file.startswith(_LIBRARY) and "/site-packages/" not in file and "/dist-packages/" not in file)
    return False


def _wrap(module: Any, name: str, source: str, skip: tuple[str, ...] = (), given: int | None = None) -> None:
    """Replace module.name by one that notes source; with given, only when it gets fewer arguments than that."""
    original = getattr(module, name, None)
    if original is None:
        return

    def watched(*args: Any, **kwargs: Any) -> Any:
        unseen = source not in _noted and source not in _seeded
        if unseen and (given is None or len(args) + len(kwargs) < given) and _counts(sys._getframe(1), skip):
            _noted.add(source)
        return original(*args, **kwargs)

    _as(watched, original)
    setattr(module, name, watched)


def _as(function: Any, original: Any) -> None:
    for attribute in ("__name__", "__qualname__", "__doc__", "__module__"):
        try:
            setattr(function, attribute, getattr(original, attribute))
        except (AttributeError, TypeError):
            pass
    function.__wrapped__ = original


def _seeding(module: Any, source: str) -> None:
    """Replace module.seed by one after which the module's generator is no chance any more."""
    original = module.seed

    def seed(*args: Any, **kwargs: Any) -> Any:
        value = args[0] if args else kwargs.get("a", kwargs.get("seed"))
        if value is not None:
            _seeded.add(source)
        else:
            _seeded.discard(source)
        return original(*args, **kwargs)

    _as(seed, original)
    module.seed = seed


def random(module: Any) -> None:
    """Watch the module random."""
    for name in _RANDOM:
        _wrap(module, name, "random")
    _seeding(module, "random")
    module._urandom = _urandom
    generator = module.Random
    original = generator.seed

    def seed(self: Any, a: Any = None, version: int = 2) -> None:
        if a is None and type(self) is generator and _counts(sys._getframe(1), ("random",)):
            _noted.add("os.urandom")
        original(self, a, version)

    generator.seed = seed


def numpy_random(module: Any) -> None:
    """Watch numpy.random.

    Packages draw from its global generator by methods written in C, so it is
    looked at whether that generator's state has moved. Every other generator
    takes entropy of the system when it is made, even one that is given a seed,
    so numpy's own source of it is not watched, but default_rng() and
    RandomState() without one.
    """
    global _numpy
    _numpy = module
    for name in _NUMPY:
        _wrap(module, name, "numpy.random")
    _seeding(module, "numpy.random")
    _wrap(module, "default_rng", "os.urandom", given=1)
    _random_state(module)
    original = _original
    source = sys.modules.get("numpy.random.bit_generator")

    def randbits(k: int) -> int:
        size = (k + 7) // 8
        return int.from_bytes(original(size), "big") >> (size * 8 - k)

    if source is not None and hasattr(source, "randbits"):
        source.randbits = randbits  # type: ignore[attr-defined]
    baseline()


def _random_state(module: Any) -> None:
    """Replace the class RandomState by one that notes when it gets no seed; instances are those of the original."""
    found = getattr(module, "RandomState", None)
    if not isinstance(found, type):
        return
    original: Any = found

    class Stand(type):
        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            value = args[0] if args else kwargs.get("seed")
            if cls is watched and value is None and _counts(sys._getframe(1)):
                _noted.add("os.urandom")
            return original(*args, **kwargs) if cls is watched else type.__call__(cls, *args, **kwargs)

        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, original) if cls is watched else type.__instancecheck__(cls, instance)

        def __subclasscheck__(cls, kind: type) -> bool:
            return issubclass(kind, original) if cls is watched else type.__subclasscheck__(cls, kind)

    watched = Stand(original.__name__, (original,), {"__doc__": original.__doc__, "__module__": original.__module__})
    module.RandomState = watched


def baseline() -> None:
    """Remember the state that numpy's global generator has now."""
    global _state
    if _numpy is not None:
        _state = _legacy_state()


def _legacy_state() -> Any:
    name, keys, position, gauss, cached = _numpy.get_state()
    return name, keys.tobytes(), position, gauss, cached


def _look_at_numpy() -> None:
    if _numpy is not None and "numpy.random" not in _seeded and _legacy_state() != _state:
        _noted.add("numpy.random")


def _uuid(module: Any) -> None:
    for name in ("uuid1", "uuid4", "uuid6", "uuid7", "getnode"):
        _wrap(module, name, "uuid")


def _threading(module: Any) -> None:
    original = module.Thread.start

    def start(self: Any) -> None:
        if _counts(sys._getframe(1), ("concurrent", "multiprocessing")):
            _noted.add("threads")
        original(self)

    _as(start, original)
    module.Thread.start = start


def _time(module: Any) -> None:
    for name in _CLOCKS:
        _wrap(module, name, "time")
    for name in _CALENDAR:
        # With a time given (strftime: after the format) they read no clock.
        _wrap(module, name, "time", given=2 if name == "strftime" else 1)


def _profile(frame: FrameType, event: str, arg: Any) -> None:
    if event == "c_call" and arg.__name__ in _NOW and isinstance(arg.__self__, type) and _counts(frame):
        _noted.add("time")


def _names_now() -> bool:
    """Say whether a module that is neither of the standard library nor a package names a clock of datetime."""
    if "datetime" not in sys.modules and "_datetime" not in sys.modules and "pandas" not in sys.modules:
        return "__main__" in sys.modules and len(sys.argv) > 0 and _source_names(sys.argv[0])
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not file or not file.endswith(".py") or file.startswith(_LIBRARY) or "/millrace/" in file:
            continue
        if "/site-packages/" in file or "/dist-packages/" in file:
            continue
        if _source_names(file):
            return True
    return _source_names(sys.argv[0]) if sys.argv else False


def _source_names(file: str) -> bool:
    try:
        with open(file, "rb") as source:
            text = source.read()
    except OSError:
        return False
    return any((name + "(").encode() in text or ("." + name).encode() in text for name in _NOW)
