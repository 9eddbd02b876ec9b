// Package threads deploys functions to a real server that has a free-threaded Python;
// see the step threads of scripts/check.
package threads
