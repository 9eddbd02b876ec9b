package env

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/lazyregexp"
)

// worker makes one environment while the request's lock is held.
type worker struct {
	manager *Manager
	request Request
	build   *build
	log     *os.File
	logPath string
	keyLock *os.File
	waiting func()
	pip     *pip // found when first needed
}

func (w *worker) run(ctx context.Context) (Environment, error) {
	interp := w.request.Interpreter
	fmt.Fprintf(w.log, "Python %s (%s)\n", interp.Version, interp.Executable)
	logLines(w.log, w.request.Requirements.Lines())
	lockPath := w.manager.lockPath(w.build.key)
	lock, err := readLock(lockPath)
	if err != nil {
		return Environment{}, err
	}
	fresh := lock == nil || w.request.Refresh
	if !fresh {
		fmt.Fprintf(w.log, "resolved on %s\n", lock.Resolved.Format(time.RFC3339))
		env, err := w.realise(ctx, *lock)
		if err == nil || ctx.Err() != nil {
			return env, err
		}
		// A file that the lock names may be gone from the index.
		fmt.Fprintf(w.log, "\nthe resolved packages cannot be installed any more, resolving again: %v\n", err)
	}
	packages, err := w.resolve(ctx)
	if err != nil {
		return Environment{}, err
	}
	var requested []string
	for _, line := range w.request.Requirements.Lines() {
		requested = append(requested, redact(line))
	}
	lock = &lockFile{Interpreter: interp.Identity(), Requested: requested, Resolved: time.Now().UTC(), Packages: packages}
	env, err := w.realise(ctx, *lock)
	if err != nil {
		return Environment{}, err
	}
	data, err := json.MarshalIndent(lock, "", "  ")
	if err != nil {
		return Environment{}, fmt.Errorf("write resolved requirements: %w", err)
	}
	return env, writeFile(lockPath, append(data, '\n'))
}

// findPip asks once.
func (w *worker) findPip(ctx context.Context) (pip, error) {
	if w.pip == nil {
		found, err := w.manager.finder.find(ctx, w.request.Interpreter, w.log)
		if err != nil {
			return pip{}, err
		}
		fmt.Fprintf(w.log, "pip %s (%s)\n", found.version, found.origin)
		w.pip = &found
	}
	return *w.pip, nil
}

// venv makes an empty virtual environment at folder.
func (w *worker) venv(ctx context.Context, folder string, files ...*os.File) error {
	interp := w.request.Interpreter
	cmd := exec.CommandContext(ctx, interp.Executable, "-I", "-m", "venv", "--without-pip", folder)
	cmd.ExtraFiles, cmd.Dir = files, "/"
	var out failure
	if err := runLines(ctx, cmd, w.log, out.add); err != nil {
		return out.explain("making the virtual environment", interp, err, w.logPath)
	}
	return nil
}

// resolver returns the Python of an empty environment that pip resolves in, so
// that nothing the machine has installed plays a part. It is made once for an
// interpreter and kept in the cache.
func (w *worker) resolver(ctx context.Context) (string, error) {
	folder := filepath.Join(w.manager.cache, "resolvers", digest([]string{w.request.Interpreter.Identity()}))
	if _, err := os.Stat(pythonIn(folder)); err == nil {
		return pythonIn(folder), nil
	}
	if err := os.MkdirAll(filepath.Dir(folder), 0o700); err != nil {
		return "", fmt.Errorf("make folder: %w", err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(folder), ".new-*")
	if err != nil {
		return "", fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := w.venv(ctx, tmp); err != nil {
		return "", err
	}
	// Only pip runs here and it is given its path, so the folder can be moved.
	if err := os.Rename(tmp, folder); err != nil {
		if _, there := os.Stat(pythonIn(folder)); there != nil {
			return "", fmt.Errorf("make resolver environment: %w", err)
		}
	}
	return pythonIn(folder), nil
}

var (
	collecting  = lazyregexp.New(`^Collecting (\S+)`)
	downloading = lazyregexp.New(`^(?:Downloading|Using cached) (\S+)`)
	installing  = lazyregexp.New(`^Installing collected packages: (.+)$`)
)

// resolve asks pip what it would install.
func (w *worker) resolve(ctx context.Context) ([]locked, error) {
	p, err := w.findPip(ctx)
	if err != nil {
		return nil, err
	}
	python, err := w.resolver(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "millrace-resolve-")
	if err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(dir)
	req := w.request.Requirements
	args := []string{"install", "--dry-run", "--ignore-installed", "--report", filepath.Join(dir, "report.json")}
	files := map[string][]string{"requirements.txt": req.Lines()}
	args = append(args, "--requirement", filepath.Join(dir, "requirements.txt"))
	if len(req.constraints) > 0 {
		for _, c := range req.constraints {
			files["constraints.txt"] = append(files["constraints.txt"], c.String())
		}
		args = append(args, "--constraint", filepath.Join(dir, "constraints.txt"))
	}
	if err := writeLists(dir, files); err != nil {
		return nil, err
	}
	fmt.Fprintf(w.log, "\nresolving\n")
	count := 0
	w.build.report(func(s *Progress) { s.Phase, s.Package, s.Done, s.Total = PhaseResolve, "", 0, 0 })
	var out failure
	err = p.run(ctx, python, []*os.File{w.keyLock}, w.log, func(line string) {
		out.add(named(line, req.Lines()))
		if m := collecting.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			count++
			w.build.report(func(s *Progress) { s.Package, s.Done = m[1], count })
		}
	}, args...)
	if err != nil {
		return nil, out.explain("resolving them", w.request.Interpreter, err, w.logPath)
	}
	data, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		return nil, fmt.Errorf("read pip's report: %w", err)
	}
	return parseReport(data)
}

