package env

import (
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/lazyregexp"
)

// requirement is one line that asks for a package.
type requirement struct {
	name   string // normalised; "" for a bare URL or file
	extras []string
	spec   string // version specifiers, sorted, no blanks; "" with a url
	url    string // direct reference
	marker string
	hashes []string // --hash=… of the line
}

var (
	packageName  = lazyregexp.New(`^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?`)
	separators   = lazyregexp.New(`[-_.]+`)
	specifier    = lazyregexp.New(`^(~=|==|!=|<=|>=|<|>|===)\s*([A-Za-z0-9.*+!_-]+)$`)
	hashOption   = lazyregexp.New(`^--hash[= ]\s*(sha256|sha384|sha512):([0-9a-fA-F]+)$`)
	urlScheme    = lazyregexp.New(`^(https?|file|git\+https?|git\+ssh|git\+file|git\+git|hg\+https?|svn\+https?|bzr\+https?)://\S+$`)
	versionChars = lazyregexp.New(`^v?[0-9]`)
)

// NormalizeName returns the form of a package's name that all its spellings
// share: lower case, with runs of '-', '_' and '.' as one '-'.
func NormalizeName(name string) string {
	return strings.ToLower(separators.ReplaceAllString(name, "-"))
}

// parseRequirement reads one logical line (no comment, no continuation). Its
// error is a phrase that completes "line N …: ".
func parseRequirement(line string) (requirement, error) {
	text, hashes, err := cutHashes(line)
	if err != nil {
		return requirement{}, err
	}
	r := requirement{hashes: hashes}
	if isPathOrURL(text) {
		body, marker, err := cutURLMarker(text)
		if err != nil {
			return requirement{}, err
		}
		r.url, r.marker = body, marker
		return r, nil
	}
	name := packageName.FindString(text)
	if name == "" {
		return requirement{}, fmt.Errorf("a package name has to come first")
	}
	r.name = NormalizeName(name)
	rest := strings.TrimSpace(text[len(name):])
	if strings.HasPrefix(rest, "[") {
		inside, after, ok := strings.Cut(rest[1:], "]")
		if !ok {
			return requirement{}, fmt.Errorf("the [ of the extras is not closed")
		}
		for extra := range strings.SplitSeq(inside, ",") {
			extra = strings.TrimSpace(extra)
			if extra == "" && strings.TrimSpace(inside) == "" {
				break
			}
			if packageName.FindString(extra) != extra || extra == "" {
				return requirement{}, fmt.Errorf("%q is no name of an extra", extra)
			}
			r.extras = append(r.extras, NormalizeName(extra))
		}
		slices.Sort(r.extras)
		r.extras = slices.Compact(r.extras)
		rest = strings.TrimSpace(after)
	}
	if after, ok := strings.CutPrefix(rest, "@"); ok {
		body, marker, err := cutURLMarker(strings.TrimSpace(after))
		if err != nil {
			return requirement{}, err
		}
		if !urlScheme.MatchString(body) {
			return requirement{}, fmt.Errorf("%q after @ is no URL that can be installed", body)
		}
		r.url, r.marker = body, marker
		return r, nil
	}
	specs, marker, hasMarker := strings.Cut(rest, ";")
	if hasMarker {
		if r.marker, err = parseMarker(marker); err != nil {
			return requirement{}, err
		}
	}
	r.spec, err = parseSpecifiers(strings.TrimSpace(specs))
	return r, err
}

func parseSpecifiers(text string) (string, error) {
	if inside, ok := strings.CutPrefix(text, "("); ok {
		if text, ok = strings.CutSuffix(inside, ")"); !ok {
			return "", fmt.Errorf("the ( of the versions is not closed")
		}
		text = strings.TrimSpace(text)
	}
	if text == "" {
		return "", nil
	}
	var specs []string
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		m := specifier.FindStringSubmatch(part)
		switch {
		case m == nil && strings.HasPrefix(part, "=") && !strings.HasPrefix(part, "=="):
			return "", fmt.Errorf("%q has to be written with == (such as ==1.2)", part)
		case m == nil && part == "":
			return "", fmt.Errorf("there is a comma with nothing after it")
		case m == nil:
			return "", fmt.Errorf("%q is no version condition (such as ==1.2 or >=1.0,<2)", part)
		case m[1] != "===" && !versionChars.MatchString(m[2]):
			return "", fmt.Errorf("%q is no version", m[2])
		}
		specs = append(specs, m[1]+m[2])
	}
	slices.Sort(specs)
	return strings.Join(slices.Compact(specs), ","), nil
}

// cutHashes takes the --hash options off the end of a line and refuses any
// other option there.
func cutHashes(line string) (string, []string, error) {
	i := strings.Index(line, " --")
	if i < 0 {
		return strings.TrimSpace(line), nil, nil
	}
	var hashes []string
	fields := strings.Fields(line[i:])
	for j := 0; j < len(fields); j++ {
		option := fields[j]
		if option == "--hash" && j+1 < len(fields) {
			j++
			option += "=" + fields[j]
		}
		if m := hashOption.FindStringSubmatch(option); m != nil {
			hashes = append(hashes, m[1]+":"+strings.ToLower(m[2]))
			continue
		}
		return "", nil, fmt.Errorf("the option %s is not accepted after a package (only --hash=sha256:… is)", option)
	}
	slices.Sort(hashes)
	return strings.TrimSpace(line[:i]), slices.Compact(hashes), nil
}

// isPathOrURL tells a file or URL from a package name as pip does.
func isPathOrURL(text string) bool {
	head, _, _ := strings.Cut(text, " ")
	if urlScheme.MatchString(head) {
		return true
	}
	head, _, _ = strings.Cut(head, ";")
	return strings.HasPrefix(head, ".") || strings.HasPrefix(head, "/") || strings.HasPrefix(head, "~") ||
		!strings.Contains(head, "@") && (strings.Contains(head, "/") || isArchive(head))
}

func isArchive(name string) bool {
	for _, suffix := range []string{".whl", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// cutURLMarker separates a URL from a marker, which needs a blank before its
// semicolon because a URL may contain one.
func cutURLMarker(text string) (body, marker string, err error) {
	body, marker = text, ""
	if i := strings.Index(text, " ;"); i >= 0 {
		body = strings.TrimSpace(text[:i])
		if marker, err = parseMarker(text[i+2:]); err != nil {
			return "", "", err
		}
	}
	if body == "" || strings.ContainsAny(body, " \t") {
		return "", "", fmt.Errorf("%q is no URL: it contains a blank", body)
	}
	return body, marker, nil
}

// String returns the normalised line that pip reads.
func (r requirement) String() string {
	var b strings.Builder
	b.WriteString(r.name)
	if len(r.extras) > 0 {
		b.WriteString("[" + strings.Join(r.extras, ",") + "]")
	}
	if r.url != "" {
		if r.name != "" {
			b.WriteString(" @ ")
		}
		b.WriteString(r.url)
	}
	b.WriteString(r.spec)
	if r.marker != "" {
		b.WriteString(" ; " + r.marker)
	}
	for _, h := range r.hashes {
		b.WriteString(" --hash=" + h)
	}
	return b.String()
}
