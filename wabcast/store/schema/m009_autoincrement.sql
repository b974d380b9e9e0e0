-- A row's number is never used again: other tables, logs and people remember it after its row is
-- gone. AUTOINCREMENT changes nothing that is on disk but `sqlite_sequence`, so the text of the
-- schema is edited in place (https://sqlite.org/lang_altertable.html, "changes that do not affect
-- the on-disk content"): no row is copied, indexes and triggers stay, a person's own too.

pragma writable_schema = on;

update sqlite_schema
   set sql = replace(sql, 'integer primary key,', 'integer primary key autoincrement,')
 where type = 'table'
   and name in ('accounts', 'contacts', 'segments', 'templates', 'campaigns', 'campaign_messages',
                'inbound_messages', 'webhook_inbox', 'parked_receipts', 'hooks', 'tokens');

pragma writable_schema = reset;

-- Whoever has the file open reads the schema anew: these two change its number.
create table autoincrement_begins (one integer);
drop table autoincrement_begins;

-- The highest number that was ever used, as far as the file knows: the removed are remembered in
-- `account_reach` and in the events.
insert into sqlite_sequence (name, seq)
select name, seq
  from (select 'accounts' as name, max(id) as seq from accounts
        union all
        select 'contacts', max(id)
          from (select max(id) as id from contacts
                union all select max(contact_id) from account_reach)
        union all select 'segments', max(id) from segments
        union all select 'templates', max(id) from templates
        union all select 'campaigns', max(number) from campaigns
        union all
        select 'campaign_messages', max(id)
          from (select max(id) as id from campaign_messages
                union all
                select max(data ->> 'messageId') from events
                 where event glob 'message:*' and json_type(data, '$.messageId') = 'integer')
        union all select 'inbound_messages', max(id) from inbound_messages
        union all select 'webhook_inbox', max(id) from webhook_inbox
        union all select 'parked_receipts', max(id) from parked_receipts
        union all select 'hooks', max(id) from hooks
        union all select 'tokens', max(id) from tokens)
 where seq is not null;
