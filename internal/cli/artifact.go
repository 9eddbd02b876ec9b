package cli

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lazyregexp"
)

func newArtifact(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "artifact",
		Short: "Put, get and list the files that runs and people keep",
		Example: `  millrace artifact put model.pkl --key model --kind model
  millrace artifact get model
  millrace artifact ls --category model`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newArtifactGet(e), newArtifactPut(e), newArtifactList(e))
	return cmd
}

const storesHelp = `

Objects of s3://, gs:// and az:// stores are reached from this machine, with the credentials of
the environment (docs/data.md has their names).`

type artifactGetOptions struct {
	from, to, output string
}

func newArtifactGet(e *env) *cobra.Command {
	var o artifactGetOptions
	cmd := &cobra.Command{
		Use:   "get KEY[:TAG]|URI [DEST]",
		Short: "Copy the content of an artifact, or an object, to a file or folder",
		Long: `Copy the content of an artifact, or an object at any URL, to a file; a folder to a folder.

DEST is a file, a folder to put it into, or - for standard output; without it the file has
the artifact's key as its name. The file appears when all of it is there and its sum is what
the artifact says. A copy that was interrupted goes on where it stopped when the command is
given again; of a folder, the files that are there and the same are not read again.` + storesHelp,
		Example: `  millrace artifact get model
  millrace artifact get images ./images
  millrace artifact get store://datasets/default/iris:v2 data/iris.csv
  millrace artifact get s3://bucket/raw/2024.parquet .
  millrace artifact get report - | less`,
		Args: arguments(1, 2, "one KEY or URI, and at most one DEST"),
		RunE: func(_ *cobra.Command, args []string) error {
			if o.from = args[0]; len(args) == 2 {
				o.to = args[1]
			}
			return runArtifactGet(e, o)
		},
	}
	e.addGlobal(cmd)
	e.addProject(cmd)
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "json or yaml: what was copied, as one document")
	registerWords(cmd, "output", "json", "yaml")
	return cmd
}

// source is where content comes from.
type source struct {
	name string // of the file it becomes
	open datastore.Opener
	want datastore.DownloadOptions
	url  string
	dir  bool
	// Of a folder: a file below it by its URL, and the names and sizes of all.
	file func(url string) datastore.Opener
	list func(yield func(name string, size int64) error) error
}

func runArtifactGet(e *env, o artifactGetOptions) error {
	if err := checkOutput(o.output, "json", "yaml"); err != nil {
		return err
	}
	if datastore.Scheme(o.from) != "file" && !strings.HasPrefix(o.from, "store://") {
		stores := e.stores()
		from := source{name: path.Base(o.from), open: opener(stores, o.from), url: o.from, dir: strings.HasSuffix(o.from, "/")}
		from.file, from.list = e.below(stores, o.from)
		return e.fetch(o, from)
	}
	return e.with(func(connection *Connection) error {
		doc, project, err := e.findArtifact(connection.Client, o.from)
		if err != nil {
			return err
		}
		stores := e.stores()
		from, err := e.sourceOf(connection, stores, doc, project)
		if err != nil {
			return err
		}
		return e.fetch(o, from)
	})
}

// stores are those that this machine and the environment give access to.
func (e *env) stores() *datastore.Stores {
	options := datastore.Options{Lookup: e.Getenv, Dir: e.Dir}
	if dir, err := e.dataDir(); err == nil {
		options.State = filepath.Join(dir, "cache", "sessions")
	}
	return datastore.New(options)
}

func opener(stores *datastore.Stores, url string) datastore.Opener {
	return func(ctx context.Context, r datastore.Range) (io.ReadCloser, datastore.Info, error) {
		return stores.Open(ctx, url, r)
	}
}

// findArtifact reads the record that KEY[:TAG] or a store:// URI names.
func (e *env) findArtifact(c *client.Client, text string) (document.Object, string, error) {
	if !strings.HasPrefix(text, "store://") {
		text = "store://artifacts/" + text
	}
	uri, err := artifact.ParseURI(text)
	if err != nil {
		return nil, "", err
	}
	if uri.Project == "" {
		uri.Project, _ = e.project()
	}
	query := client.Artifact{Key: uri.Key, Tag: uri.Tag, Tree: uri.Tree, UID: uri.UID, Iter: -1}
	if uri.HasIter {
		query.Iter = uri.Iter
	}
	if query.Tag == "" && query.Tree == "" && query.UID == "" {
		query.Tag = "latest"
	}
	doc, err := c.Artifact(e.soft, uri.Project, query)
	if fault.Is(err, fault.CodeNotFound) {
		if similar := e.similarKeys(c, uri.Project, uri.Key); len(similar) > 0 {
			err = fault.NotFound("%w; there is %s", err, strings.Join(similar, ", "))
		}
	}
	return doc, uri.Project, err
}

