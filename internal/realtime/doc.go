// Package realtime describes the events' side of a deployed function: what shall
// serve, what does, and the folder in which the two meet.
//
// Each deployed function has a process of its own (package processor) that
// outlives the server which started it. The server writes what should be (Desired)
// and the revisions that it names (Revision, immutable), the processor says what
// is (Status). The folder's control socket makes that faster than looking at
// files; nothing is said there that is not in a file too.
package realtime
