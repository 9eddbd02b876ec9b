package api

// route is one operation of the API; see the package comment.
type route struct {
	id       string // operationId, unique
	method   string
	path     string   // below the version, in the syntax of http.ServeMux
	versions []string // "v1", "v2"
	area     string   // groups routes in the document
	summary  string
	open     bool // answered without credentials
	params   []param
	body     *content
	answers  []answer
	handle   func(*call) error

	byName map[string]*param
}

// param is a query or header parameter. Types: string, strings (repeated),
// enum, integer, boolean, time, header.
type param struct {
	name, typ, doc string
	values         []string // of an enum
	least          int64    // of an integer
}

// content is a body: a schema by name, or raw bytes with media type media.
type content struct {
	schema, media string
	optional      bool
}

// answer is one possible outcome that is no error.
type answer struct {
	status  int
	schema  string // "" with media "": no body
	media   string // "" means application/json
	headers []string
}

// param returns the parameter called name, nil when there is none.
func (rt *route) param(name string) *param { return rt.byName[name] }

func v1(id, method, path, summary string, handle func(*call) error, options ...option) *route {
	rt := &route{id: id, method: method, path: path, versions: []string{"v1"}, summary: summary, handle: handle}
	for _, o := range options {
		o(rt)
	}
	rt.byName = make(map[string]*param, len(rt.params))
	for i := range rt.params {
		rt.byName[rt.params[i].name] = &rt.params[i]
	}
	return rt
}

// option is one more fact about a route.
type option func(*route)

// in says which versions serve the route instead of v1 alone.
func in(versions ...string) option { return func(rt *route) { rt.versions = versions } }

// public marks a route that needs no credentials.
func public(rt *route) { rt.open = true }

// takes declares parameters.
func takes(params ...param) option {
	return func(rt *route) { rt.params = append(rt.params, params...) }
}

// with is takes for groups of parameters.
func with(groups ...[]param) option {
	return func(rt *route) {
		for _, group := range groups {
			rt.params = append(rt.params, group...)
		}
	}
}

// body declares a JSON body.
func body(schema string) option { return func(rt *route) { rt.body = &content{schema: schema} } }

// rawBody declares a body of bytes.
func rawBody(media string) option { return func(rt *route) { rt.body = &content{media: media} } }

// answers declares a JSON answer.
func answers(status int, schema string) option {
	return func(rt *route) { rt.answers = append(rt.answers, answer{status: status, schema: schema}) }
}

// silent declares an answer without a body.
func silent(status int) option {
	return func(rt *route) { rt.answers = append(rt.answers, answer{status: status}) }
}

// bytesAnswer declares an answer of bytes with headers that say something.
func bytesAnswer(status int, media string, headers ...string) option {
	return func(rt *route) {
		rt.answers = append(rt.answers, answer{status: status, media: media, headers: headers})
	}
}

func str(name, doc string) param     { return param{name: name, typ: "string", doc: doc} }
func strs(name, doc string) param    { return param{name: name, typ: "strings", doc: doc} }
func boolean(name, doc string) param { return param{name: name, typ: "boolean", doc: doc} }
func moment(name, doc string) param  { return param{name: name, typ: "time", doc: doc} }
func header(name, doc string) param  { return param{name: name, typ: "header", doc: doc} }
func integer(name string, least int64, doc string) param {
	return param{name: name, typ: "integer", least: least, doc: doc}
}
func enum(name, doc string, values ...string) param {
	return param{name: name, typ: "enum", doc: doc, values: values}
}