// similarShown is how many other keys an error names.
const similarShown = 3

// similarKeys returns keys that a run has given to what its code calls key: NAME_KEY,
// NAME being the run's.
func (e *env) similarKeys(c *client.Client, project, key string) []string {
	var keys []string
	for doc, err := range c.Artifacts(e.soft, project, client.ArtifactQuery{Name: "~_" + key, Tag: "latest", Limit: 100}) {
		if err != nil {
			return nil // the first error is the one to tell
		}
		if name := dbKey(doc); strings.HasSuffix(name, "_"+key) && !slices.Contains(keys, name) {
			if keys = append(keys, name); len(keys) == similarShown {
				break
			}
		}
	}
	return keys
}

var (
	sha1Pattern  = lazyregexp.New(`^[0-9a-f]{40}$`)
	crc64Pattern = lazyregexp.New(`^[0-9a-f]{16}$`)
)

// crc64Field is the CRC-64/NVME of the content in the status of a record.
const crc64Field = "crc64nvme"

// sourceOf says where the content of an artifact is. Files that are at hand are read
// directly, others through the server.
func (e *env) sourceOf(connection *Connection, stores *datastore.Stores, doc document.Object, project string) (source, error) {
	target, key := document.String(doc, "spec", "target_path"), artifact.Key(doc)
	if target == "" {
		inline := document.Get(doc, "spec", "inline")
		if inline == nil {
			return source{}, fault.NotFound("the artifact %s has no content: neither a target path nor a body", key)
		}
		text, ok := inline.(string)
		if !ok {
			text = string(document.Encode(inline))
		}
		return source{name: key + "." + cmp.Or(document.String(doc, "spec", "format"), "txt"), open: func(context.Context, datastore.Range) (io.ReadCloser, datastore.Info, error) {
			return io.NopCloser(strings.NewReader(text)), datastore.Info{Size: int64(len(text))}, nil
		}}, nil
	}
	from := source{name: key + path.Ext(target), open: opener(stores, target), url: target, dir: strings.HasSuffix(target, "/")}
	from.file, from.list = e.below(stores, target)
	if hash := document.String(doc, "spec", "hash"); sha1Pattern.MatchString(hash) {
		from.want.SHA1 = hash
	}
	if datastore.Scheme(target) != "file" {
		return from, nil
	}
	// A file is read faster than its SHA-1 can be taken.
	if crc64 := document.String(doc, "status", crc64Field); !from.dir && crc64Pattern.MatchString(crc64) {
		from.want.CRC64, from.want.SHA1 = crc64, ""
	}
	if !e.atHand(connection, target) {
		from.file = func(url string) datastore.Opener {
			return func(ctx context.Context, r datastore.Range) (io.ReadCloser, datastore.Info, error) {
				return connection.Client.OpenContent(ctx, project, url, r)
			}
		}
		from.open = from.file(target)
		from.list = func(yield func(string, int64) error) error {
			return connection.Client.Contents(e.soft, project, target, yield)
		}
	}
	return from, nil
}

// fetch copies a source to where the options say.
func (e *env) fetch(o artifactGetOptions, from source) error {
	if o.to == "-" && from.dir {
		return fault.Invalid("%s is a folder; give a folder to copy it to", o.from)
	}
	if o.to == "-" {
		body, _, err := from.open(e.soft, datastore.Range{})
		if err != nil {
			return err
		}
		return errors.Join(datastore.Pump(e.Stdout, body), body.Close())
	}
	if from.name == "" || from.name == "." || from.name == "/" || !filepath.IsLocal(from.name) {
		return fault.Invalid("%s has no name to give to a file; add DEST", o.from)
	}
	dest := e.path(cmp.Or(o.to, from.name))
	if info, err := os.Stat(dest); err == nil && info.IsDir() && !from.dir {
		dest = filepath.Join(dest, from.name)
	}
	meter := e.newMeter("getting " + from.name)
	defer meter.close()
	begun := time.Now()
	result := document.Object{"path": dest, "source": o.from}
	if from.dir {
		files, err := e.fetchFolder(from, dest, meter)
		if err != nil {
			return err
		}
		result["size"], result["files"] = total(files), len(files)
	} else {
		from.want.Progress = meter.set
		if from.want.Sums = datastore.NoSums; o.output != "" {
			from.want.Sums = datastore.SHA256
		}
		written, err := datastore.Download(e.soft, from.open, dest, from.want)
		if err != nil {
			return err
		}
		result["size"], result["digest"] = written.Size, written.Digest
	}
	meter.close()
	if o.output != "" {
		return e.printDocument(o.output, result)
	}
	size, _ := document.Int(result, "size")
	e.say("millrace: %s, %s in %s", dest, bytesText(size), time.Since(begun).Round(time.Millisecond))
	return nil
}

