package env

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/fault"
)

func TestParseRequirements(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		in   []string
		want []string
	}{
		"nothing":              {nil, nil},
		"blank and comments":   {[]string{"", "  ", "# all of it", "six # why", "  # more"}, []string{"six"}},
		"names are normalised": {[]string{"Flask_Login", "zope.interface"}, []string{"flask-login", "zope-interface"}},
		"versions":             {[]string{"six == 1.16.0", "b>=1,<2 ", "c (>=1)", "d~=1.2", "e===1.x", "f!=1.*"}, []string{"b<2,>=1", "c>=1", "d~=1.2", "e===1.x", "f!=1.*", "six==1.16.0"}},
		"extras":               {[]string{"requests[Socks, security]>=2", "a[]"}, []string{"a", "requests[security,socks]>=2"}},
		"markers":              {[]string{`six; python_version<'3.11' and (sys_platform=="linux" or os_name  not   in "nt")`}, []string{`six ; python_version < "3.11" and ( sys_platform == "linux" or os_name not in "nt" )`}},
		"direct references":    {[]string{"six @ https://host/six-1.whl#sha256=ab ; os_name=='posix'", "git+https://host/x.git@v1#egg=x"}, []string{"git+https://host/x.git@v1#egg=x", `six @ https://host/six-1.whl#sha256=ab ; os_name == "posix"`}},
		"options":              {[]string{"-i https://host/simple", "--extra-index-url=https://b/simple", "--pre", "--no-binary :all:", "six"}, []string{"--index-url https://host/simple", "--extra-index-url https://b/simple", "--pre", "--no-binary :all:", "six"}},
		"hashes":               {[]string{"six==1 \\", "  --hash=sha256:AB --hash sha256:cd"}, []string{"six==1 --hash=sha256:ab --hash=sha256:cd"}},
		"one item, many lines": {[]string{"\ufeffsix\r\nidna\n# end\n"}, []string{"idna", "six"}},
		"repeats":              {[]string{"six", "SIX", "six "}, []string{"six"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseRequirements(c.in, "")
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.Lines(), c.want) {
				t.Errorf("got  %q\nwant %q", got.Lines(), c.want)
			}
			again, err := ParseRequirements(got.Lines(), "")
			if err != nil || !slices.Equal(again.Lines(), got.Lines()) {
				t.Errorf("not stable: %q, %v", again.Lines(), err)
			}
		})
	}
}

func TestParseRequirementsRefuses(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		line string
		want string // in the message
	}{
		"no name":                 {"==1.0", "package name has to come first"},
		"single equals":           {"six=1.0", "=="},
		"no comment":              {"a#b", "no version condition"},
		"two words":               {"six idna", "no version condition"},
		"trailing comma":          {"six>=1,", "comma"},
		"no version":              {"six==abc", "no version"},
		"unclosed extras":         {"six[a", "not closed"},
		"bad extra":               {"six[a b]", "no name of an extra"},
		"malformed marker":        {"six; python_version >", "malformed"},
		"unknown marker name":     {`six; python < "3"`, "malformed"},
		"editable":                {"-e .", "editable"},
		"editable long":           {"--editable=git+https://h/x", "editable"},
		"target":                  {"--target /tmp/x", "--target is not accepted"},
		"global option":           {"six --global-option=x", "not accepted after a package"},
		"config settings":         {"--config-settings=a=b", "not accepted"},
		"install option":          {"six --install-option=--prefix=/x", "not accepted after a package"},
		"file without a folder":   {"-r other.txt", "no folder"},
		"requirements from a URL": {"-r https://h/r.txt", "not read from URLs"},
		"path without a folder":   {"./six.whl", "no folder"},
		"home path":               {"~/six.whl", "~"},
		"two options":             {"--pre --no-index", "takes no value"},
		"index without value":     {"-i", "needs a value"},
		"control character":       {"six\x00", "control character"},
		"url with blank":          {"six @ https://h/a b.whl", "blank"},
		"no url":                  {"six @ nonsense", "no URL"},
		"long":                    {strings.Repeat("a", maxRequirementLine+1), "longer than"},
		"deep marker":             {"six; " + strings.Repeat("(", 100) + `os_name=="a"` + strings.Repeat(")", 100), "parentheses"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseRequirements([]string{"# first", c.line}, "")
			if !fault.Is(err, fault.CodeInvalid) {
				t.Fatalf("%q: %v, want an invalid fault", c.line, err)
			}
			if msg := err.Error(); !strings.Contains(msg, c.want) || !strings.Contains(msg, "line 2") {
				t.Errorf("message %q does not say %q and the line", msg, c.want)
			}
		})
	}
}

