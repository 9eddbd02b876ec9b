package local

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/deployment"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/limits"
	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/realtime/activator"
)

// Processors are the processes of deployed functions on this machine, each detached
// from the server, which it outlives. The zero value is not usable; see NewProcessors.
type Processors struct {
	dataDir    string
	executable string
	logger     *slog.Logger

	mu      sync.Mutex
	running map[deployment.Key]chan struct{} // closed when the processor that we started is gone
	said    map[deployment.Key]int64         // time of the last line of the deployment's log
}

// NewProcessors returns the processors of the functions below dataDir. executable
// is the millrace binary.
func NewProcessors(dataDir, executable string, logger *slog.Logger) *Processors {
	return &Processors{
		dataDir: dataDir, executable: executable, logger: logger,
		running: map[deployment.Key]chan struct{}{}, said: map[deployment.Key]int64{},
	}
}

// Dir is the folder of a deployment.
func (p *Processors) Dir(key deployment.Key) realtime.Dir {
	return realtime.DirOf(p.dataDir, key.Project, key.Name)
}

func (p *Processors) client(key deployment.Key) *realtime.Client {
	return realtime.NewClient(p.Dir(key))
}

// Placed implements deployment.Host.
func (p *Processors) Placed(key deployment.Key, number int) bool {
	_, err := os.Stat(filepath.Join(p.Dir(key).RevisionDir(number), "revision.json"))
	return err == nil
}

// Place implements deployment.Host.
func (p *Processors) Place(key deployment.Key, revision realtime.Revision, files map[string][]byte) error {
	return p.Dir(key).WriteRevision(revision, files)
}

// Discard implements deployment.Host.
func (p *Processors) Discard(key deployment.Key, keep []int) error {
	entries, err := os.ReadDir(filepath.Dir(p.Dir(key).RevisionDir(0)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		number, err := strconv.Atoi(entry.Name())
		if err != nil || slices.Contains(keep, number) {
			continue
		}
		if err := p.Dir(key).RemoveRevision(number); err != nil {
			return err
		}
	}
	return nil
}

// Alive implements deployment.Host.
func (p *Processors) Alive(key deployment.Key) bool {
	p.mu.Lock()
	gone := p.running[key]
	p.mu.Unlock()
	if gone == nil {
		return p.Dir(key).Alive()
	}
	select {
	case <-gone:
		return p.Dir(key).Alive()
	default:
		return true // it may not have taken its lock yet
	}
}

// Start implements deployment.Host.
func (p *Processors) Start(key deployment.Key, desired realtime.Desired) error {
	if p.Alive(key) {
		return nil
	}
	dir := p.Dir(key)
	if err := dir.WriteDesired(desired); err != nil {
		return err
	}
	output, err := os.OpenFile(p.output(key), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open processor log: %w", err)
	}
	defer output.Close()
	cmd := exec.Command(p.executable, "processor", dir.Path)
	cmd.Dir = dir.Path
	cmd.Stdout, cmd.Stderr = output, output
	cmd.Env = append(Environment(os.Environ()), DeploymentVariable+"="+p.tag(key))
	if p.logger.Enabled(context.Background(), slog.LevelDebug) {
		cmd.Env = append(cmd.Env, DebugVariable+"=1")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start processor: %w", err)
	}
	gone := make(chan struct{})
	p.mu.Lock()
	p.running[key] = gone
	p.mu.Unlock()
	// This goroutine ends with the processor, which is meant to outlive this process:
	// nobody waits for it.
	go func() {
		err := cmd.Wait()
		p.logger.Debug("processor ended", "function", key.String(), "result", fmt.Sprint(err))
		close(gone)
	}()
	return nil
}

// output is where a processor speaks of itself.
func (p *Processors) output(key deployment.Key) string {
	return filepath.Join(p.Dir(key).Path, realtime.ProcessorLog)
}

// LastWords implements deployment.Host.
func (p *Processors) LastWords(key deployment.Key) string {
	file, err := os.Open(p.output(key))
	if err != nil {
		return ""
	}
	defer file.Close()
	if size, err := file.Seek(0, io.SeekEnd); err == nil {
		_, _ = file.Seek(max(size-4096, 0), io.SeekStart) // else it is read from the beginning
	}
	raw, err := io.ReadAll(file)
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if err != nil {
		return ""
	}
	return lines[len(lines)-1]
}

// DeploymentVariable marks the processes of a processor, so that what a killed one
// left behind can be found.
const DeploymentVariable = "MILLRACE_DEPLOYMENT"

// tag is the value of DeploymentVariable: the function, and which data directory's,
// since those of other directories on this machine may have the same name.
func (p *Processors) tag(key deployment.Key) string {
	folder := p.dataDir
	if real, err := filepath.EvalSymlinks(folder); err == nil {
		folder = real
	}
	sum := sha256.Sum256([]byte(folder))
	return key.String() + "@" + hex.EncodeToString(sum[:8])
}

// DebugVariable is the variable which, when it is set, has a processor log what is of
// interest only when something is looked for.
const DebugVariable = "MILLRACE_PROCESSOR_DEBUG"

// Untagged is the environment without what marks the processes of one function.
func Untagged(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(entry string) bool { return strings.HasPrefix(entry, DeploymentVariable+"=") })
}

// Desire implements deployment.Host.
func (p *Processors) Desire(ctx context.Context, key deployment.Key, desired realtime.Desired) error {
	if err := p.Dir(key).WriteDesired(desired); err != nil {
		return err
	}
	_, err := p.client(key).Apply(ctx, desired)
	return err
}

