package preview

import (
	"context"
	"slices"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

// Trial is one sub-batch of the recommended size at each place: what a row costs there is measured,
// not drawn out from another size.
type Trial struct {
	SubBatchSize int        `json:"sub_batch_size"`
	SubBatches   []SubBatch `json:"samples"`
	IsDearer     bool       `json:"is_dearer"` // a row costs clearly more in the larger of this size and the sampled one
	notes        []Warning
}

// tryRecommended runs the recommended size where it is another than the sampled one.
func (sr *sampler) tryRecommended(ctx context.Context, s *Sampling) error {
	sampled := counted(s.SubBatches)
	all, slowest := total(sampled)
	size, _ := recommendedSize(slowest, s.SubBatchSize, s.BatchSize)
	if all.rows == 0 || size == s.SubBatchSize {
		return nil
	}
	var begin []place
	err := sr.watch.during(ctx, func() error {
		return onStage(ctx, sr.conn, sr.Subject, func(st *stage) (err error) {
			begin, err = st.places(ctx, sr.until, sr.Shares, size)
			return err
		})
	})
	if err != nil {
		return err
	}
	t := &Trial{SubBatchSize: size, SubBatches: []SubBatch{}}
	s.Tried = t
	for i, p := range begin {
		if slices.ContainsFunc(begin[:i], func(other place) bool { return slices.Equal(other.after, p.after) }) {
			continue // so few rows are there
		}
		err := sr.at(ctx, p, size, 1, &t.SubBatches, s)
		if size > s.SubBatchSize && err != nil && sr.isTooLong(err) {
			t.IsDearer = true
			t.notes = []Warning{warning("dearer", "a sub-batch of %d rows takes longer than the statement timeout of %s, which one of %d does not: the smaller size is recommended",
				size, sr.StatementTimeout, s.SubBatchSize)}
			return nil
		}
		if err != nil {
			return err
		}
	}
	t.judge(s.SubBatchSize, sampled)
	return nil
}

// judge compares what a row costs, each place with itself. Half of the places have to show it, so
// that one cold page or checkpoint does not count.
func (t *Trial) judge(sampledSize int, sampled map[float64]*sums) {
	var ratios []float64
	for at, tried := range counted(t.SubBatches) {
		if sampled[at] == nil {
			continue
		}
		ratio := tried.perRow() / sampled[at].perRow()
		if t.SubBatchSize < sampledSize {
			ratio = 1 / ratio
		}
		ratios = append(ratios, ratio)
	}
	if len(ratios) == 0 {
		return
	}
	slices.Sort(ratios)
	ratio := ratios[(len(ratios)-1)/2]
	if t.IsDearer = ratio > work.ClearlyDearer; t.IsDearer {
		t.notes = []Warning{warning("dearer", "a row costs %.1f times as much in sub-batches of %d rows as in those of %d, as where PostgreSQL plans another way: "+
			"the smaller size is recommended", ratio, max(t.SubBatchSize, sampledSize), min(t.SubBatchSize, sampledSize))}
	}
}

// settle is the size to recommend after the trial, and what a run of it costs: sampled is what the
// sampled size has.
func (t *Trial) settle(sampledSize, batchSize int, sampled sums) (size int, all sums) {
	if t.IsDearer && t.SubBatchSize > sampledSize {
		return sampledSize, sampled
	}
	all, slowest := total(counted(t.SubBatches))
	if all.rows == 0 {
		return t.SubBatchSize, sampled
	}
	size = t.SubBatchSize
	if size > sampledSize {
		fitting, _ := recommendedSize(slowest, size, batchSize)
		size = min(size, max(fitting, sampledSize))
	}
	return size, all
}
