INSERT INTO customers VALUES (1, 'Amina'), (2, 'Bjarne'), (3, 'Chen'), (4, 'Dolores'), (5, 'Chen');
INSERT INTO orders VALUES
    (10, 1, 'paid', NULL), (11, 1, 'paid', 500), (12, 1, 'cancelled', NULL),
    (13, 2, 'open', NULL), (14, 3, 'paid', 0), (15, 5, 'paid', NULL);
INSERT INTO items VALUES
    (10, 'rope', 2, 1250), (10, 'anchor', 1, 8900), (11, 'buoy', 3, 1999), (12, 'sail', 1, 45000),
    (13, 'rope', 1, 1250), (14, 'compass', 1, 3300), (15, 'lantern', 2, 1650);
