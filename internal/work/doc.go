// Package work knows what a work is: how its file is written, what identifies it, and the statements about its table, the only ones that
// are built at run time.
//
// # The file
//
// A work file has headers, the line `-- +bbm Work`, and one SQL statement:
//
//	-- description: Fill email_lower for rows written before it existed.
//	-- table: public.users
//	-- cursor: id
//	-- argument: domain text
//
//	-- +bbm Work
//	UPDATE public.users AS u
//	   SET email_lower = lower(u.email)
//	 WHERE @batch(u)
//	   AND u.email LIKE '%@' || @domain;
//
// Above the marker stand only headers (`-- key: value`, the keys are listed in headers.go), blank lines and bare `--`; free comments go below it, so that a
// header with a forgotten colon is an error and not a comment. Below it a comment may say anything, except that a known key at the
// start of a line is taken for a header gone astray.
//
// `@batch` stands for the range of rows, with bare column names, `@batch(u)` with names behind the alias u. It must be there exactly once. An
// argument is `@` and its name. A placeholder begins after a space, a parenthesis or a comma: PostgreSQL has operators with an @, so
// `=@x` is one operator, which is refused where x is an argument, and `a@b` is refused always. Nothing inside strings, quoted names, dollar
// quotes and comments is a placeholder.
//
// # The statements
//
// [Statements] holds them for one work on one table. Values are parameters in text form, cast to their type by the server; names are quoted.
package work
