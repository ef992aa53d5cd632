-- First draft: counts an order once for each of its items, and ignores discounts.
SELECT c.name, COUNT(o.id) AS orders, SUM(i.quantity * i.unit_cents) AS revenue_cents
FROM customers c JOIN orders o ON o.customer_id = c.id JOIN items i ON i.order_id = o.id
WHERE o.status = 'paid' GROUP BY c.id;