type artifactPutOptions struct {
	file, key, kind, tag, path, output string
	labels                             []string
}

func newArtifactPut(e *env) *cobra.Command {
	var o artifactPutOptions
	cmd := &cobra.Command{
		Use:   "put FILE|FOLDER --key KEY",
		Short: "Keep a file or folder as an artifact",
		Long: `Keep a file or folder as an artifact: store its content and a record that names it.

The content is stored under its sum below the default artifact path, so that equal content is
kept once and nothing is overwritten; with --artifact-path under the key there. The record
appears when all of the content is stored. An upload that was interrupted goes on where it
stopped when the command is given again.

A folder is kept file by file, under the sum of its list of files; symbolic links in it are
refused, and folders without files left out.` + storesHelp,
		Example: `  millrace artifact put model.pkl --key model --kind model
  millrace artifact put ./images --key images
  millrace artifact put iris.csv --key iris --kind dataset --tag v2 --label source=uci
  millrace artifact put big.parquet --key big --artifact-path s3://bucket/data`,
		Args: arguments(1, 1, "one FILE or FOLDER"),
		RunE: func(_ *cobra.Command, args []string) error {
			o.file = args[0]
			return runArtifactPut(e, o)
		},
	}
	e.addGlobal(cmd)
	e.addProject(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.key, "key", "", "key of the artifact (default: the file's name without its ending)")
	flags.StringVar(&o.kind, "kind", "", "kind, such as model, dataset, plot or file (default: a plain artifact; of a folder, dir)")
	flags.StringVar(&o.tag, "tag", "", "tag beside latest")
	flags.StringVar(&o.path, "artifact-path", "", "folder or URL to put the file into (default: the project's artifact path)")
	flags.StringArrayVarP(&o.labels, "label", "l", nil, "label NAME=VALUE (may be repeated)")
	flags.StringVarP(&o.output, "output", "o", "", "json or yaml (the record), or name (its store:// address)")
	registerWords(cmd, "output", "json", "yaml", "name")
	return cmd
}

func runArtifactPut(e *env, o artifactPutOptions) error {
	if err := checkOutput(o.output, "json", "yaml", "name"); err != nil {
		return err
	}
	labels, err := parseStrings("label", o.labels)
	if err != nil {
		return err
	}
	file := e.path(o.file)
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fault.NotFound("there is no file %s", file)
	case err != nil:
		return err
	case info.IsDir():
	case !info.Mode().IsRegular():
		return fault.Invalid("%s is not a regular file", file)
	}
	suffix := filepath.Ext(file)
	if info.IsDir() {
		suffix, o.kind = "", cmp.Or(o.kind, artifact.KindDir)
	}
	if o.key == "" {
		o.key = strings.TrimSuffix(filepath.Base(file), suffix)
	}
	if err := artifact.ValidateKey("--key", o.key); err != nil {
		return err
	}
	if o.tag != "" {
		if err := artifact.ValidateTag(o.tag); err != nil {
			return err
		}
	}
	project, _ := e.project()
	return e.with(func(connection *Connection) error {
		if err := connection.Client.EnsureProject(e.soft, project); err != nil {
			return err
		}
		begun := time.Now()
		meter := e.newMeter("putting " + filepath.Base(file))
		defer meter.close()
		sending := sender{env: e, connection: connection, project: project, file: file, info: info, suffix: suffix, meter: meter}
		send := sending.send
		if info.IsDir() {
			send = sending.sendFolder
		} else {
			meter.total(info.Size())
		}
		written, err := send(o)
		meter.close()
		if err != nil {
			return err
		}
		doc := document.Object{
			"kind": o.kind, "metadata": document.Object{"key": o.key, "project": project, "iter": 0, "tree": strings.ReplaceAll(uuid.NewString(), "-", ""), "labels": labels},
			"spec": document.Object{
				"target_path": written.URL, "src_path": file, "size": written.Size, "hash": written.SHA1, "db_key": o.key, "format": strings.TrimPrefix(suffix, "."),
				"producer": document.Object{"kind": "project", "name": project, "owner": e.Getenv("USER")},
			},
			"status": document.Object{"state": "created"},
		}
		if written.CRC64 != "" {
			document.Set(doc, written.CRC64, "status", crc64Field)
		}
		stored, err := connection.Client.StoreArtifact(e.soft, project, o.key, o.tag, doc)
		if err != nil {
			return err
		}
		uri := artifact.URIOf(stored, project).String()
		switch o.output {
		case "json", "yaml":
			return e.printDocument(o.output, stored)
		case "name":
			return e.printf("%s\n", uri)
		}
		e.say("millrace: %s, %s in %s", uri, bytesText(written.Size), time.Since(begun).Round(time.Millisecond))
		return nil
	})
}

