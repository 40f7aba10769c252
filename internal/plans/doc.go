// Package plans keeps the plans of our queries under review: it seeds a database to scale, explains every query as it ships, writes the
// plans that are committed in queries/plans, and judges plans by rules that hold on every version of PostgreSQL.
//
// Its tests are the gate: they explain every query on a small database that yields the same plans. docs/queries.md tells reviewers how to
// read the folder, and developers what to do when a plan changes.
package plans
