-- Of a token its hash alone; `key` is the part that may be shown. A campaign that came over HTTP
-- is not trusted: its content may neither loop nor name a file of this machine.

create table tokens (
    id           integer primary key,
    key          text not null unique,
    name         text not null,
    role         text check (role in ('viewer', 'operator', 'admin')),
    allow        text not null default '[]' check (json_valid(allow)),
    hash         text not null,
    created_at   text not null,
    created_by   text,
    expires_at   text,
    revoked_at   text,
    last_used_at text
) strict;

create table idempotency_keys (
    token_id integer not null references tokens (id) on delete cascade,
    key      text not null,
    request  text not null,
    at       text not null,
    status   integer,
    headers  text check (json_valid(headers)),
    body     blob,
    primary key (token_id, key)
) strict, without rowid;
create index idempotency_keys_at on idempotency_keys (at);

alter table campaigns add column trusted integer not null default 1 check (trusted in (0, 1));
