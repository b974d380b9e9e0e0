-- Messages of a campaign by second, length and cause, kept by triggers: what `stats` adds up.
-- `store/tallies` says what each kind and value means.

drop trigger campaign_messages_count;
drop table campaign_stats;
alter table campaigns drop column revision;
alter table campaigns add column first_sent_at text;
alter table campaigns add column last_sent_at text;
alter table campaigns add column by_second_until text;
alter table campaigns add column by_minute_until text;

create table campaign_tallies (
    campaign_id integer not null references campaigns (number) on delete cascade,
    kind        text not null,
    value       any not null,
    messages    integer not null,
    primary key (campaign_id, kind, value)
) strict, without rowid;

update campaigns as c set first_sent_at = s.first, last_sent_at = s.last
  from (select campaign_id, min(sent_at) as first, max(sent_at) as last from campaign_messages
         group by campaign_id) as s
 where c.number = s.campaign_id;

update campaigns
   set by_second_until = strftime('%Y-%m-%dT%H:%M:%fZ', first_sent_at, '+4000 seconds'),
       by_minute_until = strftime('%Y-%m-%dT%H:%M:%fZ', first_sent_at, '+60 hours');

insert into campaign_tallies (campaign_id, kind, value, messages)
select campaign_id, 'sent', (
            select case when m.sent_at >= by_minute_until then substr(m.sent_at, 1, 13)
                        when m.sent_at >= by_second_until then substr(m.sent_at, 1, 16)
                        else substr(m.sent_at, 1, 19) end
              from campaigns where number = m.campaign_id), 1 from campaign_messages m where m.sent_at is not null
    on conflict do update set messages = messages + 1;

insert into campaign_tallies (campaign_id, kind, value, messages)
select campaign_id, 'delivered', (
            select case when m.delivered_at >= by_minute_until then substr(m.delivered_at, 1, 13)
                        when m.delivered_at >= by_second_until then substr(m.delivered_at, 1, 16)
                        else substr(m.delivered_at, 1, 19) end
              from campaigns where number = m.campaign_id), 1 from campaign_messages m where m.delivered_at is not null and m.sent_at is not null
    on conflict do update set messages = messages + 1;

insert into campaign_tallies (campaign_id, kind, value, messages)
select campaign_id, 'read', (
            select case when m.read_at >= by_minute_until then substr(m.read_at, 1, 13)
                        when m.read_at >= by_second_until then substr(m.read_at, 1, 16)
                        else substr(m.read_at, 1, 19) end
              from campaigns where number = m.campaign_id), 1 from campaign_messages m where m.read_at is not null and m.sent_at is not null
    on conflict do update set messages = messages + 1;

insert into campaign_tallies (campaign_id, kind, value, messages)
select campaign_id, 'delivered_after', (
            select case when x < 10 then round(x, 2) when x < 3600 then round(x)
                        when x < 86400 then round(x / 60) * 60
                        else round(x / 3600) * 3600 end
              from (select coalesce(max(0.0, unixepoch(m.delivered_at, 'subsec')
                                             - unixepoch(m.sent_at, 'subsec')), 0.0) as x)), 1 from campaign_messages m where m.delivered_at is not null and m.sent_at is not null
    on conflict do update set messages = messages + 1;

insert into campaign_tallies (campaign_id, kind, value, messages)
select campaign_id, 'read_after', (
            select case when x < 10 then round(x, 2) when x < 3600 then round(x)
                        when x < 86400 then round(x / 60) * 60
                        else round(x / 3600) * 3600 end
              from (select coalesce(max(0.0, unixepoch(m.read_at, 'subsec')
                                             - unixepoch(m.sent_at, 'subsec')), 0.0) as x)), 1 from campaign_messages m where m.read_at is not null and m.sent_at is not null
    on conflict do update set messages = messages + 1;

insert into campaign_tallies (campaign_id, kind, value, messages)
select campaign_id, 'pricing', m.pricing, 1 from campaign_messages m where m.pricing is not null
    on conflict do update set messages = messages + 1;

insert into campaign_tallies (campaign_id, kind, value, messages)
select campaign_id, m.status, json_array(coalesce(m.error_code, ''), coalesce(m.error_message, '')), 1 from campaign_messages m where m.status in ('failed', 'in_doubt', 'skipped')
    on conflict do update set messages = messages + 1;

