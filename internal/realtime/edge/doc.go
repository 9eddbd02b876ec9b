// Package edge is what stands between clients and a function: who may send
// (Auth), from which web pages (CORS), how much and how slowly (Limits), and over
// what (TLS). It enforces what realtime.Desired says, and what it says may change
// while requests are in progress.
//
// Response writers pass through it as they are, so that streaming, flushing and
// upgraded connections work as without it. A request without a body costs no
// allocation when neither Auth nor CORS is set.
package edge
