package dbtest

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type historyWalk struct {
	Pass, PassesLeft      int32
	Checksum              string
	WalkedRows, Remaining int64
	Keys                  int
	FinishedAt            *time.Time
	ReachedEnd            bool
	Jobs                  int64
}

// checkProof follows the walks that prove a migration done. Walks are counted from 1; each is whole
// before the next, which there is only where rows remained or the migration was set going again
// after its end; there are no jobs behind the last pass. A migration is finished by a clean walk of
// the pinned version, which its proof dates from, or by an empty table, and rows that remain fail
// it only after the last pass.
func checkProof(t TB, conn *pgx.Conn, id int64, status string) {
	t.Helper()
	ctx := context.Background()
	var migration struct {
		Checksum, Remaining, Statement, Code *string
		Rows                                 *int64
		VerifiedAt                           *time.Time
		IsCut                                bool
		Restarts                             int
	}
	require.NoError(t, conn.QueryRow(ctx, `
		SELECT work_checksum, remaining_predicate, verified_statement, failure_error_code::text, verified_rows, verified_at, frontier_key IS NOT NULL,
			(SELECT count(*) FROM bbm.batched_background_migration_transition_logs WHERE batched_background_migration_id = $1 AND previous_status = 'finished')
		FROM bbm.batched_background_migrations WHERE id = $1`, id).Scan(&migration.Checksum, &migration.Remaining, &migration.Statement, &migration.Code,
		&migration.Rows, &migration.VerifiedAt, &migration.IsCut, &migration.Restarts))
	rows, err := conn.Query(ctx, `
		SELECT
			v.pass, v.passes_left, v.work_checksum, v.walked_rows, v.remaining_rows, jsonb_array_length(v.remaining_keys),
			v.finished_at, v.progress_key IS NOT DISTINCT FROM v.until_key,
			(SELECT count(*) FROM bbm.batched_background_migration_jobs AS j WHERE j.batched_background_migration_id = $1 AND j.pass = v.pass)
		FROM bbm.batched_background_migration_verifications AS v WHERE v.batched_background_migration_id = $1 ORDER BY v.pass`, id)
	require.NoError(t, err)
	walks, err := pgx.CollectRows(rows, pgx.RowToStructByPos[historyWalk])
	require.NoError(t, err)

	clean := 0
	for i, walk := range walks {
		isLast := i == len(walks)-1
		assert.EqualValues(t, i+1, walk.Pass, "walks are counted")
		assert.Equal(t, walk.Remaining > 0, walk.Keys > 0, "walk %d names some of what remains", walk.Pass)
		if walk.FinishedAt != nil {
			assert.True(t, walk.ReachedEnd, "walk %d stopped before its end", walk.Pass)
		}
		if !isLast {
			expected := walk.PassesLeft - 1
			if walk.PassesLeft == 0 || walk.Remaining == 0 {
				expected = walks[0].PassesLeft // what goes on after its end or a failure has as many again
			}
			if walk.Remaining == 0 {
				clean++
			}
			assert.True(t, walk.FinishedAt != nil && clean <= migration.Restarts, "walk %d is followed by another", walk.Pass)
			assert.Equal(t, expected, walks[i+1].PassesLeft, "passes left by walk %d", walk.Pass)
		}
		if walk.PassesLeft == 0 {
			assert.Zero(t, walk.Jobs, "jobs of walk %d, behind the last pass", walk.Pass)
		}
	}

	isFailed := status == "failed" && migration.Code != nil && *migration.Code == "rows_remaining"
	switch {
	case isFailed && assert.NotEmpty(t, walks, "what failed it was walked"):
		last := walks[len(walks)-1]
		assert.True(t, last.FinishedAt != nil && last.Remaining > 0 && last.PassesLeft == 0, "rows remained after the last pass: %+v", last)
	case migration.Remaining == nil:
		assert.Nil(t, migration.VerifiedAt, "a proof of what asks for none")
	case status != "finished": // what it had proved before it was set going again stays written
	case assert.True(t, migration.VerifiedAt != nil && migration.Rows != nil && migration.Statement != nil, "a finished migration has its proof"):
		if !migration.IsCut {
			assert.Zero(t, *migration.Rows, "rows of a table that was empty")
			return
		}
		if assert.NotEmpty(t, walks, "the proof was walked") {
			last := walks[len(walks)-1]
			assert.True(t, last.FinishedAt != nil && last.Remaining == 0, "the last walk is clean: %+v", last)
			assert.Equal(t, *migration.Checksum, last.Checksum, "the walk judged by the pinned version")
			assert.Equal(t, *migration.Rows, last.WalkedRows, "rows of the proof")
			assert.Equal(t, last.FinishedAt, migration.VerifiedAt, "the proof is as old as its walk")
		}
	}
}
