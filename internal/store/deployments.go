package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// Deployment is what should serve under a name, and how far that is. Name is the
// function's, followed by a dash and the tag unless that is latest.
type Deployment struct {
	Project, Name string
	Function, Tag string
	Kind          string
	Removed       bool    // it should go, with all its revisions
	Revision      int     // the newest
	Routes        []Route // what was asked for
	Stable        []Route // the last routes that were found to serve; none before that
	Port          int     // of the function's own address; 0 until one is chosen
	State         string  // building, deploying, ready, error, unhealthy, scaledToZero, removing
	Message       string  // why it is in that state, for people
	Status        document.Object
	Keeper        string // id of the server that keeps it, where several share a database; "" for none yet
	KeeperURL     string // its address while it is alive
	Created       time.Time
	Updated       time.Time
}

// Route sends part of a function's events to one of its revisions.
type Route struct {
	Revision int  `json:"revision"`
	Weight   int  `json:"weight"`           // percent of the events
	Shadow   bool `json:"shadow,omitempty"` // gets copies, and its answers are dropped
}

// DeploymentRevision is one version of a function as it was deployed.
type DeploymentRevision struct {
	Project, Name string
	Number        int
	Hash          string // of the function
	State         string // building, built, error
	Message       string
	Created       time.Time
}

// DeploymentPut creates the deployment or replaces what is kept of it, but for its
// keeper: a server becomes that by DeploymentClaim or DeploymentKeep.
// fault.CodeNotFound when the project does not exist.
func (tx *Tx) DeploymentPut(d Deployment) error {
	if err := tx.requireProject(d.Project); err != nil {
		return err
	}
	routes, err := json.Marshal(d.Routes)
	if err != nil {
		return fmt.Errorf("encode routes: %w", err)
	}
	stable, err := json.Marshal(d.Stable)
	if err != nil {
		return fmt.Errorf("encode routes: %w", err)
	}
	_, err = tx.exec(`INSERT INTO deployments (project, name, function, tag, kind, removed, revision, routes, stable, port, state, message, status, created, updated)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (project, name) DO UPDATE SET function = excluded.function, tag = excluded.tag, kind = excluded.kind, removed = excluded.removed,
			revision = excluded.revision, routes = excluded.routes, stable = excluded.stable, port = excluded.port, state = excluded.state,
			message = excluded.message, status = excluded.status, updated = excluded.updated`,
		d.Project, d.Name, d.Function, d.Tag, d.Kind, flag(d.Removed), d.Revision, string(routes), string(stable), d.Port, d.State, d.Message,
		encode(d.Status), tx.now.UnixMicro(), tx.now.UnixMicro())
	return wrap(err, "store deployment %s/%s", clip(d.Project), clip(d.Name))
}

// DeploymentUpdate changes a deployment in one transaction; fault.CodeNotFound
// when there is none. change may be called again, see Store.Tx.
func (s *Store) DeploymentUpdate(ctx context.Context, project, name string, change func(*Tx, *Deployment) error) error {
	return s.Tx(ctx, func(tx *Tx) error {
		d, err := tx.DeploymentGet(project, name)
		if err != nil {
			return err
		}
		if err := change(tx, &d); err != nil {
			return err
		}
		return tx.DeploymentPut(d)
	})
}

const (
	deploymentColumns = `SELECT project, name, function, tag, kind, removed, revision, routes, stable, port, state, message, status, created, updated, keeper, `
	// The clocks of servers differ, so that of the database decides.
	databaseNow = `(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint`
	keeperURL   = `COALESCE((SELECT url FROM servers WHERE servers.id = deployments.keeper AND until > ` + databaseNow + `), '')`
)

// Shared reports whether several servers may use the database at once.
func (s *Store) Shared() bool { return s.read.dialect.postgres }

// DeploymentClaim says that the server id, reached at url, is alive for the time lease
// from now on, makes it the keeper of all deployments whose keeper is not alive, and
// returns all deployments as DeploymentList does. A database that is not shared has
// one server, which keeps all; there it does nothing else.
func (s *Store) DeploymentClaim(ctx context.Context, id, url string, lease time.Duration) (all []Deployment, err error) {
	if !s.Shared() {
		return s.DeploymentList(ctx, "")
	}
	err = s.Tx(ctx, func(tx *Tx) error {
		if err := tx.advise(exclusive, "keepers of deployments"); err != nil { // one claims after the other
			return err
		}
		if _, err := tx.exec(`INSERT INTO servers (id, url, until) VALUES (?, ?, `+databaseNow+` + ?)
			ON CONFLICT (id) DO UPDATE SET url = excluded.url, until = excluded.until`, id, url, lease.Microseconds()); err != nil {
			return wrap(err, "renew the lease of server %s", clip(id))
		}
		if _, err := tx.exec(`UPDATE deployments SET keeper = ? WHERE keeper <> ?
			AND NOT EXISTS (SELECT 1 FROM servers s WHERE s.id = deployments.keeper AND s.until > `+databaseNow+`)`, id, id); err != nil {
			return wrap(err, "claim deployments")
		}
		if _, err := tx.exec(`DELETE FROM servers WHERE until < ` + databaseNow); err != nil {
			return wrap(err, "forget servers")
		}
		all, err = tx.deployments(ctx, ` ORDER BY project, name`)
		return err
	})
	return all, err
}

