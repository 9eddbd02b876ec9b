package doctor

import "context"

// Database checks that the database opens.
type Database struct {
	// Where names it without credentials.
	Where string
	// Open opens and closes it and returns a phrase that says what it is, such as
	// "SQLite, schema 7".
	Open func(ctx context.Context) (string, error)
}

// Name implements Check.
func (Database) Name() string { return "database" }

// Check implements Check.
func (c Database) Check(ctx context.Context) Finding {
	what, err := c.Open(ctx)
	if err != nil {
		return fail("start the database or correct --database-url; an embedded one has to be readable by this user", "%s: %s", c.Where, message(err))
	}
	return ok("%s, %s", c.Where, what)
}
