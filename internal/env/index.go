package env

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/html"
	"gopkg.in/ini.v1"

	"github.com/millrace/millrace/internal/fault"
)

// pipConfig is what downloading pip itself needs of the machine's pip settings.
type pipConfig struct {
	index     string   // base URL of the simple API; "" when the machine names none
	findLinks []string // local folders only
	cert      string   // file of certificate authorities
	proxy     string
	trusted   []string // hosts whose certificate is not checked
	noIndex   bool
}

// readPipConfig reads pip's files and variables, in pip's order of precedence.
// What cannot be read is left out: pip itself will say so.
func readPipConfig(getenv func(string) string, interp Interpreter) pipConfig {
	values := map[string]string{}
	for _, file := range pipConfigFiles(getenv, interp) {
		parsed, err := ini.LoadSources(ini.LoadOptions{AllowPythonMultilineValues: true, Loose: true, IgnoreInlineComment: true, SkipUnrecognizableLines: true}, file)
		if err != nil {
			continue
		}
		for _, section := range []string{"global", "install"} {
			for _, key := range parsed.Section(section).Keys() {
				values[strings.ReplaceAll(strings.ToLower(key.Name()), "_", "-")] = key.Value()
			}
		}
	}
	get := func(name string) string {
		if v := getenv("PIP_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))); v != "" {
			return v
		}
		return values[name]
	}
	c := pipConfig{index: get("index-url"), cert: get("cert"), proxy: get("proxy"), trusted: strings.Fields(get("trusted-host"))}
	switch strings.ToLower(get("no-index")) {
	case "1", "true", "yes", "on":
		c.noIndex = true
	}
	for _, link := range strings.Fields(get("find-links")) {
		link = strings.TrimPrefix(link, "file://")
		if filepath.IsAbs(link) {
			c.findLinks = append(c.findLinks, link)
		}
	}
	for _, name := range []string{"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} {
		if c.cert == "" {
			c.cert = getenv(name)
		}
	}
	return c
}

func pipConfigFiles(getenv func(string) string, interp Interpreter) []string {
	chosen := getenv("PIP_CONFIG_FILE")
	if chosen == os.DevNull {
		return nil
	}
	home := getenv("HOME")
	user := getenv("XDG_CONFIG_HOME")
	if user == "" {
		user = filepath.Join(home, ".config")
	}
	files := []string{"/etc/xdg/pip/pip.conf", "/etc/pip.conf"}
	for _, dir := range filepath.SplitList(getenv("XDG_CONFIG_DIRS")) {
		files = append(files, filepath.Join(dir, "pip", "pip.conf"))
	}
	if home != "" {
		files = append(files, filepath.Join(home, ".pip", "pip.conf"),
			filepath.Join(home, "Library", "Application Support", "pip", "pip.conf"))
	}
	files = append(files, filepath.Join(user, "pip", "pip.conf"))
	if interp.Executable != "" {
		files = append(files, filepath.Join(filepath.Dir(filepath.Dir(interp.Executable)), "pip.conf"))
	}
	if chosen != "" {
		files = append(files, chosen)
	}
	return files
}

