package code_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/millrace/millrace/internal/code"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
)

func TestBundles(t *testing.T) {
	t.Parallel()
	const content = "the bytes"
	name := fmt.Sprintf("sha256-%x", sha256.Sum256([]byte(content)))
	b := code.Bundles{Dir: filepath.Join(t.TempDir(), "bundles"), Max: 20}
	for wrong, body := range map[string]string{
		"another digest": "other bytes", "cut short": content[:4], "too long": strings.Repeat("x", 21),
	} {
		if _, err := b.Put(name, strings.NewReader(body)); !fault.Is(err, fault.CodeInvalid) && !fault.Is(err, fault.CodeTooLarge) {
			t.Errorf("%s: %v", wrong, err)
		}
	}
	if _, err := b.Put(name, iotest.ErrReader(os.ErrDeadlineExceeded)); err == nil {
		t.Error("a broken upload was taken")
	}
	if _, err := b.Resolve(function.SchemeBundle + name); !fault.Is(err, fault.CodeNotFound) {
		t.Errorf("after failed uploads: %v", err)
	}
	if left, err := os.ReadDir(b.Dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	for _, fresh := range []bool{true, false} {
		if got, err := b.Put(name, strings.NewReader(content)); err != nil || got != fresh {
			t.Errorf("stored: %v, %v", got, err)
		}
	}
	path, err := b.Resolve(function.SchemeBundle + name)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != content {
		t.Errorf("read %q, %v", raw, err)
	}
	if path, err := b.Resolve("/somewhere"); err != nil || path != "/somewhere" {
		t.Errorf("another source became %q, %v", path, err)
	}
	for _, bad := range []string{"", "sha256-", "sha256-../../etc", strings.ToUpper(name), name + "00", "md5-" + name[7:], name[:20]} {
		if _, err := b.Put(bad, strings.NewReader(content)); !fault.Is(err, fault.CodeInvalid) {
			t.Errorf("the name %q: %v", bad, err)
		}
	}
}
