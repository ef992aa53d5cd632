#!/bin/bash
set -eu

cat > /app/report.sql <<'SQL'
WITH paid AS (
    SELECT
        customer_id,
        COALESCE((SELECT SUM(quantity * unit_cents) FROM items WHERE order_id = orders.id), 0)
        - COALESCE(discount_cents, 0) AS cents
    FROM orders
    WHERE status = 'paid'
)
SELECT
    customers.id AS id,
    customers.name AS name,
    COUNT(paid.customer_id) AS orders,
    COALESCE(SUM(paid.cents), 0) AS revenue_cents
FROM customers
LEFT JOIN paid ON paid.customer_id = customers.id
GROUP BY customers.id
ORDER BY revenue_cents DESC, customers.id
SQL

python3 - <<'PYTHON'
import pathlib, sqlite3
for row in sqlite3.connect("/app/shop.db").execute(pathlib.Path("/app/report.sql").read_text()):
    print(row)
PYTHON
