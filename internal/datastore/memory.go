package datastore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/fault"
)

// memory is the store of memory:// URLs, one for the whole process.
var memory = &memoryStore{objects: map[string]memoryObject{}}

type memoryStore struct {
	mu      sync.RWMutex
	objects map[string]memoryObject
	used    int64
}

type memoryObject struct {
	data     []byte
	modified time.Time
}

// maxMemory bounds all objects together.
const maxMemory = 256 << 20

func (o memoryObject) info() Info {
	sum := sha256.Sum256(o.data)
	digest := hex.EncodeToString(sum[:])
	return Info{Size: int64(len(o.data)), Modified: o.modified, Digest: "sha256:" + digest, ETag: `"` + digest + `"`}
}

func (m *memoryStore) get(key string) (memoryObject, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	object, ok := m.objects[key]
	if !ok {
		return object, fault.NotFound("there is nothing at memory://%s", key)
	}
	return object, nil
}

func (m *memoryStore) open(_ context.Context, key string, r Range) (io.ReadCloser, Info, error) {
	object, err := m.get(key)
	if err != nil {
		return nil, Info{}, err
	}
	info := object.info()
	if err := checkRange("memory://"+key, info, r); err != nil {
		return nil, Info{}, err
	}
	return limited(io.NopCloser(bytes.NewReader(object.data[r.Offset:])), r), info, nil
}

func (m *memoryStore) stat(_ context.Context, key string) (Info, error) {
	object, err := m.get(key)
	if err != nil {
		return Info{}, err
	}
	return object.info(), nil
}

func (m *memoryStore) put(_ context.Context, key string, body io.Reader, _ content) error {
	data, err := io.ReadAll(io.LimitReader(body, maxMemory+1))
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	used := m.used - int64(len(m.objects[key].data)) + int64(len(data))
	if used > maxMemory {
		return fault.TooLarge("memory://%s: all objects in memory may have %d bytes together; use a file", key, maxMemory)
	}
	m.objects[key], m.used = memoryObject{data: data, modified: time.Now()}, used
	return nil
}

func (m *memoryStore) walk(_ context.Context, key string, recursive bool, yield func(Entry) error) error {
	prefix := key + "/"
	if key == "" {
		prefix = ""
	}
	m.mu.RLock()
	objects := maps.Clone(m.objects)
	m.mu.RUnlock()
	folders := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		entry := Entry{Name: rest, Size: int64(len(objects[name].data)), Modified: objects[name].modified}
		if folder, _, below := strings.Cut(rest, "/"); below && !recursive {
			if folders[folder] {
				continue
			}
			folders[folder] = true
			entry = Entry{Name: folder, Dir: true}
		}
		if err := yield(entry); err != nil {
			return err
		}
	}
	return nil
}

func (m *memoryStore) remove(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= int64(len(m.objects[key].data))
	delete(m.objects, key)
	return nil
}
