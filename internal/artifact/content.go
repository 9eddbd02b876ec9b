package artifact

import (
	"path"
	"strings"

	"github.com/millrace/millrace/internal/document"
)

// SpecFile is the file beside a model that describes it.
const SpecFile = "model_spec.yaml"

// Content is where the bytes of an artifact are; both parts are empty when they are in
// the record, or nowhere.
type Content struct {
	Files  []string // files
	Folder string   // all below it, ending with a slash
}

// ContentOf tells where the content of an artifact is. A model has the files that its
// record names and that are below its folder: the folder may hold other content, as the default
// artifact path does. What it names elsewhere belongs to others. A folder artifact may be
// one file as well, an archive, which is then named among the files.
func ContentOf(doc document.Object) Content {
	target := document.String(doc, "spec", "target_path")
	switch kind := document.String(doc, "kind"); {
	case target == "":
		return Content{}
	case kind == KindModel:
		return Content{Files: modelFiles(doc, target)}
	case strings.HasSuffix(target, "/"):
		return Content{Folder: target}
	case kind == KindDir:
		return Content{Files: []string{target}, Folder: target + "/"}
	}
	return Content{Files: []string{target}}
}

func modelFiles(doc document.Object, target string) []string {
	base := strings.TrimRight(target, "/") + "/"
	var files []string
	add := func(name string) {
		name = strings.TrimPrefix(name, base)
		if name == "" || strings.HasPrefix(name, "/") || strings.Contains(name, "://") || path.Clean(name) != name || strings.HasPrefix(name, "../") || name == ".." {
			return
		}
		files = append(files, base+name)
	}
	named := document.String(doc, "spec", "model_target_file")
	add(document.String(doc, "spec", "model_file"))
	if named != "" {
		files = files[:0] // model_file is then what it is called elsewhere
		add(named)
	}
	for _, value := range document.Map(doc, "spec", "extra_data") {
		if name, ok := value.(string); ok {
			add(name)
		}
	}
	if named == "" {
		add(SpecFile)
	}
	return files
}
