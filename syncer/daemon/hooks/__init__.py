"""Events that registries send: `payloads` reads them, `matching` finds the rules, `arrivals` keeps what waits."""