func (c pipConfig) client() (*http.Client, error) {
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		DialContext:           (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if c.proxy != "" {
		text := c.proxy
		if !strings.Contains(text, "://") {
			text = "http://" + text
		}
		proxy, err := url.Parse(text)
		if err != nil {
			return nil, fault.Precondition("pip's proxy setting %q is no URL: correct PIP_PROXY or pip.conf", redact(text))
		}
		transport.Proxy = http.ProxyURL(proxy)
	}
	if c.cert != "" {
		pem, err := os.ReadFile(c.cert)
		if err != nil {
			return nil, fault.Precondition("pip's certificate file cannot be read: %w; correct PIP_CERT or pip.conf", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fault.Precondition("pip's certificate file %s holds no certificate: correct PIP_CERT or pip.conf", c.cert)
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	if base, err := url.Parse(c.index); err == nil && (slices.Contains(c.trusted, base.Hostname()) || slices.Contains(c.trusted, base.Host)) {
		transport.TLSClientConfig.InsecureSkipVerify = true // the machine's owner trusts this host by name
	}
	return &http.Client{Transport: transport, Timeout: 2 * time.Minute}, nil
}

// indexFile is one file of a package in the index.
type indexFile struct {
	name, url, sha256, requires string
	yanked                      bool
}

const (
	maxIndexPage = 64 << 20
	maxPipWheel  = 32 << 20
)

// download fetches the newest pip wheel that runs on interp, checks its hash
// and returns the path of a temporary file that keeps the wheel's name.
func (f pipFinder) download(ctx context.Context, config pipConfig, interp Interpreter) (string, error) {
	if config.noIndex || config.index == "" {
		return "", fault.Precondition("%s has no usable pip, and no package index is configured to get one from: install pip %d.%d or newer for it (on Debian the package python3-venv has one), or set PIP_INDEX_URL",
			interp.Executable, oldestPip[0], oldestPip[1])
	}
	unreachable := func(err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fault.Unavailable("%s has no pip, and none can be fetched from %s: %w; install pip for it, or correct PIP_INDEX_URL or the network",
			interp.Executable, redact(config.index), redactError(err))
	}
	client, err := config.client()
	if err != nil {
		return "", err
	}
	defer client.CloseIdleConnections()
	files, err := listIndex(ctx, client, strings.TrimRight(config.index, "/")+"/pip/")
	if err != nil {
		return "", unreachable(err)
	}
	best, ok := chooseWheel(files, interp.Version)
	if !ok {
		return "", unreachable(fmt.Errorf("it lists no pip for Python %s", interp.Version))
	}
	data, err := fetch(ctx, client, best.url, "", maxPipWheel)
	if err != nil {
		return "", unreachable(err)
	}
	if sum := sha256.Sum256(data.body); best.sha256 == "" || hex.EncodeToString(sum[:]) != best.sha256 {
		return "", unreachable(fmt.Errorf("the SHA-256 of %s is not what the index says", best.name))
	}
	dir := filepath.Join(f.cacheDir, "pip", "downloads")
	target := filepath.Join(dir, best.name)
	if err := writeFile(target, data.body); err != nil {
		return "", err
	}
	return target, nil
}

// chooseWheel picks the newest wheel of pip that is not yanked and fits v.
func chooseWheel(files []indexFile, v Version) (indexFile, bool) {
	files = slices.DeleteFunc(slices.Clone(files), func(file indexFile) bool {
		if file.yanked || !strings.HasSuffix(file.name, "-none-any.whl") || !recentPip(wheelVersion(file.name)) || file.name != path.Base(file.name) {
			return true
		}
		want, err := ParseConstraint(file.requires)
		return err != nil || !want.Allows(v)
	})
	if len(files) == 0 {
		return indexFile{}, false
	}
	return slices.MaxFunc(files, func(a, b indexFile) int {
		return compareNumbers(numbers(wheelVersion(a.name)), numbers(wheelVersion(b.name)))
	}), true
}

type response struct {
	body  []byte
	media string
	url   *url.URL // after redirects
}

func fetch(ctx context.Context, client *http.Client, address, accept string, most int64) (response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return response{}, err
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	resp, err := client.Do(req)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return response{}, fmt.Errorf("it answers %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	if err != nil {
		return response{}, err
	}
	if int64(len(body)) > most {
		return response{}, fmt.Errorf("the answer is larger than %d bytes", most)
	}
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		media = ""
	}
	return response{body: body, media: media, url: resp.Request.URL}, nil
}

// redactError hides credentials that a URL in the error's text may contain.
func redactError(err error) error { return errors.New(redact(err.Error())) }

const acceptIndex = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"

// listIndex reads a package's page of the simple API, JSON or HTML.
func listIndex(ctx context.Context, client *http.Client, address string) ([]indexFile, error) {
	page, err := fetch(ctx, client, address, acceptIndex, maxIndexPage)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(page.media, "+json") || page.media == "application/json" {
		return parseIndexJSON(page.body, page.url)
	}
	return parseIndexHTML(page.body, page.url)
}

func parseIndexJSON(body []byte, base *url.URL) ([]indexFile, error) {
	var doc struct {
		Files []struct {
			Filename string            `json:"filename"`
			URL      string            `json:"url"`
			Hashes   map[string]string `json:"hashes"`
			Requires string            `json:"requires-python"`
			Yanked   any               `json:"yanked"`
		} `json:"files"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("its answer is malformed: %w", err)
	}
	var out []indexFile
	for _, f := range doc.Files {
		target, err := base.Parse(f.URL)
		if err != nil {
			continue
		}
		yanked := f.Yanked != nil && f.Yanked != false
		out = append(out, indexFile{name: f.Filename, url: target.String(), sha256: strings.ToLower(f.Hashes["sha256"]), requires: f.Requires, yanked: yanked})
	}
	return out, nil
}

func parseIndexHTML(body []byte, base *url.URL) ([]indexFile, error) {
	var out []indexFile
	tokens := html.NewTokenizer(strings.NewReader(string(body)))
	for {
		switch tokens.Next() {
		case html.ErrorToken:
			if err := tokens.Err(); !errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("its answer is malformed: %w", err)
			}
			return out, nil
		case html.StartTagToken:
			token := tokens.Token()
			if token.Data == "a" {
				if f, ok := parseAnchor(token, base); ok {
					out = append(out, f)
				}
			}
		}
	}
}

func parseAnchor(token html.Token, base *url.URL) (indexFile, bool) {
	var f indexFile
	for _, a := range token.Attr {
		switch a.Key {
		case "href":
			target, err := base.Parse(a.Val)
			if err != nil {
				return f, false
			}
			if sum, ok := strings.CutPrefix(target.Fragment, "sha256="); ok {
				f.sha256 = strings.ToLower(sum)
			}
			target.Fragment = ""
			f.name, f.url = path.Base(target.Path), target.String()
		case "data-requires-python":
			f.requires = a.Val
		case "data-yanked":
			f.yanked = true
		}
	}
	return f, f.url != ""
}
