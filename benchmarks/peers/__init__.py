"""The same messages, sent as others send them: queues, a loop and a shell, against one server."""
