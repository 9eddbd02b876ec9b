package secret

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/fault"
)

// Store keeps sealed secrets.
type Store interface {
	// SecretPut stores secrets of one project, all or none; fault.CodeNotFound when it
	// does not exist.
	SecretPut(ctx context.Context, project string, secrets []Sealed) error
	// SecretNames lists names in order.
	SecretNames(ctx context.Context, project string) ([]string, error)
	// SecretGet returns those of the names that there are.
	SecretGet(ctx context.Context, project string, names []string) ([]Sealed, error)
	// SecretDelete deletes those of the names that there are.
	SecretDelete(ctx context.Context, project string, names []string) error
	// SecretOthers returns at most limit secrets under other keys than the one given.
	SecretOthers(ctx context.Context, keyID string, limit int) ([]Sealed, error)
	// SecretReplace puts each new one in the place of its old one, unless that has
	// changed meanwhile.
	SecretReplace(ctx context.Context, old, replacement []Sealed) error
}

// Vault is the secrets of all projects.
type Vault struct {
	store Store
	keys  Keys
}

// NewVault returns a vault. The keys are read when they are needed, each time, so
// that all processes follow a rotation.
func NewVault(store Store, keys Keys) *Vault { return &Vault{store: store, keys: keys} }

// Set stores values under their names, next to what the project has.
func (v *Vault) Set(ctx context.Context, project string, values map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if err := ValidateName(name); err != nil {
			return err
		}
		if err := ValidateValue(name, values[name]); err != nil {
			return err
		}
	}
	return v.put(ctx, project, values)
}

func (v *Vault) put(ctx context.Context, project string, values map[string]string) error {
	for {
		ring, err := v.keys.load(true)
		if err != nil {
			return err
		}
		var sealed []Sealed
		for _, name := range slices.Sorted(maps.Keys(values)) {
			sealed = append(sealed, ring.seal(project, name, values[name]))
		}
		if err := v.store.SecretPut(ctx, project, sealed); err != nil {
			return err
		}
		// A rotation that began in between may not see them, and then throws away their
		// key. One that begins later does.
		now, err := v.keys.load(false)
		if err != nil {
			return err
		}
		if now[0].id == ring[0].id {
			return nil
		}
	}
}

// Names lists the names of a project's secrets, without those of the server.
func (v *Vault) Names(ctx context.Context, project string) ([]string, error) {
	names, err := v.store.SecretNames(ctx, project)
	return slices.DeleteFunc(names, Internal), err
}

// Delete deletes the secrets of those names; without names all that Names lists.
func (v *Vault) Delete(ctx context.Context, project string, names []string) error {
	for _, name := range names {
		if Internal(name) {
			return ValidateName(name)
		}
	}
	if len(names) == 0 {
		var err error
		if names, err = v.Names(ctx, project); err != nil || len(names) == 0 {
			return err
		}
	}
	return v.store.SecretDelete(ctx, project, names)
}

// Resolve returns the values of those of the names that there are.
func (v *Vault) Resolve(ctx context.Context, project string, names []string) (map[string]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	sealed, err := v.store.SecretGet(ctx, project, names)
	if err != nil || len(sealed) == 0 {
		return nil, err
	}
	ring, err := v.keys.load(false)
	if err != nil {
		return nil, err
	}
	values := make(map[string]string, len(sealed))
	for _, s := range sealed {
		if values[s.Name], err = ring.open(s); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// runPrefix begins the names of secrets that belong to one run: those that its
// task brought along.
func runPrefix(uid string) string { return internalPrefix + "run." + uid + "." }

// SetOfRun stores values that the task of a run brought along. They live as long
// as the run.
func (v *Vault) SetOfRun(ctx context.Context, project, uid string, values map[string]string) error {
	if len(values) == 0 {
		return nil
	}
	named := make(map[string]string, len(values))
	for name, value := range values {
		if err := ValidateName(name); err != nil {
			return err
		}
		if err := ValidateValue(name, value); err != nil {
			return err
		}
		named[runPrefix(uid)+name] = value
	}
	return v.put(ctx, project, named)
}

// ResolveForRun is Resolve, where what the task of the run brought along comes
// before what the project has.
func (v *Vault) ResolveForRun(ctx context.Context, project, uid string, names []string) (map[string]string, error) {
	asked := slices.Clone(names)
	for _, name := range names {
		asked = append(asked, runPrefix(uid)+name)
	}
	found, err := v.Resolve(ctx, project, asked)
	if err != nil {
		return nil, err
	}
	values := make(map[string]string, len(found))
	for _, name := range names {
		if value := cmp.Or(found[runPrefix(uid)+name], found[name]); value != "" && !Internal(name) {
			values[name] = value
		}
	}
	return values, nil
}

// DeleteOfRun deletes what the task of a run brought along.
func (v *Vault) DeleteOfRun(ctx context.Context, project, uid string) error {
	names, err := v.store.SecretNames(ctx, project)
	if err != nil {
		return err
	}
	own := slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, runPrefix(uid)) })
	return v.store.SecretDelete(ctx, project, own)
}

// rotateBatch is how many secrets one transaction of a rotation encrypts again.
const rotateBatch = 200

// Rotate encrypts all secrets with a new key and returns how many. The new key is
// first added to the file, before the old ones; those leave it when no secret
// needs them any more. So a rotation that is killed at any moment loses nothing
// and is finished by the next. Keys that are given as text are exchanged by who
// gives them: the new one has to stand before the old one.
func (v *Vault) Rotate(ctx context.Context) (n int, err error) {
	ring, err := v.keys.load(true)
	if err != nil {
		return 0, err
	}
	if len(ring) == 1 {
		if v.keys.Text != "" {
			return 0, fault.Precondition("MILLRACE_SECRET_KEY has one key only; put the new key before the old one, separated by a comma, rotate, and take the old one away")
		}
		ring = append(Ring{NewKey()}, ring...)
		if err := v.keys.write(ring, true); err != nil {
			return 0, err
		}
	}
	if n, err = v.reseal(ctx, ring); err != nil || v.keys.Text != "" {
		return n, err
	}
	return n, v.keys.write(ring[:1], true)
}

// reseal encrypts whatever is not under the ring's first key with that.
func (v *Vault) reseal(ctx context.Context, ring Ring) (n int, err error) {
	for {
		old, err := v.store.SecretOthers(ctx, ring[0].id, rotateBatch)
		if err != nil || len(old) == 0 {
			return n, err
		}
		replacement := make([]Sealed, len(old))
		for i, s := range old {
			value, err := ring.open(s)
			if err != nil {
				return n, err
			}
			replacement[i] = ring.seal(s.Project, s.Name, value)
		}
		if err := v.store.SecretReplace(ctx, old, replacement); err != nil {
			return n, err
		}
		n += len(old)
	}
}
