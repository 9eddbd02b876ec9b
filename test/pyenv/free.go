package pyenv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Why no free-threaded Python is here and none can be built: no Debian mirror has its
// source, or what a build needs is not installed.
var (
	ErrNoSource = errors.New("no free-threaded Python, and no mirror that has its source")
	ErrNoTools  = errors.New("no free-threaded Python, and nothing to build it with")
)

// The source that is built where no free-threaded Python is found, as Debian has it.
const (
	freeVersion = "3.13.5"
	freeSource  = "/pool/main/p/python3.13/python3.13_3.13.5.orig.tar.xz"
	freeSum     = "93e583f243454e6e9e4588ca2c2662206ad961659863277afcdb96801647d640"
)

// FreeThreaded returns the path of a Python without a global interpreter lock: one
// that is installed, else one that is built from Debian's source (some minutes, once)
// and kept in the user's cache folder. Several processes may ask at once.
func FreeThreaded(ctx context.Context) (string, error) {
	for _, name := range []string{"python3.14t", "python3.13t"} {
		if path, err := exec.LookPath(name); err == nil && isFree(ctx, path) {
			return path, nil
		}
	}
	if home, err := os.UserHomeDir(); err == nil {
		found, _ := filepath.Glob(filepath.Join(home, ".pyenv", "versions", "3.*t", "bin", "python3")) // the pattern is right
		for _, path := range slices.Backward(found) {
			if isFree(ctx, path) {
				return path, nil
			}
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "millrace-test", "python-"+freeVersion+"t-"+freeSum[:8])
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	python, complete := filepath.Join(dir, "bin", "python3"), filepath.Join(dir, "complete")
	if _, err := os.Stat(complete); err == nil {
		return python, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := buildFree(ctx, dir); err != nil {
		return "", err
	}
	if !isFree(ctx, python) {
		return "", fmt.Errorf("%s was built and has a global interpreter lock", python)
	}
	return python, os.WriteFile(complete, nil, 0o644)
}

func isFree(ctx context.Context, python string) bool {
	out, err := exec.CommandContext(ctx, python, "-c", "import sys; print(sys._is_gil_enabled())").Output()
	return err == nil && strings.TrimSpace(string(out)) == "False"
}

func buildFree(ctx context.Context, prefix string) error {
	for _, tool := range []string{"gcc", "make", "tar", "xz"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w: there is no %s", ErrNoTools, tool)
		}
	}
	temp, err := os.MkdirTemp("", "python-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	archive := filepath.Join(temp, "source.tar.xz")
	if err := fetchFree(ctx, archive); err != nil {
		return err
	}
	source := filepath.Join(temp, "source")
	if err := os.Mkdir(source, 0o755); err != nil {
		return err
	}
	for _, step := range [][]string{
		{"tar", "-xf", archive, "--strip-components=1"},
		{"./configure", "--quiet", "--disable-gil", "--disable-test-modules", "--without-ensurepip", "--prefix=" + prefix},
		{"make", "--silent", "-j2"},
		{"make", "--silent", "install"},
	} {
		cmd := exec.CommandContext(ctx, step[0], step[1:]...)
		cmd.Dir = source
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(step, " "), err, out[max(0, len(out)-4000):])
		}
	}
	if err := exec.CommandContext(ctx, filepath.Join(prefix, "bin", "python3"), "-c", "import zlib, bz2, lzma, _ctypes").Run(); err != nil {
		return fmt.Errorf("%w: a module was left out; install zlib1g-dev, libbz2-dev, liblzma-dev and libffi-dev", ErrNoTools)
	}
	return nil
}

// fetchFree gets the source from the first mirror that apt uses and that has it.
func fetchFree(ctx context.Context, path string) error {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(SITE)").Output()
	if err != nil {
		return fmt.Errorf("%w: apt-get names no mirrors: %w", ErrNoSource, err)
	}
	sites := strings.Fields(string(out))
	slices.Sort(sites)
	var problems []error
	for _, site := range slices.Compact(sites) {
		err := fetch(ctx, site+freeSource, path)
		if err == nil {
			return nil
		}
		problems = append(problems, err)
	}
	return fmt.Errorf("%w: %w", ErrNoSource, errors.Join(problems...))
}

func fetch(ctx context.Context, url, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(file, sum), response.Body)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != freeSum {
		return fmt.Errorf("%s has the SHA-256 %s instead of %s", url, got, freeSum)
	}
	return nil
}