func TestParseRequirementsHidesCredentials(t *testing.T) {
	t.Parallel()
	_, err := ParseRequirements([]string{"--index-url https://user:hunter2@host/ x"}, "")
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Fatalf("error %v shows the password", err)
	}
}

func TestParseRequirementsFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("base.txt", "six\n-r sub/more.txt\n-c limits.txt\n")
	write("sub/more.txt", "idna\n./wheel-1-py3-none-any.whl\n")
	write("sub/wheel-1-py3-none-any.whl", "one")
	write("limits.txt", "six<2")
	write("loop.txt", "-r loop.txt")
	write("pkg/setup.py", "")
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "out.txt")); err != nil {
		t.Fatal(err)
	}

	got, err := ParseRequirements([]string{"-rbase.txt"}, dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"file://" + filepath.Join(dir, "sub/wheel-1-py3-none-any.whl"), "idna", "six"}; !slices.Equal(got.Lines(), want) {
		t.Errorf("got %q, want %q", got.Lines(), want)
	}
	if len(got.constraints) != 1 || got.constraints[0].String() != "six<2" {
		t.Errorf("constraints are %v", got.constraints)
	}
	key := Request{Requirements: got}.key()
	write("sub/wheel-1-py3-none-any.whl", "two")
	changed, err := ParseRequirements([]string{"-rbase.txt"}, dir)
	if err != nil {
		t.Fatal(err)
	}
	if (Request{Requirements: changed}).key() == key {
		t.Error("the key does not depend on a local wheel's content")
	}
	for line, want := range map[string]string{
		"-r loop.txt": "include each other", "-r missing.txt": "does not exist", "-r ../x.txt": "does not exist",
		"-r out.txt": "outside", "-r /etc/passwd": "outside", "./pkg": "no wheel or source archive",
	} {
		if _, err := ParseRequirements([]string{line}, dir); !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func TestRequestKey(t *testing.T) {
	t.Parallel()
	key := func(identity string, lines ...string) string {
		req, err := ParseRequirements(lines, "")
		if err != nil {
			t.Fatal(err)
		}
		return Request{Interpreter: Interpreter{Real: identity}, Requirements: req}.key()
	}
	if key("a", "Six>=1, <2", "idna") != key("a", "idna", "# x", "six<2,>=1") {
		t.Error("two spellings have two keys")
	}
	if key("a", "six") == key("b", "six") || key("a", "six") == key("a", "six>1") || key("a", "six") == key("a", "--pre", "six") {
		t.Error("different requests share a key")
	}
}

func FuzzParseRequirements(f *testing.F) {
	for _, seed := range []string{"six==1.16.0", "a[b,c]>=1;python_version<'3'", "x @ https://u:p@h/y.whl#sha256=a ; os_name=='a'", "-r a\\\n--hash=sha256:ab", "six \\", "\ufeff#", "a;((((", "./x.whl"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseRequirements([]string{text}, "")
		if err != nil {
			if !fault.Is(err, fault.CodeInvalid) {
				t.Fatalf("%q: %v is not an invalid fault", text, err)
			}
			return
		}
		again, err := ParseRequirements(got.Lines(), "")
		if err != nil {
			t.Fatalf("%q gives %q, which is refused: %v", text, got.Lines(), err)
		}
		if !slices.Equal(again.Lines(), got.Lines()) {
			t.Fatalf("%q is not stable: %q, then %q", text, got.Lines(), again.Lines())
		}
	})
}