create trigger campaign_messages_count after update of
    status, sent_at, delivered_at, read_at, replied_at, failed_at, error_code, error_message, pricing on campaign_messages
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
            + (new.failed_at is not null) - (old.failed_at is not null),
        first_sent_at = case
            when new.sent_at is old.sent_at then first_sent_at
            when old.sent_at = first_sent_at then null
            when new.sent_at is null then first_sent_at
            when messages_sent = 0 then new.sent_at
            when first_sent_at is null then
                (select min(sent_at) from campaign_messages where campaign_id = new.campaign_id)
            else min(first_sent_at, new.sent_at) end,
        last_sent_at = case
            when new.sent_at is old.sent_at then last_sent_at
            when old.sent_at = last_sent_at then null
            when new.sent_at is null then last_sent_at
            when messages_sent = 0 then new.sent_at
            when last_sent_at is null then
                (select max(sent_at) from campaign_messages where campaign_id = new.campaign_id)
            else max(last_sent_at, new.sent_at) end,
        by_second_until = coalesce(by_second_until,
            strftime('%Y-%m-%dT%H:%M:%fZ', new.sent_at, '+4000 seconds')),
        by_minute_until = coalesce(by_minute_until,
            strftime('%Y-%m-%dT%H:%M:%fZ', new.sent_at, '+60 hours'))
    where number = new.campaign_id;

    insert into campaign_tallies (campaign_id, kind, value, messages)
    select new.campaign_id, 'sent', (
            select case when new.sent_at >= by_minute_until then substr(new.sent_at, 1, 13)
                        when new.sent_at >= by_second_until then substr(new.sent_at, 1, 16)
                        else substr(new.sent_at, 1, 19) end
              from campaigns where number = new.campaign_id), 1 where new.sent_at is not null and (new.sent_at is not old.sent_at)
        on conflict do update set messages = messages + 1;
    insert into campaign_tallies (campaign_id, kind, value, messages)
    select new.campaign_id, 'delivered', (
            select case when new.delivered_at >= by_minute_until then substr(new.delivered_at, 1, 13)
                        when new.delivered_at >= by_second_until then substr(new.delivered_at, 1, 16)
                        else substr(new.delivered_at, 1, 19) end
              from campaigns where number = new.campaign_id), 1 where new.delivered_at is not null and new.sent_at is not null and (new.delivered_at is not old.delivered_at or new.sent_at is not old.sent_at)
        on conflict do update set messages = messages + 1;
    insert into campaign_tallies (campaign_id, kind, value, messages)
    select new.campaign_id, 'read', (
            select case when new.read_at >= by_minute_until then substr(new.read_at, 1, 13)
                        when new.read_at >= by_second_until then substr(new.read_at, 1, 16)
                        else substr(new.read_at, 1, 19) end
              from campaigns where number = new.campaign_id), 1 where new.read_at is not null and new.sent_at is not null and (new.read_at is not old.read_at or new.sent_at is not old.sent_at)
        on conflict do update set messages = messages + 1;
    insert into campaign_tallies (campaign_id, kind, value, messages)
    select new.campaign_id, 'delivered_after', (
            select case when x < 10 then round(x, 2) when x < 3600 then round(x)
                        when x < 86400 then round(x / 60) * 60
                        else round(x / 3600) * 3600 end
              from (select coalesce(max(0.0, unixepoch(new.delivered_at, 'subsec')
                                             - unixepoch(new.sent_at, 'subsec')), 0.0) as x)), 1 where new.delivered_at is not null and new.sent_at is not null and (new.delivered_at is not old.delivered_at or new.sent_at is not old.sent_at)
        on conflict do update set messages = messages + 1;
    insert into campaign_tallies (campaign_id, kind, value, messages)
    select new.campaign_id, 'read_after', (
            select case when x < 10 then round(x, 2) when x < 3600 then round(x)
                        when x < 86400 then round(x / 60) * 60
                        else round(x / 3600) * 3600 end
              from (select coalesce(max(0.0, unixepoch(new.read_at, 'subsec')
                                             - unixepoch(new.sent_at, 'subsec')), 0.0) as x)), 1 where new.read_at is not null and new.sent_at is not null and (new.read_at is not old.read_at or new.sent_at is not old.sent_at)
        on conflict do update set messages = messages + 1;
    insert into campaign_tallies (campaign_id, kind, value, messages)
    select new.campaign_id, 'pricing', new.pricing, 1 where new.pricing is not null and (new.pricing is not old.pricing)
        on conflict do update set messages = messages + 1;
    insert into campaign_tallies (campaign_id, kind, value, messages)
    select new.campaign_id, new.status, json_array(coalesce(new.error_code, ''), coalesce(new.error_message, '')), 1 where new.status in ('failed', 'in_doubt', 'skipped') and (new.status is not old.status or new.error_code is not old.error_code or new.error_message is not old.error_message)
        on conflict do update set messages = messages + 1;
