package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// readmeBlocks are the blocks of code of a section of the README.
func readmeBlocks(t *testing.T, heading string) []string {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(readme), "\n## "+heading+"\n")
	require.True(t, found, heading)
	section, _, _ = strings.Cut(section, "\n## ")
	var blocks []string
	for _, block := range regexp.MustCompile("(?s)\n```(.*?\n)```\n").FindAllStringSubmatch(section, -1) {
		blocks = append(blocks, block[1])
	}
	return blocks
}

// commands are the lines of a block behind a prompt, with those that continue them.
func commands(block string) []string {
	var all []string
	goesOn := false
	for line := range strings.Lines(block) {
		text, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case isCommand:
			all = append(all, text)
		case goesOn:
			all[len(all)-1] += text
		default:
			continue
		}
		goesOn = strings.HasSuffix(line, "\\\n")
	}
	return all
}

func TestTheFirstWorkOfTheREADMERunsFromStartToEnd(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("psql"); err != nil {
		t.Skip("the README makes its table with psql, which is not here")
	}
	folder, url := t.TempDir(), dbtest.NewEmpty(t)
	program := filepath.Join(folder, "bbm-runner")
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\nexec env "+asProgram+"=1 "+os.Args[0]+` "$@"`+"\n"), 0o700))
	var output string
	for _, block := range readmeBlocks(t, "Your first work") {
		if file, isFile := strings.CutPrefix(block, "sql\n"); isFile {
			require.NoError(t, os.WriteFile(filepath.Join(folder, "works", "users_email_lower.sql"), []byte(file), 0o600))
			continue
		}
		for _, command := range commands(block) {
			if strings.HasPrefix(command, "export BBM_DATABASE_URL=") {
				continue
			}
			shell := exec.Command("sh", "-ec", command)
			shell.Dir = folder
			shell.Env = append(os.Environ(), "BBM_DATABASE_URL="+url, "PATH="+folder+":"+os.Getenv("PATH"))
			out, err := shell.CombinedOutput()
			require.NoError(t, err, "%s%s", command, out)
			output += string(out)
		}
		// What stands there is what comes out, where neither times nor estimates are in it.
		for line := range strings.Lines(block) {
			if strings.Contains(line, "bd921ed4bc6dfb86") || strings.HasPrefix(line, "  status ") || strings.HasPrefix(line, "  progress ") {
				require.Contains(t, output, line)
			}
		}
	}
	conn := dbtest.Connect(t, url)
	var wrong int
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM public.users WHERE email_lower IS DISTINCT FROM lower(email)`).Scan(&wrong))
	require.Zero(t, wrong)
	dbtest.CheckHistory(t, conn, "users_email_lower")
}
