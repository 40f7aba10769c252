package work

import "fmt"

// Scaffold is the text of a work file to start from. The table is written as in SQL, the cursor's columns as the catalog names them. It
// parses as it is, but cannot be enqueued by accident: the column that it sets does not exist.
func Scaffold(name, table string, cursor []string, repeated bool) string {
	keys := ""
	if repeated {
		keys = "-- repeated_keys: yes\n"
	}
	return fmt.Sprintf(`-- description: TODO say what %s changes, and why.
-- table: %s
-- cursor: %s
%s
%s
-- One statement. @batch(u) stands for the rows of one sub-batch of %s AS u, and must be there exactly once.
-- A value to be given at enqueue is declared above (-- argument: name type) and written @name.
UPDATE %s AS u
   SET todo_column = todo_value
 WHERE @batch(u)
   AND u.todo_column IS NULL;
`, name, table, WriteNames(cursor), keys, marker, table, table)
}
