package secret

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/millrace/millrace/internal/fault"
)

const keySize = 32

// Key encrypts secrets with AES-256-GCM. Its text form is base64.
type Key struct {
	raw  [keySize]byte
	id   string
	aead cipher.AEAD
}

// NewKey makes a random key.
func NewKey() Key {
	var raw [keySize]byte
	_, _ = rand.Read(raw[:]) // never fails
	return keyOf(raw)
}

func keyOf(raw [keySize]byte) Key {
	block, err := aes.NewCipher(raw[:])
	if err != nil {
		panic(err) // the size is right
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(append([]byte("millrace secret key\x00"), raw[:]...))
	return Key{raw: raw, id: hex.EncodeToString(sum[:8]), aead: aead}
}

// ID names the key without telling it.
func (k Key) ID() string { return k.id }

// Text is the key as ParseKey reads it.
func (k Key) Text() string { return base64.StdEncoding.EncodeToString(k.raw[:]) }

// ParseKey reads 32 bytes in base64 or hexadecimal digits. The message never has
// the text in it.
func ParseKey(text string) (Key, error) {
	text = strings.TrimSpace(text)
	decoded, err := hex.DecodeString(text)
	if err != nil {
		decoded, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	}
	if err != nil || len(decoded) != keySize {
		return Key{}, fault.Invalid("a secret key is 32 bytes in base64 or hexadecimal digits, as 'openssl rand -base64 32' makes it; this is something else")
	}
	return keyOf([keySize]byte(decoded)), nil
}

// Ring is the keys that are known: the first encrypts, all decrypt.
type Ring []Key

// ParseRing reads keys separated by commas or line ends, the current one first;
// empty lines and those that begin with # are skipped.
func ParseRing(text string) (Ring, error) {
	var ring Ring
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == ',' }) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		key, err := ParseKey(line)
		if err != nil {
			return nil, err
		}
		ring = append(ring, key)
	}
	if len(ring) == 0 {
		return nil, fault.Invalid("there is no secret key; make one with 'openssl rand -base64 32'")
	}
	return ring, nil
}

// Text is the ring as ParseRing reads it.
func (r Ring) Text() []byte {
	var b bytes.Buffer
	for _, key := range r {
		b.WriteString(key.Text() + "\n")
	}
	return b.Bytes()
}

// find returns the key with an id.
func (r Ring) find(id string) (Key, bool) {
	for _, key := range r {
		if key.id == id {
			return key, true
		}
	}
	return Key{}, false
}

// Sealed is a secret as it is stored: its value encrypted for this project and
// name, and the id of the key.
type Sealed struct {
	Project, Name string
	KeyID         string
	Value         []byte // nonce and ciphertext
}

// bound is what a value is bound to, so that rows can not be exchanged.
func (s Sealed) bound() []byte {
	return []byte("millrace secret 1\x00" + s.Project + "\x00" + s.Name)
}

// seal encrypts a value with the current key.
func (r Ring) seal(project, name, value string) Sealed {
	s := Sealed{Project: project, Name: name, KeyID: r[0].id}
	s.Value = r[0].aead.Seal(nil, nil, []byte(value), s.bound())
	return s
}

// open decrypts. Errors carry fault.CodePrecondition: the key is not one of the
// ring, or what is stored was changed.
func (r Ring) open(s Sealed) (string, error) {
	key, ok := r.find(s.KeyID)
	if !ok {
		return "", fault.Precondition("the secret %s/%s was encrypted with the key %s, which this server does not have (it has %s); start it with the right key, or set the secret again", s.Project, s.Name, s.KeyID, r.ids())
	}
	value, err := key.aead.Open(nil, nil, s.Value, s.bound())
	if err != nil {
		return "", fault.Precondition("the secret %s/%s was changed in the database and is not used; set it again", s.Project, s.Name)
	}
	return string(value), nil
}

func (r Ring) ids() string {
	ids := make([]string, len(r))
	for i, key := range r {
		ids[i] = key.id
	}
	return strings.Join(ids, ", ")
}
