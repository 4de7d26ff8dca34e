"""Who the program is at each registry: settings, credentials, logins of other tools, helper programs."""
