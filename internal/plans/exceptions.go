package plans

import "slices"

// Exception lets one query break one rule at one place.
type Exception struct {
	Violation
	Reason string
}

const (
	unfinishedOnly = "The index holds the migrations that are active or running, and they are what is looked for: tens among thousands."
	runningOnly    = "The index holds the running jobs alone: at most one for each slot of the fleet."
)

// Exceptions is the whole list. One that is not needed any more fails the tests.
var Exceptions = []Exception{
	{Violation{"MigrationListClaimable", NoCondition, "batched_background_migrations_unfinished_idx"}, unfinishedOnly},
	{Violation{"MigrationListClaimable", UnboundedSort, ""}, "Sorts by whose turn it is. " + unfinishedOnly},
	{Violation{"MigrationListClaimable", NoCondition, "batched_background_migration_jobs_running_slot_idx"}, runningOnly},
	{Violation{"MigrationListLocked", NoCondition, "batched_background_migrations_unfinished_idx"}, unfinishedOnly},
	{Violation{"MigrationListLocked", UnboundedSort, "free_migration"}, "Locks in one order. " + unfinishedOnly},
	{Violation{"RunnersWakeOthers", NoCondition, "batched_background_migrations_unfinished_idx"}, unfinishedOnly},
	{Violation{"MigrationLookAhead", NoCondition, "batched_background_migrations_unfinished_idx"}, unfinishedOnly},
	{Violation{"MigrationListUnprepared", NoCondition, "batched_background_migrations_unfinished_idx"}, unfinishedOnly},
	{Violation{"MigrationListUnprepared", UnboundedSort, ""}, "Sorts the migrations that were enqueued and not prepared yet: those of one deploy."},
	{Violation{"RunnerAnnounceWorks", NoCondition, "batched_background_migrations_unfinished_idx"}, unfinishedOnly},
	{Violation{"RunnerAnnounceWorks", UnboundedSort, ""}, "Sorts the works of unfinished migrations that the runner has not announced yet."},
	{Violation{"MigrationListFailed", UnboundedSort, ""}, "Sorts the migrations that one runner has executed, of which it gives the ids, once: at its end."},
	{Violation{"SlotListRunning", NoCondition, "batched_background_migration_jobs_running_slot_idx"}, runningOnly},
	{Violation{"MigrationListFacts", NoCondition, "batched_background_migration_jobs_running_slot_idx"}, runningOnly},
	{Violation{"JobRecover", UnboundedSort, ""}, "Sorts the running jobs of one slot: as a rule one."},
	{Violation{"JobRecover", UnboundedSort, "locked_job"}, "Sorts the running jobs of one slot: as a rule one."},
	{Violation{"BlockerList", UnboundedSort, ""}, "Sorts the sessions that are in the way of one migration, and what they have locked: a few."},
	{Violation{"JobDelete", WholeMigration, "batched_background_migration_jobs_pkey"}, "Takes the ids of one page, which its LIMIT bounds."},
	{Violation{"MigrationListIDs", NoCondition, "batched_background_migrations_pkey"}, "Asks for all migrations, as whoever calls status without a name does."},
	{Violation{"MigrationListNames", NoCondition, "batched_background_migrations_pkey"}, "Asks for all migrations: people list them, and the shell completes their names."},
}

// Excuse splits violations into those that the list does not allow, and returns the exceptions that nothing needed.
func Excuse(violations []Violation) (unexcused []Violation, unneeded []Exception) {
	for _, v := range violations {
		if !slices.ContainsFunc(Exceptions, func(e Exception) bool { return e.Violation == v }) {
			unexcused = append(unexcused, v)
		}
	}
	for _, e := range Exceptions {
		if !slices.Contains(violations, e.Violation) {
			unneeded = append(unneeded, e)
		}
	}
	return unexcused, unneeded
}
