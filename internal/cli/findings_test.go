package cli

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

const moveItems = `-- description: Move them.
-- table: app.items
-- cursor: id

-- +bbm Work
WITH moved AS (DELETE FROM app.items AS i WHERE @batch(i) RETURNING *) INSERT INTO app.archive SELECT * FROM moved`

func TestEnqueueTellsWhatExplainWarnsOf(t *testing.T) {
	w := setup(t)
	w.exec(`CREATE TABLE app.archive (LIKE app.items); CREATE TABLE app.lines (id bigint PRIMARY KEY, item bigint REFERENCES app.items ON DELETE CASCADE)`)
	w.file("move", moveItems)
	for _, args := range [][]string{{"enqueue", "move", "--dry-run"}, {"enqueue", "move"}} {
		r := w.run(args...)
		assert.Equal(t, exitDone, r.code, args)
		assert.Contains(t, r.stderr, "warning: the foreign key lines_item_fkey carries the change on to app.lines (cascade)", args)
		assert.Contains(t, r.stderr, "no index on (item) serves that: it reads all of app.lines each time [no_index]", args)
		assert.NotContains(t, r.stderr, "superuser", "who enqueues is not who runs")
	}
}

func TestWarningsAreAnExitCodeWhereTheyAreAskedToBe(t *testing.T) {
	w := setup(t)
	before := w.dump()
	for _, args := range [][]string{{"enqueue", "increment", "--strict"}, {"enqueue", "increment", "--dry-run", "--strict"}, {"explain", "increment", "--short", "--strict"}} {
		r := w.run(args...)
		assert.Equal(t, exitFailed, r.code, args)
		assert.Contains(t, r.stderr+r.stdout, "[no_room]", args)
		assert.Contains(t, r.stderr, "--strict asks for none", args)
	}
	assert.Equal(t, before, w.dump(), "nothing is created")
	w.ok("explain", "increment", "--strict", "--accept", "no_room,superuser")
	w.ok("enqueue", "increment", "--dry-run", "--strict", "--accept", "no_room")
	assert.Equal(t, "increment\n", w.ok("enqueue", "increment", "--strict", "--accept", "no_room"))
}

func TestAShortExplanationLeavesOutHowTheTableIsWalked(t *testing.T) {
	w := setup(t)
	out := w.ok("explain", "increment", "--short")
	for _, part := range []string{"WORK STATEMENT", "app.items: update of n", "WARNINGS"} {
		assert.Contains(t, out, part)
	}
	for _, part := range []string{"BOUNDARY QUERY", "settings", "LOOK FOR WHAT REMAINS"} {
		assert.NotContains(t, out, part)
	}
	asJSON := w.ok("explain", "increment", "--short", "--json")
	assert.Contains(t, asJSON, `"boundary": null`)
	assert.Contains(t, asJSON, `"sizes": []`)
}

func TestThePlanOfLargeSubBatchesIsShownWhereItReadsMore(t *testing.T) {
	w := setup(t)
	w.exec(`INSERT INTO app.items (id) SELECT generate_series(1001, 50000);
		CREATE TABLE app.refers (id bigint PRIMARY KEY, code bigint NOT NULL, pad text);
		INSERT INTO app.refers SELECT i, i::bigint * 7919 % 600011, repeat('x', 200) FROM generate_series(1, 300000) AS i;
		CREATE INDEX ON app.refers (code); ANALYZE app.items, app.refers`)
	w.file("orphans", `-- description: Delete what nothing refers to.
-- table: app.items
-- cursor: id

-- +bbm Work
DELETE FROM app.items AS i WHERE @batch(i) AND NOT EXISTS (SELECT FROM app.refers AS r WHERE r.code = i.id * 7919 % 600011)`)
	title := "ITS PLAN FOR 20,000 ROWS: reads all of app.refers"
	assert.Contains(t, w.ok("explain", "orphans"), title)
	short := w.ok("explain", "orphans", "--short")
	assert.NotContains(t, short, title)
	assert.Contains(t, short, "[plan_changes]")
	assert.Contains(t, w.run("enqueue", "orphans", "--dry-run").stderr, "[plan_changes]")
}
