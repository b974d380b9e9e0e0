-- `revision` counts the changes of a campaign's rows (m008 replaces it).

alter table campaigns add column revision integer not null default 0;

create table campaign_stats (
    campaign_id integer primary key references campaigns (number) on delete cascade,
    revision    integer not null,
    told        text not null check (json_valid(told))
) strict;

create index campaign_messages_variant on campaign_messages (campaign_id, variant)
    where variant is not null;

drop trigger campaign_messages_count;

create trigger campaign_messages_count after update of
    status, sent_at, delivered_at, read_at, replied_at, failed_at, error_code, error_message,
    pricing, variant on campaign_messages
begin
    update campaigns set
        revision = revision + 1,
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
