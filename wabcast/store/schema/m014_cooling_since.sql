-- Since when an account cools down: a clock that is set back then is noticed. That no window
-- exceeds the rate where several processes share it is seen to by the release log.
alter table accounts add column cooling_since integer not null default 0;
alter table accounts drop column slot_holder;
alter table accounts drop column shared_until;