// sender brings the content of a file to where artifacts are.
type sender struct {
	*env
	connection *Connection
	project    string
	file       string
	info       os.FileInfo
	suffix     string
	meter      *meter
}

func (s *sender) open() (io.ReadCloser, error) { return os.Open(s.file) }

func (s *sender) send(o artifactPutOptions) (datastore.Written, error) {
	options := datastore.PutOptions{Size: s.info.Size(), Sums: datastore.SHA1 | datastore.CRC64, Resume: true, Progress: s.meter.add}
	if o.path != "" {
		target, err := s.chosen(o)
		if err != nil {
			return datastore.Written{}, err
		}
		file, err := s.open()
		if err != nil {
			return datastore.Written{}, err
		}
		options.Resume = false // a key is no promise that the content is the same
		written, err := s.stores().Put(s.soft, target, file, options)
		return written, errors.Join(err, file.Close())
	}
	folder, ok, err := s.folder()
	if err != nil {
		return datastore.Written{}, err
	}
	if !ok {
		return s.upload()
	}
	return s.stores().PutByContent(s.soft, folder, s.suffix, s.open, options)
}

// folder is where content is put by default; false when the server has to do it.
func (s *sender) folder() (string, bool, error) {
	if !s.connection.InProcess && !s.connection.Owner {
		return "", false, nil
	}
	folder, err := s.connection.Client.ArtifactPath(s.soft, s.project)
	return folder, err == nil && s.atHand(s.connection, folder), err
}

// atHand tells whether this process may use what the API calls a file or folder: all
// of them when the API is in this process, and what is below the artifacts of the data
// directory when the server there is the user's own. A server in a container, which
// sees the directory elsewhere, names other paths.
func (e *env) atHand(connection *Connection, target string) bool {
	if connection.InProcess {
		return true
	}
	dir, err := e.dataDir()
	if err != nil || !connection.Owner {
		return false
	}
	below, err := filepath.Rel(filepath.Join(dir, "artifacts"), strings.TrimPrefix(target, "file://"))
	return err == nil && filepath.IsLocal(below)
}

// chosen is where --artifact-path puts the content.
func (s *sender) chosen(o artifactPutOptions) (string, error) {
	target := strings.TrimRight(o.path, "/") + "/" + o.key + s.suffix
	if datastore.Scheme(o.path) != "file" {
		return target, nil
	}
	if !s.connection.InProcess && s.connection.Server != "" && s.server() != "" {
		return "", fault.Invalid("--artifact-path %s is a folder of this machine, which the server at %s does not see; give a URL, or leave the flag away", o.path, s.connection.Server)
	}
	return s.path(strings.TrimPrefix(target, "file://")), nil
}

// upload sends the file to the server. The token of the upload is made of what the
// file is, so that the same command finds what it has sent before.
func (s *sender) upload() (datastore.Written, error) {
	identity := fmt.Sprintf("%s\x00%s\x00%d\x00%d", s.project, s.file, s.info.Size(), s.info.ModTime().UnixNano())
	u := client.Upload{Project: s.project, Token: uploadToken(identity), Suffix: s.suffix}
	if len(u.Suffix) > 32 {
		u.Suffix = ""
	}
	s.meter.set(0, s.info.Size())
	return s.insist(u)
}

func uploadToken(identity string) string {
	token := sha256.Sum256([]byte(identity))
	return hex.EncodeToString(token[:])
}

// insist sends the file, again when the connection breaks or another one has the upload.
func (s *sender) insist(u client.Upload) (datastore.Written, error) {
	for attempt := 1; ; attempt++ {
		written, err := s.once(u)
		// A conflict: the server has not ended yet with what a command that was killed has sent.
		again := fault.Is(err, fault.CodeUnavailable) || fault.Is(err, fault.CodeConflict)
		if attempt == 4 || !again || s.soft.Err() != nil {
			return written, err
		}
		select {
		case <-time.After(time.Duration(attempt) * 300 * time.Millisecond):
		case <-s.soft.Done():
			return written, context.Cause(s.soft)
		}
	}
}

