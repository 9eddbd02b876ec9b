package secret_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/secret"
	"github.com/millrace/millrace/internal/store"
)

func open(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Path: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func keyFile(t *testing.T) secret.Keys {
	return secret.Keys{File: filepath.Join(t.TempDir(), "secret.key"), Create: true}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func value(t *testing.T, v *secret.Vault, name string) string {
	t.Helper()
	values, err := v.Resolve(t.Context(), "default", []string{name})
	must(t, err)
	return values[name]
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]fault.Code{
		"A": "", "a.b-c_D9": "", strings.Repeat("a", 253): "", "": fault.CodeInvalid, "a b": fault.CodeInvalid, "a/b": fault.CodeInvalid,
		"é": fault.CodeInvalid, "a\n": fault.CodeInvalid, strings.Repeat("a", 254): fault.CodeInvalid, "mlrun.hub.x": fault.CodeForbidden,
	} {
		if err := secret.ValidateName(name); (err == nil) != (code == "") || err != nil && fault.CodeOf(err) != code {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, bad := range []string{"", "hidden\x00value", strings.Repeat("x", secret.MaxValue+1)} {
		if err := secret.ValidateValue("K", bad); !fault.Is(err, fault.CodeInvalid) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

func TestVault(t *testing.T) {
	t.Parallel()
	s, keys := open(t), keyFile(t)
	v := secret.NewVault(s, keys)
	must(t, v.Set(t.Context(), "default", map[string]string{"A": "first value", "B": "second value"}))
	must(t, v.Set(t.Context(), "default", map[string]string{"A": "third value"}))
	if info, err := os.Stat(keys.File); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info, err)
	}
	if value(t, v, "A") != "third value" || value(t, v, "B") != "second value" || value(t, v, "C") != "" {
		t.Error("the values are wrong")
	}
	must(t, v.SetOfRun(t.Context(), "default", "u1", map[string]string{"A": "of the run"}))
	of := func(uid string) string {
		values, err := v.ResolveForRun(t.Context(), "default", uid, []string{"A", "mlrun.run.u1.A"})
		must(t, err)
		if len(values) != 1 {
			t.Errorf("got %d values", len(values))
		}
		return values["A"]
	}
	if of("u1") != "of the run" || of("u2") != "third value" {
		t.Error("a run's own secret belongs to it alone")
	}
	names, err := v.Names(t.Context(), "default")
	if err != nil || !slices.Equal(names, []string{"A", "B"}) {
		t.Error(names, err)
	}
	must(t, v.DeleteOfRun(t.Context(), "default", "u1"))
	if of("u1") != "third value" {
		t.Error("it is still there")
	}
	must(t, v.Delete(t.Context(), "default", []string{"A", "missing"}))
	must(t, v.Delete(t.Context(), "default", nil))
	if names, err := v.Names(t.Context(), "default"); err != nil || len(names) != 0 {
		t.Error(names, err)
	}
	if err := v.Set(t.Context(), "nowhere", map[string]string{"A": "x"}); !fault.Is(err, fault.CodeNotFound) {
		t.Error(err)
	}
	if err := v.Delete(t.Context(), "default", []string{"mlrun.x"}); !fault.Is(err, fault.CodeForbidden) {
		t.Error(err)
	}
}

func TestWrongKeysAndChangedRows(t *testing.T) {
	t.Parallel()
	s, keys := open(t), keyFile(t)
	v := secret.NewVault(s, keys)
	must(t, v.Set(t.Context(), "default", map[string]string{"A": "value one", "B": "value two"}))
	refused := func(v *secret.Vault, text string) {
		t.Helper()
		_, err := v.Resolve(t.Context(), "default", []string{"A"})
		if !fault.Is(err, fault.CodePrecondition) || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "value one") {
			t.Errorf("got %v, want %q", err, text)
		}
	}
	refused(secret.NewVault(s, secret.Keys{Text: secret.NewKey().Text()}), "start it with the right key")
	refused(secret.NewVault(s, secret.Keys{File: filepath.Join(t.TempDir(), "none"), Create: true}), "is not there; restore it")
	must(t, os.Chmod(keys.File, 0o640))
	refused(v, "chmod 600")
	must(t, os.Chmod(keys.File, 0o600))

	rows, err := s.SecretGet(t.Context(), "default", []string{"A", "B"})
	must(t, err)
	swapped := slices.Clone(rows)
	swapped[0].Value, swapped[1].Value = rows[1].Value, rows[0].Value
	must(t, s.SecretReplace(t.Context(), rows, swapped))
	refused(v, "was changed in the database")
	must(t, s.SecretReplace(t.Context(), swapped, rows))
	if value(t, v, "A") != "value one" {
		t.Error("put back, it is readable again")
	}
	broken := slices.Clone(rows)
	broken[0].Value = bytes.Clone(rows[0].Value)
	broken[0].Value[len(broken[0].Value)-1] ^= 1
	must(t, s.SecretReplace(t.Context(), rows, broken))
	refused(v, "was changed in the database")
	for _, text := range []string{"short", "!", ""} {
		if _, err := secret.ParseRing(text); !fault.Is(err, fault.CodeInvalid) || text == "short" && strings.Contains(err.Error(), "short") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// killed is a store whose process dies after some more replacements.
type killed struct {
	*store.Store
	after int
}

var errKilled = errors.New("killed")

func (k *killed) SecretReplace(ctx context.Context, old, replacement []secret.Sealed) error {
	if k.after--; k.after < 0 {
		return errKilled
	}
	return k.Store.SecretReplace(ctx, old, replacement)
}

func TestRotationThatIsKilledLosesNothing(t *testing.T) {
	t.Parallel()
	s, keys := open(t), keyFile(t)
	v := secret.NewVault(s, keys)
	values := map[string]string{}
	for i := range 450 {
		values["K"+strings.Repeat("x", i%200)+string(rune('a'+i%26))] = "value of " + strings.Repeat("y", i)
	}
	must(t, v.Set(t.Context(), "default", values))
	before, err := os.ReadFile(keys.File)
	must(t, err)
	check := func() {
		t.Helper()
		for name, want := range values {
			if got := value(t, v, name); got != want {
				t.Fatalf("%s is %q, want %q", name, got, want)
			}
		}
	}
	if _, err := secret.NewVault(&killed{Store: s, after: 1}, keys).Rotate(t.Context()); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	check()
	half, err := os.ReadFile(keys.File)
	must(t, err)
	if !bytes.HasSuffix(half, before) || len(half) != 2*len(before) {
		t.Error("both keys are needed now")
	}
	must(t, v.Set(t.Context(), "default", map[string]string{"between": "set in between"}))
	values["between"] = "set in between"
	if _, err := v.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	check()
	after, err := os.ReadFile(keys.File)
	must(t, err)
	if !bytes.HasPrefix(half, after) || len(after) != len(before) {
		t.Error("the old key is still there, or a third one was made")
	}
	if rows, err := s.SecretOthers(t.Context(), "", 1000); err != nil || len(rows) == 0 || strings.Contains(string(before), rows[0].KeyID) {
		t.Error(err)
	}
	fixed := secret.NewVault(s, secret.Keys{Text: string(after)})
	if _, err := fixed.Rotate(t.Context()); !fault.Is(err, fault.CodePrecondition) {
		t.Error(err)
	}
	two := secret.NewVault(s, secret.Keys{Text: secret.NewKey().Text() + "," + string(after)})
	if n, err := two.Rotate(t.Context()); err != nil || n != len(values) {
		t.Error(n, err)
	}
}

func TestMask(t *testing.T) {
	t.Parallel()
	m := secret.NewMasker([]string{"s3cret-value", "s3cret-value-and-more", "abc", "line one here\nline two here", `quo"te<d`})
	for text, want := range map[string]string{
		"a s3cret-value b":          "a ************ b",
		"a s3cret-value-and-more b": "a ********************* b",
		"abc is too short":          "abc is too short",
		"x line two here":           "x *************",
		`{"k":"quo\"te<d"}`:         `{"k":"*********"}`,
		"s3cret-valus3cret-value":   "s3cret-valu************",
	} {
		if got := m.String(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
	if secret.NewMasker([]string{"", "abc"}) != nil {
		t.Error("there is nothing to mask")
	}
	var none *secret.Masker
	if none.String("x") != "x" {
		t.Error("nil masks nothing")
	}
}

// TestMaskInPieces cuts texts everywhere and looks at what ever becomes visible.
func TestMaskInPieces(t *testing.T) {
	t.Parallel()
	values := []string{"aabaab", "aabaabbb", "bbaaab"}
	m := secret.NewMasker(values)
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		text := make([]byte, random.IntN(60))
		for i := range text {
			text[i] = "aabbc\n"[random.IntN(6)]
		}
		want := []byte(m.String(string(text)))
		var got []byte
		s := m.Stream(func(piece []byte, _ bool) error { got = append(got, piece...); return nil })
		for rest := text; len(rest) > 0; {
			n := 1 + random.IntN(min(len(rest), 5))
			_, err := s.Write(rest[:n])
			must(t, err)
			rest = rest[n:]
			if !bytes.HasPrefix(want, got) {
				t.Fatalf("%q: shown %q, should be the beginning of %q", text, got, want)
			}
		}
		must(t, s.Close())
		if !bytes.Equal(got, want) {
			t.Fatalf("%q became %q, want %q", text, got, want)
		}
		offset := random.IntN(len(text) + 1)
		n := random.IntN(len(text) - offset + 1)
		part, err := io.ReadAll(m.Reader(bytes.NewReader(text), int64(len(text)), int64(offset), int64(n)))
		must(t, err)
		if len(part) != n {
			t.Fatalf("%d of %d bytes", len(part), n)
		}
		for shown := 0; shown < len(text); { // what a follower sees of a text that grows
			size := shown + 1 + random.IntN(len(text)-shown)
			held, err := m.Held(bytes.NewReader(text), int64(size))
			must(t, err)
			if end := size - int(held); end > shown {
				piece, err := io.ReadAll(m.Reader(bytes.NewReader(text), int64(size), int64(shown), int64(end-shown)))
				must(t, err)
				if !bytes.Equal(piece, want[shown:end]) {
					t.Fatalf("%q [%d:%d] of %d was shown as %q, want %q", text, shown, end, size, piece, want[shown:end])
				}
				shown = end
			}
			if size == len(text) {
				break
			}
		}
		for i, b := range part { // the end may be masked more than it has to be
			if b != want[offset+i] && (b != '*' || i < n-8 && offset+n < len(text)) {
				t.Fatalf("%q [%d:+%d] became %q, want %q", text, offset, n, part, want[offset:offset+n])
			}
		}
	}
}
