"""Every fact that a twin can take in, one module a subject, all frozen and closed to unknown fields."""
