package env

import (
	"errors"
	"os/exec"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// failure collects what matters of a failed command's output, so that its cause
// can be told in one sentence.
type failure struct {
	lines []string // the last ones
}

// keptLines bounds what is remembered of the output.
const keptLines = 400

func (f *failure) add(line string) {
	if line = strings.TrimSpace(line); line == "" {
		return
	}
	if len(f.lines) == keptLines {
		f.lines = append(f.lines[:0], f.lines[keptLines/2:]...)
	}
	f.lines = append(f.lines, line)
}

// find returns the groups of the last line that matches.
func (f *failure) find(pattern *lazyregexp.Regexp) []string {
	for i := len(f.lines) - 1; i >= 0; i-- {
		if m := pattern.FindStringSubmatch(f.lines[i]); m != nil {
			return m
		}
	}
	return nil
}

// first returns the groups of the first line that matches.
func (f *failure) first(pattern *lazyregexp.Regexp) []string {
	for _, line := range f.lines {
		if m := pattern.FindStringSubmatch(line); m != nil {
			return m
		}
	}
	return nil
}

// sourceLine matches pip's way to name a line of the file it was given.
var sourceLine = lazyregexp.New(`-r \S+/requirements\.txt \(line (\d+)\)`)

// named puts the requirement itself where pip names a line of a temporary file.
func named(text string, lines []string) string {
	return sourceLine.ReplaceAllStringFunc(text, func(match string) string {
		n, err := strconv.Atoi(sourceLine.FindStringSubmatch(match)[1])
		if err != nil || n < 1 || n > len(lines) {
			return match
		}
		return lines[n-1]
	})
}

var (
	reBuildNeeds  = lazyregexp.New(`pip subprocess to install (?:build|backend) dependencies did not run successfully`)
	reDisk        = lazyregexp.New(`(?i)no space left on device|\[Errno 28\]|disk quota exceeded`)
	reMemory      = lazyregexp.New(`(?i)cannot allocate memory|MemoryError`)
	reCertificate = lazyregexp.New(`CERTIFICATE_VERIFY_FAILED|SSLError|certificate verify failed`)
	reNetwork     = lazyregexp.New(`NewConnectionError|NameResolutionError|Failed to establish a new connection|ConnectTimeoutError|ReadTimeoutError|ProxyError|Temporary failure in name resolution|RemoteDisconnected|Connection refused|Connection reset|ProtocolError`)
	reDenied      = lazyregexp.New(`\b(401|403) (?:Client )?Error\b.*?(?:url: (\S+))?|(401|403) (?:Unauthorized|Forbidden)`)
	reNoVersion   = lazyregexp.New(`Could not find a version that satisfies the requirement (.+?) \(from (?:.*?)versions: (.*)\)$`)
	reNoMatch     = lazyregexp.New(`No matching distribution found for (.+)$`)
	rePython      = lazyregexp.New(`Package '?([^' ]+)'? requires a different Python: (\S+) not in '?([^']+)'?`)
	reIgnored     = lazyregexp.New(`Ignored the following versions that require a different python version: (.*)$`)
	reConflict    = lazyregexp.New(`Cannot install (.+?) because these package versions have conflicting dependencies`)
	reHash        = lazyregexp.New(`DO NOT MATCH THE HASHES`)
	reNeedHash    = lazyregexp.New(`In --require-hashes mode`)
	reCompiler    = lazyregexp.New(`(?i)unable to execute '?([\w./+-]*(?:gcc|cc|c\+\+|g\+\+|clang))'?|command '([\w./+-]*(?:gcc|cc|c\+\+|g\+\+|clang)[\w+-]*)' failed: No such file|error: Microsoft Visual C|unknown compiler\(s\)|No CMAKE_C(?:XX)?_COMPILER|linker .cc. not found`)
	reHeader      = lazyregexp.New(`fatal error: (\S+): No such file or directory`)
	reRust        = lazyregexp.New(`(?i)can't find rust compiler|requires rust|cargo.*not (?:found|installed)`)
	reWheel       = lazyregexp.New(`(?:Failed building wheel for|Could not build wheels for|Failed to build) (\S+)`)
	reMetadata    = lazyregexp.New(`error: metadata-generation-failed|× .+ did not run successfully`)
	reCollecting  = lazyregexp.New(`^Collecting (\S+)`)
	reGit         = lazyregexp.New(`Cannot find command '(\w+)'`)
	reVCS         = lazyregexp.New(`(?:fatal: |ERROR: )(.*(?:repository|revision|remote|pathspec).*)$`)
	reInvalid     = lazyregexp.New(`ERROR: (Invalid requirement: .*)$`)
	reNotFound    = lazyregexp.New(`ERROR: HTTP error 404 while getting (\S+)|404 Client Error: .* for url: (\S+)`)
	reNoVenv      = lazyregexp.New(`No module named '?(venv|encodings)'?`)
	reError       = lazyregexp.New(`^ERROR: (.+)$`)
)

// explain returns the sentence for a failed step. The cause err stays in the
// chain; logPath is where the whole output is.
func (f *failure) explain(step string, interp Interpreter, err error, logPath string) error {
	python := "Python " + interp.Version.String()
	see := "; the whole output is in " + logPath
	if _, ok := errors.AsType[*exec.ExitError](err); !ok {
		return err // not the command's own failure: it did not start, or was cancelled
	}
	switch {
	case f.find(reDisk) != nil:
		return fault.Unavailable("requirements: the disk is full: free some space and run again%s", see)
	case f.find(reMemory) != nil:
		return fault.Unavailable("requirements: the machine has no memory left to build them: free some and run again%s", see)
	case f.find(reNoVenv) != nil:
		return fault.Precondition("%s (%s) has no module %s: install it (on Debian and Ubuntu: python3-venv) or choose another interpreter with --python",
			interp.Executable, python, f.find(reNoVenv)[1])
	}
	if err := f.explainBuild(python, see); err != nil {
		return err
	}
	if err := f.explainIndex(python, see); err != nil {
		return err
	}
	if err := f.explainChoice(python, see); err != nil {
		return err
	}
	if m := f.find(reError); m != nil {
		return fault.Invalid("requirements: %s failed: %s%s", step, m[1], see)
	}
	last := "it printed nothing"
	if n := len(f.lines); n > 0 {
		last = f.lines[n-1]
	}
	return fault.Invalid("requirements: %s failed (%w): %s%s", step, err, last, see)
}

// explainBuild: a package had to be built from source and could not be.
func (f *failure) explainBuild(python, see string) error {
	name := "a package"
	if m := f.find(reWheel); m != nil {
		name = strings.Trim(m[1], ",'\"")
	} else if m := f.find(reCollecting); m != nil && f.find(reMetadata) != nil {
		name = m[1]
	}
	switch {
	case f.find(reGit) != nil:
		return fault.Precondition("requirements: the command %s is not installed, and a requirement comes from such a repository: install it%s", f.find(reGit)[1], see)
	case f.find(reRust) != nil:
		return fault.Precondition("requirements: %s has no ready-made wheel for %s and needs a Rust compiler to be built: ask for a version that has one, or install Rust%s", name, python, see)
	case f.find(reCompiler) != nil:
		return fault.Precondition("requirements: %s has no ready-made wheel for %s and needs a C compiler to be built: ask for a version that has one, or install gcc and the Python headers%s", name, python, see)
	case f.find(reHeader) != nil:
		return fault.Precondition("requirements: %s cannot be built because the header %s is missing: install the development package that has it, or ask for a version with a ready-made wheel%s", name, f.find(reHeader)[1], see)
	case f.find(reBuildNeeds) != nil && f.find(reNoMatch) != nil:
		return fault.Invalid("requirements: %s has no ready-made wheel for %s, and what its own build needs (%s) is not in the package index: ask for another version of it%s",
			f.beforeBuild(), python, f.find(reNoMatch)[1], see)
	case f.find(reWheel) != nil || f.find(reMetadata) != nil && f.first(reVCS) == nil:
		return fault.Invalid("requirements: %s has no ready-made wheel for %s and its own build failed: ask for another version of it or another Python%s", name, python, see)
	}
	return nil
}

// beforeBuild returns the package whose build was being prepared.
func (f *failure) beforeBuild() string {
	name := "a package"
	for _, line := range f.lines {
		if reBuildNeeds.MatchString(line) {
			break
		}
		if m := reCollecting.FindStringSubmatch(line); m != nil {
			name = m[1]
		}
	}
	return name
}

// explainIndex: the package index could not be used.
func (f *failure) explainIndex(python, see string) error {
	found := f.find(reNoVersion)
	nothing := found == nil || found[2] == "none"
	switch {
	case nothing && f.find(reCertificate) != nil:
		return fault.Unavailable("requirements: the certificate of the package index is not trusted: set PIP_CERT to the file of its authority%s", see)
	case nothing && f.find(reNetwork) != nil:
		return fault.Unavailable("requirements: the package index cannot be reached: check the network, the proxy settings and PIP_INDEX_URL%s", see)
	case nothing && f.find(reDenied) != nil:
		return fault.Precondition("requirements: the package index refuses access: check the credentials in PIP_INDEX_URL or pip.conf%s", see)
	case f.find(reNotFound) != nil:
		m := f.find(reNotFound)
		return fault.Invalid("requirements: there is nothing at %s: correct the URL%s", m[1]+m[2], see)
	}
	return nil
}

// explainChoice: no set of packages satisfies the lines.
func (f *failure) explainChoice(python, see string) error {
	if m := f.find(reConflict); m != nil {
		return fault.Invalid("requirements: %s cannot be installed together: loosen the versions of one of them%s%s", m[1], f.conflictDetail(), see)
	}
	if m := f.find(rePython); m != nil {
		return fault.Invalid("requirements: %s needs Python %s, but the function runs on %s: ask for another version of it or another Python", m[1], m[3], m[2])
	}
	if m := f.find(reNoVersion); m != nil {
		name := packageName.FindString(m[1])
		if m[2] == "none" {
			if f.find(reIgnored) != nil {
				return fault.Invalid("requirements: no version of %s fits %s: ask for another Python", name, python)
			}
			return fault.Invalid("requirements: the package index has no package %s for %s: check the spelling", name, python)
		}
		versions := strings.Split(m[2], ", ")
		if len(versions) > 5 {
			versions = versions[len(versions)-5:]
		}
		also := ""
		if f.find(reIgnored) != nil {
			also = " (others need another Python)"
		}
		return fault.Invalid("requirements: no version of %s satisfies %s on %s%s: the newest there are %s", name, m[1], python, also, strings.Join(versions, ", "))
	}
	switch {
	case f.find(reHash) != nil:
		return fault.Invalid("requirements: a downloaded file does not have the expected hash: correct the hash, or do not trust the index%s", see)
	case f.find(reNeedHash) != nil:
		return fault.Invalid("requirements: when one line has a --hash, every package (dependencies too) needs one and a pinned version%s", see)
	case f.find(reInvalid) != nil:
		return fault.Invalid("requirements: %s", f.find(reInvalid)[1])
	case f.first(reVCS) != nil:
		return fault.Invalid("requirements: %s: correct the repository or revision%s", f.first(reVCS)[1], see)
	case f.find(reNoMatch) != nil:
		return fault.Invalid("requirements: nothing in the package index satisfies %s on %s", f.find(reNoMatch)[1], python)
	}
	return nil
}

// conflictDetail quotes pip's list of what depends on what.
func (f *failure) conflictDetail() string {
	for i, line := range f.lines {
		if !strings.HasPrefix(line, "The conflict is caused by") {
			continue
		}
		var facts []string
		for _, fact := range f.lines[i+1:] {
			if !strings.Contains(fact, "depends on") && !strings.Contains(fact, "requested") {
				break
			}
			facts = append(facts, fact)
			if len(facts) == 4 {
				break
			}
		}
		if len(facts) > 0 {
			return " (" + strings.Join(facts, ", ") + ")"
		}
	}
	return ""
}
