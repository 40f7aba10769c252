package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// span is how many keys there are for each row that a table begins with: the application inserts between them.
const span = 10

// maxTurns is how many migrations a table can take: each counts in an element of its own.
const maxTurns = 40

// kind is a table with keys of one type. Beside its key each row has a tag, by which the application knows it; a note, which the application counts
// up; and counts, of which each migration counts up its own element, so that a row missed or changed twice shows for each migration apart.
type kind struct {
	name   string
	key    string                                          // columns of the key, as DDL
	cursor string                                          // and as a cursor
	load   string                                          // the key of row g, in SQL
	above  string                                          // whether a row t is above the bound $1::text[], in SQL
	insert string                                          // the key of an inserted row, in SQL
	inside func(rng *rand.Rand, rows int) []any            // arguments of insert: somewhere between the others
	beyond func(rng *rand.Rand, rows int, tag int64) []any // behind all others
}

var kinds = []kind{
	{
		name: "bigints", key: "id bigint", cursor: "id", load: "g * 10", above: "t.id > ($1::text[])[1]::bigint", insert: "$2::bigint",
		inside: func(rng *rand.Rand, rows int) []any { return []any{rng.IntN(rows * span)} },
		beyond: func(_ *rand.Rand, rows int, tag int64) []any { return []any{int64(rows*span) + tag} },
	},
	{
		name: "pairs", key: "tenant_id int, id bigint", cursor: "tenant_id, id", load: "1 + g % 5, g",
		above: "(t.tenant_id, t.id) > (($1::text[])[1]::int, ($1::text[])[2]::bigint)", insert: "$2::int, $3::bigint",
		inside: func(rng *rand.Rand, rows int) []any { return []any{1 + rng.IntN(5), rng.IntN(rows)} },
		beyond: func(rng *rand.Rand, _ int, tag int64) []any { return []any{6 + rng.IntN(3), tag} },
	},
	{
		name: "uuids", key: "id uuid", cursor: "id", load: "md5(g::text)::uuid", above: "t.id > ($1::text[])[1]::uuid", insert: "$2::text::uuid",
		inside: func(rng *rand.Rand, _ int) []any {
			return []any{fmt.Sprintf("%016x%016x", rng.Uint64(), rng.Uint64())}
		},
		beyond: func(_ *rand.Rand, _ int, tag int64) []any { return []any{fmt.Sprintf("ffffffffffffffff%016x", tag)} },
	},
	{
		// Characters that a statement or an array built by hand would stumble over.
		name: "texts", key: `id text COLLATE "C"`, cursor: "id", load: `substr(md5(g::text), 1, 6) || chr(33 + g % 90) || '\"{,}é' || g`,
		above: "t.id > ($1::text[])[1]", insert: "$2::text",
		inside: func(rng *rand.Rand, _ int) []any { return []any{fmt.Sprintf(`%06x'"\,{}NULL`, rng.IntN(1<<24))} },
		beyond: func(_ *rand.Rand, _ int, tag int64) []any { return []any{fmt.Sprintf("~%09d", tag)} },
	},
}

// create makes and fills the table; rows are the tags 1 to $1.
func (k kind) create() []string {
	return []string{
		fmt.Sprintf(`CREATE TABLE app.%s (%s, tag bigint NOT NULL UNIQUE, note int NOT NULL DEFAULT 0, proved boolean NOT NULL DEFAULT false,
			counts int[] NOT NULL DEFAULT array_fill(0, ARRAY[%d]), PRIMARY KEY (%s)) WITH (fillfactor = 50)`, k.name, k.key, maxTurns, k.cursor),
		fmt.Sprintf(`CREATE TABLE app.%s_marks (turn int, tag bigint)`, k.name),
	}
}

func (k kind) fill() string {
	return fmt.Sprintf(`INSERT INTO app.%s (%s, tag) SELECT %s, g FROM generate_series(1, $1::int) AS g`, k.name, k.cursor, k.load)
}

// stumble fails now and then, for no reason that lies in the data.
const stumble = `
CREATE FUNCTION app.stumble(chance double precision) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    code text := (ARRAY['23514', 'P0001', '40001', '55P03', '40P01'])[1 + floor(random() * 5)::int];
BEGIN
    IF random() < chance THEN
        RAISE EXCEPTION 'stumbled' USING ERRCODE = code;
    END IF;
    RETURN 0;
END $$`

// refuse fails for certain rows, until it is replaced by mended.
const (
	refuse = `
CREATE FUNCTION app.refuse(tag bigint) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    IF tag % 400 = 13 THEN
        RAISE EXCEPTION 'refused' USING ERRCODE = '23514';
    END IF;
    RETURN 0;
END $$`
	mended = `CREATE OR REPLACE FUNCTION app.refuse(tag bigint) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RETURN 0; END $$`
)

// The kinds of work, none of which may be done twice.
const (
	workCount   = "count"
	workMark    = "mark"
	workStumble = "stumble" // fails now and then
	workRefuse  = "refuse"  // fails for certain rows, which are left out until the work is mended
	workProve   = "prove"   // the same, and its "finished" is proved: the application goes on writing rows of the old form
)

var works = map[string]string{
	workCount:   `UPDATE app.$table AS t SET counts[@turn] = counts[@turn] + 1 WHERE @batch(t)`,
	workMark:    `WITH changed AS (UPDATE app.$table AS t SET counts[@turn] = counts[@turn] + 1 WHERE @batch(t) RETURNING tag) INSERT INTO app.$table_marks (turn, tag) SELECT @turn, c.tag FROM changed AS c`,
	workStumble: `UPDATE app.$table AS t SET counts[@turn] = counts[@turn] + 1 + app.stumble(0.0005) WHERE @batch(t)`,
	workRefuse:  `UPDATE app.$table AS t SET counts[@turn] = counts[@turn] + 1 + app.refuse(t.tag) WHERE @batch(t)`,
	workProve:   `UPDATE app.$table AS t SET counts[@turn] = counts[@turn] + 1 + app.refuse(t.tag), proved = true WHERE @batch(t) AND NOT t.proved`,
}

// workFile is the file of one kind of work on one table.
func (k kind) workFile(workName string) string {
	remaining := ""
	if workName == workProve {
		remaining = "-- remaining: NOT proved\n"
	}
	return fmt.Sprintf("-- description: Torture.\n-- table: app.%s\n-- cursor: %s\n-- argument: turn int\n%s\n-- +bbm Work\n%s;\n",
		k.name, k.cursor, remaining, strings.ReplaceAll(works[workName], "$table", k.name))
}
