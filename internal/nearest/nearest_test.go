package nearest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/bbm-runner/bbm-runner/internal/nearest"
)

func TestWordFindsWhatWasMeantAndNothingElse(t *testing.T) {
	words := []string{"table", "cursor", "batch_size", "sub_batch_size"}
	for word, want := range map[string]string{
		"tabel": "table", "Table": "table", "curser": "cursor", "batchsize": "batch_size", "sub_batchsize": "sub_batch_size",
		"colour": "", "x": "", "": "",
	} {
		assert.Equal(t, want, nearest.Word(word, words), word)
	}
}
