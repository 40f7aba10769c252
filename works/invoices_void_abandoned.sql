-- description: Void the invoices that were left as drafts.
-- table: billing.invoices
-- cursor: id
-- scope: status = 'draft'
-- argument: before timestamptz

-- +bbm Work
-- A few thousand of 200 million invoices are drafts. This index lets the run walk over those alone; drop it afterwards:
-- CREATE INDEX CONCURRENTLY invoices_draft_idx ON billing.invoices (id) WHERE status = 'draft';
-- A sub-batch spans all invoices between its first draft and its last, so the statement says again which it means.
UPDATE billing.invoices AS i
   SET status = 'void'
 WHERE @batch(i)
   AND i.status = 'draft'
   AND i.updated_at < @before;
