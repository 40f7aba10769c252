// Package dbtest gives each test a PostgreSQL database of its own, copied from a template with our schema in it.
//
// A package that uses it says so in its TestMain:
//
//	func TestMain(m *testing.M) { dbtest.Main(m) }
//
// and a test then asks for a database:
//
//	func TestSomething(t *testing.T) {
//		t.Parallel()
//		conn := dbtest.Connect(t, dbtest.New(t))
//
// The server comes from the first of these, and one line tells which:
//
//   - BBM_TEST_DATABASE_URL: any server, on which the URL's role may create databases. Runs may share it.
//   - BBM_TEST_POSTGRES_BIN: a throwaway server from the binaries in this folder.
//   - Docker, where a daemon answers and the image is there or can be pulled: BBM_TEST_POSTGRES_IMAGE, else postgres:17.
//   - a throwaway server from the machine's own binaries, as package localpg finds them.
//
// What is named explicitly is used or is an error, never passed over. BBM_TEST_SOURCE (url, docker or local) admits
// one kind alone.
//
// `make test` starts the server once for all packages (command serve); under a plain `go test` each package starts its own.
// Throwaway servers run with fsync off: a test that crashes its server starts one itself, with localpg.
package dbtest
