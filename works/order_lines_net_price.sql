-- description: Split the gross price of order lines into net price and tax.
-- table: shop.order_lines
-- cursor: tenant_id, id
-- remaining: net_price IS NULL

-- +bbm Work
-- The new write path fills both columns already, so a row is changed at most once. Each tenant's rate is read
-- through its primary key; the cursor follows the table's own primary key, (tenant_id, id).
UPDATE shop.order_lines AS l
   SET net_price = round(l.gross_price / (1 + t.tax_rate), 2),
       tax = l.gross_price - round(l.gross_price / (1 + t.tax_rate), 2)
  FROM shop.tenants AS t
 WHERE @batch(l)
   AND t.id = l.tenant_id
   AND l.net_price IS NULL;
