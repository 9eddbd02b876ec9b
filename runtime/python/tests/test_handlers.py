"""Finding the handler and binding its arguments."""

from __future__ import annotations

import os
import sys

from tests.host import FAILURE, LOAD, WorkerCase, frame


class BindTest(WorkerCase):
    def bound(self, signature, parameters=None, inputs=None, body="return repr(locals())", head=""):
        run = {"spec": {"parameters": parameters or {}, "inputs": inputs or {}}}
        answer, emitted, host = self.run_code("%s\ndef handler(%s):\n    %s\n" % (head, signature, body), run=run)
        if answer["state"] == "error":
            return answer["failure"]["message"]
        return emitted[-1]["results"]["return"]

    def test_parameters(self):
        cases = [
            ("a, b=2", {"a": 1}, "{'a': 1, 'b': 2}"),
            ("a, b=2", {"a": 1, "b": 3, "ignored": 4}, "{'a': 1, 'b': 3}"),
            ("a, /, b", {"a": 1, "b": 2}, "{'a': 1, 'b': 2}"),
            ("a=1, /, b=2", {"b": 3}, "{'a': 1, 'b': 3}"),
            ("a, *, b", {"a": 1, "b": 2}, "{'a': 1, 'b': 2}"),
            ("*args", {"args": [1]}, "{'args': ()}"),
            ("a, **kw", {"a": 1, "b": 2, "c": 3}, "{'a': 1, 'kw': {'b': 2, 'c': 3}}"),
            ("a, /, **kw", {"a": 1, "b": 2}, "{'a': 1, 'kw': {'a': 1, 'b': 2}}"),
            ("a: int = 5", {"a": "text"}, "{'a': 'text'}"),
            ("a", {"a": None}, "{'a': None}"),
        ]
        for signature, parameters, expected in cases:
            with self.subTest(signature):
                self.assertEqual(self.bound(signature, parameters), expected)

    def test_missing_arguments_are_named(self):
        cases = [
            ("a", {}, "handler() needs the argument 'a', which is neither a parameter nor an input of the run (none were given)"),
            ("a, b, c=1", {"x": 1, "c": 2}, "handler() needs the arguments 'a', 'b', which are neither a parameter nor an input of the run (given: c, x)"),
            ("a=1, b=2, /", {"b": 3}, "handler() takes 'b' by position only, so 'a' has to be given too"),
        ]  # fmt: skip
        for signature, parameters, expected in cases:
            with self.subTest(signature):
                self.assertEqual(self.bound(signature, parameters), expected)

    def test_inputs(self):
        path = self.write("data.csv", "x\n1\n")
        url = {"a": path}
        self.assertEqual(self.bound("a", inputs=url), "{'a': DataItem(%r)}" % path)
        self.assertEqual(self.bound("a=''", inputs=url), "{'a': %r}" % path)
        self.assertEqual(self.bound("a: str = ''", inputs=url), "{'a': %r}" % path)
        self.assertEqual(self.bound("**kw", {"b": 1}, url), "{'kw': {'b': 1, 'a': DataItem(%r)}}" % path)
        self.assertEqual(self.bound("a", {"a": 1}, url), "{'a': 1}")
        self.assertEqual(self.bound("a", inputs={"a : pathlib.Path": path}), "{'a': PosixPath(%r)}" % path)

    def test_context(self):
        shown = "return type(%s).__name__"
        self.assertEqual(self.bound("context", body=shown % "context"), "MLClientCtx")
        head = "from millrace import MLClientCtx, Context\nimport typing as mlrun\nmlrun.MLClientCtx = MLClientCtx"
        for annotation in ("Context", "MLClientCtx", "mlrun.MLClientCtx", "'mlrun.MLClientCtx'"):
            self.assertEqual(self.bound("c: %s" % annotation, body=shown % "c", head=head), "MLClientCtx")
        self.assertEqual(self.bound("c", {"c": 1}, body=shown % "c"), "int")

    def test_values_are_copied_one_level(self):
        host = self.loaded("def handler(a):\n    a.append(1)\n    return a\n")
        document = {"spec": {"parameters": {"a": [0]}}}
        for number in (1, 2):
            _, emitted = self.call(host, {"run": document} if number == 1 else {"parameters": {"a": [0]}}, number)
            self.assertEqual(emitted[-1]["results"]["return"], [0, 1])

    def test_decorated_partial_and_callable_objects(self):
        head = """
import functools
def twice(f):
    @functools.wraps(f)
    def inner(*args, **kw): return f(*args, **kw) * 2
    return inner
class Adder:
    def __call__(self, x, y=1): return x + y
adder = Adder()
def plain(x, y): return x - y
part = functools.partial(plain, y=1)
@twice
def handler(x): return x
"""
        for name, expected in (("handler", 6), ("adder", 4), ("part", 2)):
            self.assertEqual(self.results(head, {"x": 3}, handler=name)["return"], expected)

    def test_coroutine(self):
        self.assertEqual(self.results("async def handler(x):\n    return x\n", {"x": 3})["return"], 3)


