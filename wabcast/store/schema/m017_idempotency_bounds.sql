-- How many keys a token has, and which of them were refused: both are bounded.

create index idempotency_keys_token on idempotency_keys (token_id, at);
create index idempotency_keys_refused on idempotency_keys (token_id, at) where status >= 400;
