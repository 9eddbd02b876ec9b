package cli

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // content is named by it
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/fault"
)

// folderFile is a file of a folder.
type folderFile struct {
	name string // with slashes
	size int64
	sha1 string // "" when it is not known
}

const (
	maxFolderFiles = 100_000
	maxFileList    = 64 << 20 // bytes
	// fileListSuffix is what the name of the list of files of a folder ends with; it
	// stands beside the folder and is written last.
	fileListSuffix = ".files"
)

func total(files []folderFile) int64 {
	var sum int64
	for _, f := range files {
		sum += f.size
	}
	return sum
}

// fileList is the list of files as it is stored: a line each, with SHA-1, size and
// name. Its own SHA-1 names the folder.
func fileList(files []folderFile) (list []byte, sum string) {
	var out bytes.Buffer
	for _, f := range files {
		fmt.Fprintf(&out, "%s %d %s\n", f.sha1, f.size, f.name)
	}
	all := sha1.Sum(out.Bytes()) //nolint:gosec // see the import
	return out.Bytes(), hex.EncodeToString(all[:])
}

// parseFileList reads what fileList has made.
func parseFileList(raw []byte) ([]folderFile, error) {
	var files []folderFile
	for line := range strings.Lines(string(raw)) {
		sum, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		text, name, _ := strings.Cut(rest, " ")
		size, err := strconv.ParseInt(text, 10, 64)
		if err != nil || size < 0 || !sha1Pattern.MatchString(sum) {
			return nil, fault.Invalid("the list of files of the folder is damaged at %.100q; put the folder again", line)
		}
		if files = append(files, folderFile{name: name, size: size, sha1: sum}); len(files) > maxFolderFiles {
			return nil, tooManyFiles("the artifact")
		}
	}
	return files, nil
}

func tooManyFiles(what string) error {
	return fault.TooLarge("%s has more than %d files; pack them into one (tar czf)", what, maxFolderFiles)
}

// filesBelow lists the files of a folder of this machine, in order of their names.
func filesBelow(dir string) ([]folderFile, error) {
	var files []folderFile
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !d.Type().IsRegular() {
			return fault.Invalid("%s is a symbolic link or no regular file; folders with such are not kept", path)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if files = append(files, folderFile{name: name, size: info.Size()}); len(files) > maxFolderFiles {
			return tooManyFiles(dir)
		}
		return datastore.CheckName(name)
	})
	if err == nil && len(files) == 0 {
		err = fault.Invalid("the folder %s holds no file", dir)
	}
	return files, err
}

// sumFile takes the SHA-1 of a file.
func sumFile(ctx context.Context, path string, progress func(int64)) (datastore.Written, error) {
	file, err := os.Open(path)
	if err != nil {
		return datastore.Written{}, err
	}
	sum, err := datastore.Sum(ctx, file, datastore.SHA1, progress)
	return sum, errors.Join(err, file.Close())
}

// sendFolder brings the files of a folder to where artifacts are, the list of them
// last. Files that an earlier attempt has brought there are not sent again.
func (s *sender) sendFolder(o artifactPutOptions) (datastore.Written, error) {
	files, err := filesBelow(s.file)
	if err != nil {
		return datastore.Written{}, err
	}
	s.meter.total(2 * total(files)) // they are summed, then sent
	for i := range files {
		sum, err := sumFile(s.soft, s.at(files[i]), s.meter.add)
		if err != nil {
			return datastore.Written{}, err
		}
		files[i].size, files[i].sha1 = sum.Size, sum.SHA1
	}
	list, sum := fileList(files)
	out := datastore.Written{Size: total(files), SHA1: sum}
	base, keep := "", false
	if o.path != "" {
		base, err = s.chosen(o)
	} else {
		base, keep, err = s.folder()
		if err == nil && !keep {
			out.URL, err = s.uploadFolder(files, list, sum)
			return out, err
		}
		base += "/" + sum
	}
	if err != nil {
		return out, err
	}
	stores := s.stores()
	for _, f := range files {
		if err := s.store(stores, base+"/"+f.name, f, keep); err != nil {
			return out, err
		}
	}
	_, err = stores.Put(s.soft, base+fileListSuffix, bytes.NewReader(list), datastore.PutOptions{Size: int64(len(list))})
	out.URL = base + "/"
	return out, err
}

func (s *sender) at(f folderFile) string { return filepath.Join(s.file, filepath.FromSlash(f.name)) }

// store puts one file to a URL; with keep not when it is there, under a name that
// nothing else has.
func (s *sender) store(stores *datastore.Stores, url string, f folderFile, keep bool) error {
	if keep {
		if info, err := stores.Stat(s.soft, url); err == nil && info.Size == f.size {
			s.meter.add(f.size)
			return nil
		}
	}
	file, err := os.Open(s.at(f))
	if err != nil {
		return err
	}
	sums := datastore.NewSumReader(s.soft, file, f.size, datastore.SHA1, s.meter.add)
	defer sums.Stop()
	_, err = stores.Put(s.soft, url, &unchanged{SumReader: sums, file: f}, datastore.PutOptions{Size: f.size, Sums: datastore.NoSums})
	return errors.Join(err, file.Close())
}

