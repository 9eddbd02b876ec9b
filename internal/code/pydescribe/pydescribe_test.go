package pydescribe_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/code"
	"github.com/millrace/millrace/internal/code/pydescribe"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// interpreters returns the Pythons of this machine, 3.9 or newer.
func interpreters(t *testing.T) []string {
	t.Helper()
	found := installed()
	if len(found) == 0 {
		t.Skip("no Python of version 3.9 or newer")
	}
	return found
}

var installed = sync.OnceValue(func() []string {
	candidates := []string{"python3", "python3.9", "python3.10", "python3.11", "python3.12", "python3.13", "python3.14"}
	if home, err := os.UserHomeDir(); err == nil {
		versions, _ := filepath.Glob(filepath.Join(home, ".pyenv/versions/*/bin/python3"))
		candidates = append(candidates, versions...)
	}
	var found []string
	for _, candidate := range candidates {
		out, err := exec.Command(candidate, "-I", "-c", "import sys; assert sys.version_info >= (3, 9); print(sys.executable)").Output()
		if path := strings.TrimSpace(string(out)); err == nil && !slices.Contains(found, path) {
			found = append(found, path)
		}
	}
	return found
})

const source = `import os
from functools import wraps


@wraps
def first(
    context: mlrun.MLClientCtx, df: pd.DataFrame, deep: a.b.C, many: typing.List[pd.DataFrame], pair: Tuple[int, None],
    maybe: int | None = None, text: "str" = "x", call: Callable[[int], str] = os.getenv("X"), *args, **kwargs,
) -> pd.DataFrame:
    """Does it.

    More text.

    :param df: the data
       in a frame
    :param int maybe: a number
    :type text: path
    :return: the frame
    :raises ValueError: never
    """
    def nested(): pass


async def second(a, /, b=-1, *, c=1.5, d=(1,), e={"k": [True]}, f={1, 2}, g=SOME, h=lambda: 0, i=f"{1}x", j=None, k=b"x", l=1j):
    """Google style.

    Args:
        a (int, optional): the a
            goes on: here
        b: the b
        *args: no parameter of this name

    Returns:
        dict[str, int]: what came out

    Raises:
        KeyError: when not
    """


def third(x, y):
    """NumPy style.

    Parameters
    ----------
    x, y : float, optional
        Coordinates.

    Returns
    -------
    out : float
        The sum.

    Notes
    -----
    Stays.
    """


def _private(): pass


if os.environ:
    def conditional(): ":not a field"
else:
    try:
        def other(): pass
    except ImportError:
        pass


class Model(Base):
    def __init__(self): pass
    def fit(self, data: "pd.DataFrame"): ...
    @staticmethod
    def build(a): ...
    @property
    def size(self): ...


class _Hidden:
    def fit(self): ...
`

const wantEntries = `{
 "first":{"name":"first","doc":"Does it.\n\nMore text.","parameters":[
   {"name":"context","type":"MLClientCtx"},{"name":"df","type":"DataFrame","doc":"the data in a frame"},{"name":"deep","type":"a.b.C"},
   {"name":"many","type":"typing.List[DataFrame]"},{"name":"pair","type":"Tuple[int, None]"},
   {"name":"maybe","type":"int","default":null,"doc":"a number"},{"name":"text","type":"path","default":"x"},
   {"name":"call","type":"Callable[[int], str]","default":"os.getenv(\"X\")"}],
   "outputs":[{"type":"DataFrame","doc":"the frame"}],"lineno":6,"has_varargs":true,"has_kwargs":true},
 "second":{"name":"second","doc":"Google style.\n\nRaises:\n    KeyError: when not","parameters":[
   {"name":"a","type":"int","doc":"the a goes on: here"},{"name":"b","default":-1,"doc":"the b"},{"name":"c","default":1.5},{"name":"d","default":[1]},
   {"name":"e","default":{"k":[true]}},{"name":"f","default":"{1, 2}"},{"name":"g","default":"SOME"},{"name":"h","default":"lambda: 0"},
   {"name":"i","default":"f\"{1}x\""},{"name":"j","default":null},{"name":"k","default":"b\"x\""},{"name":"l","default":"1j"}],
   "outputs":[{"type":"dict[str, int]","doc":"what came out"}],"lineno":24,"has_varargs":false,"has_kwargs":false},
 "third":{"name":"third","doc":"NumPy style.\n\nNotes\n-----\nStays.","parameters":[{"name":"x","type":"float","doc":"Coordinates."},{"name":"y","type":"float","doc":"Coordinates."}],
   "outputs":[{"type":"float","doc":"The sum."}],"lineno":41,"has_varargs":false,"has_kwargs":false},
 "conditional":{"name":"conditional","doc":":not a field","lineno":64,"has_varargs":false,"has_kwargs":false},
 "other":{"name":"other","doc":"","lineno":67,"has_varargs":false,"has_kwargs":false},
 "Model::fit":{"name":"Model::fit","doc":"","parameters":[{"name":"data","type":"pd.DataFrame"}],"lineno":74,"has_varargs":false,"has_kwargs":false},
 "Model::build":{"name":"Model::build","doc":"","parameters":[{"name":"a"}],"lineno":76,"has_varargs":false,"has_kwargs":false}
}`

