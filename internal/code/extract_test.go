package code_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/code"
	"github.com/millrace/millrace/internal/fault"
)

func archive(t *testing.T, headers ...*tar.Header) string {
	t.Helper()
	var raw bytes.Buffer
	zipped := gzip.NewWriter(&raw)
	w := tar.NewWriter(zipped)
	for _, header := range headers {
		content := []byte("content")
		if header.Typeflag == tar.TypeReg {
			header.Size = int64(len(content))
		}
		header.Mode = 0o644
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if header.Typeflag == tar.TypeReg {
			if _, err := w.Write(content); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.Close()
	zipped.Close()
	path := filepath.Join(t.TempDir(), "code.tar.gz")
	if err := os.WriteFile(path, raw.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// pack writes an archive of files of zeros, size bytes in all, at path.
func pack(t *testing.T, path string, size int64) {
	t.Helper()
	var raw bytes.Buffer
	zipped := gzip.NewWriter(&raw)
	w := tar.NewWriter(zipped)
	zeros := make([]byte, 1<<20)
	for i := range size >> 20 {
		if err := w.WriteHeader(&tar.Header{Name: strconv.FormatInt(i, 10), Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(zeros))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), zipped.Close(), os.WriteFile(path, raw.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// sparse writes an archive of one file that is a single hole, in GNU's PAX format 0.1.
func sparse(t *testing.T, size int64) string {
	t.Helper()
	records := ""
	for _, record := range []string{"GNU.sparse.major=0", "GNU.sparse.minor=1", "GNU.sparse.name=holes", "GNU.sparse.size=" + strconv.FormatInt(size, 10), "GNU.sparse.numblocks=1", "GNU.sparse.map=" + strconv.FormatInt(size, 10) + ",0"} {
		n := len(record) + 3
		for len(strconv.Itoa(n))+len(record)+2 != n {
			n++
		}
		records += strconv.Itoa(n) + " " + record + "\n"
	}
	var raw bytes.Buffer
	zipped := gzip.NewWriter(&raw)
	block := func(name string, kind byte, content string) {
		header := make([]byte, 512)
		copy(header, name)
		copy(header[100:], "0000644\x000000000\x000000000\x00")
		copy(header[124:], fmt.Sprintf("%011o\x00%011o\x00        ", len(content), 0))
		header[156] = kind
		copy(header[257:], "ustar\x0000")
		sum := 0
		for _, b := range header {
			sum += int(b)
		}
		copy(header[148:], fmt.Sprintf("%06o\x00 ", sum))
		_, _ = zipped.Write(header)
		_, _ = zipped.Write(append([]byte(content), make([]byte, (512-len(content)%512)%512)...))
	}
	block("PaxHeaders/holes", tar.TypeXHeader, records)
	block("holes", tar.TypeReg, "")
	_, _ = zipped.Write(make([]byte, 1024))
	path := filepath.Join(t.TempDir(), "sparse.tar.gz")
	if err := errors.Join(zipped.Close(), os.WriteFile(path, raw.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExtract(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "out")
	path := archive(t, &tar.Header{Name: "pkg/mod.py", Typeflag: tar.TypeReg}, &tar.Header{Name: "link.py", Linkname: "pkg/mod.py", Typeflag: tar.TypeSymlink})
	if err := code.Extract(path, folder); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pkg/mod.py", "link.py"} {
		if raw, err := os.ReadFile(filepath.Join(folder, name)); err != nil || string(raw) != "content" {
			t.Errorf("%s: %q %v", name, raw, err)
		}
	}
}

func TestExtractRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		header *tar.Header
		say    string
	}{
		"parent":        {&tar.Header{Name: "../evil", Typeflag: tar.TypeReg}, "outside of itself"},
		"absolute":      {&tar.Header{Name: "/etc/evil", Typeflag: tar.TypeReg}, "outside of itself"},
		"absolute link": {&tar.Header{Name: "l", Linkname: "/etc/passwd", Typeflag: tar.TypeSymlink}, "leads outside"},
		"parent link":   {&tar.Header{Name: "a/l", Linkname: "../../x", Typeflag: tar.TypeSymlink}, "leads outside"},
		"device":        {&tar.Header{Name: "d", Typeflag: tar.TypeChar}, "neither file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := filepath.Join(t.TempDir(), "out")
			err := code.Extract(archive(t, c.header), folder)
			if !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), c.say) {
				t.Errorf("got %v, want %q", err, c.say)
			}
			if _, err := os.Stat(folder); err == nil {
				t.Error("something was left behind")
			}
		})
	}
	bomb := filepath.Join(t.TempDir(), "bomb.tar.gz")
	pack(t, bomb, 65<<20)
	folder := filepath.Join(t.TempDir(), "out")
	if err := code.Extract(bomb, folder); !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), "more than the 67108864 bytes") {
		t.Errorf("bomb: %v", err)
	}
	if _, err := os.Stat(folder); err == nil {
		t.Error("the bomb left something behind")
	}
	pack(t, bomb, 63<<20)
	if err := code.Extract(bomb, folder); err != nil {
		t.Errorf("large but within the limit: %v", err)
	}
	// A file of which the archive has holes alone counts with its whole size.
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if err := code.Extract(sparse(t, 1<<30), folder); !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), "more than the 67108864 bytes") {
		t.Errorf("sparse: %v", err)
	}
	if _, err := os.Stat(folder); err == nil {
		t.Error("the sparse file left something behind")
	}
	notTar := filepath.Join(t.TempDir(), "x.tar.gz")
	_ = os.WriteFile(notTar, []byte("hello"), 0o600)
	if err := code.Extract(notTar, t.TempDir()+"/out"); !fault.Is(err, fault.CodeInvalid) {
		t.Errorf("not an archive: %v", err)
	}
}
