package cli

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/render"
)

// meter shows how far a transfer is: a bar on a terminal, nothing elsewhere.
type meter struct {
	what  string
	live  *render.Live // nil without a terminal
	stop  chan struct{}
	ended sync.WaitGroup

	mu    sync.Mutex
	begun time.Time
	done  int64
	all   int64 // -1: not known
}

func (e *env) newMeter(what string) *meter {
	m := &meter{what: what, begun: time.Now(), all: -1, stop: make(chan struct{})}
	if _, is := e.terminal(e.Stderr); !is || e.Getenv("TERM") == "dumb" {
		return m
	}
	m.live = render.NewLive(e.Stderr, e.Stderr, func() int { width, _ := e.terminal(e.Stderr); return width })
	m.ended.Go(func() {
		ticker := time.NewTicker(frameEvery)
		defer ticker.Stop()
		for {
			select {
			case <-m.stop:
				return
			case <-ticker.C:
				m.live.Set(m.line(time.Now()))
			}
		}
	})
	return m
}

func (m *meter) add(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
}

func (m *meter) set(done, all int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done, m.all = done, all
}

func (m *meter) total(all int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = all
}

// line is the state as a person reads it.
func (m *meter) line(now time.Time) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	rate := int64(float64(m.done) / max(now.Sub(m.begun).Seconds(), 0.001))
	if m.all <= 0 {
		return fmt.Sprintf("%s  %s  %s/s", m.what, bytesText(m.done), bytesText(rate))
	}
	const cells = 24
	full := int(cells * min(m.done, m.all) / m.all)
	bar := strings.Repeat("█", full) + strings.Repeat("░", cells-full)
	return fmt.Sprintf("%s  %s  %s of %s  %s/s", m.what, bar, bytesText(m.done), bytesText(m.all), bytesText(rate))
}

// close takes the bar away. A second call does nothing.
func (m *meter) close() {
	if m.live == nil {
		return
	}
	close(m.stop)
	m.ended.Wait()
	_ = m.live.Close()
	m.live = nil
}

// bytesText is a number of bytes as people read it.
func bytesText(n int64) string {
	value, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for i, unit := range units {
		if value < 1024 || i == len(units)-1 {
			if i == 0 {
				return fmt.Sprintf("%d B", n)
			}
			return fmt.Sprintf("%.1f %s", value, unit)
		}
		value /= 1024
	}
	return ""
}
