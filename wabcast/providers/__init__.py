"""The HTTP outside: WhatsApp and its gateways. Knows neither SQLite nor the terminal."""
