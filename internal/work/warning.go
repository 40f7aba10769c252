package work

// Warning is what a reviewer should know. Codes are stable; messages are not.
type Warning struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	table   string // that it is about, where the message holds estimates
}

// SameAs tells whether two warnings say the same, perhaps with other estimates.
func (w Warning) SameAs(other Warning) bool {
	return w.Code == other.Code && (w.Message == other.Message || w.table != "" && w.table == other.table)
}
