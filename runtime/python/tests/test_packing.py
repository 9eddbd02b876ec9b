"""What becomes of returned values, and what inputs become by their type hints."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import unittest

from tests.host import WorkerCase

needs_numpy = unittest.skipUnless(importlib.util.find_spec("numpy"), "this interpreter has no numpy")
needs_pandas = unittest.skipUnless(importlib.util.find_spec("pandas"), "this interpreter has no pandas")


class ReturnsTest(WorkerCase):
    def packed(self, expression, *returns, head=""):
        """Return the results and the artifacts' documents by key of returning expression."""
        code = "%s\ndef handler():\n    return %s\n" % (head, expression)
        metadata = {"name": "r", "uid": "u", "project": "p"}
        run = {"metadata": metadata, "spec": {"returns": list(returns), "output_path": self.folder + "/out"}}
        answer, emitted, host = self.run_code(code, run=run)
        self.assertEqual(answer["state"], "completed", host.log())
        results, documents = {}, {}
        for record in emitted:
            results.update(record.get("results", {}))
            if record["t"] == "artifact":
                documents[record["key"]] = record["doc"]
        self.log = host.log()
        return results, documents

    def file(self, expression, *returns, head=""):
        """Return (recorded instructions, content) of the one artifact."""
        results, documents = self.packed(expression, *returns, head=head)
        self.assertEqual((results, list(documents)), ({}, ["k"]), self.log)
        spec = documents["k"]["spec"]
        with open(spec["target_path"], "rb") as file:
            return spec["unpackaging_instructions"], file.read()

    def test_results(self):
        cases = [
            ("1", 1), ("1.5", 1.5), ("True", True), ("'x'", "x"), ("{'a': 1}", {"a": 1}), ("[1, 2]", [1, 2]),
            ("(1, 2),", [1, 2]), ("{1}", [1]), ("frozenset({1})", [1]), ("b'ab'", "b'ab'"), ("[]", []), ("0", 0),
        ]  # fmt: skip
        for expression, expected in cases:
            for hint in ("k", "k : result", "k:result", {"key": "k"}, {"key": "k", "artifact_type": "result"}):
                with self.subTest(expression, hint=hint):
                    self.assertEqual(self.packed(expression, hint), ({"k": expected}, {}))

    def test_files_of_collections(self):
        cases = [
            (
                "{'a': [1, None]}",
                "k : file",
                "DictPackager",
                "dict",
                "json",
                '{\n    "a": [\n        1,\n        null\n    ]\n}',
            ),
            (
                "[1, 2]",
                {"key": "k", "artifact_type": "file", "file_format": "jsonl"},
                "ListPackager",
                "list",
                "jsonl",
                "1\n2\n",
            ),
            ("(1, 2),", "k : file", "TuplePackager", "tuple", "json", "[\n    1,\n    2\n]"),
            ("{7}", "k : file", "SetPackager", "set", "json", "[\n    7\n]"),
            ("b'ab'", "k : file", "BytesPackager", "bytes", "json", "[\n    97,\n    98\n]"),
            (
                "{1: 2}",
                {"key": "k", "artifact_type": "file", "file_format": "txt"},
                "DictPackager",
                "dict",
                "txt",
                "{1: 2}",
            ),
        ]
        for expression, hint, packager, kind, form, text in cases:
            with self.subTest(expression):
                recorded, content = self.file(expression, hint)
                expected = {
                    "packager_name": packager,
                    "object_type": "builtins." + kind,
                    "artifact_type": "file",
                    "instructions": {"file_format": form},
                }
                self.assertEqual((recorded, content.decode()), (expected, text))

    def test_paths(self):
        path = self.write("note.txt", "a note")
        for expression in ("pathlib.Path(%r)" % path, "%r" % path):
            hint = "k : path" if "pathlib" not in expression else "k"
            recorded, content = self.file(expression, hint, head="import pathlib")
            self.assertEqual(content, b"a note")
            self.assertEqual((recorded["artifact_type"], recorded["instructions"]), ("path", {"is_directory": False}))
        os.makedirs(self.folder + "/tree/sub")
        self.write("tree/sub/x.txt", "x")
        recorded, _ = self.file("pathlib.Path(%r)" % (self.folder + "/tree"), "k", head="import pathlib")
        self.assertEqual(recorded["instructions"], {"archive_format": "zip", "is_directory": True})

    def test_objects(self):
        recorded, content = self.file("Model()", "k", head="class Model:\n    size = 3")
        self.assertEqual((recorded["packager_name"], recorded["artifact_type"]), ("DefaultPackager", "object"))
        self.assertIn(recorded["instructions"]["pickle_module_name"], ("pickle", "cloudpickle"))
        self.assertEqual(recorded["instructions"]["python_version"], "%d.%d.%d" % sys.version_info[:3])
        self.assertIn(b"Model", content)
        recorded, _ = self.file("5", {"key": "k", "artifact_type": "object", "pickle_module_name": "pickle"})
        self.assertEqual(recorded["instructions"]["pickle_module_name"], "pickle")

    def test_spreading(self):
        self.assertEqual(self.packed("1, 2, 3", "a", None, "c")[0], {"a": 1, "c": 3})
        self.assertEqual(self.packed("(n for n in (4, 5))", "*k")[0], {"k0": 4, "k1": 5})
        self.assertEqual(self.packed("{}, []", "**a", "*b")[0], {})
        self.assertEqual(self.packed("{'x': 1, 'y': None}", "**k_")[0], {"k_x": 1, "k_y": None})
        self.assertEqual(set(self.packed("[{'a': 1}, {'b': 2}]", "*k : file")[1]), {"k0", "k1"})
        nested = "{'a': [1, 2], 'b': 3}"
        self.assertEqual(self.packed(nested, "1*k")[0], {"k_a": [1, 2], "k_b": 3})
        self.assertEqual(self.packed(nested, {"key": "k", "itemized": True})[0], {"k_a_0": 1, "k_a_1": 2, "k_b": 3})
        self.assertEqual(self.packed("7", {"key": "k", "itemized": 1})[0], {"k": 7})

    def test_none_is_a_result(self):
        self.assertEqual(self.packed("None", "k"), ({"k": None}, {}))
        self.assertEqual(self.packed("None, [None, 1]", "a", "b : result"), ({"a": None, "b": [None, 1]}, {}))
        recorded = "context.log_result('k', 4)"
        code = "def handler(context):\n    %s\n" % recorded
        answer, emitted, _ = self.run_code(code, run={"spec": {"returns": ["k"]}})
        self.assertEqual([record.get("results") for record in emitted], [{"k": 4}])

    def test_options_in_the_text_of_a_hint(self):
        recorded, content = self.file("[1, 2]", "k : file[file_format='jsonl']")
        self.assertEqual((recorded["instructions"], content), ({"file_format": "jsonl"}, b"1\n2\n"))
        for hint in ("k[a=1]", "k : file[a]", "k : file[a=b]", "k : file[a=1", "x*k", "1*", {"artifact_type": "file"}):
            with self.subTest(hint):
                code = "def handler():\n    return [1]\n"
                answer, _, _ = self.run_code(code, run={"spec": {"returns": [hint]}})
                self.assertEqual(answer["state"], "error")
                self.assertIn("of returns is not valid", answer["failure"]["message"])

    def test_a_hint_in_full(self):
        hint = {
            "key": "k", "artifact_type": "file", "packing_kwargs": {"file_format": "txt"}, "itemized": False, "tag": "t1",
            "labels": {"a": 1}, "artifact_path": self.folder + "/else", "extra_data": {"more": "/x"}, "metrics": {},
        }  # fmt: skip
        _, documents = self.packed("[1]", hint)
        metadata, spec = documents["k"]["metadata"], documents["k"]["spec"]
        self.assertEqual((metadata["tag"], metadata["labels"]), ("t1", {"a": "1"}))
        self.assertTrue(spec["target_path"].startswith(self.folder + "/else/"), spec["target_path"])
        self.assertEqual((spec["extra_data"], spec["unpackaging_instructions"]["instructions"]["file_format"]),
                         ({"more": "/x"}, "txt"))  # fmt: skip

    def test_links_between_outputs(self):
        linked = {
            "key": "k",
            "artifact_type": "file",
            "extra_data": {"other": "...", "score": "Ellipsis", "gone": "..."},
        }
        results, documents = self.packed("[1], {'x': 2}, 0.5", linked, "other : file", "score")
        self.assertEqual(results, {"score": 0.5})
        extra = documents["k"]["spec"]["extra_data"]
        self.assertEqual(extra, {"other": documents["other"]["spec"]["target_path"], "score": 0.5})
        self.assertIn("there is no output gone to link as extra data of k", self.log)
        circle = [{"key": key, "artifact_type": "file", "extra_data": {other: "..."}} for key, other in ("ab", "ba")]
        self.assertEqual(set(self.packed("[1], [2]", *circle)[1]), {"a", "b"})
        self.packed("1", {"key": "k", "artifact_type": "object", "metrics": {"m": 1}})
        self.assertIn("metrics are for models", self.log)

    def test_what_does_not_fit_is_said_and_the_rest_is_recorded(self):
        cases = [
            (
                "1, 2",
                ["a : dataset", "b"],
                "'a' is not recorded: a value of type builtins.int cannot be packed as dataset",
            ),
            ("1, 2", ["a : nonsense", "b"], "there is no artifact type 'nonsense'"),
            ("'x', 2", ["a : path", "b"], "there is no file or folder x"),
            ("1, 2", ["*a", "b"], "* takes a list or another iterable, the handler returned int"),
            ("1, 2", ["**a", "b"], "** takes a dict, the handler returned int"),
            ("[object()], 2", ["a : file", "b"], "it contains a value of type builtins.object"),
            ("open, 2", [{"key": "a", "artifact_type": "object", "pickle_module_name": "nowhere"}, "b"], "nowhere"),
            ("1, 2", ["a/b : object", "b"], "is not recorded"),
        ]
        for expression, returns, text in cases:
            with self.subTest(text):
                results, documents = self.packed(expression, *returns)
                self.assertEqual((results, documents), ({"b": 2}, {}))
                self.assertIn(text, self.log)
        for expression, returns in (("1, 2", ["a"]), ("1", ["a", "b"])):
            self.packed(expression, *returns)
            self.assertIn("what is left over is ignored", self.log)

    def test_options_that_nothing_takes_are_said(self):
        for hint in ({"key": "a", "artifact_type": "file", "sep": ";"}, "a : file[file_format='json', sep=';']"):
            _, documents = self.packed("[1]", hint)
            self.assertEqual(set(documents), {"a"})
            self.assertIn("the output 'a': its packing has no option 'sep', which is ignored", self.log)

    def test_nothing_temporary_is_left(self):
        results, _ = self.packed("[1], __import__('tempfile').gettempdir()", "a : file", "folder")
        self.assertEqual([name for name in os.listdir(results["folder"]) if name.startswith("output-")], [])

    def test_an_archive_that_becomes_too_large_is_refused(self):
        code = """
            import io, os, pathlib, tarfile, tempfile, zipfile, millrace._unpack as u
            def handler(folder):
                tempfile.tempdir = folder
                u._SMALL, u._MEMBERS = 64 << 20, 50
                said = []

                def read(name):
                    item = type("Item", (), {"local": lambda self: folder + "/" + name})()
                    try:
                        u._path(item, {"is_directory": True})
                        said.append("read")
                    except ValueError as error:
                        said.append(str(error))
                for members in (40, 51):
                    with zipfile.ZipFile(folder + "/a.zip", "w") as z:
                        for i in range(members):
                            z.writestr(str(i), b"")
                    read("a.zip")
                zeros = bytes(65 << 20)
                with zipfile.ZipFile(folder + "/b.zip", "w", zipfile.ZIP_DEFLATED) as z:
                    z.writestr("zeros", zeros)
                read("b.zip")
                for kind in ("gz", "xz"):
                    with tarfile.open(folder + "/b.tar." + kind, "w:" + kind) as t:
                        info = tarfile.TarInfo("zeros")
                        info.size = len(zeros)
                        t.addfile(info, io.BytesIO(zeros))
                    read("b.tar." + kind)
                return [said, len(list(pathlib.Path(folder).glob("input-*")))]
            """
        said, folders = self.results(code, run={"spec": {"parameters": {"folder": self.folder}}})["return"]
        large = "the archive unpacks to more than the 67108864 bytes that one of its size may hold"
        self.assertEqual(said, ["read", "the archive has more than 50 members", large, large, large])
        self.assertEqual(folders, 1, "what was refused left a folder behind")

    @needs_numpy
    def test_numpy(self):
        head = "import numpy"
        self.assertEqual(self.packed("numpy.arange(3)", "k", head=head)[0], {"k": [0, 1, 2]})
        self.assertEqual(self.packed("numpy.arange(12)", "k : result", head=head)[0], {"k": list(range(12))})
        self.assertEqual(
            self.packed("numpy.float32(1.5), numpy.bool_(True)", "k", "b", head=head)[0], {"k": 1.5, "b": True}
        )
        for expression, packager, form in (
            ("numpy.arange(12)", "NumPyNDArrayPackager", "npy"),
            ("{'a': numpy.arange(2)}", "NumPyNDArrayDictPackager", "npz"),
            ("[numpy.arange(2)]", "NumPyNDArrayListPackager", "npz"),
        ):
            recorded, _ = self.file(expression, "k", head=head)
            self.assertEqual((recorded["packager_name"], recorded["instructions"]), (packager, {"file_format": form}))

    @needs_pandas
    def test_pandas(self):
        head = "import pandas\nframe = pandas.DataFrame({'a': [1, 2]})"
        self.assertEqual(self.packed("frame", "k : result", head=head)[0], {"k": {"a": [1, 2]}})
        csv = {"key": "k", "artifact_type": "file", "file_format": "csv"}
        recorded, content = self.file("frame", csv, head=head)
        self.assertEqual(content.decode().splitlines(), ["INDEX_None_0,a", "0,1", "1,2"])
        flat = {"columns": ["a"], "columns_levels": [None], "index_levels": [None]}
        self.assertEqual(recorded["instructions"], {"file_format": "csv", "read_kwargs": {"unflatten_kwargs": flat}})
        recorded, _ = self.file("pandas.Series([1, 2], name='q')", csv, head=head)
        self.assertEqual(
            (recorded["packager_name"], recorded["instructions"]["column_name"]), ("PandasSeriesPackager", "q")
        )
        code = "frame.__class__({'a': [1]}), list(frame.columns) + [frame.index.name]"
        results, _ = self.packed(code, dict(csv), "unchanged", head=head)
        self.assertEqual(results, {"unchanged": ["a", None]})


