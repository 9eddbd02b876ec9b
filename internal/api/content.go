package api

import (
	"path"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lazyregexp"
)

func contentRoutes() []*route {
	const own = "/millrace/projects/{project}"
	fileParams := []param{
		str("path", "URL or path; required"), str("schema", "scheme to put before the path"), str("user", "accepted and without effect"),
		boolean("use-secrets", "use the server's credentials (default)"),
	}
	named := []param{
		str("folder", "folder to put the file into, 40 hexadecimal digits: the sum of its list of files"), str("name", "name of the file there"),
	}
	out := []*route{
		v1("readContent", "GET", own+"/content", "The bytes of an artifact or file, or the range of them that is asked for", contentRead,
			takes(str("url", "store:// address, path or URL; required"), header("range", "one range of bytes"), header("if-match", "entity tag of an earlier answer")),
			bytesAnswer(200, "application/octet-stream", "etag", "accept-ranges", "x-millrace-digest"),
			bytesAnswer(206, "application/octet-stream", "etag", "content-range")),
		v1("writeContent", "PUT", own+"/content", "Store the bytes of an artifact under their sum", contentWrite,
			takes(str("upload", "token of the upload: 32 to 64 hexadecimal digits, chosen by the caller; required"),
				str("suffix", "ending of the name, such as .csv"), integer("offset", 0, "where the body begins in the content")),
			takes(named...), takes(str("sha1", "what the content has to have")),
			rawBody("application/octet-stream"), answers(200, "Object")),
		v1("uploadState", "GET", own+"/uploads/{upload}", "How many bytes of an upload have arrived, and the size of what is stored under its name",
			uploadState, takes(named...), answers(200, "Object")),
		v1("listContent", "GET", own+"/content-list", "Names and sizes of all files below a folder of artifacts", contentList,
			takes(str("url", "store:// address, path or URL of a folder; required")), answers(200, "Object")),
	}
	for prefix, suffix := range map[string]string{"/projects/{project}": "", "": "Global"} {
		out = append(out,
			v1("getFile"+suffix, "GET", prefix+"/files", "Read a file below an artifact path or an object, or list a folder", fileRead, with(fileParams),
				takes(integer("size", 0, "bytes at most; 0 means to the end"), integer("offset", 0, "byte to begin at")),
				bytesAnswer(200, "application/octet-stream", "x-suggested-filename")),
			v1("getFileStat"+suffix, "GET", prefix+"/filestat", "Size and time of a file or object", fileStat, with(fileParams), answers(200, "Object")))
	}
	return out
}

// content is the access to bytes for the call's project, which has to exist.
func (c *call) content() (Content, error) {
	if c.s.opts.Content == nil {
		return nil, fault.NotSupported("this server keeps records only; read the content where it is stored")
	}
	if _, err := c.s.opts.Store.ProjectGet(c.ctx(), c.path("project")); err != nil {
		return nil, err
	}
	return c.s.opts.Content, nil
}

func contentRead(c *call) error {
	content, err := c.content()
	if err != nil {
		return err
	}
	target := c.str("url")
	if target == "" {
		return fault.Invalid("parameter url must be given: the address of what is to be read")
	}
	return content.Stores(c.path("project"), true).Serve(c.w, c.r, target)
}

func contentWrite(c *call) error {
	content, err := c.content()
	if err != nil {
		return err
	}
	offset, err := c.int("offset", 0)
	if err != nil {
		return err
	}
	suffix := c.str("suffix")
	if suffix != "" && (len(suffix) > 32 || suffix[0] != '.' || strings.ContainsAny(suffix, "/\\\x00")) {
		return fault.Invalid("parameter suffix must begin with a dot and have no slash and at most 32 characters, got %q", clip(suffix))
	}
	folder, name, err := c.namedFile(content)
	if err != nil {
		return err
	}
	written, err := content.Inbox().Receive(c.ctx(), datastore.Upload{
		Token: c.str("upload"), Folder: folder, Suffix: suffix, Offset: offset, Length: c.r.ContentLength, Name: name, SHA1: c.str("sha1"),
	}, c.r.Body)
	if err != nil {
		return err
	}
	return c.json(200, document.Object{"url": written.URL, "size": written.Size, "digest": written.Digest, "sha1": written.SHA1, "crc64nvme": written.CRC64})
}

func uploadState(c *call) error {
	content, err := c.content()
	if err != nil {
		return err
	}
	have, err := content.Inbox().Have(c.path("upload"))
	if err != nil {
		return err
	}
	doc := document.Object{"offset": have}
	folder, name, err := c.namedFile(content)
	if err != nil {
		return err
	}
	if name != "" {
		size, err := content.Inbox().Stored(c.ctx(), folder, name)
		if err != nil {
			return err
		}
		if size >= 0 {
			doc["size"] = size
		}
	}
	return c.json(200, doc)
}

