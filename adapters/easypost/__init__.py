"""EasyPost's tracker webhooks, read into canonical events."""