class ResolveTest(WorkerCase):
    CODE = """
import json
from os.path import join
class Model:
    kind = 'm'
    def __init__(self, context, size=1): self.size, self.context = size, context
    def fit(self, x): return [self.size, x, self.context.name]
    @staticmethod
    def static(x): return x
def train(x=1): return x
value = 5
"""

    def test_found(self):
        cases = [
            ("train", {"x": 2}, 2),
            ("join", {"a": "p"}, "p"),
            ("code.train", {"x": 2}, 2),
            ("os.path.basename", {"p": "a/b"}, "b"),
            ("Model::fit", {"x": 1, "_init_args": {"size": 4}}, [4, 1, "r"]),
            ("Model::fit", {"x": 1}, [1, 1, "r"]),
            ("Model::static", {"x": 1}, 1),
            ("fractions.Fraction::limit_denominator", {"_init_args": {"numerator": 1}}, "1"),
        ]
        for handler, parameters, expected in cases:
            with self.subTest(handler):
                self.assertEqual(self.results(self.CODE, parameters, handler=handler)["return"], expected)

    def test_not_found(self):
        cases = [
            ("trian", "there is no handler 'trian' in code.py; did you mean 'train'? (found: Model, train)", ["Model", "train"]),
            ("Model::fitt", "there is no method 'fitt' in the class Model; did you mean 'fit'? (found: fit, static)", ["fit", "static"]),
            ("Modle::fit", "there is no class 'Modle' in code.py; did you mean 'Model'? (found: Model, train)", ["Model", "train"]),
            ("train::x", "'train' is not a class, so 'train::x' is not a handler", None),
            ("value", "'value' is int, not something that can be called", None),
            ("(event)", "the handler '(event)' is an expression; write it as a function and name that", None),
            ("", "no handler was given; name one of: Model, train", ["Model", "train"]),
            ("os.path.nope", "there is no 'nope' in posixpath.py (found: ", ...),
        ]  # fmt: skip
        for handler, message, names in cases:
            with self.subTest(handler):
                failure = self.refused(self.CODE, handler)
                self.assertTrue(failure["message"].startswith(message), failure["message"])
                if names is not ...:
                    self.assertEqual(failure.get("names"), names)

    def test_no_such_module(self):
        failure = self.refused(self.CODE, "no.such.module")
        self.assertTrue(failure["message"].startswith("there is no module 'no.such'"), failure)

    def test_code_that_cannot_be_loaded(self):
        cases = {
            "def handler(:\n  pass\n": ("SyntaxError", "code.py:1: "),
            "x = 1\n  y = 2\n": ("IndentationError", "code.py:2: unexpected indent"),
            "import no_such_package\n": ("ModuleNotFoundError", "No module named 'no_such_package'"),
            "1 / 0\n": ("ZeroDivisionError", "division by zero"),
            "import sys\nsys.exit(3)\n": ("SystemExit", "3"),
        }
        for code, (kind, message) in cases.items():
            with self.subTest(code):
                failure = self.refused(code)
                self.assertEqual(failure["type"], kind)
                self.assertTrue(failure["message"].startswith(message), failure["message"])
                self.assertIn("code.py", failure["traceback"])
                self.assertNotIn("_load.py", failure["traceback"])
                self.assertNotIn("_site.py", failure["traceback"])

    def test_bad_files(self):
        with open(os.path.join(self.folder, "bad.py"), "wb") as file:
            file.write(b"x = 1\0\n")
        for name, text in (("none.py", "does not exist"), (".", "cannot be read"), ("bad.py", "")):
            host = self.start()
            host.send(frame(LOAD, head={"file": os.path.join(self.folder, name), "handler": "h"}))
            answer = host.read()
            self.assertEqual(answer.kind, FAILURE)
            self.assertIn(text, answer.head["message"])

    def test_file_called_as_the_runtime(self):
        host = self.start()
        host.send(frame(LOAD, head={"file": self.write("millrace.py", "def h(): pass"), "handler": "h"}))
        self.assertIn("rename it", host.read().head["message"])

    def test_module_of_a_folder(self):
        os.mkdir(os.path.join(self.folder, "pkg"))
        self.write("pkg/__init__.py", "")
        self.write("pkg/other.py", "NAME = __name__\n")
        self.write("pkg/mod.py", "from . import other\ndef go(): return [__name__, other.NAME]\n")
        host = self.start()
        host.send(frame(LOAD, head={"module": "pkg.mod", "handler": "go", "path": [self.folder]}))
        host.read()
        _, emitted = self.call(host)
        self.assertEqual(emitted[-1]["results"]["return"], ["pkg.mod", "pkg.other"])

    def test_module_names_and_path(self):
        self.write("beside.py", "X = 1\n")
        os.mkdir(os.path.join(self.folder, "more"))
        self.write("more/extra.py", "Y = 2\n")
        found = self.results(
            """
            import sys, beside, extra
            def handler():
                return [__name__, sys.modules['code'].__file__ == __file__, beside.X, extra.Y, sys.argv]
            """,
            pythonpath=[os.path.join(self.folder, "more")],
            argv=["a", "b"],
        )
        code = os.path.join(self.folder, "code.py")
        self.assertEqual(found["return"], ["code", True, 1, 2, [code, "a", "b"]])

    def test_environment_and_workdir_of_the_load(self):
        os.mkdir(os.path.join(self.folder, "w"))
        os.mkdir(os.path.join(self.folder, "lib"))
        self.write("lib/late.py", "Z = 3\n")
        found = self.results(
            "import os, late\ndef handler():\n    return [os.environ['A_B'], os.getcwd(), late.Z]\n",
            env={"A_B": "ü=1", "PYTHONPATH": os.path.join(self.folder, "lib")},
            workdir=os.path.join(self.folder, "w"),
            start={"env": {"PYTHONUTF8": "1"}},
        )
        self.assertEqual(found["return"], ["ü=1", os.path.realpath(os.path.join(self.folder, "w")), 3])

    def run_code(self, code, parameters=None, handler="handler", run=None, start=None, **load):
        if start is None:
            return super().run_code(code, parameters, handler, run, **load)
        host = self.loaded(code, handler, start=start, **load)
        answer, emitted = self.call(host, {})
        return answer, emitted, host

    def test_traceback_has_the_users_frames_and_causes(self):
        answer, _, host = self.run_code(
            """
            def inner(): raise KeyError('k')
            def handler():
                try: inner()
                except KeyError as e: raise ValueError('outer') from e
            """
        )
        failure = answer["failure"]
        self.assertEqual((failure["type"], failure["message"]), ("ValueError", "outer, caused by: 'k'"))
        self.assertNotIn(self.runtime, failure["traceback"])
        self.assertIn("in inner", failure["traceback"])
        self.assertIn("direct cause", failure["traceback"])
        self.assertEqual(host.log(), failure["traceback"])


