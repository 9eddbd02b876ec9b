package env

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// locked is one package of a lock. Hash is "sha256:…" or empty; URL is set for a
// package that does not come from an index.
type locked struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Hash    string `json:"hash,omitempty"`
	URL     string `json:"url,omitempty"`
}

// String returns the line that installs exactly this package. Credentials are
// never part of it.
func (l locked) String() string {
	switch {
	case l.URL != "":
		return l.Name + " @ " + l.URL
	case l.Hash != "":
		return l.Name + "==" + l.Version + " --hash=" + l.Hash
	}
	return l.Name + "==" + l.Version
}

// lockFile is what locks/<key>.json holds.
type lockFile struct {
	Interpreter string    `json:"interpreter"` // its identity
	Requested   []string  `json:"requested"`   // the normalised lines, without credentials
	Resolved    time.Time `json:"resolved"`
	Packages    []locked  `json:"packages"`
}

func (l lockFile) lines() []string {
	lines := make([]string, len(l.Packages))
	for i, p := range l.Packages {
		lines[i] = p.String()
	}
	return lines
}

// digest names the environment that holds these packages for the interpreter.
func (l lockFile) digest() string {
	return digest(append([]string{"environment 1", l.Interpreter}, l.lines()...))
}

// lockDigest identifies the installed packages alone.
func lockDigest(lines []string) string {
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func digest(parts []string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:16])
}

// readLock returns nil without error when there is no lock at path; one that
// cannot be read as a lock counts as none, since it can be made again.
func readLock(path string) (*lockFile, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read resolved requirements: %w", err)
	}
	var l lockFile
	if err := json.Unmarshal(data, &l); err != nil || len(l.Packages) == 0 {
		return nil, nil
	}
	return &l, nil
}

// report is what pip install --report writes, of which version 1 is stable.
type report struct {
	Version string `json:"version"`
	Install []struct {
		IsDirect     bool `json:"is_direct"`
		DownloadInfo struct {
			URL         string `json:"url"`
			ArchiveInfo *struct {
				Hash   string            `json:"hash"`
				Hashes map[string]string `json:"hashes"`
			} `json:"archive_info"`
			VCSInfo *struct {
				VCS      string `json:"vcs"`
				CommitID string `json:"commit_id"`
			} `json:"vcs_info"`
			Subdirectory string `json:"subdirectory"`
		} `json:"download_info"`
		Metadata struct {
			Name    string `json:"name"`
			Version string `json:"version"`
		} `json:"metadata"`
	} `json:"install"`
}

// parseReport turns pip's report into the packages of a lock, sorted by name.
func parseReport(data []byte) ([]locked, error) {
	var r report
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("read pip's report: %w", err)
	}
	if r.Version != "1" {
		return nil, fmt.Errorf("read pip's report: its version is %q, not 1", r.Version)
	}
	var out []locked
	for _, item := range r.Install {
		info := item.DownloadInfo
		l := locked{Name: NormalizeName(item.Metadata.Name), Version: item.Metadata.Version}
		if l.Name == "" || l.Version == "" {
			return nil, errors.New("read pip's report: a package has no name or version")
		}
		if a := info.ArchiveInfo; a != nil {
			if sum := a.Hashes["sha256"]; sum != "" {
				l.Hash = "sha256:" + sum
			} else if sum, ok := strings.CutPrefix(a.Hash, "sha256="); ok {
				l.Hash = "sha256:" + sum
			}
		}
		if item.IsDirect {
			l.URL = redactURL(info.URL)
			var fragment []string
			if v := info.VCSInfo; v != nil {
				l.URL = v.VCS + "+" + l.URL + "@" + v.CommitID
			} else if l.Hash != "" {
				fragment = append(fragment, strings.Replace(l.Hash, ":", "=", 1))
			}
			if info.Subdirectory != "" {
				fragment = append(fragment, "subdirectory="+info.Subdirectory)
			}
			if len(fragment) > 0 {
				l.URL, _, _ = strings.Cut(l.URL, "#")
				l.URL += "#" + strings.Join(fragment, "&")
			}
		}
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b locked) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
