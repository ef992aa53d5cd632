CREATE TABLE customers (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL               -- not unique: two people may share a name
);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customers (id),
    status TEXT NOT NULL,            -- 'paid', 'open' or 'cancelled'
    discount_cents INTEGER           -- taken off the whole order once; NULL means none
);
CREATE TABLE items (
    order_id INTEGER NOT NULL REFERENCES orders (id),
    product TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    unit_cents INTEGER NOT NULL
);
