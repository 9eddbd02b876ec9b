// Package processor is the process of one deployed function: its triggers, its
// pools of workers, and the moving of traffic from one revision to the next.
//
//	desired ─► processor ─► revision 7 ─► pool (trigger http) ─► worker, worker …
//	   HTTP ─► route table ┘   └ draining: revision 6
//
// A revision takes traffic once its least number of workers has loaded the code;
// until then the one before it has it, and only then that one drains. An event
// is answered exactly once: by the handler, or by an error that says what became
// of it. Events that a worker was given and had not begun when it died go to
// another worker.
package processor
