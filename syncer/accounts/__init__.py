"""Accounts and settings for each registry: the auth file, the logins of other tools, and credential helpers."""