var folderPattern = lazyregexp.New(`^[0-9a-f]{40}$`)

// namedFile is where a file with a name of its own is, or where files without one
// are.
func (c *call) namedFile(content Content) (folder, name string, err error) {
	folder, name = content.Folder(c.path("project")), c.str("name")
	below := c.str("folder")
	switch {
	case below == "" && name == "":
		return folder, "", nil
	case !folderPattern.MatchString(below):
		return "", "", fault.Invalid("parameter folder must be 40 hexadecimal digits where name is given, got %q", clip(below))
	}
	return folder + "/" + below, name, datastore.CheckName(name)
}

func contentList(c *call) error {
	content, err := c.content()
	if err != nil {
		return err
	}
	target := c.str("url")
	if target == "" {
		return fault.Invalid("parameter url must be given: the address of a folder")
	}
	files := []any{}
	err = content.Stores(c.path("project"), true).Walk(c.ctx(), target, true, func(entry datastore.Entry) error {
		if entry.Dir {
			return nil
		}
		if len(files) == maxListed {
			return fault.TooLarge("%s has more than %d files; read a folder below it", target, maxListed)
		}
		files = append(files, document.Object{"name": entry.Name, "size": entry.Size})
		return nil
	})
	if err != nil {
		return err
	}
	return c.json(200, document.Object{"files": files})
}

// fileStores is what the files routes read, and where.
func (c *call) fileStores() (*datastore.Stores, string, error) {
	if c.s.opts.Content == nil {
		return nil, "", fault.NotSupported("this server keeps records only; read the content where it is stored")
	}
	secrets, err := c.bool("use-secrets", true)
	if err != nil {
		return nil, "", err
	}
	target := c.str("path")
	if target == "" {
		return nil, "", fault.Invalid("parameter path must be given: the URL of a file")
	}
	if schema := c.str("schema"); schema == "file" && strings.HasPrefix(target, "/") {
		target = "file://" + target
	} else if schema != "" && !strings.HasPrefix(target, schema+"://") {
		target = schema + "://" + strings.TrimLeft(target, "/")
	}
	return c.s.opts.Content.Stores(c.path("project"), secrets), target, nil
}

// maxFilePiece is what one answer of the files route may be asked for.
const maxFilePiece = 1 << 20

func fileRead(c *call) error {
	stores, target, err := c.fileStores()
	if err != nil {
		return err
	}
	size, err := c.int("size", 0)
	if err != nil {
		return err
	}
	offset, err := c.int("offset", 0)
	if err != nil {
		return err
	}
	if size > maxFilePiece {
		return fault.TooLarge("parameter size may be at most %d bytes, got %d; ask for pieces with offset", maxFilePiece, size)
	}
	if strings.HasSuffix(target, "/") {
		return c.fileList(stores, target)
	}
	body, info, err := stores.Open(c.ctx(), target, datastore.Range{Offset: offset, Length: size})
	if err != nil {
		return err
	}
	defer body.Close()
	c.w.Header().Set("Content-Type", mimeType(info))
	c.w.Header().Set("X-Suggested-Filename", path.Base(info.URL))
	if err := datastore.Pump(c.w, body); err != nil && c.writer.status != 0 && c.ctx().Err() == nil {
		panic(abortResponse)
	}
	return nil
}

func mimeType(info datastore.Info) string {
	if info.ContentType == "" {
		return "application/octet-stream"
	}
	return info.ContentType
}

// maxListed bounds the names in one answer.
const maxListed = 100_000

func (c *call) fileList(stores *datastore.Stores, target string) error {
	names := []any{}
	err := stores.Walk(c.ctx(), target, false, func(entry datastore.Entry) error {
		if len(names) == maxListed {
			return fault.TooLarge("%s has more than %d entries; list a folder below it", target, maxListed)
		}
		names = append(names, entry.Name)
		return nil
	})
	if err != nil {
		return err
	}
	return c.json(200, document.Object{"listdir": names})
}

func fileStat(c *call) error {
	stores, target, err := c.fileStores()
	if err != nil {
		return err
	}
	info, err := stores.Stat(c.ctx(), target)
	if err != nil {
		return err
	}
	kind, _, _ := strings.Cut(mimeType(info), ";") // without the character set
	doc := document.Object{"size": info.Size, "modified": nil, "mimetype": kind}
	if !info.Modified.IsZero() {
		doc["modified"] = float64(info.Modified.UnixNano()) / float64(time.Second)
	}
	return c.json(200, doc)
}
