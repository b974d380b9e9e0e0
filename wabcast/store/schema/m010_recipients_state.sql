-- `revision` counts the changes of a campaign, whatever the clock says: what was checked before a
-- run takes the campaign is compared by it. `recipients_state` says whether the recipients are
-- whole; `recipients_run` names the process that puts them in or takes them out, piece by piece.

alter table campaigns add column revision integer not null default 0;
alter table campaigns add column recipients_state text not null default 'complete'
    check (recipients_state in ('complete', 'creating', 'refreshing', 'deleting'));
alter table campaigns add column recipients_run text;
