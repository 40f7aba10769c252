package cli

import (
	"encoding/json"
	"io"
)

// jsonArray writes an array one element a line, as the elements come. An empty one is [].
type jsonArray struct {
	w     io.Writer
	begun bool
}

func (a *jsonArray) add(element any) error {
	encoded, err := json.Marshal(element)
	if err != nil {
		return err
	}
	separator := "[\n  "
	if a.begun {
		separator = ",\n  "
	}
	a.begun = true
	_, err = io.WriteString(a.w, separator+string(visibleJSON(encoded)))
	return err
}

// end closes the array. Without it a reader sees that the rows broke off.
func (a *jsonArray) end() error {
	closing := "[]\n"
	if a.begun {
		closing = "\n]\n"
	}
	_, err := io.WriteString(a.w, closing)
	return err
}

// printJSON writes all elements as one array.
func printJSON[T any](w io.Writer, elements []T) error {
	array := &jsonArray{w: w}
	for _, element := range elements {
		if err := array.add(element); err != nil {
			return err
		}
	}
	return array.end()
}