// DeploymentKeep makes a server the keeper of a deployment that has none.
func (tx *Tx) DeploymentKeep(project, name, server string) error {
	_, err := tx.exec(`UPDATE deployments SET keeper = ? WHERE project = ? AND name = ? AND keeper = ''`, server, project, name)
	return wrap(err, "keep deployment %s/%s", clip(project), clip(name))
}

func (v view) deployments(ctx context.Context, query string, args ...any) (out []Deployment, err error) {
	url := `''`
	if v.dialect.postgres {
		url = keeperURL
	}
	err = v.each(ctx, func(rows *sql.Rows) error {
		var (
			d                      Deployment
			routes, stable, status []byte
			created, updated       sql.NullInt64
		)
		if err := rows.Scan(&d.Project, &d.Name, &d.Function, &d.Tag, &d.Kind, &d.Removed, &d.Revision, &routes, &stable, &d.Port, &d.State, &d.Message,
			&status, &created, &updated, &d.Keeper, &d.KeeperURL); err != nil {
			return err
		}
		if err := json.Unmarshal(routes, &d.Routes); err != nil {
			return err
		}
		if err := json.Unmarshal(stable, &d.Stable); err != nil {
			return err
		}
		d.Created, d.Updated = moment(created), moment(updated)
		var err error
		if d.Status, err = decode(status); err != nil {
			return err
		}
		out = append(out, d)
		return nil
	}, deploymentColumns+url+` FROM deployments`+query, args...)
	return out, wrap(err, "read deployments")
}

// DeploymentList returns the deployments of a project in order, of all projects
// when it is "". Those that are being removed are among them.
func (s *Store) DeploymentList(ctx context.Context, project string) ([]Deployment, error) {
	if project == "" {
		return s.read.deployments(ctx, ` ORDER BY project, name`)
	}
	return s.read.deployments(ctx, ` WHERE project = ? ORDER BY name`, project)
}

// DeploymentGet returns one deployment; fault.CodeNotFound when there is none.
func (s *Store) DeploymentGet(ctx context.Context, project, name string) (Deployment, error) {
	return s.read.deployment(ctx, project, name, "")
}

// DeploymentGet is Store.DeploymentGet in a transaction, for a change.
func (tx *Tx) DeploymentGet(project, name string) (Deployment, error) {
	return tx.deployment(tx.ctx, project, name, tx.dialect.lock)
}

func (v view) deployment(ctx context.Context, project, name, lock string) (Deployment, error) {
	found, err := v.deployments(ctx, ` WHERE project = ? AND name = ?`+lock, project, name)
	if err != nil {
		return Deployment{}, err
	}
	if len(found) == 0 {
		return Deployment{}, fault.NotFound("no function %s is deployed in project %s", clip(name), clip(project))
	}
	return found[0], nil
}

// DeploymentForget deletes a deployment with its revisions.
func (s *Store) DeploymentForget(ctx context.Context, project, name string) error {
	return s.Tx(ctx, func(tx *Tx) error {
		for _, table := range []string{"deployment_revisions", "deployments"} {
			if _, err := tx.exec(`DELETE FROM `+table+` WHERE project = ? AND name = ?`, project, name); err != nil {
				return wrap(err, "delete deployment %s/%s", clip(project), clip(name))
			}
		}
		return nil
	})
}

// RevisionPut stores a revision of a deployment, or changes its state.
func (tx *Tx) RevisionPut(r DeploymentRevision) error {
	_, err := tx.exec(`INSERT INTO deployment_revisions (project, name, number, hash, state, message, created) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (project, name, number) DO UPDATE SET state = excluded.state, message = excluded.message`,
		r.Project, r.Name, r.Number, r.Hash, r.State, r.Message, tx.now.UnixMicro())
	return wrap(err, "store revision %d of %s/%s", r.Number, clip(r.Project), clip(r.Name))
}

// RevisionList returns the revisions of a deployment, the newest first.
func (s *Store) RevisionList(ctx context.Context, project, name string) ([]DeploymentRevision, error) {
	return s.read.revisions(ctx, project, name)
}

// RevisionList is Store.RevisionList in a transaction.
func (tx *Tx) RevisionList(project, name string) ([]DeploymentRevision, error) {
	return tx.revisions(tx.ctx, project, name)
}

