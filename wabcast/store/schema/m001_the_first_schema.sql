-- Rows are integers inside the file; `campaigns.id` is the name that leaves it. Times are UTC
-- text with milliseconds; slots are microseconds. Triggers keep a campaign's counters. An insert
-- counts nothing: `store/ledger` counts what it enqueues, once.

create table accounts (
    id             integer primary key,
    name           text not null unique,
    provider       text not null,
    settings       text not null default '{}' check (json_valid(settings)),
    secrets        text not null default '{}' check (json_valid(secrets)),
    rate           text,
    daily_cap      integer check (daily_cap > 0),
    ramp           text,
    first_used_at  text,
    next_slot_at   integer not null default 0,
    slot_holder    text,
    shared_until   integer not null default 0,
    cooling_until  integer not null default 0,
    cooling_reason text,
    halted_reason  text,
    created_at     text not null,
    updated_at     text not null
) strict;

create table contacts (
    id             integer primary key,
    phone          text not null unique,
    first_name     text,
    last_name      text,
    name           text,
    email          text,
    company        text,
    language       text,
    timezone       text,
    bsuid          text,
    attributes     text not null default '{}' check (json_valid(attributes)),
    opted_out_at   text,
    opt_out_reason text,
    blocked_at     text,
    created_at     text not null,
    updated_at     text not null
) strict;
create unique index contacts_bsuid on contacts (bsuid) where bsuid is not null;
create index contacts_opted_out on contacts (opted_out_at) where opted_out_at is not null;

create table contact_tags (
    contact_id integer not null references contacts (id) on delete cascade,
    tag        text not null,
    primary key (contact_id, tag)
) strict, without rowid;
create index contact_tags_tag on contact_tags (tag, contact_id);

create table suppressions (
    phone_hash text primary key,
    reason     text not null,
    at         text not null
) strict, without rowid;

create table segments (
    id         integer primary key,
    name       text not null unique,
    expression text not null,
    created_at text not null
) strict;

create table templates (
    id          integer primary key,
    name        text not null,
    account_id  integer references accounts (id) on delete cascade,
    language    text,
    description text,
    status      text not null default 'LOCAL',
    category    text,
    body        text not null check (json_valid(body)),
    created_at  text not null,
    updated_at  text not null
) strict;
create unique index templates_name
    on templates (name, coalesce(account_id, 0), coalesce(language, ''));

create table campaigns (
    number             integer primary key,
    id                 text not null unique,
    name               text not null unique,
    description        text,
    status             text not null default 'draft' check (status in
        ('draft', 'scheduled', 'running', 'paused', 'completed', 'failed', 'cancelled')),
    account_id         integer not null references accounts (id),
    content            text not null check (json_valid(content)),
    variables          text not null default '{}' check (json_valid(variables)),
    missing            text not null default 'refuse'
        check (missing in ('refuse', 'skip', 'blank')),
    audience           text not null check (json_valid(audience)),
    priority           text not null default 'normal'
        check (priority in ('high', 'normal', 'low')),
    rate               text not null default '20/m',
    batch_size         integer not null default 100 check (batch_size > 0),
    batch_delay        integer not null default 5000 check (batch_delay >= 0),
    concurrency        integer not null default 10 check (concurrency > 0),
    jitter             text not null default '0ms',
    windows            text,
    recipient_timezone integer not null default 0 check (recipient_timezone in (0, 1)),
    timezone           text,
    not_after          text,
    scheduled_at       text,
    resume_at          text,
    repeat             text,
    if_missed          text not null default 'auto' check (if_missed in ('auto', 'run', 'skip')),
    last_fired_at      text,
    run_id             text,
    last_slot_at       integer not null default 0,
    holding            text,
    reason             text,
    total_recipients   integer not null default 0,
    pending            integer not null default 0,
    queued             integer not null default 0,
    in_doubt           integer not null default 0,
    skipped            integer not null default 0,
    messages_sent      integer not null default 0,
    messages_delivered integer not null default 0,
    messages_read      integer not null default 0,
    messages_replied   integer not null default 0,
    messages_failed    integer not null default 0,
    delivery_rate      real generated always as
        (round(100.0 * messages_delivered / nullif(messages_sent, 0), 2)) virtual,
    read_rate          real generated always as
        (round(100.0 * messages_read / nullif(messages_delivered, 0), 2)) virtual,
    reply_rate         real generated always as
        (round(100.0 * messages_replied / nullif(messages_delivered, 0), 2)) virtual,
    failure_rate       real generated always as
        (round(100.0 * messages_failed / nullif(total_recipients, 0), 2)) virtual,
    created_at         text not null,
    updated_at         text not null,
    started_at         text,
    paused_at          text,
    completed_at       text
) strict;
create index campaigns_account on campaigns (account_id, status);
create index campaigns_due on campaigns (status, scheduled_at, resume_at);

