package processor

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/realtime/application"
)

// launch begins to serve a revision that is a program of its own.
func (s *serving) launch() error {
	r := &s.spec
	for _, t := range r.Triggers {
		if t.Kind != realtime.TriggerHTTP {
			return fault.NotSupported("the trigger %s of %s is of the kind %s; applications take requests over HTTP only", t.Name, r.Name, t.Kind)
		}
	}
	s.app = application.Start(application.Options{
		Revision: *r, Dir: s.programDir(), Env: s.programEnvironment(), Log: s.log, Group: s.group, Logger: s.logger, Changed: s.changed,
	})
	return nil
}

// programDir is where the program runs: beside its code, unless it says otherwise.
func (s *serving) programDir() string {
	r := &s.spec
	if r.Workdir == "" && r.Folder == "" && r.File != "" {
		return filepath.Dir(r.CodeFile(s.folder))
	}
	return r.WorkDir(s.folder)
}

// programEnvironment is what an application finds: as workers do, and its packages.
func (s *serving) programEnvironment() []string {
	r := &s.spec
	out := append(os.Environ(), "PYTHONUNBUFFERED=1", revisionVariable+"="+s.mark,
		"NUCLIO_FUNCTION_NAME="+r.Name, "NUCLIO_FUNCTION_VERSION="+r.Hash, "NUCLIO_FUNCTION_INSTANCE="+r.Project+"-"+r.Name, "NUCLIO_FUNCTION_DESCRIPTION="+r.Description)
	if len(r.Path) > 0 {
		out = append(out, "PYTHONPATH="+strings.Join(r.Path, string(filepath.ListSeparator)))
	}
	return append(append(out, r.Env...), r.Secrets...)
}

// makeRoom takes the traffic from a program that has to end before its successor
// can listen on the same port; requests wait meanwhile. p.mu is held.
func (p *processor) makeRoom() {
	wanted := map[int]bool{} // ports
	for _, route := range p.desired.Routes {
		if s := p.revisions[route.Revision]; s != nil && s.app != nil && s.spec.Port != 0 {
			wanted[s.spec.Port] = true
		}
	}
	for number, s := range p.revisions {
		if _, stays := p.share(number); !stays && s.app != nil && wanted[s.spec.Port] {
			p.table.Store(nil)
		}
	}
}