func (v view) revisions(ctx context.Context, project, name string) (out []DeploymentRevision, err error) {
	err = v.each(ctx, func(rows *sql.Rows) error {
		var (
			r       DeploymentRevision
			created sql.NullInt64
		)
		if err := rows.Scan(&r.Project, &r.Name, &r.Number, &r.Hash, &r.State, &r.Message, &created); err != nil {
			return err
		}
		r.Created = moment(created)
		out = append(out, r)
		return nil
	}, `SELECT project, name, number, hash, state, message, created FROM deployment_revisions WHERE project = ? AND name = ? ORDER BY number DESC`, project, name)
	return out, wrap(err, "read revisions of %s/%s", clip(project), clip(name))
}

// FunctionStatus changes the status of what a tag of a function points at, version
// or slot, and nothing else of it. A function that is not there is no error: it may
// have been deleted meanwhile.
func (tx *Tx) FunctionStatus(project, name, tag string, change func(status document.Object)) error {
	var (
		id   int64
		text []byte
	)
	found, err := tx.row(tx.ctx, []any{&id, &text}, `SELECT f.id, f.doc FROM function_tags t JOIN functions f ON f.id = t.function_id
		WHERE t.project = ? AND t.name = ? AND t.tag = ?`, project, name, tag)
	if err != nil || !found {
		return wrap(err, "read function %s/%s", clip(project), clip(name))
	}
	doc, err := decode(text)
	if err != nil {
		return err
	}
	change(document.Ensure(doc, "status"))
	_, err = tx.exec(`UPDATE functions SET state = ?, updated = ?, doc = ? WHERE id = ?`, document.String(doc, "status", "state"), tx.now.UnixMicro(), encode(doc), id)
	return wrap(err, "store status of function %s/%s", clip(project), clip(name))
}

// APIGateway is an address of its own in front of one or two deployments.
type APIGateway struct {
	Project, Name string
	Port          int             // of its own address; 0 until one is chosen
	Secret        string          // what its password is checked against; "" for none
	Doc           document.Object // as clients know it, without its password
}

// GatewayPut creates or replaces an API gateway; fault.CodeNotFound when the
// project does not exist.
func (s *Store) GatewayPut(ctx context.Context, g APIGateway) error {
	return s.Tx(ctx, func(tx *Tx) error {
		if err := tx.requireProject(g.Project); err != nil {
			return err
		}
		_, err := tx.exec(`INSERT INTO api_gateways (project, name, port, secret, doc, updated) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (project, name) DO UPDATE SET port = excluded.port, secret = excluded.secret, doc = excluded.doc, updated = excluded.updated`,
			g.Project, g.Name, g.Port, g.Secret, encode(g.Doc), tx.now.UnixMicro())
		return wrap(err, "store API gateway %s/%s", clip(g.Project), clip(g.Name))
	})
}

// GatewayList returns the API gateways of a project in order, of all projects when
// it is "".
func (s *Store) GatewayList(ctx context.Context, project string) ([]APIGateway, error) {
	if project == "" {
		return s.read.gateways(ctx, ` ORDER BY project, name`)
	}
	return s.read.gateways(ctx, ` WHERE project = ? ORDER BY name`, project)
}

// GatewayGet returns one API gateway; fault.CodeNotFound when there is none.
func (s *Store) GatewayGet(ctx context.Context, project, name string) (APIGateway, error) {
	found, err := s.read.gateways(ctx, ` WHERE project = ? AND name = ?`, project, name)
	if err != nil {
		return APIGateway{}, err
	}
	if len(found) == 0 {
		return APIGateway{}, fault.NotFound("API gateway %q not found in project %s", clip(name), clip(project))
	}
	return found[0], nil
}

func (v view) gateways(ctx context.Context, query string, args ...any) (out []APIGateway, err error) {
	err = v.each(ctx, func(rows *sql.Rows) error {
		var (
			g    APIGateway
			text []byte
		)
		if err := rows.Scan(&g.Project, &g.Name, &g.Port, &g.Secret, &text); err != nil {
			return err
		}
		if g.Doc, err = decode(text); err != nil {
			return err
		}
		out = append(out, g)
		return nil
	}, `SELECT project, name, port, secret, doc FROM api_gateways`+query, args...)
	return out, wrap(err, "read API gateways")
}

// GatewayDelete deletes an API gateway; one that is not there is no error.
func (s *Store) GatewayDelete(ctx context.Context, project, name string) error {
	return s.Tx(ctx, func(tx *Tx) error {
		_, err := tx.exec(`DELETE FROM api_gateways WHERE project = ? AND name = ?`, project, name)
		return wrap(err, "delete API gateway %s/%s", clip(project), clip(name))
	})
}
