package work

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The driver keeps prepared statements by their text, and the server reads their constants once, by the settings of that moment.
func TestTextsOfWorksThatDifferInTheirTimeZoneAloneDiffer(t *testing.T) {
	t.Parallel()
	texts := func(zone string) []string {
		w, err := Parse("w", []byte("-- description: d\n-- table: public.t\n-- cursor: id\n-- timezone: "+zone+"\n-- scope: at >= '2026-06-01 00:00'\n-- remaining: at < '2026-06-02 00:00'\n\n"+
			"-- +bbm Work\nUPDATE public.t AS t SET n = 1 WHERE @batch(t) AND t.at >= '2026-06-01 00:00'"))
		require.NoError(t, err)
		s := NewStatements(w, Target{Schema: "public", Table: "t", Columns: []Column{{Name: "id", Type: "bigint"}}})
		boundary, _ := s.Boundary(Range{Until: Key{"9"}}, 1, 1)
		remains, _ := s.SingleRow().RowRemains(Key{"1"})
		return []string{s.LastKey(), s.LastKeyOfAll(), boundary, remains, s.RemainingStatement()}
	}
	utc, tokyo := texts("UTC"), texts("Asia/Tokyo")
	for i := range utc {
		assert.NotEqual(t, utc[i], tokyo[i])
	}
}
