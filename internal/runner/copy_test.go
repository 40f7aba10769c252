package runner_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// TestTheCopyOfTheDocumentationIsRightBesideADualWriter runs the example while the application
// changes a row in both tables, the old one first.
func TestTheCopyOfTheDocumentationIsRightBesideADualWriter(t *testing.T) {
	docs, err := os.ReadFile("../../docs/writing-works.md")
	require.NoError(t, err)
	found := regexp.MustCompile("(?s)```sql\n(-- description: Copy the orders.*?)```").FindSubmatch(docs)
	require.NotNil(t, found)
	for name, c := range map[string]struct {
		src   string
		copy  string
		waits bool
	}{
		"as it stands there": {string(found[1]), "5=900 6=600", true},
		"without the lock":   {strings.Replace(string(found[1]), "FOR SHARE OF o", "", 1), "5=500 6=600 7=700", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 0)
			w.exec(`CREATE TABLE public.orders (id bigint PRIMARY KEY, total bigint NOT NULL)`)
			w.exec(`CREATE TABLE public.orders_v2 (id bigint PRIMARY KEY, total_cents bigint NOT NULL)`)
			w.exec(`INSERT INTO public.orders SELECT g, g FROM generate_series(5, 7) AS g`)
			w.enqueue("copy", "public.orders", 10, 10)
			w.exec(`UPDATE bbm.batched_background_migrations SET awaited_transactions = '{}'`) // the bound waits for none that begins now

			application, err := dbtest.Connect(t, w.url).Begin(w.ctx)
			require.NoError(t, err)
			for _, write := range []string{
				`UPDATE public.orders SET total = 9 WHERE id = 5`, `UPDATE public.orders_v2 SET total_cents = 900 WHERE id = 5`,
				`DELETE FROM public.orders WHERE id = 7`, `DELETE FROM public.orders_v2 WHERE id = 7`,
			} {
				_, err := application.Exec(w.ctx, write)
				require.NoError(t, err)
			}
			stop := w.start(w.runner(w.config(), parse(t, "copy", c.src)))
			if c.waits {
				w.eventually(`SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted)`)
			} else {
				w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
			}
			require.NoError(t, application.Commit(w.ctx))
			w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
			_ = stop()
			assert.Equal(t, c.copy, one[string](w, `SELECT string_agg(id || '=' || total_cents, ' ' ORDER BY id) FROM public.orders_v2`))
		})
	}
}