class MainTest(WorkerCase):
    def test_script(self):
        answer, emitted, host = self.run_code(
            """
            import sys, millrace
            context = millrace.get_context()
            context.log_result('n', context.get_param('n', 2))
            print(__name__, sys.argv[1:], sys.modules['__main__'].n if 'n' in globals() else 'new')
            if __name__ == '__main__':
                millrace.get_or_create_ctx('x').log_result('m', 3)
            """,
            {"n": 7},
            mode="main",
            argv=["--x", "y"],
        )
        self.assertEqual(answer["state"], "completed", host.log())
        self.assertEqual([e["results"] for e in emitted], [{"n": 7}, {"m": 3}])
        self.assertEqual(host.log(), "__main__ ['--x', 'y'] new\n")

    def test_script_that_fails(self):
        answer, _, host = self.run_code("print('a')\nraise ValueError('b')\n", mode="main")
        self.assertEqual((answer["state"], answer["failure"]["message"]), ("error", "b"))
        self.assertIn('code.py", line 2, in <module>', host.log())
        self.assertIn("code.py:1: ", self.refused("def (", mode="main")["message"])

    def test_spawned_processes_of_a_script(self):
        answer, emitted, host = self.run_code(
            """
            import multiprocessing
            import millrace
            def square(x): return x * x
            if __name__ == '__main__':
                with multiprocessing.get_context('spawn').Pool(1) as pool:
                    millrace.get_context().log_result('r', pool.map(square, [2, 3]))
            """,
            mode="main",
        )
        self.assertEqual(answer["state"], "completed", host.log())
        self.assertEqual(emitted[-1]["results"], {"r": [4, 9]})


