-- `key` names a delivery outside: a row number comes again in another file.

create table hooks (
    id            integer primary key,
    key           text not null unique,
    url           text not null unique,
    secret        text,
    events        text not null default '[]' check (json_valid(events)),
    allow_private integer not null default 0 check (allow_private in (0, 1)),
    last_event_id integer not null default 0 check (last_event_id >= 0),
    failures      integer not null default 0 check (failures >= 0),
    last_error    text,
    delivered_at  text,
    created_at    text not null
) strict;
