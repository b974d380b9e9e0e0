"""HTTP: the REST door, events as they happen, the page for people. Needs `wabcast[server]`."""