class InputsTest(WorkerCase):
    def read(self, path, annotation="", hint="", head="", body="return [type(k).__name__, repr(k)]"):
        """Return what a handler sees of an input; the failure's text if it fails."""
        code = "%s\ndef handler(k%s):\n    %s\n" % (head, ": " + annotation if annotation else "", body)
        run = {"spec": {"inputs": {"k" + (" : " + hint if hint else ""): path}}}
        answer, emitted, host = self.run_code(code, run=run)
        if answer["state"] == "error":
            return answer["failure"]["message"]
        return emitted[-1]["results"]["return"]

    def test_every_type(self):
        folder = self.folder
        text = self.write("n.txt", "41\n")
        numbers = self.write("n.json", "[1, 2, 2]")
        mapping = self.write("d.json", '{"a": 1}')
        lines = self.write("l.jsonl", '{"a": 1}\n{"a": 2}\n')
        cases = [
            (text, "int", ["int", "41"]),
            (text, "float", ["float", "41.0"]),
            (self.write("b.txt", "true"), "bool", ["bool", "True"]),
            (text, "str", ["str", repr(text)]),
            (text, "pathlib.Path", ["PosixPath", "PosixPath(%r)" % text]),
            (text, "bytes", ["bytes", "b'41\\n'"]),
            (text, "bytearray", ["bytearray", "bytearray(b'41\\n')"]),
            (numbers, "list", ["list", "[1, 2, 2]"]),
            (numbers, "tuple", ["tuple", "(1, 2, 2)"]),
            (numbers, "set", ["set", "{1, 2}"]),
            (numbers, "frozenset", ["frozenset", "frozenset({1, 2})"]),
            (mapping, "dict", ["dict", "{'a': 1}"]),
            (lines, "list", ["list", "[{'a': 1}, {'a': 2}]"]),
            (self.write("t.txt", "{'a': (1, 2)}"), "dict", ["dict", "{'a': (1, 2)}"]),
            (numbers, "object", ["DataItem", "DataItem(%r)" % numbers]),
            (numbers, "millrace.DataItem", ["DataItem", "DataItem(%r)" % numbers]),
        ]
        self.assertTrue(folder)
        for path, kind, expected in cases:
            with self.subTest(kind, path=path):
                self.assertEqual(self.read(path, kind, head="import pathlib, millrace"), expected)
                if kind != "millrace.DataItem":
                    self.assertEqual(self.read(path, hint=kind), expected)

    def test_annotations(self):
        path = self.write("n.json", "[1]")
        listed, item = ["list", "[1]"], ["DataItem", "DataItem(%r)" % path]
        cases = {
            "typing.List[int]": listed,
            "typing.Optional[list]": listed,
            "typing.Union[dict, list]": listed,
            "typing.Union[list, millrace.DataItem]": item,
            "typing.Any": item,
            "'list'": listed,
            "'millrace.DataItem'": item,
            "'DataItem'": "the input 'k' has the type hint DataItem: there is no type 'DataItem'; write it with its module, as pandas.DataFrame",
            "typing.TypeVar('T')": item,
            "typing.TypeVar('T', dict, list)": listed,
            "typing.NewType('N', list)": listed,
            "None": item,
        }
        cases["typing.Annotated[list, 'note']"] = listed
        cases["list[int]"] = listed
        cases["'dict | list'"] = listed
        cases["'list | None'"] = listed
        for annotation, expected in cases.items():
            with self.subTest(annotation):
                self.assertEqual(self.read(path, annotation, head="import typing, millrace"), expected)

    def test_postponed_annotations_and_other_parameters(self):
        path = self.write("n.json", "[1]")
        head = (
            "from __future__ import annotations\nTYPE_CHECKING = False\nif TYPE_CHECKING:\n    import nowhere\n"
            "def handler(x: nowhere.Thing, k: list[int] | None = None): return [x, k]\n"
        )
        run = {"spec": {"inputs": {"k": path}, "parameters": {"x": 5}}}
        self.assertEqual(self.results(head, run=run)["return"], [5, [1]])

    def test_the_hint_of_the_run_wins(self):
        path = self.write("n.json", "[1]")
        self.assertEqual(self.read(path, annotation="dict", hint="list"), ["list", "[1]"])
        self.assertEqual(self.read(path, annotation="str", hint="millrace.DataItem")[0], "DataItem")
        run = {"spec": {"inputs": {"k : list": path}}}
        self.assertEqual(self.results("def handler(**kw):\n    return kw\n", run=run)["return"], {"k": [1]})

    def test_failures_are_one_sentence(self):
        path = self.write("n.txt", "many words")
        what = "the input 'k' (%s) cannot be read as " % path
        cases = [
            ("int", what + "int: invalid literal for int() with base 10: 'many words'"),
            ("bool", what + "bool: 'many words' is neither true nor false"),
            ("nowhere.Thing", "the input 'k' has the type hint nowhere.Thing: nowhere.Thing is not installed in the function's environment, or has no such type"),
            ("os.system('x')", "the input 'k' has the type hint os.system('x'): \"os.system('x')\" is not the name of a type"),
        ]  # fmt: skip
        for hint, expected in cases:
            with self.subTest(hint):
                self.assertEqual(self.read(path, hint=hint), expected)
        missing = self.folder + "/none.json"
        self.assertIn("cannot be read as list", self.read(missing, "list"))

    def test_an_archive_with_a_member_outside_is_refused(self):
        code = """
            import io, zipfile, millrace._unpack as u
            def handler(k):
                with zipfile.ZipFile(k.local(), "w") as z:
                    z.writestr("ok.txt", "x")
                    z.writestr("../outside.txt", "x")
                try:
                    u._path(k, {"is_directory": True, "archive_format": "zip"})
                except ValueError as error:
                    return str(error)
            """
        run = {"spec": {"inputs": {"k": self.folder + "/a.zip"}}}
        self.assertIn("lies outside", self.results(code, run=run)["return"])
        self.assertFalse(os.path.exists(self.folder + "/outside.txt"))

    def test_links_devices_and_holes_in_an_archive_are_refused_and_an_inner_archive_stays_packed(self):
        code = """
            import io, os, tarfile, tempfile, zipfile, millrace._unpack as u
            def handler(folder):
                tempfile.tempdir = folder
                u._SMALL = 64 << 20
                said = []

                def read(name):
                    item = type("Item", (), {"local": lambda self: folder + "/" + name})()
                    try:
                        found = u._path(item, {"is_directory": True})
                        said.append(sorted(os.listdir(found)))
                    except ValueError as error:
                        said.append(str(error))
                for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
                    with tarfile.open(folder + "/a.tar", "w") as t:
                        t.addfile(tarfile.TarInfo("first.txt"))
                        info = tarfile.TarInfo("bad")
                        info.type, info.linkname = kind, "/etc/passwd"
                        t.addfile(info)
                    read("a.tar")
                for name in ("../up.txt", "/tmp/absolute.txt"):
                    with tarfile.open(folder + "/a.tar", "w") as t:
                        t.addfile(tarfile.TarInfo(name))
                    read("a.tar")
                # A sparse file of a gigabyte that takes no room in the archive.
                with tarfile.open(folder + "/a.tar", "w", format=tarfile.PAX_FORMAT) as t:
                    info = tarfile.TarInfo("holes")
                    info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "holes",
                                        "GNU.sparse.size": str(1 << 30), "GNU.sparse.numblocks": "0", "GNU.sparse.map": "0,0"}
                    t.addfile(info)
                read("a.tar")
                inner = io.BytesIO()
                with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as z:
                    z.writestr("zeros", bytes(65 << 20))
                with zipfile.ZipFile(folder + "/a.zip", "w") as z:
                    z.writestr("inner.zip", inner.getvalue())
                read("a.zip")
                return [said, sorted(name for name in os.listdir(folder) if name.startswith("input-"))]
            """
        said, folders = self.results(code, run={"spec": {"parameters": {"folder": self.folder}}})["return"]
        for text in said[:4]:
            self.assertEqual(text, "the archive has the member 'bad', which is no file and no folder")
        for text, name in zip(said[4:6], ("../up.txt", "/tmp/absolute.txt")):
            self.assertEqual(text, "the archive has the member %r, which lies outside of it" % name)
        self.assertIn("unpacks to more than the 67108864 bytes", said[6])
        self.assertEqual(said[7], ["inner.zip"])
        self.assertEqual(len(folders), 1, "what was refused left a folder behind")

    @needs_numpy
    def test_numpy(self):
        self.assertEqual(
            self.read(self.write("a.csv", "1,2\n3,4\n"), "numpy.ndarray", head="import numpy")[0], "ndarray"
        )
        body = "return k.tolist()"
        self.assertEqual(
            self.read(self.write("a.txt", "1 2\n3 4\n"), hint="numpy.ndarray", body=body), [[1, 2], [3, 4]]
        )
        self.assertEqual(
            self.read(self.write("n.txt", "2"), hint="numpy.float64", body="return [type(k).__name__, k]"),
            ["float64", 2.0],
        )

    @needs_pandas
    def test_pandas(self):
        path = self.write("f.csv", "a,b\n1,2\n")
        body = "return [type(k).__name__, k.to_dict()]"
        frame = ["DataFrame", {"a": {"0": 1}, "b": {"0": 2}}]
        for annotation, hint in (
            ("pd.DataFrame", ""),
            ("", "pandas.DataFrame"),
            ("", "pd.DataFrame"),
            ("'pd.DataFrame'", ""),
        ):
            found = self.read(path, annotation, hint, head="import pandas as pd", body=body)
            self.assertEqual(json.loads(json.dumps(found)), frame)
        one = self.write("s.csv", "q\n1\n2\n")
        self.assertEqual(self.read(one, hint="pandas.Series", body="return [k.name, k.tolist()]"), ["q", [1, 2]])
        self.assertIn("it has 2 columns, a Series is one", self.read(path, hint="pandas.Series"))
