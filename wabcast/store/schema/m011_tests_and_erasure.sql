-- A body that waits and names somebody who was erased is forgotten as soon as it is applied. An
-- answer that named them is gone; that it was given stays known.

alter table webhook_inbox add column erased integer not null default 0 check (erased in (0, 1));
alter table idempotency_keys add column erased_at text;