func TestDescribe(t *testing.T) {
	t.Parallel()
	want, err := document.DecodeObject([]byte(wantEntries))
	if err != nil {
		t.Fatal(err)
	}
	for _, interpreter := range interpreters(t) {
		got, err := pydescribe.New(interpreter, "").Describe(t.Context(), []byte(source))
		if err != nil {
			t.Fatalf("%s: %v", interpreter, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", interpreter, diff)
		}
	}
}

func TestMarkers(t *testing.T) {
	t.Parallel()
	const marked = `
def plain(): pass
# mlrun:handler
def direct(): pass
#  mlrun:handler

# a comment
@decorator
@other
def _private(): pass
@decorator
# mlrun: handler
def inside(): pass
text = """
# mlrun:handler
"""
def after_text(): pass
class A:
    # mlrun:handler
    def method(self): pass
`
	for _, interpreter := range interpreters(t) {
		got, err := pydescribe.New(interpreter, "").Describe(t.Context(), []byte(marked))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for name := range got {
			names = append(names, name)
		}
		slices.Sort(names)
		if diff := cmp.Diff([]string{"A::method", "_private", "direct", "inside"}, names); diff != "" {
			t.Errorf("%s: %s", interpreter, diff)
		}
	}
}

func TestSyntaxErrors(t *testing.T) {
	t.Parallel()
	for _, interpreter := range interpreters(t) {
		d := pydescribe.New(interpreter, "")
		for in, line := range map[string]int{
			"x = 1\ny = 2\ndef f(:\n": 3, "if True:\nx = 1": 2, "print 'x'": 1, "# -*- coding: no-such -*-\n": 0,
			strings.Repeat("(", 10_000) + strings.Repeat(")", 10_000): -1,
		} {
			_, err := d.Describe(t.Context(), []byte(in))
			var syntax *code.SyntaxError
			if !errors.As(err, &syntax) || line >= 0 && syntax.Line != line || syntax.Message == "" {
				t.Errorf("%s: %.20q: %v", interpreter, in, err)
			}
		}
	}
}

func TestNothingIsExecuted(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "made")
	source := "open(" + `"` + file + `"` + ", 'w')\nraise SystemExit(3)\ndef f(x=open('" + file + "', 'w')): pass\n"
	got, err := pydescribe.New(interpreters(t)[0], "").Describe(t.Context(), []byte(source))
	if err != nil || got["f"] == nil {
		t.Errorf("%v %v", got, err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the code was executed")
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	cache, interpreter := filepath.Join(t.TempDir(), "cache"), interpreters(t)[0]
	link := filepath.Join(t.TempDir(), "python")
	script := "#!/bin/sh\nexec '" + interpreter + "' \"$@\"\n"
	if err := os.WriteFile(link, []byte(script), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	d := pydescribe.New(link, cache)
	for _, in := range []string{"def f(): pass\n", "def f(:\n"} {
		want, wantErr := d.Describe(t.Context(), []byte(in))
		if err := os.Rename(link, link+".away"); err != nil {
			t.Fatal(err)
		}
		got, err := d.Describe(t.Context(), []byte(in)) // no interpreter: only the cache can answer
		if diff := cmp.Diff(want, got); diff != "" || (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
			t.Errorf("%q: %s %v, before %v", in, diff, err, wantErr)
		}
		if _, err := d.Describe(t.Context(), []byte(in+"#")); !fault.Is(err, fault.CodePrecondition) {
			t.Errorf("without an interpreter: %v", err)
		}
		if err := os.Rename(link+".away", link); err != nil {
			t.Fatal(err)
		}
	}
	files, _ := filepath.Glob(filepath.Join(cache, "*.json"))
	if len(files) != 2 {
		t.Fatalf("%d results are kept", len(files))
	}
	for _, file := range files { // a damaged result is made again
		if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := d.Describe(t.Context(), []byte("def f(): pass\n")); err != nil || got["f"] == nil {
		t.Errorf("after damage: %v %v", got, err)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pydescribe.New(interpreters(t)[0], "").Describe(ctx, []byte("x = 1")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestLoadSaysWhereTheSyntaxErrorIs(t *testing.T) {
	t.Parallel()
	d, root := pydescribe.New(interpreters(t)[0], ""), t.TempDir()
	for name, content := range map[string]string{
		"train.py": "x = 1\n\ndef f(:\n",
		"nb.ipynb": `{"nbformat":4,"metadata":{},"cells":[{"cell_type":"markdown","source":"x"},{"cell_type":"code","source":"a = 1"},{"cell_type":"code","source":"# mlrun: start-code\n\nb = 2\ndef f(:\n"}]}`,
		"good.py":  "def f(x: int = 1): pass\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, say := range map[string]string{"train.py": "train.py:3: ", "nb.ipynb": "nb.ipynb: cell 3, line 4: "} {
		_, _, err := code.Load(t.Context(), filepath.Join(root, name), code.Options{Describer: d})
		if !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), say) {
			t.Errorf("%s: %v, want %q", name, err, say)
		}
	}
	f, _, err := code.Load(t.Context(), filepath.Join(root, "good.py"), code.Options{Describer: d})
	if err != nil {
		t.Fatal(err)
	}
	if got := document.String(f.Doc, "spec", "entry_points", "f", "name"); got != "f" {
		t.Errorf("entry points: %s", document.Encode(f.Doc))
	}
}
