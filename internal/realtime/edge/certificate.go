package edge

import (
	"crypto/tls"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/realtime"
)

// certificate is a pair of files that is read again when they change.
type certificate struct {
	files  realtime.TLS
	config *tls.Config
	logger *slog.Logger

	mu     sync.Mutex
	pair   *tls.Certificate
	stamps [2]stamp
	looked time.Time
	broken bool // the files on disk are no pair; the earlier one serves on
}

// stamp tells versions of a file apart.
type stamp struct {
	modified time.Time
	size     int64
}

// lookAgain is how often, with new connections, the files are looked at.
const lookAgain = time.Second

// loadCertificate reads the pair; fault.CodePrecondition if it cannot be.
func loadCertificate(files realtime.TLS, logger *slog.Logger) (*certificate, error) {
	c := &certificate{files: files, logger: logger}
	stamps, err := c.stat()
	if err != nil {
		return nil, fault.Precondition("the certificate cannot be read: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(files.Certificate, files.Key)
	if err != nil {
		return nil, fault.Precondition("the certificate %s and the key %s are no pair: %w", files.Certificate, files.Key, err)
	}
	c.pair, c.stamps, c.looked = &pair, stamps, time.Now()
	c.config = &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get(), nil },
	}
	return c, nil
}

func (c *certificate) stat() (out [2]stamp, err error) {
	for i, path := range []string{c.files.Certificate, c.files.Key} {
		info, err := os.Stat(path)
		if err != nil {
			return out, err
		}
		out[i] = stamp{info.ModTime(), info.Size()}
	}
	return out, nil
}

// get returns the pair as it is on disk. Files that are being replaced, or are
// broken, are passed over until they fit.
func (c *certificate) get() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.looked) < lookAgain {
		return c.pair
	}
	c.looked = now
	stamps, err := c.stat()
	if err == nil && stamps == c.stamps {
		return c.pair
	}
	var pair tls.Certificate
	if err == nil {
		pair, err = tls.LoadX509KeyPair(c.files.Certificate, c.files.Key)
	}
	if err != nil {
		if !c.broken {
			c.logger.Warn("a changed certificate cannot be used; the earlier one serves on", "certificate", c.files.Certificate, "error", err)
		}
		c.broken = true
		return c.pair
	}
	c.pair, c.stamps, c.broken = &pair, stamps, false
	c.logger.Info("certificate read again", "certificate", c.files.Certificate)
	return c.pair
}
