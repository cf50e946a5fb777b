-- Tables, indexes, joins, aggregates and text, all in memory.
PRAGMA journal_mode = OFF;
CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT, town INTEGER, born INTEGER);
CREATE TABLE purchase (id INTEGER PRIMARY KEY, person INTEGER, cents INTEGER, note TEXT);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
  INSERT INTO person SELECT i, printf('name-%05d', i * 7919 % 20011), i * 31 % 211, 1930 + i * 17 % 80 FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
  INSERT INTO purchase SELECT i, 1 + i * 6007 % 20000, i * 271 % 10007, hex(i * 2654435761 % 4294967296) FROM n;
COMMIT;
CREATE INDEX purchase_person ON purchase (person, cents);
CREATE INDEX person_name ON person (name);
SELECT count(*), sum(cents), max(note) FROM purchase JOIN person ON person.id = purchase.person WHERE town < 100;
SELECT town, count(*) AS many, sum(cents) FROM purchase JOIN person ON person.id = purchase.person
  GROUP BY town ORDER BY many DESC, town LIMIT 20;
SELECT name, born FROM person WHERE name LIKE '%99%' AND born % 7 = 3 ORDER BY name DESC LIMIT 30;
UPDATE purchase SET cents = cents + length(note) WHERE id % 3 = 0;
DELETE FROM purchase WHERE note LIKE '%AB%';
SELECT count(*), sum(cents), sum(length(note)) FROM purchase;
