"""Shopify's webhooks, read into canonical events."""