func writeLists(dir string, files map[string][]string) error {
	for name, lines := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

// realise returns the environment of a lock, installing it when it is not
// complete.
func (w *worker) realise(ctx context.Context, lock lockFile) (Environment, error) {
	name := lock.digest()
	folder := w.manager.folder(name)
	if env, _, ok := openEnvironment(folder); ok {
		return env, touch(folder)
	}
	held, err := waitLock(ctx, envLockPath(w.manager.dir, name), w.waiting)
	if err != nil {
		return Environment{}, err
	}
	defer held.Close()
	if env, _, ok := openEnvironment(folder); ok { // built by who held the lock
		return env, touch(folder)
	}
	if err := removeTree(folder); err != nil {
		return Environment{}, fmt.Errorf("remove half-built environment: %w", err)
	}
	env, err := w.install(ctx, lock, folder, held)
	if err != nil {
		return Environment{}, errors.Join(err, removeTree(folder))
	}
	return env, nil
}

// install builds the environment at folder, which is absent and guarded by held.
func (w *worker) install(ctx context.Context, lock lockFile, folder string, held *os.File) (Environment, error) {
	p, err := w.findPip(ctx)
	if err != nil {
		return Environment{}, err
	}
	fmt.Fprintf(w.log, "\ninstalling %d packages\n", len(lock.Packages))
	w.build.report(func(s *Progress) {
		s.Phase, s.Package, s.Done, s.Total = PhaseDownload, "", 0, len(lock.Packages)
	})
	if err := w.venv(ctx, folder, held, w.keyLock); err != nil {
		return Environment{}, err
	}
	// pip checks either all hashes or none, and a repository has none.
	var hashed, other []string
	for _, l := range lock.Packages {
		switch {
		case l.URL != "":
			other = append(other, l.Name+" @ "+withCredentials(l.URL, w.request.Requirements.packages))
		case l.Hash == "":
			other = append(other, l.String())
		default:
			hashed = append(hashed, l.String())
		}
	}
	count := 0
	each := func(line string) {
		line = strings.TrimSpace(line)
		if m := collecting.FindStringSubmatch(line); m != nil {
			w.build.report(func(s *Progress) { s.Phase, s.Package, s.Done = PhaseDownload, packageName.FindString(m[1]), count })
			count++
		} else if m := downloading.FindStringSubmatch(line); m != nil {
			w.build.report(func(s *Progress) { s.Phase, s.Package = PhaseDownload, m[1] })
		} else if m := installing.FindStringSubmatch(line); m != nil {
			w.build.report(func(s *Progress) { s.Phase, s.Package, s.Done = PhaseInstall, "", s.Total-strings.Count(m[1], ",")-1 })
		}
	}
	for _, lines := range [][]string{hashed, other} {
		if err := w.installLines(ctx, p, folder, lines, held, each); err != nil {
			return Environment{}, err
		}
	}
	w.build.report(func(s *Progress) { s.Phase, s.Package, s.Done = PhaseInstall, "", s.Total })
	lines := lock.lines()
	m := marker{
		Interpreter: w.request.Interpreter, Lock: lines, LockDigest: lockDigest(lines),
		Built: time.Now().UTC(), Bytes: folderSize(folder),
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return Environment{}, fmt.Errorf("finish environment: %w", err)
	}
	if err := syncTree(folder); err != nil {
		return Environment{}, fmt.Errorf("finish environment: %w", err)
	}
	if err := writeFile(filepath.Join(folder, markerFile), append(data, '\n')); err != nil {
		return Environment{}, err
	}
	env, _, ok := openEnvironment(folder)
	if !ok {
		return Environment{}, fmt.Errorf("finish environment: %s is not complete", folder)
	}
	return env, nil
}

func (w *worker) installLines(ctx context.Context, p pip, folder string, lines []string, held *os.File, each func(string)) error {
	if len(lines) == 0 {
		return nil
	}
	dir, err := os.MkdirTemp("", "millrace-install-")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(dir)
	var list []string
	for _, option := range w.request.Requirements.options {
		if option != "--require-hashes" { // lines with hashes imply it, the others cannot have it
			list = append(list, option)
		}
	}
	if err := writeLists(dir, map[string][]string{"requirements.txt": append(list, lines...)}); err != nil {
		return err
	}
	var out failure
	err = p.run(ctx, pythonIn(folder), []*os.File{held, w.keyLock}, w.log, func(line string) {
		out.add(line)
		each(line)
	}, "install", "--no-deps", "--requirement", filepath.Join(dir, "requirements.txt"))
	if err != nil {
		return out.explain("installing them", w.request.Interpreter, err, w.logPath)
	}
	return nil
}