create table campaign_messages (
    id                  integer primary key,
    campaign_id         integer not null references campaigns (number) on delete cascade,
    contact_id          integer references contacts (id) on delete set null,
    status              text not null default 'pending' check (status in
        ('pending', 'queued', 'sent', 'delivered', 'read', 'replied',
         'failed', 'in_doubt', 'skipped')),
    attempts            integer not null default 0 check (attempts >= 0),
    due_at              text not null,
    run_id              text,
    whatsapp_message_id text,
    variant             text,
    content             text,
    error_code          text,
    error_message       text,
    queued_at           text,
    sent_at             text,
    delivered_at        text,
    read_at             text,
    failed_at           text,
    replied_at          text,
    pricing             text,
    unique (campaign_id, contact_id)
) strict;
create index campaign_messages_due on campaign_messages (campaign_id, due_at, id)
    where status = 'pending';
create index campaign_messages_queued on campaign_messages (campaign_id)
    where status = 'queued';
create index campaign_messages_in_doubt on campaign_messages (campaign_id)
    where status = 'in_doubt';
create index campaign_messages_failed on campaign_messages (campaign_id, error_code)
    where status = 'failed';
create index campaign_messages_skipped on campaign_messages (campaign_id, error_code)
    where status = 'skipped';
create index campaign_messages_wamid on campaign_messages (whatsapp_message_id)
    where whatsapp_message_id is not null;
create index campaign_messages_contact on campaign_messages (contact_id);

create trigger campaign_messages_count after update of
    status, sent_at, delivered_at, read_at, replied_at, failed_at on campaign_messages
begin
    update campaigns set
        pending  = pending  + (new.status = 'pending')  - (old.status = 'pending'),
        queued   = queued   + (new.status = 'queued')   - (old.status = 'queued'),
        in_doubt = in_doubt + (new.status = 'in_doubt') - (old.status = 'in_doubt'),
        skipped  = skipped  + (new.status = 'skipped')  - (old.status = 'skipped'),
        messages_sent      = messages_sent
            + (new.sent_at is not null) - (old.sent_at is not null),
        messages_delivered = messages_delivered
            + (new.delivered_at is not null) - (old.delivered_at is not null),
        messages_read      = messages_read
            + (new.read_at is not null) - (old.read_at is not null),
        messages_replied   = messages_replied
            + (new.replied_at is not null) - (old.replied_at is not null),
        messages_failed    = messages_failed
            + (new.failed_at is not null) - (old.failed_at is not null)
    where number = new.campaign_id;
end;

create table inbound_messages (
    id                  integer primary key,
    account_id          integer references accounts (id) on delete set null,
    contact_id          integer references contacts (id) on delete set null,
    campaign_message_id integer references campaign_messages (id) on delete set null,
    whatsapp_message_id text not null,
    kind                text not null,
    content             text,
    context_id          text,
    received_at         text not null,
    unique (account_id, whatsapp_message_id)
) strict;
create index inbound_messages_contact on inbound_messages (contact_id);
create index inbound_messages_message on inbound_messages (campaign_message_id)
    where campaign_message_id is not null;

create table webhook_inbox (
    id          integer primary key,
    account_id  integer references accounts (id) on delete cascade,
    received_at text not null,
    body        blob not null,
    digest      text not null,
    applied_at  text,
    error       text
) strict;
create index webhook_inbox_digest on webhook_inbox (account_id, digest);
create index webhook_inbox_waiting on webhook_inbox (id) where applied_at is null;

create table parked_receipts (
    id                  integer primary key,
    account_id          integer references accounts (id) on delete cascade,
    whatsapp_message_id text not null,
    receipt             text not null check (json_valid(receipt)),
    parked_at           text not null,
    unique (account_id, whatsapp_message_id, receipt)
) strict;

create table account_reach (
    account_id integer not null references accounts (id) on delete cascade,
    contact_id integer not null, -- who is removed has been reached all the same
    at         text not null,
    primary key (account_id, contact_id)
) strict, without rowid;
create index account_reach_at on account_reach (account_id, at);

create table media (
    account_id  integer not null references accounts (id) on delete cascade,
    digest      text not null,
    media_id    text not null,
    uploaded_at text not null,
    primary key (account_id, digest)
) strict, without rowid;

create table events (
    id          integer primary key autoincrement,
    at          text not null,
    event       text not null,
    campaign_id text,
    data        text not null default '{}' check (json_valid(data)),
    actor       text
) strict;
create index events_campaign on events (campaign_id, id) where campaign_id is not null;
