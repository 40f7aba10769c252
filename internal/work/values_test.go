package work

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// texts gives values of every type that a cursor may have, the awkward ones first.
var texts = map[string]func(r *rand.Rand) []string{
	"smallint": func(r *rand.Rand) []string {
		return many([]string{"-32768", "32767", "0"}, func() string { return fmt.Sprint(r.IntN(65536) - 32768) })
	},
	"integer": func(r *rand.Rand) []string {
		return many([]string{"-2147483648", "2147483647", "0", "-1"}, func() string { return fmt.Sprint(r.Int32() - 1<<30) })
	},
	"bigint": func(r *rand.Rand) []string {
		return many([]string{"-9223372036854775808", "9223372036854775807", "-1"}, func() string { return fmt.Sprint(r.Int64() - 1<<62) })
	},
	"numeric": func(r *rand.Rand) []string {
		return many([]string{"NaN", "Infinity", "-Infinity", "0.00", "1e-300", "1e300", "-0.5", "1.0", "123456789012345678901234567890.123456789"},
			func() string { return fmt.Sprintf("%d.%0*d", r.IntN(20)-10, 1+r.IntN(5), r.IntN(10)) })
	},
	"uuid": func(r *rand.Rand) []string {
		return many([]string{"00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"},
			func() string { return fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64()) })
	},
	"text":              randomTexts,
	"character varying": randomTexts,
	"date": func(r *rand.Rand) []string {
		return many([]string{"infinity", "-infinity", "0044-03-15 BC", "4714-11-24 BC", "5874897-12-31", "0001-01-01"},
			func() string { return fmt.Sprintf("%04d-%02d-%02d", 1+r.IntN(3000), 1+r.IntN(12), 1+r.IntN(28)) })
	},
	"timestamp without time zone": randomTimes,
	"timestamp with time zone":    randomTimes,
}

func randomTexts(r *rand.Rand) []string {
	letters := []rune(`aAbBzZ 'é"ß\日{},_-%$1👍` + "\t\n\u0301")
	return many([]string{"", " ", "a ", "a", "null", "NULL", `\`, `\\`, `"`, `''`, "{}", "$1", "\r\n"}, func() string {
		var word strings.Builder
		for range r.IntN(6) {
			word.WriteRune(letters[r.IntN(len(letters))])
		}
		return word.String()
	})
}

func randomTimes(r *rand.Rand) []string {
	return many([]string{"infinity", "-infinity", "0044-03-15 12:00:00.000001 BC", "4713-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999", "1883-11-18 12:03:57"},
		func() string {
			return fmt.Sprintf("%04d-%02d-%02d %02d:30:00.%06d", 1800+r.IntN(300), 1+r.IntN(12), 1+r.IntN(28), r.IntN(24), r.IntN(1_000_000))
		})
}

// many adds random values to the given ones.
func many(values []string, random func() string) []string {
	for range 150 {
		values = append(values, random())
	}
	return values
}