// Status implements deployment.Host.
func (p *Processors) Status(ctx context.Context, key deployment.Key) (realtime.Status, error) {
	// The activator would tell the same, as soon as it serves.
	if dir := p.Dir(key); dir.Parked() {
		if status, err := dir.Status(); err == nil && status.Parked {
			return status, nil
		}
	}
	return p.client(key).Status(ctx)
}

// Metrics implements deployment.Host.
func (p *Processors) Metrics(ctx context.Context, key deployment.Key) ([]byte, error) {
	return p.client(key).Metrics(ctx)
}

// Dial connects to the socket on which a function takes events.
func (p *Processors) Dial(ctx context.Context, key deployment.Key) (net.Conn, error) {
	return p.Dir(key).DialHTTP(ctx)
}

// Stop implements deployment.Host.
func (p *Processors) Stop(ctx context.Context, key deployment.Key) error {
	if p.Alive(key) {
		// One that is just starting answers in a moment; one that never does is killed.
		for p.client(key).Drain(ctx) != nil && p.Alive(key) && pause(ctx, 50*time.Millisecond) {
			continue
		}
		for p.Alive(key) && pause(ctx, 20*time.Millisecond) {
			continue
		}
	}
	if pid := p.Dir(key).PID(); pid > 1 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		p.logger.Warn("killed a processor that did not end", "function", key.String())
	}
	// One that is parked has no process, and ends in a moment, unless the activator hangs.
	// The functions that it holds beside this one are started again by their keepers.
	if pid := activator.PID(p.dataDir); p.Dir(key).Parked() && pid > 1 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		p.logger.Warn("killed the activator, which did not let go of a function", "function", key.String())
	}
	p.mu.Lock()
	delete(p.running, key)
	p.mu.Unlock()
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_, err := limits.KillTagged(clean, DeploymentVariable, p.tag(key))
	return err
}

// pause waits; false when ctx is over.
func pause(ctx context.Context, wait time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(wait):
		return true
	}
}

// Kept implements deployment.Host.
func (p *Processors) Kept() ([]deployment.Key, error) {
	base := realtime.DirOf(p.dataDir, "", "").Path
	projects, err := os.ReadDir(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var keys []deployment.Key
	for _, project := range projects {
		if !project.IsDir() {
			continue
		}
		functions, failed := os.ReadDir(filepath.Join(base, project.Name()))
		if failed != nil && !errors.Is(failed, fs.ErrNotExist) {
			err = errors.Join(err, failed)
		}
		for _, one := range functions {
			if one.IsDir() {
				keys = append(keys, deployment.Key{Project: project.Name(), Name: one.Name()})
			}
		}
	}
	return keys, err
}

// Remove implements deployment.Host.
func (p *Processors) Remove(key deployment.Key) error {
	p.mu.Lock()
	delete(p.said, key)
	p.mu.Unlock()
	if err := os.RemoveAll(p.Dir(key).Path); err != nil {
		return err
	}
	_ = os.Remove(filepath.Dir(p.Dir(key).Path)) // the project's, if it was the last
	return nil
}

// sayings is the file with the deployment's own log: a time in milliseconds and a
// text on each line.
func (p *Processors) sayings(key deployment.Key) string {
	return filepath.Join(p.Dir(key).Path, "deploy.log")
}

// Say implements deployment.Host. A line that cannot be written is lost, nothing else.
func (p *Processors) Say(key deployment.Key, line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.Dir(key).Create() != nil {
		return
	}
	file, err := os.OpenFile(p.sayings(key), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	defer file.Close()
	now := max(time.Now().UnixMilli(), p.said[key]+1) // no two lines have the same time
	p.said[key] = now
	fmt.Fprintf(file, "%d %s\n", now, strings.ReplaceAll(line, "\n", " "))
}

// Said implements deployment.Host.
func (p *Processors) Said(key deployment.Key, after int64) (text string, last int64) {
	last = after
	file, err := os.Open(p.sayings(key))
	if err != nil {
		return "", last
	}
	defer file.Close()
	var b strings.Builder
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		stamp, line, _ := strings.Cut(lines.Text(), " ")
		at, err := strconv.ParseInt(stamp, 10, 64)
		if err != nil || at <= after {
			continue
		}
		last = at
		fmt.Fprintf(&b, "%s  %s\n", time.UnixMilli(at).UTC().Format(time.DateTime), line)
	}
	return b.String(), last
}

// Ports of functions and API gateways: below the range from which the kernel takes
// the ports of outgoing connections.
const firstPort, lastPort = 30000, 32767

// FreePort implements deployment.Host. Where it begins to look depends on the data
// directory: servers that look at the same time would else find the same port.
func (p *Processors) FreePort(taken map[int]bool) (int, error) {
	const ports = lastPort - firstPort + 1
	at := fnv.New32a()
	_, _ = at.Write([]byte(p.dataDir)) // it never fails
	for i := range uint32(ports) {
		port := firstPort + int((at.Sum32()%ports+i)%ports)
		if taken[port] {
			continue
		}
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		return port, listener.Close()
	}
	return 0, fault.Unavailable("no port between %d and %d is free for a function", firstPort, lastPort)
}

// Log opens the log of a function's workers; the caller closes it. fs.ErrNotExist
// while there is none.
func (p *Processors) Log(key deployment.Key) (io.ReadSeekCloser, error) {
	return os.Open(p.Dir(key).Log())
}

// Close lets go of the processors, which go on.
func (p *Processors) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.running)
}
