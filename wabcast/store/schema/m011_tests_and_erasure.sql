-- A body that waits and names somebody who was erased is forgotten as soon as it is applied. An
-- answer that named them is gone; that it was given stays known.

alter table webhook_inbox add column erased integer not null default 0 check (erased in (0, 1));
alter table idempotency_keys add column erased_at text;

-- A test message is the one recipient of a campaign of its own: `test_of` is the campaign that is
-- tested. Who is known by a test only is not `listed`: no audience means them.

alter table campaigns add column test_of text references campaigns (id) on delete cascade;
create index campaigns_test_of on campaigns (test_of) where test_of is not null;
alter table contacts add column listed integer not null default 1 check (listed in (0, 1));
