// Package activator holds the sockets of deployed functions that nobody calls, in one
// process for a data directory, so that such a function costs three descriptors and
// no process. The first connection to one of them starts the function's processor,
// which inherits the sockets. They are never closed in between: a connection that
// comes meanwhile waits in the kernel's queue and is served by whoever accepts next.
//
// # Handing over
//
// A processor connects to the activator's socket and sends a byte, with which come the
// descriptors of its lock and its sockets (SCM_RIGHTS), and a line of JSON. From there
// on each waits for the other:
//
//	activator: "ready"   it has all there is
//	processor: "go"      the last word: from here on the function is the activator's
//	activator: "done"
//	processor: closes the connection when it has ended everything else it has
//
// Either one may die in between. Without a "go" nothing has been handed over. Without
// a "done" the activator is gone, and the processor goes on serving. The activator
// starts no processor before the one before it has gone.
//
// # The lock
//
// A function's lock is one open file that goes from process to process with the
// sockets, so that it is held all the time. While the function is parked the lock is
// disowned: it names no process.
//
// # Status, metrics, orders
//
// The activator itself serves the control socket: status and metrics from what the
// processor has left in the folder, which starts nothing, and the end of the function.
// Another order starts a processor, which then gets it.
package activator