// unchanged fails in place of its end when a file is not what it was when it was
// summed.
type unchanged struct {
	*datastore.SumReader
	file folderFile
}

func (u *unchanged) Read(p []byte) (int, error) {
	n, err := u.SumReader.Read(p)
	if errors.Is(err, io.EOF) {
		if sum, failed := u.Finish(); failed != nil || sum.SHA1 != u.file.sha1 {
			return n, errors.Join(failed, changedMeanwhile(u.file.name))
		}
	}
	return n, err
}

func changedMeanwhile(name string) error {
	return fault.Conflict("%s has changed while the folder was put; put it again", name)
}

// uploadFolder sends the files to the server and returns the address of the folder
// there.
func (s *sender) uploadFolder(files []folderFile, list []byte, sum string) (string, error) {
	for _, f := range files {
		info, err := os.Stat(s.at(f))
		if err != nil {
			return "", err
		}
		if info.Size() != f.size {
			return "", changedMeanwhile(f.name)
		}
		one := *s
		one.file, one.info = s.at(f), info
		identity := strings.Join([]string{s.project, sum, f.name, f.sha1}, "\x00")
		if _, err := one.insist(client.Upload{Project: s.project, Token: uploadToken(identity), Folder: sum, Name: f.name, SHA1: f.sha1}); err != nil {
			return "", err
		}
	}
	u := client.Upload{Project: s.project, Token: uploadToken(s.project + "\x00" + sum), Suffix: fileListSuffix, SHA1: sum}
	written, err := s.connection.Client.SendContent(s.soft, u, 0, int64(len(list)), bytes.NewReader(list))
	return strings.TrimSuffix(written.URL, fileListSuffix) + "/", err
}

// below reads a folder at a URL that this machine reaches itself.
func (e *env) below(stores *datastore.Stores, folder string) (file func(url string) datastore.Opener, list func(func(string, int64) error) error) {
	file = func(url string) datastore.Opener { return opener(stores, url) }
	return file, func(yield func(string, int64) error) error {
		return stores.Walk(e.soft, folder, true, func(entry datastore.Entry) error {
			if entry.Dir {
				return nil
			}
			return yield(entry.Name, entry.Size)
		})
	}
}

// filesOf are the files of a folder: those of its list, with their sums, else what
// is found below it.
func (e *env) filesOf(from source) ([]folderFile, error) {
	body, _, err := from.file(strings.TrimRight(from.url, "/")+fileListSuffix)(e.soft, datastore.Range{})
	if err == nil {
		raw, err := io.ReadAll(io.LimitReader(body, maxFileList))
		if err := errors.Join(err, body.Close()); err != nil {
			return nil, err
		}
		return parseFileList(raw)
	}
	if !fault.Is(err, fault.CodeNotFound) && !fault.Is(err, fault.CodeForbidden) {
		return nil, err
	}
	var files []folderFile
	err = from.list(func(name string, size int64) error {
		if files = append(files, folderFile{name: name, size: size}); len(files) > maxFolderFiles {
			return tooManyFiles(from.url)
		}
		return nil
	})
	return files, err
}

// fetchFolder copies the files of a folder below dest, each as Download does. What
// is there with the right sum stays.
func (e *env) fetchFolder(from source, dest string, meter *meter) ([]folderFile, error) {
	files, err := e.filesOf(from)
	if err != nil {
		return nil, err
	}
	for _, f := range files { // before anything is written
		if err := datastore.CheckName(f.name); err != nil {
			return nil, fault.Invalid("%s holds a name that leads out of a folder, or is none; nothing is copied: %w", from.url, err)
		}
	}
	if err := os.MkdirAll(dest, 0o777); err != nil {
		return nil, err
	}
	all, before := total(files), int64(0)
	for i, f := range files {
		meter.set(before, all)
		target := filepath.Join(dest, filepath.FromSlash(f.name))
		if !e.has(target, f) {
			options := datastore.DownloadOptions{SHA1: f.sha1, Sums: datastore.NoSums, Progress: func(done, _ int64) { meter.set(before+done, all) }}
			written, err := datastore.Download(e.soft, from.file(strings.TrimRight(from.url, "/")+"/"+f.name), target, options)
			if err != nil {
				return nil, err
			}
			files[i].size = written.Size
		}
		before += f.size
	}
	return files, nil
}

// has tells whether a file is there with the sum that it has to have.
func (e *env) has(target string, f folderFile) bool {
	info, err := os.Lstat(target)
	if err != nil || f.sha1 == "" || !info.Mode().IsRegular() || info.Size() != f.size {
		return false
	}
	sum, err := sumFile(e.soft, target, nil)
	return err == nil && sum.SHA1 == f.sha1
}
