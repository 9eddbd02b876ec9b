"""User code that does what it should not: the protocol stays right."""

from __future__ import annotations

import os
import sys
import unittest

from tests.host import CALL, WorkerCase, frame


class HostileTest(WorkerCase):
    def test_code_that_changes_its_process(self):
        cases = {
            "closes all descriptors": "import os\ndef handler(context):\n    os.closerange(3, 4096)\n    return 1\n",
            "reuses them": """
                import os
                def handler(context):
                    os.closerange(3, 4096)
                    for _ in range(1000): os.open(os.devnull, os.O_RDWR)
                    context.log_result('x', 1)
                    return 1
                """,
            "closes stdout": "import sys\ndef handler(context):\n    print('x')\n    sys.stdout.close()\n    return 1\n",
            "closes descriptor 1 and 2": "import os\ndef handler(context):\n    os.close(1); os.close(2)\n    return 1\n",
            "sets stdout to None": "import sys\ndef handler(context):\n    sys.stdout = sys.stderr = None\n    return 1\n",
            "replaces json": """
                import json, json.encoder, json.decoder
                def handler(context):
                    json.dumps = json.loads = json.encoder.JSONEncoder = None
                    context.log_result('x', {'a': [1]})
                    return 1
                """,
            "replaces built-ins": """
                import builtins
                def handler(context):
                    builtins.len = builtins.print = builtins.str = None
                    return 1
                """,
            "changes folder and path": """
                import os, sys
                def handler(context):
                    os.chdir('/')
                    sys.path[:] = []
                    return 1
                """,
            "forgets modules": """
                import sys
                def handler(context):
                    for name in list(sys.modules):
                        if name.startswith('millrace'): del sys.modules[name]
                    context.log_result('x', 1)
                    return 1
                """,
            "deep recursion": """
                import sys
                def deep(): return deep()
                def handler(context):
                    try: deep()
                    except RecursionError: pass
                    return 1
                """,
            "sets a trace function": "import sys\ndef handler(context):\n    sys.settrace(lambda *a: None)\n    return 1\n",
            "turns threads loose": """
                import threading, time
                def handler(context):
                    threading.Thread(target=time.sleep, args=(0.2,)).start()
                    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
                    return 1
                """,
            "ignores interrupts": """
                import signal
                def handler(context):
                    signal.signal(signal.SIGINT, signal.SIG_IGN)
                    return 1
                """,
            "empties the environment": "import os\ndef handler(context):\n    os.environ.clear()\n    return 1\n",
        }
        for name, code in cases.items():
            with self.subTest(name):
                host = self.loaded(code)
                answer, emitted = self.call(host)
                self.assertIsNotNone(answer, host.log())
                self.assertEqual(answer["state"], "completed", "%r\n%s" % (answer, host.log()))
                self.assertEqual(emitted[-1]["results"], {"return": 1})
                if name != "replaces built-ins":
                    self.assertEqual(self.drain(host), 0, host.log())

    def test_output_of_any_shape_is_kept(self):
        _, _, host = self.run_code(
            """
            import os, sys
            def handler(context):
                print('no newline', end='')
                sys.stdout.flush()
                sys.stdout.buffer.write(b'\\x00\\xff\\x01')
                sys.stdout.buffer.flush()
                os.write(1, b'raw')
                print('end')
                print('err', file=sys.stderr)
            """
        )
        with open(host.log_path, "rb") as file:
            self.assertEqual(file.read(), b"no newline\x00\xff\x01rawend\nerr\n")

    def test_many_lines(self):
        _, _, host = self.run_code("def handler(context):\n    for i in range(200000): print(i)\n")
        self.assertEqual(host.log().count("\n"), 200000)

    def test_a_killed_process_has_lost_no_line(self):
        host = self.loaded(
            "import os\ndef handler(context):\n    print('one')\n    print('two')\n    os.kill(os.getpid(), 9)\n"
        )
        host.send(frame(CALL, 1))
        self.assertIsNone(host.read())
        self.assertEqual((host.process.wait(), host.log()), (-9, "one\ntwo\n"))

    def test_what_was_logged_survives_a_crash(self):
        host = self.loaded("import os\ndef handler(context):\n    context.log_result('a', 1)\n    os._exit(7)\n")
        answer, emitted = self.call(host)
        self.assertIsNone(answer)
        self.assertEqual(emitted, [{"t": "update", "iter": 0, "results": {"a": 1}}])
        self.assertEqual(host.process.wait(), 7)

    def test_sys_exit(self):
        cases = {
            "sys.exit()": ("completed", 0, None),
            "sys.exit(0)": ("completed", 0, None),
            "sys.exit(3)": ("error", 3, "the code ended itself with sys.exit(3)"),
            "sys.exit('no data')": ("error", 1, "no data"),
            "raise SystemExit": ("completed", 0, None),
        }
        for statement, (state, status, message) in cases.items():
            with self.subTest(statement):
                answer, _, _ = self.run_code("import sys\ndef handler(context):\n    %s\n" % statement)
                self.assertEqual((answer["state"], answer["exit"]), (state, status))
                self.assertEqual(answer.get("failure", {}).get("message"), message)

    def test_forks(self):
        host = self.loaded(
            """
            import os
            def handler(context, how):
                pid = os.fork()
                if pid == 0:
                    context.log_result('child', 1)
                    if how == 'raise': raise ValueError('in the child')
                    return 'child'
                _, status = os.waitpid(pid, 0)
                context.log_result('status', status >> 8)
                return 'parent'
            """
        )
        for number, (how, status) in enumerate((("return", 0), ("raise", 1)), 1):
            with self.subTest(how):
                answer, emitted = self.call(host, {"parameters": {"how": how}}, number)
                self.assertEqual(answer["state"], "completed")
                self.assertEqual([e["results"] for e in emitted], [{"status": status}, {"return": "parent"}])
        self.assertIn("not recorded", host.log())
        self.assertEqual(self.drain(host), 0)

    def test_exit_functions_threads_and_open_files_end_in_order(self):
        host = self.loaded(
            """
            import atexit, threading, time
            file = open('unclosed', 'w')
            def handler(context):
                file.write('kept')
                atexit.register(print, 'at exit')
                threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()
            """
        )
        self.call(host)
        self.assertEqual(self.drain(host), 0)
        self.assertEqual(host.log(), "thread\nat exit\n")
        with open(os.path.join(self.folder, "unclosed")) as file:
            self.assertEqual(file.read(), "kept")

    def test_unclosed_file_of_code_without_imports(self):
        host = self.loaded("file = open('unclosed', 'w')\ndef handler(context):\n    file.write('kept')\n")
        self.call(host)
        self.assertEqual(self.drain(host), 0)
        with open(os.path.join(self.folder, "unclosed")) as file:
            self.assertEqual(file.read(), "kept")

    def test_errors_that_cannot_be_shown(self):
        cases = {
            "class E(Exception):\n    def __str__(self): raise ValueError\ndef handler(context): raise E": "cannot be made",
            "def handler(context): raise KeyError": "KeyError()",
            "def handler(context): raise Exception('x' * 100000)": "characters left out",
            "def f(): return f()\ndef handler(context): f()": "maximum recursion depth exceeded",
            "def handler(context):\n    a = []; a.append(a); return a": "contains itself",
            "def handler(context):\n    a = {}; a['a'] = a; context.log_result('x', a)": "contains itself",
            "class V:\n    def __str__(self): raise ValueError('no text')\ndef handler(context): return V()": "no text",
            "class B(BaseException): pass\ndef handler(context): raise B('base')": "base",
            "def handler(context): raise GeneratorExit": "GeneratorExit()",
        }
        for code, text in cases.items():
            with self.subTest(code):
                answer, _, _ = self.run_code(code + "\n")
                self.assertEqual(answer["state"], "error")
                self.assertIn(text, answer["failure"]["message"])
                self.assertLess(len(answer["failure"]["message"]), 33000)

    def test_surrogates_and_strange_keys(self):
        found = self.results(
            "def handler(context):\n    return {'\\ud800': '\\udfff', 1: 2, None: 3, (1, 2): 4, True: 5}\n"
        )
        self.assertEqual(found["return"]["(1, 2)"], 4)

    @unittest.skipUnless(os.path.exists("/proc"), "needs /proc")
    def test_child_programs_do_not_inherit_the_pipes(self):
        host = self.loaded(
            """
            import subprocess, sys
            def handler(context):
                code = "import os; print([os.readlink('/proc/self/fd/' + n) for n in os.listdir('/proc/self/fd')[:-1]])"
                return subprocess.run([sys.executable, '-c', code], close_fds=False, stdout=-1).stdout.decode()
            """
        )
        _, emitted = self.call(host)
        for fd in (host.out, host.inp):
            self.assertNotIn(os.readlink("/proc/self/fd/%d" % fd), emitted[-1]["results"]["return"])


class NotRunAgainTest(WorkerCase):
    def test_multiprocessing_spawn_works_from_a_handler(self):
        found = self.results(
            """
            import multiprocessing, sys
            def square(x): return x * x, sys.flags.no_site
            def handler(context):
                with multiprocessing.get_context('spawn').Pool(2) as pool:
                    return pool.map(square, [1, 2, 3])
            """
        )
        self.assertEqual(found["return"], ["(1, 0)", "(4, 0)", "(9, 0)"], sys.version)
