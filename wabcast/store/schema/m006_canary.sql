-- What was asked for, when its hold began, and whether it was judged.

alter table campaigns add column canary text;
alter table campaigns add column canary_since text;
alter table campaigns add column canary_judged integer not null default 0
    check (canary_judged in (0, 1));
