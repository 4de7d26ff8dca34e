"""The service: what `syncer serve` leaves running. Only `syncer.cli.serve` imports it."""
