// Package runner is the cycle of a bbm-runner process: poll, lock, execute, record.
//
// A [Runner] has one or more executors. An executor is one goroutine with one PostgreSQL connection, which it uses for everything: when the
// connection dies, the server aborts its open transaction and then releases its slot, so that no successor can overlap it. After any loss of
// the connection nothing goes on from memory: reconnect, lock, claim, read again.
//
//	       ┌─────────────────────────────────── idle: sleep, jittered ──────────────────────────────┐
//	       ▼                                                                                          │
//	poll: gates open? ──no──▶ idle      lock: a free slot? ──no (ErrLockInUse)──▶ idle               │
//	       │ recover lost runners' jobs       │                                                       │
//	       └──────────────▶───────────────────┘                                                       │
//	                                          ▼                                                       │
//	                   prepare new migrations; claim a job ──nothing to do: give the slot back──▶─────┘
//	                                          │
//	                                          ▼
//	                   execute: sub-batch by sub-batch, each one transaction in two round trips
//	                            BEGIN, fence, work │ progress, COMMIT
//	                                          │
//	                                          ▼
//	                   record: succeeded, failed or given back ──▶ poll
//
// States of a job, each change logged in the statement that makes it:
//
//	(cut) ─▶ pending ─▶ running ─▶ succeeded
//	            ▲          │ │
//	            │          │ └─▶ failed ─▶ running (next attempt, when due)
//	            └──────────┘         └───▶ pending (retry of a failed migration)
//	   RunnerLost, paused, stopped, …
package runner