end;

create trigger campaign_messages_uncount after update of
    status, sent_at, delivered_at, read_at, replied_at, failed_at, error_code, error_message, pricing on campaign_messages
when old.sent_at is not null and (new.sent_at is not old.sent_at) or old.delivered_at is not null and old.sent_at is not null and (new.delivered_at is not old.delivered_at or new.sent_at is not old.sent_at) or old.read_at is not null and old.sent_at is not null and (new.read_at is not old.read_at or new.sent_at is not old.sent_at) or old.delivered_at is not null and old.sent_at is not null and (new.delivered_at is not old.delivered_at or new.sent_at is not old.sent_at) or old.read_at is not null and old.sent_at is not null and (new.read_at is not old.read_at or new.sent_at is not old.sent_at) or old.pricing is not null and (new.pricing is not old.pricing) or old.status in ('failed', 'in_doubt', 'skipped') and (new.status is not old.status or new.error_code is not old.error_code or new.error_message is not old.error_message)
begin
    update campaign_tallies set messages = messages - 1
     where old.sent_at is not null and (new.sent_at is not old.sent_at)
       and campaign_id = old.campaign_id and kind = 'sent' and value = (
            select case when old.sent_at >= by_minute_until then substr(old.sent_at, 1, 13)
                        when old.sent_at >= by_second_until then substr(old.sent_at, 1, 16)
                        else substr(old.sent_at, 1, 19) end
              from campaigns where number = old.campaign_id);
    delete from campaign_tallies
     where old.sent_at is not null and (new.sent_at is not old.sent_at) and messages = 0
       and campaign_id = old.campaign_id and kind = 'sent' and value = (
            select case when old.sent_at >= by_minute_until then substr(old.sent_at, 1, 13)
                        when old.sent_at >= by_second_until then substr(old.sent_at, 1, 16)
                        else substr(old.sent_at, 1, 19) end
              from campaigns where number = old.campaign_id);
    update campaign_tallies set messages = messages - 1
     where old.delivered_at is not null and old.sent_at is not null and (new.delivered_at is not old.delivered_at or new.sent_at is not old.sent_at)
       and campaign_id = old.campaign_id and kind = 'delivered' and value = (
            select case when old.delivered_at >= by_minute_until then substr(old.delivered_at, 1, 13)
                        when old.delivered_at >= by_second_until then substr(old.delivered_at, 1, 16)
                        else substr(old.delivered_at, 1, 19) end
              from campaigns where number = old.campaign_id);
    delete from campaign_tallies
     where old.delivered_at is not null and old.sent_at is not null and (new.delivered_at is not old.delivered_at or new.sent_at is not old.sent_at) and messages = 0
       and campaign_id = old.campaign_id and kind = 'delivered' and value = (
            select case when old.delivered_at >= by_minute_until then substr(old.delivered_at, 1, 13)
                        when old.delivered_at >= by_second_until then substr(old.delivered_at, 1, 16)
                        else substr(old.delivered_at, 1, 19) end
              from campaigns where number = old.campaign_id);
    update campaign_tallies set messages = messages - 1
     where old.read_at is not null and old.sent_at is not null and (new.read_at is not old.read_at or new.sent_at is not old.sent_at)
       and campaign_id = old.campaign_id and kind = 'read' and value = (
            select case when old.read_at >= by_minute_until then substr(old.read_at, 1, 13)
                        when old.read_at >= by_second_until then substr(old.read_at, 1, 16)
                        else substr(old.read_at, 1, 19) end
              from campaigns where number = old.campaign_id);
    delete from campaign_tallies
     where old.read_at is not null and old.sent_at is not null and (new.read_at is not old.read_at or new.sent_at is not old.sent_at) and messages = 0
       and campaign_id = old.campaign_id and kind = 'read' and value = (
            select case when old.read_at >= by_minute_until then substr(old.read_at, 1, 13)
                        when old.read_at >= by_second_until then substr(old.read_at, 1, 16)
                        else substr(old.read_at, 1, 19) end
              from campaigns where number = old.campaign_id);
    update campaign_tallies set messages = messages - 1
     where old.delivered_at is not null and old.sent_at is not null and (new.delivered_at is not old.delivered_at or new.sent_at is not old.sent_at)
       and campaign_id = old.campaign_id and kind = 'delivered_after' and value = (
            select case when x < 10 then round(x, 2) when x < 3600 then round(x)
                        when x < 86400 then round(x / 60) * 60
                        else round(x / 3600) * 3600 end
              from (select coalesce(max(0.0, unixepoch(old.delivered_at, 'subsec')
                                             - unixepoch(old.sent_at, 'subsec')), 0.0) as x));
    delete from campaign_tallies
     where old.delivered_at is not null and old.sent_at is not null and (new.delivered_at is not old.delivered_at or new.sent_at is not old.sent_at) and messages = 0
       and campaign_id = old.campaign_id and kind = 'delivered_after' and value = (
            select case when x < 10 then round(x, 2) when x < 3600 then round(x)
                        when x < 86400 then round(x / 60) * 60
                        else round(x / 3600) * 3600 end
              from (select coalesce(max(0.0, unixepoch(old.delivered_at, 'subsec')
                                             - unixepoch(old.sent_at, 'subsec')), 0.0) as x));
    update campaign_tallies set messages = messages - 1
     where old.read_at is not null and old.sent_at is not null and (new.read_at is not old.read_at or new.sent_at is not old.sent_at)
       and campaign_id = old.campaign_id and kind = 'read_after' and value = (
            select case when x < 10 then round(x, 2) when x < 3600 then round(x)
                        when x < 86400 then round(x / 60) * 60
                        else round(x / 3600) * 3600 end
              from (select coalesce(max(0.0, unixepoch(old.read_at, 'subsec')
                                             - unixepoch(old.sent_at, 'subsec')), 0.0) as x));
    delete from campaign_tallies
     where old.read_at is not null and old.sent_at is not null and (new.read_at is not old.read_at or new.sent_at is not old.sent_at) and messages = 0
       and campaign_id = old.campaign_id and kind = 'read_after' and value = (
            select case when x < 10 then round(x, 2) when x < 3600 then round(x)
                        when x < 86400 then round(x / 60) * 60
                        else round(x / 3600) * 3600 end
              from (select coalesce(max(0.0, unixepoch(old.read_at, 'subsec')
                                             - unixepoch(old.sent_at, 'subsec')), 0.0) as x));
    update campaign_tallies set messages = messages - 1
     where old.pricing is not null and (new.pricing is not old.pricing)
       and campaign_id = old.campaign_id and kind = 'pricing' and value = old.pricing;
    delete from campaign_tallies
     where old.pricing is not null and (new.pricing is not old.pricing) and messages = 0
       and campaign_id = old.campaign_id and kind = 'pricing' and value = old.pricing;
    update campaign_tallies set messages = messages - 1
     where old.status in ('failed', 'in_doubt', 'skipped') and (new.status is not old.status or new.error_code is not old.error_code or new.error_message is not old.error_message)
       and campaign_id = old.campaign_id and kind = old.status and value = json_array(coalesce(old.error_code, ''), coalesce(old.error_message, ''));
    delete from campaign_tallies
     where old.status in ('failed', 'in_doubt', 'skipped') and (new.status is not old.status or new.error_code is not old.error_code or new.error_message is not old.error_message) and messages = 0
       and campaign_id = old.campaign_id and kind = old.status and value = json_array(coalesce(old.error_code, ''), coalesce(old.error_message, ''));
end;
