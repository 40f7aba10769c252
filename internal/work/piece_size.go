package work

import "time"

// pieceTarget is how long the reading of one piece should take: as long as a sub-batch, so that a command, a stop or another migration's turn need
// not wait longer for the one than for the other.
const pieceTarget = 200 * time.Millisecond

// PieceSize chooses how many rows a walk over a table reads at once. Reading locks no rows, so it may grow faster than a sub-batch.
type PieceSize struct{ rows, most int }

// NewPieceSize starts small, since nothing is known of the table; most is what it never exceeds.
func NewPieceSize(most int) *PieceSize {
	return &PieceSize{min(DefaultSubBatchSize, most), most}
}

// Rows is the size of the next piece.
func (p *PieceSize) Rows() int { return p.rows }

// Observe learns from a piece that was read.
func (p *PieceSize) Observe(rows int64, took time.Duration) {
	switch {
	case took > 2*pieceTarget:
		p.rows = max(1, int(float64(p.rows)*pieceTarget.Seconds()/took.Seconds()))
	case took < pieceTarget/2 && rows >= int64(p.rows):
		p.rows = min(2*p.rows, p.most)
	}
}

// Lose makes way after a piece that took too long; false when it was a single row, so that no smaller one is possible.
func (p *PieceSize) Lose() bool {
	if p.rows == 1 {
		return false
	}
	p.rows = max(1, p.rows/4)
	return true
}
