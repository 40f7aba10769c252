// Package preview shows what a work would do before it is let loose: [Explain] tells what would run, with plans and with all that each write
// drags along; [Sample] runs a few sub-batches and rolls them back.
//
// Both use the texts and the settings of a run. Neither writes to our tables, and neither needs them.
package preview
