package logs

import (
	"path/filepath"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/secret"
	"github.com/millrace/millrace/internal/spool"
)

// Masker masks what an execution, whose log is at path, may have written of its
// secrets; nil when it has none, or they are masked in the file already.
func (l *Logs) Masker(path string) *secret.Masker {
	folder := filepath.Dir(path)
	if filepath.Dir(folder) != filepath.Clean(l.spools) {
		return nil
	}
	return secret.NewMasker((spool.Dir{Path: folder}).Values())
}

// ended reports whether the execution whose log is at path said that it has ended.
func ended(path string) bool {
	return (spool.Dir{Path: filepath.Dir(path)}).Noted("clean") != ""
}

// MaskerOfRun masks the values of the secrets that the living execution of a run
// was given; nil when there is none. What the code itself sends to the server may
// hold them.
func (l *Logs) MaskerOfRun(uid string) *secret.Masker {
	uid, _, _ = strings.Cut(uid, "/")
	var values []string
	for attempt := 1; filepath.IsLocal(uid) && uid != ""; attempt++ {
		dir := spool.Of(l.spools, uid+"-"+strconv.Itoa(attempt))
		if !dir.Exists() {
			break
		}
		values = append(values, dir.Values()...)
	}
	return secret.NewMasker(values)
}