class SiteTest(WorkerCase):
    """A worker's interpreter looks like one that was started in the ordinary way."""

    VIEW = """
import sys, builtins, os
def view():
    return {
        'prefix': [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.executable],
        'flags': repr(sys.flags),
        'no_site': sys.flags.no_site,
        'optimize': sys.flags[3],
        'builtins': sorted(n for n in dir(builtins) if n not in ('_', '__build_class__')),
        'path': sys.path[1:],
        'user': __import__('site').ENABLE_USER_SITE,
        'encoding': [sys.stdout.encoding, sys.getfilesystemencoding()],
        'import': builtins.__import__.__module__,
        'customized': os.environ.get('CUSTOMIZED', ''),
    }
"""

    def compare(self, env=None):
        import json
        import subprocess

        base = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
        base.update(env or {})
        script = self.write("view.py", self.VIEW + "import json\nprint(json.dumps(view()))\n")
        plain = json.loads(subprocess.run([sys.executable, script], env=base, stdout=-1, check=True).stdout)
        host = self.loaded(self.VIEW + "def handler(): return view()\n", start={"env": env})
        answer, emitted = self.call(host)
        self.assertEqual(answer["state"], "completed", host.log())
        seen = emitted[-1]["results"]["return"]
        self.assertEqual(seen["path"].pop(), self.runtime)
        self.assertEqual(seen, plain)
        return seen

    def test_same_as_plain(self):
        self.compare()

    def test_same_with_sitecustomize_on_pythonpath(self):
        self.write("sitecustomize.py", "import os\nos.environ['CUSTOMIZED'] = 'yes'\n")
        self.assertEqual(self.compare({"PYTHONPATH": self.folder})["customized"], "yes")

    def test_same_without_user_site(self):
        self.compare({"PYTHONNOUSERSITE": "1"})

    def test_code_without_imports_sees_exit(self):
        answer, _, _ = self.run_code("def handler():\n    exit(4)\n")
        self.assertEqual(answer["exit"], 4)

    def test_site_is_put_off_for_code_that_cannot_tell(self):
        cases = {
            "pass": True,
            "import math, json": True,
            "import os": False,
            "import no_such_module": False,
            "help": False,
        }
        for statement, pending in cases.items():
            with self.subTest(statement):
                code = "import millrace\ndef handler():\n    try:\n        %s\n    except ImportError: pass\n    return millrace._site._pending\n"
                self.assertEqual(self.results(code % statement)["return"], pending)

    def test_late_import_of_a_package(self):
        found = self.results(
            "import json\ndef handler():\n    import sysconfig, sys\n    return sysconfig.get_paths()['purelib'] in sys.path\n"
        )
        self.assertTrue(found["return"])
