package work

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAGoWorkRunsItsStatementsInTheBatch(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	execute(t, conn, "CREATE TABLE public.users (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0)")
	execute(t, conn, "INSERT INTO public.users SELECT i FROM generate_series(1, 10) i")
	w := goWork()
	w.Arguments = []Argument{{"step", "int"}}
	w.Do = func(ctx context.Context, tx pgx.Tx, b Batch) (int64, error) {
		return b.Exec(ctx, tx, "UPDATE public.users AS u SET n = n + @step WHERE @batch(u)")
	}
	step := "3"
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	affected, err := w.Do(t.Context(), tx, NewStatements(w, users).Batch("m", Range{Key{"2"}, Key{"6"}}, Arguments{"step": &step}, 1))
	require.NoError(t, err)
	require.NoError(t, tx.Commit(t.Context()))
	assert.EqualValues(t, 4, affected)
	var sum int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT sum(n) FROM public.users WHERE id BETWEEN 3 AND 6").Scan(&sum))
	assert.Equal(t, 12, sum)
}

func TestArgumentCheckRaisesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	w := goWork()
	w.Arguments = []Argument{{"list", "int[]"}, {"price", "numeric(4,2)"}, {"at", "timestamp (3) with time zone"}}
	s := NewStatements(w, users)
	check := func(name, text string) error {
		sql, values := s.ArgumentCheck(Arguments{name: &text})
		_, err := conn.Exec(t.Context(), sql, values...)
		return err
	}
	for name, text := range map[string]string{"list": "{1,2}", "price": "99.99", "at": "2024-02-29 12:00+02"} {
		assert.NoError(t, check(name, text))
	}
	for name, text := range map[string]string{"list": "1", "price": "100", "at": "yesterday noon"} {
		assert.Error(t, check(name, text))
	}
}

func TestTheExampleWorksRun(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	execute(t, conn, `
CREATE TABLE public.users (id bigint PRIMARY KEY, email text, email_lower text);
INSERT INTO public.users SELECT i, 'A' || i || '@example.com' FROM generate_series(1, 10) AS i;
CREATE SCHEMA shop;
CREATE TABLE shop.tenants (id int PRIMARY KEY, tax_rate numeric);
INSERT INTO shop.tenants SELECT i, 0.19 FROM generate_series(1, 4) AS i;
CREATE TABLE shop.order_lines (tenant_id int, id bigint, gross_price numeric, net_price numeric, tax numeric, PRIMARY KEY (tenant_id, id));
INSERT INTO shop.order_lines SELECT i % 4 + 1, i, 119 FROM generate_series(1, 10) AS i;
CREATE TABLE public.sessions (id uuid PRIMARY KEY, ended_at timestamptz);
INSERT INTO public.sessions SELECT gen_random_uuid(), '2024-01-01 UTC'::timestamptz + i * interval '1 day' FROM generate_series(1, 10) AS i;
CREATE SCHEMA billing;
CREATE TABLE billing.invoices (id bigint PRIMARY KEY, status text, updated_at timestamptz);
INSERT INTO billing.invoices SELECT i, CASE WHEN i % 10 = 0 THEN 'draft' ELSE 'paid' END, '2024-01-01' FROM generate_series(1, 100) AS i;`)
	domain, before := "example.com", "2024-02-01"
	arguments := Arguments{"domain": &domain, "before": &before}
	types := map[string]string{"tenant_id": "integer", "id": "bigint"}
	works, err := LoadDir("../../works")
	require.NoError(t, err)
	for _, w := range works {
		table, err := w.TableName()
		require.NoError(t, err)
		target := Target{Schema: table[0], Table: table[1]}
		for _, name := range w.Cursor {
			column := Column{name, types[name]}
			if w.Name == "sessions_delete_expired" {
				column.Type = "uuid"
			}
			target.Columns = append(target.Columns, column)
		}
		s := NewStatements(w, target)
		sql, values, err := s.Work(Range{nil, lastKey(t, conn, s)}, arguments)
		require.NoError(t, err)
		tag, err := conn.Exec(t.Context(), sql, values...)
		require.NoError(t, err, w.Name)
		assert.EqualValues(t, 10, tag.RowsAffected(), w.Name)
	}
}