// once sends what the server does not have yet, and compares what it has then.
func (s *sender) once(u client.Upload) (got datastore.Written, err error) {
	offset, stored, err := s.connection.Client.Uploaded(s.soft, u)
	if err != nil {
		return datastore.Written{}, err
	}
	if stored == s.info.Size() {
		s.meter.add(stored)
		return datastore.Written{Size: stored, SHA1: u.SHA1}, nil
	}
	if offset > s.info.Size() {
		offset = 0
	}
	counted := int64(0)
	defer func() {
		if err != nil {
			s.meter.add(-counted) // it is sent again
		}
	}()
	file, err := os.Open(s.file)
	if err != nil {
		return datastore.Written{}, err
	}
	defer file.Close()
	sums := datastore.NewSumReader(s.soft, file, s.info.Size(), datastore.CRC64, func(n int64) { counted += n; s.meter.add(n) })
	defer sums.Stop()
	if _, err := io.CopyN(io.Discard, sums, offset); err != nil {
		return datastore.Written{}, err
	}
	got, err = s.connection.Client.SendContent(s.soft, u, offset, s.info.Size()-offset, sums)
	if err != nil {
		return got, err
	}
	own, err := sums.Finish()
	if err != nil {
		return got, err
	}
	if own.CRC64 != got.CRC64 {
		return got, fault.Unavailable("the server has received %s with the CRC-64 %s, not %s; the file changed meanwhile, or the transfer is faulty", s.file, got.CRC64, own.CRC64)
	}
	return got, nil
}

func newArtifactList(e *env) *cobra.Command {
	o := getOptions{kind: kindArtifacts}
	var recursive bool
	cmd := &cobra.Command{
		Use:   "ls [KEY|URL]",
		Short: "List artifacts, or what is below a URL",
		Long: `List the artifacts of a project, or with KEY one of them; with a URL or a path that begins with
./, ../ or / what is stored there.` + storesHelp,
		Example: `  millrace artifact ls
  millrace artifact ls --category model --tag v2 -o json
  millrace artifact ls s3://bucket/raw/ --recursive`,
		Args: arguments(0, 1, "at most one KEY or URL"),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.name = args[0]
			}
			if strings.Contains(o.name, "://") && !strings.HasPrefix(o.name, "store://") || strings.HasPrefix(o.name, ".") || strings.HasPrefix(o.name, "/") {
				return e.listStore(o, recursive)
			}
			return runGet(e, o)
		},
	}
	e.addGlobal(cmd)
	e.addProject(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&o.output, "output", "o", "table", outputHelp)
	flags.BoolVarP(&o.allProjects, "all-projects", "A", false, "of all projects")
	flags.StringArrayVarP(&o.labels, "label", "l", nil, "only with this label, NAME or NAME=VALUE (may be repeated)")
	flags.IntVar(&o.limit, "limit", 0, "at most so many (default: all)")
	flags.StringVar(&o.match, "name", "", "only with this name; ~TEXT for names that contain TEXT")
	flags.StringVar(&o.tag, "tag", "", "only with this tag")
	flags.StringVar(&o.category, "category", "", "only model, dataset, document, llm-prompt or other")
	flags.BoolVarP(&recursive, "recursive", "r", false, "of a URL: with all folders below")
	registerWords(cmd, "output", "table", "wide", "json", "yaml", "name")
	registerWords(cmd, "category", artifact.Categories...)
	return cmd
}

// listStore lists what is below a URL, as it comes.
func (e *env) listStore(o getOptions, recursive bool) error {
	if err := checkOutput(o.output, "table", "wide", "json", "yaml", "name"); err != nil {
		return err
	}
	if !strings.Contains(o.name, "://") {
		o.name = e.path(o.name)
	}
	enough := errors.New("enough")
	count := 0
	list := &listWriter{env: e, format: o.output}
	err := e.stores().Walk(e.soft, o.name, recursive, func(entry datastore.Entry) error {
		if count++; o.limit > 0 && count > o.limit {
			return enough
		}
		name := entry.Name
		if entry.Dir {
			name += "/"
		}
		switch o.output {
		case "json", "yaml":
			doc := document.Object{"name": entry.Name, "size": entry.Size, "dir": entry.Dir, "modified": nil}
			if !entry.Modified.IsZero() {
				doc["modified"] = entry.Modified.UTC().Format(time.RFC3339)
			}
			return list.add(doc)
		case "name":
			return e.printf("%s\n", name)
		}
		modified := "-"
		if !entry.Modified.IsZero() {
			modified = entry.Modified.UTC().Format(time.RFC3339)
		}
		return e.printf("%12d  %-20s  %s\n", entry.Size, modified, name)
	})
	if err != nil && !errors.Is(err, enough) {
		return err
	}
	return list.end()
}
