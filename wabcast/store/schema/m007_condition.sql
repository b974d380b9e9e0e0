-- `tier` is people in 24 hours, null: no limit is known; `own_rate` as `80/s`, null: the provider's
-- usual one; `red_since` when the number was first seen RED; `number` the phone that WhatsApp's
-- news of the number names.

alter table accounts add column quality text check (quality in ('GREEN', 'YELLOW', 'RED'));
alter table accounts add column red_since text;
alter table accounts add column tier integer check (tier > 0);
alter table accounts add column own_rate text;
alter table accounts add column number text;
