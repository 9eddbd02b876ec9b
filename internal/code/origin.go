package code

import (
	"bufio"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/internal/lazyregexp"
)

// origin says where a file comes from: "<remote>#<commit>:<file>" when it lies in a
// git work tree that has a remote and a commit, else the file as given. User and
// password in the remote's URL are left out. Changes that are not committed do not
// show.
func origin(ref string) string { return originFrom(filepath.Dir(ref), ref) }

// originFrom is origin with the folder where the search for a work tree begins.
func originFrom(folder, ref string) string {
	plain := filepath.ToSlash(ref)
	folder, err := filepath.Abs(folder)
	if err != nil {
		return plain
	}
	for ; ; folder = filepath.Dir(folder) {
		if remote, commit := gitFacts(filepath.Join(folder, ".git")); remote != "" && commit != "" {
			return remote + "#" + commit + ":" + plain
		}
		if folder == filepath.Dir(folder) {
			return plain
		}
	}
}

var commitPattern = lazyregexp.New(`\A[0-9a-f]{40}([0-9a-f]{24})?\z`)

// gitFacts reads the first remote's URL and the commit of HEAD from a repository's
// folder, or through the file that stands for it in a linked work tree.
func gitFacts(git string) (remote, commit string) {
	common := git
	if info, err := os.Stat(git); err != nil {
		return "", ""
	} else if !info.IsDir() {
		link, ok := strings.CutPrefix(readLine(git), "gitdir: ")
		if !ok {
			return "", ""
		}
		if !filepath.IsAbs(link) {
			link = filepath.Join(filepath.Dir(git), link)
		}
		git, common = link, link
		if shared := readLine(filepath.Join(git, "commondir")); shared != "" {
			common = shared
			if !filepath.IsAbs(shared) {
				common = filepath.Join(git, shared)
			}
		}
	}
	commit = readLine(filepath.Join(git, "HEAD"))
	if name, ok := strings.CutPrefix(commit, "ref: "); ok {
		if commit = readLine(filepath.Join(common, filepath.FromSlash(name))); commit == "" {
			commit = packedRef(filepath.Join(common, "packed-refs"), name)
		}
	}
	if !commitPattern.MatchString(commit) {
		return "", ""
	}
	return firstRemote(filepath.Join(common, "config")), commit
}

// readLine returns the first line of a small file, "" when it cannot be read.
func readLine(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	scanner := bufio.NewScanner(file)
	scanner.Scan()
	return strings.TrimSpace(scanner.Text())
}

func packedRef(path, name string) string {
	found := ""
	eachLine(path, func(line string) bool {
		commit, ref, ok := strings.Cut(line, " ")
		if ok && ref == name {
			found = commit
		}
		return found == ""
	})
	return found
}

func firstRemote(config string) string {
	inside, found := false, ""
	eachLine(config, func(line string) bool {
		if strings.HasPrefix(line, "[") {
			inside = strings.HasPrefix(line, "[remote ")
			return true
		}
		if key, value, ok := strings.Cut(line, "="); ok && inside && strings.TrimSpace(key) == "url" {
			found = strings.TrimSpace(value)
		}
		return found == ""
	})
	if u, err := url.Parse(found); err == nil && u.User != nil && u.Scheme != "ssh" {
		u.User = nil
		found = u.String()
	}
	return found
}

// eachLine calls visit with the trimmed lines of a file until it returns false.
func eachLine(path string, visit func(string) bool) {
	file, err := os.Open(path)
	if err != nil {
		return
	}
	defer file.Close()
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		if !visit(strings.TrimSpace(scanner.Text())) {
			return
		}
	}
}
