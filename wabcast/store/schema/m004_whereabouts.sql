-- The inode of the file this database is: a copy has another one.

create table whereabouts (
    one   integer primary key check (one = 1),
    inode integer not null
) strict;
