// Command custom-works is a bbm-runner with one work in Go: it fills users.email_digest with a keyed digest of the address. The key must not
// reach the database, so SQL cannot do it.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"

	bbm "github.com/bbm-runner/bbm-runner"
)

func main() {
	bbm.Main(bbm.Work{
		Name:        "users_email_digest",
		Version:     "1",
		Description: "Fill email_digest with a keyed digest of the address.",
		Table:       "app.users",
		Cursor:      []string{"id"},
		Do:          fillDigests,
	})
}

// fillDigests reads the batch's rows, and locks them so that no address changes under its digest; it writes all digests back in one statement.
func fillDigests(ctx context.Context, tx pgx.Tx, b bbm.Batch) (int64, error) {
	key := os.Getenv("EMAIL_DIGEST_KEY")
	if key == "" {
		return 0, errors.New("EMAIL_DIGEST_KEY is not set")
	}
	rows, err := b.Query(ctx, tx, `
		SELECT u.id, u.email
		FROM app.users AS u
		WHERE @batch(u)
		  AND u.email_digest IS NULL
		ORDER BY u.id
		FOR NO KEY UPDATE`)
	if err != nil {
		return 0, fmt.Errorf("read addresses: %w", err)
	}
	var (
		ids     []int64
		digests [][]byte
		id      int64
		email   string
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &email}, func() error {
		ids = append(ids, id)
		digests = append(digests, digest(key, email))
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read addresses: %w", err)
	}
	tag, err := tx.Exec(ctx, `
		UPDATE app.users AS u
		SET email_digest = v.digest
		FROM unnest($1::bigint[], $2::bytea[]) AS v (id, digest)
		WHERE u.id = v.id`, ids, digests)
	if err != nil {
		return 0, fmt.Errorf("write digests: %w", err)
	}
	return tag.RowsAffected(), nil
}

// digest is the same for an address however it is capitalised.
func digest(key, email string) []byte {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(strings.ToLower(strings.TrimSpace(email))))
	return mac.Sum(nil)
}
