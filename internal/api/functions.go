package api

import (
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/store"
)

func functionPut(c *call) error {
	versioned, err := c.bool("versioned", false)
	if err != nil {
		return err
	}
	doc, err := c.object()
	if err != nil {
		return err
	}
	if _, err := function.Parse(document.Clone(doc)); err != nil { // what cannot be read is not kept
		return err
	}
	hash, err := c.s.opts.Store.FunctionPut(c.ctx(), store.FunctionPut{
		Project: c.path("project"), Name: c.path("name"), Tag: c.str("tag"), Versioned: versioned, Doc: doc,
	})
	if err != nil {
		return err
	}
	return c.json(200, document.Object{"hash_key": hash})
}

func functionGet(c *call) error {
	format, err := c.enum("format", "full")
	if err != nil {
		return err
	}
	doc, err := c.loadFunction(c.path("project"), c.path("name"), c.str("tag"), c.str("hash_key"))
	if err != nil {
		return err
	}
	if format == "minimal" {
		doc = function.Minimal(doc)
	}
	return c.json(200, document.Object{"func": doc})
}

// loadFunction finds a function under its normalised name, and under the name as
// given when that has underscores, which older records keep.
func (c *call) loadFunction(project, name, tag, hash string) (document.Object, error) {
	doc, err := c.s.opts.Store.FunctionGet(c.ctx(), project, function.NormalizeName(name), tag, hash)
	if fault.Is(err, fault.CodeNotFound) && strings.Contains(name, "_") {
		if raw, rawErr := c.s.opts.Store.FunctionGet(c.ctx(), project, name, tag, hash); rawErr == nil {
			return raw, nil
		}
	}
	return doc, err
}

func functionList(c *call) error {
	p, err := c.page()
	if err != nil {
		return err
	}
	format, err := c.enum("format", "full")
	if err != nil {
		return err
	}
	filter := store.FunctionFilter{
		Project: c.path("project"), Name: parseName(c.str("name")), Tag: c.str("tag"),
		Hash: c.str("hash_key"), Kind: c.str("kind"), States: c.strs("state"),
	}
	if filter.Labels, err = parseLabels(c.strs("label")); err != nil {
		return err
	}
	if filter.Since, err = c.time("since"); err != nil {
		return err
	}
	if filter.Until, err = c.time("until"); err != nil {
		return err
	}
	return c.writePage("funcs", p, func(window store.Page) ([]document.Object, bool, error) {
		filter.Page = window
		docs, more, err := c.s.opts.Store.FunctionList(c.ctx(), filter)
		if format == "minimal" {
			for i := range docs {
				docs[i] = function.Minimal(docs[i])
			}
		}
		return list(docs), more, err
	})
}

// functionDelete answers 204 in both versions once what the function has deployed
// is gone.
func functionDelete(c *call) error {
	c.discard()
	if c.s.opts.Deployments != nil {
		if err := c.s.opts.Deployments.UndeployFunction(c.ctx(), c.path("project"), c.path("name")); err != nil {
			return err
		}
	}
	if err := c.s.opts.Store.FunctionDelete(c.ctx(), c.path("project"), c.path("name")); err != nil && !fault.Is(err, fault.CodeNotFound) {
		return err
	}
	return c.silent(204)
}
